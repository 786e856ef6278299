"""The whole chain: table, collector, package, storage, extractor, rollup, report."""

import datetime as dt
import shutil
import sqlite3

import pytest
from tests.metrics_collect.conftest import SQL

from ops.metrics_collect import (
    DataframeActivity,
    Extractor,
    Ledger,
    Outbox,
    ReportActivity,
    query_collector,
    run,
)

openpyxl = pytest.importorskip("openpyxl")
pytest.importorskip("xlsxwriter")


def rollup_of(chain):
    rollup = DataframeActivity("runs", by=["name"], sums=["seconds"], time="finished")
    return rollup.add(Extractor(chain.shipped_files()))


def shipped_ids(chain):
    ids = []
    for payload in Extractor(chain.shipped_files(), collections={"runs"}).payloads():
        ids += payload.batch.column("id").to_pylist()
    return sorted(map(int, ids))


def test_rows_and_a_late_row_reach_the_workbook_once_each(chain, tmp_path):
    chain.insert(0, 50)
    chain.insert(50, 50, day=1)
    week = dt.timedelta(days=7)

    first = run(chain.factories, chain.storage, chain.ledger, **chain.arguments(days=2))
    chain.insert(100, 1)  # into the first day, which is closed
    second = run(
        chain.factories, chain.storage, chain.ledger, **chain.arguments(days=2, lookback=week)
    )
    third = run(
        chain.factories, chain.storage, chain.ledger, **chain.arguments(days=2, lookback=week)
    )

    assert first.ok
    assert second.shipped == [f"{chain.ledger.origin}-20261001T000000Z-20261002T000000Z-runs-r1"]
    assert third.shipped == []
    assert shipped_ids(chain) == list(range(101))

    path = tmp_path / "activity.xlsx"
    ReportActivity(rollup_of(chain), {"title": "Runs"}).save(path)
    book = openpyxl.load_workbook(path)
    assert book.sheetnames == ["Summary", "Activity"]
    counts = {r[0]: r[1] for r in book["Activity"].iter_rows(min_row=2, values_only=True)}
    assert counts == {"model 0": 34, "model 1": 34, "model 2": 33}
    assert len(book["Summary"]._charts) == 1


def test_a_slice_that_fails_stays_a_gap_and_is_filled_later(chain):
    chain.insert(0, 10)
    chain.insert(10, 10, day=1)
    chain.insert(20, 10, day=2)
    healthy = chain.factories[0]
    broken_day = chain.arguments()["since"] + dt.timedelta(days=1)

    class Flaky:
        key, version, primary_key, has_interval = "runs", "1.0", "id", True
        every = dt.timedelta(days=1)

        def __call__(self, *, since, until):
            work = healthy(since=since, until=until)
            if since == broken_day:
                work.kwargs["db"] = None
            return work

    result = run([Flaky()], chain.storage, chain.ledger, **chain.arguments(days=3))

    assert len(result.shipped) == 2
    window = dt.timedelta(days=1)
    [(key, gap, error)] = chain.ledger.failures()
    assert (key, gap.since, gap.until) == ("runs", broken_day, broken_day + window)
    assert "AttributeError" in error

    assert run(chain.factories, chain.storage, chain.ledger, **chain.arguments(days=3)).ok
    assert shipped_ids(chain) == list(range(30))
    assert chain.ledger.failures() == []


def test_a_search_for_late_rows_that_failed_is_forgotten_when_one_has_found_none(chain):
    week = dt.timedelta(days=7)
    chain.insert(0, 5)
    run(chain.factories, chain.storage, chain.ledger, **chain.arguments(lookback=week))
    away = [chain.collector.bind(db=None)]
    assert not run(away, chain.storage, chain.ledger, **chain.arguments(lookback=week)).ok
    assert len(chain.ledger.failures()) == 1
    assert run(chain.factories, chain.storage, chain.ledger, **chain.arguments(lookback=week)).ok
    assert chain.ledger.failures() == []
    assert shipped_ids(chain) == list(range(5))


