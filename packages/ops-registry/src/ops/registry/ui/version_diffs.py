"""Versions of a model side by side: each field of their metadata, and whether it differs."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from ops.foundation.errors import ValidationError

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from ops.registry.records import ModelVersion

__all__ = ["chosen_versions", "diff", "version_metrics"]

_MOST = 10


def chosen_versions(versions: Sequence[ModelVersion], numbers: Sequence[str]) -> list[ModelVersion]:
    """Return the versions with these *numbers*; raises `ValidationError` for a number that no version has."""
    by_number = {str(version.version): version for version in versions}
    unknown = [number for number in numbers if number not in by_number]
    if unknown or len(numbers) > _MOST:
        raise ValidationError(
            f"compare names up to {_MOST} versions of this model, not {', '.join(unknown)!r:.80}."
        )
    return [by_number[number] for number in dict.fromkeys(numbers)]


def diff(versions: Sequence[ModelVersion]) -> list[tuple[str, list[Any], bool]]:
    """Return (field, a value per version, whether they differ), what differs first in its group."""
    all_fields = [_fields(version) for version in versions]
    names = dict.fromkeys(name for fields in all_fields for name in fields)
    rows = []
    for name in names:
        values = [fields.get(name) for fields in all_fields]
        rows.append((name, values, len(set(map(str, values))) > 1))
    return sorted(rows, key=lambda row: (row[0].partition(".")[0] or row[0], not row[2]))


def version_metrics(versions: Sequence[ModelVersion]) -> list[str]:
    """Return the names of the metrics of *versions*: those that differ first, since a table shows some only."""
    values: dict[str, set[str]] = {}
    for version in versions:
        for key in version.metadata.metrics:
            values.setdefault(key, set()).add(str(version.metadata.metrics[key]))
    return sorted(values, key=lambda key: (len(values[key]) < 2, key))


def _fields(version: ModelVersion) -> Mapping[str, Any]:
    data = version.metadata
    groups: dict[str, Mapping[str, Any]] = {
        "metrics": data.metrics,
        "params": data.hyperparameters,
        "signature": data.signature or {},
        "tags": data.tags,
    }
    grouped = {f"{g}.{key}": value for g, fields in groups.items() for key, value in fields.items()}
    return grouped | {
        "version.checksum": version.checksum[:12],
        "version.dependencies": ", ".join(data.dependencies),
        "version.description": data.description,
        "version.framework": data.framework,
        "version.size": version.size,
        "version.type": data.artifact_type,
    }
