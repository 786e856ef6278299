# mypy: disable-error-code="no-untyped-call"
# (MLflow's constructors are not annotated)
"""Models of the registry and their versions as MLflow's entities."""

from __future__ import annotations

from typing import TYPE_CHECKING

from mlflow.entities.model_registry import (
    ModelVersion,
    ModelVersionTag,
    RegisteredModel,
    RegisteredModelAlias,
    RegisteredModelTag,
)

from ops.registry.mlflow.entities import millis

if TYPE_CHECKING:
    from collections.abc import Iterable

    from ops.registry import records
    from ops.registry.models.state import Model

__all__ = ["model_tags", "to_model", "to_version"]

_NS_PER_MS = 1_000_000


def to_model(model: Model, versions: Iterable[records.ModelVersion]) -> RegisteredModel:
    """Return a model as MLflow's, with the newest version of each stage."""
    newest = {version.stage: version for version in versions}
    return RegisteredModel(
        model.name,
        (model.created or 0) // _NS_PER_MS,
        model.updated // _NS_PER_MS,
        model.description or None,
        [to_version(model, version) for version in newest.values()],
        model_tags(model),
        [RegisteredModelAlias(alias, number) for alias, number in model.aliases.items()],
    )


def to_version(model: Model, version: records.ModelVersion) -> ModelVersion:
    """Return a version as MLflow's."""
    recorded = version.metadata.flavor_metadata.get("mlflow", {})
    created = millis(version.created_at)
    changed = model.changed.get(version.version)
    return ModelVersion(
        name=version.name,
        version=version.version,  # type: ignore[arg-type]  # a number in MLflow's own stores too
        creation_timestamp=created,
        last_updated_timestamp=created if changed is None else changed // _NS_PER_MS,
        description=version.metadata.description or None,
        current_stage=str(version.stage),
        source=recorded.get("source", version.artifact_uri),
        run_id=version.metadata.experiment_run_id,
        tags=[ModelVersionTag(k, v) for k, v in version.metadata.tags.items()],
        run_link=recorded.get("run_link"),
        aliases=list(version.aliases),
        model_id=recorded.get("model_id"),
    )


def model_tags(model: Model) -> list[RegisteredModelTag]:
    """Return the tags of a model as MLflow's."""
    return [RegisteredModelTag(key, value) for key, value in model.tags.items()]
