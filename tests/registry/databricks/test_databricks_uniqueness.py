"""Names are taken once even where the warehouse commits everything that Databricks' documentation allows."""

from __future__ import annotations

import threading

import pytest

from ops.registry import AlreadyExistsError
from ops.registry.databricks.unique_rows import LOCKED, NAMED, seed, taking
from ops.registry.databricks.volumes import Stored

pytestmark = pytest.mark.service

#: What the tables had before: a MERGE that inserts a missing name and touches no other row.
INSERT_IF_MISSING = (
    "MERGE INTO @ops_models t USING (SELECT :name AS name, :head AS head) s ON t.name = s.name "
    "WHEN NOT MATCHED THEN INSERT (name, head, version) VALUES (s.name, s.head, 1)"
)


@pytest.fixture
def begin_together(warehouse, schema):
    """Let the next changes of a table begin before any of them is committed."""

    def begin(table, writers=2):
        warehouse.control(race=[schema, table, writers])

    return begin


@pytest.fixture
def connections(new_context):
    """Two sessions on one schema that is there."""
    made = [new_context().experiment_tracker.warehouse for _ in range(2)]
    for connection in made:
        connection.rows("SELECT 1")
    return made


def at_once(*calls):
    """Run calls in threads; return what each returned or raised."""
    results = [None] * len(calls)

    def one(number, call):
        try:
            results[number] = call()
        except Exception as error:
            results[number] = error

    threads = [threading.Thread(target=one, args=pair) for pair in enumerate(calls)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    return results


def names(connection):
    rows = connection.rows(f"SELECT name FROM @ops_models WHERE {NAMED['ops_models']}")
    return sorted(row["name"] for row in rows)


# What the stand-in allows, as the documentation does


def test_two_merges_that_insert_one_name_are_both_committed(connections, begin_together, warehouse):
    begin_together("ops_models")
    at_once(
        *(
            lambda c=c, n=n: c.change(INSERT_IF_MISSING, name="m", head=n)
            for n, c in zip("ab", connections, strict=True)
        )
    )
    assert names(connections[0]) == ["m", "m"]
    assert warehouse.seen()["conflicted"] == []


def test_two_blind_inserts_are_both_committed(connections, begin_together, warehouse):
    begin_together("ops_models")
    at_once(
        *(lambda c=c: c.change("INSERT INTO @ops_models VALUES ('m', 'h', 1)") for c in connections)
    )
    assert names(connections[0]) == ["m", "m"]
    assert warehouse.seen()["conflicted"] == []


def test_of_two_updates_of_a_row_the_later_conflicts_and_is_repeated(
    connections, begin_together, warehouse
):
    connections[0].change("INSERT INTO @ops_models VALUES ('m', 'h', 1)")
    begin_together("ops_models")
    change = "UPDATE @ops_models SET version = version + 1 WHERE name = 'm'"
    at_once(*(lambda c=c: c.change(change) for c in connections))
    (row,) = connections[0].rows("SELECT version FROM @ops_models WHERE name = 'm'")
    assert row == {"version": 3}
    assert len(warehouse.seen()["conflicted"]) == 1


def test_updates_of_two_rows_are_both_committed(connections, begin_together, warehouse):
    connections[0].change("INSERT INTO @ops_models VALUES ('a', 'h', 1), ('b', 'h', 1)")
    begin_together("ops_models")
    change = "UPDATE @ops_models SET version = 7 WHERE name = :name"
    at_once(
        *(lambda c=c, n=n: c.change(change, name=n) for n, c in zip("ab", connections, strict=True))
    )
    rows = connections[0].rows("SELECT version FROM @ops_models WHERE name <> ''")
    assert [row["version"] for row in rows] == [7, 7]
    assert warehouse.seen()["conflicted"] == []


def test_an_update_and_an_insert_are_both_committed(connections, begin_together, warehouse):
    connections[0].change("INSERT INTO @ops_models VALUES ('a', 'h', 1)")
    begin_together("ops_models")
    at_once(
        lambda: connections[0].change("UPDATE @ops_models SET version = 7 WHERE name = 'a'"),
        lambda: connections[1].change("INSERT INTO @ops_models VALUES ('b', 'h', 7)"),
    )
    assert names(connections[0]) == ["a", "b"]
    assert warehouse.seen()["conflicted"] == []


# What is taken once nevertheless


def test_an_experiment_that_two_create_at_once_is_one(new_context, begin_together, warehouse):
    trackers = [new_context().experiment_tracker for _ in range(2)]
    assert [tracker.list_experiments() for tracker in trackers] == [[], []]
    begin_together("ops_experiments")
    got = at_once(*(lambda t=t: t.create_experiment("study") for t in trackers))
    assert sorted(isinstance(one, AlreadyExistsError) for one in got) == [False, True]
    assert [e.name for e in trackers[0].list_experiments()] == ["study"]
    assert len(warehouse.seen()["conflicted"]) == 1


def test_a_name_that_two_experiments_are_given_at_once_is_of_one(
    new_context, begin_together, warehouse
):
    trackers = [new_context().experiment_tracker for _ in range(2)]
    made = [trackers[0].create_experiment(name) for name in ("a", "b")]
    trackers[1].list_experiments()
    begin_together("ops_experiments")
    pairs = list(zip(trackers, made, strict=True))
    got = at_once(*(lambda t=t, e=e: t.rename_experiment(e.experiment_id, "c") for t, e in pairs))
    assert sorted(isinstance(one, AlreadyExistsError) for one in got) == [False, True]
    names = [one.name for one in trackers[0].list_experiments()]
    assert sorted(names) in [["a", "c"], ["b", "c"]]
    assert len(warehouse.seen()["conflicted"]) == 1


def test_an_experiment_that_is_renamed_to_a_name_that_is_made_at_once_is_refused_or_first(
    new_context, begin_together, warehouse
):
    trackers = [new_context().experiment_tracker for _ in range(2)]
    old = trackers[0].create_experiment("a").experiment_id
    trackers[1].list_experiments()
    begin_together("ops_experiments")
    got = at_once(
        lambda: trackers[0].rename_experiment(old, "b"), lambda: trackers[1].create_experiment("b")
    )
    assert sorted(isinstance(one, AlreadyExistsError) for one in got) == [False, True]
    assert [one.name for one in trackers[0].list_experiments()].count("b") == 1
    assert len(warehouse.seen()["conflicted"]) == 1


def test_first_versions_that_two_register_at_once_are_1_and_2(
    new_context, begin_together, warehouse, artifact
):
    registries = [new_context().model_registry for _ in range(2)]
    assert [registry.list_models() for registry in registries] == [[], []]
    begin_together("ops_models")
    got = at_once(
        *(lambda r=r: r.register_model("m", artifact, "binary", "mine").version for r in registries)
    )
    assert sorted(got) == [1, 2]
    for registry in registries:
        assert [v.version for v in registry.list_model_versions("m")] == [1, 2]
    assert len(warehouse.seen()["conflicted"]) == 1


def test_later_versions_that_two_register_at_once_are_dense(new_context, begin_together, artifact):
    registries = [new_context().model_registry for _ in range(2)]
    registries[0].register_model("m", artifact, "binary", "mine")
    registries[1].list_models()
    begin_together("ops_models")
    got = at_once(
        *(lambda r=r: r.register_model("m", artifact, "binary", "mine").version for r in registries)
    )
    assert sorted(got) == [2, 3]


def test_rows_that_two_append_to_a_new_table_are_all_there_once(new_context, begin_together):
    import pandas as pd

    storages = [new_context().storage for _ in range(2)]
    assert [storage.list_paths() for storage in storages] == [[], []]
    begin_together("ops_files")
    results = at_once(
        *(
            lambda s=s, n=n: s.write_dataframe(pd.DataFrame({"n": [n]}), "t", mode="append")
            for n, s in enumerate(storages)
        )
    )
    assert [one for one in results if isinstance(one, Exception)] == []
    assert sorted(storages[0].read_dataframe("t")["n"]) == [0, 1]
    assert storages[0].list_paths() == ["t"]


def test_who_saw_no_table_does_not_replace_one_that_came_meanwhile(new_context):
    import pandas as pd

    first, second = (new_context().storage for _ in range(2))
    first.write_dataframe(pd.DataFrame({"n": [0]}), "t", mode="append")
    assert not second._swapped("t", Stored("", "storage/x/t", 1, "0" * 64), [])
    assert list(first.read_dataframe("t")["n"]) == [0]


def test_a_file_that_two_write_first_is_one(new_context, begin_together):
    storages = [new_context().storage for _ in range(2)]
    assert [storage.list_paths() for storage in storages] == [[], []]
    begin_together("ops_files")
    at_once(*(lambda s=s, n=n: s.write_json(n, "a.json") for n, s in enumerate(storages)))
    assert storages[0].list_paths() == ["a.json"]
    assert storages[0].read_json("a.json") in {0, 1}


def test_a_name_that_was_taken_and_not_filled_is_no_file(storage):
    storage.list_paths()
    storage.warehouse.change(
        taking("ops_files", "SELECT :path AS path", ("path",), inserts="version = 0"), path="a.json"
    )
    assert storage.list_paths() == []
    assert not storage.exists("a.json")
    storage.write_json(1, "a.json")
    assert storage.read_json("a.json") == 1


# The lock rows themselves


def test_lock_rows_are_no_experiments_runs_models_or_files(context, tracker, registry, storage):
    assert (tracker.list_experiments(), registry.list_models(), storage.list_paths()) == (
        [],
        [],
        [],
    )
    for table, (key, _, _) in LOCKED.items():
        rows = tracker.warehouse.rows(f"SELECT {key} AS name FROM @{table}")
        assert rows == [{"name": ""}], table
    with pytest.raises(LookupError):
        tracker.get_experiment("")
    with pytest.raises(LookupError):
        tracker.get_run("")
    with pytest.raises(LookupError):
        registry.get_model_version("")


def test_a_second_lock_row_changes_nothing(new_context, begin_together):
    trackers = [new_context().experiment_tracker for _ in range(2)]
    trackers[0].warehouse.change(seed("ops_experiments"))
    trackers[1].list_experiments()
    begin_together("ops_experiments")
    got = at_once(*(lambda t=t: t.create_experiment("study") for t in trackers))
    assert sorted(isinstance(one, AlreadyExistsError) for one in got) == [False, True]
    assert [e.name for e in trackers[1].list_experiments()] == ["study"]


def test_the_key_is_the_first_column_that_a_name_is_taken_with():
    with pytest.raises(ValueError, match="the first column of ops_models is 'name'"):
        taking("ops_models", "SELECT 1", ("head", "name"))
