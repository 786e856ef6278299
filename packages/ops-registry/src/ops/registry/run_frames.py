"""What happened to a run, as journals have it: one frame for each event, with its only encoder and decoder.

A frame is a line of JSON with short keys. A kind that this version does not know is kept, counted and copied; it
changes nothing. Points of metrics are the frames that training loops wait for: they are encoded by
`ops.registry.tracking.metric_encoding` and folded as they are.
"""

from __future__ import annotations

import dataclasses
from typing import TYPE_CHECKING, Any, Protocol

from ops.registry.records import RunStatus
from ops.registry.run_rows import MAIN, KeptArtifact, RunRow

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

__all__ = [
    "FORMAT",
    "ArtifactLogged",
    "ExtraAdded",
    "Frame",
    "ParametersLogged",
    "RunChanged",
    "RunEnded",
    "RunStarted",
    "TagsSet",
    "WriterAdded",
    "frame_of",
]

FORMAT = 1


class Frame(Protocol):
    """What happened to a run; times are nanoseconds since the epoch."""

    def plain(self) -> dict[str, Any]:
        """Return it as it is on disk."""
        ...


@dataclasses.dataclass(frozen=True, slots=True)
class RunStarted:
    """A run exists from here on; *started_at* is a start that the caller gave.

    *owner* is the process that has to live for the run to go on, as `ops.registry.local.liveness` knows it; it sends
    a heartbeat every *heartbeat_seconds*, and none with 0.
    """

    run_id: str
    experiment_id: str
    name: str
    at: int
    parent: str | None = None
    tags: Mapping[str, str] = dataclasses.field(default_factory=dict)
    owner: Sequence[Any] | None = None
    heartbeat_seconds: float = 0
    started_at: int | None = None

    def row(self) -> RunRow:
        """Return the row of a run to which nothing else has happened."""
        return RunRow(
            self.run_id,
            self.experiment_id,
            self.name,
            RunStatus.RUNNING,
            self.at if self.started_at is None else self.started_at,
            parent=self.parent,
            tags=dict(self.tags),
            owners=[self.owner],
            writers=[MAIN],
            heartbeat_seconds=self.heartbeat_seconds,
        )

    def plain(self) -> dict[str, Any]:
        """Return it as it is on disk."""
        given = {} if self.started_at is None else {"s": self.started_at}
        return {
            "e": "start",
            "v": FORMAT,
            "run": self.run_id,
            "exp": self.experiment_id,
            "name": self.name,
            "t": self.at,
            **given,
            "parent": self.parent,
            "o": self.owner,
            "hb": self.heartbeat_seconds,
            "tags": self.tags,
        }


@dataclasses.dataclass(frozen=True, slots=True)
class RunEnded:
    """A run has ended, with the *error* that ended it if there was one."""

    status: RunStatus
    at: int
    error: str | None = None

    def plain(self) -> dict[str, Any]:
        """Return it as it is on disk."""
        return {"e": "end", "status": str(self.status), "t": self.at, "error": self.error}


@dataclasses.dataclass(frozen=True, slots=True)
class RunChanged:
    """Fields of a run's row were changed."""

    fields: Mapping[str, Any]
    at: int

    def plain(self) -> dict[str, Any]:
        """Return it as it is on disk."""
        return {"e": "change", "c": self.fields, "t": self.at}


@dataclasses.dataclass(frozen=True, slots=True)
class ExtraAdded:
    """Something was kept for another program."""

    kind: str
    value: Any
    at: int

    def plain(self) -> dict[str, Any]:
        """Return it as it is on disk."""
        return {"e": "extra", "k": self.kind, "x": self.value, "t": self.at}


@dataclasses.dataclass(frozen=True, slots=True)
class WriterAdded:
    """Another process, the *owner*, logs to the run from here on."""

    writer: str
    owner: Sequence[Any] | None
    at: int

    def plain(self) -> dict[str, Any]:
        """Return it as it is on disk."""
        return {"e": "writer", "w": self.writer, "o": self.owner, "t": self.at}


@dataclasses.dataclass(frozen=True, slots=True)
class ParametersLogged:
    """Parameters were logged."""

    parameters: Mapping[str, Any]
    at: int

    def plain(self) -> dict[str, Any]:
        """Return it as it is on disk."""
        return {"p": self.parameters, "t": self.at}


@dataclasses.dataclass(frozen=True, slots=True)
class TagsSet:
    """Tags were set; None removes one."""

    tags: Mapping[str, str | None]
    at: int

    def plain(self) -> dict[str, Any]:
        """Return it as it is on disk."""
        return {"g": self.tags, "t": self.at}


@dataclasses.dataclass(frozen=True, slots=True)
class ArtifactLogged:
    """An artifact was logged, in place of one of its name; without a time it has come with its run."""

    artifact: KeptArtifact
    at: int | None = None

    def plain(self) -> dict[str, Any]:
        """Return it as it is on disk."""
        when = {} if self.at is None else {"t": self.at}
        return {"a": self.artifact.plain(), **when}


def frame_of(record: Mapping[str, Any]) -> Frame | None:
    """Return the frame of a record without points; None when it is of a kind that this version does not know.

    Raises:
        KeyError, TypeError, ValueError: it is of a known kind, and not as this package writes it.
    """
    if "p" in record:
        return ParametersLogged(_mapping(record["p"]), record.get("t", 0))
    if "g" in record:
        return TagsSet(_mapping(record["g"]), record.get("t", 0))
    if "a" in record:
        return ArtifactLogged(KeptArtifact(*record["a"]), record.get("t"))
    match record.get("e"):
        case "start":
            return RunStarted(
                record["run"],
                record["exp"],
                record["name"],
                record["t"],
                record["parent"],
                _mapping(record["tags"]),
                record.get("o"),
                record.get("hb", 0),
                record.get("s"),
            )
        case "end":
            return RunEnded(RunStatus(record["status"]), record["t"], record["error"])
        case "change":
            return RunChanged(_mapping(record["c"]), record.get("t", 0))
        case "extra":
            return ExtraAdded(record["k"], record["x"], record.get("t", 0))
        case "writer":
            return WriterAdded(record["w"], record.get("o"), record.get("t", 0))
    return None


def _mapping(found: Any) -> Mapping[str, Any]:
    if not isinstance(found, dict):
        raise TypeError(f"{found!r:.80} is no mapping")
    return found
