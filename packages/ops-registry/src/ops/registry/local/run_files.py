"""The files of runs on this machine, or in a bucket: copied into the store, then named in the run's journal."""

from __future__ import annotations

import dataclasses
import functools
import pathlib
from typing import TYPE_CHECKING, TypeVar

from ops.foundation.paths import is_there
from ops.registry.disk import artifacts
from ops.registry.disk.checked_paths import inside
from ops.registry.errors import (
    ArtifactNotFoundError,
    CorruptStoreError,
    RunNotFoundError,
    no_artifact,
)
from ops.registry.local.artifact_index import ArtifactIndex
from ops.registry.records import Artifact
from ops.registry.remote.artifacts import is_remote, owner_of
from ops.registry.run_frames import ArtifactLogged
from ops.registry.run_rows import KeptArtifact
from ops.registry.tracking.run_records import to_artifact
from ops.registry.validators import check_run_id

if TYPE_CHECKING:
    import contextlib
    from collections.abc import Callable, Collection, Sequence

    from ops.registry.disk.content_store import ContentStore
    from ops.registry.local.run_store import RunStore
    from ops.registry.remote.artifacts import RemoteArtifacts
    from ops.registry.run_copies import RunCopy
    from ops.registry.run_frames import Frame

__all__ = ["LocalRunFiles"]

T = TypeVar("T")


