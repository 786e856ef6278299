# mypy: disable-error-code="no-untyped-call"
# (MLflow's validators are not annotated)
"""What MLflow asks a tracking store about runs, but for searching (`run_search`)."""

from __future__ import annotations

import json
from time import time_ns
from typing import TYPE_CHECKING, Any

from mlflow.entities import Metric, RunStatus, RunTag
from mlflow.store.entities.paged_list import PagedList
from mlflow.utils.mlflow_tags import (
    MLFLOW_LOGGED_MODELS,
    MLFLOW_PARENT_RUN_ID,
    MLFLOW_RUN_NAME,
    MLFLOW_USER,
    _get_run_name_from_tags,
)
from mlflow.utils.name_utils import _generate_random_name
from mlflow.utils.search_utils import SearchUtils
from mlflow.utils.validation import (
    _validate_batch_log_data,
    _validate_batch_log_limits,
    _validate_dataset_inputs,
    _validate_metric,
    _validate_metric_name,
    _validate_param,
    _validate_param_keys_unique,
    _validate_run_id,
    _validate_tag,
)

from ops.registry.disk.journal import frame, framed
from ops.registry.errors import InvalidValueError, RunNotFoundError
from ops.registry.events import EventType, HookType
from ops.registry.mlflow.entities import Seen, to_info, to_run, to_status
from ops.registry.mlflow.errors import invalid, missing
from ops.registry.mlflow.experiment_calls import ExperimentCalls, start_of
from ops.registry.run_frames import ExtraAdded, ParametersLogged, RunChanged, TagsSet
from ops.registry.search.filters import as_text
from ops.registry.tracking.metric_encoding import point, points_body

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Mapping, Sequence

    from mlflow.entities import (
        DatasetInput,
        LoggedModelInput,
        LoggedModelOutput,
        Param,
        Run,
        RunInfo,
    )

    from ops.registry import records
    from ops.registry.local.logged_models import LoggedModelBook
    from ops.registry.mlflow.repeated_points import RepeatedPoints
    from ops.registry.run_frames import Frame
    from ops.registry.run_rows import RunRow

__all__ = ["RunCalls", "dataset_record"]

_NS_PER_MS = 1_000_000


