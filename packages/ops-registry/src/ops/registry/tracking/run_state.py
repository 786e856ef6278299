"""What a run comes to: its frames, folded into a row and, if wanted, the points of its metrics.

The fold is the same for every backend that keeps frames. The order in which the journals of several writers are read makes
no difference: the last value of a metric is that of the highest step and then the latest time, parameters, tags and
changes go by time. What no frame of this package has is refused, one record at a time.
"""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Any

from ops.registry.disk.checked_paths import is_id
from ops.registry.errors import CorruptStoreError, RunNotFoundError
from ops.registry.instants import from_ns
from ops.registry.records import Metric
from ops.registry.run_frames import (
    FORMAT,
    ArtifactLogged,
    ExtraAdded,
    ParametersLogged,
    RunChanged,
    RunEnded,
    RunStarted,
    TagsSet,
    WriterAdded,
    frame_of,
)
from ops.registry.run_rows import MAIN, RunningSummary
from ops.registry.tracking.run_records import is_artifact

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, Sequence

    from ops.registry.run_frames import Frame
    from ops.registry.run_rows import KeptArtifact, RunRow

__all__ = ["Point", "RunState", "folded"]

Point = tuple[float, int, int]  # value, step, nanoseconds since the epoch


class RunState:
    """What the records of a run come to; `apply` may be called in any order of the journals.

    Without *keep_history* only the summaries of metrics stay in memory; a number keeps the points as
    long as there are no more.
    """

    def __init__(self, *, keep_history: bool | int = True) -> None:
        self.keeps_history: bool = bool(keep_history)
        self._free = math.inf if keep_history is True else keep_history
        self._row: RunRow | None = None
        self.history: dict[str, list[Point]] = {}
        self.writers: list[str] = [MAIN]
        #: How many records are of kinds that this version does not know; they change nothing, and are copied.
        self.unknown: int = 0
        #: When each writer began, by what it knew of the run.
        self.began: dict[str, int] = {}
        self._times: dict[tuple[str, str], int] = {}

    @classmethod
    def of(cls, row: RunRow, history: dict[str, list[Point]], writers: Iterable[str]) -> RunState:
        """Return the state that a view has."""
        state = cls()
        state._row, state.history, state.writers = row, history, list(writers)
        return state

    @property
    def row(self) -> RunRow:
        """What the run comes to; raises `RunNotFoundError` before its start."""
        if self._row is None:
            raise RunNotFoundError("The run has no readable start.")
        return self._row

    @property
    def has_started(self) -> bool:
        """Whether there was a start, without which there is no run."""
        return self._row is not None

    @property
    def latest(self) -> int:
        """When the latest of the records was written that count by their time, in nanoseconds; 0 if never."""
        return max(self._times.values(), default=0)

    @property
    def latest_point(self) -> int:
        """When the latest last value of a metric was logged, in nanoseconds; 0 if none was."""
        found = () if self._row is None else self._row.metrics.values()
        return max((summary.last_at for summary in found), default=0)

    def apply(self, record: Mapping[str, Any], when: int | None = None) -> None:
        """Fold one record in, as of its time or of *when*."""
        if "m" in record:
            for one in record["m"]:
                self.point(*one)
            return
        if record.get("e") == "start" and record["v"] > FORMAT:
            raise CorruptStoreError(
                f"Run {record['run']} was written in format {record['v']}; this version of "
                f"ops-registry reads up to {FORMAT}.",
                suggestions=("Upgrade ops-registry.",),
            )
        frame = frame_of(record)
        if frame is None:
            self.unknown += 1
            return
        self.fold(frame, record.get("t", 0) if when is None else when)

    def fold(self, frame: Frame, when: int) -> None:
        """Fold one frame in, as of *when*."""
        match frame:
            case ParametersLogged(parameters):
                self._latest("params", parameters, when)
            case TagsSet(tags):
                self._latest("tags", tags, when)
            case ArtifactLogged(artifact):
                self._artifact(artifact, when)
            case RunStarted():
                if not (is_id(frame.run_id) and is_id(frame.experiment_id)):
                    raise _RefusedRecordError("a start with ids that this package does not give")
                self._row = frame.row()
                for key in frame.tags:
                    self._times["tags", key] = when
            case RunEnded(status, at, error):
                self._change({"status": status, "end": at, "error": error}, when)
            case RunChanged(fields):
                self._change(fields, when)
            case ExtraAdded(kind, value):
                self.row.add_extra(kind, value)
            case WriterAdded(writer, owner):
                self._add_writer(writer, owner, when)

    def _add_writer(self, writer: str, owner: Sequence[Any] | None, when: int) -> None:
        if writer in self.writers:
            return
        if not is_id(writer):
            raise _RefusedRecordError(f"a writer called {writer!r:.80}")
        self.writers.append(writer)
        self.began[writer] = when
        self.row.owners.append(owner)
        self.row.writers.append(writer)

    def _change(self, fields: Mapping[str, Any], when: int) -> None:
        for key, value in fields.items():
            if when >= self._times.get(("row", key), when):
                self.row.change(key, value)
                self._times["row", key] = when

    def point(self, key: str, value: float, step: int, when: int) -> None:
        """Fold one point of a metric in."""
        if self.keeps_history:
            self._keep(key, (value, step, when))
        metrics = self.row.metrics
        summary = metrics.get(key)
        if summary is None:
            metrics[key] = RunningSummary.of(value, step, when)
        else:
            summary.add(value, step, when)

    def forget_history(self) -> None:
        """Keep summaries alone from now on."""
        self.keeps_history, self.history = False, {}

    def _keep(self, key: str, point: Point) -> None:
        self.history.setdefault(key, []).append(point)
        self._free -= 1
        if self._free < 0:
            self.forget_history()

    def _latest(self, kind: str, recorded: Mapping[str, Any], when: int) -> None:
        kept: dict[str, Any] = self.row.params if kind == "params" else self.row.tags
        for key, value in recorded.items():
            if when >= self._times.get((kind, key), when):
                self._times[kind, key] = when
                if value is None and kind == "tags":  # it was removed
                    kept.pop(key, None)
                else:
                    kept[key] = value

    def _artifact(self, artifact: KeptArtifact, when: int) -> None:
        if not is_artifact(artifact):
            raise _RefusedRecordError(f"an artifact called {artifact.path!r:.120}")
        row, key = self.row, ("artifact", artifact.path)
        before = self._times.get(key)
        if before is not None:
            if when < before:
                return
            row.artifacts = [one for one in row.artifacts if one.path != artifact.path]
        self._times[key] = when
        row.artifacts.append(artifact)

    def artifact_time(self, path: str) -> int:
        """Return when the artifact of that name was logged, in nanoseconds since the epoch; 0 if never."""
        return self._times.get(("artifact", path), 0)

    def metric_history(self, key: str) -> list[Metric]:
        """Return the points of *key* by step, then time; none when it was never logged."""
        points = sorted(self.history.get(key, ()), key=lambda p: (p[1], p[2]))
        return [Metric(key, value, step, from_ns(when)) for value, step, when in points]


def folded(start: RunStarted, frames: Iterable[Frame]) -> RunRow:
    """Return the row of a run that has just started, with the frames that came with its start."""
    state = RunState(keep_history=False)
    for frame in (start, *frames):
        state.fold(frame, start.at)
    return state.row


class _RefusedRecordError(ValueError):
    """A record has what this package never writes."""
