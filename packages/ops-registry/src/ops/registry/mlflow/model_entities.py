# mypy: disable-error-code="no-untyped-call"
# (MLflow's constructors are not annotated)
"""Models of the registry and their versions as MLflow's entities."""

from __future__ import annotations

import pathlib
from typing import TYPE_CHECKING

from mlflow.entities.model_registry import (
    ModelVersion,
    ModelVersionTag,
    RegisteredModel,
    RegisteredModelAlias,
    RegisteredModelTag,
)

from ops.registry.disk.store_addresses import local_path
from ops.registry.mlflow.entities import millis

if TYPE_CHECKING:
    from collections.abc import Iterable

    from ops.registry import records
    from ops.registry.models.state import Model

__all__ = ["location_of", "model_tags", "to_model", "to_version"]

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
        source=_source(version),
        run_id=version.metadata.experiment_run_id,
        tags=[ModelVersionTag(k, v) for k, v in version.metadata.tags.items()],
        run_link=recorded.get("run_link"),
        aliases=list(version.aliases),
        model_id=recorded.get("model_id"),
    )


def location_of(version: records.ModelVersion) -> str:
    """Return the address of a version's files, in the form in which it was registered."""
    source = _source(version)
    if local_path(source) == version.artifact_uri:
        return source
    path = pathlib.Path(version.artifact_uri)  # of a logged model or a run that the source names
    return path.as_uri() if path.is_absolute() else version.artifact_uri


def _source(version: records.ModelVersion) -> str:
    """Return what a version was registered from; an address of files as it leads to them now."""
    recorded = version.metadata.flavor_metadata.get("mlflow", {}).get("source")
    path = None if recorded is None else local_path(recorded)
    if recorded is None or path is None or path == version.artifact_uri:
        return str(recorded or version.artifact_uri)
    if recorded.startswith("file:") and pathlib.PurePath(version.artifact_uri).is_absolute():
        return pathlib.Path(version.artifact_uri).as_uri()
    return version.artifact_uri


def model_tags(model: Model) -> list[RegisteredModelTag]:
    """Return the tags of a model as MLflow's."""
    return [RegisteredModelTag(key, value) for key, value in model.tags.items()]
