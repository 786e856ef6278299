# mypy: disable-error-code="no-untyped-call"
# (MLflow's search utilities are not annotated)
"""The orders that MLflow's searches can ask for: of single rows, and of the columns of the index.

MLflow orders by several fields, then by start, newest first, then by id. Runs without a value come
last in either direction, those with NaN before them. Times count in milliseconds, statuses by MLflow's
names. `RunOrder.key` is the order of a row and `RunOrder.positions` that of a whole table, equally, so
that rows from both can be merged; a test compares both with MLflow's own sort.
"""

from __future__ import annotations

import functools
import math
from typing import TYPE_CHECKING, Any, NamedTuple

from mlflow.utils.mlflow_tags import MLFLOW_PARENT_RUN_ID
from mlflow.utils.search_utils import SearchUtils

from ops.registry.local.index import arrays
from ops.registry.mlflow.entities import to_mlflow_status
from ops.registry.mlflow.errors import invalid
from ops.registry.search.filters import Kind

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from ops.registry.local.index.run_table import RunTable
    from ops.registry.mlflow.entities import Seen

__all__ = ["RunOrder", "parse_order"]

_GROUPS = {"metric": "metrics", "parameter": "params", "tag": "tags"}
_TIMES = ("start_time", "end_time")
#: Attributes of texts, and the columns that order runs of one experiment as they do.
_TEXTS = {"run_id": "run_id", "artifact_uri": "run_id", "run_name": "name", "status": "status"}
_NS_PER_MS = 1_000_000


class _Clause(NamedTuple):
    kind: str
    key: str
    ascending: bool


class RunOrder:
    """An order of runs, as *clauses* and, after those, newest first."""

    def __init__(self, clauses: Sequence[_Clause]) -> None:
        self._clauses = tuple(clauses)

    def key(self, seen: Seen) -> tuple[Any, ...]:
        """Return what orders one run among others."""
        parts = [_rank(_value(seen, c.kind, c.key), ascending=c.ascending) for c in self._clauses]
        return (*parts, -seen.start_time, seen.run_id)

    def positions(self, table: RunTable) -> Any | None:
        """Return all positions of *table* in this order, None where its columns do not give it."""
        return table.kept(self, lambda: self._sorted(table))

    def _sorted(self, table: RunTable) -> Any | None:
        import pyarrow as pa

        made: list[tuple[Any, bool]] = []
        for clause in self._clauses:
            column = _column(table, clause)
            if column is None:
                return None
            made.append((column, clause.ascending))
        made += [(_millis(table, "start_time"), False), (table.column("run_id"), True)]
        names = [str(at) for at in range(len(made))]
        directions = ["ascending" if ascending else "descending" for _, ascending in made]
        columns = pa.table([column for column, _ in made], names=names)
        # By default what is null comes last, and NaN before it.
        return arrays.compute().sort_indices(columns, list(zip(names, directions, strict=True)))

    def __eq__(self, other: object) -> bool:
        return isinstance(other, RunOrder) and self._clauses == other._clauses

    def __hash__(self) -> int:
        return hash(self._clauses)


def parse_order(order_by: Sequence[str] | None) -> RunOrder:
    """Return what MLflow's clauses say; a field that is named twice is refused."""
    clauses = []
    for text in order_by or ():
        kind, key, ascending = SearchUtils.parse_order_by_for_search_runs(text)
        clauses.append(_Clause(kind, SearchUtils.translate_key_alias(key), ascending))
    if len({clause[:2] for clause in clauses}) < len(clauses):
        raise invalid(f"`order_by` contains duplicate fields: {order_by}")
    return RunOrder(clauses)


def _value(seen: Seen, kind: str, key: str) -> Any:
    if kind in _GROUPS:
        return getattr(seen, _GROUPS[kind]).get(key)
    return getattr(seen, key)


def _rank(value: Any, *, ascending: bool) -> tuple[int, Any]:
    if value is None:
        return 2, 0
    if isinstance(value, float) and math.isnan(value):
        return 1, 0
    return 0, value if ascending else _reversed(value)


def _reversed(value: Any) -> Any:
    return _Backwards(value) if isinstance(value, str) else -value


@functools.total_ordering
class _Backwards:
    """A text that comes after those that it is less than."""

    __slots__ = ("_text",)

    def __init__(self, text: str) -> None:
        self._text = text

    def __eq__(self, other: object) -> bool:
        return isinstance(other, _Backwards) and self._text == other._text

    def __lt__(self, other: _Backwards) -> bool:
        return other._text < self._text

    __hash__ = None  # type: ignore[assignment]  # it is compared and nothing else


def _column(table: RunTable, clause: _Clause) -> Any | None:
    kind, key, _ = clause
    if kind == "metric":
        return table.numbers(f"metrics.{key}")
    if kind in _GROUPS:
        # The parent is a field of its own here, which a tag of MLflow's may name as well.
        return None if key == MLFLOW_PARENT_RUN_ID else _ranked(table, f"{_GROUPS[kind]}.{key}")
    if key in _TIMES:
        return _millis(table, key)
    if key in _TEXTS:
        return _ranked(table, _TEXTS[key], to_mlflow_status if key == "status" else str)
    return None


def _ranked(table: RunTable, field: str, meaning: Callable[[str], str] = str) -> Any:
    return table.texts(field).ranks(Kind.TEXT, meaning)


def _millis(table: RunTable, field: str) -> Any:
    import pyarrow as pa

    pc = arrays.compute()
    times = pc.cast(table.numbers(field), pa.timestamp("ns"))
    return pc.cast(pc.floor_temporal(times, unit="millisecond"), pa.int64())
