"""Signs of life of runs: a row now and then from each process that has a run open.

Every *heartbeat_seconds* a process inserts one row for each of its open runs, all of them in one
statement; nothing is updated, so nobody conflicts. A run that is RUNNING and has given no sign for five times
that long is STALE for whoever reads it, until somebody logs to it again; nothing writes that down. Both
times are the warehouse's own (``current_timestamp()``), so no clock of a machine comes into it. A run that never
gave a sign (an older version started it, or *heartbeat_seconds* was 0) is never STALE.

The first row comes before the run's own. Whoever logs to a run of others counts as long as it logs.
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
from ops.registry.tracking.heartbeat import MISSED_BEATS, Heart

if TYPE_CHECKING:
    import logging
    from collections.abc import Callable

    from ops.registry.databricks.warehouse import Warehouse

__all__ = ["WarehouseHeart", "living"]

logger: logging.Logger = get_logger("ops.registry")

_RUNS = "array<struct<r:string,x:string>>"


def living(where: str) -> str:
    """Return the query of the runs for which *where* holds, those of silent processes as STALE."""
    # Distinct: a start whose answer was lost is there twice until the run ends, and is the same.
    return (
        "SELECT r.run_id, r.experiment_id, r.name, CASE WHEN r.status = 'RUNNING' AND "  # noqa: S608 - literals of this package, values are parameters
        f"b.silent_seconds > {MISSED_BEATS} * b.every_seconds THEN 'STALE' ELSE r.status END "
        "AS status, r.started_at, r.ended_at, r.parent_run_id, r.error, r.version "
        f"FROM (SELECT DISTINCT * FROM @ops_runs WHERE {where} AND {NAMED['ops_runs']}) r LEFT JOIN "
        "(SELECT run_id, max(every_seconds) AS every_seconds, "
        "(unix_micros(current_timestamp()) - max(beat_at)) / 1000000 AS silent_seconds "
        f"FROM @ops_run_beats WHERE {where} GROUP BY run_id) b ON b.run_id = r.run_id"
    )


class WarehouseHeart:
    """Says every *interval_seconds* that the runs of this process are alive; 0 is never."""

    def __init__(
        self,
        warehouse: Warehouse,
        interval_seconds: float,
        *,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._interval = interval_seconds
        self._heart = Heart(self.beat, interval_seconds)
        self._warehouse = warehouse
        self._clock = clock
        self._owner = os.getpid()
        self._own: dict[str, str] = {}
        self._logged: dict[str, str] = {}
        self._heard: dict[str, float] = {}

    def begin(self, run_id: str, experiment_id: str) -> None:
        """Give the first sign of a run that starts here."""
        self._look_whether_forked()
        if self._interval > 0:
            self._send({run_id: experiment_id})
            self._own[run_id] = experiment_id
            self._heart.start()

    def logged(self, run_id: str, experiment_id: str) -> None:
        """Note that somebody here logs to a run."""
        self._look_whether_forked()
        if self._interval > 0 and run_id not in self._own:
            self._logged[run_id] = experiment_id
            self._heart.start()

    def stop(self) -> None:
        """Give no more signs, of any run."""
        self._heart.stop()

    def announce(self) -> None:
        """Give a sign of the runs of others that were logged to and have had none for an interval."""
        now = self._clock()
        due: dict[str, str] = {}
        for run, experiment in list(self._logged.items()):  # others log, and announce, meanwhile
            is_due = now - self._heard.get(run, -math.inf) >= self._interval
            if is_due and self._logged.pop(run, None) is not None:
                due[run] = experiment
        self._try(due)

    def end(self, run_id: str) -> None:
        """Give no more signs of a run."""
        for kept in (self._own, self._logged, self._heard):
            kept.pop(run_id, None)

    def beat(self) -> None:
        """Give a sign of all runs that are open here; what fails is tried again at the next time."""
        logged, self._logged = self._logged, {}
        self._try(dict(self._own) | logged)

    def _try(self, runs: dict[str, str]) -> None:
        if not runs:
            return
        try:
            self._send(runs)
        except OpsError as error:
            logger.warning("the warehouse does not hear that runs are alive: %s", error)
            for run in runs.keys() - self._own.keys():
                self._logged.setdefault(run, runs[run])

    def _send(self, runs: dict[str, str]) -> None:
        self._warehouse.change(
            f"INSERT INTO @ops_run_beats "  # noqa: S608 - literals of this package, values are parameters
            "SELECT e.r, e.x, unix_micros(current_timestamp()), :every "
            f"FROM (SELECT explode(from_json(:batch, '{_RUNS}')) AS e)",
            every=float(self._interval),
            batch=json.dumps([{"r": run, "x": experiment} for run, experiment in runs.items()]),
        )
        self._heard.update(dict.fromkeys(runs, self._clock()))

    def _look_whether_forked(self) -> None:
        if self._owner != os.getpid():
            self._owner = os.getpid()
            self._own, self._logged, self._heard = {}, {}, {}
