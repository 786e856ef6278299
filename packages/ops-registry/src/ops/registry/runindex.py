"""The index of an experiment's runs: which there are and what they came to, without opening each.

Starting and ending a run append its row to the newest segment, ``index/{n}.log``; logging to a run
that has ended appends that its row is stale. `compact` folds segments into ``index.parquet``:

1. under the lock, a new empty segment is made, so that nobody appends to the older ones any more;
2. base and older segments are folded into a temporary Parquet file, whose metadata says through
   which segment;
3. `os.replace` makes it the base: the commit point. Then the folded segments are deleted.

A crash before 3 leaves the base and all segments; one after it leaves segments that the base says
are folded and that readers skip. The Parquet file has a wide column per metric, parameter and tag
for people and their tools, and the exact rows as JSON for `rows`. Rows of runs that are still
running, or stale, are completed from the run's own journals, which are the truth.
"""

from __future__ import annotations

import os
import pathlib
import threading
from typing import TYPE_CHECKING, Any

from ops.foundation.files import atomic_write
from ops.foundation.locks import FileLock
from ops.registry.errors import CorruptStoreError, RunNotFoundError
from ops.registry.journal import JournalReader, JournalWriter, decode, encode
from ops.registry.records import RunStatus
from ops.registry.runlog import MAIN, RunReader

if TYPE_CHECKING:
    from collections.abc import Iterable

    from ops.foundation.files import Durability

__all__ = ["RunIndex"]

#: Tails longer than this are folded by whoever searches, who has to read them anyway.
LONG_TAIL = 1000
#: Rarer keys are only in the JSON of a row: a table with thousands of columns helps nobody.
WIDE_COLUMNS = 500


