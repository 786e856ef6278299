"""The files of a run: what may become an artifact, under which name, and how it comes back."""

from __future__ import annotations

import pathlib
from typing import TYPE_CHECKING, Any

from ops.foundation.files import temporary_directory
from ops.registry.disk import artifacts
from ops.registry.errors import (
    ArtifactNotFoundError,
    InvalidValueError,
)
from ops.registry.events import EventType
from ops.registry.json_values import encode
from ops.registry.operations import reported
from ops.registry.tracking.run_access import RunAccess
from ops.registry.validators import check_path, check_text

if TYPE_CHECKING:
    from collections.abc import Collection, Mapping

    from ops.foundation.files import StrPath
    from ops.registry.records import Artifact, Run
    from ops.serialize.trust import Trust

__all__ = ["RunArtifacts"]

#: Names are checked the same wherever the files are.
_ANYWHERE = pathlib.Path("/artifacts")


class RunArtifacts(RunAccess):
    """Keeps files, folders, texts, JSON and plots as artifacts of runs."""

    if TYPE_CHECKING:

        def set_tags(self, run_id: str, tags: Mapping[str, object]) -> None:
            """Set tags in one frame."""

    @reported
    def log_artifact(
        self,
        run_id: str,
        path: StrPath,
        artifact_path: StrPath | None = None,
        *,
        overwrite: bool = False,
    ) -> Artifact:
        """Copy the file or folder *path* into the run *run_id*, below *artifact_path* if that is given.

        The same content under the same name again changes nothing; other content raises
        `AlreadyExistsError` unless *overwrite*. A folder is one artifact: nothing can be put into
        it later.
        """
        source = artifacts.origin_of(path)
        below = "" if artifact_path is None else _spelled(artifact_path)
        name = f"{below}/{source.name}" if below else source.name
        return self._put(run_id, source, name, overwrite=overwrite)

    @reported
    def log_artifacts(
        self,
        run_id: str,
        folder: StrPath,
        artifact_path: StrPath | None = None,
        *,
        overwrite: bool = False,
    ) -> list[Artifact]:
        """Copy each file and folder in *folder* into the run *run_id*, as `log_artifact` does, by name.

        *artifact_path* and *overwrite* are those of `log_artifact`. Raises `ArtifactNotFoundError`
        when *folder* is no folder.
        """
        source = pathlib.Path(folder)
        if not source.is_dir():
            raise ArtifactNotFoundError(f"{str(source)!r} is no folder.")
        return [
            self.log_artifact(run_id, path, artifact_path, overwrite=overwrite)
            for path in sorted(source.iterdir())
        ]

    @reported
    def log_text(
        self, run_id: str, text: str, artifact_path: StrPath, *, overwrite: bool = False
    ) -> Artifact:
        """Keep *text* as the artifact *artifact_path* of *run_id*, in UTF-8.

        Other content of that name raises `AlreadyExistsError` unless *overwrite*; a text that UTF-8
        cannot hold raises `InvalidValueError`.
        """
        with temporary_directory() as folder:
            source = folder / "text"
            source.write_bytes(_encoded(text))
            return self._put(run_id, source, artifact_path, overwrite=overwrite)

    def log_dict(
        self, run_id: str, data: Any, artifact_path: StrPath, *, overwrite: bool = False
    ) -> Artifact:
        """Keep *data*, any JSON value, as the artifact *artifact_path* of *run_id*; *overwrite* replaces other content."""
        return self.log_text(run_id, encode(data).decode(), artifact_path, overwrite=overwrite)

    @reported
    def log_figure(
        self, run_id: str, figure: Any, artifact_path: StrPath, *, overwrite: bool = False
    ) -> Artifact:
        """Keep a *figure* of matplotlib (`savefig`) or plotly (`write_html`) as the artifact *artifact_path* of *run_id*.

        The suffix is the format; without one the name gets .png or .html. *overwrite* replaces
        other content.
        """
        with temporary_directory() as folder:
            source, name = artifacts.write_figure(folder, figure, _spelled(artifact_path))
            return self._put(run_id, source, name, overwrite=overwrite)

    @reported
    def log_model(
        self,
        run_id: str,
        model: Any,
        artifact_path: StrPath = "model",
        *,
        input_example: Any = None,
        trust: Trust = "user",
        overwrite: bool = False,
    ) -> Artifact:
        """Save a model object as a folder that names its type; `load_run_model` returns it.

        Args:
            run_id: The run that made it.
            model: What `ops.registry.models.objects` saves: nearly everything.
            artifact_path: The name of the folder in the run.
            input_example: Some rows, kept with the signature that they give.
            trust: Who signs what has to be pickled.
            overwrite: Whether another model of that name is replaced.
        """
        from ops.registry.models.objects import save_model_folder, save_object

        with temporary_directory() as folder:
            save_model_folder(save_object(model, folder, input_example=input_example, trust=trust))
            return self._put(run_id, folder, artifact_path, overwrite=overwrite)

    @reported
    def load_run_model(
        self, run_id: str, artifact_path: StrPath = "model", *, trust: Trust = "safe"
    ) -> Any:
        """Return the object that `log_model` saved as *artifact_path* of *run_id*, verified.

        *trust* decides what may be read ("safe": no pickle runs); see
        `ops.registry.models.flavors`.
        """
        from ops.registry.models.flavors import load_artifact

        with temporary_directory() as folder:
            path = self.download_run_artifact(run_id, artifact_path, folder / "model")
            return load_artifact(path, "model", trust)

    @reported
    def log_environment(
        self, run_id: str, *, directory: StrPath = ".", overwrite: bool = False
    ) -> Artifact:
        """Capture where a run comes from: the git commit of *directory*, the command line, Python and packages.

        Commit, branch, command and platform are tags of *run_id*, and all of it is the artifact
        ``environment.json``; *overwrite* replaces an earlier one. What looks like a secret in the
        command line is left out; variables of the environment are not captured.
        """
        from ops.registry.tracking.environments import captured, tags_of

        found = captured(directory)
        self.set_tags(run_id, tags_of(found))
        return self.log_dict(run_id, found, "environment.json", overwrite=overwrite)

    @reported
    def download_run_artifact(
        self, run_id: str, path: StrPath, destination: StrPath, *, overwrite: bool = False
    ) -> pathlib.Path:
        """Copy the artifact *path* of *run_id* to *destination*, or into it if it is a folder, and verify it.

        Raises `ArtifactNotFoundError`, and `AlreadyExistsError` for other content that is there
        already unless *overwrite*.
        """
        name = _spelled(path)
        target = pathlib.Path(destination)
        target = target / pathlib.PurePosixPath(name).name if target.is_dir() else target
        self._files.fetch(run_id, name, target, overwrite=overwrite)
        return target

    def verify_artifacts(self, run: Run) -> None:
        """Raise `CorruptStoreError` unless each artifact of a run is what was logged."""
        self._files.verify(run.run_id, run.artifacts)

    def artifact_folder(self, run_id: str) -> pathlib.Path:
        """Return where the artifacts of a run are; a `BackendUnavailableError` where that is no local folder."""
        return self._files.folder(run_id)

    def left_over(self, before_seconds: float) -> list[str]:
        """Return addresses of what was kept elsewhere since before a time and belongs to no run."""
        return self._files.left_over(before_seconds)

    def clear(self, uris: Collection[str]) -> None:
        """Remove what `left_over` returned."""
        self._files.clear(uris)

    def _put(
        self, run_id: str, source: pathlib.Path, path: StrPath, *, overwrite: bool
    ) -> Artifact:
        self._runs.home(run_id)  # raises for an unknown run
        name = artifacts.name_below(_ANYWHERE, _spelled(path))
        kept, is_new = self._files.keep(run_id, source, name, overwrite=overwrite)
        if is_new:
            data = {"run_id": run_id, "path": kept.path, "size": kept.size}
            self._done(EventType.ARTIFACT_LOGGED, data)
        return kept


def _spelled(path: StrPath) -> str:
    """Return the name of an artifact, or of a folder of artifacts, in the one spelling it is kept under."""
    parts = check_path("artifact_path", path).split("/")
    kept = [part for part in parts[1:] if part not in {"", "."}]
    return "/".join([parts[0], *kept]) if parts[0] != "." else "/".join(kept)


def _encoded(text: str) -> bytes:
    try:
        return check_text("an artifact's text", text).encode()
    except UnicodeEncodeError as error:
        raise InvalidValueError(f"The text has what UTF-8 cannot say: {error}.") from error
