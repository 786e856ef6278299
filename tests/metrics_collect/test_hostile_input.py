"""Input that is odd, long, damaged or made up to harm: it is read as it is, or named and refused."""

import datetime as dt
import gzip
import hashlib
import io
import json
import math
import pathlib
import tarfile
import tracemalloc
import zoneinfo

import pyarrow as pa
import pytest
from pyarrow import parquet

from ops.metrics_collect import (
    BrokenTarballError,
    DataframeActivity,
    DataframeJobHostSummary,
    Extractor,
    Interval,
    Ledger,
    ObjectExists,
    Package,
    ParameterError,
    ReportCCSP,
    StateError,
    StorageError,
    collector,
    lock,
    query_collector,
    run,
)
from ops.metrics_collect.__main__ import main
from ops.metrics_collect.csv_parts import encode_row
from ops.metrics_collect.ledger import daily_slices
from ops.metrics_collect.reports._xlsx import sheet_name
from ops.metrics_collect.rows import read_csv_batches
from ops.metrics_collect.tarballs import FORMAT

DAY = dt.datetime(2026, 10, 1, tzinfo=dt.UTC)


def rows_of(path, data):
    path.write_bytes(data)
    return [row for batch in read_csv_batches(path) for row in batch.to_pylist()]


def test_a_byte_order_mark_is_no_part_of_a_name(tmp_path):
    assert rows_of(tmp_path / "a.csv", b"\xef\xbb\xbfid,v\n1,2\n") == [{"id": "1", "v": "2"}]


def test_rows_longer_than_any_block_come_once_and_in_order(tmp_path):
    long = {3: 3_000_000, 500: 20_000_000, 999: 1_100_000}
    lines = [b"id,v\n", *(b"%d,%b\n" % (i, b"x" * long.get(i, 2000)) for i in range(1000))]
    rows = rows_of(tmp_path / "a.csv", b"".join(lines))
    assert [int(row["id"]) for row in rows] == list(range(1000))
    assert [len(row["v"]) for row in rows] == [long.get(i, 2000) for i in range(1000)]


def test_half_a_character_is_replaced_and_its_file_stays_readable(tmp_path):
    assert encode_row(["\ud83d\ude00", "plain"]) == "\U0001f600,plain\n".encode()
    data = encode_row(["v"]) + encode_row(["x\ud800y"])
    assert rows_of(tmp_path / "a.csv", data) == [{"v": "x\ufffdy"}]


def test_cells_of_any_length_are_shipped_once_and_late_rows_found(chain):
    chain.insert(0, 2)
    names = ("x" * 200_000 + '"\n,', "y" * 2_000_000)
    for number, name in enumerate(names):
        chain.db.execute("update runs set name = ? where id = ?", (name, number))
    chain.db.commit()
    assert run(chain.factories, chain.storage, chain.ledger, **chain.arguments()).ok
    chain.insert(2, 1)
    late = run(
        chain.factories,
        chain.storage,
        chain.ledger,
        **chain.arguments(lookback=dt.timedelta(days=2)),
    )
    assert late.ok
    payloads = [p.batch.to_pylist() for p in Extractor(chain.shipped_files()).payloads({"runs"})]
    rows = {row["id"]: row["name"] for batch in payloads for row in batch}
    assert sum(map(len, payloads)) == 3
    assert (rows["0"], rows["1"]) == names


@pytest.mark.parametrize("kind", ["parquet", "json"])
def test_late_rows_are_found_in_other_files_too(chain, kind):
    ids = [1, 2]

    @collector(primary_key="id")
    def made(*, since, until, output_dir=None):
        path = pathlib.Path(output_dir, f"rows.{kind}")
        if kind == "json":
            path.write_text(json.dumps([{"v": "a", "id": i} for i in ids]))
        else:
            parquet.write_table(pa.table({"v": ["a"] * len(ids), "id": ids}), path)
        return [path]

    assert run([made], chain.storage, chain.ledger, **chain.arguments()).ok
    ids.append(3)
    arguments = chain.arguments(lookback=dt.timedelta(days=2))
    assert len(run([made], chain.storage, chain.ledger, **arguments).shipped) == 1
    assert run([made], chain.storage, chain.ledger, **arguments).shipped == []
    batches = [p.batch for p in Extractor(chain.shipped_files()).payloads({"made"})]
    assert sorted(i for batch in batches for i in batch.column("id").to_pylist()) == ["1", "2", "3"]