class RunIndex:
    """The index in the folder of one experiment's runs; the folder appears with the first append."""

    def __init__(self, folder: pathlib.Path, *, durable: bool = False) -> None:
        self.folder = folder
        self.parquet = folder / "index.parquet"
        self._segments = folder / "index"
        self._durable = durable
        self._lock = FileLock(self._segments / ".lock", timeout=60)
        self._turn = threading.RLock()  # between threads that read through this object
        self._writer: tuple[int, JournalWriter] | None = None
        self._base_key: tuple[int, int] | None = None
        self._through = -1
        self._rows: dict[str, dict[str, Any]] = {}
        self._stale: set[str] = set()
        self._tail: dict[int, JournalReader] = {}
        self._live: dict[str, RunReader] = {}

    def put(self, row: dict[str, Any]) -> None:
        """Append what is known of a run now."""
        self._append({"row": row})

    def mark_stale(self, run_id: str) -> None:
        """Append that the row of a run that had ended is not the last word."""
        self._append({"stale": run_id})

    def rows(self) -> list[dict[str, Any]]:
        """Return the current row of every run, oldest first."""
        with self._turn:
            return self._all_rows()

    def _all_rows(self) -> list[dict[str, Any]]:
        if not self._segments.is_dir():
            return []
        with self._lock:  # no segment is deleted while they are read
            self._refresh()
        if sum(reader.offset for reader in self._tail.values()) > LONG_TAIL * 400:
            self.compact()
            with self._lock:
                self._refresh()
        return sorted(
            (self._completed(run_id, row) for run_id, row in self._rows.items()),
            key=lambda row: (row["start"], row["run_id"]),
        )

    def compact(self) -> int:
        """Fold everything into ``index.parquet`` and return the number of runs in it."""
        if not self._segments.is_dir():
            return 0
        with self._turn, FileLock(self._segments / ".compact", timeout=600):
            with self._lock:
                newest = self._newest()
                JournalWriter(self._segment(newest + 1)).close()
                self._refresh()
                rows = {run_id: self._completed(run_id, row) for run_id, row in self._rows.items()}
            self._write_base(rows.values(), newest)
            self._drop_through(newest)
        return len(rows)

    def rebuild(self) -> int:
        """Forget the index, make it again from the runs' journals, and return their number."""
        self._segments.mkdir(parents=True, exist_ok=True)
        with self._turn, FileLock(self._segments / ".compact", timeout=600):
            with self._lock:
                newest = self._newest()
                JournalWriter(self._segment(newest + 1)).close()
                rows = list(self._rows_from_journals())
                self._write_base(rows, newest)
            self._drop_through(newest)
        self._base_key = None
        return len(rows)

    def close(self) -> None:
        """Close the segment that is open for appending."""
        if self._writer is not None:
            self._writer[1].close()
            self._writer = None

    def _drop_through(self, newest: int) -> None:
        with self._lock:  # a reader that still has the old base is not done with the segments
            for number in self._numbers():
                if number <= newest:
                    pathlib.Path(self._segment(number)).unlink()

    def _rows_from_journals(self) -> Iterable[dict[str, Any]]:
        suffix = f".{MAIN}.log"
        for entry in os.scandir(self.folder):
            if entry.name.endswith(suffix):
                try:
                    yield RunReader(self.folder, entry.name.removesuffix(suffix)).poll().row
                except RunNotFoundError:
                    continue  # killed before its start was acknowledged

    def _append(self, record: dict[str, Any]) -> None:
        self._segments.mkdir(parents=True, exist_ok=True)
        with self._lock:
            newest = self._newest()
            if self._writer is None or self._writer[0] != newest:
                self.close()
                self._writer = newest, JournalWriter(self._segment(newest), durable=self._durable)
            self._writer[1].append(record)

    def _newest(self) -> int:
        number = self._writer[0] if self._writer else max(self._numbers(), default=0)
        while os.path.exists(self._segment(number + 1)):  # noqa: PTH110 - strings, on every append
            number += 1
        return number

    def _numbers(self) -> list[int]:
        return sorted(int(p.stem) for p in self._segments.glob("[0-9]*.log"))

    def _segment(self, number: int) -> str:
        return f"{self._segments}/{number:06d}.log"

    def _refresh(self) -> None:
        try:
            status = self.parquet.stat()
            key = (status.st_ino, status.st_mtime_ns)
        except FileNotFoundError:
            key = None
        if key != self._base_key or (key is None and not self._tail):
            self._rows, self._through = self._read_base() if key else ({}, -1)
            self._base_key, self._tail, self._stale = key, {}, set()
        for number in self._numbers():
            if number <= self._through:
                continue
            reader = self._tail.setdefault(number, JournalReader(self._segment(number)))
            for record in reader.poll():
                self._fold(record)

    def _fold(self, record: dict[str, Any]) -> None:
        if "stale" in record:
            self._stale.add(record["stale"])
        else:
            row = record["row"]
            self._rows[row["run_id"]] = row

    def _completed(self, run_id: str, row: dict[str, Any]) -> dict[str, Any]:
        """Return *row*, or what the journals say where they may know more."""
        if RunStatus(row["status"]).is_final and run_id not in self._stale:
            self._live.pop(run_id, None)
            return row
        reader = self._live.setdefault(run_id, RunReader(self.folder, run_id))
        try:
            return reader.poll().row
        except RunNotFoundError:
            return row

    def _read_base(self) -> tuple[dict[str, dict[str, Any]], int]:
        import pyarrow as pa
        import pyarrow.parquet as pq

        try:
            table = pq.read_table(self.parquet, columns=["run_id", "row_json"])
            through = int((table.schema.metadata or {})[b"through"])
            ids, rows = (table[name].to_pylist() for name in ("run_id", "row_json"))
        except (pa.ArrowException, KeyError, ValueError) as error:
            raise CorruptStoreError(
                f"The index {str(self.parquet)!r} is damaged: {error}.",
                suggestions=("Rebuild it from the journals: ops-registry fsck --repair.",),
            ) from error
        return {i: decode(r.encode()) for i, r in zip(ids, rows, strict=True)}, through

    def _write_base(self, rows: Iterable[dict[str, Any]], through: int) -> None:
        import pyarrow.parquet as pq

        table = _wide(sorted(rows, key=lambda row: (row["start"], row["run_id"])))
        table = table.replace_schema_metadata({"through": str(through), "format": "1"})
        durable: Durability = "full" if self._durable else "none"
        with atomic_write(self.parquet, "wb", durable=durable) as file:
            pq.write_table(table, file, compression="zstd")


def _wide(rows: list[dict[str, Any]]) -> Any:
    import pyarrow as pa

    when = pa.timestamp("ns", tz="UTC")
    columns: dict[str, Any] = {
        "run_id": pa.array([r["run_id"] for r in rows], pa.string()),
        "name": pa.array([r["name"] for r in rows], pa.string()),
        "status": pa.array([r["status"] for r in rows], pa.string()),
        "start_time": pa.array([r["start"] for r in rows], when),
        "end_time": pa.array([r["end"] for r in rows], when),
        "parent_run_id": pa.array([r["parent"] for r in rows], pa.string()),
    }
    for key in _commonest(rows, "metrics"):
        values = [r["metrics"].get(key, (None,))[0] for r in rows]
        columns[f"metrics.{key}"] = pa.array(values, pa.float64())
    for kind in ("params", "tags"):
        for key in _commonest(rows, kind):
            texts = [_text(r[kind][key]) if key in r[kind] else None for r in rows]
            columns[f"{kind}.{key}"] = pa.array(texts, pa.string())
    columns["row_json"] = pa.array([encode(r).decode() for r in rows], pa.string())
    return pa.table(columns)


def _commonest(rows: list[dict[str, Any]], kind: str) -> list[str]:
    counts: dict[str, int] = {}
    for row in rows:
        for key in row[kind]:
            counts[key] = counts.get(key, 0) + 1
    return sorted(sorted(counts, key=lambda k: (-counts[k], k))[:WIDE_COLUMNS])


def _text(value: Any) -> str:
    text = value if isinstance(value, str) else encode(value).decode()
    return text.encode("utf-8", "replace").decode()
