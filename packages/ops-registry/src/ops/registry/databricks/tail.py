"""Following a run in the warehouse: each time only the points that are new.

Points of one writer arrive in the order of their indexes, so what was seen is one number per writer, and
the warehouse leaves out all before. A batch that was sent twice has the same indexes, and is left out too.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from ops.registry.records import RunStatus

if TYPE_CHECKING:
    from collections.abc import Callable

    from ops.registry.databricks.run_reader import RunRows
    from ops.registry.records import Metric

__all__ = ["WarehouseFollower"]


class WarehouseFollower:
    """Returns what is new in a run on each call; *settle* sends what this process logged itself."""

    def __init__(self, reading: RunRows, run_id: str, settle: Callable[[], None]) -> None:
        self._reading = reading
        self._run_id = run_id
        self._settle = settle
        self._seen: dict[str, int] = {}
        self.is_behind = False
        self.is_ending = False  # each round asks for the status first

    def poll(self) -> tuple[list[Metric], bool]:
        """Return the points that are new, by time, and whether the run is over."""
        self._settle()
        # The status first: what arrives before the end is read after it.
        over = self._reading.status(self._run_id) is not RunStatus.RUNNING
        found = self._reading.points(self._run_id, self._seen)
        for (writer, index), _ in found:
            self._seen[writer] = max(index, self._seen.get(writer, -1))
        return [metric for _, metric in found], over