@pytest.mark.service
def test_a_query_may_end_with_a_semicolon_and_a_comment(postgres, tmp_path):
    psycopg = pytest.importorskip("psycopg")
    for number, end in enumerate((";", " ;\n\n", " -- the end", ";\n")):
        query = query_collector(f"q{number}", f"select 1 as one{end}")
        with psycopg.connect(postgres.database(), autocommit=True) as db:
            (path,) = query(db=db, output_dir=tmp_path).gather()
        assert pathlib.Path(path).read_text("utf-8") == "one\n1\n"


def test_a_query_cannot_name_what_is_taken():
    with pytest.raises(ParameterError, match="taken"):
        query_collector("q", "select :db")


# Moments


def test_an_hour_that_comes_twice_is_an_interval():
    berlin = zoneinfo.ZoneInfo("Europe/Berlin")
    first, second = (dt.datetime(2026, 10, 25, 2, 30, tzinfo=berlin, fold=fold) for fold in (0, 1))
    query = query_collector("q", "select :since, :until")
    assert query(db=None, since=first, until=second).since == first
    with pytest.raises(ParameterError, match="before"):
        query(db=None, since=second, until=first)


def test_the_last_day_of_all_can_be_cut():
    end = dt.datetime.max.replace(tzinfo=dt.UTC)
    slices = list(daily_slices(Interval(end - dt.timedelta(hours=30), end)))
    assert [piece.until - piece.since for piece in slices][-1] < dt.timedelta(days=1)
    assert slices[-1].until == end


@pytest.mark.parametrize("name", ["lag", "lookback"])
def test_a_negative_lag_would_close_the_future_and_is_refused(chain, name):
    arguments = chain.arguments(**{name: -dt.timedelta(hours=1)})
    with pytest.raises(ParameterError, match="negative"):
        run(chain.factories, chain.storage, chain.ledger, **arguments)


# What lies around


def test_a_stray_file_in_the_outbox_stops_nobody_and_a_broken_parcel_is_named(chain):
    (chain.outbox.path / "new" / ".DS_Store").write_text("")
    assert chain.outbox.counts()["new"] == 0
    (chain.outbox.path / "new" / "parcel").mkdir()
    with pytest.raises(StateError, match="is no parcel"):
        chain.outbox.counts()


def test_a_file_that_is_no_ledger_is_named(tmp_path):
    (tmp_path / "ledger").write_bytes(b"junk" * 1000)
    with pytest.raises(StateError, match="is no ledger"):
        Ledger(tmp_path / "ledger")


@pytest.mark.parametrize("seconds", [0, -1, math.nan, math.inf])
def test_a_lease_needs_a_length(chain, seconds):
    with (
        pytest.raises(ParameterError, match="lease_seconds"),
        lock("k", storage=chain.storage, lease_seconds=seconds),
    ):
        pass


def test_kept_tarballs_are_made_on_the_file_system_where_they_stay(tmp_path, monkeypatch):
    places = []
    monkeypatch.chdir(tmp_path)

    @collector
    def made(*, output_dir=None):
        places.append(output_dir.resolve())
        return {"a": 1}

    (path,) = Package([made()], {}, keep=True)
    assert path.exists()
    assert places[0].parent == tmp_path


@pytest.mark.parametrize(
    "result",
    [5, "text", {"a": object()}, ["/nowhere/x.csv"], [5]],
    ids=["a number", "a text", "what is no JSON", "a missing file", "a list of numbers"],
)
def test_a_collector_that_gives_what_it_should_not_stops_nobody(chain, result):
    chain.insert(0, 3)

    @collector
    def odd(*, since, until):
        return result

    collectors = [odd, *chain.factories]
    done = run(collectors, chain.storage, chain.ledger, **chain.arguments())
    assert len(done.shipped) == len(done.failed) == 1
    interval = {"since": DAY, "until": DAY + dt.timedelta(days=1)}
    package = Package([odd(**interval), *(c(**interval) for c in chain.factories)], {})
    assert len(list(package)) == 1
    assert [status.status for status in package.statuses] == ["failed", "ok"]


