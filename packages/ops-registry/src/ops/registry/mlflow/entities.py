# mypy: disable-error-code="no-untyped-call"
# (most of MLflow's constructors are not annotated)
"""Rows of the store as MLflow's entities, and as what MLflow's own search looks at.

`Seen` shows a row through the names that `mlflow.utils.search_utils.SearchUtils` uses. So MLflow's code
filters and orders the rows themselves, and entities are made only for the page that is returned.
"""

from __future__ import annotations

import datetime as dt
import functools
from typing import TYPE_CHECKING, Any

from mlflow.entities import (
    Dataset,
    DatasetInput,
    Experiment,
    ExperimentTag,
    InputTag,
    LifecycleStage,
    LoggedModelInput,
    LoggedModelOutput,
    Metric,
    Param,
    Run,
    RunData,
    RunInfo,
    RunInputs,
    RunOutputs,
    RunTag,
)
from mlflow.utils.mlflow_tags import MLFLOW_PARENT_RUN_ID, MLFLOW_USER
from mlflow.utils.uri import append_to_uri_path

from ops.registry.records import RunStatus
from ops.registry.search.filters import as_text

if TYPE_CHECKING:
    from collections.abc import Mapping

    from ops.registry import records
    from ops.registry.run_rows import RunRow

__all__ = [
    "Seen",
    "millis",
    "to_experiment",
    "to_info",
    "to_mlflow_status",
    "to_run",
    "to_status",
]

_STATUS = {
    RunStatus.RUNNING: "RUNNING",
    RunStatus.SCHEDULED: "SCHEDULED",
    RunStatus.COMPLETED: "FINISHED",
    RunStatus.FAILED: "FAILED",
    RunStatus.CANCELLED: "KILLED",
    #: MLflow has no word for a run whose processes have died.
    RunStatus.STALE: "KILLED",
}
_NAMES = {str(status): name for status, name in _STATUS.items()}
_MARK = "ops-id-of-the-run"
_EPOCH = dt.datetime(1970, 1, 1, tzinfo=dt.UTC)
_OWN = {name: status for status, name in _STATUS.items() if status is not RunStatus.STALE}


def to_status(name: str) -> RunStatus:
    """Return our status for MLflow's name of one."""
    return _OWN[name]


def to_mlflow_status(name: str) -> str:
    """Return MLflow's name of a status of ours."""
    return _NAMES[name]


def millis(time: dt.datetime) -> int:
    """Return whole milliseconds since the epoch."""
    return (time - _EPOCH) // dt.timedelta(milliseconds=1)


def to_experiment(known: records.Experiment, artifacts: str) -> Experiment:
    """Return an experiment as MLflow's; *artifacts* is the address where the store keeps those of runs."""
    created = millis(known.created_at)
    tags = dict(known.tags)
    if known.description:
        tags.setdefault("mlflow.note.content", known.description)
    return Experiment(
        known.experiment_id,
        known.name,
        known.artifact_uri or artifacts,
        LifecycleStage.DELETED if known.deleted_at else LifecycleStage.ACTIVE,
        [ExperimentTag(key, value) for key, value in tags.items()],
        creation_time=created,
        last_update_time=millis(known.updated_at) if known.updated_at else created,
    )


