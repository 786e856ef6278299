"""Searches of runs as SQL: each field of the expression is a column, each value a parameter.

Metrics, parameters and tags are rows; for each that is used, one join brings the last (least,
greatest) value of it per run. SQL gives NULL where the language gives false, so every comparison stands in
COALESCE(…, FALSE), and NaN, which SQL puts above all numbers, is excluded. Numbers of parameters and tags
are compared as DOUBLE: whole numbers beyond 2^53 are not distinguished here.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from ops.registry.databricks.heartbeats import deletions, living
from ops.registry.databricks.parameters import Values
from ops.registry.search.filters import Both, Inverse, Kind, Test, as_number
from ops.registry.search.patterns import pattern_parts

if TYPE_CHECKING:
    from collections.abc import Sequence

    from ops.registry.search.filters import Node, Order

__all__ = ["POINTS", "RunSearch"]

#: The points of metrics, each once however often its batch was sent.
POINTS = "SELECT DISTINCT run_id, experiment_id, metric, value, step, logged_at, writer, place FROM"
_FIELDS = {
    "run_id": "r.run_id",
    "name": "r.name",
    "status": "r.status",
    "start_time": "r.started_at",
    "end_time": "r.ended_at",
    "parent_run_id": "r.parent_run_id",
    "deleted_at": "d.deleted_at",
}
_LAST = "max_by(value, struct(step, logged_at, place))"
_LEAST = "min_by(value, struct(isnan(value), value))"
_GREATEST = "max_by(value, struct(NOT isnan(value), value))"
_METRICS = {"metrics": _LAST, "metrics_min": _LEAST, "metrics_max": _GREATEST}
_KINDS = {"params": "param", "tags": "tag"}


class RunSearch:
    """One search: its `parameters`, the `statement` of ``run_id`` in order, and the `counting` one."""

    def __init__(
        self,
        experiments: Sequence[str],
        node: Node | None,
        orders: Sequence[Order] | None,
        limit: int | None,
        offset: int = 0,
    ) -> None:
        self._values = Values()
        self._joins: dict[str, str] = {}
        self._among = self._values.among(experiments)
        # Distinct: a start whose answer was lost is there twice until the run ends.
        self._source = f"SELECT DISTINCT * FROM @ops_runs WHERE experiment_id IN {self._among}"  # noqa: S608 - literals of this package, values are parameters
        holds = "" if node is None else f" AND {self._condition(node)}"
        ordering = [part for order in orders or () for part in self._ordering(order)]
        by = ", ".join([*ordering, "r.started_at", "r.run_id"])
        meant = (
            f"FROM ({self._source}) r {' '.join(self._joins.values())} "
            f"WHERE r.experiment_id IN {self._among}{holds}"
        )
        self.counting: str = f"SELECT count(*) AS runs {meant}"
        self.statement: str = f"SELECT r.run_id {meant} ORDER BY {by}"
        if limit is not None:
            self.statement += f" LIMIT {int(limit)}"
        if offset:
            self.statement += f" OFFSET {int(offset)}"

    @property
    def parameters(self) -> dict[str, Any]:
        """The values of both statements by their names."""
        return self._values.parameters

    def _value(self, value: float | str) -> str:
        return self._values.add(value)

    def _condition(self, node: Node) -> str:
        if isinstance(node, Test):
            return self._test(node)
        if isinstance(node, Inverse):
            return f"NOT {self._condition(node.part)}"
        glue = " AND " if isinstance(node, Both) else " OR "
        return f"({glue.join(map(self._condition, node.parts))})"

    def _test(self, test: Test) -> str:
        text, number = self._columns(test.field, test.kind)
        there = f"{text} IS NOT NULL"
        if test.question == "null":
            return there if test.negated else f"{text} IS NULL"
        if test.question in {"like", "ilike"}:
            pattern = _pattern(str(test.operands[0]))
            if test.question == "like":
                requested = f"{text} LIKE {self._value(pattern)}"
            else:
                requested = f"lower({text}) LIKE lower({self._value(pattern)})"
        elif test.question == "in":
            parts = [self._compared(test.kind, "=", v, text, number) for v in test.operands]
            requested = f"({' OR '.join(parts)})"
        else:
            requested = self._compared(test.kind, test.question, test.operands[0], text, number)
        requested = f"COALESCE({requested}, FALSE)"
        return f"({there} AND NOT {requested})" if test.negated else requested

    def _compared(self, kind: Kind, sign: str, value: float | str, text: str, number: str) -> str:
        sign = "<>" if sign == "!=" else sign
        if kind is Kind.NUMBER:
            compared = f"{text} {sign} {self._value(float(value))}"
            return (
                f"(isnan({text}) OR {compared})"
                if sign == "<>"
                else f"({compared} AND NOT isnan({text}))"
            )
        if kind is Kind.TIME:
            return f"{text} {sign} {self._value(int(value))}"
        wanted = as_number(str(value)) if kind is Kind.MIXED else None
        if wanted is None:
            return f"{text} {sign} {self._value(str(value))}"
        compared = f"{number} {sign} {self._value(float(wanted))}"
        if sign == "<>":
            return f"({text} IS NOT NULL AND ({number} IS NULL OR {compared}))"
        return compared

    def _ordering(self, order: Order) -> list[str]:
        text, number = self._columns(order.field, order.kind)
        way = "DESC" if order.descending else "ASC"
        if order.kind is Kind.NUMBER:
            value = f"CASE WHEN NOT isnan({text}) THEN {text} END"
            return [f"({value}) IS NULL", f"{value} {way}"]
        if order.kind is Kind.MIXED:
            # Numbers before texts; with a number the text does not decide.
            value = f"CASE WHEN {number} IS NULL THEN {text} END"
            return [
                f"{text} IS NULL",
                f"{number} IS NULL {way}",
                f"{number} {way}",
                f"{value} {way}",
            ]
        return [f"{text} IS NULL", f"{text} {way}"]

    def _columns(self, field: str, kind: Kind) -> tuple[str, str]:
        """Return the columns of a field's value, and of it as a number, joined if need be."""
        group, dot, key = field.partition(".")
        if field == "status":
            self._source = living(f"experiment_id IN {self._among}")
        if field == "deleted_at":
            meant = deletions(f"experiment_id IN {self._among}")
            self._joins[field] = f"LEFT JOIN ({meant}) d ON d.run_id = r.run_id"
        if not dot:
            return _FIELDS[field], _FIELDS[field]
        name = list(self._joins).index(field) if field in self._joins else len(self._joins)
        if field not in self._joins:
            self._joins[field] = self._join(f"f{name}", group, key)
        return (f"f{name}.v", f"f{name}.v") if kind is Kind.NUMBER else (f"f{name}.t", f"f{name}.n")

    def _join(self, name: str, group: str, key: str) -> str:
        if group in _METRICS:
            source = f"({POINTS} @ops_run_metrics)"
            columns = f"{_METRICS[group]} AS v"
            requested = f"metric = {self._value(key)}"
        else:
            source = "@ops_run_facts"
            last = "struct(logged_at, place)"
            columns = f"max_by(text, {last}) AS t, max_by(number, {last}) AS n"
            requested = f"kind = {self._value(_KINDS[group])} AND name = {self._value(key)}"
        return (
            f"LEFT JOIN (SELECT run_id, {columns} FROM {source} "  # noqa: S608 - literals of this package, values are parameters
            f"WHERE experiment_id IN {self._among} AND {requested} GROUP BY run_id) {name} "
            f"ON {name}.run_id = r.run_id"
        )


def _pattern(pattern: str) -> str:
    """Return a pattern of the language as one of SQL, where every backslash escapes."""
    signs = {None: "%", "": "_"}
    return "".join(
        signs[part]
        if not part
        else part.replace("\\", "\\\\").replace("%", "\\%").replace("_", "\\_")
        for part in pattern_parts(pattern)
    )