class LocalRunFiles:
    """The artifacts of the runs in *runs*: below *root*, or where *remote* sends them.

    Files that *contents* has are not copied into the folder.
    """

    def __init__(
        self,
        root: pathlib.Path,
        runs: RunStore,
        remote: RemoteArtifacts,
        contents: ContentStore | None = None,
    ) -> None:
        self._root = root
        self._artifacts = root / "artifacts"
        self._runs = runs
        self._remote = remote
        self._contents = contents
        self._names = ArtifactIndex(runs, self._artifacts, remote)

    def keep(
        self, run_id: str, source: pathlib.Path, name: str, *, overwrite: bool
    ) -> tuple[Artifact, bool]:
        """Keep a copy of a file or folder as the artifact *name*; return it, and whether it is new."""
        self._runs.home(run_id)  # raises for an unknown run
        inside(self._root, "artifacts", run_id, name)
        if self._remote.address is not None:
            return self._send(run_id, source, name, overwrite=overwrite)
        staged = artifacts.stage(
            source,
            self._artifacts / run_id,
            flushed=self._runs.durability != "process",
            contents=self._contents,
        )
        return self._put(run_id, name, staged, overwrite=overwrite)

    def fetch(self, run_id: str, name: str, target: pathlib.Path, *, overwrite: bool) -> None:
        """Copy the artifact *name* to *target* and verify it."""
        artifact = next((a for a in self._runs.run(run_id).artifacts if a.path == name), None)
        if artifact is None:
            raise no_artifact(run_id, name)

        def read() -> None:
            self._remote.fetch_from(artifact.uri, target, artifact.checksum, overwrite=overwrite)

        self._whole(run_id, artifact, read)

    def verify(self, run_id: str, found: Sequence[Artifact]) -> None:
        """Raise `CorruptStoreError` unless each of the artifacts is what was logged."""
        for artifact in found:
            verify = functools.partial(self._remote.verify, artifact.uri, artifact.checksum)
            self._whole(run_id, artifact, verify)

    def remove(self, run_id: str, gone: Sequence[Artifact]) -> None:
        """Remove the artifacts of a run that was erased."""
        for artifact in gone:
            self._remote.discard(artifact.uri)
        artifacts.remove(self.folder(run_id))

    def adopt(
        self,
        copy: RunCopy,
        experiment_id: str,  # noqa: ARG002 - folders of artifacts are by run
        fetch: Callable[[str, pathlib.Path], pathlib.Path],
    ) -> Sequence[Frame]:
        """Bring the artifacts of a run of another store here."""
        folder = self.folder(copy.run_id)
        kept = [KeptArtifact(*one) for one in copy.artifacts]
        for one in kept:
            target = inside(folder, one.path)  # a name may come from a store that is not trusted
            target.parent.mkdir(parents=True, exist_ok=True)
            fetch(one.path, target)
        addresses = self.adopt_files(copy.run_id, [to_artifact(one, folder) for one in kept])
        return [
            ArtifactLogged(dataclasses.replace(one, address=addresses.get(one.path)))
            for one in kept
        ]

    def adopt_files(self, run_id: str, found: Sequence[Artifact]) -> dict[str, str]:
        """Bring the artifacts of a run here whose folder is here already; return the addresses of those in a bucket."""
        addresses: dict[str, str] = {}
        for artifact in found:
            here = inside(self._root, "artifacts", run_id, artifact.path)
            if self._remote.address is None:
                if is_remote(artifact.uri):
                    self._remote.fetch(artifact.uri, here, artifact.checksum)
                continue
            sent = self._remote.copy_from(artifact.uri, f"runs/{run_id}", artifact.checksum)
            addresses[artifact.path] = sent.uri
        return addresses

    def folder(self, run_id: str) -> pathlib.Path:
        """Return where the artifacts of a run are."""
        return inside(self._root, "artifacts", check_run_id(run_id))

    def deciding(self) -> contextlib.AbstractContextManager[None]:
        """Exclude others that decide which files a run has, here and in other processes."""
        return self._names.deciding()

    def waiting_copies(self, run_id: str) -> set[pathlib.Path]:
        """Return the copies that have a name in a journal, and that a kill may have kept from it."""
        base = self._artifacts / run_id
        try:
            recorded = self._runs.run(run_id).artifacts
        except RunNotFoundError:
            return set()
        return {artifacts.waiting_place(base, one.path, one.checksum) for one in recorded}

    def left_over(self, before_seconds: float) -> list[str]:
        """Return what is in the bucket since before a time and belongs to no run."""
        return self._remote.left_over(self._is_named, before_seconds)

    def clear(self, uris: Collection[str]) -> None:
        """Remove what `left_over` returned."""
        self._remote.clear(uris)

    def close(self) -> None:
        """Close the connection to the bucket."""
        self._remote.close()

    def _is_named(self, uri: str) -> bool:
        try:
            row = self._runs.row(owner_of(uri))  # not the index, which may miss what came late
        except RunNotFoundError:
            return self._runs.has_journal(owner_of(uri))  # whose start is damaged
        return any(one.address == uri for one in row.artifacts)

    def _put(
        self,
        run_id: str,
        name: str,
        staged: tuple[pathlib.Path, int, str],
        *,
        overwrite: bool,
    ) -> tuple[Artifact, bool]:
        copy, size, digest = staged
        target = self._artifacts / run_id / name
        kept = Artifact(name, size, digest, str(target))
        try:
            # Not under the lock: it may be large. The journal decides; this checks it.
            found = artifacts.checksum(target) if is_there(target) else None
            with self._names.deciding():
                known = self._names.known(run_id, name)
                if found is None and is_there(target, follow_links=False):  # it has come meanwhile
                    found = artifacts.checksum(target)
                same = artifacts.same(run_id, known, digest, overwrite=overwrite)
                if known is None and found not in {None, digest} and not overwrite:
                    raise artifacts.taken(run_id, name)  # a file of MLflow's client, or a kill's
                if same is not None and (found == digest or is_remote(same.uri)):
                    return same, False
                if known is not None and same is None:
                    # The journal first: a kill here leaves the copy that it names, where `_whole` finds it.
                    waiting = artifacts.waiting_place(self._artifacts / run_id, name, digest)
                    artifacts.move_into_place(copy, waiting)
                    self._names.record(run_id, kept)
                    artifacts.move_into_place(waiting, target)
                else:
                    artifacts.move_into_place(copy, target)
                    if same is None:
                        self._names.record(run_id, kept)
        finally:
            artifacts.remove(copy)
        if same is None:
            self._discard(known, kept)
        return kept, same is None

    def _send(
        self, run_id: str, source: pathlib.Path, name: str, *, overwrite: bool
    ) -> tuple[Artifact, bool]:
        with self._names.deciding():
            known = self._names.known(run_id, name)
        if known:
            digest = artifacts.checksum(source, stored=False)
            if artifacts.same(run_id, known, digest, overwrite=overwrite):
                return known, False
        sent = self._remote.send(source, f"runs/{run_id}", pathlib.PurePosixPath(name).name)
        kept = Artifact(name, sent.size, sent.checksum, sent.uri)
        with self._names.deciding():
            known = self._names.known(run_id, name)  # another process may have been faster
            same = artifacts.same(run_id, known, sent.checksum, overwrite=overwrite)
            if same is None:
                self._names.record(run_id, kept, sent.uri)
        if same is not None:
            self._remote.discard(sent.uri)
            return same, False
        self._discard(known, kept)
        return kept, True

    def _discard(self, known: Artifact | None, kept: Artifact) -> None:
        """Remove what *kept* has replaced elsewhere."""
        if known is not None and known.uri != kept.uri:
            self._remote.discard(known.uri)

    def _whole(self, run_id: str, artifact: Artifact, read: Callable[[], T]) -> T:
        """Return what *read* does with an artifact that a kill may have kept from being replaced."""
        try:
            return read()
        except (ArtifactNotFoundError, CorruptStoreError):
            if is_remote(artifact.uri):
                raise
        base = self._artifacts / run_id
        waiting = artifacts.waiting_place(base, artifact.path, artifact.checksum)
        if waiting.exists():
            inside(self._root, "artifacts", run_id, artifact.path)
            with self._names.deciding():
                if waiting.exists() and artifacts.checksum(waiting) == artifact.checksum:
                    artifacts.move_into_place(waiting, base / artifact.path)
        return read()  # also when its replacement was not over yet
