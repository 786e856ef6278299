"""Selecting runs: the base of an index by columns, what is on top of it row by row, then both.

Both sides come back in the same order, so what is left is to merge two lists without decoding the rows: with a limit
no more rows of the base are read than can be in the answer, and with an offset none that must be before it.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from ops.registry.local.index.stored_rows import merged_rows, plain_row
from ops.registry.local.liveness import with_liveness

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from ops.registry.local.index.run_index import RunIndex
    from ops.registry.local.index.stored_rows import AnyRow, StoredRow
    from ops.registry.local.index.view import Snapshot
    from ops.registry.run_rows import RunRow
    from ops.registry.search.query import Query

__all__ = ["count", "found", "rows"]

#: Answers that are kept while an index stays as it is, and how long they may be.
_KEPT_ANSWERS, _KEPT_ROWS = 64, 1000


def rows(query: Query, indexes: Sequence[RunIndex]) -> list[RunRow]:
    """Return the matching rows; those of dead runs as STALE."""
    return list(map(plain_row, found(query, indexes)))


def found(query: Query, indexes: Sequence[RunIndex]) -> list[AnyRow]:
    """Return the matching rows as they are stored, so that few are decoded."""
    if len(indexes) == 1:
        passed, matching = _matching(query, indexes[0], query.offset)
        return matching[query.offset - passed :]
    together = [plain_row(row) for index in indexes for row in _matching(query, index)[1]]
    return list(query.sorted(together)[query.offset : query.end])


def count(query: Query, indexes: Sequence[RunIndex]) -> int:
    """Return how many runs are meant, whatever the limit."""
    return sum(_counted(query, index) for index in indexes)


def _counted(query: Query, index: RunIndex) -> int:
    snapshot = index.snapshot()
    counted = sum(map(query.holds, snapshot.settled.values()))
    if snapshot.base is not None:
        counted += snapshot.base.matching(query.node, snapshot.hidden)
    return counted + sum(map(query.holds, _living(snapshot, index)))


def _matching(query: Query, index: RunIndex, offset: int = 0) -> tuple[int, list[AnyRow]]:
    """Return how many rows before *offset* were passed over, and those found after them, in order."""
    snapshot = index.snapshot()  # its own: no lock is held while a filter runs
    # At most so many rows come between those of the base: the others before it are passed.
    passed = max(0, offset - len(snapshot.settled) - len(snapshot.live))
    key = (*query.key, passed)
    resting = snapshot.memo.get(key)
    if resting is None:
        resting = _resting(query, snapshot, passed)
        if len(resting) <= _KEPT_ROWS:
            if len(snapshot.memo) >= _KEPT_ANSWERS:
                snapshot.memo.clear()
            snapshot.memo[key] = resting
    living = filter(query.holds, _living(snapshot, index))
    return passed, _joined(query, resting, living, passed)


def _resting(query: Query, snapshot: Snapshot, passed: int) -> list[AnyRow]:
    """Return what is found among the rows that no journal changes any more."""
    stored: list[StoredRow] = []
    if snapshot.base is not None:
        positions = snapshot.base.positions(query.node, query.orders, query.end, snapshot.hidden)
        stored = snapshot.base.stored(positions[passed:])
    return _joined(query, stored, filter(query.holds, snapshot.settled.values()), passed)


def _joined(
    query: Query, many: Sequence[AnyRow], few: Iterable[RunRow], passed: int
) -> list[AnyRow]:
    """Return both in the order of the query, in which *many* are, up to the limit."""
    joined = merged_rows(many, query.sorted(few), query.order_key)
    return joined if query.end is None else joined[: query.end - passed]


def _living(snapshot: Snapshot, index: RunIndex) -> Iterable[RunRow]:
    return (with_liveness(row, index.folder) for row in snapshot.live.values())
