"""Reading the folders of diskcache: a SQLite file and the files of large values beside it.

Nothing in the folder is changed and no pickle is run unless the caller wants that (`data_pickles` reads those of
plain data). Anyone may have written the database, so its tables are tables, its rows have any types, and
how long SQLite works on it is bounded. The names of files are joined to the folder only when they stay inside.

A row of `Cache` has `key` and `raw` (0: the key is a pickle), `mode` (1 as it is, 2 bytes, 3 text, 4
pickle), `filename` or `value`, `expire_time` in seconds since the epoch, and `tag`. Folders of `JSONDisk` have
compressed JSON instead of both.
"""

from __future__ import annotations

import contextlib
import itertools
import json
import math
import os
import pathlib
import pickle
import re
import shutil
import sqlite3
import tempfile
import time
import zlib
from typing import TYPE_CHECKING, Any, Literal, NamedTuple, Self

from ops.cache.diskcache.data_pickles import OtherOpcodeError, read_data_pickle
from ops.cache.errors import CacheError, UnsuitableFolderError
from ops.foundation.paths import RelativePath, is_there, listed
from ops.serialize.errors import in_words

if TYPE_CHECKING:
    from collections.abc import Iterator

    from ops.foundation.files import StrPath

__all__ = [
    "Pickles",
    "Row",
    "Store",
    "UnreadableRowError",
    "refuse_folder_of_diskcache",
    "stores_in",
]

Pickles = Literal["skip", "data", "run"]
_PICKLE = 4
_TEXT = 3
_MODES = frozenset((1, 2, _TEXT, _PICKLE))
_DEEPEST_KEY = 50
_SHARD = re.compile(r"\d{3}", re.ASCII)
_NESTED = ("cache", "deque", "index")
_TABLES = {"Cache", "Settings"}
_COLUMNS = {"key", "raw", "mode", "filename", "value", "expire_time", "tag"}
_LEAST_STEPS, _STEPS_PER_BYTE, _STEPS_AT_ONCE = 4_000_000, 16, 10_000  # of SQLite's machine
_LEAST_LENGTH, _MOST_LENGTH = 1 << 20, 1_000_000_000  # bytes of a row
_LEAST_JSON, _TIMES_JSON = 32 << 20, 16  # bytes that JSON may take, beside so many times its own


class UnreadableRowError(CacheError, ValueError):
    """A row whose key or value was not read; the message has the reason."""


class Row(NamedTuple):
    """One entry, not decoded yet."""

    number: int
    key: Any
    is_raw: bool
    mode: Any
    filename: Any
    value: Any
    expires: Any
    tag: Any

    def time_left(self) -> float | None:
        """Return the seconds that the entry has left, None for ever; raises `UnreadableRowError`."""
        if self.expires is None:
            return None
        if type(self.expires) not in {int, float} or not math.isfinite(self.expires):
            raise UnreadableRowError("its time of expiry is no number")
        return float(self.expires - time.time())


