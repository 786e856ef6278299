"""Artifacts of models on local files or in a bucket.

Copying an artifact, or sending it to a bucket, is done without any lock. Within the commit it gets the number of its
version, and a copy is moved to its path. A process that is killed before leaves a copy without a version, which the
next registration or `fsck` clears away.
"""

from __future__ import annotations

import contextlib
import dataclasses
import os
import pathlib
from typing import TYPE_CHECKING, Any

from ops.foundation.files import temporary_directory
from ops.registry.disk import artifacts
from ops.registry.disk.checked_paths import inside
from ops.registry.disk.journal import damaged_lines, writing
from ops.registry.disk.store_addresses import below, kept, local_path, resolved
from ops.registry.errors import ArtifactNotFoundError, StorageError
from ops.registry.remote.artifacts import is_remote, name_of

if TYPE_CHECKING:
    from collections.abc import Callable, Collection, Iterator, Mapping, Sequence

    from ops.foundation.files import StrPath
    from ops.registry.disk.content_store import ContentStore
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
        self._store = root.parent
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
        """Copy the artifact of a version to *target*, verified; what MLflow keeps in the store has no checksum."""
        expected = version.checksum or artifacts.checksum(self._of_mlflow(version))
        return self.remote.fetch_from(version.artifact_uri, target, expected, overwrite=overwrite)

    @contextlib.contextmanager
    def at_hand(self, version: ModelVersion) -> Iterator[pathlib.Path]:
        """Give a local path with the artifact, verified; one in the store is used where it is."""
        if is_remote(version.artifact_uri):
            with temporary_directory() as folder:
                yield self.fetch(version, folder / self.file_name(version))
        else:
            self.verify(version)
            yield (
                pathlib.Path(version.artifact_uri) if version.checksum else self._of_mlflow(version)
            )

    def verify(self, version: ModelVersion) -> None:
        """Raise `CorruptStoreError` unless the artifact is what was registered.

        Of MLflow's versions, which have no checksum, the files must be there if they are kept in the store.
        """
        if version.checksum:
            self.remote.verify(version.artifact_uri, version.checksum)
        elif self.is_here(version):
            self._of_mlflow(version)

    def is_here(self, version: ModelVersion) -> bool:
        """Whether the artifact is kept in the store, or by it in a bucket, and not elsewhere by another program."""
        if version.checksum:
            return True
        path = local_path(version.artifact_uri)
        return path is not None and below(self._store, path) is not None

    def _of_mlflow(self, version: ModelVersion) -> pathlib.Path:
        """Return where the files of a version are that MLflow has registered, if they are in the store."""
        where = version.artifact_uri
        if not self.is_here(version):
            raise StorageError(
                f"The files of {version.name}/{version.version} are kept by MLflow at {where!r:.200}, which is not in this store.",
                suggestions=(
                    f"mlflow.artifacts.download_artifacts('models:/{version.name}/{version.version}') fetches them.",
                ),
            )
        tail = below(self._store, where)
        path = inside(self._store, tail or "")
        if not path.exists():
            raise ArtifactNotFoundError(f"The artifact {where!r} is not there any more.")
        return path

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
        """Bring the artifact of a frame here, from its path in the origin; return the frame with its new path."""
        if "file" not in record:
            return self._adopted_from_mlflow(record, pathlib.Path(origin).parents[1])
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

    def _adopted_from_mlflow(
        self, record: Mapping[str, Any], store: pathlib.Path
    ) -> dict[str, Any]:
        """Return the frame of a version that MLflow registered in *store*, whose files are here too from now on.

        Those of a run or logged model that was copied are with it; others come into the folder of the version. What
        is not in that store stays where it is: an address in a journal is no reason to read files elsewhere.
        """
        here = dict(record)
        address = resolved(store, str(record.get("source", "")))
        path = local_path(address)
        tail = None if path is None else below(store, path)
        if tail is None:
            return here | {"source": address}
        there = inside(store, tail)
        if not os.path.lexists(self._store / tail) and there.exists():
            stored = (record["model_id"], f"v{record['version']}", there.name)
            target = inside(self._root, "artifacts", *stored)
            target.parent.mkdir(parents=True, exist_ok=True)
            artifacts.copy_in(there, target, self._contents)
            tail = f"{self._root.name}/artifacts/{'/'.join(stored)}"
        return here | {"source": kept(self._store, str(self._store / tail))}

    def left_over(
        self, before_seconds: float, versions: Callable[[], Sequence[ModelVersion]]
    ) -> list[str]:
        """Return what is in the bucket since before a time and belongs to no version."""
        named: set[str] | None = None
        damaged = damaged_lines(self._root / "models" / "journal.log")

        def is_named(uri: str) -> bool:  # called after the notes were read
            nonlocal named
            if named is None:
                named = {version.artifact_uri for version in versions()}
            # What a damaged line is about is not known to be gone.
            return uri in named or uri.encode() in damaged

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

    It stays if the registration fails, as the frame may be in the file; `fsck.collect` decides.
    """

    size: int
    checksum: str
    file: str
    uri: str

    def placed(self, model_id: str, number: int) -> Mapping[str, Any]:  # noqa: ARG002 - the same call
        """Return the fields of a frame that locate it."""
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
        """Move it to the folder of its version, and return the fields of a frame that locate it."""
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
