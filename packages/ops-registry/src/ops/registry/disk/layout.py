"""Where everything of a store is on disk; nothing here creates anything."""

from __future__ import annotations

import pathlib
from typing import TYPE_CHECKING

from ops.registry.disk.checked_paths import inside

if TYPE_CHECKING:
    from ops.foundation.files import StrPath
    from ops.registry.configuration import MLOpsConfig, PlaceOptions

__all__ = ["PathManager", "paths_of"]


class PathManager:
    """The paths below one absolute *root*; a *catalog* and a *schema* are folders of their own (None: no folder)."""

    def __init__(
        self, root: StrPath, catalog: str | None = None, schema: str | None = None
    ) -> None:
        self.root: pathlib.Path = pathlib.Path(root).absolute()
        for part in (catalog, schema):
            if part:
                self.root = inside(self.root, part)

    @property
    def model_registry(self) -> pathlib.Path:
        """The folder of the model registry."""
        return inside(self.root, "model_registry")

    @property
    def experiment_tracking(self) -> pathlib.Path:
        """The folder of experiments, runs and their artifacts."""
        return inside(self.root, "experiment_tracking")

    @property
    def storage(self) -> pathlib.Path:
        """The folder of the user's own files."""
        return inside(self.root, "storage")

    @property
    def contents(self) -> pathlib.Path:
        """The folder of files that several artifacts share."""
        return inside(self.root, "contents")

    @property
    def audit_log(self) -> pathlib.Path:
        """The file of the audit log."""
        return inside(self.root, "audit.jsonl")

    def runs(self, experiment_id: str) -> pathlib.Path:
        """Return the folder of an experiment's runs."""
        return inside(self.root, "experiment_tracking", "runs", experiment_id)

    def run_artifacts(self, run_id: str) -> pathlib.Path:
        """Return the folder of a run's artifacts."""
        return inside(self.root, "experiment_tracking", "artifacts", run_id)

    def model_version(self, model_id: str, version: int) -> pathlib.Path:
        """Return the folder of a version's artifact."""
        return inside(self.root, "model_registry", "artifacts", model_id, f"v{version}")


def paths_of(config: MLOpsConfig, own: PlaceOptions | None = None) -> PathManager:
    """Return the layout of a local store, or of the part with its *own* catalog and schema."""
    catalog = (own and own.catalog) or config.catalog
    schema = (own and own.schema) or config.schema
    return PathManager(config.storage_path, catalog, schema)
