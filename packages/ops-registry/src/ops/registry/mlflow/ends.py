# mypy: disable-error-code="no-untyped-call"
"""One end of a copy between stores: what is there, and what of it came from elsewhere."""

from __future__ import annotations

import dataclasses
import pathlib
import tempfile
from typing import TYPE_CHECKING, Any
from urllib.parse import urlsplit, urlunsplit

from mlflow import MlflowClient
from mlflow.entities import ViewType
from mlflow.store.artifact.artifact_repository_registry import get_artifact_repository

from ops.registry.mlflow.trackingstore import OpsTrackingStore

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from mlflow.entities import Experiment, LoggedModel, Run
    from mlflow.entities.model_registry import ModelVersion

__all__ = ["COMPLETE", "ORIGIN", "End", "MLflowCopy", "Progress", "copy_files"]

#: The tag of a copy with the id that it has in the source.
ORIGIN = "ops.origin"
#: The tag of a copy that is complete, with the address of the source.
COMPLETE = "ops.copied_from"
_PAGE = 500


@dataclasses.dataclass(slots=True)
class MLflowCopy:
    """How much a copy brought; *there* counts runs and versions that had been complete before.

    *unresolved* are versions of models whose files are neither in a run nor in a logged model that was
    copied: they point to where the source has them.
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


class Progress:
    """Tells how far a copy is."""

    def __init__(self, tell: Callable[[int, int], object] | None) -> None:
        self.total = 0
        self._done = 0
        self._tell = tell

    def step(self) -> None:
        """One more is done."""
        self._done += 1
        if self._tell is not None:
            self._tell(self._done, max(self.total, self._done))


class End:
    """A store that MLflow finds at *uri*."""

    def __init__(self, uri: str) -> None:
        self.uri = uri
        self.client: MlflowClient = MlflowClient(uri, uri)
        self.ours: OpsTrackingStore | None = (
            OpsTrackingStore(uri) if uri.startswith("ops-registry:") else None
        )

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
        quoted = name.replace("'", "''")
        found = self._all(self.client.search_model_versions, filter_string=f"name='{quoted}'")
        return sorted(found, key=lambda v: int(v.version))

    def files(self, uri: str | None) -> Any:
        """Return what reads and writes the files at *uri*.

        Never the client's own: it remembers them by ids, which both ends of a copy may share.
        """
        return get_artifact_repository(str(uri), tracking_uri=self.uri)

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
