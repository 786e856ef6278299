"""Folders of diskcache as an attacker would write them: rows are skipped and counted, or the folder is refused."""

from __future__ import annotations

import itertools
import os
import pickle
import sqlite3
import struct
import tracemalloc
import zlib
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from ops.cache import DiskCache, UnsuitableFolderError
from ops.cache.diskcache import data_pickles
from ops.cache.diskcache.data_pickles import read_data_pickle
from ops.cache.diskcache.transfer import import_diskcache

MIB = 1 << 20
SCHEMA = """
CREATE TABLE Settings (key TEXT NOT NULL UNIQUE, value);
CREATE TABLE Cache (rowid INTEGER PRIMARY KEY, key BLOB, raw INTEGER, store_time REAL, expire_time REAL,
 access_time REAL, access_count INTEGER DEFAULT 0, tag BLOB, size INTEGER DEFAULT 0,
 mode INTEGER DEFAULT 0, filename TEXT, value BLOB);
"""
FINE: dict[str, Any] = {"key": "fine", "raw": 1, "mode": 1, "value": "right"}


@pytest.fixture
def target(tmp_path: Path) -> Iterator[DiskCache]:
    with DiskCache(tmp_path / "target", max_bytes=64 * MIB) as made:
        yield made


def made_folder(
    folder: Path, *rows: dict[str, Any], schema: str = SCHEMA, json_disk: bool = False
) -> Path:
    """Write a folder with *rows* and, behind them, one that is right."""
    folder.mkdir()
    connection = sqlite3.connect(folder / "cache.db")
    with connection:
        connection.executescript(schema)
        if json_disk:
            connection.execute("INSERT INTO Settings VALUES ('disk_compress_level', 1)")
        for row in rows:
            names = ", ".join(row)
            marks = ", ".join("?" for _ in row)
            connection.execute(f"INSERT INTO Cache ({names}) VALUES ({marks})", [*row.values()])
    connection.close()
    return folder


def pickle_of_a_tower(height: int = 60) -> bytes:
    """Return the pickle of a dict whose key is a tuple of 2 to the power of *height* parts."""
    return b"\x80\x02}K\x01" + b"2\x86" * height + b"K\x01s."


def pickle_of_deep_tuples(depth: int = 50_000) -> bytes:
    return b"\x80\x02}K\x01" + b"\x85" * depth + b"K\x01s."


def pickle_of_colliding_keys(count: int = 20_000) -> bytes:
    return pickle.dumps({n * (2**61 - 1): None for n in range(1, count)}, 2)


def compressed(data: bytes) -> bytes:
    return zlib.compress(data, 9)


LONG_MEMO = b"\x80\x02Nr" + struct.pack("<I", 1 << 26) + b"."
BOMB = b"\x80\x04\x96" + struct.pack("<Q", 1 << 40) + b"."
ROWS: dict[str, dict[str, Any]] = {
    "a text as the time of expiry": {**FINE, "key": "x", "expire_time": "soon"},
    "bytes as the time of expiry": {**FINE, "key": "x", "expire_time": b"1"},
    "no end as the time of expiry": {**FINE, "key": "x", "expire_time": float("inf")},
    "no key": {**FINE, "key": None},
    "no key that is a pickle": {**FINE, "key": None, "raw": 0},
    "a number as a pickled key": {**FINE, "key": 1 << 33, "raw": 0},
    "a text as a pickled key": {**FINE, "key": "x", "raw": 0},
    "a number as a file": {**FINE, "key": "x", "filename": b"1"},
    "a text that is no UTF-8": {**FINE, "key": "x", "filename": b"\xff\xff"},
    "an unknown kind": {**FINE, "key": "x", "mode": 99},
    "a kind that is a text": {**FINE, "key": "x", "mode": "four"},
    "a number as a pickle": {**FINE, "key": "x", "mode": 4, "value": 1 << 33},
    "nothing as a pickle": {**FINE, "key": "x", "mode": 4, "value": None},
    "a memo of half a gigabyte": {**FINE, "key": "x", "mode": 4, "value": LONG_MEMO[:-1] + b"0N."},
    "a byte array of a terabyte": {**FINE, "key": "x", "mode": 4, "value": BOMB},
    "a key that is a tower": {**FINE, "key": pickle_of_a_tower(), "raw": 0},
    "a value with a tower": {**FINE, "key": "x", "mode": 4, "value": pickle_of_a_tower()},
    "a value with deep tuples": {**FINE, "key": "x", "mode": 4, "value": pickle_of_deep_tuples()},
    "a value with keys that collide": {**FINE, "key": "x", "mode": 4, "value": pickle_of_colliding_keys()},
    "a value of empty lists": {**FINE, "key": "x", "mode": 4, "value": b"\x80\x02]" + b"]a" * 50_000 + b"."},
    "a stack that is empty": {**FINE, "key": "x", "mode": 4, "value": b"\x80\x02."},
    "a mark that is missing": {**FINE, "key": "x", "mode": 4, "value": b"\x80\x02t."},
    "a tag that is too long": {**FINE, "key": "x", "tag": "t" * 100_000},
    "a key that is too long": {**FINE, "key": "k" * 100_000},
}  # fmt: skip
JSON_ROWS: dict[str, dict[str, Any]] = {
    "JSON that unpacks to a gigabyte": {"key": compressed(b'"x"'), "value": compressed(b" " * (1 << 28))},
    "JSON of empty lists": {"key": compressed(b'"x"'), "value": compressed(b"[" + b"[]," * 9_000_000 + b"[]]")},
    "JSON that is deep": {"key": compressed(b'"x"'), "value": compressed(b"[" * 900_000)},
    "a deep key": {"key": compressed(b"[" * 900 + b"]" * 900), "value": compressed(b"1")},
    "no JSON": {"key": compressed(b'"x"'), "value": b"{}"},
    "a number": {"key": compressed(b'"x"'), "value": 5},
    "no key": {"key": None, "value": compressed(b"1")},
}  # fmt: skip


