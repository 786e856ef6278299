"""Experiment tracking on Databricks: the tracker's own logic, on tables and a volume."""

from __future__ import annotations

import secrets
import time
from time import time_ns
from typing import TYPE_CHECKING, Any

from ops.registry.databricks.copying import export_run, import_run
from ops.registry.databricks.following import WarehouseFollower
from ops.registry.databricks.runrows import VolumeArtifact, public
from ops.registry.databricks.runsql import RunSearch
from ops.registry.databricks.runtables import ExperimentTable, RunTables, unsupported
from ops.registry.databricks.unique_rows import NAMED
from ops.registry.databricks.volumes import Volume, encoded
from ops.registry.disk import artifacts
from ops.registry.disk.journal import encode
from ops.registry.errors import (
    ArtifactNotFoundError,
    BackendUnavailableError,
    StorageError,
)
from ops.registry.events import EventType
from ops.registry.operations import reported
from ops.registry.search.runsearch import Query, to_table
from ops.registry.tracking.runqueries import experiment_ids
from ops.registry.tracking.tracker import ExperimentTracker

if TYPE_CHECKING:
    import functools
    import pathlib
    from collections.abc import Callable, Collection, Iterator, Mapping, Sequence

    import pandas as pd

    from ops.foundation.files import StrPath
    from ops.registry.databricks.runrows import TableRow
    from ops.registry.databricks.warehouse import Warehouse
    from ops.registry.operations import Operations
    from ops.registry.records import Artifact, Experiment, Metric, Run, RunStatus
    from ops.registry.run_copies import RunCopy
    from ops.registry.run_frames import RunStarted
    from ops.registry.run_rows import RunRow
    from ops.registry.tracking.following import Follower

__all__ = ["DatabricksExperimentTracker"]

_ATTEMPTS = 10


