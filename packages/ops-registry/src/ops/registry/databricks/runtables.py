"""Runs in tables: the store that the rules of tracking ask (`ops.registry.tracking.ports`).

What was logged goes through the `Spool`; reading
sends this process's spool first, so that a process always sees what it wrote.
"""

from __future__ import annotations

import threading
from time import time_ns
from typing import TYPE_CHECKING, Any

from ops.foundation.forks import in_children
from ops.registry.databricks.heartbeats import WarehouseHeartbeat
from ops.registry.databricks.run_reader import RunRows, public
from ops.registry.databricks.runsql import RunSearch
from ops.registry.databricks.spool import Spool
from ops.registry.databricks.tail import WarehouseFollower
from ops.registry.databricks.transfer import export_run, import_run, put_deletion
from ops.registry.databricks.unique_rows import NAMED
from ops.registry.databricks.volumes import Volume
from ops.registry.errors import (
    BackendUnavailableError,
    StorageError,
    no_run,
)
from ops.registry.json_values import encode
from ops.registry.records import RunStatus
from ops.registry.run_frames import TagsSet
from ops.registry.tracking.run_state import folded

if TYPE_CHECKING:
    import pathlib
    from collections.abc import Mapping, Sequence

    from ops.registry.databricks.experiment_table import ExperimentTable
    from ops.registry.databricks.run_reader import TableRow
    from ops.registry.databricks.warehouse import Warehouse
    from ops.registry.records import Metric, Run
    from ops.registry.run_copies import RunCopy
    from ops.registry.run_frames import Frame, RunEnded, RunStarted
    from ops.registry.run_rows import RunRow
    from ops.registry.search.query import Query

__all__ = ["RunTables", "unsupported"]

_ATTEMPTS = 10
_CHANGEABLE = {"status", "end", "error"}
_TABLES_OF_RUNS = (
    "@ops_run_metrics",
    "@ops_run_facts",
    "@ops_runs",
    "@ops_run_beats",
    "@ops_run_deletions",
)


