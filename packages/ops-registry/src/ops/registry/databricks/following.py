"""Following a run in the warehouse: each time only the points that are new.

Points of one writer arrive in the order of their places, so what was seen is one number per writer, and
the warehouse leaves out all before. A batch that was sent twice has the same places, and is left out too.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from ops.registry.records import RunStatus

if TYPE_CHECKING:
    from collections.abc import Callable

    from ops.registry.databricks.runrows import RunRows
    from ops.registry.records import Metric

__all__ = ["WarehouseFollower"]


class WarehouseFollower:
    """What is new in a run each time it is asked; *settle* sends what this process logged itself."""

    def __init__(self, reading: RunRows, run_id: str, settle: Callable[[], None]) -> None:
        self._reading = reading
        self._run_id = run_id
        self._settle = settle
        self._places: dict[str, int] = {}
        self.is_behind = False

    def poll(self) -> tuple[list[Metric], bool]:
        """Return the points that are new, by time, and whether the run is over."""
        self._settle()
        # The status first: what arrives before the end is read after it.
        over = self._reading.status(self._run_id) is not RunStatus.RUNNING
        found = self._reading.points(self._run_id, self._places)
        for (writer, place), _ in found:
            self._places[writer] = max(place, self._places.get(writer, -1))
        return [metric for _, metric in found], over