class RunCalls(ExperimentCalls):
    """Creates, reads, changes and deletes runs, and logs to them."""

    models: LoggedModelBook
    repeated: RepeatedPoints

    def create_run(
        self,
        experiment_id: str | None,
        user_id: str | None,
        start_time: int | None,
        tags: list[RunTag] | None,
        run_name: str | None,
        run_id: str | None = None,
    ) -> Run:
        """Start a run, which others see at once; with *run_id*, which must be free, a copy of one."""
        experiment = self._active(experiment_id)
        tags = tags or []
        tagged = _get_run_name_from_tags(tags)
        if run_name and tagged and run_name != tagged:
            raise invalid(
                "Both 'run_name' argument and 'mlflow.runName' tag are specified, but with "
                f"different values (run_name='{run_name}', mlflow.runName='{tagged}')."
            )
        name = run_name or tagged or _generate_random_name()
        texts = {tag.key: str(tag.value) for tag in tags} | {MLFLOW_RUN_NAME: name}
        start = time_ns() if start_time is None else start_time * _NS_PER_MS
        try:
            row = self.book.start(
                experiment,
                name=name,
                start=start,
                tags=texts,
                parent=texts.get(MLFLOW_PARENT_RUN_ID),
                user=user_id if user_id != texts.get(MLFLOW_USER) else None,
                run_id=run_id,
            )
        except InvalidValueError as error:
            raise invalid(str(error)) from error
        home = self.book.experiment(row.experiment_id)  # a hook may have chosen another
        return to_run(Seen(row, home, self.book.artifacts))

    def get_run(self, run_id: str) -> Run:
        """Return a run as it is now."""
        with self.book.mutex:
            return to_run(self._seen(run_id))

    def update_run_info(
        self,
        run_id: str,
        run_status: int | None,
        end_time: int | None,
        run_name: str | None,
    ) -> RunInfo:
        """Change the status, the end and the name, whichever are given."""
        known = self._active_row(run_id)
        fields: dict[str, Any] = {}
        tags = []
        if run_name:
            tags.append(TagsSet({MLFLOW_RUN_NAME: run_name}, time_ns()))
            fields["name"] = run_name
        if end_time is not None:
            fields["end"] = end_time * _NS_PER_MS
        status = None if run_status is None else to_status(RunStatus.to_string(run_status))
        if run_name and status is not None and status.is_final and status == known.status:
            status = None  # a client that renames a run sends what it has: it does not end again

        def write(final: records.RunStatus, error: str | None) -> None:
            message = {} if error is None else {"error": str(error)}
            self.book.change(run_id, *tags, **fields, status=str(final), **message)

        if status is not None and status.is_final:
            self.book.end(run_id, status, write)
        elif status is not None:
            self.book.change(run_id, *tags, **fields, status=str(status))
        elif fields:
            self.book.change(run_id, *tags, **fields)
        if "name" in fields:
            self.book.report(EventType.RUN_CHANGED, run_id, name=run_name)
        with self.book.mutex:
            return to_info(self._seen(run_id))

    def delete_run(self, run_id: str) -> None:
        """Delete a run; `restore_run` takes it back."""
        self._row(run_id)
        self.book.change(run_id, deleted=time_ns())
        self.book.report(EventType.RUN_DELETED, run_id)

    def restore_run(self, run_id: str) -> None:
        """Take back that a run was deleted."""
        self._row(run_id)
        self.book.change(run_id, deleted=None)
        self.book.report(EventType.RUN_RESTORED, run_id)

    def log_metric(self, run_id: str, metric: Metric) -> None:
        """Log one value; when this returns, a kill of the process cannot lose it."""
        row = self._active_row(run_id)
        (metric,) = self._metrics_by_hooks(run_id, [metric])
        if not _is_plain(metric, row.metrics):
            _validate_metric(metric.key, metric.value, metric.timestamp, metric.step)
        if self.repeated.new(run_id, row.metrics, [metric]):
            self._append(run_id, _of_metrics([metric]))
            self._logged(run_id, [metric])
        self._log_of_models(run_id, [metric])

    def log_param(self, run_id: str, param: Param) -> None:
        """Log one parameter; another value for it is refused."""
        param = _validate_param(param.key, param.value)
        self._append(run_id, _of_params([param], self._active_row(run_id)))
        self.book.report(EventType.PARAMETER_LOGGED, run_id, parameters={param.key: param.value})

    def set_tag(self, run_id: str, tag: RunTag) -> None:
        """Set one tag."""
        tag = _validate_tag(tag.key, tag.value)
        self._active_row(run_id)
        self._append(run_id, *_of_tags([tag]))
        self.book.report(EventType.TAG_SET, run_id, tags={tag.key: str(tag.value)})

    def delete_tag(self, run_id: str, key: str) -> None:
        """Remove one tag."""
        if key not in self._active_row(run_id).tags:
            raise missing(f"No tag with name: {key} in run with id {run_id}")
        self.book.append(run_id, TagsSet({key: None}, time_ns()))
        self.book.report(EventType.TAG_DELETED, run_id, key=key)

    def log_batch(
        self,
        run_id: str,
        metrics: Sequence[Metric],
        params: Sequence[Param],
        tags: Sequence[RunTag],
    ) -> None:
        """Log metrics, parameters and tags with one write, so all are there or none."""
        row = self._active_row(run_id)
        metrics = self._metrics_by_hooks(run_id, metrics)
        odd = [metric for metric in metrics if not _is_plain(metric, row.metrics)]
        _, params, tags = _validate_batch_log_data(metrics if odd else [], params, tags)
        _validate_batch_log_limits(metrics, params, tags)
        _validate_param_keys_unique(params)
        made = [_of_params(params, row)] if params else []
        new = self.repeated.new(run_id, row.metrics, metrics)
        made += [_of_metrics(new)] if new else []
        made += _of_tags(tags) if tags else []
        if made:
            self._append(run_id, *made)
        self._logged(run_id, new)
        if params:
            values = {param.key: param.value for param in params}
            self.book.report(EventType.PARAMETER_LOGGED, run_id, parameters=values)
        if tags:
            self.book.report(
                EventType.TAG_SET, run_id, tags={tag.key: str(tag.value) for tag in tags}
            )
        self._log_of_models(run_id, metrics)

    def get_metric_history(
        self,
        run_id: str,
        metric_key: str,
        max_results: int | None = None,
        page_token: str | None = None,
    ) -> PagedList[Metric]:
        """Return all points of a metric by time."""
        _validate_metric_name(metric_key)
        self._row(run_id)
        found = [
            Metric(metric_key, value, when // _NS_PER_MS, step, run_id=run_id)
            for value, step, when in self.book.points(run_id, metric_key)
        ]
        start = start_of(page_token)
        if max_results is None:
            return PagedList(found[start:], None)
        return PagedList(*SearchUtils.paginate(found, page_token, max_results))

    def log_inputs(
        self,
        run_id: str,
        datasets: list[DatasetInput] | None = None,
        models: list[LoggedModelInput] | None = None,
    ) -> None:
        """Log the datasets and models that a run uses."""
        _validate_run_id(run_id)
        if datasets is not None:
            if not isinstance(datasets, list):
                raise TypeError(f"Argument 'datasets' should be a list, got '{type(datasets)}'")
            _validate_dataset_inputs(datasets)
        row = self._active_row(run_id)
        kept = row.extra.get("datasets", [])
        known = {(one["name"], one["digest"]) for one in kept}
        # Logged again, a dataset keeps the tags that it was logged with first.
        recorded: list[tuple[str, Any]] = [
            ("datasets", dataset_record(one))
            for one in datasets or []
            if (one.dataset.name, one.dataset.digest) not in known
        ]
        recorded += [("models_in", [model.model_id]) for model in models or []]
        self._append_extras(run_id, recorded)

    def log_outputs(self, run_id: str, models: list[LoggedModelOutput]) -> None:
        """Log the models that a run has made."""
        self._active_row(run_id)
        recorded = [("models_out", [model.model_id, model.step]) for model in models]
        self._append_extras(run_id, recorded)

    def record_logged_model(self, run_id: str, mlflow_model: Any) -> None:
        """Add a model to the tag in which MLflow 2 lists the models of a run."""
        from mlflow.models import Model

        if not isinstance(mlflow_model, Model):
            raise TypeError(
                f"Argument 'mlflow_model' should be mlflow.models.Model, got '{type(mlflow_model)}'"
            )
        before = json.loads(self._active_row(run_id).tags.get(MLFLOW_LOGGED_MODELS, "[]"))
        recorded = json.dumps([*before, mlflow_model.get_tags_dict()])
        self.set_tag(run_id, RunTag(MLFLOW_LOGGED_MODELS, recorded))

    def _append_extras(self, run_id: str, recorded: Iterable[tuple[str, Any]]) -> None:
        made = [_framed(ExtraAdded(kind, x, time_ns())) for kind, x in recorded]
        if made:
            self._append(run_id, *made)

    def _append(self, run_id: str, *made: tuple[dict[str, Any], bytes]) -> None:
        self.book.append_frames(
            run_id, b"".join(data for _, data in made), [record for record, _ in made]
        )

    def _metrics_by_hooks(self, run_id: str, metrics: Sequence[Metric]) -> Sequence[Metric]:
        """Return points as the hooks leave them; what one of them raises reaches MLflow's caller."""
        operations = self.book.operations
        if not operations.hooks.hook_count(HookType.PRE_METRIC_LOG):
            return metrics
        requested = [_as_data(run_id, metric) for metric in metrics]
        requested = operations.before_each(HookType.PRE_METRIC_LOG, requested, fixed=("run_id",))
        return [_changed(m, data) for m, data in zip(metrics, requested, strict=True)]

    def _logged(self, run_id: str, metrics: Sequence[Metric]) -> None:
        recorded = [_as_data(run_id, metric) for metric in metrics]
        self.book.operations.after_each(
            EventType.METRIC_LOGGED, recorded, hook=HookType.POST_METRIC_LOG
        )

    def _log_of_models(self, run_id: str, metrics: Iterable[Metric]) -> None:
        measured = [metric for metric in metrics if metric.model_id is not None]
        if measured:
            self.models.log_metrics(run_id, measured)

    def _row(self, run_id: str) -> RunRow:
        return self._found(self.book.state_row, run_id)

    @staticmethod
    def _found(look: Callable[[str], RunRow], run_id: str) -> RunRow:
        _validate_run_id(run_id)
        try:
            return look(run_id)
        except RunNotFoundError as error:
            raise missing(f"Run with id={run_id} not found") from error

    def _active_row(self, run_id: str) -> RunRow:
        row = self._row(run_id)
        if row.deleted is not None:
            raise invalid(
                f"The run {run_id} must be in the 'active' state. Current state is deleted."
            )
        return row

    def _seen(self, run_id: str) -> Seen:
        row = self._found(self.book.row, run_id)
        return Seen(row, self.book.experiment(row.experiment_id), self.book.artifacts)


def _as_data(run_id: str, metric: Metric) -> dict[str, Any]:
    """Return a point as hooks and events have it."""
    return {"run_id": run_id, "key": metric.key, "value": metric.value, "step": metric.step or 0}


def _changed(metric: Metric, data: Mapping[str, Any]) -> Metric:
    return Metric(
        data["key"],
        data["value"],
        metric.timestamp,
        data["step"],
        metric.model_id,
        metric.dataset_name,
        metric.dataset_digest,
        metric.run_id,
    )


def _is_plain(metric: Metric, known: Mapping[str, Any]) -> bool:
    """Whether MLflow's validator need not be called: it has seen the name, and the rest is as usual."""
    stamp = metric.timestamp
    return (
        metric.key in known
        and type(metric.value) is float
        and type(stamp) is type(metric.step) is int
        and stamp >= 0
    )


def _of_metrics(metrics: Iterable[Metric]) -> tuple[dict[str, Any], bytes]:
    """Return the record of points, and its frame."""
    points = [
        (m.key, float(m.value), int(m.step or 0), int(m.timestamp) * _NS_PER_MS) for m in metrics
    ]
    try:
        return {"m": points}, framed(points_body(point(*one) for one in points))
    except InvalidValueError as error:
        raise invalid(str(error)) from error


def _of_params(params: Iterable[Param], row: RunRow) -> tuple[dict[str, Any], bytes]:
    """Return the record of parameters and its frame; a value other than that in *row* is refused."""
    for param in params:
        if param.value is None:
            raise invalid(f"Missing value for the parameter '{param.key}'.")
        before = row.params.get(param.key)
        if before is not None and as_text(before) != param.value:
            raise invalid(
                f"Changing param values is not allowed. Param with key='{param.key}' was "
                f"already logged with value='{as_text(before)}' for run ID='{row.run_id}'. "
                f"Attempted logging new value '{param.value}'."
            )
    return _framed(ParametersLogged({p.key: str(p.value) for p in params}, time_ns()))


def _of_tags(tags: Iterable[RunTag]) -> list[tuple[dict[str, Any], bytes]]:
    """Return the record of tags with its frame, and that of a new name, which is a tag too."""
    texts = {tag.key: str(tag.value) for tag in tags}
    made = [_framed(TagsSet(texts, time_ns()))]
    if texts.get(MLFLOW_RUN_NAME):
        made.append(_framed(RunChanged({"name": texts[MLFLOW_RUN_NAME]}, time_ns())))
    return made


def _framed(event: Frame) -> tuple[dict[str, Any], bytes]:
    record = event.plain()
    return record, frame(record)


def dataset_record(one: DatasetInput) -> dict[str, Any]:
    """Return a dataset that a run uses, as journals have it."""
    fields = ("name", "digest", "source_type", "source", "schema", "profile")
    recorded = {field: getattr(one.dataset, field) for field in fields}
    return recorded | {"tags": {tag.key: tag.value for tag in one.tags or []}}