@pytest.mark.parametrize("what", ROWS)
def test_a_hostile_row_is_skipped_and_counted(
    tmp_path: Path, target: DiskCache, what: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(data_pickles, "_LEAST", 1 * MIB)
    folder = made_folder(tmp_path / "evil", ROWS[what], FINE)
    size = (folder / "cache.db").stat().st_size
    tracemalloc.start()
    try:
        report = import_diskcache(folder, target)
        assert tracemalloc.get_traced_memory()[1] < 64 * MIB + 4 * size
    finally:
        tracemalloc.stop()
    if what == "a memo of half a gigabyte":  # the memo costs nothing here
        assert target["x"] is None
    else:
        assert (report.imported, sum(report.skipped.values())) == (1, 1)
        assert not report.is_complete
    assert target["fine"] == "right"


@pytest.mark.parametrize("what", JSON_ROWS)
def test_a_hostile_row_of_json_is_skipped_and_counted(
    tmp_path: Path, target: DiskCache, what: str
) -> None:
    fine = {"key": compressed(b'"fine"'), "value": compressed(b'"right"')}
    folder = made_folder(tmp_path / "evil", JSON_ROWS[what], fine, json_disk=True)
    tracemalloc.start()
    try:
        report = import_diskcache(folder, target)
        assert tracemalloc.get_traced_memory()[1] < 100 * MIB
    finally:
        tracemalloc.stop()
    assert (report.imported, sum(report.skipped.values())) == (1, 1)
    assert target["fine"] == "right"


def test_reasons_and_files_are_bounded(tmp_path: Path, target: DiskCache) -> None:
    rows = [{**FINE, "key": n, "filename": f"{n}" * 900} for n in range(300)]
    folder = made_folder(tmp_path / "evil", *rows, {**FINE, "key": "x", "filename": "hole"}, FINE)
    (folder / "hole").touch()
    os.truncate(folder / "hole", 1 << 40)
    report = import_diskcache(folder, target)
    assert sum(report.skipped.values()) == 301
    assert len(report.skipped) <= 60
    assert max(map(len, report.skipped)) < 300
    assert any("larger" in reason for reason in report.skipped)


VIEW = """
CREATE TABLE Settings (key TEXT NOT NULL UNIQUE, value);
CREATE VIEW Cache AS WITH RECURSIVE n(rowid) AS (SELECT 1 UNION ALL SELECT rowid + 1 FROM n)
 SELECT rowid, 'k' AS key, 1 AS raw, 1 AS mode, NULL AS filename, 'v' AS value, NULL AS expire_time,
 NULL AS tag FROM n;
"""
SCHEMAS = {
    "no table of the cache": "CREATE TABLE Settings (key TEXT, value);",
    "no settings": SCHEMA[SCHEMA.index("CREATE TABLE Cache") :],
    "a view without end": VIEW,
    "a column that is computed": SCHEMA.replace(
        "value BLOB);", "value BLOB GENERATED ALWAYS AS (zeroblob(900000000)) VIRTUAL);"
    ),
    "a column that is missing": SCHEMA.replace("tag BLOB,", ""),
    "a table without numbers": SCHEMA.replace("value BLOB);", "value BLOB) WITHOUT ROWID;"),
    "settings that are a view": SCHEMA.replace(
        "CREATE TABLE Settings (key TEXT NOT NULL UNIQUE, value);",
        "CREATE VIEW Settings AS SELECT 'a' AS key, zeroblob(900000000) AS value;",
    ),
}


@pytest.mark.parametrize("what", SCHEMAS)
def test_a_database_of_another_shape_is_refused(
    tmp_path: Path, target: DiskCache, what: str
) -> None:
    folder = made_folder(tmp_path / "evil", schema=SCHEMAS[what])
    if what == "a table without numbers":  # its column of this name serves as well
        assert import_diskcache(folder, target).imported == 0
        return
    with pytest.raises(UnsuitableFolderError, match="no database of diskcache"):
        import_diskcache(folder, target)


def test_a_database_that_is_damaged_ends_in_an_error_of_ours(
    tmp_path: Path, target: DiskCache
) -> None:
    rows = [{**FINE, "key": f"k{n}", "value": "x" * 500} for n in range(400)]
    folder = made_folder(tmp_path / "evil", *rows)
    whole = (folder / "cache.db").read_bytes()
    for at in range(0, len(whole), 4096):
        for patch in (b"\xff" * 64, b"\x05\x00\x00\x00\x01\x00\x00\x00\x00\x00\x00\x02"):
            (folder / "cache.db").write_bytes(whole[:at] + patch + whole[at + len(patch) :])
            try:
                report = import_diskcache(folder, target)
            except UnsuitableFolderError:
                continue
            assert report.imported + report.done_before + sum(report.skipped.values()) <= 400


def test_rows_that_come_again_and_again_end(tmp_path: Path, target: DiskCache) -> None:
    """All pages of the tree lead to one leaf: so many times more rows than there are bytes."""
    rows = [{**FINE, "key": f"k{n}", "value": "x" * 500} for n in range(3000)]
    folder = made_folder(tmp_path / "evil", *rows)
    data = bytearray((folder / "cache.db").read_bytes())
    for page in range(4096, len(data), 4096):
        if data[page] == 5:  # an inner page of a table
            cells = struct.unpack_from(">H", data, page + 3)[0]
            first = struct.unpack_from(">H", data, page + 12)[0]
            child = data[page + first : page + first + 4]
            for cell in range(cells):
                at = struct.unpack_from(">H", data, page + 12 + 2 * cell)[0]
                data[page + at : page + at + 4] = child
    (folder / "cache.db").write_bytes(data)
    with pytest.raises(UnsuitableFolderError):
        import_diskcache(folder, target)


VALUES: list[Any] = [
    None, True, 1, -(2**70), 1.5, "é" * 300, b"x" * 300, bytearray(b"x"), [], [1, [2]], (), (1,), (1, 2, 3, 4),
    {}, {"a": {1: 2}}, {(1, 2): 3}, set(), {1, "a"}, frozenset([1]), {frozenset([1]): (b"", "")},
    [[1, 2]] * 3, [{n: str(n)} for n in range(300)],
]  # fmt: skip


def pickled_plainly() -> Iterator[tuple[Any, bytes]]:
    """Yield values and their pickles of each protocol, without those that call a name."""
    for value, protocol in itertools.product(VALUES, range(pickle.HIGHEST_PROTOCOL + 1)):
        data = pickle.dumps(value, protocol)
        if not any(name in data for name in (b"builtin", b"codecs", b"bytearray")):
            yield value, data


@pytest.mark.parametrize(("value", "data"), [*pickled_plainly()], ids=lambda part: repr(part)[:20])
def test_plain_data_are_read_as_python_reads_them(value: Any, data: bytes) -> None:
    found = read_data_pickle(data)
    assert found == value
    assert type(found) is type(value)
    assert repr(found) == repr(value)
