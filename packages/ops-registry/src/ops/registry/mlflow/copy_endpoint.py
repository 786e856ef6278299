# mypy: disable-error-code="no-untyped-call"
"""One end of a copy between stores: what is there, and what of it came from elsewhere."""

from __future__ import annotations

import dataclasses
import importlib
import inspect
import math
import pathlib
import tempfile
from typing import TYPE_CHECKING, Any, TypeAlias
from urllib.parse import urlsplit, urlunsplit

from mlflow import MlflowClient
from mlflow.entities import ViewType
from mlflow.exceptions import MlflowException
from mlflow.store.artifact.artifact_repository_registry import get_artifact_repository

from ops.registry.disk.store_addresses import local_path
from ops.registry.mlflow.modelstore import OpsModelStore
from ops.registry.mlflow.trackingstore import OpsTrackingStore

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence
    from contextlib import AbstractContextManager

    from mlflow.entities import Experiment, LoggedModel, Run
    from mlflow.entities.model_registry import ModelVersion

__all__ = ["COMPLETE", "ORIGIN", "End", "MLflowCopy", "Point", "Points", "Progress", "copy_files"]

#: The tag of a copy with the id that it has in the source.
ORIGIN = "ops.origin"
#: The tag of a copy that is complete, with the address of the source.
COMPLETE = "ops.copied_from"
_PAGE = 500
#: A point of a metric: name, value, milliseconds since the epoch, step.
Point: TypeAlias = tuple[str, float, int, int]
Points: TypeAlias = list[Point]


@dataclasses.dataclass(slots=True)
class MLflowCopy:
    """How much a copy brought; *there* counts runs and versions that had been complete before.

    *unresolved* are versions of models whose files are neither in a run nor in a logged model that was
    copied: they point to where the source has them. *renumbered* are versions whose number the target had given to
    another one, with the number that they have there. *renamed* are experiments whose name has characters, or more of
    them, than a store of ours takes.

    *left_out* is what a copy does not bring: what was deleted in the source, and its traces.

    *experiments*, *runs*, *points* (of metrics), *files*, *logged_models*, *models* and *versions*
    count what is new.
    """

    experiments: int = 0
    runs: int = 0
    points: int = 0
    files: int = 0
    logged_models: int = 0
    models: int = 0
    versions: int = 0
    there: int = 0
    unresolved: list[str] = dataclasses.field(default_factory=list)
    renumbered: list[str] = dataclasses.field(default_factory=list)
    renamed: list[str] = dataclasses.field(default_factory=list)
    left_out: list[str] = dataclasses.field(default_factory=list)


class Progress:
    """Reports how far a copy is."""

    def __init__(self, report: Callable[[int, int], object] | None) -> None:
        self.total = 0
        self._done = 0
        self._report = report

    def step(self) -> None:
        """One more is done."""
        self._done += 1
        if self._report is not None:
            self._report(self._done, max(self.total, self._done))


