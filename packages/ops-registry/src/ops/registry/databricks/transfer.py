"""Runs that come to a schema from another store, or go from it to one: rows of its tables as a `RunCopy`.

The run's own row comes last: a run that is there is whole.
"""

from __future__ import annotations

import dataclasses
from time import time_ns
from typing import TYPE_CHECKING

from ops.registry.databricks.run_reader import RunRows, VolumeArtifactLogged
from ops.registry.databricks.spool import send_records
from ops.registry.databricks.unique_rows import taking
from ops.registry.errors import RunNotFoundError
from ops.registry.records import RunStatus
from ops.registry.run_copies import RunCopy

if TYPE_CHECKING:
    from collections.abc import Sequence

    from ops.registry.databricks.warehouse import Warehouse
    from ops.registry.run_frames import Frame

__all__ = ["export_run", "import_run", "put_deletion"]

_WRITER = "copy"
_COLUMNS = (
    "run_id",
    "experiment_id",
    "name",
    "status",
    "started_at",
    "ended_at",
    "parent_run_id",
    "error",
)
#: Frames per statement.
_FRAMES = 20


def export_run(reading: RunRows, run_id: str) -> RunCopy:
    """Return a run as the tables have it."""
    found = reading.row(run_id)
    row = found.row
    stale = row.status is RunStatus.STALE  # it is derived, not stored
    return RunCopy(
        run_id,
        row.name,
        str(RunStatus.RUNNING if stale else row.status),
        row.start,
        row.end,
        row.parent,
        row.error,
        row.params,
        row.tags,
        [(p["metric"], p["value"], p["step"], p["logged_at"]) for p in reading.point_rows(run_id)],
        [(one.name, one.size, one.checksum) for one in found.files.values()],
        row.deleted,
    )


def import_run(
    warehouse: Warehouse,
    copy: RunCopy,
    experiment_id: str,
    artifacts: Sequence[Frame],
) -> None:
    """Write a run into the tables, or what one that is there has not; its files are in the volume, as *artifacts* say."""
    run_id, now = copy.run_id, time_ns()
    try:
        there = export_run(RunRows(warehouse), run_id)
    except RunNotFoundError:
        writer, before = _WRITER, None
        for table in ("@ops_run_metrics", "@ops_run_facts"):  # of a copy that was cut off
            warehouse.change(
                f"DELETE FROM {table} WHERE run_id = :run AND writer = :writer",  # noqa: S608 - literals of this package, values are parameters
                run=run_id,
                writer=writer,
            )
        warehouse.change("DELETE FROM @ops_run_deletions WHERE run_id = :run", run=run_id)
        records = [*copy.records(), *(one.plain() for one in artifacts)]
    else:
        # What it has stays, as others may be logging to it.
        writer, before = f"{_WRITER}-{now}", there.deleted
        names = copy.new_artifacts(there)
        new = [
            dataclasses.replace(one, at=now)
            for one in artifacts
            if isinstance(one, VolumeArtifactLogged) and one.artifact.name in names
        ]
        records = [*copy.changes(there, now), *(one.plain() for one in new)]
    if copy.deleted != before:
        put_deletion(warehouse, run_id, experiment_id, copy.deleted, at=now)
    batch = [
        (n, {"r": run_id, "x": experiment_id, "f": record}) for n, record in enumerate(records, 1)
    ]
    for at in range(0, len(batch), _FRAMES):
        send_records(warehouse, writer, batch[at : at + _FRAMES])
    warehouse.change(
        taking(
            "ops_runs",
            "SELECT :run AS run_id, :experiment AS experiment_id, "
            ":name AS name, :status AS status, CAST(:start AS BIGINT) AS started_at, "
            "CAST(:end AS BIGINT) AS ended_at, CAST(:parent AS STRING) AS parent_run_id, "
            "CAST(:error AS STRING) AS error",
            _COLUMNS,
            inserts="version = 0",
            updates="name = s.name, status = s.status, started_at = s.started_at, "
            "ended_at = s.ended_at, error = s.error, version = t.version + 1",
        ),
        run=run_id,
        experiment=experiment_id,
        name=copy.name,
        status=copy.status,
        start=copy.start,
        end=copy.end,
        parent=copy.parent,
        error=copy.error,
    )


def put_deletion(
    warehouse: Warehouse, run_id: str, experiment_id: str, deleted: int | None, *, at: int
) -> None:
    """Insert since when a run is *deleted*, None that it is not, as of *at*; both are nanoseconds."""
    warehouse.change(
        "INSERT INTO @ops_run_deletions (run_id, experiment_id, deleted_at, changed_at) "
        "VALUES (:run, :experiment, :deleted, :at)",
        run=run_id,
        experiment=experiment_id,
        deleted=deleted or 0,
        at=at,
    )
