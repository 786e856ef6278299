"""The index of an experiment's runs: which there are and what they came to, without opening each.

Starting and ending a run append its row to the newest segment, ``index/{n}.log``; logging to a run
that has ended appends that its row is stale, erasing one that it is gone. A compaction folds segments into ``index.parquet``
(`run_table`), by columns:

1. under the lock, a new empty segment is made, so that no process appends to the older ones any more;
2. base and older segments are folded into a temporary Parquet file, whose metadata records through
   which segment;
3. `os.replace` makes it the base: the commit point. Then the folded segments are deleted.

A crash before 3 leaves the base and all segments; one after it leaves segments that the base lists
as folded and that readers skip. Appending starts one in the background when the newest segment has
grown past a share of the base, so the work per run stays the same however many there are; a process that
finds another one compacting leaves it to that one.

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
from ops.foundation.logs import get_logger
from ops.registry.disk.checked_paths import refuse_link
from ops.registry.disk.journal import JournalWriter, frame, writing
from ops.registry.errors import RunNotFoundError
from ops.registry.local.index.view import View, run_ids, segment_numbers
from ops.registry.local.run_journals import RunReader

if TYPE_CHECKING:
    from collections.abc import Iterable
    from contextlib import AbstractContextManager

    from ops.foundation.files import Durability
    from ops.registry.local.index.run_table import RunTable
    from ops.registry.local.index.view import Snapshot
    from ops.registry.run_rows import RunRow

__all__ = ["RunIndex"]

#: Segments smaller than this are never worth a compaction: about 1 000 rows.
SMALLEST_SEGMENT = 600_000
#: The share of the base that a segment may reach, in bytes; a frame is about five times its Parquet.
SHARE_OF_BASE = 0.25
_LOCK_SECONDS = 60
_COMPACTION_SECONDS = 600
_log = get_logger("ops.registry")


class RunIndex:
    """The index in the folder of one experiment's runs; the folder appears with the first append."""

    def __init__(self, folder: pathlib.Path, *, durability: str = "process") -> None:
        self.folder = folder
        self.parquet: pathlib.Path = folder / "index.parquet"
        self._segments = folder / "index"
        self._durability = durability
        self._lock = FileLock(self._segments / ".lock", timeout=_LOCK_SECONDS)
        self.mutex: AbstractContextManager[Any] = (
            threading.RLock()
        )  # between threads that read through this object
        self._is_reading = False
        self._writing = (
            threading.RLock()
        )  # a signal handler may append amid an append of its thread
        self._writer: tuple[int, JournalWriter] | None = None
        self._background: threading.Thread | None = None
        self._view = View(folder)

    def put(self, row: RunRow, *, soon: bool = False) -> None:
        """Append what is known of a run now; *soon* leaves flushing it to the background.

        That is enough for the end of a run: while its start is the last word here, its journal has
        the last word.
        """
        self._append(frame({"row": row.plain()}), soon=soon)

    def put_all(self, rows: Iterable[RunRow]) -> None:
        """Append what is known of several runs now, with one write."""
        data = b"".join(frame({"row": row.plain()}) for row in rows)
        if data:
            self._append(data)

    def mark_stale(self, run_id: str) -> None:
        """Append that the row of a run that had ended is not the last word."""
        self._append(frame({"stale": run_id}))

    def drop(self, run_id: str) -> None:
        """Append that a run is gone."""
        self._append(frame({"gone": run_id}))

    def snapshot(self) -> Snapshot:
        """Return the runs as of now; what is returned is not changed by reading on."""
        with self.mutex:
            is_nested, self._is_reading = self._is_reading, True
            try:
                # A signal handler amid reading has a view of its own.
                view = View(self.folder) if is_nested else self._view
                if not view.refresh():
                    self.rebuild()
                    view.refresh()
                return view.snapshot()
            finally:
                self._is_reading = is_nested

    def rows(self) -> list[RunRow]:
        """Return the current row of every run, oldest first."""
        found = self.snapshot()
        overlay = found.overlay()
        rows = [] if found.base is None else found.base.every_row()
        elsewhere = overlay.keys() | found.gone
        rows = [row for row in rows if row.run_id not in elsewhere]
        rows += overlay.values()
        return sorted(rows, key=lambda row: (row.start, row.run_id))

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
        view = View(self.folder)
        if not view.refresh(through=newest):  # or what was in a base that is lost would be for ever
            return self._make_base(newest)
        found = view.snapshot()
        count = self._write_base(found.base, list(found.overlay().values()), newest, found.gone)
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
            return self._make_base(self._roll())

    def _make_base(self, newest: int) -> int:
        """Make the base from the runs' journals; the segments through *newest* are in it."""
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

    def rest(self) -> None:
        """Close the segment that is open; the next append opens it again."""
        with self._writing:
            self._close_writer()

    def _append(self, data: bytes, *, soon: bool = False) -> None:
        with writing(self._segments), self._writing:
            size = self._append_now(data, soon=soon)
        if size >= SMALLEST_SEGMENT:
            self._compact_in_background(size)

    def _append_now(self, data: bytes, *, soon: bool) -> int:
        """Append under the lock and return the size of the segment."""
        with self._lock:
            newest = self._newest()
            if self._writer is None or self._writer[0] != newest:
                self._close_writer()
                writer = JournalWriter(self._segment(newest), durability=self._durability)
                self._writer = newest, writer
            return self._writer[1].append_frames(data, soon=soon)[1]

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
        try:
            self.compact(wait=False)
        except Exception:  # noqa: BLE001 - nothing is lost, and the next who appends tries again
            _log.exception("%s was not compacted", self.parquet)

    def _close_writer(self) -> None:
        if self._writer is not None:
            self._writer[1].close()
            self._writer = None

    def _roll(self) -> int:
        """Begin a new segment and return the number of the one before."""
        with self._lock:
            newest = max(segment_numbers(self._segments), default=-1)
            JournalWriter(self._segment(newest + 1)).close()
        return newest

    def _drop_through(self, newest: int) -> None:
        for number in segment_numbers(self._segments):
            if number <= newest:
                pathlib.Path(self._segment(number)).unlink(missing_ok=True)

    def _newest(self) -> int:
        """Return the segment to append to. It is never deleted, so one that is gone was not it."""
        if self._writer is not None:
            number, journal = self._writer
            if not journal.is_deleted and not _exists(self._segment(number + 1)):
                return number
        return max(segment_numbers(self._segments), default=0)

    def _segment(self, number: int) -> str:
        return f"{self._segments}/{number:06d}.log"

    def _write_base(
        self,
        base: RunTable | None,
        rows: list[RunRow],
        through: int,
        gone: frozenset[str] = frozenset(),
    ) -> int:
        import pyarrow.parquet as pq

        from ops.registry.local.index.run_table import ROW_GROUP, merged

        table = merged(base, rows, through, gone)
        # Its segments are deleted afterwards, so where frames are on disk the base must be too.
        durable: Durability = "none" if self._durability == "process" else "full"
        refuse_link(self.parquet)
        with atomic_write(self.parquet, "wb", durable=durable) as file:
            pq.write_table(table, file, compression="zstd", row_group_size=ROW_GROUP)
        count: int = table.num_rows
        return count


def _rows_from_journals(folder: pathlib.Path) -> Iterable[RunRow]:
    for run_id in run_ids(folder):
        try:
            yield RunReader(folder, run_id, keep_history=False).poll().row
        except RunNotFoundError:
            continue  # killed before its start was acknowledged


def _exists(path: str) -> bool:
    return os.path.exists(path)  # noqa: PTH110 - strings, on every append
