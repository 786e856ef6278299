"""A row is itself everywhere: its origin, its key, its version and its time travel with it."""

from __future__ import annotations

import contextlib
import datetime as dt
import io
import itertools
import json
import pathlib
import sqlite3

import pandas as pd
import pyarrow as pa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from pyarrow import parquet

from ops.foundation import calculate_file_hash
from ops.metrics_collect import (
    BrokenTarballError,
    DataframeActivity,
    DataframeJobHostSummary,
    Extractor,
    Ledger,
    LedgerStorage,
    Outbox,
    Package,
    StorageDirectory,
    collector,
    query_collector,
    run,
)
from ops.metrics_collect.__main__ import main
from ops.metrics_collect.collectors.others import total_workers_vcpu
from ops.metrics_collect.csv_parts import encode_row
from ops.metrics_collect.rollups._latest import LatestRows, Version
from ops.metrics_collect.tarballs import Member, write_tarball

_opened: list[sqlite3.Connection] = []


def connect(path):
    """Open a database that is closed when the test has ended."""
    _opened.append(sqlite3.connect(path))
    return _opened[-1]


@pytest.fixture(autouse=True)
def _closed_databases():
    yield
    while _opened:
        _opened.pop().close()


DAY = dt.datetime(2026, 10, 1, tzinfo=dt.UTC)
NEXT = DAY + dt.timedelta(days=1)


def shipped(storage, work):
    return [work / name for name in storage.list()]


def counted(rollup, key, value="count"):
    return {row[key]: row[value] for row in rollup.group().to_pylist()}


def runs_of(site, count):
    db = connect(":memory:")
    db.execute("create table runs (id integer primary key, site, finished)")
    rows = [(site, "2026-10-01T01:00:00+00:00")] * count
    db.executemany("insert into runs (site, finished) values (?, ?)", rows)
    query = "select * from runs where finished >= :since and finished < :until"
    return query_collector("runs", query, primary_key="id").bind(db=db)


def test_equal_ids_of_two_installations_without_a_configuration_are_two_rows(tmp_path):
    storage = StorageDirectory(tmp_path / "s")
    for site in ("north", "south"):
        state = tmp_path / site
        run(
            [runs_of(site, 7)],
            storage,
            Ledger(state / "ledger"),
            outbox=Outbox(state / "outbox"),
            since=DAY,
            until=NEXT,
        )
    rollup = DataframeActivity("runs", by=["site"]).add(Extractor(shipped(storage, tmp_path / "s")))
    assert counted(rollup, "site") == {"north": 7, "south": 7}


@pytest.mark.parametrize(("key", "count"), [("line", 3), (None, 3)])
def test_the_declared_key_identifies_rows_and_not_a_column_that_is_called_id(key, count, tmp_path):
    def lines(*, output_dir=None):
        path = pathlib.Path(output_dir, "lines.csv")
        path.write_text("line,id,model\n1,c7,m\n2,c7,m\n3,c7,m\n")
        return [path]

    factory = collector(key="lines", primary_key=key)(lines)
    tarballs = [*Package([factory()], directory=tmp_path, keep=True)]
    rollup = DataframeActivity("lines", by=["model"]).add(Extractor(tarballs))
    assert counted(rollup, "model") == {"m": count}


def slice_of(path, day, rows, **declared):
    """Write a tarball with the rows {id: (seconds, modified)} of a day."""
    csv = path.with_suffix(".csv")
    lines = [f"{number},{seconds},m,{at}\n" for number, (seconds, at) in rows.items()]
    csv.write_text("id,seconds,model,modified\n" + "".join(lines))
    member = Member("runs.csv", csv, "runs", "1", "id", **declared)
    interval = (DAY + dt.timedelta(days=day), DAY + dt.timedelta(days=day + 1))
    write_tarball(path, {"install_uuid": "u"}, b"x\n", [member], interval)
    return path


def total(files, **options):
    rollup = DataframeActivity("runs", by=["model"], sums=["seconds"], **options)
    return counted(rollup.add(Extractor(files)), "model", "seconds_total")["m"]


def test_the_version_of_the_later_slice_counts_in_whatever_order_they_come(tmp_path):
    files = [
        slice_of(tmp_path / "a.tar.gz", 0, {1: (3, ""), 2: (1, "")}),
        slice_of(tmp_path / "b.tar.gz", 1, {1: (5, "")}),
        slice_of(tmp_path / "c.tar.gz", 2, {1: (4, "")}),
    ]
    assert {total(order) for order in itertools.permutations(files)} == {5}


