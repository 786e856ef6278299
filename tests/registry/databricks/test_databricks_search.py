"""Searching in SQL finds what the language means: the same runs in the local backend, and here."""

from __future__ import annotations

import datetime as dt
import math

import pytest

from ops.registry import MLOpsConfig, MLOpsContext

pytestmark = pytest.mark.service

#: name, metrics, parameters, tags
RUNS = [
    ("low", {"auc": [0.1, 0.7]}, {"depth": 3, "kind": "tree"}, {"team": "ds"}),
    ("high", {"auc": [0.99, 0.95], "loss": [0.5]}, {"depth": "10", "flag": True}, {"team": "d%s"}),
    ("nan", {"auc": [math.nan], "loss": [1.0, math.nan, -1.0]}, {"depth": None}, {}),
    (
        "inf",
        {"auc": [math.inf], "loss": [-math.inf]},
        {"depth": [1, "a"], "rate": 1e-3},
        {"n": "7"},
    ),
    ("back\\slash", {}, {"depth": "0x10", "rate": "0.001"}, {"team": "DS", "n": "seven"}),
    ("ünï_code", {"auc": [0.7]}, {"depth": -3.0, "kind": "tr_e"}, {"team": "d\ns"}),
]
FILTERS = [
    "metrics.auc > 0.6",
    "metrics.auc != 0.7",
    "not metrics.auc > 0.6",
    "metrics.auc <= 0.7 or metrics.loss is not null",
    "metrics.auc is null",
    "metrics.auc in (0.7, 0.95)",
    "metrics.auc not in (0.7, 0.95)",
    "metrics.auc = 1e999",
    "metrics_min.loss < 0",
    "metrics_max.loss >= 1",
    "metrics_min.auc < 0.5 and metrics_max.auc > 0.5",
    "params.depth = 3",
    "params.depth != 3",
    "params.depth < 5",
    "params.depth >= '10'",
    "params.depth = 'null'",
    "params.depth > 'a'",
    "params.flag = 'true'",
    "params.rate = 0.001",
    "params.rate in (0.001, 'x')",
    "params.kind like 'tr_e'",
    "params.kind not like '%ee'",
    "tags.team = 'ds'",
    "tags.team like 'd%s'",
    "tags.team != 'ds' and not tags.n is null",
    "tags.n > 5",
    "tags.n != 7",
    "name like '%\\%'",
    "name like '___'",
    "name > 'i'",
    "name in ('low', 'nan')",
    "status = 'COMPLETED' and start_time > '2020-01-01' and end_time is not null",
    "start_time < '2020-01-01'",
    "parent_run_id is null",
    "not (name = 'low' or (name = 'high' and metrics.auc > 0))",
]
ORDERS = [
    "metrics.auc",
    "metrics.auc DESC",
    "metrics_min.loss",
    "params.depth",
    "params.depth DESC",
    "tags.team DESC",
    "tags.n",
    "name",
    "name DESC",
    "start_time DESC",
    "end_time",
]


def fill(tracker):
    experiment = tracker.create_experiment("study").experiment_id
    for name, metrics, parameters, tags in RUNS:
        with tracker.run_context(experiment, name, tags=tags) as run:
            points = [(k, v, step) for k, vs in metrics.items() for step, v in enumerate(vs)]
            tracker.log_batch(run.run_id, points, parameters)
    return experiment


@pytest.fixture
def both(tracker, tmp_path, operations):
    """The tracker and experiment of each backend, with the same runs."""
    with MLOpsContext(
        MLOpsConfig("local", str(tmp_path / "local")), operations=operations
    ) as local:
        pair = (local.experiment_tracker, tracker)
        yield [(one, fill(one)) for one in pair]


def test_filters_and_orders_mean_the_same_in_sql(both):
    def ask(**asked):
        return [[r.name for r in t.search_runs(e, **asked)] for t, e in both]

    answers = {text: ask(filter=text) for text in FILTERS}
    answers |= {f"by {order}": ask(order_by=order) for order in ORDERS}
    answers |= {f"2 by {order}": ask(order_by=order, limit=2) for order in ORDERS[:3]}
    different = {text: pair for text, pair in answers.items() if pair[0] != pair[1]}
    assert different == {}
    found = [tuple(names) for names, _ in answers.values()]
    assert len(set(found)) > 20  # they do tell the runs apart


