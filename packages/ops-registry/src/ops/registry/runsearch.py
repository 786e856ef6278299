"""Selecting runs: rows of the index, filtered, ordered and cut."""

from __future__ import annotations

import heapq
import math
from typing import TYPE_CHECKING, Any

from ops.registry.filters import comparison, compile_filter, compile_order

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, Sequence

    import pandas as pd

    from ops.registry.filters import Lookup, Predicate
    from ops.registry.records import Run

__all__ = ["FIELDS", "select", "to_table"]

#: The plain fields of a run in filters and orders, and where a row has them.
FIELDS = {
    "run_id": "run_id",
    "name": "name",
    "status": "status",
    "start_time": "start",
    "end_time": "end",
    "parent_run_id": "parent",
}


def select(
    rows: Iterable[dict[str, Any]],
    metric_filter: Mapping[str, tuple[str, float]],
    text: str | None,
    order_by: str | None,
    limit: int | None,
) -> list[dict[str, Any]]:
    """Return the rows for which all filters hold, ordered, at most *limit*."""
    predicates: list[Predicate] = [
        comparison(f"metrics.{key}", sign, value) for key, (sign, value) in metric_filter.items()
    ]
    if text is not None and text.strip():
        predicates.append(compile_filter(text, tuple(FIELDS)))
    order = compile_order(order_by, tuple(FIELDS))
    found = [r for r in rows if all(p(_lookup(r)) for p in predicates)]
    return ordered(found, order, limit)


def ordered(
    rows: list[dict[str, Any]], order: tuple[str, bool] | None, limit: int | None
) -> list[dict[str, Any]]:
    """Return *rows* by a field; those without it, and NaN, come last in either direction."""
    if order is None:
        return rows[:limit]
    field, descending = order
    keyed = [(_lookup(row)(field), row) for row in rows]
    there = [(v, r) for v, r in keyed if not _absent(v)]
    absent = [r for v, r in keyed if _absent(v)]

    def key(item: tuple[Any, dict[str, Any]]) -> tuple[bool, Any]:
        numeric = isinstance(item[0], (int, float))
        return numeric, item[0] if numeric else str(item[0])

    if limit is not None and limit < len(there):
        pick = heapq.nlargest if descending else heapq.nsmallest
        return [row for _, row in pick(limit, there, key=key)]
    there.sort(key=key, reverse=descending)
    return [*(row for _, row in there), *absent][:limit]


def to_table(runs: Sequence[Run]) -> pd.DataFrame:
    """Return one row per run: name, status, duration, params.*, metrics.*."""
    import pandas as pd

    records = [
        {"name": r.name, "status": str(r.status), "duration_seconds": r.duration_seconds}
        | {f"params.{k}": v for k, v in r.parameters.items()}
        | {f"metrics.{k}": v for k, v in r.metrics.items()}
        for r in runs
    ]
    return pd.DataFrame(records, index=pd.Index([r.run_id for r in runs], name="run_id"))


def _absent(value: Any) -> bool:
    return value is None or (isinstance(value, float) and math.isnan(value))


def _lookup(row: dict[str, Any]) -> Lookup:
    def find(field: str) -> Any:
        group, dot, key = field.partition(".")
        if not dot:
            return row[FIELDS[field]]
        found = row[group].get(key)
        return found[0] if found is not None and group == "metrics" else found

    return find
