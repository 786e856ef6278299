"""What one process knows of a run that it logs to: its journal, and what the run comes to."""

from __future__ import annotations

import os
import threading
from typing import TYPE_CHECKING, Any

from ops.registry.disk.journal import parse

if TYPE_CHECKING:
    from collections.abc import Iterable

    from ops.registry.disk.journal import JournalWriter
    from ops.registry.local.run_journals import RunReader
    from ops.registry.run_rows import RunRow
    from ops.registry.tracking.metric_encoding import KeyedPoint

__all__ = ["RunWriter"]


class RunWriter:
    """This process's journal of one run, and whether the run had ended when it last looked.

    Of a run that this process started, *own* has folded in what was logged: its end reads nothing again.

    A process that logs to a run of another one looks after each append whether *main* has grown: the run may
    have been ended meanwhile, and its row in the index would miss what comes now. *reader* follows the run for that.
    """

    __slots__ = (
        "ended",
        "experiment_id",
        "journal",
        "latest",
        "looking",
        "main",
        "main_size",
        "own",
        "process",
        "reader",
        "used",
    )

    def __init__(
        self,
        experiment_id: str,
        journal: JournalWriter,
        *,
        main: str | None = None,
        reader: RunReader | None = None,
        own: RunReader | None = None,
    ) -> None:
        self.experiment_id = experiment_id
        self.journal = journal
        self.process = os.getpid()
        self.ended = False
        self.main = main
        self.reader = reader
        self.own = own
        self.looking = threading.RLock()  # a signal handler may log in the middle of logging
        self.main_size = -1
        self.latest = 0  # when it logged last, in nanoseconds
        self.used = True  # since it was last considered for closing

    def append_and_fold(self, data: bytes, points: Iterable[KeyedPoint] | None) -> tuple[int, int]:
        """Append *data* and fold it in, in one step, so that the order is that of the file."""
        with self.looking:
            written = self.journal.append_frames(data)
            own = self.own
            # What another process has written in between, to announce itself, is read with it.
            if own is not None and not own.advance(
                self.journal.path, written, _records(data, points)
            ):
                own.poll()
            return written

    def read(self) -> RunRow | None:
        """Return what the run comes to now, if this has folded in what was logged; it is the caller's own."""
        with self.looking:
            return None if self.own is None else self.own.poll().row.copy()

    def take(self) -> RunReader | None:
        """Return what has folded in what was logged, which is the caller's alone from now on, unless it is at work."""
        with self.looking:
            own, self.own = self.own, None
            return None if own is None or own.is_reading else own

    def look_for_the_end(self, size: int) -> None:
        """Find out whether the run was ended, when its main journal has another *size* than before."""
        with self.looking:
            if self.reader is not None and size != self.main_size:
                self.ended = self.reader.poll().row.status.is_final
                self.main_size = size


def _records(data: bytes, points: Iterable[KeyedPoint] | None) -> Iterable[Any]:
    if points is not None:
        return ({"m": points},)
    return parse(data)[0]  # as a reader would see them, and nothing that the caller can change
