"""The backend of a tracker on local files."""

from __future__ import annotations

import dataclasses
import pathlib
from typing import TYPE_CHECKING

from ops.registry.disk.checked_paths import refuse_links
from ops.registry.disk.journal import DURABILITIES
from ops.registry.errors import BackendUnavailableError, InvalidValueError
from ops.registry.local.experiment_store import ExperimentLedger
from ops.registry.local.run_files import LocalRunFiles
from ops.registry.local.run_store import RunStore
from ops.registry.remote.artifacts import RemoteArtifacts
from ops.registry.tracking.ports import TrackingBackend

if TYPE_CHECKING:
    from ops.cache.lru import LRUCache
    from ops.foundation.files import StrPath
    from ops.registry.disk.content_store import ContentStore
    from ops.registry.local.cached_runs import CachedRun
    from ops.registry.tracking.tracker import ExperimentTracker

__all__ = ["LocalRuns", "local_runs", "local_tracking"]

#: What a tracker uses by name below its folder.
_NAMES = (
    *("runs", "artifacts", "artifacts.lock", "uploads.log", "uploads.log.lock"),
    *("experiments", "experiments/.lock", "experiments/journal.log"),
)


def local_tracking(
    root: StrPath,
    *,
    durability: str = "process",
    cache: LRUCache[str, CachedRun] | None = None,
    heartbeat_seconds: float = 30.0,
    artifact_uri: str | None = None,
    contents: ContentStore | None = None,
) -> TrackingBackend:
    """Return the backend below one folder, which appears with the first experiment; see `ExperimentTracker`."""
    if durability not in DURABILITIES:
        raise InvalidValueError(
            f"durability={durability!r} is unknown; use one of {list(DURABILITIES)}."
        )
    folder = pathlib.Path(root).absolute()
    refuse_links(folder, *_NAMES)
    experiments = ExperimentLedger(folder / "experiments", durability=durability)
    runs = RunStore(
        folder,
        experiments,
        durability=durability,
        cache=cache,
        heartbeat_seconds=heartbeat_seconds,
    )
    remote = RemoteArtifacts(artifact_uri, folder / "uploads.log")
    return TrackingBackend(folder, experiments, runs, LocalRunFiles(folder, runs, remote, contents))


@dataclasses.dataclass(frozen=True, slots=True)
class LocalRuns:
    """The runs and files of a local store, for what works on its journals and folders themselves."""

    store: RunStore
    files: LocalRunFiles


def local_runs(tracker: ExperimentTracker) -> LocalRuns:
    """Return the runs and files of a tracker on local files.

    Raises:
        BackendUnavailableError: the tracker is on another backend.
    """
    store, files = tracker.backend.runs, tracker.backend.files
    if isinstance(store, RunStore) and isinstance(files, LocalRunFiles):
        return LocalRuns(store, files)
    raise BackendUnavailableError("The runs of this tracker have no journals on this machine.")
