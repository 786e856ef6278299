"""Where the runs of one tracker are on disk, and which journal this process appends to for which.

Who logged to a run and whether they still live is `liveness`. A process may log to any number of runs and keeps
few files open: journals and indexes that were not used for the longest time are closed, and opened again when needed.
"""

from __future__ import annotations

import collections
import os
import pathlib
import re
import secrets
import threading
import time
from typing import TYPE_CHECKING

from ops.foundation.forks import in_children
from ops.registry.disk.checked_paths import inside, refuse_links
from ops.registry.disk.journal import JournalWriter, encode, framed, writing
from ops.registry.errors import RunNotFoundError, StorageError, no_run
from ops.registry.run_frames import WriterAdded
from ops.registry.run_rows import MAIN
from ops.registry.search.runindex import RunIndex
from ops.registry.tracking.cached_runs import Reading, signature
from ops.registry.tracking.liveness import Heart, owner, with_liveness
from ops.registry.tracking.run_ids import experiment_mark, experiment_mark_in
from ops.registry.tracking.run_writers import RunWriter
from ops.registry.tracking.runlog import (
    IN_JSON,
    RunReader,
    current_state,
    journal_path,
    load_state,
)

if TYPE_CHECKING:
    from collections.abc import Iterable

    from ops.cache.lru import LRUCache
    from ops.registry.run_frames import Frame
    from ops.registry.run_rows import RunRow
    from ops.registry.tracking.cached_runs import CachedRun
    from ops.registry.tracking.experiments import ExperimentLedger
    from ops.registry.tracking.points import KeyedPoint

__all__ = ["RunStore"]

_ID = re.compile(r"[0-9A-Za-z_-]{1,64}")
#: How many journals of runs, and how many indexes of experiments, one process keeps open.
MOST_JOURNALS, MOST_INDEXES = 64, 64


