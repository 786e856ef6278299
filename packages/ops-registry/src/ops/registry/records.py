"""What the store keeps: experiments, runs, metrics, models; frozen values without behaviour.

Times are aware UTC datetimes. A `Run` or a `ModelVersion` is what was known when it was read; it
does not follow later changes: read it again.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from enum import StrEnum
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    import datetime as dt
    from collections.abc import Mapping

__all__ = [
    "Artifact",
    "Experiment",
    "Metric",
    "MetricSummary",
    "ModelMetadata",
    "ModelStage",
    "ModelVersion",
    "Run",
    "RunStatus",
    "StageChange",
]


class RunStatus(StrEnum):
    """Where a run is in its life."""

    RUNNING = "RUNNING"
    SCHEDULED = "SCHEDULED"
    COMPLETED = "COMPLETED"
    FAILED = "FAILED"
    CANCELLED = "CANCELLED"
    #: Still RUNNING by its journal, while every process that logged to it is dead.
    STALE = "STALE"

    @property
    def is_final(self) -> bool:
        """Whether a run does not leave this status any more."""
        return self in {RunStatus.COMPLETED, RunStatus.FAILED, RunStatus.CANCELLED}


class ModelStage(StrEnum):
    """What a model version is used for."""

    NONE = "None"
    STAGING = "Staging"
    PRODUCTION = "Production"
    ARCHIVED = "Archived"


@dataclass(frozen=True, slots=True)
class Experiment:
    """A named collection of runs; *artifact_uri* is where its artifacts go if not into the store.

    *experiment_id* is for programs, *name* and *description* for readers; *tags* are texts.
    *created_at*, *updated_at* and *deleted_at* (None: not yet) are aware UTC datetimes.
    """

    experiment_id: str
    name: str
    created_at: dt.datetime
    description: str = ""
    tags: Mapping[str, str] = field(default_factory=dict)
    artifact_uri: str | None = None
    updated_at: dt.datetime | None = None
    deleted_at: dt.datetime | None = None


@dataclass(frozen=True, slots=True)
class Metric:
    """One measured value.

    *value* was logged as *key* at *step*; *timestamp* is an aware UTC datetime.
    """

    key: str
    value: float
    step: int
    timestamp: dt.datetime


@dataclass(frozen=True, slots=True)
class MetricSummary:
    """What a whole history comes to; *last* is that of the highest step, then latest time, then value.

    *minimum* and *maximum* ignore NaN and are NaN when there is nothing else; their steps are those
    at which they were met first.

    *count* values were logged; *last_step*, *minimum_step* and *maximum_step* are steps.
    """

    last: float
    last_step: int
    minimum: float
    maximum: float
    count: int
    minimum_step: int = 0
    maximum_step: int = 0


@dataclass(frozen=True, slots=True)
class Artifact:
    """A stored file or folder of a run.

    *path* is its name in the run, *size* in bytes, *checksum* its SHA-256, *uri* where it is.
    """

    path: str
    size: int
    checksum: str
    uri: str


@dataclass(frozen=True, slots=True)
class Run:
    """One execution: status, parameters, the last value of each metric, tags, artifacts.

    *run_id* is for programs, *name* for readers; *experiment_id* is its experiment and
    *parent_run_id* the run that it is a part of. *start_time*, *end_time* and *deleted_at* (None:
    not yet) are aware UTC datetimes; *error* is why a *status* is FAILED. *parameters* are JSON
    values, *metrics* last values and *metric_summaries* whole histories, *tags* texts, *artifacts*
    files.
    """

    run_id: str
    experiment_id: str
    name: str
    status: RunStatus
    start_time: dt.datetime
    end_time: dt.datetime | None = None
    parent_run_id: str | None = None
    error: str | None = None
    parameters: Mapping[str, Any] = field(default_factory=dict)
    metrics: Mapping[str, float] = field(default_factory=dict)
    metric_summaries: Mapping[str, MetricSummary] = field(default_factory=dict)
    tags: Mapping[str, str] = field(default_factory=dict)
    artifacts: tuple[Artifact, ...] = ()
    deleted_at: dt.datetime | None = None

    @property
    def duration_seconds(self) -> float | None:
        """How long it ran; None while it runs."""
        if self.end_time is None:
            return None
        return max(0.0, (self.end_time - self.start_time).total_seconds())


@dataclass(frozen=True, slots=True)
class ModelMetadata:
    """What is known about a model version besides its name, number and stage.

    *artifact_type*, *framework*, *description*, *hyperparameters*, *metrics*, *tags*,
    *dependencies*, *signature* and *flavor_metadata* are what `register_model` was given or found
    out; *experiment_run_id* is the run that made it.
    """

    artifact_type: str
    framework: str
    description: str = ""
    hyperparameters: Mapping[str, Any] = field(default_factory=dict)
    metrics: Mapping[str, float] = field(default_factory=dict)
    tags: Mapping[str, str] = field(default_factory=dict)
    dependencies: tuple[str, ...] = ()
    signature: Mapping[str, Any] | None = None
    experiment_run_id: str | None = None
    flavor_metadata: Mapping[str, Any] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class StageChange:
    """A version entered *stage* at *timestamp*."""

    stage: ModelStage
    timestamp: dt.datetime


@dataclass(frozen=True, slots=True)
class ModelVersion:
    """One version of a model; *size* in bytes, *checksum* the SHA-256 of its artifact.

    *name* is the model and *model_id* its id; *version* counts from 1. *stage* is where it is now,
    *stage_history* where it was; *aliases* point to it. *created_at* is an aware UTC datetime;
    *artifact_uri* is where the artifact is, *metadata* the rest.
    """

    model_id: str
    name: str
    version: int
    stage: ModelStage
    created_at: dt.datetime
    artifact_uri: str
    checksum: str
    size: int
    metadata: ModelMetadata
    aliases: tuple[str, ...] = ()
    stage_history: tuple[StageChange, ...] = ()