class End:
    """A store that MLflow finds at *uri*."""

    def __init__(self, uri: str) -> None:
        self.uri = uri
        self.client: MlflowClient = MlflowClient(uri, uri)
        self.ours: OpsTrackingStore | None = (
            OpsTrackingStore(uri) if uri.startswith("ops-registry:") else None
        )
        self.our_models: OpsModelStore | None = None if self.ours is None else OpsModelStore(uri)

    @property
    def public_uri(self) -> str:
        """The address without user and password."""
        parts = urlsplit(self.uri)
        return urlunsplit(parts._replace(netloc=parts.netloc.rpartition("@")[2]))

    def experiments(self) -> list[Experiment]:
        """Return the active experiments, oldest first."""
        return self._all(self.client.search_experiments, order_by=["creation_time ASC"])

    def runs(self, experiment_id: str, filter_string: str = "") -> Iterator[Run]:
        """Yield the active runs of an experiment, oldest first."""
        token = None
        while True:
            page = self.client.search_runs(
                [experiment_id],
                filter_string,
                ViewType.ACTIVE_ONLY,
                _PAGE,
                ["attributes.start_time ASC"],
                token,
            )
            yield from page
            token = page.token
            if not token:
                return

    def points(self, runs: Sequence[Run]) -> dict[str, Points]:
        """Return all points of *runs* by their ids, as (name, value, milliseconds, step), by time."""
        store = self.client._tracking_client.store  # noqa: SLF001 - one query in place of one for each metric
        if runs and hasattr(store, "ManagedSessionMaker"):
            return _points_of_database(store, [run.info.run_id for run in runs])
        found: dict[str, Points] = {}
        for run in runs:
            history = self.client.get_metric_history
            logged = [m for key in run.data.metrics for m in history(run.info.run_id, key)]
            points = [(m.key, float(m.value), int(m.timestamp), int(m.step or 0)) for m in logged]
            found[run.info.run_id] = sorted(dict.fromkeys(points), key=_when)
        return found

    def count_runs(self, experiment_id: str) -> int:
        """Return how many active runs an experiment has."""
        return sum(1 for _ in self.runs(experiment_id))

    def logged_models(self, experiment_id: str) -> list[LoggedModel]:
        """Return the logged models of an experiment."""

        def search(page_token: str | None, max_results: int) -> Any:
            return self.client.search_logged_models(
                [experiment_id], max_results=max_results, page_token=page_token
            )

        return self._all(search)

    def model_names(self) -> list[str]:
        """Return the names of all registered models."""
        return [model.name for model in self._all(self.client.search_registered_models)]

    def versions(self, name: str) -> list[ModelVersion]:
        """Return the versions of a model, oldest first."""
        quote = next((one for one in "'\"" if one not in name), None)
        # A name with both quotes cannot be put into a filter: MLflow's grammar has no escape for them.
        condition = "" if quote is None else f"name={quote}{name}{quote}"
        found = self._all(self.client.search_model_versions, filter_string=condition)
        return sorted((v for v in found if v.name == name), key=lambda v: int(v.version))

    def left_out(self, experiments: Sequence[Experiment]) -> list[str]:
        """Return what a copy of *experiments* does not bring: what was deleted, and traces."""
        found = []
        for one in experiments:
            page = self.client.search_runs(
                [one.experiment_id], run_view_type=ViewType.DELETED_ONLY, max_results=_PAGE
            )
            if page:
                more = " or more" if page.token else ""
                found.append(f"{len(page)}{more} deleted runs of experiment {one.name!r}")
            if self._has_traces(one.experiment_id):
                found.append(f"the traces of experiment {one.name!r}")
        return found

    def deleted_experiments(self) -> list[str]:
        """Return the names of the experiments that were deleted."""
        search = self.client.search_experiments
        return [one.name for one in self._all(search, view_type=ViewType.DELETED_ONLY)]

    def _has_traces(self, experiment_id: str) -> bool:
        search = self.client.search_traces
        requested = {
            "locations": [experiment_id],
            "experiment_ids": [experiment_id],  # before MLflow 3.2
            "max_results": 1,
            "include_spans": False,
        }
        known = inspect.signature(search).parameters
        if "locations" in known:
            del requested["experiment_ids"]
        try:
            return bool(search(**{k: v for k, v in requested.items() if k in known}))
        except (MlflowException, NotImplementedError):  # a server without traces
            return False

    def files(self, uri: str | None) -> Any:
        """Return what reads and writes the files at *uri*.

        Never the client's own: it remembers them by ids, which both ends of a copy may share.
        """
        return get_artifact_repository(str(uri), tracking_uri=self.uri)

    @staticmethod
    def may_have_files(uri: str | None) -> bool:
        """Whether there may be files at *uri*: a folder that is not there is seen at once."""
        path = local_path(str(uri))
        return path is None or pathlib.Path(path).is_dir()

    @staticmethod
    def _all(search: Callable[..., Any], **requested: Any) -> list[Any]:
        found: list[Any] = []
        token = None
        while True:
            page = search(page_token=token, max_results=_PAGE, **requested)
            found += page
            token = page.token
            if not token:
                return found


def _points_of_database(store: Any, run_ids: Sequence[str]) -> dict[str, Points]:
    tables: Any = importlib.import_module("mlflow.store.tracking.dbmodels.models")
    logged = tables.SqlMetric
    columns = (logged.run_uuid, logged.key, logged.value, logged.timestamp, logged.step)
    found: dict[str, Points] = {run_id: [] for run_id in run_ids}
    maker: Callable[[], AbstractContextManager[Any]] = store.ManagedSessionMaker
    with maker() as session:
        rows = session.query(*columns, logged.is_nan).filter(logged.run_uuid.in_(run_ids)).all()
    for run_id, key, value, when, step, is_nan in rows:
        found[run_id].append((key, math.nan if is_nan else float(value), when, step))
    for points in found.values():
        points.sort(key=_when)
    return found


def _when(point: Point) -> tuple[int, int]:
    return point[2], point[3]


def copy_files(source: Any, target: Any, path: str | None = None) -> int:
    """Copy the files that the target lacks, or has in another size; return how many those were."""
    there = {file.path: file.file_size for file in target.list_artifacts(path) if not file.is_dir}
    copied = 0
    for file in source.list_artifacts(path):
        if file.is_dir:
            copied += copy_files(source, target, file.path)
        elif there.get(file.path, -1) != file.file_size:
            with tempfile.TemporaryDirectory(prefix="ops-copy-") as folder:
                local = source.download_artifacts(file.path, folder)
                parent = pathlib.PurePosixPath(file.path).parent
                target.log_artifact(local, None if str(parent) == "." else str(parent))
            copied += 1
    return copied
