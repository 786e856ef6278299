r"""The language of searches: ``metrics.auc > 0.9 and (params.depth = 3 or tags.team like 'ds%')``.

    expression := term (OR term)*          term := factor (AND factor)*
    factor     := NOT factor | '(' expression ')' | comparison
    comparison := field (= | == | != | <> | < | <= | > | >=) value
                | field [NOT] (LIKE | ILIKE) 'text with % and _' | field [NOT] IN (value, ...)
                | field IS [NOT] NULL
    value      := number | 'text' | "text" | null | None    (a quote in a text is doubled)
    field      := name | group '.' name   (a name may stand in "" or ``)
    group      := metrics | metrics_min | metrics_max | params | tags

A field that a record does not have makes every comparison but IS NULL false, as in SQL; NOT then
makes it true. What is compared depends on the field, never on the row:

- numbers (metrics, version): the value must be a number. Times take numbers (nanoseconds since the
  epoch) and ISO texts, UTC unless they say otherwise: ``start_time > '2026-01-31'``;
- texts (name, status, run_id): compared as texts;
- parameters and tags: as numbers where both sides read as one (``params.depth = '3'``), else as
  texts; what is no number is unequal to every number and neither less nor greater. A parameter
  that is no text counts as its JSON: ``params.flag = 'true'``. So ``params.depth = None`` (or ``= null``) finds
  a depth that was logged as None, and ``IS NULL`` those that were not logged.

In a pattern ``\%``, ``\_`` and ``\\`` are these characters themselves; ILIKE takes small and capital letters alike. A pattern
has up to 1 000 characters and costs one pass over a text; a filter has up to 100 000.

`ops.registry.search.parser.parse_filter` gives a tree of `Test`, `Both`, `Either` and `Inverse` that any backend can evaluate its
own way: a `Test` asks one field one question. What is wrong raises `FilterError` with the position.
"""

from __future__ import annotations

import datetime as dt
import math
import operator
from dataclasses import dataclass
from enum import Enum
from typing import TYPE_CHECKING, Any, NamedTuple, TypeAlias

from ops.registry.errors import InvalidValueError

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

__all__ = [
    "GROUPS",
    "SAME_SIGN",
    "SIGNS",
    "Both",
    "Either",
    "Inverse",
    "Kind",
    "Lookup",
    "Node",
    "Order",
    "Test",
    "as_number",
    "as_text",
    "comparison",
    "holds",
    "kind_of",
    "param_value",
    "sort_key",
]

#: Finds the value of a field in a record; None when it is not there.
Lookup: TypeAlias = "Callable[[str], Any]"


class Kind(Enum):
    """How the values of a field compare."""

    NUMBER = "number"
    TIME = "time"
    TEXT = "text"
    MIXED = "mixed"


@dataclass(frozen=True, slots=True)
class Test:
    """Whether *accepts* is true for a field's value; without a value the result is *if_absent*.

    A comparison of numbers also has its *sign* and *bound*, for comparing whole columns. For
    queries in SQL *question* is the operator: a sign, "like", "ilike", "in" or "null", and
    *operands* its operands; *negated* inverts all but the signs where there is a value.
    """

    field: str
    kind: Kind
    accepts: Callable[[Any], bool]
    if_absent: bool = False
    sign: str | None = None
    bound: float = math.nan
    question: str = ""
    operands: tuple[float | str, ...] = ()
    negated: bool = False


@dataclass(frozen=True, slots=True)
class Both:
    """All parts hold."""

    parts: tuple[Node, ...]


@dataclass(frozen=True, slots=True)
class Either:
    """At least one part holds."""

    parts: tuple[Node, ...]


@dataclass(frozen=True, slots=True)
class Inverse:
    """The part does not hold."""

    part: Node


Node: TypeAlias = "Test | Both | Either | Inverse"


class Order(NamedTuple):
    """A field to order by, and the direction."""

    field: str
    kind: Kind
    descending: bool