def test_a_declared_version_column_decides_before_the_slice_does(tmp_path):
    late, early = "2026-10-09T00:00:00+00:00", "2026-10-01T00:00:00+00:00"
    files = [
        slice_of(tmp_path / "a.tar.gz", 0, {1: (3, late)}, version_column="modified"),
        slice_of(tmp_path / "b.tar.gz", 1, {1: (5, early)}, version_column="modified"),
    ]
    assert total(files) == total(files[::-1]) == 3


CHANGES = st.lists(
    st.tuples(st.integers(0, 5), st.integers(0, 3), st.integers(0, 9)), min_size=1, max_size=20
)


@settings(max_examples=40, deadline=None)
@given(
    changes=CHANGES,
    order=st.randoms(),
    cut=st.integers(0, 20),
    memory=st.sampled_from([1, 1 << 26]),
)
def test_rows_that_change_and_repeat_add_up_the_same_in_any_order_and_grouping(
    changes, order, cut, memory
):
    """Rows are (id, version, value); the last version counts, and of equal ones always the same."""
    latest = {}
    for number, version, value in changes:
        latest[number] = max(latest.get(number, (-1, "")), (version, str(value)))
    expected = sum(int(value) for _, value in latest.values())

    def rolled(rows):
        rollup = DataframeActivity("runs", by=["model"], sums=["value"], memory_bytes=memory)
        for number, version, value in rows:
            raw = pa.table({"id": [str(number)], "model": ["m"], "value": [str(value)]})
            rollup._add_rows(raw, {}, "runs", "id", Version(None, version))
        return rollup

    def value_of(rollup):
        return counted(rollup, "model", "value_total")["m"]

    shuffled = [*changes, *changes]
    order.shuffle(shuffled)
    merged = rolled(shuffled[:cut]).merge(rolled(shuffled[cut:]))
    # Of equal versions one and the same value counts, whichever it is.
    assert value_of(rolled(shuffled)) == value_of(rolled(changes)) == value_of(merged)
    if len({(n, v) for n, v, _ in changes}) == len(changes):
        assert value_of(merged) == expected


def test_a_version_that_does_not_count_replaces_one_that_did(tmp_path):
    def summary(ok, dark, slice_):
        raw = pa.table({"id": ["1"], "host_name": ["web"], "ok": [ok], "dark": [dark]})
        return raw, {}, "job_host_summary", "id", Version(None, slice_)

    rollup = DataframeJobHostSummary()
    rollup._add_rows(*summary("1", "0", 1))
    assert rollup.group().num_rows == 1
    rollup._add_rows(*summary("0", "1", 2))  # it was unreachable after all
    assert rollup.group().num_rows == 0


def test_rows_with_ids_beyond_the_memory_are_chosen_on_disk():
    schema = pa.schema([("n", pa.int64())])
    rows = LatestRows(schema, memory_bytes=1)
    for version in (1, 2):
        table = pa.table({"n": pa.array([version * 10 + i for i in range(100)])})
        ids = pa.array([str(i) for i in range(100)])
        rows.add(table, "s", ids, pa.array([version] * 100), 0)
    found = sorted(n for table in rows.winners() for n in table["n"].to_pylist())
    assert found == [20 + i for i in range(100)]


@collector
def by_the_hour(*, since, until, output_dir=None):
    path = pathlib.Path(output_dir, "hours.csv")
    times = [since + dt.timedelta(hours=h) for h in range(24)]
    path.write_text("id,finished\n" + "".join(f"{t.hour},{t.isoformat()}\n" for t in times))
    return [path]


def test_a_period_selects_rows_by_their_time(tmp_path):
    tarballs = [*Package([by_the_hour(since=DAY, until=NEXT)], directory=tmp_path, keep=True)]
    cut = DAY + dt.timedelta(hours=20)

    def rows(time="finished", **period):
        rollup = DataframeActivity("by_the_hour", by=["id"], time=time)
        return rollup.add(Extractor(tarballs, **period)).group().num_rows

    assert (rows(end=cut), rows(start=cut)) == (20, 4)
    # Without a time, a slice is in the period that it begins in.
    assert (rows(None, end=cut), rows(None, start=cut)) == (24, 0)