class Seen:
    """A row of a run with the attributes of MLflow's `Run`, `RunInfo`, `RunData` and `RunInputs`."""

    __slots__ = ("_artifacts", "_experiment", "row")

    def __init__(self, row: RunRow, experiment: records.Experiment, artifacts: str) -> None:
        self.row: RunRow = row
        self._experiment = experiment
        self._artifacts = artifacts

    @property
    def info(self) -> Seen:
        """The row."""
        return self

    data = info
    inputs = info

    @property
    def run_id(self) -> str:
        """The id of the run."""
        return self.row.run_id

    @property
    def run_name(self) -> str:
        """The name of the run."""
        return str(self.row.name)

    @property
    def experiment_id(self) -> str:
        """The id of its experiment."""
        return self._experiment.experiment_id

    @property
    def user_id(self) -> str:
        """Who started it, as far as known."""
        users = self._extra("user")
        return str(users[-1] if users else self.row.tags.get(MLFLOW_USER, ""))

    @property
    def status(self) -> str:
        """MLflow's name of the status."""
        return _STATUS[self.row.status]

    @property
    def start_time(self) -> int:
        """When it started, in milliseconds."""
        return int(self.row.start) // 1_000_000

    @property
    def end_time(self) -> int | None:
        """When it ended, in milliseconds."""
        return None if self.row.end is None else int(self.row.end) // 1_000_000

    @property
    def lifecycle_stage(self) -> str:
        """Whether the run, or its experiment, was deleted."""
        gone = self.row.deleted is not None or self._experiment.deleted_at is not None
        return str(LifecycleStage.DELETED if gone else LifecycleStage.ACTIVE)

    @property
    def artifact_uri(self) -> str:
        """Where its artifacts are."""
        if self._experiment.artifact_uri is None:
            return f"{self._artifacts}/{self.run_id}"
        before, after = _around_run(self._experiment.artifact_uri)
        return f"{before}{self.run_id}{after}"

    @property
    def metrics(self) -> dict[str, float]:
        """The last values."""
        return {key: summary.last for key, summary in self.row.metrics.items()}

    @property
    def params(self) -> dict[str, str]:
        """The parameters as texts."""
        return {key: as_text(value) for key, value in self.row.params.items()}

    @property
    def tags(self) -> dict[str, str]:
        """The tags; the parent of a run that was not started through MLflow among them."""
        tags = self.row.tags
        if self.row.parent is None or MLFLOW_PARENT_RUN_ID in tags:
            return tags
        return tags | {MLFLOW_PARENT_RUN_ID: self.row.parent}

    @property
    def dataset_inputs(self) -> list[DatasetInput]:
        """The datasets that were logged, each once."""
        found = {(one["name"], one["digest"]): one for one in self._extra("datasets")}
        return [_dataset(one) for one in found.values()]

    def models(self, kind: str) -> list[Any]:
        """Return what was logged as *kind*, ``models_in`` or ``models_out``, each once."""
        return list({one[0]: one for one in self._extra(kind)}.values())

    def _extra(self, kind: str) -> list[Any]:
        return self.row.extra.get(kind, [])


@functools.lru_cache(maxsize=256)
def _around_run(artifact_uri: str) -> tuple[str, str]:
    """Return what is before and after the id of a run in the address of its artifacts."""
    before, _, after = str(append_to_uri_path(artifact_uri, _MARK, "artifacts")).partition(_MARK)
    return before, after


def to_run(seen: Seen) -> Run:
    """Return a row as MLflow's run."""
    metrics = [
        Metric(key, s.last, s.last_at // 1_000_000, s.last_step, run_id=seen.run_id)
        for key, s in seen.row.metrics.items()
    ]
    params = [Param(key, value) for key, value in seen.params.items()]
    tags = [RunTag(key, value) for key, value in seen.tags.items()]
    models_in = [LoggedModelInput(one[0]) for one in seen.models("models_in")]
    models_out = [LoggedModelOutput(one[0], one[1]) for one in seen.models("models_out")]
    inputs = RunInputs(seen.dataset_inputs, models_in)
    return Run(to_info(seen), RunData(metrics, params, tags), inputs, RunOutputs(models_out))


def to_info(seen: Seen) -> RunInfo:
    """Return what MLflow records about a run besides what was logged."""
    return RunInfo(
        run_id=seen.run_id,
        experiment_id=seen.experiment_id,
        user_id=seen.user_id,
        status=seen.status,
        start_time=seen.start_time,
        end_time=seen.end_time,
        lifecycle_stage=seen.lifecycle_stage,
        artifact_uri=seen.artifact_uri,
        run_name=seen.run_name,
    )


def _dataset(one: Mapping[str, Any]) -> DatasetInput:
    fields = ("name", "digest", "source_type", "source", "schema", "profile")
    tags = [InputTag(key, value) for key, value in one["tags"].items()]
    return DatasetInput(Dataset(**{field: one[field] for field in fields}), tags)
