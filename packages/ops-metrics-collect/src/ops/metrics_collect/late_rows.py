"""Late rows: what a closed slice has now and had not when it was shipped, by primary key.

The files of a collector, CSV or Parquet, are rewritten without the rows whose keys have arrived, lines
of CSV byte by byte as they were, and the keys of the rest are added to a file that the ledger reads when
the slice is closed. A key is one line: JSON text, so that any column value fits.
"""

from __future__ import annotations

import csv
import json
import pathlib
import re
from typing import IO, TYPE_CHECKING, Any

from ops.foundation.files import atomic_write
from ops.metrics_collect.csv_parts import read_lines
from ops.metrics_collect.errors import ParameterError
from ops.metrics_collect.rows import documents_of, texts_of

if TYPE_CHECKING:
    import datetime as dt
    import os

    from ops.metrics_collect.collectors import Collector
    from ops.metrics_collect.collectors._base import Gathered

__all__ = ["FreshCollector"]

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
                if self._is_fresh(_field(text, position), keys):
                    target.write(line)
                    rows += 1
        return rows

    def _rewrite_json(self, path: pathlib.Path, keys: IO[str]) -> int:
        documents = documents_of(path)
        for document in documents:
            self._position(list(document))
        fresh = [d for d in documents if self._is_fresh(_text(d[self.primary_key]), keys)]
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
                fresh = batch.filter([self._is_fresh(value or "", keys) for value in values])
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

    def _is_fresh(self, value: str, keys: IO[str]) -> bool:
        """Say whether a row is new, and note its key if it is."""
        key = json.dumps(value)
        if key in self._known:
            return False
        keys.write(key + "\n")
        return True


def _text(value: Any) -> str:
    if value is None or isinstance(value, str):
        return value or ""
    return json.dumps(value, sort_keys=True, ensure_ascii=False)


def _field(record: str, position: int) -> str:
    """Return one field of a record of CSV."""
    try:
        return next(csv.reader(record.splitlines(keepends=True)))[position]
    except csv.Error:  # a field of more than 131 072 characters; the limit is of the whole process
        at, found = 0, ""
        for _ in range(position + 1):
            match = _FIELD.match(record, at)
            assert match is not None  # noqa: S101 - it matches nothing, too
            quoted, plain = match.groups()
            found = plain if quoted is None else quoted.replace('""', '"')
            at = match.end() + 1
        return found
