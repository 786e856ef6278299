"""What a run comes to, as stores keep it: one row, with a summary of each of its metrics. There is no I/O here.

A row is folded from frames (`ops.registry.tracking.run_state`), put into indexes and views, searched, and shown to users as a
`ops.registry.records.Run`. `RunRow.plain` is its only form on disk, and `RunRow.from_plain` the only way back: what
has another shape is refused there, so no other code has to check again.
"""

from __future__ import annotations

import dataclasses
import math
from typing import TYPE_CHECKING, Any, Self

from ops.registry.records import RunStatus

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

__all__ = ["MAIN", "SUMMARY_FIELDS", "KeptArtifact", "RunRow", "RunningSummary"]

#: The writer that a run begins with.
MAIN = "main"
#: The groups of fields that searches know of a metric, and which of its summary they are.
SUMMARY_FIELDS = {
    "metrics": "last",
    "metrics_min": "minimum",
    "metrics_max": "maximum",
    "metrics_min_step": "minimum_step",
    "metrics_max_step": "maximum_step",
}
_STATUSES = {str(status): status for status in RunStatus}
_OPTIONAL_TEXT = (str, type(None))
_NUMBER = (int, float)
_OPTIONAL_NUMBER = (int, float, type(None))
#: What frames may change of a row, and what it may become.
_CHANGEABLE: dict[str, tuple[type, ...]] = {
    "name": _OPTIONAL_TEXT,
    "start": _NUMBER,
    "end": _OPTIONAL_NUMBER,
    "parent": _OPTIONAL_TEXT,
    "error": _OPTIONAL_TEXT,
}


@dataclasses.dataclass(slots=True)
class RunningSummary:
    """What the points of a metric come to so far; *last_at* is in nanoseconds since the epoch.

    *last* is that of the highest step, then the latest time, then the greatest value. *minimum* and *maximum* ignore
    NaN and are NaN when there is nothing else; their steps are the lowest at which they were met. So the result does
    not depend on the order in which journals are read.
    """

    last: float
    last_step: int
    last_at: int
    minimum: float
    maximum: float
    count: int
    minimum_step: int
    maximum_step: int

    @classmethod
    def of(cls, value: float, step: int, at: int) -> Self:
        """Return the summary of one point."""
        return cls(value, step, at, value, value, 1, step, step)

    def add(self, value: float, step: int, at: int) -> None:
        """Fold one more point in; a million of them are, so most take two comparisons."""
        if step > self.last_step or (
            step == self.last_step and (at, value) >= (self.last_at, self.last)
        ):
            self.last, self.last_step, self.last_at = value, step, at
        self.count += 1
        if self.minimum < value < self.maximum or value != value:  # noqa: PLR0124 - a NaN
            return
        if math.isnan(self.minimum) or (value, step) < (self.minimum, self.minimum_step):
            self.minimum, self.minimum_step = value, step
        if math.isnan(self.maximum) or (-value, step) < (-self.maximum, self.maximum_step):
            self.maximum, self.maximum_step = value, step

    def copy(self) -> RunningSummary:
        """Return a summary that further points do not change."""
        return RunningSummary(*self.plain())

    def plain(self) -> list[Any]:
        """Return it as it is on disk."""
        return [
            self.last,
            self.last_step,
            self.last_at,
            self.minimum,
            self.maximum,
            self.count,
            self.minimum_step,
            self.maximum_step,
        ]

    @classmethod
    def from_plain(cls, found: Sequence[Any]) -> Self:
        """Return what `plain` gave; raises TypeError or ValueError for what it never gives."""
        made = cls(*found)
        if not all(isinstance(value, _NUMBER) for value in found):
            raise TypeError(f"a summary of a metric has numbers alone, not {found!r:.120}")
        return made


@dataclasses.dataclass(frozen=True, slots=True)
class KeptArtifact:
    """An artifact as a run has it: its name, size in bytes, SHA-256, and its address if that is not in the store."""

    path: str
    size: int
    checksum: str
    address: str | None = None

    def plain(self) -> list[Any]:
        """Return it as it is on disk."""
        kept = [self.path, self.size, self.checksum]
        return kept if self.address is None else [*kept, self.address]