@pytest.mark.parametrize("before", [None, "finished"])
def test_a_primary_key_that_was_another_before_ships_nothing_twice(chain, before):
    chain.insert(0, 5)
    first = [query_collector("runs", SQL, primary_key=before).bind(db=chain.db)]
    run(first, chain.storage, chain.ledger, **chain.arguments())
    chain.insert(5, 5, day=1)
    for _ in range(2):
        arguments = chain.arguments(days=2, lookback=dt.timedelta(days=7))
        assert run(chain.factories, chain.storage, chain.ledger, **arguments).ok
        chain.insert(10, 1, day=1)  # of a slice with keys of this kind: late, and found
    assert shipped_ids(chain) == list(range(11))


def test_slices_whose_keys_were_forgotten_are_not_shipped_again(chain):
    chain.insert(0, 5)
    run(chain.factories, chain.storage, chain.ledger, **chain.arguments())
    chain.ledger.forget_keys(chain.arguments()["until"] + dt.timedelta(days=1))
    week = dt.timedelta(days=7)
    assert run(chain.factories, chain.storage, chain.ledger, **chain.arguments(lookback=week)).ok
    assert shipped_ids(chain) == list(range(5))


def test_a_ledger_that_was_restored_learns_from_the_outbox_what_has_arrived(chain, tmp_path):
    backup = tmp_path / "backup"
    shutil.copy(chain.ledger.path, backup)
    chain.insert(0, 5)
    run(chain.factories, chain.storage, chain.ledger, **chain.arguments())
    shutil.copy(backup, chain.ledger.path)
    chain.insert(5, 5, day=1)
    for _ in range(2):
        arguments = chain.arguments(days=2, lookback=dt.timedelta(days=7))
        assert run(chain.factories, chain.storage, chain.ledger, **arguments).ok
    assert shipped_ids(chain) == list(range(10))
    assert len(chain.ledger.closed("runs")) == 2


def test_slices_that_were_closed_before_keys_had_a_mark_are_searched_as_ever(chain):
    chain.insert(0, 5)
    run(chain.factories, chain.storage, chain.ledger, **chain.arguments())
    with sqlite3.connect(chain.ledger.path) as db:
        db.execute("delete from keys where key like '{%'")
    db.close()
    chain.insert(5, 1)
    week = dt.timedelta(days=7)
    assert run(chain.factories, chain.storage, chain.ledger, **chain.arguments(lookback=week)).ok
    assert shipped_ids(chain) == list(range(6))


def test_a_storage_that_fails_keeps_the_parcel_for_the_next_run(chain, monkeypatch):
    chain.insert(0, 10)
    put = chain.storage.put
    monkeypatch.setattr(
        chain.storage, "put", lambda *a, **k: (_ for _ in ()).throw(OSError("down"))
    )
    assert not run(chain.factories, chain.storage, chain.ledger, **chain.arguments()).ok
    assert chain.outbox.counts()["sending"] == 1

    monkeypatch.setattr(chain.storage, "put", put)
    assert run(chain.factories, chain.storage, chain.ledger, **chain.arguments()).ok
    assert shipped_ids(chain) == list(range(10))
    assert chain.outbox.counts() == {"new": 0, "sending": 0, "done": 1, "failed": 0}


def test_other_content_under_our_name_is_a_conflict_and_is_not_overwritten(chain):
    chain.insert(0, 1)
    name = f"{chain.ledger.origin}-20261001T000000Z-20261002T000000Z-runs-000000.tar.gz"
    chain.storage.put(name, dict={"not": "ours"})

    result = run(chain.factories, chain.storage, chain.ledger, **chain.arguments())

    assert "ShipConflict" in next(iter(result.failed.values()))
    assert chain.outbox.counts()["failed"] == 1
    with chain.storage.get(name) as path, open(path) as file:
        assert "ours" in file.read()


def test_installations_that_share_a_storage_never_meet_under_one_name(chain, tmp_path):
    chain.insert(0, 5)
    other = Ledger(tmp_path / "other.sqlite")
    assert other.origin != chain.ledger.origin
    assert Ledger(tmp_path / "other.sqlite").origin == other.origin
    run(chain.factories, chain.storage, chain.ledger, **chain.arguments(days=1))
    arguments = chain.arguments(days=1) | {"outbox": Outbox(tmp_path / "other-outbox")}
    result = run(chain.factories, chain.storage, other, **arguments)
    assert result.ok
    assert len(chain.storage.glob("*.tar.gz")) == 2
