"""Runs that come to local files from another store, or go from there to one: journals as a `RunCopy`."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from ops.foundation.files import atomic_write
from ops.registry.disk.checked_paths import inside, refuse_link
from ops.registry.disk.journal import frame
from ops.registry.records import RunStatus
from ops.registry.run_copies import RunCopy
from ops.registry.tracking.liveness import MISSED_BEATS
from ops.registry.tracking.run_records import to_run
from ops.registry.tracking.runlog import FORMAT, MAIN, RunReader, RunState, journal_path

if TYPE_CHECKING:
    import pathlib
    from collections.abc import Callable

    from ops.registry.tracking.tracker import ExperimentTracker

__all__ = ["export_run", "import_run"]


def export_run(folder: pathlib.Path, run_id: str) -> RunCopy:
    """Return a run as its journals, which are in *folder*, have it."""
    state = RunReader(folder, run_id).poll()
    row = state.row
    points = [(key, *point) for key, history in state.history.items() for point in history]
    return RunCopy(
        run_id,
        row["name"],
        row["status"],
        row["start"],
        row["end"],
        row["parent"],
        row["error"],
        row["params"],
        row["tags"],
        sorted(points, key=lambda point: point[3]),
        [(path, size, checksum) for path, size, checksum, *_ in row["artifacts"]],
        row.get("deleted"),
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
        place = inside(files, name)  # a name is what somebody wrote into another store
        place.parent.mkdir(parents=True, exist_ok=True)
        fetch(name, place)
    start = _start(copy, experiment_id)
    row = _start_row(start) | {"artifacts": copy.artifacts}
    places = tracker.adopt_artifacts(to_run(row, files.parent))
    records: list[dict[str, Any]] = [start, *copy.records()]
    records += [
        {"a": [name, size, digest, *places.get(name, [])]} for name, size, digest in copy.artifacts
    ]
    if RunStatus(copy.status).is_final:
        end = {"e": "end", "status": copy.status, "t": copy.end, "error": copy.error}
        records.append(end)
    elif copy.status != RunStatus.RUNNING:
        change = {"status": copy.status}
        records.append({"e": "change", "c": change, "t": copy.start})
    if copy.deleted is not None:
        records.append({"e": "change", "c": {"deleted": copy.deleted}, "t": copy.deleted})
    folder.mkdir(parents=True, exist_ok=True)
    tracker.expect_run(experiment_id, copy.run_id)
    path = journal_path(folder, copy.run_id, MAIN)
    refuse_link(path)
    with atomic_write(path, "wb") as file:
        file.write(b"".join(map(frame, records)))
    tracker.adopt_run(experiment_id, copy.run_id)


def _start_row(start: dict[str, Any]) -> dict[str, Any]:
    """Return the row of a run that has only started."""
    state = RunState(keep_history=False)
    state.apply(start)
    return state.row


def _start(copy: RunCopy, experiment_id: str) -> dict[str, Any]:
    return {
        "e": "start",
        "v": FORMAT,
        "run": copy.run_id,
        "exp": experiment_id,
        "name": copy.name,
        "t": copy.start,
        "parent": copy.parent,
        "o": None,  # nobody here: a copy of a run that was not ended stops responding
        "hb": MISSED_BEATS,
        "tags": {},
    }
