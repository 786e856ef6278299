"""What a run comes to, apart from any backend: how it is taken from one store to another.

A backend exports a run as a `RunCopy` and imports one; times are kept to the nanosecond. What only MLflow keeps
(logged models, inputs) has no field in it and stays behind.
"""

from __future__ import annotations

import dataclasses
import json
from typing import TYPE_CHECKING, Any

from ops.registry.run_frames import ParametersLogged, TagsSet

if TYPE_CHECKING:
    from collections.abc import Iterator

__all__ = ["RunCopy"]

#: Points per frame.
_POINTS = 500


@dataclasses.dataclass(slots=True)
class RunCopy:
    """A run with all points of its metrics; *start*, *end* and *deleted* are nanoseconds since the epoch.

    *points* are (metric, value, step, nanoseconds) in the order they were logged, *artifacts* (name, size, SHA-256).
    A *status* of STALE is RUNNING here: it describes not the run, only its processes.
    """

    run_id: str
    name: str
    status: str
    start: int
    end: int | None = None
    parent: str | None = None
    error: str | None = None
    parameters: dict[str, Any] = dataclasses.field(default_factory=dict)
    tags: dict[str, str] = dataclasses.field(default_factory=dict)
    points: list[tuple[str, float, int, int]] = dataclasses.field(default_factory=list)
    artifacts: list[tuple[str, int, str]] = dataclasses.field(default_factory=list)
    deleted: int | None = None

    def canonical_text(self) -> str:
        """Return all of it as text: NaN equals NaN there, and no order matters."""
        fields = dataclasses.asdict(self) | {
            "points": sorted(map(repr, self.points)),
            "artifacts": sorted(self.artifacts),
        }
        return json.dumps(fields, sort_keys=True)

    def records(self) -> Iterator[dict[str, Any]]:
        """Yield the frames that say it, as they are on disk, without its start, end and artifacts."""
        if self.parameters:
            yield ParametersLogged(dict(self.parameters), self.start).plain()
        if self.tags:
            yield TagsSet(dict(self.tags), self.start).plain()
        for at in range(0, len(self.points), _POINTS):
            yield {"m": [list(point) for point in self.points[at : at + _POINTS]]}
