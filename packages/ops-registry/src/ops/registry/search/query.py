"""Searches of runs: a filter, an order, and the requested part of the result; parsed once, run on any store.

A store that holds rows asks `Query.holds` of each, or takes `Query.selected`; one with columns or SQL compiles
`Query.node` and `Query.orders`.
"""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Any

from ops.registry.errors import InvalidValueError
from ops.registry.run_rows import SUMMARY_FIELDS
from ops.registry.search.filters import (
    Both,
    Kind,
    Test,
    comparison,
    holds,
    kind_of,
    param_value,
    sort_key,
)
from ops.registry.search.parser import parse_filter, parse_orders
from ops.registry.validators import check_count, check_key, check_mapping

if TYPE_CHECKING:
    from collections.abc import Hashable, Iterable, Mapping, Sequence

    import pandas as pd

    from ops.registry.records import Run
    from ops.registry.run_rows import RunRow
    from ops.registry.search.filters import Lookup, Node, Order

__all__ = ["FIELDS", "KINDS", "Query", "lookup", "rank", "to_table"]

#: The fields of a run without a group: how they compare, and where a row has them.
FIELDS = {
    "run_id": (Kind.TEXT, "run_id"),
    "name": (Kind.TEXT, "name"),
    "status": (Kind.TEXT, "status"),
    "start_time": (Kind.TIME, "start"),
    "end_time": (Kind.TIME, "end"),
    "parent_run_id": (Kind.TEXT, "parent"),
    "deleted_at": (Kind.TIME, "deleted"),
}
KINDS = {name: kind for name, (kind, _) in FIELDS.items()}
#: Deleted runs are found only by those who ask for them.
_NOT_DELETED = Test(
    "deleted_at", Kind.TIME, lambda _: False, if_absent=True, question="null", negated=False
)


class Query:
    """The query, parsed once: which runs, in which order, how many from which position on."""

    def __init__(
        self,
        text: str | None = None,
        metric_filter: Mapping[str, tuple[str, float]] | None = None,
        order_by: str | Sequence[str] | None = None,
        limit: int | None = None,
        offset: int = 0,
        *,
        include_deleted: bool = False,
    ) -> None:
        if limit is not None:
            check_count("limit", limit)
        check_count("offset", offset)
        wanted = _metric_tests(metric_filter)
        parts: list[Node] = [
            comparison(f"metrics.{key}", kind_of(f"metrics.{key}", KINDS), sign, value)
            for key, sign, value in wanted
        ]
        parsed = parse_filter(text, KINDS)
        parts += [] if parsed is None else [parsed]
        if not include_deleted and (text is None or "deleted_at" not in text):
            parts.append(_NOT_DELETED)
        self.node: Node | None = Both(tuple(parts)) if parts else None
        self.orders: tuple[Order, ...] = parse_orders(order_by, KINDS)
        self.limit: int | None = limit
        self.offset: int = offset
        self.end: int | None = None if limit is None else offset + limit
        #: What distinguishes it from queries that find other rows, or order them in another way.
        self.key: tuple[Hashable, ...] = (
            text,
            tuple(wanted),
            self.orders,
            self.end,
            include_deleted,
        )

    def selected(self, rows: Iterable[RunRow]) -> list[RunRow]:
        """Return those of *rows* that match, in order, from the offset on and up to the limit."""
        return self.sorted(filter(self.holds, rows))[self.offset : self.end]

    def sorted(self, rows: Iterable[RunRow]) -> list[RunRow]:
        """Return rows in the requested order, then oldest first."""
        return sorted(rows, key=self.order_key)

    def order_key(self, row: RunRow) -> tuple[Any, ...]:
        """Return what orders rows by the query's fields, then oldest first; see `rank`."""
        find = lookup(row)
        ranks = (rank(find(order.field), order) for order in self.orders)
        return (*ranks, row.start, row.run_id)

    def holds(self, row: RunRow) -> bool:
        """Whether a row matches."""
        return self.node is None or holds(self.node, lookup(row))


def _metric_tests(metric_filter: Mapping[str, Any] | None) -> list[tuple[str, str, float | str]]:
    """Return (metric, sign, value) triples, sorted by metric, or say which of them is none."""
    found = []
    for key, requested in check_mapping("metric_filter", metric_filter).items():
        match requested:
            case (str(sign), (int() | float() | str()) as value) if not isinstance(value, bool):
                found.append((check_key(key), sign, value))
            case _:
                raise InvalidValueError(
                    f"metric_filter[{key!r:.80}] must be a sign and a number, such as ('>', 0.9), "
                    f"not {requested!r:.80}."
                )
    return sorted(found, key=lambda one: one[0])


def rank(value: Any, order: Order) -> tuple[bool, Any]:
    """Return what a value is ordered by; rows without one, and NaN, come last in either direction."""
    if value is None or (order.kind is Kind.NUMBER and math.isnan(value)):
        return True, 0
    key = sort_key(order.kind, value)
    return False, _Falling(key) if order.descending else key


class _Falling:
    """Orders the other way round."""

    __slots__ = ("key",)

    def __init__(self, key: Any) -> None:
        self.key = key

    def __lt__(self, other: _Falling) -> bool:
        return bool(other.key < self.key)

    def __eq__(self, other: object) -> bool:
        return isinstance(other, _Falling) and bool(self.key == other.key)

    __hash__ = None  # type: ignore[assignment]  # it is compared, never kept


def lookup(row: RunRow) -> Lookup:
    """Return what finds the fields of a row."""

    def find(field: str) -> Any:
        group, dot, key = field.partition(".")
        if not dot:
            return getattr(row, FIELDS[field][1])
        if group in SUMMARY_FIELDS:
            summary = row.metrics.get(key)
            return None if summary is None else getattr(summary, SUMMARY_FIELDS[group])
        return param_value(row.params, key) if group == "params" else row.tags.get(key)

    return find


def to_table(runs: Sequence[Run]) -> pd.DataFrame:
    """Return one row per run: name, status, duration, params.*, metrics.*."""
    import pandas as pd

    records = [
        {"name": r.name, "status": str(r.status), "duration_seconds": r.duration_seconds}
        | {f"params.{k}": _shown(v) for k, v in r.parameters.items()}
        | {f"metrics.{k}": v for k, v in r.metrics.items()}
        for r in runs
    ]
    return pd.DataFrame(records, index=pd.Index([r.run_id for r in runs], name="run_id"))


def _shown(value: Any) -> Any:
    """Return a value that a column of texts takes: half of a surrogate pair becomes its escape."""
    if not isinstance(value, str) or value.isascii():
        return value
    return value.encode("utf-8", "backslashreplace").decode()
