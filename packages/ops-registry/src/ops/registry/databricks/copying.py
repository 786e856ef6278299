"""Copying runs and models where one side, or both, is Databricks; `ops.registry.transfer` asks for it.

Journals are files on one side and rows on the other, so what a run came to is copied: its times to the
nanosecond, parameters, tags, every point, the artifacts. The run's own row, or its journal, comes last: a run that is
there is whole, and one that tells the same is not copied again. What only MLflow keeps (logged models,
inputs, the deletion of a run) has no place in the tables and stays behind. Of a model the frames are
copied, and where its artifacts are is each store's own affair.
"""

from __future__ import annotations

import contextlib
import dataclasses
import json
import secrets
from typing import TYPE_CHECKING, Any

from ops.foundation.files import atomic_write, safe_join, temporary_directory
from ops.registry.databricks.modellog import plain_frames
from ops.registry.databricks.runrows import RunRows
from ops.registry.databricks.spool import send_records
from ops.registry.databricks.tracking import DatabricksExperimentTracker
from ops.registry.databricks.volumes import Volume, encoded
from ops.registry.disk.journal import frame
from ops.registry.errors import ModelNotFoundError, RunNotFoundError
from ops.registry.records import RunStatus
from ops.registry.tracking.liveness import MISSED_BEATS
from ops.registry.tracking.runlog import FORMAT, MAIN, RunReader, journal_path, to_run

if TYPE_CHECKING:
    import pathlib
    from collections.abc import Iterator, Mapping, Sequence

    from ops.registry.context import MLOpsContext
    from ops.registry.records import Experiment

__all__ = ["copy_model", "copy_run", "run_ids"]

_WRITER = "copy"
#: Points per frame, and frames per statement.
_POINTS, _FRAMES = 500, 20
_FIELDS = ("name", "status", "start", "end", "parent", "error", "params", "tags")


def run_ids(context: MLOpsContext, experiment: Experiment) -> list[str]:
    """Return the runs of an experiment."""
    return [run.run_id for run in context.experiment_tracker.list_runs(experiment.experiment_id)]


def copy_run(
    source: MLOpsContext,
    target: MLOpsContext,
    experiment: Experiment,
    run_id: str,
    home: Experiment,
) -> bool:
    """Copy a run unless it is there; say whether anything was copied."""
    run = _read(source, experiment, run_id)
    with contextlib.suppress(RunNotFoundError):
        if _read(target, home, run_id).told() == run.told():
            return False
    if isinstance(target.experiment_tracker, DatabricksExperimentTracker):
        _write_rows(source, target.experiment_tracker, run, home)
    else:
        _write_journal(source, target, run, home)
    return True


def copy_model(source: MLOpsContext, target: MLOpsContext, name: str) -> int:
    """Copy the frames of a model that the other side lacks; return how many there were."""
    records = plain_frames(source.model_registry.history(name), name)
    known: Sequence[object] = ()
    with contextlib.suppress(ModelNotFoundError):
        known = target.model_registry.history(name)
    with _artifacts_of(source, name, records[len(known) :]) as folder:
        return target.model_registry.adopt(name, records, folder)


@dataclasses.dataclass(slots=True)
class _Run:
    """What a run came to; points are (metric, value, step, nanoseconds)."""

    row: dict[str, Any]
    points: list[tuple[str, float, int, int]]
    artifacts: list[tuple[str, int, str]]

    def told(self) -> str:
        """Return all of it as text: NaN equals NaN there, and no order matters."""
        fields = {field: self.row[field] for field in _FIELDS}
        rest = sorted(map(repr, self.points)), sorted(self.artifacts)
        return json.dumps([fields, *rest], sort_keys=True)

    def records(self) -> Iterator[dict[str, Any]]:
        """Yield the frames that say it, without its start, end and artifacts."""
        for key, field in (("p", "params"), ("g", "tags")):
            if self.row[field]:
                yield {key: dict(self.row[field]), "t": self.row["start"]}
        for at in range(0, len(self.points), _POINTS):
            yield {"m": [list(point) for point in self.points[at : at + _POINTS]]}


def _read(context: MLOpsContext, experiment: Experiment, run_id: str) -> _Run:
    tracker = context.experiment_tracker
    if isinstance(tracker, DatabricksExperimentTracker):
        tracker.flush()
        reading = RunRows(tracker.warehouse)
        row = reading.row(run_id)
        found = [(name, told["size"], told["checksum"]) for name, told in row["files"].items()]
        points = [
            (p["metric"], p["value"], p["step"], p["logged_at"]) for p in reading.point_rows(run_id)
        ]
    else:
        state = RunReader(context.paths_of_runs(experiment.experiment_id), run_id).poll()
        row = state.row
        found = [(path, size, checksum) for path, size, checksum, *_ in row["artifacts"]]
        points = [(key, *point) for key, history in state.history.items() for point in history]
        points.sort(key=lambda point: point[3])
    if row["status"] == RunStatus.STALE:  # nobody wrote that down
        row = row | {"status": str(RunStatus.RUNNING)}
    return _Run(row, points, found)


