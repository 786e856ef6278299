"""Rows of runs as a table with a column for each key, and what such a column has of one row.

Columns are wide: ``metrics.k`` and what else is known of a metric, ``params.k`` and ``tags.k``; see
`run_table`, which reads them.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from ops.registry.json_values import encode
from ops.registry.local.index import arrays
from ops.registry.run_rows import SUMMARY_FIELDS
from ops.registry.search.filters import as_text, param_value

if TYPE_CHECKING:
    from collections.abc import Sequence

    from ops.registry.run_rows import RunRow

__all__ = ["WIDE_KEYS", "summary_value", "value_of", "wide"]

#: Rarer keys are only in the JSON of a row: a table with thousands of columns helps no query.
WIDE_KEYS = 500


def wide(rows: Sequence[RunRow], known: frozenset[str] = frozenset()) -> tuple[Any, bool]:
    """Return rows as a table, and whether a key had to stay in the JSON.

    Columns that are *known* already come first; of the others the commonest keys get one.
    """
    import pyarrow as pa

    columns = {
        "run_id": arrays.texts([r.run_id for r in rows]),
        "name": arrays.texts([r.name for r in rows]),
        "status": arrays.texts([str(r.status) for r in rows]),
        "start_time": arrays.instants([r.start for r in rows]),
        "end_time": arrays.instants([r.end for r in rows]),
        "parent_run_id": arrays.texts([r.parent for r in rows]),
        "deleted_at": arrays.instants([r.deleted for r in rows]),
    }
    metrics, rare = _chosen(rows, "metrics", known)
    for key in metrics:
        for group in SUMMARY_FIELDS:
            made = arrays.wholes if group.endswith("step") else arrays.numbers
            columns[f"{group}.{key}"] = made([summary_value(r, group, key) for r in rows])
    for kind in ("params", "tags"):
        keys, more = _chosen(rows, kind, known)
        rare |= more
        for key in keys:
            columns[f"{kind}.{key}"] = arrays.texts(
                [_text(param_value(getattr(r, kind), key)) for r in rows]
            )
    columns["row_json"] = arrays.texts([encode(r.plain()).decode() for r in rows])
    return pa.table(columns), rare


def _chosen(rows: Sequence[RunRow], kind: str, known: frozenset[str]) -> tuple[list[str], bool]:
    counts: dict[str, int] = {}
    for row in rows:
        for key in getattr(row, kind):
            counts[key] = counts.get(key, 0) + 1
    had = [name.removeprefix(f"{kind}.") for name in known if name.startswith(f"{kind}.")]
    free = WIDE_KEYS - len(had)
    new = sorted((k for k in counts if f"{kind}.{k}" not in known), key=lambda k: (-counts[k], k))
    chosen = [key for key in had if key in counts] + new[: max(free, 0)]
    return sorted(chosen), len(new) > max(free, 0)


def value_of(row: RunRow | None, group: str, key: str) -> Any:
    """Return what the column *group*.*key* would have of a row."""
    if row is None:
        return None
    if group in SUMMARY_FIELDS:
        return summary_value(row, group, key)
    return _text(param_value(getattr(row, group), key))


def summary_value(row: RunRow, group: str, key: str) -> Any:
    """Return one field of a metric's summary; None when the metric was never logged."""
    summary = row.metrics.get(key)
    return None if summary is None else getattr(summary, SUMMARY_FIELDS[group])


def _text(value: Any) -> str | None:
    return None if value is None else as_text(value)