def test_an_inventory_is_recorded_as_that_of_today_whatever_is_backfilled(tmp_path):
    @collector
    def hosts():
        return {"host": "web"}

    ledger, long_ago = Ledger(tmp_path / "l"), dt.datetime(2020, 1, 1, tzinfo=dt.UTC)
    storage, outbox = StorageDirectory(tmp_path / "s"), Outbox(tmp_path / "o")
    run([hosts], storage, ledger, outbox=outbox, since=long_ago, until=long_ago.replace(day=9))
    [day] = ledger.closed("hosts")
    assert day.since > dt.datetime.now(dt.UTC) - dt.timedelta(days=2)


def test_hourly_collectors_are_gathered_hour_by_whole_hour(tmp_path):
    storage, ledger = StorageDirectory(tmp_path / "s"), Ledger(tmp_path / "l")
    factory = total_workers_vcpu.bind(cluster_name="c", metering_enabled=False)
    for until in (DAY + dt.timedelta(hours=2, minutes=30), NEXT):
        run([factory], storage, ledger, outbox=Outbox(tmp_path / "o"), since=DAY, until=until)
    assert len(storage.list()) == 24


def test_a_document_is_read_as_one_row(tmp_path):
    @collector
    def disk_usage(*, since, until):
        return {"root": "/srv", "bytes": 4096, "free": None, "tags": ["a"]}

    tarballs = [*Package([disk_usage(since=DAY, until=NEXT)], directory=tmp_path, keep=True)]
    [row] = Extractor(tarballs).frame("disk_usage").to_dict("records")
    assert pd.isna(row.pop("free"))
    assert row == {"root": "/srv", "bytes": "4096", "tags": '["a"]'}
    rollup = DataframeActivity("disk_usage", by=["root"], sums=["bytes"], row_id=None)
    assert counted(rollup.add(Extractor(tarballs)), "root", "bytes_total") == {"/srv": 4096.0}


def test_columns_that_a_file_does_not_have_are_no_columns(tmp_path):
    db = connect(":memory:")
    db.executescript("create table r (code text); insert into r values ('007')")
    factory = query_collector("r", "select code from r")
    tarballs = [*Package([factory(db=db)], directory=tmp_path, keep=True)]
    [payload] = Extractor(tarballs).payloads({"r"}, {"other"})
    assert (payload.batch.num_columns, payload.batch.num_rows) == (0, 1)


def test_json_has_no_nan_and_no_infinity(tmp_path):
    table = pa.table({"k": ["a", "b"], "v": ["NaN", "inf"]})
    rollup = DataframeActivity("c", by=["k"], sums=["v"], row_id=None).add_csv(table)
    rollup.to_json(tmp_path / "r.json")

    def refuse(name):
        raise ValueError(name)

    rows = json.loads((tmp_path / "r.json").read_text(), parse_constant=refuse)
    assert [row["v_total"] for row in rows] == [None, None]


@pytest.mark.parametrize("damage", ["page", "footer", "encrypted"])
def test_damaged_parquet_makes_a_broken_tarball_that_is_listed(damage, tmp_path):
    good = tmp_path / "good.csv"
    good.write_text("a\n1\n")
    fine = tmp_path / "fine.tar.gz"
    write_tarball(fine, {}, b"x\n", [Member("alpha.csv", good, "alpha", "1")], (None, None))
    sink = pa.BufferOutputStream()
    table = pa.table({"a": ["x" * 50] * 200 + ["y"]})
    parquet.write_table(table, sink, use_dictionary=False, compression="snappy")
    data = bytearray(sink.getvalue().to_pybytes())
    if damage == "page":
        data[30:60] = bytes(30)
    elif damage == "footer":
        size = int.from_bytes(data[-8:-4], "little")
        data[-8 - size : -size] = b"\xff" * 8
    else:
        data[-4:] = data[:4] = b"PARE"
    bad, broken = tmp_path / "bad.parquet", tmp_path / "broken.tar.gz"
    bad.write_bytes(data)

    class Described(Member):  # the digest is right, the content is not
        def describe(self):
            digest = calculate_file_hash(self.path, "sha256")
            return {"collector": "alpha", "rows": 1, "bytes": self.size, "sha256": digest}

    member = Described("alpha.parquet", bad, "alpha", "1")
    write_tarball(broken, {}, b"x\n", [member], (None, None))
    extractor = Extractor([broken, fine], skip_broken=True)
    assert sum(p.batch.num_rows for p in extractor.payloads()) == 1
    assert [*extractor.broken] == [str(broken)]
    with pytest.raises(BrokenTarballError):
        list(Extractor([broken]).payloads())