class DatabricksExperimentTracker(ExperimentTracker):
    """Experiments and runs in the tables of a schema, artifacts in its volume.

    Logging appends to a spool below *root* and does not wait for the network; starting and ending a
    run and all reading talk to the warehouse.
    """

    made_again: functools.partial[Any] | None = None

    def __reduce__(self) -> tuple[Any, ...]:
        """Be sent to another process as the configuration; see `ops.registry.databricks.parts.sent`."""
        from ops.registry.databricks.parts import sent

        return sent(self, self.made_again)

    def __init__(
        self,
        warehouse: Warehouse,
        root: StrPath,
        *,
        operations: Operations | None = None,
        durability: str = "process",
        catalog_tags: bool = True,
        heartbeat_seconds: float = 30.0,
    ) -> None:
        super().__init__(root, operations=operations, durability=durability, heartbeat_seconds=0)
        # The rules of the tracker are the same; only where runs are kept is another.
        self.warehouse = warehouse
        self._volume = Volume(warehouse)
        self._experiments: ExperimentTable = ExperimentTable(  # type: ignore[assignment]  # the same calls
            warehouse, catalog_tags=catalog_tags
        )
        self._store: RunTables = RunTables(  # type: ignore[assignment]  # the same calls
            warehouse,
            self._experiments,
            self.root / "spool",
            durability=durability,
            heartbeat_seconds=heartbeat_seconds,
        )

    # The life of a run

    def _end(self, run_id: str, status: RunStatus, error: str | None) -> Run:
        """Change the row of a run, after what was logged to it has arrived."""
        self.flush()
        at = time_ns()
        for attempt in range(_ATTEMPTS):
            if self._store.reading.end(run_id, status=str(status), at=at, error=error):
                break
            self.warehouse.wait(attempt)
        else:
            raise StorageError(f"Run {run_id} was changed by others {_ATTEMPTS} times in a row.")
        self._store.release(run_id)
        return self.get_run(run_id)

    def flush(self) -> None:
        """Send what was logged and is still in the spool; raises when that cannot be done now."""
        self._store.settle()

    def _begin(
        self,
        folder: pathlib.Path,  # noqa: ARG002 - of the local tracker
        start: RunStarted,
        parameters: dict[str, Any],
    ) -> RunRow:
        record = {"p": parameters, "g": start.tags, "t": start.at}
        body = encode(record)  # refuses what JSON cannot hold, before there is a run
        self._store.begin(start)
        if parameters or start.tags:
            self._store.append_body(start.run_id, body)
        row = start.row()
        row.params = dict(parameters)
        return row

    def delete_run(self, run_id: str) -> None:
        """Refuse: the tables have no place for it."""
        raise unsupported(f"deletion of runs, such as {run_id!r}")

    def restore_run(self, run_id: str) -> Run:
        """Refuse: runs are not deleted here."""
        raise unsupported(f"deletion of runs, such as {run_id!r}")

    def erase_run(self, run_id: str) -> None:
        """Refuse: runs are not deleted here."""
        raise unsupported(f"deletion of runs, such as {run_id!r}")

    # Reading

    def get_run(self, run_id: str) -> Run:
        """Return the run as the warehouse has it now, with all that this process logged."""
        return public(self._store.row(run_id), self._volume.uri)

    def list_runs(
        self,
        experiment_id: str,
        status: RunStatus | None = None,
        *,
        include_deleted: bool = False,  # noqa: ARG002 - there are none
    ) -> list[Run]:
        """Return the runs of an experiment, oldest first."""
        runs = [public(row, self._volume.uri) for row in self._store.rows(experiment_id)]
        return [run for run in runs if status is None or run.status == status]

    def list_child_runs(self, run_id: str) -> list[Run]:
        """Return the runs that were started with this one as their parent."""
        found = self.list_runs(self._store.home(run_id))
        return [run for run in found if run.parent_run_id == run_id]

    def get_metric_history(self, run_id: str, key: str) -> list[Metric]:
        """Return all points of one metric by step, then time."""
        self._store.home(run_id)
        self.flush()
        return self._store.reading.history(run_id, key)

    def search_runs(
        self,
        experiment_id: str | Sequence[str],
        metric_filter: Mapping[str, tuple[str, float]] | None = None,
        filter: str | None = None,  # noqa: A002 - the published name
        order_by: str | Sequence[str] | None = None,
        limit: int | None = None,
        offset: int = 0,
        *,
        include_deleted: bool = True,
    ) -> list[Run]:
        """Return the runs for which both filters hold; the warehouse searches, which has no deleted runs."""
        query = Query(
            filter, metric_filter, order_by, limit, offset, include_deleted=include_deleted
        )
        search = self._search(experiment_id, query)
        if search is None:
            return []
        found = self.warehouse.rows(search.statement, **search.parameters)
        rows = self._store.reading.some([row["run_id"] for row in found])
        return [public(row, self._volume.uri) for row in rows]

    def count_runs(
        self,
        experiment_id: str | Sequence[str],
        metric_filter: Mapping[str, tuple[str, float]] | None = None,
        filter: str | None = None,  # noqa: A002 - as in search_runs
        *,
        include_deleted: bool = True,
    ) -> int:
        """Return how many runs `search_runs` would find without a limit."""
        query = Query(filter, metric_filter, include_deleted=include_deleted)
        search = self._search(experiment_id, query)
        if search is None:
            return 0
        found = self.warehouse.rows(search.counting, **search.parameters)
        return int(found[0]["runs"])

    def _search(self, experiment_id: str | Sequence[str], query: Query) -> RunSearch | None:
        """Return the search in experiments that are there, with all that was logged before it sent."""
        wanted = experiment_ids(experiment_id)
        for one in wanted:
            self._experiments.get(one)
        if not wanted:
            return None
        self.flush()
        return RunSearch(wanted, query.node, query.orders, query.limit, query.offset)

    def compare_runs(self, run_ids: Sequence[str]) -> pd.DataFrame:
        """Return a table with one row per run: name, status, duration, params.*, metrics.*."""
        return to_table([self.get_run(run_id) for run_id in run_ids])

    def follow(
        self,
        run_id: str,
        *,
        interval_seconds: float = 0.5,
        sleep: Callable[[float], object] = time.sleep,
    ) -> Iterator[Metric]:
        """Yield the metrics of a run as they arrive in the warehouse, until the run has ended."""
        follower = self.follower(run_id)
        while True:
            points, over = follower.poll()
            yield from points
            if over:
                return
            sleep(interval_seconds)

    def follower(self, run_id: str) -> Follower:
        """Return what says, whenever it is asked, which points have arrived: two statements each time."""
        self._store.home(run_id)  # raises for an unknown run
        return WarehouseFollower(self._store.reading, run_id, self._store.settle)

    # Files

    @reported
    def download_run_artifact(
        self, run_id: str, path: str, destination: StrPath, *, overwrite: bool = False
    ) -> pathlib.Path:
        """Copy an artifact to *destination*, or into it if it is a folder, and verify it.

        Other content that is there already is an `AlreadyExistsError` unless *overwrite*.
        """
        import pathlib

        recorded = self._store.row(run_id).files.get(path)
        if recorded is None:
            raise ArtifactNotFoundError(f"Run {run_id!r} has no artifact {path!r}.")
        target = pathlib.Path(destination)
        target = target / pathlib.PurePosixPath(path).name if target.is_dir() else target
        self._volume.download(recorded.files, target, recorded.checksum, overwrite=overwrite)
        return target

    def _folder_of(self, run_id: str) -> pathlib.Path:
        self._store.home(run_id)  # raises for an unknown run
        return self.warehouse.staging

    def _keep(
        self,
        run_id: str,
        name: str,
        staged: tuple[pathlib.Path, int, str],
        *,
        overwrite: bool,
    ) -> Artifact:
        copy, size, digest = staged
        try:
            others = self._store.row(run_id).files
            artifacts.check_apart(run_id, name, others)
            known = others[name].public(self._volume.uri) if name in others else None
            same = artifacts.same(run_id, known, digest, overwrite=overwrite)
            if same is not None:
                return same
            place = f"runs/{run_id}/{secrets.token_hex(4)}/{encoded(name)}"
            files = self._volume.upload(copy, place)
        finally:
            artifacts.remove(copy)
        recorded = VolumeArtifact(name, size, digest, place, tuple(files))
        self._store.append_body(run_id, encode({"files": {name: recorded.plain()}, "t": time_ns()}))
        self.flush()
        self._done(EventType.ARTIFACT_LOGGED, {"run_id": run_id, "path": name, "size": size})
        return recorded.public(self._volume.uri)

    # Maintenance

    def verify_artifacts(self, run: Run) -> None:
        """Raise `CorruptStoreError` unless each artifact of a run is what was logged."""
        for recorded in self._store.row(run.run_id).files.values():
            with self._volume.fetched(recorded.files):
                pass

    def left_over(self, before_seconds: float) -> list[str]:
        """Return the files of runs in the volume that no run names, older than a time."""

        def named() -> set[str]:
            rows = (
                row
                for e in self.list_experiments(include_deleted=True)
                for row in self.index_rows(e.experiment_id)
            )
            recorded = (recorded for row in rows for recorded in row.files.values())
            return {file.place for one in recorded for file in one.files}

        return self._volume.left_over("runs", before_seconds, named)

    def clear(self, uris: Collection[str]) -> None:
        """Remove what `left_over` returned."""
        self._volume.clear(uris)

    def artifact_folder(self, run_id: str) -> pathlib.Path:
        """Refuse: artifacts are in the volume; see `download_run_artifact`."""
        raise BackendUnavailableError(f"The artifacts of run {run_id!r} are not in a local folder.")

    def adopt_run(self, experiment_id: str, run_id: str) -> None:
        """Refuse: there are no journals here; `ops.registry.databricks.copying` writes rows."""
        raise BackendUnavailableError(f"Run {run_id!r} of {experiment_id!r} has no journal here.")

    def adopt_experiment(self, experiment: Experiment) -> Experiment:
        """Return the experiment of that name, which is *experiment* itself if it is new here."""
        return self._experiments.adopt(experiment)

    def check_store(self, context: Any, report: Any, progress: Any) -> None:
        """Check the schema for `fsck`: rows, histories and files."""
        from ops.registry.databricks.checking import check_schema

        check_schema(context, report, progress)

    def export_run(self, run_id: str) -> RunCopy:
        """Return all that a run comes to, for another store."""
        self.flush()
        return export_run(self._store.reading, run_id)

    def import_run(
        self,
        copy: RunCopy,
        experiment_id: str,
        fetch: Callable[[str, pathlib.Path], pathlib.Path],
    ) -> None:
        """Write a run of another store here; *fetch* brings an artifact of it to a path."""
        import_run(self.warehouse, copy, experiment_id, fetch)

    def compact(self) -> int:
        """Send what is in the spool and delete signs of life of runs that have ended.

        Delta compacts its tables itself. Returns the number of runs.
        """
        self.flush()
        self.warehouse.change(
            "MERGE INTO @ops_run_beats t USING "
            "(SELECT DISTINCT run_id FROM @ops_runs WHERE status <> 'RUNNING') s "
            "ON t.run_id = s.run_id WHEN MATCHED THEN DELETE"
        )
        (row,) = self.warehouse.rows(
            f"SELECT count(DISTINCT run_id) AS runs FROM @ops_runs WHERE {NAMED['ops_runs']}"  # noqa: S608 - literals of this package
        )
        return int(row["runs"])

    def rebuild(self) -> int:
        """There is no index to make again; the same as `compact`."""
        return self.compact()

    def index_rows(  # type: ignore[override]  # rows with their files
        self, experiment_id: str
    ) -> list[TableRow]:
        """Return the rows of an experiment's runs."""
        return self._store.rows(experiment_id)

    def close(self) -> None:
        """Send what is left in the spool and close the connection."""
        self._store.close()
        self.warehouse.close()
