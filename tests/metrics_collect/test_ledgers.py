"""Every ledger shows this behaviour: in a file, and kept with the destination."""

import contextlib
import datetime as dt
import json
import sqlite3

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from ops.metrics_collect import (
    Interval,
    Ledger,
    LedgerStorage,
    StateError,
    StorageDirectory,
    StoragePostgres,
    run,
)

DAY = dt.datetime(2026, 10, 1, tzinfo=dt.UTC)
KINDS = [
    "file",
    "directory",
    pytest.param("s3", marks=pytest.mark.service),
    pytest.param("postgres", marks=pytest.mark.service),
]


@pytest.fixture(params=KINDS)
def ledger(request, tmp_path, s3_prefix):
    if request.param == "file":
        return Ledger(tmp_path / "ledger.sqlite")
    if request.param == "s3":
        return LedgerStorage(request.getfixturevalue("s3").storage(s3_prefix))
    if request.param == "postgres":
        dsn = request.getfixturevalue("postgres").database()
        return LedgerStorage(StoragePostgres(dsn))
    return LedgerStorage(StorageDirectory(tmp_path / "objects"), "state/ledger")


def span(start, end):
    return Interval(DAY + dt.timedelta(hours=start), DAY + dt.timedelta(hours=end))


def test_what_is_not_closed_is_a_gap(ledger):
    whole = span(0, 24)
    assert ledger.gaps("c", whole) == [whole]
    ledger.close("c", span(2, 4))
    ledger.close("c", span(3, 6))
    ledger.close("c", span(8, 9))
    ledger.close("other", whole)
    assert ledger.gaps("c", whole) == [span(0, 2), span(6, 8), span(9, 24)]
    assert ledger.gaps("c", span(3, 5)) == []
    assert ledger.closed("c") == [span(2, 4), span(3, 6), span(8, 9)]
    assert ledger.collectors() == ["c", "other"]


def test_closing_twice_is_one_closing_and_keys_add_up_over_revisions(ledger):
    assert ledger.next_revision("c", span(0, 1)) == 0
    for _ in range(2):
        ledger.close("c", span(0, 1), 0, ["1", '"a"'])
    assert ledger.next_revision("c", span(0, 1)) == 1
    ledger.close("c", span(0, 1), 1, ["2"])
    assert ledger.next_revision("c", span(0, 1)) == 2
    assert ledger.keys("c", span(0, 1)) == {"1", '"a"', "2"}
    assert ledger.keys("c", span(1, 2)) == set()


def test_a_failure_is_remembered_until_its_slice_is_closed(ledger):
    ledger.record_failure("c", span(0, 1), "first")
    ledger.record_failure("c", span(0, 1), "second")
    ledger.record_failure("c", span(1, 2), "third")
    assert ledger.failures() == [("c", span(0, 1), "second"), ("c", span(1, 2), "third")]
    ledger.close("c", span(0, 1))
    assert ledger.failures() == [("c", span(1, 2), "third")]


def test_the_first_closing_of_a_revision_counts(ledger):
    ledger.close("c", span(0, 1), 0, ["1"])
    ledger.close("c", span(0, 1), 0, ["2"])
    assert ledger.keys("c", span(0, 1)) == {"1"}


def test_a_failure_is_forgotten_when_other_slices_have_closed_all_of_it(ledger):
    ledger.record_failure("c", span(0, 12), "at noon")
    ledger.record_failure("d", span(0, 12), "another collector")
    ledger.close("c", span(2, 12))
    assert len(ledger.failures()) == 2
    ledger.close("c", span(0, 2))
    assert ledger.failures() == [("d", span(0, 12), "another collector")]


def test_the_failure_of_a_closed_slice_stays_when_its_neighbour_is_closed(ledger):
    ledger.close("c", span(0, 1))
    ledger.record_failure("c", span(0, 1), "not searched for late rows")
    ledger.close("c", span(1, 2))
    assert len(ledger.failures()) == 1
    ledger.close("c", span(0, 1))
    assert ledger.failures() == []


def test_the_origin_stays(ledger):
    assert ledger.origin == ledger.origin != ""


def test_keys_of_collectors_may_have_any_allowed_sign_and_moments_microseconds(ledger):
    odd = Interval(DAY, DAY + dt.timedelta(microseconds=1))
    ledger.close("a_b-c.d", odd)
    assert ledger.collectors() == ["a_b-c.d"]
    assert ledger.closed("a_b-c.d") == [odd]


def test_a_newer_format_is_refused(tmp_path):
    storage = StorageDirectory(tmp_path)
    storage.put("ledger/origin.json", dict={"format": 99, "origin": "x"})
    with pytest.raises(StateError, match="format 99"):
        _ = LedgerStorage(storage).origin
    assert json.loads((tmp_path / "ledger/origin.json").read_text())["format"] == 99


SPANS = st.lists(st.tuples(st.integers(0, 23), st.integers(1, 6)), max_size=8)


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture], max_examples=20)
@given(SPANS)
def test_gaps_and_closed_slices_cover_every_hour_exactly(tmp_path_factory, spans):
    ledger = Ledger(tmp_path_factory.mktemp("ledger") / "ledger.sqlite")
    covered = set()
    for start, length in spans:
        ledger.close("c", span(start, start + length))
        covered |= set(range(start, start + length))
    open_hours = {
        hour for gap in ledger.gaps("c", span(0, 24)) for hour in range(24) if _has(gap, hour)
    }
    assert open_hours == set(range(24)) - covered


def _has(gap, hour):
    return gap.since <= DAY + dt.timedelta(hours=hour) < gap.until


def test_the_keys_that_a_ledger_holds_are_bounded_by_what_is_kept(tmp_path):
    ledger = Ledger(tmp_path / "ledger.sqlite")
    sizes = []
    for day in range(60):
        since = DAY + dt.timedelta(days=day)
        keys = (f'"{100 * day + n}"' for n in range(100))
        ledger.close("runs", Interval(since, since + dt.timedelta(days=1)), 0, keys)
        ledger.close("other", Interval(since, since + dt.timedelta(days=1)), 0, ['"a"'])
        ledger.keep_keys("runs", dt.timedelta(days=14))
        sizes.append(ledger.path.stat().st_size)
    with contextlib.closing(sqlite3.connect(ledger.path)) as db:
        [held] = db.execute("select count(*) from keys where key like '\"%' and collector = 'runs'")
        [others] = db.execute("select count(*) from keys where key = '\"a\"'")
    assert held == (15 * 100,)
    assert others == (60,)  # of which nothing was forgotten
    assert sizes[-1] <= 1.25 * sizes[20]
    assert len(ledger.closed("runs")) == 60
    first = Interval(DAY, DAY + dt.timedelta(days=1))
    assert ledger.keys("runs", first) == {'{"column": null}'}


def test_a_run_forgets_keys_that_are_older_than_twice_its_lookback(chain):
    for day in range(30):
        chain.insert(day, 1, day=day)
    lookback = dt.timedelta(days=5)
    assert run(chain.factories, chain.storage, chain.ledger, **chain.arguments(30)).ok
    done = run(
        chain.factories, chain.storage, chain.ledger, **chain.arguments(30, lookback=lookback)
    )
    assert done.ok
    with contextlib.closing(sqlite3.connect(chain.ledger.path)) as db:
        [held] = db.execute("select count(*) from keys where key like '\"%'")
    assert held == (11,)
    chain.insert(100, 1, day=26)
    chain.insert(101, 1, day=5)
    done = run(
        chain.factories, chain.storage, chain.ledger, **chain.arguments(30, lookback=lookback)
    )
    assert len(done.shipped) == 1