def test_an_error_without_a_text_and_one_with_a_long_text_are_recorded(chain):
    class Silent(Exception):
        def __str__(self):
            raise RuntimeError("no text")

    errors = [Silent(), ValueError("x" * 100_000)]

    @collector
    def odd(*, since, until):
        raise errors.pop(0)

    for text in ("Silent", "xxx"):
        done = run([odd], chain.storage, chain.ledger, **chain.arguments())
        [failure] = done.failed.values()
        assert text in failure
        assert len(failure) < 2100


def test_a_name_that_leads_through_an_object_is_an_error_of_the_storage(chain):
    chain.storage.put("a/b", dict={})
    for name in ("a", "a/b/c"):
        with pytest.raises(StorageError):
            chain.storage.put(name, dict={})
        with pytest.raises((StorageError, ObjectExists)):
            chain.storage.put(name, dict={}, overwrite=False)
    assert chain.storage.list() == ["a/b"]


def test_a_run_takes_factories_and_says_so(chain):
    work = chain.factories[0](since=DAY, until=DAY + dt.timedelta(days=1))
    with pytest.raises(ParameterError, match="bind"):
        run([work], chain.storage, chain.ledger, **chain.arguments())


@pytest.mark.parametrize("text", ["{", "{uuid", "a/{index}", "{other}"])
def test_a_format_that_gives_no_name_is_refused_at_once(text):
    with pytest.raises(ParameterError):
        Package([], tarball_format=text)


def test_no_identity_leads_a_tarball_out_of_its_folder():
    with pytest.raises(ValueError, match="refused"):
        list(Package([], {"install_uuid": "../../elsewhere"}))


# Tarballs that were made up


def tarball(path, members):
    with tarfile.open(path, "w:gz") as tar:
        for name, data in members.items():
            info = tarfile.TarInfo(name)
            info.size = len(data)
            tar.addfile(info, io.BytesIO(data))
    return path


def made_up(path, extra=None, change=None):
    """A tarball whose digests are right, with more members and a changed manifest."""
    members = {"config.json": b"{}", "data_collection_status.csv": b"a\n", "x.csv": b"id\n1\n"}
    members |= extra or {}
    entries = {
        n: {"collector": "x", "sha256": hashlib.sha256(d).hexdigest()} for n, d in members.items()
    }
    manifest = {"format": FORMAT, "since": None, "until": None, "members": entries}
    if change:
        change(manifest)
    return tarball(path, {**members, "manifest.json": json.dumps(manifest).encode()})


MADE_UP = {
    "a file as a folder": {"extra": {"x.csv/y.csv": b""}},
    "a name spelled twice": {"extra": {"./x.csv": b""}},
    "a long name": {"extra": {"a" * 300: b""}},
    "a manifest without digests": {"change": lambda m: m["members"]["x.csv"].pop("sha256")},
    "a manifest of texts": {"change": lambda m: m["members"].update({"x.csv": "text"})},
    "a manifest without interval": {"change": lambda m: m.pop("since")},
    "an interval that is none": {"change": lambda m: m.update(since="soon")},
    "a naive interval": {"change": lambda m: m.update(since="2026-10-01T00:00:00")},
    "a configuration that is none": {"extra": {"config.json": b"["}},
    "a configuration of another kind": {"extra": {"config.json": b"[]"}},
    "rows of different lengths": {"extra": {"x.csv": b"id,a\n1\n"}},
    "a Parquet file that is none": {"extra": {"x.parquet": b"PAR1 and more"}},
}


@pytest.mark.parametrize("parts", MADE_UP.values(), ids=MADE_UP.keys())
def test_whatever_is_wrong_with_a_tarball_it_is_named_or_left_out(tmp_path, parts):
    path = made_up(tmp_path / "t.tar.gz", **parts)
    with pytest.raises(BrokenTarballError, match=r"t\.tar\.gz"):
        list(Extractor([path], {"x"}).payloads())
    good = made_up(tmp_path / "good.tar.gz")
    extractor = Extractor([path, good], skip_broken=True)
    assert sum(p.batch.num_rows for p in extractor.payloads({"x"})) >= 1
    assert list(extractor.broken) == [str(path)]


