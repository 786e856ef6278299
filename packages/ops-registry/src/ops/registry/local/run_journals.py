"""One run on disk: a journal per writer, merged on read.

``{run}.main.log`` belongs to the process that started the run. Any other process that logs to the
run (a rank of a distributed training, a forked child) writes ``{run}.{writer}.log`` of its own and
announces it by one frame in the main journal, so a reader finds all journals without listing the
folder. Merging needs no order between files: the last value of a metric is that of the highest
step and then the latest time, parameters and tags go by time, and so does the end. A clock may be set back:
a record counts as no earlier than those before it in its file, and a file as no earlier than what its writer
knew when it announced it.

``{run}.json`` is the folded state with the sizes of the journals it was folded from. It counts only
while those sizes are the real ones; otherwise the journals are read. Short histories are in it, long
ones in a table beside it (`metric_tables`); a few thousand points are read from the journals, which costs
less than loading pyarrow. Both files can be deleted at any time.
"""

from __future__ import annotations

import os
from typing import TYPE_CHECKING, Any, NamedTuple

from ops.foundation.errors import OpsError
from ops.foundation.logs import get_logger
from ops.registry.disk.checked_paths import is_id
from ops.registry.disk.derived_files import write_view
from ops.registry.disk.journal import JournalReader
from ops.registry.errors import CorruptStoreError, RunNotFoundError
from ops.registry.json_values import decode, encode
from ops.registry.local.metric_tables import read_points, write_points
from ops.registry.run_frames import (
    FORMAT,
)
from ops.registry.run_rows import MAIN, RunRow
from ops.registry.tracking.run_state import RunState

if TYPE_CHECKING:
    import logging
    import pathlib
    from collections.abc import Iterable, Mapping

    from ops.registry.records import Metric
    from ops.registry.tracking.run_state import Point


__all__ = [
    "RunReader",
    "current_state",
    "journal_path",
    "load_state",
    "metric_history",
]

logger: logging.Logger = get_logger("ops.registry")

#: Up to so many points are in the JSON view, from so many on they are in Parquet.
IN_JSON, IN_PARQUET = 1_000, 10_000


class RunReader:
    """Follows the journals of one run: each `poll` reads only what is new.

    With *most_bytes* that is about so much of each journal at most, and `has_more` is whether there is more.
    """

    def __init__(
        self,
        folder: pathlib.Path,
        run_id: str,
        *,
        keep_history: bool | int = True,
        most_bytes: int | None = None,
    ) -> None:
        self.folder = folder
        self.run_id = run_id
        self._keep_history = keep_history
        self._most_bytes = most_bytes
        #: How often reading began from the start: at first, and after each error.
        self.beginnings: int = 0
        #: Whether it is being read on, which a signal handler of this thread may find.
        self.is_reading: bool = False
        self._begin()

    def poll(self) -> RunState:
        """Return the state as of now; raises `RunNotFoundError` when the run has no start.

        A signal handler amid reading gets a state of its own.
        """
        if self.is_reading:
            return RunReader(self.folder, self.run_id, keep_history=self._keep_history).poll()
        self.is_reading = True
        try:
            self._read_on()
        except RunNotFoundError:
            raise
        except BaseException:  # an interrupt too: what was read is not read again
            self._begin()
            raise
        finally:
            self.is_reading = False
        if self._readers[MAIN].is_gone:
            raise RunNotFoundError(f"Run {self.run_id!r} was erased.")
        return self.state

    def _apply(self, writer: str, record: Mapping[str, Any]) -> None:
        try:
            recorded = record.get("t")
            if recorded is not None:
                before = self._clocks.get(writer, self.state.began.get(writer, 0))
                recorded = self._clocks[writer] = max(recorded, before)
            self.state.apply(record, recorded)
        except (KeyError, IndexError, TypeError, ValueError, AttributeError) as error:
            if isinstance(error, CorruptStoreError):  # of a newer format
                raise
            # A whole line that this package did not write: as good as a torn one.
            self.refused += 1
            logger.warning("a record of run %s is refused: %s", self.run_id, error)

    def _begin(self) -> None:
        self.state: RunState = RunState(keep_history=self._keep_history)
        self.beginnings += 1
        self._clocks: dict[str, int] = {}
        self._readers: dict[str, JournalReader] = {}
        #: How many whole lines are not what this package writes.
        self.refused: int = 0

    def _read_on(self) -> None:
        # The main journal first: it lists the others.
        for writer in self.state.writers:  # grows while it is walked
            if writer not in self._readers:
                self._readers[writer] = JournalReader(
                    journal_path(self.folder, self.run_id, writer)
                )
            records = self._readers[writer].poll(self._most_bytes)
            if self._readers[writer].is_replaced and not self._readers[MAIN].is_gone:
                self._begin()
                self._read_on()
                return
            for record in records:
                if self._counts(record):
                    self._apply(writer, record)
            if not self.state.has_started:
                raise RunNotFoundError(f"Run {self.run_id!r} has no readable start.")

    def _counts(self, record: Any) -> bool:
        """Whether a record is about this run: nothing before its start is, and no start of another one."""
        if isinstance(record, dict) and record.get("e") == "start":
            return bool(record.get("run") == self.run_id)
        return self.state.has_started

    def advance(self, path: str, position: tuple[int, int], records: Iterable[Any]) -> bool:
        """Fold in *records* that this process has appended to a journal at *position*.

        It saves reading them again. Where something before them is unread it does nothing and returns False.
        """
        if self.is_reading:  # a signal handler's: what it has interrupted reads on, later
            return False
        if not self._readers:
            self._readers[MAIN] = JournalReader(journal_path(self.folder, self.run_id, MAIN))
        for writer, reader in self._readers.items():
            if reader.path == path:
                return self._skip(reader, position, writer, records)
        return False

    def _skip(
        self,
        reader: JournalReader,
        position: tuple[int, int],
        writer: str,
        records: Iterable[Any],
    ) -> bool:
        self.is_reading = True
        try:
            if reader.skip(*position):
                for record in records:
                    self._apply(writer, record)
                return True
        except BaseException:
            self._begin()
            raise
        finally:
            self.is_reading = False
        return False

    @property
    def torn(self) -> int:
        """How many lines were damaged."""
        return sum(reader.torn for reader in self._readers.values())

    @property
    def has_more(self) -> bool:
        """Whether a journal had more than the last poll was to read."""
        return any(reader.has_more for reader in self._readers.values())

    @property
    def through(self) -> dict[str, int]:
        """How many bytes of each journal are folded into the state."""
        return {writer: reader.offset for writer, reader in self._readers.items()}

    def write_view(self) -> None:
        """Write ``{run}.json`` for the state as it was polled, and a long history beside it.

        Without it reading takes longer, nothing else: what fails is logged.
        """
        try:
            self._write_view()
        except (OSError, OpsError):  # a link at its path is refused
            logger.warning("the view of run %s could not be written", self.run_id, exc_info=True)

    def _write_view(self) -> None:
        points = _points(self.state)
        if points >= IN_PARQUET:
            write_points(_table_path(self.folder, self.run_id), self.state.history)
        is_short = self.state.keeps_history and points <= IN_JSON
        view = {
            "format": FORMAT,
            "row": self.state.row.plain(),
            "through": self.through,
            "history": self.state.history if is_short else None,
            "parquet": points >= IN_PARQUET,
        }
        write_view(f"{self.folder}/{self.run_id}.json", encode(view))


