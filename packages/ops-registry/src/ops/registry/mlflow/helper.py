# mypy: disable-error-code="no-untyped-call"
"""What one wants from a tracking server again and again, on any address that mlflow understands.

MLflow takes 100 parameters and 1 000 values per request, parameters of 6 000 characters, and no nested
ones. `MLflowHelper` flattens, shortens and divides, so that a caller logs what it has. It works by ids
and never touches MLflow's current run, so threads can share one.
"""

from __future__ import annotations

import json
import time
from typing import TYPE_CHECKING, Any

from mlflow import MlflowClient
from mlflow.entities import Metric, Param
from mlflow.exceptions import MlflowException

from ops.registry.search.filters import as_text

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Mapping, Sequence

    import pandas as pd
    from mlflow.entities import Run
    from mlflow.entities.model_registry import ModelVersion

__all__ = ["MLflowHelper"]

_PARAMS_PER_REQUEST = 100
_METRICS_PER_REQUEST = 1000
_LONGEST_PARAM = 6000


class MLflowHelper:
    """Logs to the server at *tracking_uri*, mlflow's default one without it."""

    def __init__(self, tracking_uri: str | None = None, registry_uri: str | None = None) -> None:
        self.client: MlflowClient = MlflowClient(tracking_uri, registry_uri or tracking_uri)

    def get_or_create_experiment(self, name: str, tags: Mapping[str, str] | None = None) -> str:
        """Return the id of the experiment *name*, also when others create it just now."""
        found = self.client.get_experiment_by_name(name)
        if found is None:
            try:
                return self.client.create_experiment(name, tags=dict(tags or {}))
            except MlflowException as error:
                if error.error_code != "RESOURCE_ALREADY_EXISTS":
                    raise
                found = self.client.get_experiment_by_name(name)
        if found is None or found.lifecycle_stage == "deleted":
            raise MlflowException(f"The experiment {name!r} is deleted; restore it first.")
        return str(found.experiment_id)

    def log_params(self, run_id: str, params: Mapping[str, Any]) -> None:
        """Log parameters; nested ones as ``a.b``, what is no text as JSON, at most 6 000 characters."""
        made = [Param(key, _text(value)[:_LONGEST_PARAM]) for key, value in flat(params)]
        for part in _parts(made, _PARAMS_PER_REQUEST):
            self.client.log_batch(run_id, params=part)

    def log_metrics(self, run_id: str, metrics: Mapping[str, Any], step: int = 0) -> None:
        """Log the numbers of *metrics* to *run_id* at one *step*; nested ones as ``a.b``; what is no number is left out."""
        now = time.time_ns() // 1_000_000
        made = [
            Metric(key, number, now, step)
            for key, value in flat(metrics)
            if (number := as_metric(value)) is not None
        ]
        self._log(run_id, made)

    def log_history(self, run_id: str, key: str, values: Iterable[float], start: int = 0) -> None:
        """Log *values* as the metric *key* of *run_id*, at the steps from *start* on."""
        now = time.time_ns() // 1_000_000
        self._log(run_id, [Metric(key, float(v), now, s) for s, v in enumerate(values, start)])

    def log_dataframe(self, run_id: str, frame: pd.DataFrame, name: str, rows: int = 100) -> None:
        """Log to *run_id* what the table *frame* is like: its shape as metrics, its columns and first *rows* as artifacts.

        *name* is the folder of the artifacts and the beginning of the metrics' names.
        """
        self.log_metrics(run_id, {name: {"rows": len(frame), "columns": frame.shape[1]}})
        columns = {
            str(column): {
                "type": str(frame[column].dtype),
                "missing": int(frame[column].isna().sum()),
            }
            for column in frame.columns
        }
        self.client.log_dict(run_id, columns, f"{name}/columns.json")
        self.client.log_text(run_id, frame.head(rows).to_csv(index=False), f"{name}/head.csv")

    def best_run(
        self, experiment: str, metric: str, *, maximize: bool = True, filter_string: str = ""
    ) -> Run | None:
        """Return the finished run with the best last value of *metric*, None when none has it.

        *experiment* is a name; *maximize* False takes the lowest value; *filter_string* selects
        further, in MLflow's language.
        """
        experiment_id = self.get_or_create_experiment(experiment)
        requested = "attributes.status = 'FINISHED'"
        requested = f"{requested} and {filter_string}" if filter_string else requested
        order = f"metrics.`{metric}` {'DESC' if maximize else 'ASC'}"
        found = self.client.search_runs([experiment_id], requested, order_by=[order], max_results=1)
        return found[0] if found and metric in found[0].data.metrics else None

    def register(
        self, name: str, run_id: str, path: str = "model", aliases: Sequence[str] = ()
    ) -> ModelVersion:
        """Register the artifact *path* of *run_id* as the next version of the model *name*, with *aliases*."""
        try:
            self.client.create_registered_model(name)
        except MlflowException as error:
            if error.error_code != "RESOURCE_ALREADY_EXISTS":
                raise
        source = f"{self.client.get_run(run_id).info.artifact_uri}/{path}"
        made = self.client.create_model_version(name, source, run_id)
        for alias in aliases:
            self.client.set_registered_model_alias(name, alias, made.version)
        return made

    def _log(self, run_id: str, metrics: list[Metric]) -> None:
        for part in _parts(metrics, _METRICS_PER_REQUEST):
            self.client.log_batch(run_id, metrics=part)


def flat(values: Mapping[str, Any], before: str = "") -> Iterator[tuple[str, Any]]:
    """Yield the leaves of nested mappings with their names joined by dots."""
    for key, value in values.items():
        name = f"{before}{key}"
        if isinstance(value, dict) and value:
            yield from flat(value, f"{name}.")
        else:
            yield name, value


def as_metric(value: Any) -> float | None:
    """Return *value* as a number if it is one; truth values count as 0 and 1."""
    if isinstance(value, (str, bytes)):
        return None
    try:
        return float(value)
    except (TypeError, ValueError):
        return None


def _text(value: Any) -> str:
    try:
        return as_text(value)
    except (TypeError, ValueError):
        return json.dumps(repr(value))


def _parts(values: list[Any], size: int) -> Iterator[list[Any]]:
    for start in range(0, len(values), size):
        yield values[start : start + size]
