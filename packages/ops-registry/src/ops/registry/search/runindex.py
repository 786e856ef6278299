"""The index of an experiment's runs: which there are and what they came to, without opening each.

Starting and ending a run append its row to the newest segment, ``index/{n}.log``; logging to a run
that has ended appends that its row is stale. A compaction folds segments into ``index.parquet``
(`runtable`), by columns:

1. under the lock, a new empty segment is made, so that nobody appends to the older ones any more;
2. base and older segments are folded into a temporary Parquet file, whose metadata says through
   which segment;
3. `os.replace` makes it the base: the commit point. Then the folded segments are deleted.

A crash before 3 leaves the base and all segments; one after it leaves segments that the base says
are folded and that readers skip. Appending starts one in the background when the newest segment has
grown past a share of the base, so the work per run stays the same however many there are; whoever
finds another process compacting leaves it to that one.

Reading takes no lock. It reads the base, then the segments after it, then looks whether the base is
still that file: segments vanish only after the base was replaced, so if it is, none was missed.

What is not in the base as it is now is the *overlay*: the rows of the segments, and those of runs
that are not over or stale, completed from their journals, which are the truth. A search asks the
base by columns and the overlay row by row. A base that is missing although segments were folded, or
journals of runs without any index, are not taken for an empty experiment: the index is made again.
"""

from __future__ import annotations

import os
import pathlib
import threading
from typing import TYPE_CHECKING, Any

from ops.foundation.errors import LockTimeout
from ops.foundation.files import atomic_write
from ops.foundation.locks import FileLock
from ops.registry.disk.journal import JournalReader, JournalWriter, writing
from ops.registry.errors import RunNotFoundError
from ops.registry.records import RunStatus
from ops.registry.tracking.runlog import MAIN, RunReader

if TYPE_CHECKING:
    from collections.abc import Iterable

    from ops.foundation.files import Durability
    from ops.registry.search.runtable import RunTable

__all__ = ["RunIndex", "Snapshot"]

#: Segments smaller than this are never worth a compaction: about 1 000 rows.
SMALLEST_SEGMENT = 600_000
#: The share of the base that a segment may reach, in bytes; a frame is about five times its Parquet.
SHARE_OF_BASE = 0.25
_FINAL = {str(status) for status in RunStatus if status.is_final}
_LOCK_SECONDS = 60
_COMPACTION_SECONDS = 600


class Snapshot:
    """The runs of an experiment as of one moment.

    *settled* are the rows of segments, *live* those that journals may still change; both count in
    place of what *base* has of the same runs, whose rows *hidden* masks. *memo* is for whoever asks
    the base and the settled rows: it lasts while those stay the same.
    """

    __slots__ = ("base", "hidden", "live", "memo", "settled")

    def __init__(
        self, base: RunTable | None, settled: dict[str, dict[str, Any]], hidden: Any | None
    ) -> None:
        self.base = base
        self.settled = settled
        self.hidden = hidden
        self.live: dict[str, dict[str, Any]] = {}
        self.memo: dict[Any, list[dict[str, Any]]] = {}

    def overlay(self) -> dict[str, dict[str, Any]]:
        """Return all rows that count in place of the base's."""
        return self.settled | self.live