class Store:
    """One database of diskcache, and where its entries belong: names of nested stores.

    Args:
        folder: The folder that holds `cache.db`.
        names: Kind and name of a store within a `FanoutCache`, none for others.
    """

    def __init__(self, folder: pathlib.Path, names: tuple[str, ...] = ()) -> None:
        self.folder = folder
        self.names = names

    def __enter__(self) -> Self:
        with contextlib.ExitStack() as opened:
            copies = tempfile.TemporaryDirectory(prefix="ops-cache-import-")
            self._copies = pathlib.Path(opened.enter_context(copies))
            with self._as_ours():
                self._connection = opened.enter_context(contextlib.closing(self._connect()))
                self._limit()
                self._check_schema()
                self._is_json = self._setting("disk_compress_level") is not None
            self._opened = opened.pop_all()
        return self

    def __exit__(self, *_exc: object) -> None:
        self._opened.close()

    def _connect(self) -> sqlite3.Connection:
        """Open a copy where a log lies beside the database: reading it there would write to the folder."""
        path = self.folder / "cache.db"
        log = path.with_name("cache.db-wal")
        if is_there(log) and log.stat().st_size:
            size = path.stat().st_size + log.stat().st_size
            if size > shutil.disk_usage(self._copies).free:
                raise sqlite3.DatabaseError("a copy of it and of its log would fill the disk")
            copy = self._copies / "cache.db"
            shutil.copyfile(path, copy)
            shutil.copyfile(log, copy.with_name("cache.db-wal"))
            return sqlite3.connect(copy)
        return sqlite3.connect(f"{path.absolute().as_uri()}?mode=ro&immutable=1", uri=True)

    @contextlib.contextmanager
    def _as_ours(self) -> Iterator[None]:
        try:
            yield
        except (sqlite3.Error, OverflowError) as error:
            raise UnsuitableFolderError(
                f"{self.folder / 'cache.db'} is no database of diskcache 5: {in_words(error)}",
                suggestions=("Nothing more can be read of it. Give a folder of diskcache 5.",),
            ) from error

    def _limit(self) -> None:
        """Let no row be longer than the file, and no search take much longer than it is long."""
        connection = self._connection
        size = (self.folder / "cache.db").stat().st_size
        connection.text_factory = _text
        connection.execute("PRAGMA trusted_schema = OFF")
        connection.execute("PRAGMA cell_size_check = ON")
        if hasattr(connection, "setlimit"):
            most = min(max(size, _LEAST_LENGTH), _MOST_LENGTH)
            connection.setlimit(sqlite3.SQLITE_LIMIT_LENGTH, most)
        calls = itertools.count()
        most_calls = (_LEAST_STEPS + _STEPS_PER_BYTE * size) // _STEPS_AT_ONCE
        connection.set_progress_handler(lambda: next(calls) > most_calls, _STEPS_AT_ONCE)

    def _check_schema(self) -> None:
        """Refuse anything but plain tables: views and computed columns are programs."""
        found = self._connection.execute("SELECT name, type, sql FROM sqlite_master").fetchall()
        kinds = {name: kind for name, kind, _ in found if name in _TABLES}
        virtual = any("virtual" in str(sql).lower() for name, _, sql in found if name in _TABLES)
        columns = self._connection.execute("PRAGMA table_xinfo(Cache)").fetchall()
        names = {column[1] for column in columns if not column[6]}
        if kinds != dict.fromkeys(_TABLES, "table") or virtual or not names >= _COLUMNS:
            raise sqlite3.DatabaseError("it has no tables Cache and Settings")

    def _setting(self, name: str) -> Any:
        found = self._connection.execute("SELECT value FROM Settings WHERE key = ?", (name,))
        row = found.fetchone()
        return None if row is None else row[0]

    def count(self, after: int = 0) -> int:
        """Return the number of rows behind number *after*; raises `UnsuitableFolderError`."""
        sql = "SELECT COUNT(*) FROM Cache NOT INDEXED WHERE rowid > ?"
        with self._as_ours():
            return int(self._connection.execute(sql, (after,)).fetchone()[0])

    def rows(self, after: int = 0) -> Iterator[Row]:
        """Yield the rows in the order in which they came, from the one behind number *after* on.

        Raises `UnsuitableFolderError` where the database is damaged.
        """
        with self._as_ours():
            found = self._connection.execute(
                "SELECT rowid, key, raw, mode, filename, value, expire_time, tag FROM Cache NOT INDEXED"
                " WHERE rowid > ? ORDER BY rowid",
                (after,),
            )
            for number, key, raw, *rest in found:
                if number <= after:
                    raise sqlite3.DatabaseError("its rows are not in order")
                after = number
                yield Row(number, key, bool(raw), *rest)

    def key(self, row: Row, pickles: Pickles) -> Any:
        """Return the key of a row; raises `UnreadableRowError`."""
        if self._is_json:
            return _as_key(_from_json(row.key))
        if not row.is_raw:
            return _from_pickle(row.key, pickles, "key")
        if row.key is None:
            raise UnreadableRowError("it has no key")
        return row.key

    def value(self, row: Row, pickles: Pickles, most: int) -> Any:
        """Return the value of a row, of at most *most* bytes; raises `UnreadableRowError`."""
        data = row.value if row.filename is None else self._content(row.filename, most)
        if self._is_json:
            return _from_json(data)
        if type(row.mode) is not int or row.mode not in _MODES:
            raise UnreadableRowError("its kind of value is unknown")
        if row.mode == _PICKLE:
            return _from_pickle(data, pickles, "value")
        if row.mode == _TEXT and isinstance(data, bytes):
            try:
                return data.decode("utf-8")
            except UnicodeDecodeError as error:
                raise UnreadableRowError("its text is no UTF-8") from error
        return data

    def _content(self, name: Any, most: int) -> bytes:
        if type(name) is not str:
            raise UnreadableRowError("the name of its file is no text")
        try:
            with RelativePath(name.replace("\\", "/")).open(self.folder) as file:
                size = os.fstat(file.fileno()).st_size
                if size <= most:
                    return file.read(size)
        except (OSError, ValueError) as error:
            kind = type(error).__name__
            raise UnreadableRowError(f"its file cannot be read: {kind}") from error
        raise UnreadableRowError("its file is larger than the cache may be")