class RunTables:
    """The runs of a schema; what is logged goes through the spool below *folder*.

    There is no index, as the tables are one. That a run is deleted, or is not any more, is a row that is only inserted.
    """

    def __init__(
        self,
        warehouse: Warehouse,
        experiments: ExperimentTable,
        folder: pathlib.Path,
        *,
        durability: str = "process",
        heartbeat_seconds: float = 30.0,
    ) -> None:
        self._experiments = experiments
        self.heartbeat: WarehouseHeartbeat = WarehouseHeartbeat(warehouse, heartbeat_seconds)
        self.spool: Spool = Spool(folder, warehouse, durability=durability)
        self.reading: RunRows = RunRows(warehouse)
        self._warehouse = warehouse
        self._uri = Volume(warehouse).uri
        self._known: dict[str, str] = {}
        self._open: set[str] = set()  # runs that were started here and not ended here
        self._latest = 0
        self._recovering = threading.Lock()
        self._recovered = False
        in_children(self, RunTables.begin_in_child)

    def begin_in_child(self) -> None:
        """Reset in a forked child, where a lock that another thread had is never released."""
        self._recovering = threading.Lock()

    # Writing

    def begin(self, start: RunStarted, frames: Sequence[Frame]) -> RunRow:
        """Add the row of a run that starts, then what came with its start."""
        first = [TagsSet(start.tags, start.at), *frames] if start.tags else frames
        bodies = [encode(one.plain()) for one in first]  # refused before there is a run
        self.heartbeat.begin(start.run_id, start.experiment_id)
        self._warehouse.change(
            "INSERT INTO @ops_runs "
            "(run_id, experiment_id, name, status, started_at, ended_at, parent_run_id, error, "
            "version) VALUES (:run, :experiment, :name, 'RUNNING', :at, NULL, :parent, NULL, 0)",
            run=start.run_id,
            experiment=start.experiment_id,
            name=start.name,
            at=start.at,
            parent=start.parent,
        )
        self._known[start.run_id] = start.experiment_id
        self._open.add(start.run_id)
        for body in bodies:
            self._append_body(start.run_id, body)
        return folded(start, frames)

    def home(self, run_id: str) -> str:
        """Return the experiment of a run, queried once."""
        if not isinstance(run_id, str):
            raise no_run(run_id)
        found = self._known.get(run_id)
        if found is None:
            found = self._known[run_id] = self.reading.home(run_id)
        return found

    def is_open(self, run_id: str) -> bool:
        """Whether this process started a run and has not ended it."""
        return run_id in self._open

    def now(self, run_id: str) -> int:
        """Return the time for what is logged now, in nanoseconds, later than what was logged here before."""
        self.home(run_id)
        self._latest = max(time_ns(), self._latest + 1)
        return self._latest

    def append(self, run_id: str, event: Frame) -> None:
        """Keep a frame, which is sent with the next batch."""
        self._append_body(run_id, encode(event.plain()))

    def append_points(self, run_id: str, points: object, body: bytes) -> None:  # noqa: ARG002 - the same call
        """Keep points of metrics, of which `points_body` made *body*."""
        self._append_body(run_id, body)

    def _append_body(self, run_id: str, body: bytes) -> None:
        """Keep what `encode` made of a record; the network is not waited for."""
        home = self.home(run_id)
        self.spool.append(run_id, home, body)
        self.heartbeat.logged(run_id, home)

    def end(self, run_id: str, ended: RunEnded) -> Run:
        """Change the row of a run, after what was logged to it has arrived."""
        self.settle()
        self._put(run_id, ended.status, ended.at, ended.error)
        self._open.discard(run_id)
        self.heartbeat.end(run_id)
        return self.run(run_id)

    def change(self, run_id: str, fields: Mapping[str, Any], at: int) -> None:
        """Change since when a run is deleted, or status, end and error together; nothing else is changed here."""
        if fields.keys() == {"deleted"}:
            put_deletion(
                self._warehouse, run_id, self.reading.home(run_id), fields["deleted"], at=at
            )
            return
        if fields.keys() != _CHANGEABLE:
            raise unsupported(f"change of {sorted(fields)} of run {run_id!r}")
        self.settle()
        self._put(run_id, RunStatus(fields["status"]), fields["end"], fields["error"])

    def _put(self, run_id: str, status: RunStatus, at: int | None, error: str | None) -> None:
        for attempt in range(_ATTEMPTS):
            if self.reading.end(run_id, status=str(status), at=at, error=error):
                return
            self._warehouse.wait(attempt)
        raise StorageError(f"Run {run_id} was changed by others {_ATTEMPTS} times in a row.")

    def erase(self, run_id: str) -> None:
        """Delete the rows of a run, for ever; its files stay."""
        self.reading.home(run_id)
        self.settle()
        # Its own row before that it is deleted: what a kill leaves is a run that can be erased again, or none.
        for table in _TABLES_OF_RUNS:
            self._warehouse.change(f"DELETE FROM {table} WHERE run_id = :run", run=run_id)  # noqa: S608 - literals of this package
        self._open.discard(run_id)
        self._known.pop(run_id, None)
        self.heartbeat.end(run_id)

    # Reading

    def row(self, run_id: str) -> TableRow:
        """Return what a run comes to now, with all that this process logged."""
        self.settle()
        return self.reading.row(run_id)

    def table_rows(self, experiment_id: str) -> list[TableRow]:
        """Return the rows of all runs of an experiment, with their files."""
        self._experiments.check(experiment_id)
        self.settle()
        return self.reading.of_experiment(experiment_id)

    def rows(self, experiment_id: str) -> list[RunRow]:
        """Return the rows of all runs of an experiment."""
        return [found.row for found in self.table_rows(experiment_id)]

    def run(self, run_id: str) -> Run:
        """Return the run as the warehouse has it now."""
        return public(self.row(run_id), self._uri)

    def found(self, experiment_ids: Sequence[str], query: Query) -> list[Run]:
        """Return the runs that a query is about; the warehouse searches."""
        search = self._search(experiment_ids, query)
        if search is None:
            return []
        ids = self._warehouse.rows(search.statement, **search.parameters)
        rows = self.reading.some([row["run_id"] for row in ids])
        return [public(row, self._uri) for row in rows]

    def count(self, experiment_ids: Sequence[str], query: Query) -> int:
        """Return how many runs a query is about."""
        search = self._search(experiment_ids, query)
        if search is None:
            return 0
        found = self._warehouse.rows(search.counting, **search.parameters)
        return int(found[0]["runs"])

    def _search(self, experiment_ids: Sequence[str], query: Query) -> RunSearch | None:
        """Return the search in experiments that are there, with all that was logged before it sent."""
        for one in experiment_ids:
            self._experiments.check(one)
        if not experiment_ids:
            return None
        self.settle()
        return RunSearch(experiment_ids, query.node, query.orders, query.limit, query.offset)

    def history(self, run_id: str, key: str) -> list[Metric]:
        """Return all points of one metric by step, then time."""
        self.home(run_id)
        self.settle()
        return self.reading.history(run_id, key)

    def follower(self, run_id: str) -> WarehouseFollower:
        """Return what asks the warehouse for new points: two statements each time."""
        self.home(run_id)  # raises for an unknown run
        return WarehouseFollower(self.reading, run_id, self.settle)

    # Copies and care

    def export(self, run_id: str) -> RunCopy:
        """Return all that a run comes to, for another store."""
        self.settle()
        return export_run(self.reading, run_id)

    def adopt(self, copy: RunCopy, experiment_id: str, artifacts: Sequence[Frame]) -> None:
        """Write a run of another store into the tables."""
        import_run(self._warehouse, copy, experiment_id, artifacts)

    def settle(self) -> None:
        """Send what this process logged and, the first time, what dead processes left here."""
        self.spool.flush()
        self.heartbeat.announce()
        with self._recovering:
            if not self._recovered:
                self.spool.recover()
                self._recovered = True

    def compact(self) -> int:
        """Send what is in the spool and delete heartbeats of runs that have ended.

        Delta compacts its tables itself. Returns the number of runs.
        """
        self.settle()
        self._warehouse.change(
            "MERGE INTO @ops_run_beats t USING "
            "(SELECT DISTINCT run_id FROM @ops_runs WHERE status <> 'RUNNING') s "
            "ON t.run_id = s.run_id WHEN MATCHED THEN DELETE"
        )
        (row,) = self._warehouse.rows(
            f"SELECT count(DISTINCT run_id) AS runs FROM @ops_runs WHERE {NAMED['ops_runs']}"  # noqa: S608 - literals of this package
        )
        return int(row["runs"])

    def rebuild(self) -> int:
        """There is no index to make again; the same as `compact`."""
        return self.compact()

    def close(self) -> None:
        """Send what is left and close spool and connection; runs that were not ended stop responding."""
        self.heartbeat.stop()
        self.spool.close()
        self._warehouse.close()


def unsupported(what: str) -> BackendUnavailableError:
    """Return what to raise for what the tables have no column for."""
    return BackendUnavailableError(f"The Databricks backend has no {what}.")