class RunIndex:
    """The index in the folder of one experiment's runs; the folder appears with the first append."""

    def __init__(self, folder: pathlib.Path, *, durability: str = "process") -> None:
        self.folder = folder
        self.parquet = folder / "index.parquet"
        self._segments = folder / "index"
        self._durability = durability
        self._lock = FileLock(self._segments / ".lock", timeout=_LOCK_SECONDS)
        self.turn = threading.RLock()  # between threads that read through this object
        self._writing = threading.Lock()
        self._writer: tuple[int, JournalWriter] | None = None
        self._background: threading.Thread | None = None
        self._view = _View(folder)

    def put(self, row: dict[str, Any]) -> None:
        """Append what is known of a run now."""
        self._append({"row": row})

    def mark_stale(self, run_id: str) -> None:
        """Append that the row of a run that had ended is not the last word."""
        self._append({"stale": run_id})

    def snapshot(self) -> Snapshot:
        """Return the runs as of now; hold `turn` while it is used."""
        with self.turn:
            if not self._view.refresh():
                self.rebuild()
                self._view.refresh()
            return self._view.snapshot()

    def rows(self) -> list[dict[str, Any]]:
        """Return the current row of every run, oldest first."""
        with self.turn:
            found = self.snapshot()
            overlay = found.overlay()
            rows = [] if found.base is None else found.base.every_row()
            rows = [row for row in rows if row["run_id"] not in overlay]
            rows += overlay.values()
        return sorted(rows, key=lambda row: (row["start"], row["run_id"]))

    def compact(self, *, wait: bool = True) -> int:
        """Fold everything into ``index.parquet`` and return the number of runs in it.

        Without *wait* it returns -1 when another process or thread is at it.
        """
        if not self._segments.is_dir():
            return 0
        lock = FileLock(self._segments / ".compact", timeout=_COMPACTION_SECONDS if wait else 0)
        with writing(self._segments):
            try:
                lock.acquire()
            except LockTimeout:
                if wait:
                    raise
                return -1
            try:
                return self._compact()
            finally:
                lock.release()

    def _compact(self) -> int:
        newest = self._roll()
        # A view of its own: readers through this object go on meanwhile.
        view = _View(self.folder)
        view.refresh(through=newest)
        found = view.snapshot()
        count = self._write_base(found.base, list(found.overlay().values()), newest)
        self._drop_through(newest)
        return count

    def rebuild(self) -> int:
        """Forget the index, make it again from the runs' journals, and return their number."""
        with writing(self._segments):
            return self._rebuild()

    def _rebuild(self) -> int:
        self._segments.mkdir(parents=True, exist_ok=True)
        with FileLock(self._segments / ".compact", timeout=_COMPACTION_SECONDS):
            # Rows that are put from here on are in later segments and count on top of the base.
            newest = self._roll()
            count = self._write_base(None, list(_rows_from_journals(self.folder)), newest)
            self._drop_through(newest)
        return count

    def close(self) -> None:
        """Wait for a compaction in the background and close the segment that is open."""
        thread = self._background
        if thread is not None and thread is not threading.current_thread():
            thread.join()
        with self._writing:
            self._close_writer()

    def _append(self, record: dict[str, Any]) -> None:
        with writing(self._segments), self._writing:
            size = self._append_now(record)
        if size >= SMALLEST_SEGMENT:
            self._compact_in_background(size)

    def _append_now(self, record: dict[str, Any]) -> int:
        """Append under the lock and return the size of the segment."""
        with self._lock:
            newest = self._newest()
            if self._writer is None or self._writer[0] != newest:
                self._close_writer()
                writer = JournalWriter(self._segment(newest), durability=self._durability)
                self._writer = newest, writer
            self._writer[1].append(record)
            return self._writer[1].size

    def _compact_in_background(self, size: int) -> None:
        try:
            limit = self.parquet.stat().st_size * SHARE_OF_BASE
        except OSError:
            limit = 0
        if size < limit or (self._background is not None and self._background.is_alive()):
            return
        # Not a daemon: an interpreter that ends waits for it, and never tears Arrow down under it.
        self._background = threading.Thread(
            target=self._compact_quietly, name="ops-registry-compact"
        )
        self._background.start()

    def _compact_quietly(self) -> None:
        import logging

        try:
            self.compact(wait=False)
        except Exception:
            # Nothing is lost, and the next one who appends tries again.
            logging.getLogger("ops.registry").exception("%s was not compacted", self.parquet)

    def _close_writer(self) -> None:
        if self._writer is not None:
            self._writer[1].close()
            self._writer = None

    def _roll(self) -> int:
        """Begin a new segment and return the number of the one before."""
        with self._lock:
            newest = max(_numbers(self._segments), default=-1)
            JournalWriter(self._segment(newest + 1)).close()
        return newest

    def _drop_through(self, newest: int) -> None:
        for number in _numbers(self._segments):
            if number <= newest:
                pathlib.Path(self._segment(number)).unlink(missing_ok=True)

    def _newest(self) -> int:
        """Return the segment to append to. It is never deleted, so one that is gone was not it."""
        if self._writer is not None:
            number, journal = self._writer
            if not journal.is_deleted and not _exists(self._segment(number + 1)):
                return number
        return max(_numbers(self._segments), default=0)

    def _segment(self, number: int) -> str:
        return f"{self._segments}/{number:06d}.log"

    def _write_base(self, base: RunTable | None, rows: list[dict[str, Any]], through: int) -> int:
        import pyarrow.parquet as pq

        from ops.registry.search.runtable import ROW_GROUP, merged

        table = merged(base, rows, through)
        # Its segments are deleted afterwards, so where frames are on disk the base must be too.
        durable: Durability = "none" if self._durability == "process" else "full"
        with atomic_write(self.parquet, "wb", durable=durable) as file:
            pq.write_table(table, file, compression="zstd", row_group_size=ROW_GROUP)
        count: int = table.num_rows
        return count


