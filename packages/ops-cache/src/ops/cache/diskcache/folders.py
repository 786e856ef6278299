"""Reading the folders of diskcache: a SQLite file and the files of large values beside it.

Nothing in the folder is changed and no pickle is run unless the caller wants that. A pickle that is made of
nothing but plain data is read by the opcodes that make plain data, and by no other. The names of files in the
database are joined to the folder only when they stay inside.

A row of `Cache` has `key` and `raw` (0: the key is a pickle), `mode` (1 as it is, 2 bytes, 3 text, 4
pickle), `filename` or `value`, `expire_time` in seconds since the epoch, and `tag`. Folders of `JSONDisk` have
compressed JSON instead of both.
"""

from __future__ import annotations

import contextlib
import io
import json
import pathlib
import pickle
import pickletools
import re
import shutil
import sqlite3
import tempfile
import zlib
from typing import TYPE_CHECKING, Any, Literal, NamedTuple, Self

from ops.cache.errors import CacheError, UnsuitableFolderError
from ops.foundation.paths import RelativePath

if TYPE_CHECKING:
    from collections.abc import Iterator

    from ops.foundation.files import StrPath

__all__ = ["Pickles", "Row", "Store", "UnreadableRowError", "stores_in"]

Pickles = Literal["skip", "data", "run"]
_PICKLE = 4
_TEXT = 3
_SHARD = re.compile(r"\d{3}", re.ASCII)
_NESTED = ("cache", "deque", "index")
_MOST_JSON = 1 << 30
_DATA_OPCODES = frozenset(
    [
        "PROTO",
        "FRAME",
        "STOP",
        "MARK",
        "POP",
        "POP_MARK",
        "MEMOIZE",
        "PUT",
        "BINPUT",
        "LONG_BINPUT",
        "GET",
        "BINGET",
        "LONG_BINGET",
        "NONE",
        "NEWTRUE",
        "NEWFALSE",
        "INT",
        "BININT",
        "BININT1",
        "BININT2",
        "LONG",
        "LONG1",
        "LONG4",
        "FLOAT",
        "BINFLOAT",
        "UNICODE",
        "BINUNICODE",
        "SHORT_BINUNICODE",
        "BINUNICODE8",
        "BINBYTES",
        "SHORT_BINBYTES",
        "BINBYTES8",
        "BYTEARRAY8",
        "EMPTY_LIST",
        "LIST",
        "APPEND",
        "APPENDS",
        "EMPTY_TUPLE",
        "TUPLE",
        "TUPLE1",
        "TUPLE2",
        "TUPLE3",
        "EMPTY_DICT",
        "DICT",
        "SETITEM",
        "SETITEMS",
        "EMPTY_SET",
        "ADDITEMS",
        "FROZENSET",
    ]
)


class UnreadableRowError(CacheError, ValueError):
    """A row whose key or value was not read; the message has the reason."""


