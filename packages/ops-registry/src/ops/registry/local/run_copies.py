"""Runs that come to local files from another store, or go from there to one: journals as a `RunCopy`."""

from __future__ import annotations

import dataclasses
from typing import TYPE_CHECKING

from ops.foundation.files import atomic_write
from ops.registry.disk.checked_paths import inside, refuse_link
from ops.registry.disk.journal import frame
from ops.registry.records import RunStatus
from ops.registry.run_copies import RunCopy
from ops.registry.run_frames import ArtifactLogged, RunChanged, RunEnded, RunStarted
from ops.registry.run_rows import MAIN, KeptArtifact
from ops.registry.tracking.liveness import MISSED_BEATS
from ops.registry.tracking.run_records import to_run
from ops.registry.tracking.runlog import RunReader, journal_path

if TYPE_CHECKING:
    import pathlib
    from collections.abc import Callable, Iterator

    from ops.registry.run_frames import Frame
    from ops.registry.tracking.tracker import ExperimentTracker

__all__ = ["export_run", "import_run"]


def export_run(folder: pathlib.Path, run_id: str) -> RunCopy:
    """Return a run as its journals, which are in *folder*, have it."""
    state = RunReader(folder, run_id).poll()
    row = state.row
    points = [(key, *point) for key, history in state.history.items() for point in history]
    return RunCopy(
        run_id,
        row.name,
        str(row.status),
        row.start,
        row.end,
        row.parent,
        row.error,
        row.params,
        row.tags,
        sorted(points, key=lambda point: point[3]),
        [(one.path, one.size, one.checksum) for one in row.artifacts],
        row.deleted,
    )


def import_run(
    tracker: ExperimentTracker,
    folder: pathlib.Path,
    copy: RunCopy,
    experiment_id: str,
    fetch: Callable[[str, pathlib.Path], pathlib.Path],
) -> None:
    """Write a run as one journal in *folder*, at once and after its artifacts; *fetch* brings those."""
    files = tracker.artifact_folder(copy.run_id)
    for name, _, _ in copy.artifacts:
        target = inside(files, name)  # a name may come from a store that is not trusted
        target.parent.mkdir(parents=True, exist_ok=True)
        fetch(name, target)
    start = RunStarted(
        copy.run_id,
        experiment_id,
        copy.name,
        copy.start,
        copy.parent,
        owner=None,  # no process: a copy of a run that was not ended stops responding
        heartbeat_seconds=MISSED_BEATS,
    )
    row = start.row()
    row.artifacts = [KeptArtifact(*one) for one in copy.artifacts]
    addresses = tracker.adopt_artifacts(to_run(row, files.parent))
    frames: list[Frame] = [
        ArtifactLogged(dataclasses.replace(one, address=addresses.get(one.path)))
        for one in row.artifacts
    ]
    frames += _last(copy)
    records = [start.plain(), *copy.records(), *(one.plain() for one in frames)]
    folder.mkdir(parents=True, exist_ok=True)
    tracker.expect_run(experiment_id, copy.run_id)
    path = journal_path(folder, copy.run_id, MAIN)
    refuse_link(path)
    with atomic_write(path, "wb") as file:
        file.write(b"".join(map(frame, records)))
    tracker.adopt_run(experiment_id, copy.run_id)


def _last(copy: RunCopy) -> Iterator[Frame]:
    """Yield the frames of how a run has ended, and of its deletion."""
    status = RunStatus(copy.status)
    if copy.end is not None and status.is_final:
        yield RunEnded(status, copy.end, copy.error)
    elif status is not RunStatus.RUNNING:
        yield RunChanged({"status": copy.status}, copy.start)
    if copy.deleted is not None:
        yield RunChanged({"deleted": copy.deleted}, copy.deleted)
