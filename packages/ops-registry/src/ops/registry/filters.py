"""The language of searches: ``metrics.auc > 0.9 and (params.depth = 3 or tags.team like 'ds%')``.

    expression := term (OR term)*          term := factor (AND factor)*
    factor     := NOT factor | '(' expression ')' | comparison
    comparison := field (= | == | != | <> | < | <= | > | >=) value
                | field [NOT] LIKE 'text with % and _' | field [NOT] IN (value, ...)
                | field IS [NOT] NULL
    field      := name | group '.' name   (a name may stand in "" or ``)
    group      := metrics | metrics_min | metrics_max | params | tags

A field that a record does not have makes every comparison but IS NULL false, as in SQL; NOT then
makes it true. What is compared depends on the field, never on the row:

- numbers (metrics, version): the value must be a number. Times take numbers (nanoseconds since the
  epoch) and ISO texts, UTC unless they say otherwise: ``start_time > '2026-01-31'``;
- texts (name, status, run_id): compared as texts;
- parameters and tags: as numbers where both sides read as one (``params.depth = '3'``), else as
  texts; what is no number is unequal to every number and neither less nor greater. A parameter
  that is no text counts as its JSON: ``params.flag = 'true'``.

`parse_filter` gives a tree of `Test`, `Both`, `Either` and `Inverse` that any backend can evaluate its
own way: a `Test` asks one field one question. What is wrong raises `FilterError` with the position.
"""

from __future__ import annotations

import datetime as dt
import math
import operator
import re
from dataclasses import dataclass
from enum import Enum
from typing import TYPE_CHECKING, Any, NamedTuple, NoReturn, TypeAlias

from ops.registry.errors import FilterError, InvalidValueError

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

__all__ = [
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
    "parse_filter",
    "parse_order",
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
    """Whether *accepts* says yes to a field's value; without a value the answer is *if_absent*.

    A comparison of numbers also says its *sign* and *bound*, for those who compare whole columns.
    """

    field: str
    kind: Kind
    accepts: Callable[[Any], bool]
    if_absent: bool = False
    sign: str | None = None
    bound: float = math.nan


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


_GROUPS = {
    "metrics": Kind.NUMBER,
    "metrics_min": Kind.NUMBER,
    "metrics_max": Kind.NUMBER,
    "params": Kind.MIXED,
    "tags": Kind.MIXED,
}
_TOKEN = re.compile(
    r"""\s*(?:(?P<number>[+-]?(?:\d+\.?\d*|\.\d+)(?:[eE][+-]?\d+)?(?![\w.]))
    |(?P<text>'(?:[^']|'')*')
    |(?P<field>[A-Za-z_]\w*(?:\.(?:[\w./:-]*[\w/]|"[^"]+"|`[^`]+`))*)
    |(?P<operator><=|>=|!=|<>|==|=|<|>|\(|\)|,))""",
    re.VERBOSE,
)
_COMPARE: dict[str, Callable[[Any, Any], Any]] = {
    "=": operator.eq,
    "!=": operator.ne,
    "<": operator.lt,
    "<=": operator.le,
    ">": operator.gt,
    ">=": operator.ge,
}
_SAME = {"==": "=", "<>": "!="}
_LATEST = 2**63 - 1  # nanoseconds: the year 2262
_WORDS = {"and", "or", "not", "like", "in", "is", "null"}


class _Token(NamedTuple):
    kind: str
    value: str
    position: int


def parse_filter(text: str | None, fields: Mapping[str, Kind]) -> Node | None:
    """Return the tree of *text*, None when it is empty; *fields* are the names without a group."""
    if text is None or not text.strip():
        return None
    return _Parser(text, fields).parse()


def parse_order(text: str | None, fields: Mapping[str, Kind]) -> Order | None:
    """Return what ``"metrics.auc DESC"`` asks for; None stays None."""
    if text is None:
        return None
    parts = text.rsplit(None, 1)
    directed = len(parts) == 2 and parts[1].upper() in {"ASC", "DESC"}
    parser = _Parser(parts[0] if directed else text, fields)
    field = parser.field()
    parser.expect_end()
    return Order(field, kind_of(field, fields), directed and parts[1].upper() == "DESC")


def comparison(field: str, kind: Kind, sign: str, value: float | str) -> Test:
    """Return the test whether *field* compares to *value* by *sign*."""
    sign = _SAME.get(sign, sign)
    compare = _COMPARE.get(sign)
    if compare is None:
        raise InvalidValueError(f"{sign!r} is no comparison; use one of {list(_COMPARE)}.")
    if kind in {Kind.NUMBER, Kind.TIME}:
        number = _bound(field, kind, value)
        return Test(field, kind, lambda v: bool(compare(v, number)), sign=sign, bound=number)
    text = as_text(value)
    wanted = as_number(text) if kind is Kind.MIXED else None
    if wanted is None:
        return Test(field, kind, lambda v: bool(compare(as_text(v), text)))

    def numeric(found: Any) -> bool:
        number = as_number(as_text(found))
        return sign == "!=" if number is None else bool(compare(number, wanted))

    return Test(field, kind, numeric)


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
    return _GROUPS[group] if dot else fields[field]


def as_text(value: Any) -> str:
    """Return a parameter or tag as the text that it is compared as."""
    if isinstance(value, str):
        return value
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, (int, float)):
        return repr(value)
    from ops.registry.journal import encode

    return encode(value).decode()


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