class Row(NamedTuple):
    """One entry, not decoded yet."""

    number: int
    key: Any
    is_raw: bool
    mode: int
    filename: str | None
    value: Any
    expires: float | None
    tag: Any


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
            try:
                self._connection = opened.enter_context(contextlib.closing(self._connect()))
                self._is_json = self._setting("disk_compress_level") is not None
            except sqlite3.DatabaseError as error:
                raise UnsuitableFolderError(
                    f"{self.folder / 'cache.db'} is no database of diskcache 5: {error}"
                ) from error
            self._opened = opened.pop_all()
        return self

    def __exit__(self, *_exc: object) -> None:
        self._opened.close()

    def _connect(self) -> sqlite3.Connection:
        """Open a copy where a log lies beside the database: reading it there would write to the folder."""
        path = self.folder / "cache.db"
        log = path.with_name("cache.db-wal")
        if log.exists() and log.stat().st_size:
            copy = self._copies / "cache.db"
            shutil.copyfile(path, copy)
            shutil.copyfile(log, copy.with_name("cache.db-wal"))
            return sqlite3.connect(copy)
        return sqlite3.connect(f"{path.absolute().as_uri()}?mode=ro&immutable=1", uri=True)

    def _setting(self, name: str) -> Any:
        found = self._connection.execute("SELECT value FROM Settings WHERE key = ?", (name,))
        row = found.fetchone()
        return None if row is None else row[0]

    def count(self, after: int = 0) -> int:
        """Return the number of rows behind number *after*."""
        sql = "SELECT COUNT(*) FROM Cache WHERE rowid > ?"
        return int(self._connection.execute(sql, (after,)).fetchone()[0])

    def rows(self, after: int = 0) -> Iterator[Row]:
        """Yield the rows in the order in which they came, from the one behind number *after* on."""
        found = self._connection.execute(
            "SELECT rowid, key, raw, mode, filename, value, expire_time, tag FROM Cache"
            " WHERE rowid > ? ORDER BY rowid",
            (after,),
        )
        for number, key, raw, *rest in found:
            yield Row(number, key, bool(raw), *rest)

    def key(self, row: Row, pickles: Pickles) -> Any:
        """Return the key of a row; raises `UnreadableRowError`."""
        if self._is_json:
            return _as_key(_from_json(row.key))
        return row.key if row.is_raw else _from_pickle(bytes(row.key), pickles, "key")

    def value(self, row: Row, pickles: Pickles) -> Any:
        """Return the value of a row; raises `UnreadableRowError`."""
        data = row.value
        if row.filename is not None:
            try:
                data = RelativePath(row.filename.replace("\\", "/")).read_bytes(self.folder)
            except (OSError, ValueError) as error:
                raise UnreadableRowError(f"its file cannot be read: {error}") from error
        if self._is_json:
            return _from_json(data)
        if row.mode == _PICKLE:
            return _from_pickle(bytes(data), pickles, "value")
        if row.mode == _TEXT and isinstance(data, bytes):
            try:
                return data.decode("utf-8")
            except UnicodeDecodeError as error:
                raise UnreadableRowError(f"its text is no UTF-8: {error}") from error
        return data


def stores_in(folder: StrPath) -> list[Store]:
    """Return the stores in *folder*: of a `Cache`, `Index` or `Deque`, or those of a `FanoutCache`.

    Raises `UnsuitableFolderError` when there is none.
    """
    root = pathlib.Path(folder)
    if (root / "cache.db").is_file():
        return [Store(root)]
    shards = sorted(
        p for p in root.glob("*") if _SHARD.fullmatch(p.name) and (p / "cache.db").is_file()
    )
    nested = [
        Store(path.parent, (kind, *path.parent.relative_to(root / kind).parts))
        for kind in _NESTED
        for path in sorted((root / kind).glob("**/cache.db"))
    ]
    found = [*map(Store, shards), *nested]
    if not found:
        raise UnsuitableFolderError(
            f"There is no cache.db in {root}, and no shard 000 with one.",
            suggestions=("Give the folder that diskcache was opened with.",),
        )
    return found


def _from_json(data: Any) -> Any:
    try:
        unpacker = zlib.decompressobj()
        text = unpacker.decompress(data, _MOST_JSON)
        return json.loads(text)
    except (zlib.error, ValueError, TypeError, RecursionError) as error:
        raise UnreadableRowError(f"it is no compressed JSON: {error}") from error


def _as_key(value: Any) -> Any:
    return tuple(map(_as_key, value)) if isinstance(value, list) else value


def _from_pickle(data: bytes, pickles: Pickles, what: str) -> Any:
    if pickles == "run":
        try:
            return pickle.loads(data)  # noqa: S301 - the caller wants it
        except Exception as error:
            raise UnreadableRowError(f"its {what} cannot be unpickled: {error}") from error
    if pickles == "skip":
        raise UnreadableRowError(f"its {what} is a pickle")
    try:
        odd = {op.name for op, _, _ in pickletools.genops(data)} - _DATA_OPCODES
        if not odd:
            return _DataUnpickler(io.BytesIO(data)).load()
    except Exception as error:
        raise UnreadableRowError(f"its {what} is a damaged pickle: {error}") from error
    raise UnreadableRowError(f"its {what} is a pickle of more than plain data")


class _DataUnpickler(pickle.Unpickler):
    """Reads streams that were found to have no opcode that looks a name up; it would refuse them too."""

    def find_class(self, module: str, name: str) -> Any:
        raise pickle.UnpicklingError(f"{module}.{name} is not looked up")
