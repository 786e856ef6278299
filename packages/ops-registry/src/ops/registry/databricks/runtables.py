"""Experiments and runs of the tracker in tables, behind the interfaces that its rooms use.

The name of an experiment is taken by one MERGE, which also updates a row that all of them update: of two at
once, Delta lets one commit and the other is repeated, finds the name and changes nothing (`unique_rows`). What was logged goes through the `Spool`; reading
sends this process's spool first, so that a process always sees what it wrote.
"""

from __future__ import annotations

import threading
from time import time_ns
from typing import TYPE_CHECKING, Any

from ops.foundation.forks import in_children
from ops.foundation.ids import generate_uuid7
from ops.registry.databricks.beats import WarehouseHeart
from ops.registry.databricks.catalogtags import CatalogTags
from ops.registry.databricks.runrows import RunRows
from ops.registry.databricks.spool import Spool
from ops.registry.databricks.unique_rows import NAMED, taking
from ops.registry.disk.journal import decode, encode
from ops.registry.errors import (
    AlreadyExistsError,
    BackendUnavailableError,
    ExperimentNotFoundError,
    no_experiment,
    no_run,
)
from ops.registry.instants import from_ns
from ops.registry.records import Experiment
from ops.registry.validators import check_name

if TYPE_CHECKING:
    import pathlib
    from collections.abc import Mapping

    from ops.registry.databricks.runrows import TableRow
    from ops.registry.databricks.warehouse import Warehouse
    from ops.registry.run_frames import Frame, RunStarted
    from ops.registry.run_rows import RunRow

__all__ = ["ExperimentTable", "RunTables", "unsupported"]


class ExperimentTable:
    """The experiments of a schema."""

    def __init__(
        self,
        warehouse: Warehouse,
        folder: pathlib.Path | None = None,  # noqa: ARG002 - nothing is kept on this machine
        *,
        catalog_tags: bool = True,
    ) -> None:
        self._tags = CatalogTags(warehouse, "TABLE", "ops_runs", enabled=catalog_tags)
        self._warehouse = warehouse
        self._found: dict[str, Experiment] = {}

    def create(
        self, name: str, description: str, tags: Mapping[str, str], more: Any = None
    ) -> Experiment:
        """Add an experiment; a name that is taken is an `AlreadyExistsError`."""
        check_name("experiment", name)
        if more is not None:
            raise unsupported("experiments with an id or a time that is given")
        made = generate_uuid7().replace("-", "")
        found = self._taken(Experiment(made, name, from_ns(time_ns()), description, dict(tags)))
        if found.experiment_id != made:
            raise AlreadyExistsError(
                f"There is an experiment {name!r} already.",
                suggestions=("Use get_or_create_experiment to go on with it.",),
            )
        return found

    def adopt(self, experiment: Experiment) -> Experiment:
        """Return the experiment of that name; a new one keeps the id and time it has elsewhere."""
        return self._taken(experiment)

    def _taken(self, experiment: Experiment) -> Experiment:
        """Take a name for an experiment, and return whose it is."""
        self._warehouse.change(
            taking(
                "ops_experiments",
                "SELECT :name AS name, :id AS experiment_id, :description AS description, "
                ":tags AS tags, CAST(:at AS BIGINT) AS created_at",
                ("name", "experiment_id", "description", "tags", "created_at"),
            ),
            id=experiment.experiment_id,
            name=experiment.name,
            description=experiment.description,
            tags=encode({str(k): str(v) for k, v in experiment.tags.items()}).decode(),
            at=round(experiment.created_at.timestamp() * 1e6) * 1000,
        )
        found = self.named(experiment.name)
        if experiment.tags and found.experiment_id == experiment.experiment_id:
            self._tags.mirror(one.tags for one in self.all())
        return found

    def change(self, experiment_id: str, **changes: Any) -> Experiment:
        """Refuse: nothing of this backend changes experiments."""
        raise unsupported(f"changing {sorted(changes)} of experiment {experiment_id!r}")

    def drop(self, experiment_id: str) -> None:
        """Forget an experiment for ever; its runs are no longer found."""
        self.get(experiment_id)
        self._warehouse.change(
            "DELETE FROM @ops_experiments WHERE experiment_id = :id", id=experiment_id
        )
        self._found.pop(experiment_id, None)

    def find(self, experiment_id: str) -> Experiment | None:
        """Return one as it is now, None when there is none."""
        rows = self._select("WHERE experiment_id = :id", id=experiment_id)
        return rows[0] if rows else None

    def all(self) -> list[Experiment]:
        """Return all experiments in the order they were created."""
        return self._select("")

    def get(self, experiment_id: str) -> Experiment:
        """Return one by its id; what was found once is remembered, since experiments do not change."""
        if not isinstance(experiment_id, str):
            raise no_experiment(experiment_id)
        found = self._found.get(experiment_id)
        if found is None:
            rows = self._select("WHERE experiment_id = :id", id=experiment_id)
            if not rows:
                raise no_experiment(experiment_id)
            found = self._found[experiment_id] = rows[0]
        return found

    def named(self, name: str) -> Experiment:
        """Return one by its name."""
        rows = self._select("WHERE name = :name", name=name)
        if not rows:
            raise ExperimentNotFoundError(f"There is no experiment {name!r}.")
        return rows[0]

    def write_view(self) -> int:
        """Return 0: the table is all there is."""
        return 0

    def _select(self, where: str, **parameters: Any) -> list[Experiment]:
        rows = self._warehouse.rows(
            "SELECT experiment_id, name, description, tags, created_at "  # noqa: S608 - literals of this package, values are parameters
            f"FROM (SELECT * FROM @ops_experiments WHERE {NAMED['ops_experiments']}) {where} "
            "ORDER BY created_at, experiment_id",
            **parameters,
        )
        return [
            Experiment(
                row["experiment_id"],
                row["name"],
                from_ns(row["created_at"]),
                row["description"],
                decode(row["tags"].encode()),
            )
            for row in rows
        ]


