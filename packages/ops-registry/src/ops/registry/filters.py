"""The language of searches: ``metrics.auc > 0.9 and (params.depth = 3 or tags.team like 'ds%')``.

    expression := term (OR term)*          term := factor (AND factor)*
    factor     := NOT factor | '(' expression ')' | comparison
    comparison := field (= | == | != | <> | < | <= | > | >=) value
                | field [NOT] LIKE 'text with % and _' | field [NOT] IN (value, ...)
                | field IS [NOT] NULL
    field      := name | (metrics | params | tags) '.' name   (a name may stand in "" or ``)

A field that a record does not have makes every comparison but IS NULL false, as in SQL. A value
that is a number compares as a number with values that read as one, otherwise texts are compared.
`compile_filter` parses once and returns a predicate; what is wrong raises `FilterError` with the
position.
"""

from __future__ import annotations

import operator
import re
from typing import TYPE_CHECKING, Any, NamedTuple, NoReturn, TypeAlias

from ops.registry.errors import FilterError, InvalidValueError

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

__all__ = ["Lookup", "Predicate", "comparison", "compile_filter", "compile_order"]

#: Finds the value of a field in a record; None when it is not there.
Lookup: TypeAlias = "Callable[[str], Any]"
Predicate: TypeAlias = "Callable[[Lookup], bool]"

_TOKEN = re.compile(
    r"""\s*(?:(?P<number>[+-]?(?:\d+\.?\d*|\.\d+)(?:[eE][+-]?\d+)?(?![\w.]))
    |(?P<text>'(?:[^']|'')*')
    |(?P<field>[A-Za-z_]\w*(?:\.(?:[\w./:-]*[\w/]|"[^"]+"|`[^`]+`))*)
    |(?P<operator><=|>=|!=|<>|==|=|<|>|\(|\)|,))""",
    re.VERBOSE,
)
_COMPARE: dict[str, Callable[[Any, Any], Any]] = {
    "=": operator.eq,
    "==": operator.eq,
    "!=": operator.ne,
    "<>": operator.ne,
    "<": operator.lt,
    "<=": operator.le,
    ">": operator.gt,
    ">=": operator.ge,
}
_WORDS = {"and", "or", "not", "like", "in", "is", "null"}


class _Token(NamedTuple):
    kind: str
    value: str
    position: int


def compile_filter(text: str, fields: Sequence[str]) -> Predicate:
    """Return the predicate of *text*; *fields* are the plain names besides metrics, params, tags."""
    return _Parser(text, frozenset(fields)).parse()


def comparison(field: str, sign: str, value: Any) -> Predicate:
    """Return the predicate that *field* compares to *value* by *sign*."""
    try:
        compare = _COMPARE[sign]
    except KeyError:
        raise InvalidValueError(
            f"{sign!r} is no comparison; use one of {list(_COMPARE)}."
        ) from None

    def matches(lookup: Lookup) -> bool:
        found = lookup(field)
        if found is None:
            return False
        left, right = _comparable(found, value)
        return bool(compare(left, right))

    return matches


def compile_order(order_by: str | None, fields: Sequence[str]) -> tuple[str, bool] | None:
    """Return field and whether it descends, from ``"metrics.auc DESC"``; None stays None."""
    if order_by is None:
        return None
    parts = order_by.rsplit(None, 1)
    descending = len(parts) == 2 and parts[1].upper() == "DESC"
    text = parts[0] if len(parts) == 2 and parts[1].upper() in {"ASC", "DESC"} else order_by
    parser = _Parser(text, frozenset(fields))
    field = parser.field()
    parser.expect_end()
    return field, descending


class _Parser:
    def __init__(self, text: str, fields: frozenset[str]) -> None:
        self.text = text
        self.fields = fields
        self.tokens: list[_Token] = list(self._scan())
        self.index = 0

    def parse(self) -> Predicate:
        predicate = self._any()
        self.expect_end()
        return predicate

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
            if group not in {"metrics", "params", "tags"}:
                self._fail(f"{group!r} is no group; use metrics, params or tags.")
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

    def _any(self) -> Predicate:
        parts = [self._all()]
        while self._accept("or"):
            parts.append(self._all())
        return parts[0] if len(parts) == 1 else lambda lookup: any(p(lookup) for p in parts)

    def _all(self) -> Predicate:
        parts = [self._factor()]
        while self._accept("and"):
            parts.append(self._factor())
        return parts[0] if len(parts) == 1 else lambda lookup: all(p(lookup) for p in parts)

    def _factor(self) -> Predicate:
        if self._accept("not"):
            return _negated(self._factor())
        if self._accept("("):
            predicate = self._any()
            self._expect(")")
            return predicate
        return self._comparison()

    def _comparison(self) -> Predicate:
        field = self.field()
        if self._accept("is"):
            wanted = not self._accept("not")
            self._expect("null")
            return lambda lookup: (lookup(field) is None) is wanted
        if self._token.kind == "operator" and self._token.value in _COMPARE:
            sign = self._token.value
            self.index += 1
            return comparison(field, sign, self._value())
        negated = self._accept("not")
        if self._accept("like"):
            predicate = _like(field, str(self._value()))
        elif self._accept("in"):
            predicate = self._membership(field)
        else:
            self._fail("Here should be a comparison (=, !=, <, <=, >, >=, LIKE, IN or IS).")
        if not negated:
            return predicate
        return lambda lookup: lookup(field) is not None and not predicate(lookup)

    def _membership(self, field: str) -> Predicate:
        self._expect("(")
        parts = [comparison(field, "=", self._value())]
        while self._accept(","):
            parts.append(comparison(field, "=", self._value()))
        self._expect(")")
        return lambda lookup: any(p(lookup) for p in parts)

    def _value(self) -> Any:
        token = self._token
        if token.kind not in {"number", "text"}:
            self._fail("Here should be a number or a 'text'.")
        self.index += 1
        if token.kind == "number":
            return float(token.value)
        return token.value[1:-1].replace("''", "'")


def _negated(predicate: Predicate) -> Predicate:
    return lambda lookup: not predicate(lookup)


def _like(field: str, pattern: str) -> Predicate:
    parts = (".*" if c == "%" else "." if c == "_" else re.escape(c) for c in pattern)
    expression = re.compile("".join(parts), re.DOTALL)

    def matches(lookup: Lookup) -> bool:
        found = lookup(field)
        return found is not None and expression.fullmatch(str(found)) is not None

    return matches


def _comparable(found: Any, value: Any) -> tuple[Any, Any]:
    try:
        return float(found), float(value)
    except (TypeError, ValueError):
        return str(found), str(value)
