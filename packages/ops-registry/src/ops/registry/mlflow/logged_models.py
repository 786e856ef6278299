# mypy: disable-error-code="no-untyped-call"
"""MLflow 3's logged models as entities; what is kept of them is `ops.registry.local.logged_models`."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from mlflow.entities import (
    LoggedModel,
    LoggedModelParameter,
    LoggedModelStatus,
    LoggedModelTag,
    Metric,
)

if TYPE_CHECKING:
    from collections.abc import Mapping

__all__ = ["to_logged_model"]


def to_logged_model(model: Mapping[str, Any], nothing: list[Metric] | None = None) -> LoggedModel:
    """Return a model of the book as MLflow's entity; one without metrics has *nothing* there."""
    metrics = [
        Metric(key, value, stamp, step, model["id"], dataset, digest, run_id)
        for (key, stamp, step, run_id), (value, dataset, digest) in model["metrics"].items()
    ]
    return LoggedModel(
        experiment_id=model["experiment_id"],
        model_id=model["id"],
        name=model["name"],
        artifact_location=model["artifact_location"],
        creation_timestamp=model["created"],
        last_updated_timestamp=model["updated"],
        model_type=model["model_type"],
        source_run_id=model["source_run_id"],
        status=LoggedModelStatus.from_int(model["status"]),
        tags=[LoggedModelTag(key, value) for key, value in model["tags"].items()],
        params=[LoggedModelParameter(key, value) for key, value in model["params"].items()],
        metrics=metrics or nothing,
    )
