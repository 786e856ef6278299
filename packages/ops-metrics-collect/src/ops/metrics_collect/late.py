"""Late rows: what a closed slice has now and had not when it was shipped, by primary key.

The files of a collector are rewritten without the rows whose keys have arrived, line by line and
byte by byte as they were, and the keys of the rest are written to a file that the ledger reads when
the slice is closed. A key is one line: JSON text, so that any column value fits.
"""

from __future__ import annotations

import csv
import json
import pathlib
from typing import IO, TYPE_CHECKING, Any

from ops.metrics_collect.csv_parts import read_lines
from ops.metrics_collect.errors import ParameterError

if TYPE_CHECKING:
    import datetime as dt

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

    def gather(self) -> Gathered:
        """Gather, and drop the rows that are known."""
        result = self._collector.gather()
        if not result:
            return None
        if isinstance(result, dict):
            raise ParameterError(
                f"Collector {self.key!r} has a primary key, so it must give files."
            )
        files: list[Any] = []
        with self._keys_path.open("w", encoding="utf-8") as keys:
            for file in result:
                path = pathlib.Path(file)
                rows = self._rewrite(path, keys)
                self.fresh_rows += rows
                if rows:
                    files.append(path)
                else:
                    path.unlink()
        return files

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
        fresh = path.with_suffix(".fresh")
        with fresh.open("wb") as target:
            target.write(header)
            for line in lines:
                text = line.decode("utf-8", "surrogatepass")
                value = next(csv.reader(text.splitlines(keepends=True)))[position]
                key = json.dumps(value)
                if key not in self._known:
                    target.write(line)
                    keys.write(key + "\n")
                    rows += 1
        fresh.replace(path)
        return rows
