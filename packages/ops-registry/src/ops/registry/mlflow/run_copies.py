# mypy: disable-error-code="no-untyped-call"
"""An experiment copied with its runs, their histories and files, and its logged models."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from mlflow.entities import (
    LoggedModelInput,
    LoggedModelOutput,
    LoggedModelParameter,
    LoggedModelStatus,
    LoggedModelTag,
    Metric,
    Param,
    RunTag,
)
from mlflow.exceptions import MlflowException
from mlflow.utils.mlflow_tags import MLFLOW_PARENT_RUN_ID, MLFLOW_RUN_NAME

from ops.registry import records
from ops.registry.instants import from_ns
from ops.registry.mlflow.copy_endpoint import COMPLETE, ORIGIN, copy_files
from ops.registry.mlflow.run_imports import RunImport
from ops.registry.validators import usable_name

if TYPE_CHECKING:
    from collections.abc import Sequence

    from mlflow.entities import Experiment, LoggedModel, Run

    from ops.registry.mlflow.copy_endpoint import End, MLflowCopy, Progress

__all__ = ["ExperimentCopy"]

_LONGEST_NAME = 500
_TAGS_PER_REQUEST = 100
_PARAMS_PER_REQUEST = 100
_METRICS_PER_REQUEST = 1000
_FINAL = {"FINISHED", "FAILED", "KILLED"}


class ExperimentCopy:
    """One experiment on its way; *runs* and *models* map ids of the source to those of the target."""

    def __init__(
        self, source: End, target: End, experiment: Experiment, report: MLflowCopy
    ) -> None:
        self.runs: dict[str, str] = {}
        self.models: dict[str, str] = {}
        self._source = source
        self._target = target
        self._experiment = experiment
        self._report = report
        self._complete: set[str] = set()
        self._home = ""

    def run(self, steps: Progress) -> None:
        """Copy everything that the target lacks."""
        self._home = self._find_home()
        if self._target.ours is not None:
            self._import(steps)
            return
        for run in self._target.runs(self._home):
            self._know(run)
        for run in self._source.runs(self._experiment.experiment_id):
            self._begin(run)
        logged = self._source.logged_models(self._experiment.experiment_id)
        there = {
            self._origin(m.tags, m.model_id): m for m in self._target.logged_models(self._home)
        }
        for model in logged:
            self._copy_model(model, there.get(model.model_id))
        of_models = _measured(logged)
        for run in self._source.runs(self._experiment.experiment_id):
            if run.info.run_id in self._complete:
                self._report.there += 1
            else:
                self._fill(run, of_models)
            steps.step()
        for model in logged:
            self._mend_metrics(model)

    def _import(self, steps: Progress) -> None:
        """Bring everything into a store of ours, where it keeps its ids."""
        runs = RunImport(self._source, self._target, self._report)
        try:
            logged = self._source.logged_models(self._experiment.experiment_id)
            there = {m.model_id: m for m in self._target.logged_models(self._home)}
            for model in logged:
                self._copy_model(model, there.get(model.model_id))
            known = runs.write(str(self._experiment.experiment_id), self._home, steps)
            self.runs = {run_id: run_id for run_id in known}
            for model in logged:
                runs.measure(model, known)
        finally:
            runs.close()

    def _find_home(self) -> str:
        name, tags = self._experiment.name, self._experiment.tags
        if self._target.ours is not None:
            allowed = usable_name(
                name, f"experiment {self._experiment.experiment_id}", _LONGEST_NAME
            )
            if allowed != name:
                self._report.renamed.append(f"{name!r} is {allowed!r}")
                name = allowed
        found = self._target.client.get_experiment_by_name(name)
        if found is not None and found.lifecycle_stage == "deleted":
            raise MlflowException(
                f"The target has a deleted experiment {name!r}; restore it first."
            )
        if found is None and self._target.ours is not None:
            self._report.experiments += 1
            created = from_ns((self._experiment.creation_time or 0) * 1_000_000)
            own = records.Experiment(
                str(self._experiment.experiment_id), name, created, tags=dict(tags)
            )
            return self._target.ours.book.adopt_experiment(own).experiment_id
        if found is None:
            self._report.experiments += 1
            return self._target.client.create_experiment(name, tags=dict(tags))
        for key, value in tags.items():
            if key not in found.tags:
                self._target.client.set_experiment_tag(found.experiment_id, key, value)
        return str(found.experiment_id)

    def _origin(self, tags: Any, own: str) -> str:
        """Return the id that a copy has in the source: its own in a store of ours."""
        return own if self._target.ours else str(tags.get(ORIGIN, ""))

    def _know(self, copy: Run) -> None:
        origin = self._origin(copy.data.tags, copy.info.run_id)
        self.runs[origin] = copy.info.run_id
        # The mark comes before the end: the end settles a run, and what comes later costs.
        if COMPLETE in copy.data.tags and copy.info.end_time is not None:
            self._complete.add(origin)

    def _begin(self, run: Run) -> None:
        """Create a run if it is not there, its parent first."""
        if run.info.run_id in self.runs:
            return
        tags = dict(run.data.tags)
        parent = tags.get(MLFLOW_PARENT_RUN_ID)
        if parent is not None and parent not in self.runs:
            self._begin_parent(parent)
        if parent in self.runs:
            tags[MLFLOW_PARENT_RUN_ID] = self.runs[parent]
        for key in (COMPLETE, ORIGIN):
            tags.pop(key, None)
        name = None if MLFLOW_RUN_NAME in tags else run.info.run_name
        tags[ORIGIN] = run.info.run_id
        made = self._target.client.create_run(self._home, run.info.start_time, tags, name)
        self.runs[run.info.run_id] = made.info.run_id
        self._report.runs += 1

    def _begin_parent(self, run_id: str) -> None:
        try:
            parent = self._source.client.get_run(run_id)
        except MlflowException:
            return  # deleted for good
        active = parent.info.lifecycle_stage == "active"
        if active and parent.info.experiment_id == self._experiment.experiment_id:
            self._begin(parent)

    def _fill(self, run: Run, of_models: dict[Any, Any]) -> None:
        """Bring what a run lacks, end it and mark it as complete."""
        copy = self._target.client.get_run(self.runs[run.info.run_id])
        recorded = copy.data
        params = [Param(k, v) for k, v in run.data.params.items() if k not in recorded.params]
        known = {*recorded.tags, COMPLETE, ORIGIN}
        tags = [RunTag(k, v) for k, v in run.data.tags.items() if k not in known]
        self._log(copy.info.run_id, params=params, tags=tags)
        for key in run.data.metrics:
            self._copy_history(run.info.run_id, copy.info.run_id, key, of_models)
        self._copy_links(run, copy)
        source = self._source.files(run.info.artifact_uri)
        self._report.files += copy_files(source, self._target.files(copy.info.artifact_uri))
        if run.info.status in _FINAL:
            self._target.client.set_tag(copy.info.run_id, COMPLETE, self._source.public_uri)
            self._target.client.set_terminated(copy.info.run_id, run.info.status, run.info.end_time)
        elif run.info.status != copy.info.status:
            self._target.client.update_run(copy.info.run_id, status=run.info.status)

    def _copy_history(self, run_id: str, copy_id: str, key: str, of_models: dict[Any, Any]) -> None:
        wanted = self._source.client.get_metric_history(run_id, key)
        there = {_point(m) for m in self._target.client.get_metric_history(copy_id, key)}
        missing = []
        for point in dict.fromkeys(map(_point, wanted)):
            if point not in there:
                value, timestamp, step = float(point[0]), point[1], point[2]
                measured = of_models.get((run_id, key, timestamp, step), (None, None, None))
                model_id = self.models.get(measured[0]) if measured[0] else None
                missing.append(Metric(key, value, timestamp, step, model_id, *measured[1:]))
        self._log(copy_id, metrics=missing)
        self._report.points += len(missing)

    def _copy_links(self, run: Run, copy: Run) -> None:
        """Bring the datasets and models that a run uses, and the models that it made."""
        inputs, outputs = run.inputs, run.outputs
        known = {m.model_id for m in (copy.inputs.model_inputs if copy.inputs else [])}
        used = [self.models[m.model_id] for m in _models(inputs, "model_inputs", self.models)]
        models = [LoggedModelInput(model_id) for model_id in used if model_id not in known]
        datasets = list(inputs.dataset_inputs) if inputs else []
        if datasets or models:
            self._target.client.log_inputs(copy.info.run_id, datasets or None, models or None)
        known = {m.model_id for m in (copy.outputs.model_outputs if copy.outputs else [])}
        made = [
            LoggedModelOutput(self.models[m.model_id], m.step)
            for m in _models(outputs, "model_outputs", self.models)
            if self.models[m.model_id] not in known
        ]
        if made:
            self._target.client.log_outputs(copy.info.run_id, made)

    def _copy_model(self, model: LoggedModel, copy: LoggedModel | None) -> None:
        if copy is None:
            copy = self._create_model(model)
            self._report.logged_models += 1
        self.models[model.model_id] = copy.model_id
        if COMPLETE in copy.tags:
            return
        source = self._source.files(model.artifact_location)
        self._report.files += copy_files(source, self._target.files(copy.artifact_location))
        if model.status in {LoggedModelStatus.READY, LoggedModelStatus.FAILED}:
            self._target.client.finalize_logged_model(copy.model_id, model.status)
            self._target.client.set_logged_model_tags(
                copy.model_id, {COMPLETE: self._source.public_uri}
            )

    def _create_model(self, model: LoggedModel) -> LoggedModel:
        ours = self._target.ours
        run = model.source_run_id if ours else self.runs.get(model.source_run_id or "")
        tags = {key: value for key, value in model.tags.items() if key != COMPLETE}
        if self._target.ours is None:
            return self._target.client.create_logged_model(
                self._home,
                model.name,
                run,
                tags | {ORIGIN: model.model_id},
                model.params,
                model.model_type,
            )
        tags.pop(ORIGIN, None)
        return self._target.ours.create_logged_model(
            self._home,
            model.name,
            run,
            [LoggedModelTag(key, value) for key, value in tags.items()],
            [LoggedModelParameter(key, value) for key, value in (model.params or {}).items()],
            model.model_type,
            model.model_id,
        )

    def _mend_metrics(self, model: LoggedModel) -> None:
        """Bring the metrics of a model that an interrupted copy had brought to its run only."""
        copy = self._target.client.get_logged_model(self.models[model.model_id])
        there = {(m.run_id, m.key, *_point(m)) for m in copy.metrics or []}
        for one in model.metrics or []:
            run_id = self.runs.get(one.run_id or "")
            if run_id is None or (run_id, one.key, *_point(one)) in there:
                continue
            point = (one.key, one.value, one.timestamp, one.step, copy.model_id)
            self._log(run_id, metrics=[Metric(*point, one.dataset_name, one.dataset_digest)])

    def _log(
        self,
        run_id: str,
        metrics: Sequence[Metric] = (),
        params: Sequence[Param] = (),
        tags: Sequence[RunTag] = (),
    ) -> None:
        client = self._target.client
        for start in range(0, len(params), _PARAMS_PER_REQUEST):
            client.log_batch(run_id, params=params[start : start + _PARAMS_PER_REQUEST])
        for start in range(0, len(tags), _TAGS_PER_REQUEST):
            client.log_batch(run_id, tags=tags[start : start + _TAGS_PER_REQUEST])
        for start in range(0, len(metrics), _METRICS_PER_REQUEST):
            client.log_batch(run_id, metrics=metrics[start : start + _METRICS_PER_REQUEST])


def _point(metric: Metric) -> tuple[str, int, int]:
    """Return what makes a point the same; as a text NaN equals itself."""
    return repr(float(metric.value)), int(metric.timestamp), int(metric.step or 0)


def _measured(models: Sequence[LoggedModel]) -> dict[Any, tuple[str, str | None, str | None]]:
    """Return which points of runs are metrics of a model, and on which dataset."""
    return {
        (m.run_id, m.key, int(m.timestamp), int(m.step or 0)): (
            model.model_id,
            m.dataset_name,
            m.dataset_digest,
        )
        for model in models
        for m in model.metrics or []
    }


def _models(links: Any, kind: str, known: dict[str, str]) -> list[Any]:
    found = [] if links is None else getattr(links, kind) or []
    return [one for one in found if one.model_id in known]
