"""Heartbeats of runs: a row now and then from each process that has a run open.

Every *heartbeat_seconds* a process inserts one row for each of its open runs, all of them in one
statement; nothing is updated, so there are no conflicts. A run that is RUNNING and has had no heartbeat for five times
that long is STALE for every reader, until a process logs to it again; nothing writes that down. Both
times are the warehouse's own (``current_timestamp()``), so no clock of a machine comes into it. A run that never
had a heartbeat (an older version started it, or *heartbeat_seconds* was 0) is never STALE.

The first row comes before the run's own. A process that logs to a run of another counts as long as it logs.
"""

from __future__ import annotations

import json
import math
import os
import time
from typing import TYPE_CHECKING

from ops.foundation.errors import OpsError
from ops.foundation.logs import get_logger
from ops.registry.databricks.unique_rows import NAMED
from ops.registry.tracking.heartbeat import MISSED_HEARTBEATS, Heartbeat

if TYPE_CHECKING:
    import logging
    from collections.abc import Callable

    from ops.registry.databricks.warehouse import Warehouse

__all__ = ["WarehouseHeartbeat", "deletions", "living"]

logger: logging.Logger = get_logger("ops.registry")

_RUNS = "array<struct<r:string,x:string>>"


def living(where: str) -> str:
    """Return the query of the runs for which *where* holds, those of silent processes as STALE."""
    # Distinct: a start whose answer was lost is there twice until the run ends, and is the same.
    return (
        "SELECT r.run_id, r.experiment_id, r.name, CASE WHEN r.status = 'RUNNING' AND "  # noqa: S608 - literals of this package, values are parameters
        f"b.silent_seconds > {MISSED_HEARTBEATS} * b.every_seconds THEN 'STALE' ELSE r.status END "
        "AS status, r.started_at, r.ended_at, r.parent_run_id, r.error, r.version, d.deleted_at "
        f"FROM (SELECT DISTINCT * FROM @ops_runs WHERE {where} AND {NAMED['ops_runs']}) r LEFT JOIN "
        "(SELECT run_id, max(every_seconds) AS every_seconds, "
        "(unix_micros(current_timestamp()) - max(beat_at)) / 1000000 AS silent_seconds "
        f"FROM @ops_run_beats WHERE {where} GROUP BY run_id) b ON b.run_id = r.run_id "
        f"LEFT JOIN ({deletions(where)}) d ON d.run_id = r.run_id"
    )


def deletions(where: str) -> str:
    """Return the query of since when runs for which *where* holds are deleted; NULL of those that were restored."""
    return (
        "SELECT run_id, NULLIF(max_by(deleted_at, changed_at), 0) AS deleted_at "  # noqa: S608 - literals of this package, values are parameters
        f"FROM @ops_run_deletions WHERE {where} GROUP BY run_id"
    )


class WarehouseHeartbeat:
    """Inserts the heartbeats of this process's runs every *interval_seconds*; 0 is never."""

    def __init__(
        self,
        warehouse: Warehouse,
        interval_seconds: float,
        *,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._interval = interval_seconds
        self._heartbeat = Heartbeat(self.send, interval_seconds)
        self._warehouse = warehouse
        self._clock = clock
        self._owner = os.getpid()
        self._own: dict[str, str] = {}
        self._logged: dict[str, str] = {}
        self._sent: dict[str, float] = {}

    def begin(self, run_id: str, experiment_id: str) -> None:
        """Insert the first heartbeat of a run that starts here."""
        self._look_whether_forked()
        if self._interval > 0:
            self._insert({run_id: experiment_id})
            self._own[run_id] = experiment_id
            self._heartbeat.start()

    def logged(self, run_id: str, experiment_id: str) -> None:
        """Note that this process logs to a run."""
        self._look_whether_forked()
        if self._interval > 0 and run_id not in self._own:
            self._logged[run_id] = experiment_id
            self._heartbeat.start()

    def stop(self) -> None:
        """End the heartbeats of all runs."""
        self._heartbeat.stop()

    def announce(self) -> None:
        """Insert heartbeats of the runs of others that were logged to and have had none for an interval."""
        now = self._clock()
        due: dict[str, str] = {}
        for run, experiment in list(self._logged.items()):  # others log, and announce, meanwhile
            is_due = now - self._sent.get(run, -math.inf) >= self._interval
            if is_due and self._logged.pop(run, None) is not None:
                due[run] = experiment
        self._try(due)

    def end(self, run_id: str) -> None:
        """End the heartbeats of a run."""
        for kept in (self._own, self._logged, self._sent):
            kept.pop(run_id, None)

    def send(self) -> None:
        """Insert a heartbeat of all runs that are open here; what fails is tried again at the next interval."""
        logged, self._logged = self._logged, {}
        self._try(dict(self._own) | logged)

    def _try(self, runs: dict[str, str]) -> None:
        if not runs:
            return
        try:
            self._insert(runs)
        except OpsError as error:
            logger.warning("the warehouse gets no heartbeats of runs: %s", error)
            for run in runs.keys() - self._own.keys():
                self._logged.setdefault(run, runs[run])

    def _insert(self, runs: dict[str, str]) -> None:
        self._warehouse.change(
            f"INSERT INTO @ops_run_beats "  # noqa: S608 - literals of this package, values are parameters
            "SELECT e.r, e.x, unix_micros(current_timestamp()), :every "
            f"FROM (SELECT explode(from_json(:batch, '{_RUNS}')) AS e)",
            every=float(self._interval),
            batch=json.dumps([{"r": run, "x": experiment} for run, experiment in runs.items()]),
        )
        self._sent.update(dict.fromkeys(runs, self._clock()))

    def _look_whether_forked(self) -> None:
        if self._owner != os.getpid():
            self._owner = os.getpid()
            self._own, self._logged, self._sent = {}, {}, {}
