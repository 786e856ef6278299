"""What is shipped can be read: files that cannot are refused while they are gathered, with the reason."""

from __future__ import annotations

import datetime as dt
import decimal
import json
import uuid

import numpy as np
import pyarrow as pa
import pytest
from pyarrow import parquet
from tests.metrics_collect.conftest import DAY

from ops.metrics_collect import (
    BrokenTarballError,
    DataframeActivity,
    Extractor,
    Package,
    ParameterError,
    collector,
    query_collector,
    run,
)
from ops.metrics_collect.rollups._columns import number, utc_times
from ops.metrics_collect.tarballs import Member, write_tarball


def gathered(folder, result, **declared):
    """Gather *result*; the status and the rows that come out again."""

    @collector(**declared)
    def rows(*, since, until):
        return result

    work = rows(since=DAY, until=DAY + dt.timedelta(days=1))
    package = Package([work], {"install_uuid": "u"}, directory=folder, keep=True)
    files = list(package)
    [status] = package.statuses
    read = [r for p in Extractor(files).payloads({"rows"}) for r in p.batch.to_pylist()]
    packed = [r for f in files for r in _manifest_rows(f)]
    assert sum(packed) == len(read)
    return status, read


def _manifest_rows(file):
    import tarfile

    with tarfile.open(file) as tar:
        members = json.load(tar.extractfile("manifest.json"))["members"]
    return [m["rows"] for m in members.values() if m.get("collector") == "rows"]


def written(folder, name, content):
    path = folder / name
    path.write_bytes(content if isinstance(content, bytes) else content.encode())
    return [path]


def test_rows_of_one_column_are_read_also_where_it_is_null(tmp_path, chain):
    sql = "select null as v union all select '' union all select 'x' union all select null"
    done = run(
        [query_collector("one", sql).bind(db=chain.db)],
        chain.storage,
        chain.ledger,
        **chain.arguments(),
    )
    assert done.ok
    batches = [p.batch for p in Extractor(chain.shipped_files()).payloads({"one"})]
    assert [row["v"] for b in batches for row in b.to_pylist()] == [None, "", "x", None]


@pytest.mark.parametrize(
    ("name", "content", "reason"),
    [
        ("a.csv", "k,k\n1,2\n", "the column 'k' twice"),
        ("a.csv", "k,v\n1\n", "line 2: 1 fields, and 2 columns"),
        ("a.csv", "k,v\n1,2\n3,4,5\n", "line 3: 3 fields, and 2 columns"),
        ("a.csv", "k\ncaf\xe9\n".encode("latin1"), "no UTF-8"),
        ("a.csv.gz", b"\x1f\x8b", "no file of rows"),
        ("a", "k\n1\n", "no file of rows"),
        ("a.json", "5", "no JSON object"),
        ("a.json", "[1]", "no JSON object"),
        ("a.json", '{"k"', "Expecting"),
        ("a.parquet", b"PAR1", "Parquet"),
    ],
)
def test_a_file_that_cannot_be_read_again_is_refused_with_the_reason(
    tmp_path, name, content, reason
):
    files = written(tmp_path, name, content)
    status, read = gathered(tmp_path, files)
    assert status.status == "failed"
    assert reason in status.error
    assert read == []
    # What is no file of rows may be of others.
    assert files[0].exists() == (reason == "no file of rows")


@pytest.mark.parametrize("kind", ["csv", "parquet", "json"])
@pytest.mark.parametrize("declared", ["primary_key", "version_column"])
def test_a_declared_column_that_is_not_there_is_refused(tmp_path, kind, declared):
    path = tmp_path / f"a.{kind}"
    if kind == "parquet":
        parquet.write_table(pa.table({"idx": ["1"]}), path)
    else:
        path.write_text("idx\n1\n" if kind == "csv" else '[{"idx": 1}]')
    status, _ = gathered(tmp_path, [path], **{declared: "id"})
    assert "no column 'id', which was declared; did you mean 'idx'?" in status.error


def test_two_columns_of_one_name_in_parquet_are_refused(tmp_path):
    table = pa.Table.from_arrays([pa.array(["a"]), pa.array(["b"])], names=["k", "k"])
    parquet.write_table(table, tmp_path / "a.parquet")
    status, _ = gathered(tmp_path, [tmp_path / "a.parquet"])
    assert "the column 'k' twice" in status.error


def test_a_tarball_of_before_with_two_columns_of_one_name_is_broken(tmp_path):
    [path] = written(tmp_path, "a.csv", "k,k\n1,2\n")
    write_tarball(
        tmp_path / "a.tar.gz", {}, b"x\n", [Member("a.csv", path, "a", "1")], (None, None)
    )
    with pytest.raises(BrokenTarballError, match="'k' is there twice"):
        list(Extractor([tmp_path / "a.tar.gz"]).payloads())


@pytest.mark.parametrize(
    ("content", "rows"),
    [
        ("\ufeffk,v\r\na,1\r\n\r\nb,2\r\n", [("a", "1"), ("b", "2")]),
        ('k,v\n"a\n\nb",1\n,""\n', [("a\n\nb", "1"), (None, "")]),
        ("k,v\n" + "x" * 200_000 + ",1\n", [("x" * 200_000, "1")]),
        ("k,v\n", []),
        ("", []),
    ],
    ids=["BOM and CRLF", "lines in quotes", "a long field", "a header", "nothing"],
)
def test_csv_of_other_programs_is_taken_as_it_is(tmp_path, content, rows):
    status, read = gathered(tmp_path, written(tmp_path, "a.CSV", content))
    assert status.error == ""
    assert [(r["k"], r["v"]) for r in read] == rows


