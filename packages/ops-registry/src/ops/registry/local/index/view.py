"""What one reader knows of an index of runs, read on from where it was, and the runs as of one time.

See `run_index` for what is on disk, and why reading takes no lock.
"""

from __future__ import annotations

import os
from typing import TYPE_CHECKING, Any

from ops.registry.disk.checked_paths import is_id
from ops.registry.disk.journal import JournalReader
from ops.registry.errors import RunNotFoundError
from ops.registry.local.run_journals import RunReader
from ops.registry.run_rows import MAIN, RunRow

if TYPE_CHECKING:
    import pathlib

    from ops.registry.local.index.run_table import RunTable
    from ops.registry.local.index.stored_rows import AnyRow

__all__ = ["Snapshot", "View", "run_ids", "segment_numbers"]


class Snapshot:
    """The runs of an experiment as of one time.

    *settled* are the rows of segments, *live* those that journals may still change; both count instead
    of what *base* has of the same runs, whose rows *hidden* masks, as it does those that are
    *gone*. *memo* caches results about the base and the settled rows: it lasts while those stay the same.
    """

    __slots__ = ("base", "gone", "hidden", "live", "memo", "settled")

    def __init__(
        self,
        base: RunTable | None,
        settled: dict[str, RunRow],
        gone: frozenset[str],
        hidden: Any | None,
    ) -> None:
        self.base: RunTable | None = base
        self.settled: dict[str, RunRow] = settled
        self.gone: frozenset[str] = gone
        self.hidden: Any | None = hidden
        self.live: dict[str, RunRow] = {}
        self.memo: dict[Any, list[AnyRow]] = {}

    def with_live(self, live: dict[str, RunRow]) -> Snapshot:
        """Return the same with other runs that may change: what one reader has, no other one alters."""
        made = Snapshot(self.base, self.settled, self.gone, self.hidden)
        made.live, made.memo = live, self.memo
        return made

    def overlay(self) -> dict[str, RunRow]:
        """Return all rows that count in place of the base's."""
        return self.settled | self.live


