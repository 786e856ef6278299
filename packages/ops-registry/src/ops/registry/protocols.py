"""What the parts of a context guarantee each other, for implementations of other packages.

A check with `isinstance` sees that the methods are there; their types are checked by mypy and
pyright. The lock and the emitter are those of the layers below.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Literal, Protocol, runtime_checkable

from ops.foundation.locks import LockProtocol
from ops.observe.events import EventEmitterProtocol

if TYPE_CHECKING:
    import pathlib
    from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
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
    from ops.registry.run_copies import RunCopy

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
        """Write the table *df* to *path*, or add its rows to the one there (*mode* "append")."""
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
    """Experiments, runs and what runs log: all that commands, pages, checks and copies ask of a tracker."""

    def create_experiment(
        self, name: str, description: str = "", tags: Mapping[str, str] | None = None
    ) -> Experiment:
        """Create an experiment with a *name* of its own, a *description* for readers and *tags* of text."""
        ...

    def get_or_create_experiment(
        self, name: str, description: str = "", tags: Mapping[str, str] | None = None
    ) -> Experiment:
        """Return the experiment *name*, created now with *description* and *tags* if need be."""
        ...

    def get_experiment(self, experiment_id: str) -> Experiment:
        """Return an experiment by its id."""
        ...

    def get_experiment_by_name(self, name: str) -> Experiment:
        """Return an experiment by its name."""
        ...

    def list_experiments(self, *, include_deleted: bool = False) -> list[Experiment]:
        """Return all experiments, oldest first."""
        ...

    def search_experiments(
        self,
        filter: str | None = None,  # noqa: A002 - the published name
        order_by: str | Sequence[str] | None = None,
        limit: int | None = None,
    ) -> list[Experiment]:
        """Return the experiments for which *filter* holds, by *order_by*, at most *limit* (None: all)."""
        ...

    def rename_experiment(self, experiment_id: str, name: str) -> Experiment:
        """Give an experiment a name that is free."""
        ...

    def delete_experiment(self, experiment_id: str) -> None:
        """Hide an experiment with its runs."""
        ...

    def restore_experiment(self, experiment_id: str) -> Experiment:
        """Take back that an experiment was deleted."""
        ...

    def start_run(
        self,
        experiment_id: str,
        name: str | None = None,
        parent_run_id: str | None = None,
        tags: Mapping[str, str] | None = None,
    ) -> Run:
        """Start a run in *experiment_id*, with *name* and *tags*, below *parent_run_id* (None: below no other)."""
        ...

    def end_run(self, run_id: str, status: RunStatus = ..., error: str | None = None) -> Run:
        """End the run *run_id* with a final *status*, and an *error* to show (None: no error)."""
        ...

    def run_context(
        self,
        experiment_id: str,
        name: str | None = None,
        parent_run_id: str | None = None,
        tags: Mapping[str, str] | None = None,
    ) -> AbstractContextManager[Run]:
        """Start a run for a block.

        *experiment_id*, *name*, *parent_run_id* and *tags* are those of `start_run`.
        """
        ...

    def rename_run(self, run_id: str, name: str) -> Run:
        """Give a run another *name*."""
        ...

    def delete_run(self, run_id: str) -> None:
        """Hide a run."""
        ...

    def restore_run(self, run_id: str) -> Run:
        """Take back that a run was deleted."""
        ...

    def log_metric(self, run_id: str, key: str, value: float, step: int = 0) -> None:
        """Log *value* as the metric *key* of *run_id* at *step*."""
        ...

    def log_metrics(self, run_id: str, metrics: Mapping[str, float], step: int = 0) -> None:
        """Log *metrics*, values by key, of *run_id* at one *step*."""
        ...

    def log_batch(
        self,
        run_id: str,
        metrics: Iterable[tuple[str, float, int]] = (),
        parameters: Mapping[str, Any] | None = None,
        tags: Mapping[str, str] | None = None,
    ) -> None:
        """Log *metrics*, as (key, value, step) triples, *parameters* and *tags* of *run_id*."""
        ...

    def log_parameter(self, run_id: str, key: str, value: Any) -> None:
        """Log *value*, any JSON value, as the parameter *key* of *run_id*."""
        ...

    def log_parameters(self, run_id: str, parameters: Mapping[str, Any]) -> None:
        """Log several parameters."""
        ...

    def set_tag(self, run_id: str, key: str, value: object) -> None:
        """Set the tag *key* of *run_id* to the text of *value*."""
        ...

    def log_artifact(
        self,
        run_id: str,
        path: StrPath,
        artifact_path: str | None = None,
        *,
        overwrite: bool = False,
    ) -> Artifact:
        """Keep the file or folder *path* in *run_id*, below *artifact_path*; *overwrite* replaces other content."""
        ...

    def download_run_artifact(
        self, run_id: str, path: str, destination: StrPath, *, overwrite: bool = False
    ) -> pathlib.Path:
        """Copy the artifact *path* of *run_id* to *destination*, verified; *overwrite* replaces other content."""
        ...

    def verify_artifacts(self, run: Run) -> None:
        """Raise `CorruptStoreError` unless each artifact of a run is what was logged."""
        ...

    def get_run(self, run_id: str) -> Run:
        """Return a run."""
        ...

    def get_metric_history(self, run_id: str, key: str) -> list[Metric]:
        """Return all points of a metric."""
        ...

    def list_runs(
        self,
        experiment_id: str,
        status: RunStatus | None = None,
        *,
        include_deleted: bool = False,
    ) -> list[Run]:
        """Return the runs of *experiment_id* of a *status* (None: of all), with *include_deleted* deleted ones too."""
        ...

    def list_child_runs(self, run_id: str) -> list[Run]:
        """Return the runs that have this one as their parent."""
        ...

    def search_runs(
        self,
        experiment_id: str | Sequence[str],
        metric_filter: Mapping[str, tuple[str, float]] | None = None,
        filter: str | None = None,  # noqa: A002 - the published name
        order_by: str | Sequence[str] | None = None,
        limit: int | None = None,
        offset: int = 0,
        *,
        include_deleted: bool = False,
    ) -> list[Run]:
        """Return the runs for which both filters hold.

        *experiment_id* is one or several; *metric_filter* is ``{"auc": (">", 0.9)}``; *filter* an
        expression; *order_by* a field and ASC or DESC, or several. At most *limit* (None: all)
        come, after the first *offset*; with *include_deleted* deleted ones too.
        """
        ...

    def count_runs(
        self,
        experiment_id: str | Sequence[str],
        metric_filter: Mapping[str, tuple[str, float]] | None = None,
        filter: str | None = None,  # noqa: A002 - the published name
        *,
        include_deleted: bool = False,
    ) -> int:
        """Return how many runs `search_runs` would find without a limit.

        *experiment_id*, *metric_filter*, *filter* and *include_deleted* are those of `search_runs`.
        """
        ...

    def adopt_experiment(self, experiment: Experiment) -> Experiment:
        """Return the experiment of that name, which is *experiment* itself if it is new here."""
        ...

    def export_run(self, run_id: str) -> RunCopy:
        """Return all that a run comes to, for another store."""
        ...

    def import_run(
        self,
        copy: RunCopy,
        experiment_id: str,
        fetch: Callable[[str, pathlib.Path], pathlib.Path],
    ) -> None:
        """Write the run *copy* of another store into *experiment_id*; *fetch* brings an artifact of it to a path."""
        ...

    def left_over(self, before_seconds: float) -> list[str]:
        """Return addresses of what was kept since before a time and belongs to no run."""
        ...

    def clear(self, uris: Collection[str]) -> None:
        """Remove what `left_over` returned."""
        ...

    def compact(self) -> int:
        """Tidy up what makes reading fast, and return the number of runs."""
        ...

    def close(self) -> None:
        """Close what is open; the tracker can be used again afterwards."""
        ...


@runtime_checkable
class ModelRegistryProtocol(Protocol):
    """Versions of models, their stages and artifacts: all that commands, pages, checks and copies ask."""

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
        """Keep an artifact as the next version of the model *name*.

        *artifact_path* is a file or folder; *artifact_type* is what it is loaded by ("xgboost",
        "torch", …) and *framework* what it was made with. *description* is for readers;
        *hyperparameters* are JSON values, *metrics* numbers, *tags* texts, and *dependencies*
        requirements such as "xgboost==3.2.0".
        """
        ...

    def get_model_version(self, name: str, version: int | None = None) -> ModelVersion:
        """Return a version, or the newest."""
        ...

    def get_model_by_stage(self, name: str, stage: ModelStage) -> ModelVersion:
        """Return the newest version in a stage."""
        ...

    def get_model_by_alias(self, name: str, alias: str) -> ModelVersion:
        """Return the version that an alias points to."""
        ...

    def list_models(self) -> list[str]:
        """Return the names of all models."""
        ...

    def list_model_versions(self, name: str) -> list[ModelVersion]:
        """Return the versions of a model."""
        ...

    def by_age(self, *, include_deleted: bool = False) -> list[str]:
        """Return the names of all models, the oldest model first, those without a version too."""
        ...

    def search_models(
        self,
        filter: str | None = None,  # noqa: A002 - the published name
        order_by: str | Sequence[str] | None = None,
        limit: int | None = None,
    ) -> list[ModelVersion]:
        """Return the versions for which *filter* holds, by *order_by*, at most *limit* (None: all)."""
        ...

    def promote_model(
        self, name: str, version: int, stage: ModelStage, *, archive_existing: bool = True
    ) -> ModelVersion:
        """Move *version* of *name* to *stage*; *archive_existing* archives those that were there."""
        ...

    def rollback(self, name: str, stage: ModelStage = ...) -> ModelVersion:
        """Roll a stage back to the version before."""
        ...

    def set_alias(self, name: str, alias: str, version: int) -> ModelVersion:
        """Let *alias* point to *version* of *name*."""
        ...

    def delete_alias(self, name: str, alias: str) -> None:
        """Remove an alias."""
        ...

    def set_tag(self, name: str, version: int, key: str, value: object) -> ModelVersion:
        """Set the tag *key* of *version* of *name* to the text of *value*."""
        ...

    def annotate(self, name: str, version: int, description: str) -> ModelVersion:
        """Replace the *description* of *version* of *name*."""
        ...

    def delete_model(self, name: str) -> None:
        """Delete a model with all versions."""
        ...

    def delete_model_version(self, name: str, version: int) -> None:
        """Delete a version."""
        ...

    def download_artifact(
        self, name: str, version: int | None, destination: StrPath, *, overwrite: bool = False
    ) -> pathlib.Path:
        """Copy the artifact of *version* (None: the newest) of *name* to *destination*; *overwrite* replaces others."""
        ...

    def verify(self, version: ModelVersion) -> None:
        """Raise `CorruptStoreError` unless the artifact is what was registered."""
        ...

    def history(self, name: str) -> list[dict[str, Any]]:
        """Return the frames about a model, oldest first."""
        ...

    def adopt(self, name: str, records: Sequence[dict[str, Any]], origin: StrPath) -> int:
        """Take over the history of a model of another registry; return how many frames were new.

        *name* is the model, *records* are its frames, *origin* is the folder of that registry's
        artifacts.
        """
        ...

    def left_over(self, before_seconds: float) -> list[str]:
        """Return addresses of what was kept since before a time and belongs to no version."""
        ...

    def clear(self, uris: Collection[str]) -> None:
        """Remove what `left_over` returned."""
        ...

    def compact(self) -> int:
        """Write the table of all versions, where there is one, and return their number."""
        ...

    def close(self) -> None:
        """Close what is open; the registry can be used again afterwards."""
        ...