def test_a_worker_without_state_completes_what_another_one_had_sent(tmp_path):
    storage, factory = StorageDirectory(tmp_path / "s"), runs_of("x", 2)

    class Dies(LedgerStorage):
        def close(self, *_args, **_kwargs):
            raise SystemExit(9)

    def work(ledger, number):
        outbox = Outbox(tmp_path / f"o{number}")
        return run([factory], storage, ledger, outbox=outbox, since=DAY, until=NEXT)

    with contextlib.suppress(SystemExit):
        work(Dies(storage), 1)
    assert work(LedgerStorage(storage), 2).ok
    assert LedgerStorage(storage).closed("runs")


def test_a_parcel_in_the_failed_queue_is_reported_by_every_later_run_and_by_status(
    tmp_path, monkeypatch
):
    monkeypatch.chdir(tmp_path)
    db = connect("app.db")
    db.executescript(
        "create table runs (id integer primary key, finished text);"
        "insert into runs values (1, '2026-10-01T05:00:00+00:00')"
    )
    db.commit()
    query = "select * from runs where finished >= :since and finished < :until"
    pathlib.Path("q.sql").write_text(query)
    pathlib.Path("blocked").write_text("")

    def call(*arguments):
        out = io.StringIO()
        with contextlib.redirect_stdout(out), contextlib.redirect_stderr(io.StringIO()):
            code = main([*arguments, "--json"])
        return code, json.loads(out.getvalue())

    days = ("--since", "2026-10-01", "--until", "2026-10-02")
    ship = ("backfill", "--db", "app.db", "--query", "runs=q.sql", *days, "--ship", "blocked/out")
    for _ in range(6):
        assert call(*ship)[0] == 1
    pathlib.Path("blocked").unlink()
    code, result = call(*ship)
    assert code == 1
    assert "failed queue" in next(iter(result["failed"].values()))
    code, status = call("status", *days)
    assert code == 1
    assert status["gaps"] == {"runs": [["2026-10-01T00:00:00+00:00", "2026-10-02T00:00:00+00:00"]]}
    assert call("replay", "--ship", "blocked/out")[0] == 0
    assert call("status", *days)[0] == 0


def test_a_state_that_is_not_there_is_misuse_and_is_not_made(tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    assert main(["status", "--state", "TYPO", "--json"]) == 2
    assert json.loads(capsys.readouterr().out)["error"]["code"] == "PARAMETER"
    assert not pathlib.Path("TYPO").exists()


@pytest.mark.parametrize("kind", ["csv", "parquet", "json"])
def test_rows_without_a_key_count_each_and_late_ones_are_found(chain, kind):
    rows = [{"id": None, "v": "1"}, {"id": None, "v": "2"}, {"id": "", "v": "3"}]

    @collector(primary_key="id")
    def made(*, since, until, output_dir=None):
        path = pathlib.Path(output_dir, f"rows.{kind}")
        if kind == "csv":
            path.write_bytes(
                b"".join(encode_row(row) for row in (["id", "v"], *(r.values() for r in rows)))
            )
        elif kind == "json":
            path.write_text(json.dumps(rows))
        else:
            parquet.write_table(pa.Table.from_pylist(rows), path)
        return [path]

    arguments = chain.arguments(lookback=dt.timedelta(days=2))
    for late in ([], [{"id": None, "v": "x" * 200_000}], [{"id": "", "v": "late"}], []):
        rows += late
        assert run([made], chain.storage, chain.ledger, **arguments).ok
    files = chain.shipped_files()
    assert len(files) == 2
    values = sorted(
        v for p in Extractor(files).payloads({"made"}) for v in p.batch["v"].to_pylist()
    )
    assert values == ["1", "2", "3", "x" * 200_000]
    counted = DataframeActivity("made", by=["v"]).add(Extractor(files)).group()
    assert counted["count"].to_pylist() == [1, 1, 1, 1]
