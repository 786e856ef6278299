"""Selecting model versions: the fields that they have in the search language."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from ops.registry.search.filters import Kind, param_value
from ops.registry.search.selection import select

if TYPE_CHECKING:
    from collections.abc import Sequence

    from ops.registry.records import ModelVersion
    from ops.registry.search.filters import Lookup

__all__ = ["FIELDS", "select_versions"]

#: The fields of a version without a group, in filters and orders.
FIELDS = {
    "name": Kind.TEXT,
    "version": Kind.NUMBER,
    "stage": Kind.TEXT,
    "framework": Kind.TEXT,
    "artifact_type": Kind.TEXT,
    "model_id": Kind.TEXT,
    "run_id": Kind.TEXT,
}


def select_versions(
    versions: Sequence[ModelVersion],
    text: str | None,
    order_by: str | Sequence[str] | None,
    limit: int | None,
) -> list[ModelVersion]:
    """Return the versions for which *text* holds, ordered, at most *limit*."""
    return select(versions, FIELDS, _lookup, text, order_by, limit)


def _lookup(version: ModelVersion) -> Lookup:
    metadata = version.metadata
    plain = {
        "name": version.name,
        "version": version.version,
        "stage": str(version.stage),
        "framework": metadata.framework,
        "artifact_type": metadata.artifact_type,
        "model_id": version.model_id,
        "run_id": metadata.experiment_run_id,
    }
    groups = {
        "metrics": metadata.metrics,
        "metrics_min": metadata.metrics,  # a version has one value of each
        "metrics_max": metadata.metrics,
        "tags": metadata.tags,
    }

    def find(field: str) -> Any:
        group, dot, key = field.partition(".")
        if group == "params" and dot:
            return param_value(metadata.hyperparameters, key)
        return groups[group].get(key) if dot else plain[field]

    return find
