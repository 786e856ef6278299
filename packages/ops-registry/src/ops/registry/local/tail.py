"""Following a run: its metrics in the order in which they arrive, from whatever process logs them.

There is no channel between the processes but the journals: each round reads what was appended
since the last one. A run that has ended, or whose processes are dead, is read once more to its end.

Memory is bounded, whatever the length of a run: a round reads some megabytes at most, and what was handed out is
not kept, but for how many points of each metric that were.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from ops.registry.instants import from_ns
from ops.registry.local.liveness import with_liveness
from ops.registry.local.run_journals import RunReader
from ops.registry.records import Metric, RunStatus

if TYPE_CHECKING:
    import pathlib

    from ops.registry.tracking.run_state import RunState

__all__ = ["JournalFollower"]


#: How much of a journal a round reads: some ten thousand points.
MOST_BYTES = 1 << 20


class JournalFollower:
    """Returns what is new in a run, whose journals are in *folder*, on each call."""

    def __init__(self, folder: pathlib.Path, run_id: str) -> None:
        self._reader = RunReader(folder, run_id, most_bytes=MOST_BYTES)
        self._beginnings = self._reader.beginnings
        self._read: dict[str, int] = {}  # points of each metric since reading began
        self._given: dict[str, int] = {}  # points of each metric that were handed out
        self._has_more = False

    @property
    def is_behind(self) -> bool:
        """Whether the journals have more than a round reads."""
        return self._has_more

    @property
    def is_ending(self) -> bool:
        """Whether the run is over, and its journals are to be read once more."""
        return self._is_over()

    def poll(self) -> tuple[list[Metric], bool]:
        """Return the points that are new, by time, and whether the run is over."""
        reader = self._reader
        # The status of the round before: what a process logged just before it died is still read.
        over = not self._has_more and self._is_over()
        state = reader.poll()
        self._has_more = reader.has_more
        if reader.beginnings != self._beginnings:  # an error amid reading: all is read again
            self._beginnings, self._read = reader.beginnings, {}
        return self._new(state), over and not self._has_more

    def _new(self, state: RunState) -> list[Metric]:
        history, state.history = state.history, {}
        found: list[tuple[int, Metric]] = []
        for key, points in history.items():
            known = self._read.get(key, 0)
            start = max(0, self._given.get(key, 0) - known)
            for value, step, when in points[start:]:
                found.append((when, Metric(key, value, step, from_ns(when))))
            self._read[key] = known + len(points)
            self._given[key] = max(self._given.get(key, 0), self._read[key])
        return [metric for _, metric in sorted(found, key=lambda pair: pair[0])]

    def _is_over(self) -> bool:
        reader = self._reader
        if not reader.state.has_started:
            return False
        row = with_liveness(reader.state.row, reader.folder)
        return row.status is not RunStatus.RUNNING
