"""Which journal this process appends to for which run.

A process may log to any number of runs and keeps few files open: journals that were not used for the longest time are
closed, and opened again when needed. While a run is open here its journals are touched now and then (`liveness`).
"""

from __future__ import annotations

import collections
import os
import secrets
import threading
import time
from typing import TYPE_CHECKING

from ops.registry.disk.journal import JournalWriter
from ops.registry.errors import RunNotFoundError, StorageError, no_run
from ops.registry.local.liveness import owner, touch
from ops.registry.local.run_journals import RunReader, journal_path
from ops.registry.local.run_writers import RunWriter
from ops.registry.run_frames import WriterAdded
from ops.registry.run_rows import MAIN
from ops.registry.tracking.heartbeat import Heartbeat

if TYPE_CHECKING:
    import pathlib
    from collections.abc import Callable, Iterable

    from ops.registry.tracking.metric_encoding import KeyedPoint

__all__ = ["OpenRuns"]

#: How many journals of runs one process keeps open.
MOST_JOURNALS = 64


class OpenRuns:
    """The journals of this process; *home* returns the experiment of a run, *folder* where that has its runs."""

    def __init__(
        self,
        home: Callable[[str], str],
        folder: Callable[[str], pathlib.Path],
        *,
        durability: str,
        heartbeat_seconds: float,
    ) -> None:
        self._home = home
        self._folder = folder
        self._durability = durability
        self.heartbeat: Heartbeat = Heartbeat(
            lambda: touch(self._open_journals()), heartbeat_seconds
        )
        self._writers: dict[str, RunWriter] = {}
        self.begin_in_child()

    def begin_in_child(self) -> None:
        """Reset, also in a forked child: it logs to journals of its own, and has no lock of another thread."""
        self._lock = threading.RLock()
        self._opened: collections.OrderedDict[str, RunWriter] = collections.OrderedDict()

    def __contains__(self, run_id: object) -> bool:
        """Whether this process has a journal of a run open: it logged to it and has not ended it."""
        return run_id in self._writers

    def folding_writer(self, run_id: str) -> RunWriter | None:
        """Return the writer of a run that folds in what is logged here; None when there is none."""
        writer = self._writers.get(run_id)
        if writer is None or writer.own is None or writer.process != os.getpid():
            return None
        return writer

    def started(
        self, run_id: str, experiment_id: str, journal: JournalWriter, own: RunReader | None
    ) -> None:
        """Take over the main journal of a run that this process has started, and what has *own* read of it so far."""
        with self._lock:
            writer = self._writers[run_id] = RunWriter(experiment_id, journal, own=own)
            self._note_open(run_id, writer)
        self.heartbeat.start()

    def now(self, run_id: str) -> int:
        """Return the time for what is logged now, in nanoseconds: later than all that this process logged before.

        A clock may be set back, and of two values at one step the one that was logged later must count.
        """
        try:
            writer = self._writers.get(run_id)
        except TypeError:  # a Run in place of its id
            writer = None
        if writer is None or writer.process != os.getpid():
            writer = self._writer(run_id)
        when = writer.latest = max(time.time_ns(), writer.latest + 1)
        return when

    def append(
        self, run_id: str, data: bytes, points: Iterable[KeyedPoint] | None = None
    ) -> tuple[RunWriter, tuple[int, int]]:
        """Append what `frame` made of records; return by which writer, and where they are in its journal.

        Records that are *points* of metrics alone are not decoded to be folded in.
        """
        try:
            writer = self._writers.get(run_id)
        except TypeError:  # a Run in place of its id
            writer = None
        if writer is None or writer.process != os.getpid():
            writer = self._writer(run_id)
        writer.used = True
        try:
            if writer.own is None:
                position = writer.journal.append_frames(data)
            else:
                position = writer.append_and_fold(data, points)
        except StorageError:
            if not writer.journal.is_closed:
                raise
            # Another thread has ended the run meanwhile, or it was closed in favour of others.
            self._reopen(run_id, writer)
            return self.append(run_id, data, points)
        if writer.reader is not None:
            self._look_for_the_end(run_id, writer)
        return writer, position

    def take_reader(self, run_id: str) -> RunReader | None:
        """Return what has read a run that was started here; from now on it is the caller's alone."""
        writer = self._writers.get(run_id)
        if writer is not None and writer.process == os.getpid():
            return writer.take()
        return None

    def release(self, run_id: str) -> None:
        """Close this process's journal of a run."""
        with self._lock:
            writer = self._writers.pop(run_id, None)
            self._opened.pop(run_id, None)
        if writer is not None:
            writer.journal.close()

    def close(self) -> None:
        """Close all files that are open."""
        self.heartbeat.stop()
        with self._lock:
            for run_id in list(self._writers):
                self.release(run_id)

    def _writer(self, run_id: str) -> RunWriter:
        """Return this process's journal of a run that it, or another process, started."""
        if not isinstance(run_id, str):
            raise no_run(run_id)
        with self._lock:
            writer = self._writers.get(run_id)
            if writer is not None and writer.process == os.getpid():
                return writer
            home = self._home(run_id)
            folder = self._folder(home)
            reader = RunReader(folder, run_id, keep_history=False)
            now = max(time.time_ns(), reader.poll().latest + 1)  # raises when there is no start
            name = f"{os.getpid()}-{secrets.token_hex(4)}"
            path = journal_path(folder, run_id, MAIN)
            with self._there(run_id, path) as main:
                main.append(WriterAdded(name, owner(), now).plain())
            journal = JournalWriter(journal_path(folder, run_id, name), durability=self._durability)
            writer = self._writers[run_id] = RunWriter(home, journal, main=path, reader=reader)
            writer.latest = reader.state.latest_point
            self._note_open(run_id, writer)
            self.heartbeat.start()
            return writer

    def _note_open(self, run_id: str, writer: RunWriter) -> None:
        """Note a journal that was opened; with too many, close one that was not used lately."""
        self._opened[run_id] = writer
        self._opened.move_to_end(run_id)
        while len(self._opened) > MOST_JOURNALS:
            oldest, known = self._opened.popitem(last=False)
            if known.used:
                known.used = False
                self._opened[oldest] = known  # once more round
                continue
            if known.own is not None:  # of thousands of runs that are open, summaries are enough
                known.own.state.forget_history()
            if known.ended:  # nothing more is expected, and no heartbeat is needed
                self._writers.pop(oldest, None)
            known.journal.close()

    def _reopen(self, run_id: str, writer: RunWriter) -> None:
        """Open the journal of a run again that is still written to."""
        with self._lock:
            if self._writers.get(run_id) is not writer or not writer.journal.is_closed:
                return
            try:
                writer.journal = self._there(run_id, writer.journal.path)
            except RunNotFoundError:
                self._writers.pop(run_id)
                raise
            self._note_open(run_id, writer)

    def _there(self, run_id: str, path: str) -> JournalWriter:
        """Open a journal that was there; a run that was erased since must not begin to be again."""
        try:
            return JournalWriter(path, durability=self._durability, must_exist=True)
        except FileNotFoundError:
            raise RunNotFoundError(f"Run {run_id!r} was erased.") from None

    def _open_journals(self) -> list[str]:
        with self._lock:
            own = [w for w in self._writers.values() if w.process == os.getpid() and not w.ended]
            return [writer.journal.path for writer in own]

    @staticmethod
    def _look_for_the_end(run_id: str, writer: RunWriter) -> None:
        try:
            size = os.stat(str(writer.main)).st_size  # noqa: PTH116 - hot path
        except FileNotFoundError as error:
            raise RunNotFoundError(f"Run {run_id!r} was erased.") from error
        writer.look_for_the_end(size)
