"""Rows of runs as a table with a column for each key, and what such a column has of one row.

Columns are wide: ``metrics.k`` and what else is known of a metric, ``params.k`` and ``tags.k``; see
`runtable`, which reads them.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from ops.registry.disk.journal import encode
from ops.registry.search import arrays
from ops.registry.search.filters import as_text, param_value

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

__all__ = ["WIDE_KEYS", "value_of", "wide"]

#: Rarer keys are only in the JSON of a row: a table with thousands of columns helps nobody.
WIDE_KEYS = 500
#: Per metric: the prefix of the column and where its value is in the summary of a row.
_SUMMARY = {
    "metrics": 0,
    "metrics_min": 3,
    "metrics_max": 4,
    "metrics_min_step": 6,
    "metrics_max_step": 7,
}


def wide(
    rows: Sequence[Mapping[str, Any]], known: frozenset[str] = frozenset()
) -> tuple[Any, bool]:
    """Return rows as a table, and whether a key had to stay in the JSON.

    Columns that are *known* already come first; of the others the commonest keys get one.
    """
    import pyarrow as pa

    columns = {
        "run_id": arrays.texts([r["run_id"] for r in rows]),
        "name": arrays.texts([r["name"] for r in rows]),
        "status": arrays.texts([r["status"] for r in rows]),
        "start_time": arrays.instants([r["start"] for r in rows]),
        "end_time": arrays.instants([r["end"] for r in rows]),
        "parent_run_id": arrays.texts([r["parent"] for r in rows]),
        "deleted_at": arrays.instants([r.get("deleted") for r in rows]),
    }
    metrics, rare = _chosen(rows, "metrics", known)
    for key in metrics:
        summaries = [r["metrics"].get(key) for r in rows]
        for prefix, at in _SUMMARY.items():
            made = arrays.wholes if prefix.endswith("step") else arrays.numbers
            columns[f"{prefix}.{key}"] = made([None if s is None else s[at] for s in summaries])
    for kind in ("params", "tags"):
        keys, more = _chosen(rows, kind, known)
        rare |= more
        for key in keys:
            columns[f"{kind}.{key}"] = arrays.texts(
                [_text(param_value(r[kind], key)) for r in rows]
            )
    columns["row_json"] = arrays.texts([encode(r).decode() for r in rows])
    return pa.table(columns), rare


def _chosen(
    rows: Sequence[Mapping[str, Any]], kind: str, known: frozenset[str]
) -> tuple[list[str], bool]:
    counts: dict[str, int] = {}
    for row in rows:
        for key in row[kind]:
            counts[key] = counts.get(key, 0) + 1
    had = [name.removeprefix(f"{kind}.") for name in known if name.startswith(f"{kind}.")]
    room = WIDE_KEYS - len(had)
    new = sorted((k for k in counts if f"{kind}.{k}" not in known), key=lambda k: (-counts[k], k))
    chosen = [key for key in had if key in counts] + new[: max(room, 0)]
    return sorted(chosen), len(new) > max(room, 0)


def value_of(row: Mapping[str, Any] | None, group: str, key: str) -> Any:
    """Return what the column *group*.*key* would have of a row."""
    if row is None:
        return None
    if group in _SUMMARY:
        summary = row["metrics"].get(key)
        return None if summary is None else summary[_SUMMARY[group]]
    return _text(param_value(row[group], key))


def _text(value: Any) -> str | None:
    return None if value is None else as_text(value)
