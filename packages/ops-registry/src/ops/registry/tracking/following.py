"""Following a run: its metrics in the order in which they arrive, from whatever process logs them.

There is no channel between the processes but the journals: each round reads what was appended
since the last one. A run that has ended, or whose processes are dead, is read once more to its end.
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


class Follower:
    """What is new in a run each time it is asked."""

    def __init__(self, reader: RunReader) -> None:
        self._reader = reader
        self._seen: dict[str, int] = {}

    def poll(self) -> tuple[list[Metric], bool]:
        """Return the points that are new, by time, and whether the run is over."""
        reader = self._reader
        # The status of the round before: what a process logged just before it died is still read.
        over = bool(reader.state.row) and _is_over(reader)
        return _new(reader.poll(), self._seen), over


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
        if not _is_over(reader):
            sleep(interval_seconds)


def _is_over(reader: RunReader) -> bool:
    row = with_liveness(reader.state.row, reader.folder)
    return RunStatus(row["status"]) is not RunStatus.RUNNING


def _new(state: RunState, seen: dict[str, int]) -> list[Metric]:
    found: list[tuple[int, Metric]] = []
    for key, points in state.history.items():
        for value, step, when in points[seen.get(key, 0) :]:
            found.append((when, Metric(key, value, step, from_ns(when))))
        seen[key] = len(points)
    return [metric for _, metric in sorted(found, key=lambda pair: pair[0])]
