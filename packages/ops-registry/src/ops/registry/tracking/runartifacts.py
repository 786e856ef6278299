"""The files of a run: copied into the store beside their place, then named, then told in the journal."""

from __future__ import annotations

import pathlib
import secrets
from typing import TYPE_CHECKING, Any

from ops.registry.disk import artifacts
from ops.registry.disk.journal import encode
from ops.registry.errors import ArtifactNotFoundError
from ops.registry.events import EventType
from ops.registry.tracking.runaccess import RunAccess

if TYPE_CHECKING:
    from ops.foundation.files import StrPath
    from ops.registry.records import Artifact

__all__ = ["RunArtifacts"]


class RunArtifacts(RunAccess):
    """Keeps files, folders, texts, JSON and figures as artifacts of runs."""

    def log_artifact(
        self,
        run_id: str,
        path: StrPath,
        artifact_path: str | None = None,
        *,
        overwrite: bool = False,
    ) -> Artifact:
        """Copy a file or folder into the run, below *artifact_path* if that is given.

        The same content under the same name again changes nothing; other content is an
        `AlreadyExistsError` unless *overwrite*.
        """
        name = pathlib.Path(path).name
        name = name if artifact_path is None else f"{artifact_path.rstrip('/')}/{name}"
        staging = self._folder_of(run_id)
        return self._keep(run_id, name, self._stage(path, staging), overwrite=overwrite)

    def log_artifacts(
        self,
        run_id: str,
        folder: StrPath,
        artifact_path: str | None = None,
        *,
        overwrite: bool = False,
    ) -> list[Artifact]:
        """Copy each file and folder in *folder* into the run, as `log_artifact` does, by name."""
        source = pathlib.Path(folder)
        if not source.is_dir():
            raise ArtifactNotFoundError(f"{str(source)!r} is no folder.")
        return [
            self.log_artifact(run_id, path, artifact_path, overwrite=overwrite)
            for path in sorted(source.iterdir())
        ]

    def log_text(
        self, run_id: str, text: str, artifact_path: str, *, overwrite: bool = False
    ) -> Artifact:
        """Keep *text* as the artifact *artifact_path*, in UTF-8."""
        folder = self._folder_of(run_id)
        folder.mkdir(parents=True, exist_ok=True)
        source = folder / f".{secrets.token_hex(8)}.text"
        try:
            source.write_bytes(text.encode())
            staged = self._stage(source, folder)
        finally:
            source.unlink(missing_ok=True)
        return self._keep(run_id, artifact_path, staged, overwrite=overwrite)

    def log_dict(
        self, run_id: str, data: Any, artifact_path: str, *, overwrite: bool = False
    ) -> Artifact:
        """Keep *data* as a JSON artifact."""
        return self.log_text(run_id, encode(data).decode(), artifact_path, overwrite=overwrite)

    def log_figure(
        self, run_id: str, figure: Any, artifact_path: str, *, overwrite: bool = False
    ) -> Artifact:
        """Keep a figure of matplotlib (`savefig`) or plotly (`write_html`); the suffix is the format."""
        with artifacts.written(self._folder_of(run_id), figure, artifact_path) as source:
            staged = self._stage(source, source.parent)
        return self._keep(run_id, artifact_path, staged, overwrite=overwrite)

    def _stage(self, source: StrPath, folder: pathlib.Path) -> tuple[pathlib.Path, int, str]:
        return artifacts.stage(source, folder, flushed=self._store.durability != "process")

    def _folder_of(self, run_id: str) -> pathlib.Path:
        self._store.home(run_id)  # raises for an unknown run
        return self._artifacts / run_id

    def _keep(
        self,
        run_id: str,
        name: str,
        staged: tuple[pathlib.Path, int, str],
        *,
        overwrite: bool,
    ) -> Artifact:
        kept, changed = artifacts.keep(self._artifacts / run_id, name, staged, overwrite=overwrite)
        if not changed:
            return kept
        size, digest = kept.size, kept.checksum
        self._store.append(run_id, {"a": [kept.path, size, digest]})
        self._done(EventType.ARTIFACT_LOGGED, {"run_id": run_id, "path": kept.path, "size": size})
        return kept
