"""Selecting model versions, and the table of them for other tools."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from ops.foundation.files import atomic_write
from ops.registry.filters import compile_filter, compile_order
from ops.registry.journal import encode

if TYPE_CHECKING:
    import pathlib
    from collections.abc import Sequence

    from ops.registry.filters import Lookup
    from ops.registry.records import ModelVersion

__all__ = ["FIELDS", "select", "write_table"]

#: The plain fields of a version in filters and orders.
FIELDS = ("name", "version", "stage", "framework", "artifact_type", "model_id", "run_id")


def select(
    versions: Sequence[ModelVersion], text: str | None, order_by: str | None, limit: int | None
) -> list[ModelVersion]:
    """Return the versions for which *text* holds, ordered, at most *limit*."""
    found = list(versions)
    if text is not None and text.strip():
        holds = compile_filter(text, FIELDS)
        found = [v for v in found if holds(_lookup(v))]
    order = compile_order(order_by, FIELDS)
    if order is not None:
        field, descending = order
        there = [v for v in found if _lookup(v)(field) is not None]
        absent = [v for v in found if _lookup(v)(field) is None]
        there.sort(key=lambda v: _sortable(_lookup(v)(field)), reverse=descending)
        found = [*there, *absent]
    return found[:limit]


def write_table(path: pathlib.Path, versions: Sequence[ModelVersion]) -> None:
    """Write the versions as Parquet, metrics as columns of their own."""
    import pyarrow as pa
    import pyarrow.parquet as pq

    columns: dict[str, Any] = {
        "model_id": [v.model_id for v in versions],
        "name": [v.name for v in versions],
        "version": [v.version for v in versions],
        "stage": [str(v.stage) for v in versions],
        "framework": [_text(v.metadata.framework) for v in versions],
        "size": [v.size for v in versions],
        "checksum": [v.checksum for v in versions],
        "tags_json": [encode(dict(v.metadata.tags)).decode() for v in versions],
    }
    for key in sorted({k for v in versions for k in v.metadata.metrics}):
        values = [v.metadata.metrics.get(key) for v in versions]
        columns[f"metrics.{key}"] = pa.array(values, pa.float64())
    with atomic_write(path, "wb", durable="none") as file:
        pq.write_table(pa.table(columns), file)


def _text(value: str) -> str:
    return value.encode("utf-8", "replace").decode()  # Parquet has no lone surrogates


def _sortable(value: Any) -> tuple[bool, Any]:
    numeric = isinstance(value, (int, float))
    return numeric, value if numeric else str(value)


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
        "params": metadata.hyperparameters,
        "tags": metadata.tags,
    }

    def find(field: str) -> Any:
        group, dot, key = field.partition(".")
        return groups[group].get(key) if dot else plain[field]

    return find
