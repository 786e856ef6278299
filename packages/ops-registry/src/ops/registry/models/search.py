"""Selecting model versions, and the table of them for other tools."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from ops.foundation.files import atomic_write
from ops.registry.disk.checked_paths import refuse_link
from ops.registry.disk.journal import encode
from ops.registry.search import arrays
from ops.registry.search.filters import Kind, param_value
from ops.registry.search.selection import select

if TYPE_CHECKING:
    import pathlib
    from collections.abc import Sequence

    from ops.registry.records import ModelVersion
    from ops.registry.search.filters import Lookup

__all__ = ["FIELDS", "select_versions", "write_table"]

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


def write_table(path: pathlib.Path, versions: Sequence[ModelVersion]) -> None:
    """Write the versions as Parquet, metrics as columns of their own."""
    import pyarrow as pa
    import pyarrow.parquet as pq

    columns: dict[str, Any] = {
        "model_id": arrays.texts([v.model_id for v in versions]),
        "name": arrays.texts([v.name for v in versions]),
        "version": arrays.wholes([v.version for v in versions]),
        "stage": arrays.texts([str(v.stage) for v in versions]),
        "framework": arrays.texts([v.metadata.framework for v in versions]),
        "size": arrays.wholes([v.size for v in versions]),
        "checksum": arrays.texts([v.checksum for v in versions]),
        "tags_json": arrays.texts([encode(dict(v.metadata.tags)).decode() for v in versions]),
    }
    for key in sorted({k for v in versions for k in v.metadata.metrics}):
        columns[f"metrics.{key}"] = arrays.numbers([v.metadata.metrics.get(key) for v in versions])
    refuse_link(path)
    with atomic_write(path, "wb", durable="none") as file:
        pq.write_table(pa.table(columns), file)


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
