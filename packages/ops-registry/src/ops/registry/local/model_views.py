"""Views of models on local files: ``metadata/{model_id}/vN.json`` and ``models/index.parquet``."""

from __future__ import annotations

import contextlib
import pathlib
from typing import TYPE_CHECKING, Any

from ops.foundation.files import atomic_write
from ops.foundation.logs import get_logger
from ops.registry.disk import artifacts
from ops.registry.disk.checked_paths import inside, refuse_link
from ops.registry.disk.derived_files import write_view
from ops.registry.json_values import canonical, decode, encode
from ops.registry.local.index import arrays
from ops.registry.models.state import version_record

if TYPE_CHECKING:
    import logging
    from collections.abc import Sequence

    from ops.registry.records import ModelVersion

__all__ = ["LocalModelViews"]

logger: logging.Logger = get_logger("ops.registry")


class LocalModelViews:
    """The views below *root*, the folder of a registry."""

    def __init__(self, root: pathlib.Path) -> None:
        self._root = root

    def write(self, versions: Sequence[ModelVersion], *, tags: bool = False) -> None:  # noqa: ARG002 - the same call
        """Write the metadata files of versions."""
        for version in versions:
            path = self._path(version)
            # The change is in the journal already: a view that cannot be written must not deny it.
            try:
                write_view(str(path), encode(version_record(version)))
            except OSError:
                logger.warning("%s could not be written; fsck --repair does", path, exc_info=True)

    def drop(self, versions: Sequence[ModelVersion]) -> None:
        """Remove the metadata files of versions."""
        for version in versions:
            artifacts.remove(inside(self._root, "metadata", *_names(version)))
        for model_id in {version.model_id for version in versions}:
            with contextlib.suppress(OSError):  # it has other versions, or is not there
                inside(self._root, "metadata", model_id).rmdir()

    def is_current(self, version: ModelVersion) -> bool:
        """Whether the metadata file of a version agrees with its journal."""
        try:
            found = self._path(version).read_bytes()
        except FileNotFoundError:
            return False
        record = version_record(version)
        if found == encode(record):
            return True
        try:
            kept = decode(found)
            name = pathlib.PurePath(str(kept["artifact_uri"])).name
        except (ValueError, KeyError, TypeError):
            return False
        # A store that was moved lies elsewhere, and the file has its old path.
        if name == pathlib.PurePath(version.artifact_uri).name:
            kept["artifact_uri"] = version.artifact_uri
        return bool(canonical(kept) == canonical(decode(encode(record))))

    def write_table(self, versions: Sequence[ModelVersion]) -> None:
        """Write ``models/index.parquet``."""
        _write_table(self._root / "models" / "index.parquet", versions)

    def _path(self, version: ModelVersion) -> pathlib.Path:
        return self._root.joinpath("metadata", *_names(version))


def _names(version: ModelVersion) -> tuple[str, str]:
    return version.model_id, f"v{version.version}.json"


def _write_table(path: pathlib.Path, versions: Sequence[ModelVersion]) -> None:
    """Write the versions as Parquet, metrics as columns of their own."""
    import pyarrow as pa
    import pyarrow.parquet as pq

    columns: dict[str, Any] = {
        "model_id": arrays.texts([v.model_id for v in versions]),
        "name": arrays.texts([v.name for v in versions]),
        "version": arrays.wholes([v.version for v in versions]),
        "stage": arrays.texts([str(v.stage) for v in versions]),
        "framework": arrays.texts([v.metadata.framework for v in versions]),
        "size": arrays.wholes([v.size for v in versions]),
        "checksum": arrays.texts([v.checksum for v in versions]),
        "tags_json": arrays.texts([encode(dict(v.metadata.tags)).decode() for v in versions]),
    }
    for key in sorted({k for v in versions for k in v.metadata.metrics}):
        columns[f"metrics.{key}"] = arrays.numbers([v.metadata.metrics.get(key) for v in versions])
    refuse_link(path)
    with atomic_write(path, "wb", durable="none") as file:
        pq.write_table(pa.table(columns), file)
