"""Late rows: what a closed slice has now and had not when it was shipped, by primary key.

The files of a collector are rewritten without the rows whose keys have arrived, line by line and
byte by byte as they were, and the keys of the rest are written to a file that the ledger reads when
the slice is closed. A key is one line: JSON text, so that any column value fits.
"""

from __future__ import annotations

import csv
import json
import pathlib
from typing import IO, TYPE_CHECKING

from ops.foundation.files import atomic_write
from ops.metrics_collect.csv_parts import read_lines
from ops.metrics_collect.errors import ParameterError

if TYPE_CHECKING:
    import datetime as dt
    import os

    from ops.metrics_collect.collectors import Collector
    from ops.metrics_collect.collectors._base import Gathered

__all__ = ["FreshCollector"]


class FreshCollector:
    """A collector of new rows only; after `gather`, `fresh_rows` says how many there were."""

    def __init__(
        self, collector: Collector, primary_key: str, known: set[str], keys_path: pathlib.Path
    ) -> None:
        self.key = collector.key
        self.version = collector.version
        self.primary_key = primary_key
        self.kwargs = collector.kwargs
        self.since: dt.datetime | None = collector.since
        self.until: dt.datetime | None = collector.until
        self.fresh_rows = 0
        self._collector = collector
        self._known = known
        self._keys_path = keys_path

    def into(self, folder: str | os.PathLike[str]) -> FreshCollector:
        """Let the collector write its files into *folder*, unless it was told where to."""
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
            with self._keys_path.open("w", encoding="utf-8") as keys:
                return [path for path in paths if self._keep_fresh(path, keys)]
        except BaseException:
            for path in paths:
                path.unlink(missing_ok=True)
            raise

    def _keep_fresh(self, path: pathlib.Path, keys: IO[str]) -> bool:
        """Rewrite a file; False when nothing of it is left."""
        rows = self._rewrite(path, keys)
        self.fresh_rows += rows
        if not rows:
            path.unlink()
        return rows > 0

    def _rewrite(self, path: pathlib.Path, keys: IO[str]) -> int:
        lines = read_lines(path)
        header = next(lines, b"")
        columns = next(csv.reader([header.decode("utf-8")]), [])
        if self.primary_key not in columns:
            raise ParameterError(
                f"Collector {self.key!r}: primary key {self.primary_key!r} is no column; "
                f"there are {columns}."
            )
        position = columns.index(self.primary_key)
        rows = 0
        with atomic_write(path, "wb", durable="none") as target:
            target.write(header)
            for line in lines:
                text = line.decode("utf-8", "surrogatepass")
                value = next(csv.reader(text.splitlines(keepends=True)))[position]
                key = json.dumps(value)
                if key not in self._known:
                    target.write(line)
                    keys.write(key + "\n")
                    rows += 1
        return rows