class _View:
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
        self._tail: dict[str, dict[str, Any]] = {}
        self._stale: set[str] = set()
        self._open: set[str] = set()  # the runs whose journals have the last word
        self._snapshot: Snapshot | None = None

    def refresh(self, through: int | None = None) -> bool:
        """Read on, up to the segment *through*; False when the index has lost its base."""
        while True:
            key = self._base_key()
            if key != self._key:
                self._open_base(key)
            numbers = _numbers(self._segments)
            after = -1 if self._base is None else self._base.through
            for number in numbers:
                if number > after and (through is None or number <= through):
                    self._read_segment(number)
            if self._base_key() == key:
                break
        if key is not None:
            return True
        # Segments count from 0 and are removed from below: without a base all must be there.
        return numbers[0] == 0 if numbers else not _has_runs(self._folder)

    def snapshot(self) -> Snapshot:
        """Return what was read, with the runs that may know more completed from their journals."""
        if self._snapshot is None:
            settled = {i: row for i, row in self._tail.items() if i not in self._open}
            hidden = None
            if self._base is not None and (self._open or settled):
                hidden = self._base.places(sorted(self._open | settled.keys()))
            self._snapshot = Snapshot(self._base, settled, hidden)
            self._live = {i: r for i, r in self._live.items() if i in self._open}
        found = {i: self._completed(i, self._tail.get(i)) for i in self._open}
        self._snapshot.live = {i: row for i, row in found.items() if row is not None}
        return self._snapshot

    def _completed(self, run_id: str, row: dict[str, Any] | None) -> dict[str, Any] | None:
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
            from ops.registry.search.runtable import RunTable

            try:
                self._base = RunTable(self._parquet)
            except FileNotFoundError:  # deleted just now
                self._key = None
                return
            self._unfinished = frozenset(self._base.unfinished())
        self._key = key
        self._forget_tail()

    def _forget_tail(self) -> None:
        self._readers, self._tail, self._stale = {}, {}, set()
        self._open = set(self._unfinished)
        self._snapshot = None

    def _read_segment(self, number: int) -> None:
        reader = self._readers.get(number)
        if reader is None:
            path = self._segments / f"{number:06d}.log"
            reader = self._readers[number] = JournalReader(path)
        for record in reader.poll():
            self._snapshot = None
            if "stale" in record:
                self._stale.add(record["stale"])
                self._open.add(record["stale"])
                continue
            row = record["row"]
            run_id = row["run_id"]
            self._tail[run_id] = row
            if row["status"] in _FINAL and run_id not in self._stale:
                self._open.discard(run_id)
            else:
                self._open.add(run_id)

    def _base_key(self) -> tuple[int, int, int] | None:
        try:
            status = self._parquet.stat()
        except FileNotFoundError:
            return None
        return status.st_ino, status.st_mtime_ns, status.st_size


def _rows_from_journals(folder: pathlib.Path) -> Iterable[dict[str, Any]]:
    for run_id in _run_ids(folder):
        try:
            yield RunReader(folder, run_id, keep_history=False).poll().row
        except RunNotFoundError:
            continue  # killed before its start was acknowledged


def _exists(path: str) -> bool:
    return os.path.exists(path)  # noqa: PTH110 - strings, on every append


def _has_runs(folder: pathlib.Path) -> bool:
    return bool(_run_ids(folder))


def _run_ids(folder: pathlib.Path) -> list[str]:
    suffix = f".{MAIN}.log"
    try:
        names = os.listdir(folder)  # noqa: PTH208 - names are all that is needed
    except FileNotFoundError:
        return []
    return [name.removesuffix(suffix) for name in names if name.endswith(suffix)]


def _numbers(folder: pathlib.Path) -> list[int]:
    try:
        names = os.listdir(folder)  # noqa: PTH208 - names are all that is needed
    except FileNotFoundError:
        return []
    return sorted(int(n[:-4]) for n in names if n.endswith(".log") and n[:-4].isdigit())