GROUPS = {
    "metrics": Kind.NUMBER,
    "metrics_min": Kind.NUMBER,
    "metrics_max": Kind.NUMBER,
    "params": Kind.MIXED,
    "tags": Kind.MIXED,
}
SIGNS: dict[str, Callable[[Any, Any], Any]] = {
    "=": operator.eq,
    "!=": operator.ne,
    "<": operator.lt,
    "<=": operator.le,
    ">": operator.gt,
    ">=": operator.ge,
}
SAME_SIGN = {"==": "=", "<>": "!="}
_LATEST = 2**63 - 1  # nanoseconds: the year 2262


def comparison(field: str, kind: Kind, sign: str, value: float | str) -> Test:
    """Return the test whether *field* compares to *value* by *sign*."""
    sign = SAME_SIGN.get(sign, sign)
    compare = SIGNS.get(sign)
    if compare is None:
        raise InvalidValueError(f"{sign!r} is no comparison; use one of {list(SIGNS)}.")
    if kind in {Kind.NUMBER, Kind.TIME}:
        number = _bound(field, kind, value)
        return Test(
            field,
            kind,
            lambda v: bool(compare(v, number)),
            sign=sign,
            bound=number,
            question=sign,
            operands=(number,),
        )
    text = as_text(value)
    requested: dict[str, Any] = {"question": sign, "operands": (text,)}
    wanted = as_number(text) if kind is Kind.MIXED else None
    if wanted is None:
        return Test(field, kind, lambda v: bool(compare(as_text(v), text)), **requested)

    def numeric(found: Any) -> bool:
        number = as_number(as_text(found))
        return sign == "!=" if number is None else bool(compare(number, wanted))

    return Test(field, kind, numeric, **requested)


def holds(node: Node, lookup: Lookup) -> bool:
    """Evaluate a tree on one record: what every other evaluation must agree with."""
    match node:
        case Test():
            value = lookup(node.field)
            return node.if_absent if value is None else node.accepts(value)
        case Both():
            return all(holds(part, lookup) for part in node.parts)
        case Either():
            return any(holds(part, lookup) for part in node.parts)
        case Inverse():
            return not holds(node.part, lookup)


def kind_of(field: str, fields: Mapping[str, Kind]) -> Kind:
    """Return how the values of a field that was parsed compare."""
    group, dot, _ = field.partition(".")
    return GROUPS[group] if dot else fields[field]


def as_text(value: Any) -> str:
    """Return a parameter or tag as the text that it is compared as."""
    if isinstance(value, str):
        return value
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, (int, float)):
        return repr(value)
    from ops.registry.json_values import encode

    return encode(value).decode()


def param_value(parameters: Mapping[str, Any], key: str) -> Any:
    """Return the value of a parameter; None when it was not logged, "null" when it was logged as None."""
    value = parameters.get(key)
    return "null" if value is None and key in parameters else value


def as_number(text: str) -> float | None:
    """Return the finite number that *text* reads as; whole ones stay exact, however long."""
    try:
        return int(text)
    except ValueError:
        pass
    try:
        number = float(text)
    except ValueError:
        return None
    return number if math.isfinite(number) else None


def sort_key(kind: Kind, value: Any) -> tuple[bool, Any]:
    """Return what orders the values of a field: numbers before texts where both occur."""
    if kind in {Kind.NUMBER, Kind.TIME}:
        return False, value
    text = as_text(value)
    number = as_number(text) if kind is Kind.MIXED else None
    return (True, text) if number is None else (False, number)


def _bound(field: str, kind: Kind, value: float | str) -> float:
    """Return what a number is compared with: a float, for a time whole nanoseconds of 64 bits."""
    number = as_number(value) if isinstance(value, str) else value
    if number is None and kind is Kind.TIME:
        number = _nanoseconds(str(value))
    if number is None:
        wanted = "a number" if kind is Kind.NUMBER else "a number or a time such as '2026-01-31'"
        raise InvalidValueError(f"{field} compares with {wanted}, not with {value!r}.")
    if kind is Kind.TIME:
        return int(max(-_LATEST, min(number, _LATEST)))
    try:
        return float(number)
    except OverflowError:
        return math.copysign(math.inf, number)


def _nanoseconds(text: str) -> int | None:
    try:
        time = dt.datetime.fromisoformat(text)
    except ValueError:
        return None
    time = time if time.tzinfo else time.replace(tzinfo=dt.UTC)
    return round(time.timestamp() * 1_000_000) * 1000