def test_runs_read_back_the_same(both):
    def told(tracker, experiment):
        return [
            (
                run.name,
                run.status,
                repr(dict(run.metric_summaries)),
                repr(sorted(run.parameters.items())),
                dict(run.tags),
            )
            for run in tracker.list_runs(experiment)
        ]

    local, remote = (told(*one) for one in both)
    assert local == remote


def test_a_run_is_followed_from_another_machine(tracker, experiment, new_context):
    run = tracker.start_run(experiment.experiment_id)
    tracker.log_metric(run.run_id, "loss", 3.0)
    tracker.flush()
    rounds = iter(
        [
            lambda: (tracker.log_metric(run.run_id, "loss", 2.0, step=1), tracker.flush()),
            lambda: tracker.end_run(run.run_id),
        ]
    )
    other = new_context().experiment_tracker
    followed = other.follow(run.run_id, sleep=lambda _: next(rounds)())
    assert [(m.step, m.value) for m in followed] == [(0, 3.0), (1, 2.0)]


def test_a_follower_is_told_of_each_point_once(tracker, experiment, new_context):
    run = tracker.start_run(experiment.experiment_id)
    follower = tracker.follower(run.run_id)
    ranks = [new_context().experiment_tracker for _ in range(2)]
    told = []
    for step in range(3):
        for rank, one in enumerate(ranks):
            # The second one's points are older than what was told already.
            for value in (1.0, 1.0):
                one.log_metric(
                    run.run_id,
                    f"m{rank}",
                    value,
                    step,
                    dt.datetime(2025 - rank, 1, 1, tzinfo=dt.UTC),
                )
            one.flush()
            points, over = follower.poll()
            told += [(m.key, m.step) for m in points]
            assert not over
    assert told == [(f"m{rank}", step) for step in range(3) for rank in (0, 1) for _ in range(2)]
    assert follower.poll() == ([], False)
    tracker.end_run(run.run_id)
    assert follower.poll() == ([], True)


def test_a_folder_that_replaces_another_leaves_nothing_of_it(storage, tmp_path):
    old, new = tmp_path / "old", tmp_path / "new"
    for folder, names in ((old, "ab"), (new, "bc")):
        folder.mkdir()
        for name in names:
            (folder / name).write_text(folder.name)
    storage.write_artifact(old, "kept")
    storage.write_artifact(new, "kept")
    assert storage.list_paths() == ["kept/b", "kept/c"]
    assert (storage.read_artifact("kept", tmp_path / "out") / "b").read_text() == "new"


def test_batches_larger_than_a_statement_all_arrive(tracker, experiment, monkeypatch):
    monkeypatch.setattr("ops.registry.databricks.spool.BATCH", 7)
    with tracker.run_context(experiment.experiment_id) as run:
        for step in range(50):
            tracker.log_metrics(run.run_id, {"a": step, "b": -step}, step=step)
    assert [m.value for m in tracker.get_metric_history(run.run_id, "b")] == [-s for s in range(50)]


def test_two_who_append_to_a_table_both_get_in(new_context):
    import threading

    import pandas as pd

    storages = [new_context().storage for _ in range(3)]
    storages[0].write_dataframe(pd.DataFrame({"id": [0]}), "t.parquet")
    threads = [
        threading.Thread(
            target=s.write_dataframe, args=(pd.DataFrame({"id": [n]}), "t.parquet", "append")
        )
        for n, s in enumerate(storages, 1)
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert sorted(storages[0].read_dataframe("t.parquet")["id"]) == [0, 1, 2, 3]
    assert storages[0].list_paths() == ["t.parquet"]


@pytest.mark.parametrize("is_there", [True, False])
def test_rows_get_in_once_though_another_goes_on_from_them_at_once(
    new_context, monkeypatch, is_there
):
    import pandas as pd

    ours, theirs = new_context().storage, new_context().storage
    if is_there:
        ours.write_dataframe(pd.DataFrame({"id": [0]}), "t.parquet")
    change = ours.warehouse.change

    def change_before_another(statement, **parameters):
        count = change(statement, **parameters)
        monkeypatch.setattr(ours.warehouse, "change", change)
        theirs.write_dataframe(pd.DataFrame({"id": [2]}), "t.parquet", mode="append")
        return count

    monkeypatch.setattr(ours.warehouse, "change", change_before_another)
    ours.write_dataframe(pd.DataFrame({"id": [1]}), "t.parquet", mode="append")
    expected = [0, 1, 2] if is_there else [1, 2]
    assert sorted(ours.read_dataframe("t.parquet")["id"]) == expected
