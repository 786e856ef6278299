"""The backend of a model registry on Databricks: histories in tables, artifacts in a volume.

An artifact is uploaded before its version exists, to a path that nothing else has; what a process
that died has uploaded is reached by no version. The rules are those of `ops.registry.models.registry`.
"""

from __future__ import annotations

import contextlib
import dataclasses
import pathlib
import secrets
from typing import TYPE_CHECKING, Any

from ops.foundation.logs import get_logger
from ops.foundation.paths import is_there
from ops.registry.databricks.catalog_tags import CatalogTags
from ops.registry.databricks.modellog import ModelLog
from ops.registry.databricks.tables import VOLUME
from ops.registry.databricks.volumes import Volume, VolumePath, encoded
from ops.registry.disk import artifacts
from ops.registry.disk.checked_paths import inside
from ops.registry.errors import MLOpsException
from ops.registry.models.ports import ModelBackend, NoViews
from ops.registry.models.registry import ModelRegistry

if TYPE_CHECKING:
    import logging
    from collections.abc import Callable, Collection, Iterator, Mapping, Sequence

    from ops.foundation.files import StrPath
    from ops.registry.databricks.volumes import Stored
    from ops.registry.databricks.warehouse import Warehouse
    from ops.registry.models.ports import Staged
    from ops.registry.operations import Operations
    from ops.registry.records import ModelVersion

__all__ = ["DatabricksModelRegistry", "warehouse_models"]

logger: logging.Logger = get_logger("ops.registry")


class DatabricksModelRegistry(ModelRegistry):
    """A `ModelRegistry` over the tables of a schema and its volume; threads and processes may share them.

    *warehouse* runs the statements; *operations* is that of `ModelRegistry`; *catalog_tags* keeps
    tags as tags of Unity Catalog too.
    """

    def __init__(
        self,
        warehouse: Warehouse,
        *,
        operations: Operations | None = None,
        catalog_tags: bool = True,
    ) -> None:
        super().__init__(
            operations=operations,
            backend=warehouse_models(warehouse, catalog_tags=catalog_tags),
        )
        self.warehouse = warehouse


def warehouse_models(warehouse: Warehouse, *, catalog_tags: bool = True) -> ModelBackend:
    """Return the backend in the tables of a schema and its volume."""
    volume = Volume(warehouse)
    events = ModelLog(warehouse, volume)
    tags = CatalogTags(warehouse, "VOLUME", VOLUME, enabled=catalog_tags)
    return ModelBackend(
        VolumePath(volume, ""),
        events,
        VolumeModelArtifacts(warehouse, volume, events),
        MirroredTags(events, tags),
    )