class RunTables:
    """The runs of a schema; what is logged goes through the spool below *folder*.

    It has what the tracker asks of where runs are kept; there is no index, as the tables are one.
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
        self.root = folder
        self.durability = durability
        self.heartbeat_seconds = heartbeat_seconds
        self._experiments = experiments
        self.heart: WarehouseHeart = WarehouseHeart(warehouse, heartbeat_seconds)
        self.spool: Spool = Spool(folder, warehouse, durability=durability)
        self.reading: RunRows = RunRows(warehouse)
        self._warehouse = warehouse
        self._known: dict[str, str] = {}
        self._open: set[str] = set()  # runs that were started here and not ended here
        self._latest = 0
        self._recovering = threading.Lock()
        self._recovered = False
        in_children(self, RunTables.begin_in_child)

    def begin_in_child(self) -> None:
        """Begin anew in a forked child, where nobody releases a lock that another thread had."""
        self._recovering = threading.Lock()

    def index(self, experiment_id: str) -> TableIndex:
        """Return what stands for an index: the tables have every row already."""
        self._experiments.get(experiment_id)
        return TableIndex()

    def folder(self, experiment_id: str) -> pathlib.Path:  # noqa: ARG002 - one spool for all
        """Return where this process keeps what was not sent yet."""
        return self.root

    def home(self, run_id: str) -> str:
        """Return the experiment of a run, asked for once."""
        if not isinstance(run_id, str):
            raise no_run(run_id)
        found = self._known.get(run_id)
        if found is None:
            found = self._known[run_id] = self.reading.home(run_id)
        return found

    def row(self, run_id: str) -> TableRow:
        """Return what a run comes to now."""
        self.settle()
        return self.reading.row(run_id)

    def rows(self, experiment_id: str) -> list[TableRow]:
        """Return the rows of all runs of an experiment."""
        self._experiments.get(experiment_id)
        self.settle()
        return self.reading.of_experiment(experiment_id)

    def begin(self, start: RunStarted) -> None:
        """Add the row of a run that starts."""
        self.heart.begin(start.run_id, start.experiment_id)
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

    def now(self, run_id: str) -> int:
        """Return the time for what is logged now, in nanoseconds, later than what was logged here before."""
        self.home(run_id)
        self._latest = max(time_ns(), self._latest + 1)
        return self._latest

    def append(self, run_id: str, frame: Frame) -> None:
        """Keep a frame, which is sent with the next batch."""
        self.append_body(run_id, encode(frame.plain()))

    def append_body(self, run_id: str, body: bytes) -> tuple[str, tuple[int, int]]:
        """Keep what `encode` made of a record; the network is not waited for."""
        home = self.home(run_id)
        place = self.spool.append(run_id, home, body)
        self.heart.logged(run_id, home)
        return place

    def append_points(self, run_id: str, points: object, body: bytes) -> None:  # noqa: ARG002 - the same call
        """Keep points of metrics, of which `points_body` made *body*."""
        self.append_body(run_id, body)

    def settle(self) -> None:
        """Send what this process logged and, the first time, what dead processes left here."""
        self.spool.flush()
        self.heart.announce()
        with self._recovering:
            if not self._recovered:
                self.spool.recover()
                self._recovered = True

    def is_open(self, run_id: str) -> bool:
        """Whether this process started a run and has not ended it."""
        return run_id in self._open

    def release(self, run_id: str) -> None:
        """Give no more signs of life of a run that has ended."""
        self._open.discard(run_id)
        self.heart.end(run_id)

    def close(self) -> None:
        """Send what is left and close the spool; runs that were not ended fall silent."""
        self.heart.stop()
        self.spool.close()


class TableIndex:
    """An index that needs nothing put into it: rows are in the tables as soon as they are sent."""

    def put(self, row: RunRow, *, soon: bool = False) -> None:
        """Do nothing."""

    def mark_stale(self, run_id: str) -> None:
        """Do nothing."""

    def drop(self, run_id: str) -> None:
        """Do nothing."""


def unsupported(what: str) -> BackendUnavailableError:
    """Return what to raise for what the tables have no place for."""
    return BackendUnavailableError(f"The Databricks backend has no {what}.")
