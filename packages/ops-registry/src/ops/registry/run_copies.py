"""What a run comes to, apart from any backend: how it is taken from one store to another.

A backend exports a run as a `RunCopy` and imports one; times are kept to the nanosecond. What only MLflow keeps
(logged models, inputs) has no field in it and stays behind.
"""

from __future__ import annotations

import dataclasses
import json
from collections import Counter
from typing import TYPE_CHECKING, Any, TypeAlias

from ops.registry.run_frames import ParametersLogged, RunChanged, TagsSet

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Mapping, Sequence

    _Point: TypeAlias = tuple[str, float, int, int]

__all__ = ["RunCopy", "missing_points", "points_in_frames"]

#: Points per frame.
_POINTS = 500
#: What can change in the row of a run.
_FIELDS = ("name", "status", "end", "error", "deleted")


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

    def lacks(self, there: RunCopy) -> bool:
        """Whether a copy of the same run *there* has points, parameters or artifacts that this one has not."""
        names = {name for name, _, _ in there.artifacts} - {name for name, _, _ in self.artifacts}
        return bool(
            names
            or there.parameters.keys() - self.parameters
            or missing_points(there.points, self.points)
        )

    def new_artifacts(self, there: RunCopy) -> set[str]:
        """Return the names of artifacts that the same run *there* has not, or has otherwise."""
        return {name for name, *_ in set(self.artifacts).difference(there.artifacts)}

    def changes(self, there: RunCopy, at: int) -> Iterator[dict[str, Any]]:
        """Yield the records, as of *at*, that make of the same run *there* what this one is, but for its artifacts."""
        yield from points_in_frames(missing_points(self.points, there.points))
        new = dict(_differing(self.parameters, there.parameters))
        if new:
            yield ParametersLogged(new, at).plain()
        removed: dict[str, str | None] = dict.fromkeys(there.tags.keys() - self.tags)
        tags = {**removed, **dict(_differing(self.tags, there.tags))}
        if tags:
            yield TagsSet(tags, at).plain()
        fields = {f: getattr(self, f) for f in _FIELDS if getattr(self, f) != getattr(there, f)}
        if fields:
            yield RunChanged(fields, at).plain()

    def records(self) -> Iterator[dict[str, Any]]:
        """Yield the frames that say it, as they are on disk, without its start, end and artifacts."""
        if self.parameters:
            yield ParametersLogged(dict(self.parameters), self.start).plain()
        if self.tags:
            yield TagsSet(dict(self.tags), self.start).plain()
        yield from points_in_frames(self.points)


def points_in_frames(points: Sequence[_Point]) -> Iterator[dict[str, Any]]:
    """Yield the frames of *points*."""
    for at in range(0, len(points), _POINTS):
        yield {"m": [list(point) for point in points[at : at + _POINTS]]}


def missing_points(points: Iterable[_Point], known: Iterable[_Point]) -> list[_Point]:
    """Return those of *points* that are not among the *known*; one that was logged twice is twice there."""
    left = Counter((key, repr(value), step, when) for key, value, step, when in known)
    missing = []
    for key, value, step, when in points:
        point = (key, repr(value), step, when)  # NaN is not equal to itself
        if left[point]:
            left[point] -= 1
        else:
            missing.append((key, value, step, when))
    return missing


def _differing(values: Mapping[str, Any], known: Mapping[str, Any]) -> Iterator[tuple[str, Any]]:
    for key, value in values.items():
        # As text: True equals 1, and NaN not itself.
        if key not in known or repr(value) != repr(known[key]):
            yield key, value
