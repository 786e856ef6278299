"""The files of a run: copied beside their place in the store, or sent to a bucket, then told in the journal."""

from __future__ import annotations

import functools
import os
import pathlib
from typing import TYPE_CHECKING, Any, TypeVar

from ops.foundation.files import temporary_directory
from ops.registry.disk import artifacts
from ops.registry.disk.checked_paths import inside
from ops.registry.disk.journal import encode
from ops.registry.errors import (
    ArtifactNotFoundError,
    CorruptStoreError,
    InvalidValueError,
    RunNotFoundError,
)
from ops.registry.events import EventType
from ops.registry.operations import reported
from ops.registry.records import Artifact
from ops.registry.remote.artifacts import is_remote, owner_of
from ops.registry.tracking.run_records import to_run
from ops.registry.tracking.runaccess import RunAccess
from ops.registry.validators import check_text

if TYPE_CHECKING:
    from collections.abc import Callable, Collection, Mapping

    from ops.foundation.files import StrPath
    from ops.registry.records import Run
    from ops.serialize.trust import Trust

__all__ = ["RunArtifacts"]

T = TypeVar("T")


class RunArtifacts(RunAccess):
    """Keeps files, folders, texts, JSON and figures as artifacts of runs."""

    root: pathlib.Path

    if TYPE_CHECKING:

        def set_tags(self, run_id: str, tags: Mapping[str, object]) -> None:
            """Set tags in one frame."""

    @reported
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
        `AlreadyExistsError` unless *overwrite*. A folder is one artifact: nothing can be put into it later.
        """
        source = artifacts.origin_of(path)
        below = "" if artifact_path is None else f"{artifact_path.rstrip('/')}/"
        return self._put(run_id, source, f"{below}{source.name}", overwrite=overwrite)

    @reported
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

    @reported
    def log_text(
        self, run_id: str, text: str, artifact_path: str, *, overwrite: bool = False
    ) -> Artifact:
        """Keep *text* as the artifact *artifact_path*, in UTF-8."""
        with temporary_directory() as folder:
            source = folder / "text"
            source.write_bytes(_encoded(text))
            return self._put(run_id, source, artifact_path, overwrite=overwrite)

    def log_dict(
        self, run_id: str, data: Any, artifact_path: str, *, overwrite: bool = False
    ) -> Artifact:
        """Keep *data* as a JSON artifact."""
        return self.log_text(run_id, encode(data).decode(), artifact_path, overwrite=overwrite)

    @reported
    def log_figure(
        self, run_id: str, figure: Any, artifact_path: str, *, overwrite: bool = False
    ) -> Artifact:
        """Keep a figure of matplotlib (`savefig`) or plotly (`write_html`); the suffix is the format.

        Without a suffix the name gets .png or .html.
        """
        with temporary_directory() as folder:
            source, name = artifacts.write_figure(folder, figure, artifact_path)
            return self._put(run_id, source, name, overwrite=overwrite)

    @reported
    def log_model(
        self,
        run_id: str,
        model: Any,
        artifact_path: str = "model",
        *,
        input_example: Any = None,
        trust: Trust = "user",
        overwrite: bool = False,
    ) -> Artifact:
        """Save a model object as a folder that says what it is; `load_run_model` returns it.

        Args:
            run_id: The run that made it.
            model: What `ops.registry.models.objects` saves: nearly everything.
            artifact_path: The name of the folder in the run.
            input_example: Some rows, kept with the signature that they give.
            trust: Who signs what has to be pickled.
            overwrite: Whether another model of that name is replaced.
        """
        from ops.registry.models.objects import save_model_folder, save_object

        parent, _, name = artifact_path.rstrip("/").rpartition("/")
        with temporary_directory() as folder:
            made = inside(folder, name)
            made.mkdir()
            save_model_folder(save_object(model, made, input_example=input_example, trust=trust))
            return self.log_artifact(run_id, made, parent or None, overwrite=overwrite)

    @reported
    def load_run_model(
        self, run_id: str, artifact_path: str = "model", *, trust: Trust = "safe"
    ) -> Any:
        """Return the object that `log_model` saved, verified; see `ops.registry.models.flavors` on trust."""
        from ops.registry.models.flavors import load_artifact

        with temporary_directory() as folder:
            path = self.download_run_artifact(run_id, artifact_path.rstrip("/"), folder / "model")
            return load_artifact(path, "model", trust)

    @reported
    def log_environment(
        self, run_id: str, *, directory: StrPath = ".", overwrite: bool = False
    ) -> Artifact:
        """Capture where a run comes from: the git commit of *directory*, the command line, Python and packages.

        Commit, branch, command and platform are tags, and all of it is the artifact ``environment.json``. What looks like
        a secret in the command line is left out; variables of the environment are not captured.
        """
        from ops.registry.tracking.environments import captured, tags_of

        found = captured(directory)
        self.set_tags(run_id, tags_of(found))
        return self.log_dict(run_id, found, "environment.json", overwrite=overwrite)

    @reported
    def download_run_artifact(
        self, run_id: str, path: str, destination: StrPath, *, overwrite: bool = False
    ) -> pathlib.Path:
        """Copy an artifact to *destination*, or into it if it is a folder, and verify it.

        Other content that is there already is an `AlreadyExistsError` unless *overwrite*.
        """
        run = to_run(self._store.row(run_id), self._artifacts)
        found = next((a for a in run.artifacts if a.path == path), None)
        if found is None:
            raise ArtifactNotFoundError(f"Run {run_id!r} has no artifact {path!r}.")
        target = pathlib.Path(destination)
        target = target / pathlib.PurePosixPath(path).name if target.is_dir() else target

        def fetch() -> pathlib.Path:
            return self._remote.fetch_from(found.uri, target, found.checksum, overwrite=overwrite)

        return self._whole(run_id, found, fetch)

    def verify_artifacts(self, run: Run) -> None:
        """Raise `CorruptStoreError` unless each artifact of a run is what was logged."""
        for artifact in run.artifacts:
            verify = functools.partial(self._remote.verify, artifact.uri, artifact.checksum)
            self._whole(run.run_id, artifact, verify)

    def waiting_copies(self, run_id: str) -> set[pathlib.Path]:
        """Return the copies that a journal says have a name, and that a kill may have kept from it."""
        base = self._artifacts / run_id
        try:
            recorded = to_run(self._store.row(run_id), self._artifacts).artifacts
        except RunNotFoundError:
            return set()
        return {artifacts.waiting_path(base, one.path, one.checksum) for one in recorded}

    def adopt_artifacts(self, run: Run) -> dict[str, str]:
        """Bring the artifacts of a run of another store here; return the addresses of those not in the folder."""
        addresses: dict[str, str] = {}
        for artifact in run.artifacts:
            here = inside(self.root, "artifacts", run.run_id, artifact.path)
            if self._remote.address is None:
                if is_remote(artifact.uri):
                    self._remote.fetch(artifact.uri, here, artifact.checksum)
                continue
            sent = self._remote.copy_from(artifact.uri, f"runs/{run.run_id}", artifact.checksum)
            addresses[artifact.path] = sent.uri
        return addresses

    def left_over(self, before_seconds: float) -> list[str]:
        """Return what is in the bucket since before a time and belongs to no run."""
        return self._remote.left_over(self._is_named, before_seconds)

    def clear(self, uris: Collection[str]) -> None:
        """Remove what `left_over` returned."""
        self._remote.clear(uris)

    def _is_named(self, uri: str) -> bool:
        try:
            row = self._store.row(owner_of(uri))  # not the index, which may miss what came late
        except RunNotFoundError:
            return False
        return any(one.address == uri for one in row.artifacts)

    def _put(self, run_id: str, source: StrPath, name: str, *, overwrite: bool) -> Artifact:
        folder = self._folder_of(run_id)
        name = artifacts.name_below(self._artifacts / run_id, name)
        inside(self.root, "artifacts", run_id, name)
        if self._remote.address is not None:
            return self._send(run_id, pathlib.Path(source), name, overwrite=overwrite)
        staged = artifacts.stage(
            source,
            folder,
            flushed=self._store.durability != "process",
            contents=self._contents,
        )
        return self._keep(run_id, name, staged, overwrite=overwrite)

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
        copy, size, digest = staged
        target = self._artifacts / run_id / name
        kept = Artifact(name, size, digest, str(target))
        try:
            # Not under the lock: it may be large. The journal decides; this says whether it is right.
            is_taken = os.path.exists(target)  # noqa: PTH110 - any name may come
            found = artifacts.checksum(target) if is_taken else None
            with self._names.deciding():
                known = self._names.known(run_id, name)
                same = artifacts.same(run_id, known, digest, overwrite=overwrite)
                if known is None and found not in {None, digest} and not overwrite:
                    raise artifacts.taken(run_id, name)  # a file of MLflow's client, or a kill's
                if same is not None and (found == digest or is_remote(same.uri)):
                    return same
                if known is not None and same is None:
                    # The journal first: a kill here leaves what it says, where `_whole` finds it.
                    waiting = artifacts.waiting_path(self._artifacts / run_id, name, digest)
                    artifacts.move_into_place(copy, waiting)
                    self._names.tell(run_id, kept)
                    artifacts.move_into_place(waiting, target)
                else:
                    artifacts.move_into_place(copy, target)
                    if same is None:
                        self._names.tell(run_id, kept)
        finally:
            artifacts.remove(copy)
        if same is None:
            self._logged(run_id, kept, known)
        return kept

    def _send(self, run_id: str, source: pathlib.Path, name: str, *, overwrite: bool) -> Artifact:
        with self._names.deciding():
            known = self._names.known(run_id, name)
        if known:
            digest = artifacts.checksum(source, stored=False)
            if artifacts.same(run_id, known, digest, overwrite=overwrite):
                return known
        sent = self._remote.send(source, f"runs/{run_id}", pathlib.PurePosixPath(name).name)
        kept = Artifact(name, sent.size, sent.checksum, sent.uri)
        with self._names.deciding():
            known = self._names.known(run_id, name)  # somebody else may have been faster
            same = artifacts.same(run_id, known, sent.checksum, overwrite=overwrite)
            if same is None:
                self._names.tell(run_id, kept, sent.uri)
        if same is not None:
            self._remote.discard(sent.uri)
            return same
        self._logged(run_id, kept, known)
        return kept

    def _whole(self, run_id: str, artifact: Artifact, read: Callable[[], T]) -> T:
        """Return what *read* does with an artifact that a kill may have kept from being replaced."""
        try:
            return read()
        except (ArtifactNotFoundError, CorruptStoreError):
            if is_remote(artifact.uri):
                raise
        base = self._artifacts / run_id
        waiting = artifacts.waiting_path(base, artifact.path, artifact.checksum)
        if waiting.exists():
            inside(self.root, "artifacts", run_id, artifact.path)
            with self._names.deciding():
                if waiting.exists() and artifacts.checksum(waiting) == artifact.checksum:
                    artifacts.move_into_place(waiting, base / artifact.path)
        return read()  # also when its replacement was not over yet

    def _logged(self, run_id: str, kept: Artifact, known: Artifact | None) -> None:
        if known is not None and known.uri != kept.uri:
            self._remote.discard(known.uri)
        data = {"run_id": run_id, "path": kept.path, "size": kept.size}
        self._done(EventType.ARTIFACT_LOGGED, data)


def _encoded(text: str) -> bytes:
    try:
        return check_text("an artifact's text", text).encode()
    except UnicodeEncodeError as error:
        raise InvalidValueError(f"The text has what UTF-8 cannot say: {error}.") from error
