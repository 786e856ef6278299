"""Selecting runs: the base of an index by columns, what is on top of it row by row, then both.

Both sides come back in the same order, so what is left is to merge two short lists: with a *limit*
no more rows of the base are read than can be in the answer, and with an *offset* none that must be before it.
"""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Any

from ops.registry.errors import InvalidValueError
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
from ops.registry.search.runtable import FIELDS
from ops.registry.tracking.liveness import with_liveness
from ops.registry.validators import check_count, check_key, check_mapping

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, Sequence

    import pandas as pd

    from ops.registry.records import Run
    from ops.registry.search.filters import Lookup, Node, Order
    from ops.registry.search.indexview import Snapshot
    from ops.registry.search.runindex import RunIndex

__all__ = ["Query", "lookup", "to_table"]

KINDS = {name: kind for name, (kind, _) in FIELDS.items()}
#: Answers that are kept while an index stays as it is, and how long they may be.
_KEPT_ANSWERS, _KEPT_ROWS = 64, 1000
#: Deleted runs are found only by those who ask for them.
_NOT_DELETED = Test(
    "deleted_at", Kind.TIME, lambda _: False, if_absent=True, question="null", negated=False
)
_SUMMARY = {"metrics": 0, "metrics_min": 3, "metrics_max": 4}


class Query:
    """What is asked, parsed once: which runs, in which order, how many from which place on."""

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
        for name, number in (("limit", limit), ("offset", offset)):
            if number is not None:
                check_count(name, number)
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
        self._end = None if limit is None else offset + limit
        self._key = (text, tuple(wanted), self.orders, self._end, include_deleted)

    def rows(self, indexes: Sequence[RunIndex]) -> list[dict[str, Any]]:
        """Return the rows that are asked for; those of dead runs as STALE."""
        if len(indexes) == 1:
            passed, found = self._matching(indexes[0], self.offset)
        else:
            passed, found = 0, [row for index in indexes for row in self._matching(index)[1]]
        return self._cut(found, passed)[self.offset - passed :]

    def count(self, indexes: Sequence[RunIndex]) -> int:
        """Return how many runs are meant, whatever the limit."""
        return sum(map(self._counted, indexes))

    def _counted(self, index: RunIndex) -> int:
        snapshot = index.snapshot()
        found = sum(map(self.holds, snapshot.settled.values()))
        if snapshot.base is not None:
            found += snapshot.base.matching(self.node, snapshot.hidden)
        return found + sum(map(self.holds, _living(snapshot, index)))

    def _matching(self, index: RunIndex, offset: int = 0) -> tuple[int, list[dict[str, Any]]]:
        """Return how many rows before *offset* were passed over, and those found after them."""
        snapshot = index.snapshot()  # its own: no lock is held while a filter runs
        # At most so many rows come between those of the base: the others before it are passed.
        passed = max(0, offset - len(snapshot.settled) - len(snapshot.live))
        key = (*self._key, passed)
        found = snapshot.memo.get(key)
        if found is None:
            found = self._resting(snapshot, passed)
            if len(found) <= _KEPT_ROWS:
                if len(snapshot.memo) >= _KEPT_ANSWERS:
                    snapshot.memo.clear()
                snapshot.memo[key] = found
        return passed, [*found, *filter(self.holds, _living(snapshot, index))]

    def _resting(self, snapshot: Snapshot, passed: int) -> list[dict[str, Any]]:
        """Return what is found among the rows that no journal changes any more."""
        found = [row for row in snapshot.settled.values() if self.holds(row)]
        if snapshot.base is not None:
            places = snapshot.base.positions(self.node, self.orders, self._end, snapshot.hidden)
            found += snapshot.base.rows(places[passed:])
        return self._cut(found, passed)

    def _cut(self, rows: Iterable[dict[str, Any]], passed: int) -> list[dict[str, Any]]:
        """Return rows in the order that is asked for, or oldest first, up to the limit."""
        found = sorted(rows, key=lambda row: (row["start"], row["run_id"]))
        for order in reversed(self.orders):  # sorting is stable
            found = ordered(found, order)
        return found if self._end is None else found[: self._end - passed]

    def holds(self, row: Mapping[str, Any]) -> bool:
        """Whether a row is one that is asked for."""
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


def _living(snapshot: Snapshot, index: RunIndex) -> Iterable[dict[str, Any]]:
    return (with_liveness(row, index.folder) for row in snapshot.live.values())


def ordered(rows: Sequence[dict[str, Any]], order: Order) -> list[dict[str, Any]]:
    """Return *rows* by a field; those without it, and NaN, come last in either direction."""
    there: list[tuple[Any, dict[str, Any]]] = []
    absent: list[dict[str, Any]] = []
    for row in rows:
        value = lookup(row)(order.field)
        if value is None or (order.kind is Kind.NUMBER and math.isnan(value)):
            absent.append(row)
        else:
            there.append((sort_key(order.kind, value), row))
    there.sort(key=lambda pair: pair[0], reverse=order.descending)
    return [*(row for _, row in there), *absent]


def lookup(row: Mapping[str, Any]) -> Lookup:
    """Return what finds the fields of a row."""

    def find(field: str) -> Any:
        group, dot, key = field.partition(".")
        if not dot:
            return row.get(FIELDS[field][1])
        if group in _SUMMARY:
            summary = row["metrics"].get(key)
            return None if summary is None else summary[_SUMMARY[group]]
        return param_value(row[group], key) if group == "params" else row[group].get(key)

    return find


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