class _Parser:
    def __init__(self, text: str, fields: Mapping[str, Kind]) -> None:
        self.text = text
        self.fields = fields
        self.tokens: list[_Token] = list(self._scan())
        self.index = 0

    def parse(self) -> Node:
        node = self._any()
        self.expect_end()
        return node

    def expect_end(self) -> None:
        if self._token.kind != "end":
            self._fail(f"Here should be the end, not {self._token.value!r}.")

    def field(self) -> str:
        token = self._token
        name = token.value
        if token.kind != "field" or name.lower() in _WORDS:
            self._fail("Here should be a field, such as metrics.auc.")
        group, dot, key = name.partition(".")
        if dot:
            if group not in _GROUPS:
                self._fail(f"{group!r} is no group; use one of {', '.join(_GROUPS)}.")
            quoted = key[0] in {'"', "`"}
            name = f"{group}.{key[1:-1] if quoted else key}"
        elif name not in self.fields:
            self._fail(f"{name!r} is no field; use one of {', '.join(sorted(self.fields))}.")
        self.index += 1
        return name

    def _scan(self) -> Any:
        position = 0
        end = len(self.text.rstrip())
        while position < end:
            match = _TOKEN.match(self.text, position)
            if match is None or match.lastgroup is None:
                start = position + len(self.text[position:]) - len(self.text[position:].lstrip())
                raise FilterError("This cannot be read.", text=self.text, position=start)
            yield _Token(match.lastgroup, match[match.lastgroup], match.start(match.lastgroup))
            position = match.end()
        yield _Token("end", "", end)

    @property
    def _token(self) -> _Token:
        return self.tokens[self.index]

    def _fail(self, message: str) -> NoReturn:
        raise FilterError(message, text=self.text, position=self._token.position)

    def _accept(self, word: str) -> bool:
        token = self._token
        if token.kind in {"field", "operator"} and token.value.lower() == word:
            self.index += 1
            return True
        return False

    def _expect(self, word: str) -> None:
        if not self._accept(word):
            self._fail(f"Here should be {word.upper()!r}.")

    def _any(self) -> Node:
        parts = [self._all()]
        while self._accept("or"):
            parts.append(self._all())
        return parts[0] if len(parts) == 1 else Either(tuple(parts))

    def _all(self) -> Node:
        parts = [self._factor()]
        while self._accept("and"):
            parts.append(self._factor())
        return parts[0] if len(parts) == 1 else Both(tuple(parts))

    def _factor(self) -> Node:
        if self._accept("not"):
            return Inverse(self._factor())
        if self._accept("("):
            node = self._any()
            self._expect(")")
            return node
        return self._comparison()

    def _comparison(self) -> Node:
        field = self.field()
        kind = kind_of(field, self.fields)
        if self._accept("is"):
            present = self._accept("not")
            self._expect("null")
            return Test(field, kind, lambda _: present, if_absent=not present)
        if self._token.kind == "operator" and _SAME.get(self._token.value, self._token.value) in (
            _COMPARE
        ):
            sign = self._token.value
            self.index += 1
            return self._compared(field, kind, sign)
        negated = self._accept("not")
        if self._accept("like"):
            accepts = self._pattern(field, kind)
        elif self._accept("in"):
            accepts = self._membership(field, kind)
        else:
            self._fail("Here should be a comparison (=, !=, <, <=, >, >=, LIKE, IN or IS).")
        if not negated:
            return Test(field, kind, accepts)
        return Test(field, kind, lambda value: not accepts(value))

    def _compared(self, field: str, kind: Kind, sign: str) -> Test:
        position = self.index
        value = self._value(kind)
        try:
            return comparison(field, kind, sign, value)
        except FilterError:
            raise
        except InvalidValueError as error:
            self.index = position
            self._fail(error.message)

    def _membership(self, field: str, kind: Kind) -> Callable[[Any], bool]:
        self._expect("(")
        tests = [self._compared(field, kind, "=")]
        while self._accept(","):
            tests.append(self._compared(field, kind, "="))
        self._expect(")")
        return lambda value: any(test.accepts(value) for test in tests)

    def _pattern(self, field: str, kind: Kind) -> Callable[[Any], bool]:
        if kind in {Kind.NUMBER, Kind.TIME}:
            self._fail(f"{field} is a {kind.value}, which has no LIKE.")
        pattern = str(self._value(Kind.TEXT))
        parts = (".*" if c == "%" else "." if c == "_" else re.escape(c) for c in pattern)
        matches = re.compile("".join(parts), re.DOTALL).fullmatch
        return lambda value: matches(as_text(value)) is not None

    def _value(self, kind: Kind) -> float | str:
        token = self._token
        if token.kind not in {"number", "text"}:
            self._fail("Here should be a number or a 'text'.")
        self.index += 1
        if token.kind == "text":
            return token.value[1:-1].replace("''", "'")
        if kind in {Kind.NUMBER, Kind.TIME}:
            number = as_number(token.value)
            return math.inf if number is None else number  # 1e999
        return token.value


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
        moment = dt.datetime.fromisoformat(text)
    except ValueError:
        return None
    moment = moment if moment.tzinfo else moment.replace(tzinfo=dt.UTC)
    return round(moment.timestamp() * 1_000_000) * 1000
