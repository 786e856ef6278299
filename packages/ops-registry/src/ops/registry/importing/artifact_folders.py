"""Folders with the artifacts of MLflow that are not beside its runs: of databases, and of servers."""

from __future__ import annotations

from typing import TYPE_CHECKING

from ops.registry.importing.foreign_files import ForeignFolder

if TYPE_CHECKING:
    import pathlib
    from collections.abc import Sequence

    from ops.registry.importing.findings import Findings
    from ops.registry.importing.records import ForeignFile

__all__ = ["ArtifactFolders"]


class ArtifactFolders:
    """The folders that the caller named, or that lie where MLflow makes them."""

    def __init__(self, roots: Sequence[pathlib.Path], findings: Findings) -> None:
        self._folders = [ForeignFolder(root, findings) for root in roots]

    def __bool__(self) -> bool:
        return bool(self._folders)

    def of_run(self, experiment_id: str, run_id: str, location: str | None) -> list[ForeignFile]:
        """Return the files of a run; *location* is where its experiment had them."""
        return self._files(_homes(experiment_id, location), f"{run_id}/artifacts")

    def of_model(
        self, experiment_id: str, model_id: str, location: str | None
    ) -> list[ForeignFile]:
        """Return the files of a logged model."""
        return self._files(_homes(experiment_id, location), f"models/{model_id}/artifacts")

    def _files(self, homes: Sequence[str], below: str) -> list[ForeignFile]:
        found: dict[str, ForeignFile] = {}
        for folder in self._folders:
            for home in homes:
                for file in folder.files(f"{home}/{below}" if home else below):
                    found.setdefault(file.name, file)
        return list(found.values())


def _homes(experiment_id: str, location: str | None) -> list[str]:
    """Return what an experiment's folder may be called below a root, the root itself too."""
    name = (location or "").rstrip("/").rpartition("/")[2]
    homes = [experiment_id, "", name if name not in {".", ".."} else ""]
    return list(dict.fromkeys(homes))
