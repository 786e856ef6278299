"""Artifacts of models on local files or in a bucket.

Copying an artifact, or sending it to a bucket, is done without any lock. Within the commit it gets the number of its
version, and a copy is moved to its place. A process that is killed before leaves a copy without a version, which the
next registration or `fsck` clears away.
"""

from __future__ import annotations

import contextlib
import dataclasses
import pathlib
from typing import TYPE_CHECKING, Any

from ops.foundation.files import temporary_directory
from ops.registry.disk import artifacts
from ops.registry.disk.checked_paths import inside
from ops.registry.disk.journal import writing
from ops.registry.errors import ArtifactNotFoundError
from ops.registry.remote.artifacts import is_remote, name_of

if TYPE_CHECKING:
    from collections.abc import Callable, Collection, Iterator, Mapping, Sequence

    from ops.foundation.files import StrPath
    from ops.registry.disk.contents import ContentStore
    from ops.registry.models.ports import Staged
    from ops.registry.records import ModelVersion
    from ops.registry.remote.artifacts import RemoteArtifacts

__all__ = ["LocalModelArtifacts"]


class LocalModelArtifacts:
    """The artifacts below *root*, the folder of a registry, or below the address of *remote*."""

    def __init__(
        self,
        root: pathlib.Path,
        remote: RemoteArtifacts,
        *,
        flushed: bool,
        contents: ContentStore | None,
    ) -> None:
        self._root = root
        self.remote = remote
        self._flushed = flushed
        self._contents = contents

    def stage(self, origin: pathlib.Path, model_id: str) -> Staged:
        """Copy a file or folder beside the artifacts, or send it to the bucket."""
        if self.remote.address is not None:
            sent = self.remote.send(origin, f"models/{model_id}")
            return _Sent(sent.size, sent.checksum, origin.name, sent.uri)
        copy, size, checksum = artifacts.stage(
            origin, self._root / "artifacts", flushed=self._flushed, contents=self._contents
        )
        return _Copied(size, checksum, self._root, copy, origin.name)

    def fetch(
        self, version: ModelVersion, target: pathlib.Path, *, overwrite: bool = True
    ) -> pathlib.Path:
        """Copy the artifact of a version to *target*, verified."""
        return self.remote.fetch_from(
            version.artifact_uri, target, version.checksum, overwrite=overwrite
        )

    @contextlib.contextmanager
    def at_hand(self, version: ModelVersion) -> Iterator[pathlib.Path]:
        """Give a local path with the artifact, verified; one in the store is used where it is."""
        if is_remote(version.artifact_uri):
            with temporary_directory() as folder:
                yield self.fetch(version, folder / self.file_name(version))
        else:
            self.verify(version)
            yield pathlib.Path(version.artifact_uri)

    def verify(self, version: ModelVersion) -> None:
        """Raise `CorruptStoreError` unless the artifact is what was registered.

        What is kept elsewhere (MLflow's versions) has no checksum, and nothing to compare with.
        """
        if version.checksum:
            self.remote.verify(version.artifact_uri, version.checksum)

    def file_name(self, version: ModelVersion) -> str:
        """Return what the artifact is called."""
        return name_of(version.artifact_uri)

    def remove(self, versions: Sequence[ModelVersion]) -> None:
        """Remove the folders of versions, and what is in the bucket; what is kept elsewhere stays."""
        for version in versions:
            artifacts.remove(_folder(self._root, version.model_id, version.version))
            if version.checksum and is_remote(version.artifact_uri):  # else it is not ours
                self.remote.discard(version.artifact_uri)
        for model_id in {version.model_id for version in versions}:
            with contextlib.suppress(OSError):  # it has other versions, or is not there
                inside(self._root, "artifacts", model_id).rmdir()

    def adopted(self, record: Mapping[str, Any], origin: StrPath) -> dict[str, Any]:
        """Bring the artifact of a frame here, wherever it is there; return the frame that says so."""
        stored = (record["model_id"], f"v{record['version']}", record["file"])
        there = record.get("uri") or str(inside(origin, *stored))
        here = {key: value for key, value in record.items() if key != "uri"}
        target = inside(self._root, "artifacts", *stored)
        try:
            if self.remote.address is None:
                self.remote.fetch_from(there, target, record["checksum"], self._contents)
            else:
                owner = f"models/{record['model_id']}"
                here["uri"] = self.remote.copy_from(there, owner, record["checksum"]).uri
        except ArtifactNotFoundError:
            pass  # it is deleted by a later frame
        return here

    def left_over(
        self, before_seconds: float, versions: Callable[[], Sequence[ModelVersion]]
    ) -> list[str]:
        """Return what is in the bucket since before a time and belongs to no version."""
        named: set[str] | None = None

        def is_named(uri: str) -> bool:  # asked after the notes were read
            nonlocal named
            if named is None:
                named = {version.artifact_uri for version in versions()}
            return uri in named

        return self.remote.left_over(is_named, before_seconds)

    def clear(self, uris: Collection[str]) -> None:
        """Remove what `left_over` returned."""
        self.remote.clear(uris)

    def close(self) -> None:
        """Close the connections that are open."""
        self.remote.close()


@dataclasses.dataclass(slots=True)
class _Sent:
    """An artifact in the bucket.

    It stays if the registration fails, as the frame may be in the file; `fsck.collect` can tell.
    """

    size: int
    checksum: str
    file: str
    uri: str

    def placed(self, model_id: str, number: int) -> Mapping[str, Any]:  # noqa: ARG002 - the same call
        """Return what a frame says of where it is."""
        return {"file": self.file, "uri": self.uri}

    def discard(self) -> None:
        """Do nothing: see the class."""


@dataclasses.dataclass(slots=True)
class _Copied:
    """A copy beside the artifacts, under a temporary name."""

    size: int
    checksum: str
    root: pathlib.Path
    copy: pathlib.Path
    file: str

    def placed(self, model_id: str, number: int) -> Mapping[str, Any]:
        """Move it to the folder of its version, and return what a frame says of where it is."""
        folder = _folder(self.root, model_id, number)
        with writing(folder):
            _make_anew(folder)
            self.copy.replace(folder / self.file)
        return {"file": self.file}

    def discard(self) -> None:
        """Remove the copy if it was not moved."""
        artifacts.remove(self.copy)


def _folder(root: pathlib.Path, model_id: str, number: int) -> pathlib.Path:
    """Return where the artifact of a version is; a link on the way there is refused."""
    return inside(root, "artifacts", model_id, f"v{number}")


def _make_anew(folder: pathlib.Path) -> None:
    """Make an empty folder; what a registration that was killed left there goes."""
    try:
        folder.mkdir(parents=True)
    except FileExistsError:
        artifacts.remove(folder)
        folder.mkdir()
