import csv
import datetime as dt
import sqlite3

import pytest

from ops.metrics_collect import ParameterError, collector, query_collector

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


SINCE = dt.datetime(2026, 10, 1, tzinfo=dt.UTC)
UNTIL = SINCE + dt.timedelta(days=1)


@collector(version="2.0")
def usage(*, db, since, until, output_dir=None):
    """Count usage."""
    return {"db": db, "since": since.isoformat()}


def test_gather_does_what_the_function_does():
    parameters = {"db": 1, "since": SINCE, "until": UNTIL}
    work = usage(**parameters)
    assert work.gather() == usage.__wrapped__(**parameters)
    assert (work.key, work.version, work.kwargs) == ("usage", "2.0", parameters)
    assert (usage.__doc__, usage.__name__) == ("Count usage.", "usage")


@pytest.mark.parametrize(
    ("wrong", "words"),
    [
        ({"database": 1}, "does not take 'database'"),
        ({"until": UNTIL}, "needs 'since'"),
        ({"since": dt.datetime(2026, 10, 1), "until": UNTIL}, "no time zone"),
        ({"since": UNTIL, "until": UNTIL}, "must lie before"),
        ({"since": "2026-10-01", "until": UNTIL}, "is no datetime"),
    ],
)
def test_wrong_parameters_are_refused_before_anything_runs(wrong, words):
    with pytest.raises(ParameterError, match=words):
        usage(db=1, **wrong)


def test_the_values_of_parameters_never_show():
    assert "secret" not in repr(usage(db="secret", since=SINCE, until=UNTIL))


def test_a_query_gives_complete_parts_of_bounded_size(tmp_path):
    db = connect(":memory:")
    rows = [(i, None if i % 2 else "", 'a "quoted",\nline', b"\xff") for i in range(100)]
    db.execute("create table t (id integer, empty text, text text, raw blob)")
    db.executemany("insert into t values (?, ?, ?, ?)", rows)
    parts = query_collector("t", "select * from t", max_part_bytes=500)(
        db=db, output_dir=tmp_path
    ).gather()
    db.close()

    read = []
    for part in parts:
        content = (tmp_path / part).read_bytes()
        assert len(content) <= 500
        header, *body = csv.reader(content.decode().splitlines(keepends=True))
        assert header == ["id", "empty", "text", "raw"]
        read += body
    assert read == [[str(i), "", 'a "quoted",\nline', "\\xff"] for i in range(100)]
    assert b'0,"",' in (tmp_path / parts[0]).read_bytes()
    assert b"1,," in (tmp_path / parts[0]).read_bytes()


def test_a_query_without_rows_gives_nothing_and_leaves_nothing(tmp_path):
    db = connect(":memory:")
    assert query_collector("t", "select 1 where 0")(db=db, output_dir=tmp_path).gather() == []
    db.close()
    assert list(tmp_path.iterdir()) == []


def test_parameters_are_bound_and_text_that_looks_like_one_is_left_alone(tmp_path):
    db = connect(":memory:")
    sql = "select :name as a, ':since %' as b -- :until"
    [part] = query_collector("t", sql)(db=db, name="x'; drop", output_dir=tmp_path).gather()
    db.close()
    with open(part) as file:
        assert file.read() == "a,b\nx'; drop,:since %\n"


def test_duckdb_is_a_plain_connection_too(tmp_path):
    duckdb = pytest.importorskip("duckdb")
    db = duckdb.connect()
    db.execute(
        "create table t as select range as id, timestamptz '2026-10-01 12:00:00+00' as moment from range(3)"
    )
    query = query_collector(
        "t", "select id from t where moment >= :since and moment < :until order by id"
    )
    [part] = query(db=db, since=SINCE, until=UNTIL, output_dir=tmp_path).gather()
    db.close()
    assert (tmp_path / part).read_text() == "id\n0\n1\n2\n"