def _write_rows(
    source: MLOpsContext, target: DatabricksExperimentTracker, run: _Run, home: Experiment
) -> None:
    warehouse, run_id = target.warehouse, run.row["run_id"]
    for table in ("@ops_run_metrics", "@ops_run_facts"):
        # Of a copy before this one; what others logged there stays.
        warehouse.change(
            f"DELETE FROM {table} WHERE run_id = :run AND writer = :writer",  # noqa: S608 - literals of this package, values are parameters
            run=run_id,
            writer=_WRITER,
        )
    records = [*run.records(), *_uploaded(source, Volume(warehouse), run)]
    batch = [
        (n, {"r": run_id, "x": home.experiment_id, "f": record})
        for n, record in enumerate(records, 1)
    ]
    for at in range(0, len(batch), _FRAMES):
        send_records(warehouse, _WRITER, batch[at : at + _FRAMES])
    warehouse.change(
        "MERGE INTO @ops_runs t USING (SELECT :run AS run_id, :experiment AS experiment_id, "
        ":name AS name, :status AS status, CAST(:start AS BIGINT) AS started_at, "
        "CAST(:end AS BIGINT) AS ended_at, CAST(:parent AS STRING) AS parent_run_id, "
        "CAST(:error AS STRING) AS error) s ON t.run_id = s.run_id "
        "WHEN MATCHED THEN UPDATE SET name = s.name, status = s.status, started_at = s.started_at, "
        "ended_at = s.ended_at, error = s.error, version = t.version + 1 "
        "WHEN NOT MATCHED THEN INSERT (run_id, experiment_id, name, status, started_at, ended_at, "
        "parent_run_id, error, version) VALUES (s.run_id, s.experiment_id, s.name, s.status, "
        "s.started_at, s.ended_at, s.parent_run_id, s.error, 0)",
        run=run_id,
        experiment=home.experiment_id,
        **{key: run.row[key] for key in ("name", "status", "start", "end", "parent", "error")},
    )


def _uploaded(source: MLOpsContext, volume: Volume, run: _Run) -> Iterator[dict[str, Any]]:
    """Bring each artifact into the volume and yield what says so."""
    run_id = run.row["run_id"]
    for name, size, checksum in run.artifacts:
        with temporary_directory() as folder:
            copy = source.experiment_tracker.download_run_artifact(
                run_id, name, folder / "artifact"
            )
            place = f"runs/{run_id}/{secrets.token_hex(4)}/{encoded(name)}"
            files = volume.upload(copy, place)
        told = {"size": size, "checksum": checksum, "place": place, "files": files}
        yield {"files": {name: told}, "t": run.row["start"]}


def _write_journal(source: MLOpsContext, target: MLOpsContext, run: _Run, home: Experiment) -> None:
    tracker, run_id = target.experiment_tracker, run.row["run_id"]
    files = tracker.artifact_folder(run_id)
    for name, _, _ in run.artifacts:
        place = safe_join(files, name)  # a name is what somebody wrote into a table
        place.parent.mkdir(parents=True, exist_ok=True)
        source.experiment_tracker.download_run_artifact(run_id, name, place)
    here = run.row | {"artifacts": run.artifacts}
    places = tracker.adopt_artifacts(to_run(here, files.parent))
    status, end = run.row["status"], run.row["end"]
    records: list[dict[str, Any]] = [_start(run.row, home), *run.records()]
    records += [
        {"a": [name, size, digest, *places.get(name, [])]} for name, size, digest in run.artifacts
    ]
    if RunStatus(status).is_final:
        records.append({"e": "end", "status": status, "t": end, "error": run.row["error"]})
    elif status != RunStatus.RUNNING:
        records.append({"e": "change", "c": {"status": status}, "t": run.row["start"]})
    folder = target.paths_of_runs(home.experiment_id)
    folder.mkdir(parents=True, exist_ok=True)
    tracker.expect_run(home.experiment_id, run_id)
    with atomic_write(journal_path(folder, run_id, MAIN), "wb") as file:
        file.write(b"".join(map(frame, records)))
    tracker.adopt_run(home.experiment_id, run_id)


def _start(row: Mapping[str, Any], home: Experiment) -> dict[str, Any]:
    return {
        "e": "start",
        "v": FORMAT,
        "run": row["run_id"],
        "exp": home.experiment_id,
        "name": row["name"],
        "t": row["start"],
        "parent": row["parent"],
        "o": None,  # nobody here: a copy of a run that was not ended falls silent
        "hb": MISSED_BEATS,
        "tags": {},
    }


@contextlib.contextmanager
def _artifacts_of(
    source: MLOpsContext, name: str, records: Sequence[Mapping[str, Any]]
) -> Iterator[pathlib.Path]:
    """Give a folder that has the artifacts which *records* register, as far as they are there."""
    registry = source.model_registry
    there = {version.version for version in registry.list_model_versions(name)}
    wanted = [r for r in records if r["op"] == "register" and "file" in r and r["version"] in there]
    with temporary_directory() as folder:
        for record in wanted:
            place = f"{record['model_id']}/v{record['version']}/{record['file']}"
            target = safe_join(folder, place)
            target.parent.mkdir(parents=True)
            registry.download_artifact(name, record["version"], target)
        yield folder