def test_a_manifest_that_nests_without_end_is_refused(tmp_path):
    status = {"config.json": b"{}", "data_collection_status.csv": b"a\n"}
    for manifest in (b"[]", b"[" * 100_000, b"\xff"):
        path = tarball(tmp_path / "t.tar.gz", {**status, "manifest.json": manifest})
        with pytest.raises(BrokenTarballError):
            list(Extractor([path]).payloads())


@pytest.mark.parametrize(
    "kind", [tarfile.XHDTYPE, tarfile.XGLTYPE, tarfile.GNUTYPE_LONGNAME, tarfile.GNUTYPE_LONGLINK]
)
def test_a_header_that_swells_is_refused_before_it_is_read(tmp_path, kind):
    header = tarfile.TarInfo("header")
    header.type, header.size = kind, 128 << 20
    with gzip.open(tmp_path / "t.tar.gz", "wb", 1) as file:
        file.write(header.tobuf(tarfile.USTAR_FORMAT) + bytes(128 << 20))
    tracemalloc.start()
    with pytest.raises(BrokenTarballError, match="limits"):
        list(Extractor([tmp_path / "t.tar.gz"]).payloads())
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert peak < 64 << 20


# Names, prices and ids


@pytest.mark.parametrize("title", ["a" * 30 + "'s", "'" * 40, "History", "a" * 40 + "'", "[:]"])
def test_any_title_is_a_name_of_a_sheet(title):
    taken = set()
    for _ in range(12):
        name = sheet_name(title, taken)
        assert 0 < len(name) <= 31
        assert not name.startswith("'")
        assert not name.endswith("'")
    assert len(taken) == 12


@pytest.mark.parametrize("price", ["nan", "inf", -1])
def test_a_price_is_an_amount(price):
    with pytest.raises(ParameterError, match="price"):
        ReportCCSP({"job_host_summary": DataframeJobHostSummary()}, {"price": price})


def test_ids_that_look_like_other_numbers_are_ids_of_their_own():
    activity = DataframeActivity("x", by=["v"])
    for ids in (["1", "01", "001", "+1"], ["01", "b"], ["1"], ["b", "1", "2", "2"], ["2"]):
        activity.add_csv(pa.table({"id": ids, "v": ["a"] * len(ids)}))
    (row,) = activity.group().to_pylist()
    assert row["count"] == len({"1", "01", "001", "+1", "b", "2"})


# The command line


@pytest.mark.parametrize(
    "wrong",
    [
        "--lag-hours=-5",
        "--lag-hours=nan",
        "--lookback-days=1e12",
        "--lookback-days=-1",
        "--since=x",
    ],
)
def test_amounts_that_are_none_are_wrong_usage(wrong, capsys):
    with pytest.raises(SystemExit, match="2"):
        main(["gather", "--db", "a.db", "--since", "2026-10-01", wrong])
    assert "usage" in capsys.readouterr().err


def test_the_source_can_be_named_where_other_users_cannot_see_it(
    chain, tmp_path, monkeypatch, capsys
):
    chain.insert(0, 1)
    sql = tmp_path / "runs.sql"
    sql.write_text("select * from runs where finished >= :since and finished < :until;\n")
    monkeypatch.setenv("OPS_METRICS_DB", str(chain.folder / "source.db"))
    span = ["--since", "2026-10-01", "--until", "2026-10-02"]
    state = ["--state", str(tmp_path / "state"), "--json"]
    assert main(["gather", "--query", f"runs={sql}", *span, *state]) == 0
    assert len(json.loads(capsys.readouterr().out)["gathered"]) == 1


def test_an_error_shows_the_start_of_a_long_value_only(chain, tmp_path, capsys):
    chain.insert(0, 1)
    chain.db.execute("update runs set name = ?", ("x" * 100_000,))
    chain.db.commit()
    run(chain.factories, chain.storage, chain.ledger, **chain.arguments())
    activity = ["--collection", "runs", "--by", "id", "--sum", "name"]
    place = ["--ship", str(chain.storage.base_path), "-o", str(tmp_path / "x.csv")]
    assert main(["rollup", *activity, *place]) == 2
    assert len(capsys.readouterr().err) < 5000
