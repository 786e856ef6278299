"""Selecting runs: the base of an index by columns, what is on top of it row by row, then both.

Both sides come back in the same order, so what is left is to merge two lists without decoding the rows: with a *limit*
no more rows of the base are read than can be in the answer, and with an *offset* none that must be before it.
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
from ops.registry.search.runtable import FIELDS
from ops.registry.search.stored_rows import merged_rows, plain_row
from ops.registry.search.widerows import summary_value
from ops.registry.tracking.liveness import with_liveness
from ops.registry.validators import check_count, check_key, check_mapping

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, Sequence

    import pandas as pd

    from ops.registry.records import Run
    from ops.registry.run_rows import RunRow
    from ops.registry.search.filters import Lookup, Node, Order
    from ops.registry.search.indexview import Snapshot
    from ops.registry.search.runindex import RunIndex
    from ops.registry.search.stored_rows import AnyRow, StoredRow

__all__ = ["Query", "lookup", "to_table"]

KINDS = {name: kind for name, (kind, _) in FIELDS.items()}
#: Answers that are kept while an index stays as it is, and how long they may be.
_KEPT_ANSWERS, _KEPT_ROWS = 64, 1000
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

    def rows(self, indexes: Sequence[RunIndex]) -> list[RunRow]:
        """Return the matching rows; those of dead runs as STALE."""
        return list(map(plain_row, self.found(indexes)))

    def found(self, indexes: Sequence[RunIndex]) -> list[AnyRow]:
        """Return the matching rows as they are stored, so that few are decoded."""
        if len(indexes) == 1:
            passed, found = self._matching(indexes[0], self.offset)
            return found[self.offset - passed :]
        together = [plain_row(row) for index in indexes for row in self._matching(index)[1]]
        return list(self._sorted(together)[self.offset : self._end])

    def count(self, indexes: Sequence[RunIndex]) -> int:
        """Return how many runs are meant, whatever the limit."""
        return sum(map(self._counted, indexes))

    def _counted(self, index: RunIndex) -> int:
        snapshot = index.snapshot()
        found = sum(map(self.holds, snapshot.settled.values()))
        if snapshot.base is not None:
            found += snapshot.base.matching(self.node, snapshot.hidden)
        return found + sum(map(self.holds, _living(snapshot, index)))

    def _matching(self, index: RunIndex, offset: int = 0) -> tuple[int, list[AnyRow]]:
        """Return how many rows before *offset* were passed over, and those found after them, in order."""
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
        return passed, self._joined(found, filter(self.holds, _living(snapshot, index)), passed)

    def _resting(self, snapshot: Snapshot, passed: int) -> list[AnyRow]:
        """Return what is found among the rows that no journal changes any more."""
        stored: list[StoredRow] = []
        if snapshot.base is not None:
            positions = snapshot.base.positions(self.node, self.orders, self._end, snapshot.hidden)
            stored = snapshot.base.stored(positions[passed:])
        return self._joined(stored, filter(self.holds, snapshot.settled.values()), passed)

    def _joined(self, many: Sequence[AnyRow], few: Iterable[RunRow], passed: int) -> list[AnyRow]:
        """Return both in the order of the query, in which *many* are, up to the limit."""
        found = merged_rows(many, self._sorted(few), self._order_key)
        return found if self._end is None else found[: self._end - passed]

    def _sorted(self, rows: Iterable[RunRow]) -> list[RunRow]:
        return sorted(rows, key=self._order_key)

    def _order_key(self, row: RunRow) -> tuple[Any, ...]:
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


def _living(snapshot: Snapshot, index: RunIndex) -> Iterable[RunRow]:
    return (with_liveness(row, index.folder) for row in snapshot.live.values())


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
            return summary_value(row, group, key)
        return param_value(row.params, key) if group == "params" else row.tags.get(key)

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