def test_a_list_of_documents_is_a_row_each(tmp_path):
    content = '[{"a": 1, "b": null}, {"a": "x", "c": [1]}]'
    _, read = gathered(tmp_path, written(tmp_path, "a.json", content))
    assert read == [{"a": "1", "b": None, "c": None}, {"a": "x", "b": None, "c": "[1]"}]


def test_a_document_may_hold_times_decimals_and_half_characters(tmp_path):
    number = uuid.uuid4()
    document = {
        "at": DAY,
        "day": DAY.date(),
        "price": decimal.Decimal("1.50"),
        "id": number,
        "name": "a\ud800b",
        2: True,
    }
    _, [read] = gathered(tmp_path, document)
    assert read == {
        "2": "true",
        "at": DAY.isoformat(),
        "day": "2026-10-01",
        "id": str(number),
        "name": "a\ufffdb",
        "price": "1.50",
    }


@pytest.mark.parametrize("value", [float("nan"), float("inf"), {1}, b"x", object(), [float("nan")]])
def test_a_document_that_is_no_json_is_refused_with_the_name_of_its_field(tmp_path, value):
    status, _ = gathered(tmp_path, {"fine": 1, "odd": value})
    assert "field 'odd' cannot be JSON" in status.error


NANOSECONDS = np.datetime64("2026-10-01T05:00:00.123456789", "ns")


@pytest.mark.parametrize(
    ("values", "text"),
    [
        (pa.array([True]), "t"),
        (pa.array([b"\x00\xff"]), "\\x00ff"),
        (pa.array([[1, 2]]), "[1, 2]"),
        (pa.array([{"a": None}]), '{"a": null}'),
        (pa.array(["x"]).dictionary_encode(), "x"),
        (pa.array(["x"], pa.large_string()), "x"),
        (pa.array([dt.timedelta(seconds=90)]), "90"),
        (pa.array([decimal.Decimal("1.50")]), "1.50"),
        (pa.array([dt.date(2026, 10, 1)]), "2026-10-01"),
        (pa.array([NANOSECONDS]), "2026-10-01 05:00:00.123456"),
        (
            pa.array([NANOSECONDS]).cast(pa.timestamp("ns", "Europe/Berlin")),
            "2026-10-01 05:00:00.123456Z",
        ),
        (pa.array([1 << 60]), str(1 << 60)),
        (pa.nulls(1), None),
    ],
    ids=lambda v: str(v.type) if isinstance(v, pa.Array) else "",
)
def test_parquet_of_any_type_is_read_as_text(tmp_path, values, text):
    parquet.write_table(pa.table({"v": values, "w": values}), tmp_path / "a.parquet")
    _, read = gathered(tmp_path, [tmp_path / "a.parquet"])
    assert read == [{"v": text, "w": text}]


@pytest.mark.parametrize(
    ("text", "at"),
    [
        ("2026-10-01T05:00:00.123456789Z", "2026-10-01T05:00:00.123456+00:00"),
        ("2026-10-01 07:00:00 +0200", "2026-10-01T05:00:00+00:00"),
        ("2026-10-01T05:00:00z", "2026-10-01T05:00:00+00:00"),
        ("2026-10-01 05:00:00 UTC", "2026-10-01T05:00:00+00:00"),
        ("20261001", "2026-10-01T00:00:00+00:00"),
        ("1790830800", "2026-10-01T05:00:00+00:00"),
        ("1790830800.5", "2026-10-01T05:00:00.500000+00:00"),
        ("1790830800000", "2026-10-01T05:00:00+00:00"),
        ("1790830800000000", "2026-10-01T05:00:00+00:00"),
        ("1790830800000000000", "2026-10-01T05:00:00+00:00"),
        ("infinity", None),
        ("-infinity", None),
        ("", None),
    ],
)
def test_times_are_known_however_they_are_written_and_whatever_stands_beside_them(text, at):
    usual = ["2026-10-01 05:00:00", "2026-10-01T06:00:00+01:00", None]
    times = utc_times(pa.table({"t": [text, *usual]}), "t").to_pylist()
    expected = None if at is None else dt.datetime.fromisoformat(at)
    five = DAY + dt.timedelta(hours=5)
    assert times == [expected, five, five, None]


@pytest.mark.parametrize("text", ["soon", "2026-13-01", "1e400"])
def test_what_is_no_time_is_named_with_its_column(text):
    with pytest.raises(ParameterError, match=f"Column 't' holds '{text}', which is no time"):
        utc_times(pa.table({"t": [text]}), "t")


def test_numbers_are_known_however_they_are_written():
    table = pa.table({"n": ["1", "2.0", "1e3", " 4 ", "t", "f", "", None]})
    assert number(table, "n").to_pylist() == [1, 2, 1000, 4, 1, 0, 0, 0]
    table = pa.table({"n": ["1.5", "t", "Infinity", ""]})
    assert number(table, "n", pa.float64()).to_pylist() == [1.5, 1.0, float("inf"), 0.0]


@pytest.mark.parametrize("text", ["1.5", "1,5", "1_000", "Infinity", str(1 << 63), "many"])
def test_what_is_no_whole_number_is_named_with_its_column(text):
    with pytest.raises(ParameterError, match=r"Column 'n' holds .*, which is no number"):
        number(pa.table({"n": ["1", text]}), "n")


@pytest.mark.parametrize("wrong", [{"time": "finishedd"}, {"row_id": "idd"}, {"sums": ["secondz"]}])
def test_a_misspelt_column_of_a_rollup_is_an_error_and_counts_nothing(chain, wrong):
    chain.insert(0, 3)
    run(chain.factories, chain.storage, chain.ledger, **chain.arguments())
    with pytest.raises(ParameterError, match=r"'runs' has no columns \['"):
        DataframeActivity("runs", by=["name"], **wrong).add(Extractor(chain.shipped_files()))
