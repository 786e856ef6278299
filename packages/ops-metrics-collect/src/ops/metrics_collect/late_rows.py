"""Late rows: what a closed slice has now and had not when it was shipped, by primary key.

The files of a collector, CSV or Parquet, are rewritten without the rows whose keys have arrived, lines
of CSV byte by byte as they were, and the keys of the rest are added to a file that the ledger reads when
the slice is closed. A key is one line: JSON text, so that any column value fits. A row whose key is NULL is
known by all of its fields.
"""

from __future__ import annotations

import csv
import json
import pathlib
import re
from hashlib import blake2b
from typing import IO, TYPE_CHECKING, Any

from ops.foundation.files import atomic_write
from ops.metrics_collect.csv_parts import read_lines
from ops.metrics_collect.errors import ParameterError
from ops.metrics_collect.rows import documents_of, texts_of

if TYPE_CHECKING:
    import datetime as dt
    import os
    from collections.abc import Callable, Iterator, Sequence

    import pyarrow as pa

    from ops.metrics_collect.collectors import Collector
    from ops.metrics_collect.collectors._base import Gathered

__all__ = ["FreshCollector", "key_without_key"]

_FIELD = re.compile(r'"([^"]*(?:""[^"]*)*)"|([^,\r\n]*)')


class FreshCollector:
    """A collector of new rows only; after `gather`, `fresh_rows` is their number."""

    def __init__(
        self, collector: Collector, primary_key: str, known: set[str], keys_path: pathlib.Path
    ) -> None:
        self.key: str = collector.key
        self.version: str = collector.version
        self.version_column: str | None = collector.version_column
        self.primary_key = primary_key
        self.kwargs: dict[str, Any] = collector.kwargs
        self.since: dt.datetime | None = collector.since
        self.until: dt.datetime | None = collector.until
        self.fresh_rows: int = 0
        self._collector = collector
        self._known = known
        # Versions before this one took all rows without a key for one, with the empty text as its key.
        self._has_nulls = _EMPTY in known and not any(k.startswith(_WITHOUT) for k in known)
        self._keys_path = keys_path

    def into(self, folder: str | os.PathLike[str]) -> FreshCollector:
        """Let the collector write its files into *folder*, unless one was given."""
        self._collector = self._collector.into(folder)
        return self

    def gather(self) -> Gathered:
        """Gather, and drop the rows that are known."""
        result = self._collector.gather()
        if not result:
            return None
        if isinstance(result, dict):
            raise ParameterError(
                f"Collector {self.key!r} has a primary key, so it must give files."
            )
        paths = [pathlib.Path(file) for file in result]
        try:
            with self._keys_path.open("a", encoding="utf-8") as keys:
                return [path for path in paths if self._keep_fresh(path, keys)]
        except BaseException:
            for path in paths:
                path.unlink(missing_ok=True)
            raise

    def _keep_fresh(self, path: pathlib.Path, keys: IO[str]) -> bool:
        """Rewrite a file; False when nothing of it is left."""
        kinds = {".parquet": self._rewrite_parquet, ".json": self._rewrite_json}
        rows = kinds.get(path.suffix.lower(), self._rewrite)(path, keys)
        self.fresh_rows += rows
        if not rows:
            path.unlink()
        return rows > 0

    def _rewrite(self, path: pathlib.Path, keys: IO[str]) -> int:
        lines = read_lines(path)
        header = next(lines, b"")
        columns = next(csv.reader([header.decode("utf-8-sig")]), [])
        position = self._position(columns)
        rows = 0
        with atomic_write(path, "wb", durable="none") as target:
            target.write(header)
            for line in lines:
                text = line.decode("utf-8", "surrogatepass")
                key: str | None = _field(text, position)
                if not key and _is_null(text, position):
                    key = None
                if self._is_fresh(key, lambda: _fields(text), keys):  # noqa: B023 - called at once
                    target.write(line)
                    rows += 1
        return rows

    def _rewrite_json(self, path: pathlib.Path, keys: IO[str]) -> int:
        documents = documents_of(path)
        for document in documents:
            self._position(list(document))
        fresh = [
            document
            for document in documents
            if self._is_fresh(
                _text(document[self.primary_key]),
                lambda: [_text(v) for v in document.values()],  # noqa: B023 - called at once
                keys,
            )
        ]
        path.write_text(json.dumps(fresh, ensure_ascii=False), "utf-8")
        return len(fresh)

    def _rewrite_parquet(self, path: pathlib.Path, keys: IO[str]) -> int:
        from pyarrow import parquet

        rows = 0
        with (
            parquet.ParquetFile(path) as source,
            atomic_write(path, "wb", durable="none") as target,
            parquet.ParquetWriter(target, source.schema_arrow, compression="zstd") as writer,
        ):
            position = self._position(source.schema_arrow.names)
            for batch in source.iter_batches():
                values = texts_of(batch.column(position)).to_pylist()
                fresh = batch.filter(
                    [
                        self._is_fresh(value, lambda: _row(batch, number), keys)  # noqa: B023 - called at once
                        for number, value in enumerate(values)
                    ]
                )
                rows += fresh.num_rows
                writer.write_batch(fresh)
        return rows

    def _position(self, columns: list[str]) -> int:
        if self.primary_key not in columns:
            raise ParameterError(
                f"Collector {self.key!r}: primary key {self.primary_key!r} is no column; "
                f"there are {columns}."
            )
        return columns.index(self.primary_key)

    def _is_fresh(
        self, value: str | None, fields: Callable[[], Sequence[str | None]], keys: IO[str]
    ) -> bool:
        """Say whether a row is new, and note its key if it is."""
        key = json.dumps(value)
        if value is None:
            if self._has_nulls:
                return False
            key = key_without_key(fields())
        if key in self._known:
            return False
        keys.write(key + "\n")
        return True


_EMPTY = json.dumps("")
_WITHOUT = json.dumps("\0")[:-1]


def key_without_key(fields: Sequence[str | None]) -> str:
    """Return the entry among the keys of a slice for a row whose primary key is NULL."""
    content = json.dumps([field or "" for field in fields])
    return json.dumps(f"\0{blake2b(content.encode(), digest_size=12).hexdigest()}")


def _row(batch: pa.RecordBatch, number: int) -> list[str | None]:
    return [texts_of(column.slice(number, 1)).to_pylist()[0] for column in batch.columns]


def _text(value: Any) -> str | None:
    if value is None or isinstance(value, str):
        return value
    return json.dumps(value, sort_keys=True, ensure_ascii=False)


def _fields(record: str) -> list[str]:
    """Return the fields of a record of CSV."""
    try:
        return next(csv.reader(record.splitlines(keepends=True)), [""])
    except csv.Error:  # a field of more than 131 072 characters; the limit is of the whole process
        return [quoted.replace('""', '"') or plain for quoted, plain in _matched(record)]


def _field(record: str, position: int) -> str:
    """Return one field of a record of CSV; that of an empty line is empty."""
    fields = _fields(record)
    return fields[position] if fields else ""


def _is_null(record: str, position: int) -> bool:
    """Say whether a field that is empty is without quotes."""
    at = 0
    for _ in range(position):
        match = _FIELD.match(record, at)
        assert match is not None  # noqa: S101 - it matches nothing, too
        at = match.end() + 1
    return not record.startswith('"', at)


def _matched(record: str) -> Iterator[tuple[str, str]]:
    at = 0
    while at <= len(record):
        match = _FIELD.match(record, at)
        assert match is not None  # noqa: S101 - it matches nothing, too
        yield match[1] or "", match[2] or ""
        at = match.end() + 1
        if record[match.end() : at] != ",":
            return