def load_state(folder: pathlib.Path, run_id: str, *, history: bool = False) -> RunState:
    """Return the state of a run, from its view when that is current, else from the journals."""
    state = current_state(folder, run_id, history=history)
    return RunReader(folder, run_id, keep_history=history).poll() if state is None else state


def current_state(folder: pathlib.Path, run_id: str, *, history: bool = False) -> RunState | None:
    """Return the state of a run from its view; None when there is none that is current, or has the *history*."""
    view = _current_view(folder, run_id)
    if view is None or (history and view.history is None):
        return None
    return RunState.of(view.row, view.history or {}, view.through)


def metric_history(folder: pathlib.Path, run_id: str, key: str) -> list[Metric]:
    """Return the points of one metric by step, then time; none when it was never logged."""
    view = _current_view(folder, run_id)
    if view is not None and view.has_table:
        state = RunState()
        state.history = {key: read_points(_table_path(folder, run_id), key)}
        # A table may be older than the view: two processes may have ended the run at once.
        summary = view.row.metrics.get(key)
        if len(state.history[key]) == (0 if summary is None else summary.count):
            return state.metric_history(key)
    state = current_state(folder, run_id, history=True) or _read_whole(folder, run_id)
    return state.metric_history(key)


def _read_whole(folder: pathlib.Path, run_id: str) -> RunState:
    """Return the state of a run with its history; a long one of a run that is over is kept as a table.

    Ending a run does not write it, as the process that trained would wait for that.
    """
    reader = RunReader(folder, run_id)
    state = reader.poll()
    if state.row.status.is_final and _points(state) >= IN_PARQUET and os.access(folder, os.W_OK):
        reader.write_view()
    return state


def _points(state: RunState) -> int:
    return sum(map(len, state.history.values()))


class _View(NamedTuple):
    """``{run}.json``: a row, the sizes of the journals that it was folded from, and the points if they are few."""

    row: RunRow
    through: Mapping[str, int]
    history: dict[str, list[Point]] | None
    has_table: bool


def _current_view(folder: pathlib.Path, run_id: str) -> _View | None:
    """Return the view of a run; None when it is not current, damaged or missing: the journals are the truth."""
    try:
        found = decode((folder / f"{run_id}.json").read_bytes())
        points = found["history"]
        view = _View(
            RunRow.from_plain(found["row"]),
            found["through"],
            None if points is None else {k: [tuple(p) for p in v] for k, v in points.items()},
            found["parquet"],
        )
        if found["format"] != FORMAT or not isinstance(view.has_table, bool):
            return None
        if view.row.run_id != run_id or not all(map(is_id, view.through)):
            return None
        for writer, size in view.through.items():
            if os.stat(journal_path(folder, run_id, writer)).st_size != size:  # noqa: PTH116 - strings
                return None
    except (OSError, ValueError, KeyError, TypeError, AttributeError):
        return None
    return view


def _table_path(folder: pathlib.Path, run_id: str) -> pathlib.Path:
    return folder / f"{run_id}.metrics.parquet"


def journal_path(folder: pathlib.Path, run_id: str, writer: str) -> str:
    """Return where *writer* keeps its part of the run."""
    return f"{folder}/{run_id}.{writer}.log"
