"""What the parts of a context promise each other, for people who bring their own.

A check with `isinstance` sees that the methods are there; their types are checked by mypy and
pyright. The lock and the emitter are those of the floors below.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Literal, Protocol, runtime_checkable

from ops.foundation.locks import LockProtocol
from ops.observe.events import EventEmitterProtocol

if TYPE_CHECKING:
    import pathlib
    from collections.abc import Mapping, Sequence
    from contextlib import AbstractContextManager

    import pandas as pd

    from ops.foundation.files import StrPath
    from ops.registry.records import (
        Artifact,
        Experiment,
        Metric,
        ModelStage,
        ModelVersion,
        Run,
        RunStatus,
    )

__all__ = [
    "EventEmitterProtocol",
    "ExperimentTrackerProtocol",
    "LockProtocol",
    "ModelRegistryProtocol",
    "StorageBackendProtocol",
]


@runtime_checkable
class StorageBackendProtocol(Protocol):
    """Tables, JSON values and artifacts under relative paths."""

    def write_dataframe(
        self, df: pd.DataFrame, path: str, mode: Literal["overwrite", "append"] = "overwrite"
    ) -> None:
        """Write a table, or add rows to one."""
        ...

    def read_dataframe(self, path: str) -> pd.DataFrame:
        """Return a table."""
        ...

    def write_json(self, data: Any, path: str) -> None:
        """Write a JSON value."""
        ...

    def read_json(self, path: str) -> Any:
        """Return a JSON value."""
        ...

    def write_artifact(self, source: StrPath, path: str) -> None:
        """Copy a file or folder in."""
        ...

    def read_artifact(self, path: str, destination: StrPath) -> pathlib.Path:
        """Copy a file or folder out and return where it is."""
        ...

    def exists(self, path: str) -> bool:
        """Whether there is something at *path*."""
        ...

    def delete(self, path: str) -> bool:
        """Delete what is at *path*; False when there was nothing."""
        ...

    def list_paths(self, prefix: str = "") -> list[str]:
        """Return the paths of all files that start with *prefix*, sorted."""
        ...


@runtime_checkable
class ExperimentTrackerProtocol(Protocol):
    """Experiments, runs and what runs log."""

    def create_experiment(
        self, name: str, description: str = "", tags: Mapping[str, str] | None = None
    ) -> Experiment:
        """Create an experiment with a name of its own."""
        ...

    def start_run(
        self,
        experiment_id: str,
        name: str | None = None,
        parent_run_id: str | None = None,
        tags: Mapping[str, str] | None = None,
    ) -> Run:
        """Start a run."""
        ...

    def end_run(self, run_id: str, status: RunStatus = ..., error: str | None = None) -> Run:
        """End a run."""
        ...

    def run_context(
        self,
        experiment_id: str,
        name: str | None = None,
        parent_run_id: str | None = None,
        tags: Mapping[str, str] | None = None,
    ) -> AbstractContextManager[Run]:
        """Start a run for a block."""
        ...

    def log_metric(self, run_id: str, key: str, value: float, step: int = 0) -> None:
        """Log one value."""
        ...

    def log_parameter(self, run_id: str, key: str, value: Any) -> None:
        """Log one parameter."""
        ...

    def log_artifact(
        self, run_id: str, path: StrPath, artifact_path: str | None = None
    ) -> Artifact:
        """Keep a file or folder."""
        ...

    def get_run(self, run_id: str) -> Run:
        """Return a run."""
        ...

    def get_metric_history(self, run_id: str, key: str) -> list[Metric]:
        """Return all points of a metric."""
        ...

    def list_runs(self, experiment_id: str, status: RunStatus | None = None) -> list[Run]:
        """Return the runs of an experiment."""
        ...


@runtime_checkable
class ModelRegistryProtocol(Protocol):
    """Versions of models, their stages and artifacts."""

    def register_model(
        self,
        name: str,
        artifact_path: StrPath,
        artifact_type: str,
        framework: str,
        *,
        description: str = "",
        hyperparameters: Mapping[str, Any] | None = None,
        metrics: Mapping[str, float] | None = None,
        tags: Mapping[str, str] | None = None,
        dependencies: Sequence[str] = (),
    ) -> ModelVersion:
        """Keep an artifact as the next version."""
        ...

    def get_model_version(self, name: str, version: int | None = None) -> ModelVersion:
        """Return a version, or the newest."""
        ...

    def get_model_by_stage(self, name: str, stage: ModelStage) -> ModelVersion:
        """Return the newest version in a stage."""
        ...

    def list_models(self) -> list[str]:
        """Return the names of all models."""
        ...

    def list_model_versions(self, name: str) -> list[ModelVersion]:
        """Return the versions of a model."""
        ...

    def promote_model(
        self, name: str, version: int, stage: ModelStage, *, archive_existing: bool = True
    ) -> ModelVersion:
        """Move a version to a stage."""
        ...

    def download_artifact(
        self, name: str, version: int | None, destination: StrPath
    ) -> pathlib.Path:
        """Copy a version's artifact out."""
        ...