class VolumeModelArtifacts:
    """Artifacts in a volume; the frames of *events* say of which files each is made."""

    def __init__(self, warehouse: Warehouse, volume: Volume, events: ModelLog) -> None:
        self._warehouse = warehouse
        self.volume = volume
        self._events = events

    def stage(self, origin: pathlib.Path, model_id: str) -> Staged:
        """Upload a file or folder to a path of its own."""
        copy, size, checksum = artifacts.stage(origin, self._warehouse.staging, flushed=False)
        path = f"artifacts/{model_id}/{secrets.token_hex(4)}/{encoded(origin.name)}"
        try:
            files = self.volume.upload(copy, path)
        finally:
            artifacts.remove(copy)
        return _Uploaded(size, checksum, origin.name, self.volume.uri(path), files)

    def fetch(
        self, version: ModelVersion, target: pathlib.Path, *, overwrite: bool = True
    ) -> pathlib.Path:
        """Get the artifact of a version to *target*, verified."""
        files = self._files(version)
        self.volume.download(files, target, version.checksum, overwrite=overwrite)
        return target

    @contextlib.contextmanager
    def at_hand(self, version: ModelVersion) -> Iterator[pathlib.Path]:
        """Give a local copy, verified, for as long as the block runs."""
        folder = self.volume.temporary()
        try:
            folder.mkdir()
            yield self.fetch(version, folder / self.file_name(version))
        finally:
            artifacts.remove(folder)

    def verify(self, version: ModelVersion) -> None:
        """Raise `CorruptStoreError` unless the artifact is what was registered."""
        with self.volume.fetched(self._files(version)):
            pass

    def is_here(self, version: ModelVersion) -> bool:
        """Whether the artifact is in the volume; MLflow keeps its own elsewhere, and they have no checksum."""
        return bool(version.checksum)

    def file_name(self, version: ModelVersion) -> str:
        """Return what the artifact is called."""
        for frame in self._events.history(version.name):
            if frame["op"] == "register" and frame["version"] == version.version:
                return pathlib.PurePosixPath(frame["file"]).name
        return version.name

    def remove(self, versions: Sequence[ModelVersion]) -> None:
        """Remove the files of versions; the change is committed already, so one that stays is only logged."""
        files = [file for version in versions for file in self._files(version)]
        try:
            self.volume.remove(files)
        except MLOpsException:
            logger.warning("%d files stay in the volume", len(files), exc_info=True)

    def adopted(self, record: Mapping[str, Any], origin: StrPath) -> dict[str, Any]:
        """Upload the artifact of a frame from a folder; return the frame with its address."""
        if "file" not in record:  # MLflow keeps its files elsewhere
            return dict(record)
        model_id, file = record["model_id"], record["file"]
        target = f"artifacts/{model_id}/{secrets.token_hex(4)}/{encoded(file)}"
        path = inside(origin, model_id, f"v{record['version']}", file)
        files: list[Stored] = []
        if is_there(path):  # else it is deleted by a later frame
            artifacts.verify(path, record["checksum"])
            files = self.volume.upload(path, target)
        return {**record, "source": self.volume.uri(target), "files": files}

    def left_over(
        self, before_seconds: float, versions: Callable[[], Sequence[ModelVersion]]
    ) -> list[str]:
        """Return the files of models in the volume that no version has, older than a time."""

        def named() -> set[str]:
            return {file.path for version in versions() for file in self._files(version)}

        return self.volume.left_over("artifacts", before_seconds, named)

    def clear(self, uris: Collection[str]) -> None:
        """Remove what `left_over` returned."""
        self.volume.clear(uris)

    def close(self) -> None:
        """Do nothing: the connection is the tracker's."""

    def _files(self, version: ModelVersion) -> list[Stored]:
        return self._events.files(version.name, version.version)


@dataclasses.dataclass(slots=True)
class _Uploaded:
    """An artifact in the volume; whether a commit that failed has named it is not known, so it stays."""

    size: int
    checksum: str
    file: str
    uri: str
    files: Sequence[Stored]

    def placed(self, model_id: str, number: int) -> Mapping[str, Any]:  # noqa: ARG002 - the same call
        """Return the fields of a frame that locate it."""
        return {"file": self.file, "source": self.uri, "files": self.files}

    def discard(self) -> None:
        """Do nothing: `ops-registry gc` removes what no version names."""


class MirroredTags(NoViews):
    """Tags of Unity Catalog that say which tags models and versions have."""

    def __init__(self, events: ModelLog, tags: CatalogTags) -> None:
        self._events = events
        self._tags = tags

    def write(self, versions: Sequence[ModelVersion], *, tags: bool = False) -> None:  # noqa: ARG002 - of all
        """Mirror the tags, if they may have changed."""
        if tags:
            self._mirror()

    def drop(self, versions: Sequence[ModelVersion]) -> None:
        """Mirror the tags that are left."""
        if versions:
            self._mirror()

    def _mirror(self) -> None:
        found = list(self._events.state.models.values())
        tags: list[Mapping[str, str]] = [model.tags for model in found if model.versions]
        tags += [v.metadata.tags for model in found for v in model.versions.values()]
        self._tags.mirror(tags)
