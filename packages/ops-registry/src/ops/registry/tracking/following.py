"""Following a run: its metrics in the order in which they arrive, from whatever process logs them.

There is no channel between the processes but the journals: each round reads what was appended
since the last one. A run that has ended, or whose processes are dead, is read once more to its end.

Memory is bounded, whatever the length of a run: a round reads some megabytes at most, and what was handed out is
not kept, but for how many points of each metric that were.
"""

from __future__ import annotations

import time
from typing import TYPE_CHECKING

from ops.registry.instants import from_ns
from ops.registry.records import Metric, RunStatus
from ops.registry.tracking.liveness import with_liveness

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from ops.registry.tracking.runlog import RunReader, RunState

__all__ = ["Follower", "follow"]


#: How much of a journal a round reads: some ten thousand points.
MOST_BYTES = 1 << 20


class Follower:
    """What is new in a run each time it is asked; *is_behind* says whether there is more already."""

    def __init__(self, reader: RunReader) -> None:
        self._reader = reader
        self._beginnings = reader.beginnings
        self._read: dict[str, int] = {}  # points of each metric since reading began
        self._given: dict[str, int] = {}  # points of each metric that were handed out
        self.is_behind: bool = False

    def poll(self) -> tuple[list[Metric], bool]:
        """Return the points that are new, by time, and whether the run is over."""
        reader = self._reader
        # The status of the round before: what a process logged just before it died is still read.
        over = reader.state.has_started and not self.is_behind and _is_over(reader)
        state = reader.poll()
        self.is_behind = reader.has_more
        if reader.beginnings != self._beginnings:  # an error amid reading: all is read again
            self._beginnings, self._read = reader.beginnings, {}
        return self._new(state), over and not self.is_behind

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


def follow(
    reader: RunReader, interval_seconds: float, sleep: Callable[[float], object] = time.sleep
) -> Iterator[Metric]:
    """Yield every point of a run, then new ones as they appear, until the run is over."""
    follower = Follower(reader)
    while True:
        points, over = follower.poll()
        yield from points
        if over:
            return
        if not follower.is_behind and not _is_over(reader):
            sleep(interval_seconds)


def _is_over(reader: RunReader) -> bool:
    row = with_liveness(reader.state.row, reader.folder)
    return row.status is not RunStatus.RUNNING
