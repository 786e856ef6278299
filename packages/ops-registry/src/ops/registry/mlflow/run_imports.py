# mypy: disable-error-code="no-untyped-call"
"""Runs of another MLflow store, written into one of ours: each at once, after its files, by the writer of all imports.

A store of MLflow's is read a page of runs at a time, with the histories of the page in one query where it is a
database. A run that has ended and has the same parameters, tags and last values as before is not read again.
"""

from __future__ import annotations

import hashlib
from typing import TYPE_CHECKING, Any

from mlflow.utils.mlflow_tags import MLFLOW_USER

from ops.registry.configuration import MLOpsConfig
from ops.registry.context import MLOpsContext
from ops.registry.importing.findings import Findings
from ops.registry.importing.mlflow_values import run_copy, status_of
from ops.registry.importing.records import ForeignRun
from ops.registry.importing.run_writer import RunWriter
from ops.registry.mlflow.copy_endpoint import COMPLETE, ORIGIN, copy_files
from ops.registry.mlflow.run_calls import dataset_record
from ops.registry.mlflow.uris import parse_address

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from mlflow.entities import LoggedModel, Run

    from ops.registry.mlflow.copy_endpoint import End, MLflowCopy, Points, Progress

__all__ = ["RunImport"]

_NS_PER_MS = 1_000_000
#: Runs whose histories are requested at once.
_CHUNK = 100
_OWN_TAGS = {COMPLETE, ORIGIN}


class RunImport:
    """The runs of *source*, on their way into *target*, which is a store of ours."""

    def __init__(self, source: End, target: End, report: MLflowCopy) -> None:
        self._source = source
        self._target = target
        self._report = report
        address = parse_address(target.uri)
        config = MLOpsConfig(storage_path=str(address.root), durability=address.durability)
        self._context = MLOpsContext(config)
        self._findings = Findings()
        self._writer = RunWriter(self._context, self._findings)

    def write(self, experiment_id: str, home: str, steps: Progress) -> set[str]:
        """Write what the target lacks of the runs of an experiment, and return the ids of all of them."""
        known: set[str] = set()
        for chunk in _chunks(self._source.runs(experiment_id)):
            wanted = [run for run in chunk if not self._is_current(run, home)]
            self._report.there += len(chunk) - len(wanted)
            points = self._source.points(wanted)
            try:
                for run in wanted:
                    self._write(run, home, points[run.info.run_id])
            finally:  # an interrupt leaves the runs that are written in the index
                self._writer.finish()
            for run in chunk:
                known.add(run.info.run_id)
                steps.step()
        return known

    def measure(self, model: LoggedModel, runs: set[str]) -> None:
        """Bring the metrics of a logged model that the target lacks; their runs have them already."""
        ours = self._target.ours
        assert ours is not None  # noqa: S101 - see the class
        there = {
            (m.run_id, *_measured(m)) for m in ours.get_logged_model(model.model_id).metrics or []
        }
        for one in model.metrics or []:
            if one.run_id in runs and (one.run_id, *_measured(one)) not in there:
                one._model_id = model.model_id  # noqa: SLF001 - it may be left out by a server
                ours.models.log_metrics(str(one.run_id), [one])

    def close(self) -> None:
        """Close what is open."""
        self._context.cleanup()

    def _is_current(self, run: Run, home: str) -> bool:
        run_id = run.info.run_id
        has_ended = run.info.end_time is not None
        return has_ended and self._writer.is_current(
            run_id, self._writer.home_of(run_id, home), _stamp(run)
        )

    def _write(self, run: Run, home: str, points: Points) -> None:
        run_id = run.info.run_id
        home = self._writer.home_of(run_id, home)
        is_new = not self._writer.is_there(run_id, home)
        made = _foreign(run, points)
        ours = self._target.ours
        assert ours is not None  # noqa: S101 - see the class
        files = f"{ours.book.artifacts}/{run_id}"
        if self._source.may_have_files(run.info.artifact_uri):
            source = self._source.files(run.info.artifact_uri)
            self._report.files += copy_files(source, self._target.files(files))
        before = self._writer.points
        self._writer.write(made, home, _stamp(run))
        self._report.points += self._writer.points - before
        self._report.runs += is_new


def _foreign(run: Run, points: Points) -> ForeignRun:
    """Return a run of MLflow's as imports write it."""
    info, data = run.info, run.data
    tags = {key: value for key, value in data.tags.items() if key not in _OWN_TAGS}
    copy = run_copy(
        info.run_id,
        tags,
        name=info.run_name,
        status=status_of(info.status),
        start=None if info.start_time is None else info.start_time * _NS_PER_MS,
        end=None if info.end_time is None else info.end_time * _NS_PER_MS,
    )
    copy.parameters = dict(data.params)
    copy.points = [(k, value, step, when * _NS_PER_MS) for k, value, when, step in points]
    return ForeignRun(copy, extras=list(_extras(run)))


def _extras(run: Run) -> Iterator[tuple[str, Any]]:
    if run.info.user_id and run.info.user_id != run.data.tags.get(MLFLOW_USER):
        yield "user", run.info.user_id
    if run.inputs is not None:
        for dataset in run.inputs.dataset_inputs or []:
            yield "datasets", dataset_record(dataset)
        for used in run.inputs.model_inputs or []:
            yield "models_in", [used.model_id]
    if run.outputs is not None:
        for made in run.outputs.model_outputs or []:
            yield "models_out", [made.model_id, made.step]


def _stamp(run: Run) -> str:
    """Return a digest of what a search returns of a run."""
    info, data = run.info, run.data
    parts = [
        (info.status, info.start_time, info.end_time, info.run_name, info.user_id),
        sorted(data.params.items()),
        sorted(data.tags.items()),
        sorted((m.key, repr(m.value), m.timestamp, m.step) for m in data._metric_objs),  # noqa: SLF001 - its entity
        list(map(repr, _extras(run))),
    ]
    return hashlib.blake2b(repr(parts).encode(), digest_size=12).hexdigest()


def _measured(metric: Any) -> tuple[str, str, int, int]:
    value = float(metric.value)
    return metric.key, repr(value), int(metric.timestamp), int(metric.step or 0)


def _chunks(runs: Iterator[Run]) -> Iterator[Sequence[Run]]:
    chunk: list[Run] = []
    for run in runs:
        chunk.append(run)
        if len(chunk) == _CHUNK:
            yield chunk
            chunk = []
    if chunk:
        yield chunk