class View:
    """What one reader knows of an index; each `refresh` reads only what is new."""

    def __init__(self, folder: pathlib.Path) -> None:
        self._folder = folder
        self._parquet = folder / "index.parquet"
        self._segments = folder / "index"
        self._key: tuple[int, int, int] | None = None
        self._base: RunTable | None = None
        self._unfinished: frozenset[str] = frozenset()
        self._live: dict[str, RunReader] = {}
        self._readers: dict[int, JournalReader] = {}
        self._tail: dict[str, RunRow] = {}
        self._stale: set[str] = set()
        self._gone: set[str] = set()
        self._open: set[str] = set()  # the runs whose journals have the last word
        self._snapshot: Snapshot | None = None

    def refresh(self, through: int | None = None) -> bool:
        """Read on, up to the segment *through*; False when the index has lost its base."""
        try:
            return self._read_on(through)
        except BaseException:  # an interrupt too: what was read is not read again
            self._forget_tail()
            raise

    def _read_on(self, through: int | None) -> bool:
        while True:
            key = self._base_key()
            if key != self._key:
                self._open_base(key)
            numbers = segment_numbers(self._segments)
            after = -1 if self._base is None else self._base.through
            for number in numbers:
                if number > after and (through is None or number <= through):
                    self._read_segment(number)
            if any(reader.is_replaced and not reader.is_gone for reader in self._readers.values()):
                self._forget_tail()  # the store was restored, or begun again
                self._live.clear()
            elif self._base_key() == key:
                break
        if key is not None:
            return True
        # Segments count from 0 and are removed from below: without a base all must be there.
        return numbers[0] == 0 if numbers else not _has_runs(self._folder)

    def snapshot(self) -> Snapshot:
        """Return what was read, with the runs that may know more completed from their journals."""
        if self._snapshot is None:
            settled = {i: row for i, row in self._tail.items() if i not in self._open}
            elsewhere = self._open | self._gone | settled.keys()
            hidden = None
            if self._base is not None and elsewhere:
                hidden = self._base.mask_of(sorted(elsewhere))
            self._snapshot = Snapshot(self._base, settled, frozenset(self._gone), hidden)
            self._live = {i: r for i, r in self._live.items() if i in self._open}
        found = {i: self._completed(i, self._tail.get(i)) for i in self._open}
        live = {i: row.copy() for i, row in found.items() if row is not None}
        return self._snapshot.with_live(live)

    def _completed(self, run_id: str, row: RunRow | None) -> RunRow | None:
        reader = self._live.get(run_id)
        if reader is None:
            reader = self._live[run_id] = RunReader(self._folder, run_id, keep_history=False)
        try:
            return reader.poll().row
        except RunNotFoundError:
            return row

    def _open_base(self, key: tuple[int, int, int] | None) -> None:
        if key is None:
            self._base, self._unfinished = None, frozenset()
        else:
            from ops.registry.local.index.run_table import RunTable

            try:
                self._base = RunTable(self._parquet)
            except FileNotFoundError:  # deleted just now
                self._key = None
                return
            self._unfinished = frozenset(filter(is_id, self._base.unfinished()))
        self._key = key
        self._forget_tail()

    def _forget_tail(self) -> None:
        self._readers, self._tail, self._stale, self._gone = {}, {}, set(), set()
        self._open = set(self._unfinished)
        self._snapshot = None

    def _read_segment(self, number: int) -> None:
        reader = self._readers.get(number)
        if reader is None:
            path = self._segments / f"{number:06d}.log"
            reader = self._readers[number] = JournalReader(path)
        for record in reader.poll():
            self._snapshot = None
            if not _names_a_run(record):
                continue  # not of this package: the journals of runs have what is true
            if "stale" in record:
                self._stale.add(record["stale"])
                self._open.add(record["stale"])
                continue
            if "gone" in record:
                self._forget(record["gone"])
                continue
            run_id = record["row"]["run_id"]
            self._gone.discard(run_id)  # another process has put a run of that id here again
            try:
                row = self._tail[run_id] = RunRow.from_plain(record["row"])
            except ValueError:
                self._tail.pop(run_id, None)
                self._open.add(run_id)  # its journal has what is true
                continue
            if row.status.is_final and run_id not in self._stale:
                self._open.discard(run_id)
            else:
                self._open.add(run_id)

    def _forget(self, run_id: str) -> None:
        self._tail.pop(run_id, None)
        self._stale.discard(run_id)
        self._open.discard(run_id)
        self._gone.add(run_id)

    def _base_key(self) -> tuple[int, int, int] | None:
        try:
            status = self._parquet.stat()
        except FileNotFoundError:
            return None
        return status.st_ino, status.st_mtime_ns, status.st_size


def _names_a_run(record: Any) -> bool:
    if not isinstance(record, dict):
        return False
    row = record.get("row")
    recorded = (
        row.get("run_id") if isinstance(row, dict) else record.get("stale", record.get("gone"))
    )
    return is_id(recorded)


def _has_runs(folder: pathlib.Path) -> bool:
    return bool(run_ids(folder))


def run_ids(folder: pathlib.Path) -> list[str]:
    """Return the ids of the runs whose journals are in *folder*."""
    suffix = f".{MAIN}.log"
    try:
        names = os.listdir(folder)  # noqa: PTH208 - names are all that is needed
    except (FileNotFoundError, NotADirectoryError):
        return []
    found = (name.removesuffix(suffix) for name in names if name.endswith(suffix))
    return [run_id for run_id in found if is_id(run_id)]


def segment_numbers(folder: pathlib.Path) -> list[int]:
    """Return the numbers of the segments in *folder*, sorted."""
    try:
        names = os.listdir(folder)  # noqa: PTH208 - names are all that is needed
    except FileNotFoundError:
        return []
    return sorted(int(n[:-4]) for n in names if n.endswith(".log") and n[:-4].isdigit())