@dataclasses.dataclass(slots=True)
class RunRow:
    """One run: times are nanoseconds since the epoch, *owners* the processes that logged to it, one for each writer.

    *more* has what most runs have not: ``deleted``, ``extra``, and whatever a later version adds.
    """

    run_id: str
    experiment_id: str
    name: str
    status: RunStatus
    start: int
    end: int | None = None
    parent: str | None = None
    error: str | None = None
    params: dict[str, Any] = dataclasses.field(default_factory=dict)
    tags: dict[str, str] = dataclasses.field(default_factory=dict)
    metrics: dict[str, RunningSummary] = dataclasses.field(default_factory=dict)
    artifacts: list[KeptArtifact] = dataclasses.field(default_factory=list)
    owners: list[Any] = dataclasses.field(default_factory=list)
    writers: list[str] = dataclasses.field(default_factory=lambda: [MAIN])
    heartbeat_seconds: float = 0
    more: dict[str, Any] = dataclasses.field(default_factory=dict)

    @property
    def deleted(self) -> int | None:
        """Since when it is hidden; None when it is not."""
        found: int | None = self.more.get("deleted")
        return found

    @property
    def extra(self) -> Mapping[str, list[Any]]:
        """What was kept for other programs, by kind."""
        found: Mapping[str, list[Any]] = self.more.get("extra", {})
        return found

    def change(self, key: str, value: Any) -> None:
        """Change one field, which is named as on disk.

        Raises:
            ValueError: a row has it otherwise, or does not let it be changed.
        """
        kinds = _CHANGEABLE.get(key)
        if key == "status":
            self.status = RunStatus(value)
        elif kinds is not None:
            setattr(self, key, _checked(key, value, kinds))
        elif key == "deleted":
            self.more[key] = _checked(key, value, _OPTIONAL_NUMBER)
        elif key in _ON_DISK or key == "extra":
            raise ValueError(f"the {key} of a run cannot be replaced")
        else:
            self.more[key] = value

    def add_extra(self, kind: str, value: Any) -> None:
        """Keep something for another program."""
        self.more.setdefault("extra", {}).setdefault(kind, []).append(value)

    def copy(self) -> RunRow:
        """Return a row that further frames do not change; a parameter is never changed in place, nor an owner."""
        made = self.with_status(self.status)
        made.params = dict(self.params)
        made.tags = dict(self.tags)
        made.metrics = {key: summary.copy() for key, summary in self.metrics.items()}
        made.artifacts = list(self.artifacts)
        made.owners = list(self.owners)
        made.writers = list(self.writers)
        made.more = dict(self.more)
        if "extra" in made.more:
            made.more["extra"] = {kind: list(kept) for kind, kept in self.extra.items()}
        return made

    def with_status(self, status: RunStatus) -> RunRow:
        """Return the same run with another status; what it has in it is shared."""
        return RunRow(
            self.run_id,
            self.experiment_id,
            self.name,
            status,
            self.start,
            self.end,
            self.parent,
            self.error,
            self.params,
            self.tags,
            self.metrics,
            self.artifacts,
            self.owners,
            self.writers,
            self.heartbeat_seconds,
            self.more,
        )

    def plain(self) -> dict[str, Any]:
        """Return it as it is on disk."""
        return {
            "run_id": self.run_id,
            "experiment_id": self.experiment_id,
            "name": self.name,
            "status": str(self.status),
            "start": self.start,
            "end": self.end,
            "parent": self.parent,
            "error": self.error,
            "params": self.params,
            "tags": self.tags,
            "metrics": {key: summary.plain() for key, summary in self.metrics.items()},
            "artifacts": [artifact.plain() for artifact in self.artifacts],
            "owners": self.owners,
            "writers": self.writers,
            "beat": self.heartbeat_seconds,
            **self.more,
        }

    @classmethod
    def from_plain(cls, found: Any) -> Self:
        """Return what `plain` gave; a row of a version that had no heartbeat yet is one without.

        Raises:
            ValueError: it is no row.
        """
        try:
            made = cls(
                _checked("run_id", found["run_id"], (str,)),
                _checked("experiment_id", found["experiment_id"], (str,)),
                found["name"],
                _STATUSES[found["status"]],
                found["start"],
                found["end"],
                found["parent"],
                found["error"],
                _checked("params", found["params"], (dict,)),
                _checked("tags", found["tags"], (dict,)),
                {key: RunningSummary.from_plain(s) for key, s in found["metrics"].items()},
                [KeptArtifact(*one) for one in found["artifacts"]],
                _checked("owners", found["owners"], (list,)),
                _checked("writers", found["writers"], (list,)),
                _checked("beat", found.get("beat") or 0, _NUMBER),
                {key: value for key, value in found.items() if key not in _ON_DISK},
            )
            for key, kinds in _CHANGEABLE.items():
                _checked(key, getattr(made, key), kinds)
            _checked("deleted", made.deleted, _OPTIONAL_NUMBER)
            for kept in _checked("extra", made.extra, (dict,)).values():
                _checked("extra", kept, (list,))
        except (KeyError, TypeError, AttributeError) as error:
            raise ValueError(f"no row of a run: {error}") from error
        return made


_ON_DISK = frozenset(RunRow("", "", "", RunStatus.RUNNING, 0).plain())


def _checked(key: str, value: Any, kinds: tuple[type, ...]) -> Any:
    if not isinstance(value, kinds):
        raise ValueError(f"the {key} of a run cannot be {value!r:.80}")  # noqa: TRY004 - it was read, not passed
    return value