def refuse_folder_of_diskcache(folder: StrPath) -> None:
    """Raise `UnsuitableFolderError` where diskcache's own data lie, which would look like an empty cache."""
    root = pathlib.Path(folder)
    if (root / "cache.db").is_file() or (root / "000" / "cache.db").is_file():
        raise UnsuitableFolderError(
            f"{folder} was written by diskcache itself; nothing in it would be found here.",
            suggestions=(
                f"Import it into another folder: ops-cache import-diskcache {folder} NEW",
            ),
        )


def stores_in(folder: StrPath) -> list[Store]:
    """Return the stores in *folder*: of a `Cache`, `Index` or `Deque`, or those of a `FanoutCache`.

    Raises `UnsuitableFolderError` when there is none.
    """
    root = pathlib.Path(folder)
    if (root / "cache.db").is_file():
        return [Store(root)]
    shards = sorted(
        p for p in listed(root) if _SHARD.fullmatch(p.name) and (p / "cache.db").is_file()
    )
    nested = [
        Store(path.parent, (kind, *path.parent.relative_to(root / kind).parts))
        for kind in _NESTED
        for path in sorted(_databases_below(root / kind))
    ]
    found = [*map(Store, shards), *nested]
    if not found:
        raise UnsuitableFolderError(
            f"There is no cache.db in {root}, and no shard 000 with one.",
            suggestions=("Give the folder that diskcache was opened with.",),
        )
    return found


def _databases_below(folder: pathlib.Path) -> Iterator[pathlib.Path]:
    for each in listed(folder):
        if each.is_dir() and not each.is_symlink():
            yield from _databases_below(each)
        elif each.name == "cache.db":
            yield each


def _from_json(data: Any) -> Any:
    if type(data) is not bytes:
        raise UnreadableRowError("it is no compressed JSON")
    most = _LEAST_JSON + _TIMES_JSON * len(data)
    try:
        text = zlib.decompressobj().decompress(data, most)
        taken = 80 * (text.count(b"[") + text.count(b"{")) + 48 * text.count(b",") + len(text)
        if taken > most:
            raise UnreadableRowError("its JSON would take too much memory")
        return json.loads(text)
    except (zlib.error, ValueError, RecursionError) as error:
        raise UnreadableRowError(f"it is no compressed JSON: {in_words(error)}") from error


def _as_key(value: Any, depth: int = 0) -> Any:
    if depth > _DEEPEST_KEY:
        raise UnreadableRowError("its key is nested too deeply")
    return tuple(_as_key(part, depth + 1) for part in value) if isinstance(value, list) else value


def _from_pickle(data: Any, pickles: Pickles, what: str) -> Any:
    if type(data) is not bytes:
        raise UnreadableRowError(f"its {what} is no pickle")
    if pickles == "run":
        try:
            return pickle.loads(data)  # noqa: S301 - the caller wants it
        except Exception as error:
            raise UnreadableRowError(
                f"its {what} cannot be unpickled: {in_words(error)}"
            ) from error
    if pickles == "skip":
        raise UnreadableRowError(f"its {what} is a pickle")
    try:
        return read_data_pickle(data)
    except OtherOpcodeError as error:
        raise UnreadableRowError(f"its {what} is a pickle of more than plain data") from error
    except Exception as error:  # damaged ones fail in many ways
        raise UnreadableRowError(f"its {what} is a damaged pickle: {in_words(error)}") from error


def _text(data: bytes) -> str | bytes:
    try:
        return data.decode()
    except UnicodeDecodeError:
        return data  # a column of text that is none; nothing takes it for one
