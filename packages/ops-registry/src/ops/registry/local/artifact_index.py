"""Which artifact of a run has a name. The journals say, and are read only where they can say anything.

A name is decided, its file put there and the journal written under one lock, so that of several writers
one is first, and file and journal are about the same content. No artifact is inside another one.
"""

from __future__ import annotations

import contextlib
import time
from typing import TYPE_CHECKING

from ops.foundation.forks import in_children
from ops.foundation.locks import FileLock
from ops.foundation.paths import is_there
from ops.registry.disk import artifacts
from ops.registry.disk.journal import writing
from ops.registry.local.run_journals import RunReader
from ops.registry.run_frames import ArtifactLogged
from ops.registry.run_rows import KeptArtifact
from ops.registry.tracking.run_records import to_artifact

if TYPE_CHECKING:
    import pathlib
    from collections.abc import Iterator

    from ops.registry.local.run_store import RunStore
    from ops.registry.records import Artifact
    from ops.registry.remote.artifacts import RemoteArtifacts

__all__ = ["ArtifactIndex"]

_MOST_FOLDERS = 10_000
_MOST_READERS = 16


class ArtifactIndex:
    """The names of the artifacts of all runs, whose files are in *folder*, or were sent by *remote*."""

    def __init__(self, store: RunStore, folder: pathlib.Path, remote: RemoteArtifacts) -> None:
        self._store = store
        self._folder = folder
        self._remote = remote
        self._lock = FileLock(folder.with_suffix(".lock"), timeout=60)
        #: Folders, by run and name, that artifacts are known to be in.
        self._plain: set[tuple[str, str]] = set()
        self._readers: dict[str, RunReader] = {}
        # Another thread may have been in the middle of reading at a fork.
        in_children(self, lambda names: names._readers.clear())  # noqa: SLF001 - the same class

    @contextlib.contextmanager
    def deciding(self) -> Iterator[None]:
        """Exclude others, here and in other processes; `known` and `record` are called in here."""
        with writing(self._lock.path), self._lock:
            yield

    def known(self, run_id: str, name: str) -> Artifact | None:
        """Return the artifact of that name, and refuse a name inside or around another one's."""
        if not self._may_be_known(run_id, name):
            return None
        recorded = self._reader(run_id).poll().row.artifacts
        artifacts.check_apart(run_id, name, (one.path for one in recorded))
        found = next((one for one in recorded if one.path == name), None)
        return None if found is None else to_artifact(found, self._folder / run_id)

    def record(self, run_id: str, kept: Artifact, address: str | None = None) -> None:
        """Write into the journal that the run has *kept*, and its address if it is not in the folder."""
        reader = self._readers.get(run_id)
        before = 0 if reader is None else reader.state.artifact_time(kept.path)
        when = max(time.time_ns(), before + 1)  # a clock may have been set back
        recorded = KeptArtifact(kept.path, kept.size, kept.checksum, address)
        self._store.append(run_id, ArtifactLogged(recorded, when))
        folder = kept.path.rpartition("/")[0]
        if folder:
            # For good: no artifact can take the name of a folder that has one in it.
            if len(self._plain) >= _MOST_FOLDERS:
                self._plain.clear()
            self._plain.add((run_id, folder))

    def _may_be_known(self, run_id: str, name: str) -> bool:
        if self._remote.has_sent():
            return True
        folder = name.rpartition("/")[0]
        looked_at = name if (run_id, folder) in self._plain else name.partition("/")[0]
        return is_there(self._folder / run_id / looked_at, follow_links=False)

    def _reader(self, run_id: str) -> RunReader:
        """Return the follower of a run: repeated checkpoints then read only what is new."""
        reader = self._readers.pop(run_id, None)
        if reader is None:
            folder = self._store.folder(self._store.home(run_id))
            reader = RunReader(folder, run_id, keep_history=False)
            if len(self._readers) >= _MOST_READERS:
                del self._readers[next(iter(self._readers))]
        self._readers[run_id] = reader  # those used last come last
        return reader