class RunStore:
    """The folders, indexes and open journals of runs, and the runs that were read last."""

    def __init__(
        self,
        root: pathlib.Path,
        experiments: ExperimentLedger,
        *,
        durability: str = "process",
        cache: LRUCache[str, CachedRun] | None = None,
        heartbeat_seconds: float = 30.0,
    ) -> None:
        self.root = root
        self.heartbeat_seconds = heartbeat_seconds
        self.heart: Heart = Heart(self._open_journals, heartbeat_seconds)
        self.durability = durability
        self._experiments = experiments
        self._cache = cache
        self._indexes: dict[str, RunIndex] = {}  # those used last come last
        self._writers: dict[str, RunWriter] = {}
        self._opened: collections.OrderedDict[str, RunWriter] = collections.OrderedDict()
        self._homes: dict[str, str] = {}
        self._checked: set[str] = set()
        self._lock = threading.RLock()
        self._reading = threading.Lock()
        in_children(self, RunStore.begin_in_child)

    def begin_in_child(self) -> None:
        """Begin anew in a forked child, where nobody lets go of a lock that another thread had."""
        self._lock = threading.RLock()
        self._reading = threading.Lock()
        if self._cache is not None:
            self._cache.clear()  # another thread may have been in the middle of reading
        self._indexes = {}
        self._opened = collections.OrderedDict()

    def folder(self, experiment_id: str) -> pathlib.Path:
        """Return where the runs of an experiment are; links on the way there are refused, once."""
        folder = self.root / "runs" / experiment_id
        if experiment_id not in self._checked:
            refuse_links(
                inside(self.root, "runs", experiment_id), "index", "index/.lock", "index/.compact"
            )
            self._checked.add(experiment_id)
        return folder

    def home(self, run_id: str) -> str:
        """Return the experiment of a run: one `stat` per experiment, once."""
        if not isinstance(run_id, str):
            raise no_run(run_id)
        home = self._homes.get(run_id)
        if home is not None:
            return home
        if _ID.fullmatch(run_id):
            for experiment_id in self._folders(run_id):
                # Strings: a store has thousands of experiments, and the first answer waits for this.
                if os.path.exists(f"{self.root}/runs/{experiment_id}/{run_id}.{MAIN}.log"):  # noqa: PTH110
                    self.folder(experiment_id)
                    self._homes[run_id] = experiment_id
                    return experiment_id
        raise no_run(run_id)

    def _folders(self, run_id: str) -> list[str]:
        """Return the experiments that have runs, without reading what else is known of them, the likeliest first."""
        try:
            names = os.listdir(self.root / "runs")  # noqa: PTH208 - names are all that is needed
        except (FileNotFoundError, NotADirectoryError):
            return []
        marked = experiment_mark_in(run_id)
        # The run's id may name the experiment; else the newest is the likeliest, as ids begin with their time.
        likely = [name for name in names if experiment_mark(name) == marked]
        others = sorted(filter(_ID.fullmatch, names), reverse=True)
        return [*filter(_ID.fullmatch, likely), *others]

    def index(self, experiment_id: str) -> RunIndex:
        """Return the index of an experiment's runs."""
        with self._lock:
            index = self._indexes.pop(experiment_id, None)
            if index is None:
                index = RunIndex(self.folder(experiment_id), durability=self.durability)
                while len(self._indexes) >= MOST_INDEXES:
                    # A thread that uses it still goes on: to an index it is one more process.
                    self._indexes.pop(next(iter(self._indexes))).rest()
            self._indexes[experiment_id] = index
            return index

    def known_index(self, experiment_id: str) -> RunIndex:
        """Return the index of an experiment, which must exist."""
        self._experiments.get(experiment_id)
        return self.index(experiment_id)

    def rows(self, experiment_id: str) -> list[RunRow]:
        """Return the rows of all runs of an experiment, the dead ones as STALE."""
        index = self.known_index(experiment_id)
        return [with_liveness(row, index.folder) for row in index.rows()]

    def row(self, run_id: str) -> RunRow:
        """Return what a run comes to now; from memory while none of its journals has changed."""
        folder = self.folder(self.home(run_id))
        writer = self._writers.get(run_id)
        if writer is not None and writer.own is not None and writer.process == os.getpid():
            with writer.looking:
                if writer.own is not None:
                    return with_liveness(writer.own.poll().row.copy(), folder)
        if self._cache is None:
            return with_liveness(load_state(folder, run_id).row, folder)
        kept = self._cache.get(run_id)
        if isinstance(kept, Reading):
            return self._live_row(run_id, kept, folder)
        if kept is None or kept[0] != signature(folder, run_id, kept[0]):
            # Taken before reading: what is appended meanwhile changes it.
            before = signature(folder, run_id, kept[0] if kept else (MAIN,))
            state = current_state(folder, run_id)
            if state is None:
                return self._live_row(run_id, Reading(folder, run_id), folder)
            if before.keys() != set(state.writers):
                # Kept so that the next one looks at all of them, and never found to fit.
                before = dict.fromkeys(state.writers)
            kept = before, state.row
            self._cache.set(run_id, kept)
        return with_liveness(kept[1], folder)

    def _live_row(self, run_id: str, reading: Reading, folder: pathlib.Path) -> RunRow:
        """Return the row of a run without a view: only what was appended since the last time is read."""
        with self._reading:  # a reader is for one thread at a time
            kept = reading.poll().copy()
        if self._cache is not None:
            self._cache.set(run_id, reading)
        return with_liveness(kept, folder)

    def started(
        self,
        run_id: str,
        experiment_id: str,
        journal: JournalWriter,
        own: RunReader | None = None,
    ) -> None:
        """Take over the main journal of a run that this process has started, and what has *own* read of it so far."""
        with self._lock:
            writer = self._writers[run_id] = RunWriter(experiment_id, journal, own=own)
            self._note_open(run_id, writer)
            self._homes[run_id] = experiment_id
        self.heart.start()

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

    def append(self, run_id: str, frame: Frame) -> None:
        """Append a frame to this process's journal of a run."""
        self.append_frames(run_id, framed(encode(frame.plain())))

    def append_points(self, run_id: str, points: Iterable[KeyedPoint], body: bytes) -> None:
        """Append *points*, of which `points_body` made *body*."""
        self.append_frames(run_id, framed(body), points)

    def append_frames(
        self, run_id: str, data: bytes, points: Iterable[KeyedPoint] | None = None
    ) -> tuple[str, tuple[int, int]]:
        """Append what `frame` made of records; return to which file, and where they are there.

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
                place = writer.journal.append_frames(data)
            else:
                place = writer.append_and_fold(data, points)
        except StorageError:
            if not writer.journal.is_closed:
                raise
            # Another thread has ended the run meanwhile, or it was closed in favour of others.
            self._reopen(run_id, writer)
            return self.append_frames(run_id, data, points)
        if writer.reader is not None:
            self._look_for_the_end(run_id, writer, writer.reader)
        if writer.ended:
            self.index(writer.experiment_id).mark_stale(run_id)
        return writer.journal.path, place

    def take_reader(self, run_id: str) -> RunReader:
        """Return what has read a run as far as possible; from now on it is the caller's alone."""
        writer = self._writers.get(run_id)
        if writer is not None and writer.process == os.getpid():
            with writer.looking:
                own, writer.own = writer.own, None
            if own is not None:
                return own
        return RunReader(self.folder(self.home(run_id)), run_id, keep_history=IN_JSON)

    def is_open(self, run_id: str) -> bool:
        """Whether this process has a journal of a run open: it logged to it and has not ended it."""
        return run_id in self._writers

    def finish(self, reader: RunReader, *, soon: bool = False) -> RunRow:
        """Put the row of a run that has ended into the index, write its view, and return the row.

        *soon* leaves flushing the index to the background.
        """
        run_id = reader.run_id
        index = self.index(self.home(run_id))
        row = reader.poll().row
        index.put(row, soon=soon)
        reader.write_view()
        self.release(run_id)
        known = reader.through
        reader.poll()
        if reader.through != known:  # another thread has logged until just now
            index.mark_stale(run_id)
        return row

    def release(self, run_id: str) -> None:
        """Close this process's journal of a run."""
        with self._lock:
            writer = self._writers.pop(run_id, None)
            self._opened.pop(run_id, None)
        if writer is not None:
            writer.journal.close()

    def erase(self, run_id: str) -> None:
        """Delete a run with its journals, for ever; its artifacts stay."""
        home = self.home(run_id)
        folder = self.folder(home)
        # Out of the index first: what a kill leaves then is a run that can be erased again.
        self.index(home).drop(run_id)
        self.release(run_id)
        with writing(folder):
            main = pathlib.Path(journal_path(folder, run_id, MAIN))
            for path in (main, *folder.glob(f"{run_id}.*")):
                path.unlink(missing_ok=True)
        with self._lock:
            self._homes.pop(run_id, None)

    def close(self) -> None:
        """Close all files that are open."""
        self.heart.stop()
        with self._lock:
            for run_id in list(self._writers):
                self.release(run_id)
            for index in self._indexes.values():
                index.close()

    def _writer(self, run_id: str) -> RunWriter:
        """Return this process's journal of a run that it, or another process, started."""
        if not isinstance(run_id, str):
            raise no_run(run_id)
        with self._lock:
            writer = self._writers.get(run_id)
            if writer is not None and writer.process == os.getpid():
                return writer
            home = self.home(run_id)
            folder = self.folder(home)
            reader = RunReader(folder, run_id, keep_history=False)
            now = max(time.time_ns(), reader.poll().latest + 1)  # raises when there is no start
            name = f"{os.getpid()}-{secrets.token_hex(4)}"
            path = journal_path(folder, run_id, MAIN)
            with JournalWriter(path, durability=self.durability) as main:
                main.append(WriterAdded(name, owner(), now).plain())
            journal = JournalWriter(journal_path(folder, run_id, name), durability=self.durability)
            writer = self._writers[run_id] = RunWriter(home, journal, main=path, reader=reader)
            writer.latest = reader.state.latest_point
            self._note_open(run_id, writer)
            self.heart.start()
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
            path = writer.journal.path
            if not pathlib.Path(path).exists():
                self._writers.pop(run_id)
                raise RunNotFoundError(f"Run {run_id!r} was erased.")
            writer.journal = JournalWriter(path, durability=self.durability)
            self._note_open(run_id, writer)

    def _open_journals(self) -> list[str]:
        with self._lock:
            own = [w for w in self._writers.values() if w.process == os.getpid() and not w.ended]
            return [writer.journal.path for writer in own]

    @staticmethod
    def _look_for_the_end(run_id: str, writer: RunWriter, reader: RunReader) -> None:
        try:
            size = os.stat(str(writer.main)).st_size  # noqa: PTH116 - hot path
        except FileNotFoundError as error:
            raise RunNotFoundError(f"Run {run_id!r} was erased.") from error
        with writer.looking:
            if size != writer.main_size:
                writer.ended = reader.poll().row.status.is_final
                writer.main_size = size
