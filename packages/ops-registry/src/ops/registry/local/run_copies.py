"""Runs that come to local files from another store, or go from there to one: journals as a `RunCopy`."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from ops.registry.local.run_journals import RunReader
from ops.registry.records import RunStatus
from ops.registry.run_copies import RunCopy
from ops.registry.run_frames import RunChanged, RunEnded, RunStarted
from ops.registry.tracking.heartbeat import MISSED_HEARTBEATS

if TYPE_CHECKING:
    import pathlib
    from collections.abc import Iterator, Sequence

    from ops.registry.run_frames import Frame

__all__ = ["export_run", "journal_of"]


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


def journal_of(
    copy: RunCopy, experiment_id: str, artifacts: Sequence[Frame]
) -> list[dict[str, Any]]:
    """Return the records of one journal that say what a run of another store is; *artifacts* are frames of here."""
    start = RunStarted(
        copy.run_id,
        experiment_id,
        copy.name,
        copy.start,
        copy.parent,
        owner=None,  # no process: a copy of a run that was not ended stops responding
        heartbeat_seconds=MISSED_HEARTBEATS,
    )
    last = [one.plain() for one in (*artifacts, *_last(copy))]
    return [start.plain(), *copy.records(), *last]


def _last(copy: RunCopy) -> Iterator[Frame]:
    """Yield the frames of how a run has ended, and of its deletion."""
    status = RunStatus(copy.status)
    if copy.end is not None and status.is_final:
        yield RunEnded(status, copy.end, copy.error)
    elif status is not RunStatus.RUNNING:
        yield RunChanged({"status": copy.status}, copy.start)
    if copy.deleted is not None:
        yield RunChanged({"deleted": copy.deleted}, copy.deleted)
