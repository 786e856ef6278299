"""Reading the search language; what it means is `ops.registry.search.filters`.

A scanner cuts the text into tokens with their positions, and a parser of one method per rule of the
grammar makes the tree. The first thing that does not fit raises `FilterError` with its position.
"""

from __future__ import annotations

import math
import re
from collections.abc import Iterable
from typing import TYPE_CHECKING, Any, NamedTuple, NoReturn, TypeAlias

from ops.registry.errors import FilterError, InvalidValueError
from ops.registry.search.filters import (
    GROUPS,
    SAME_SIGN,
    SIGNS,
    Both,
    Either,
    Inverse,
    Kind,
    Order,
    Test,
    as_number,
    as_text,
    comparison,
    kind_of,
)
from ops.registry.search.patterns import matcher
from ops.registry.validators import check_text

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

    from ops.registry.search.filters import Node

    #: The test of a value, and its operands.
    _Accepting: TypeAlias = tuple[Callable[[Any], bool], tuple[float | str, ...]]

__all__ = ["MOST_CHARACTERS", "parse_filter", "parse_order", "parse_orders"]

_TOKEN = re.compile(
    r"""\s*(?:(?P<number>[+-]?(?:\d+\.?\d*|\.\d+)(?:[eE][+-]?\d+)?(?![\w.]))
    |(?P<text>'(?:[^']|'')*'|"(?:[^"]|"")*")
    |(?P<field>[A-Za-z_]\w*(?:\.(?:[\w./:-]*[\w/]|"[^"]+"|`[^`]+`))*)
    |(?P<operator><=|>=|!=|<>|==|=|<|>|\(|\)|,))""",
    re.VERBOSE,
)
#: A longer text is no filter; thousands of ids in an IN are shorter.
MOST_CHARACTERS = 100_000
#: Far from where the parser, or what evaluates its tree, would run out of stack.
_DEEPEST = 50
_WORDS = {"and", "or", "not", "like", "ilike", "in", "is", "null"}
_NULLS = {"null", "none"}


class _Token(NamedTuple):
    kind: str
    value: str
    position: int


def parse_filter(text: str | None, fields: Mapping[str, Kind]) -> Node | None:
    """Return the tree of *text*, None when it is empty; *fields* are the names without a group."""
    if text is None or not check_text("a filter", text).strip():
        return None
    if len(text) > MOST_CHARACTERS:
        raise FilterError(
            f"A filter has {MOST_CHARACTERS} characters at most, not {len(text)}.",
            text=text[:80],
            position=0,
        )
    return _Parser(text, fields).parse()


def parse_orders(
    requested: str | Sequence[str] | None, fields: Mapping[str, Kind]
) -> tuple[Order, ...]:
    """Return what ``"metrics.auc DESC, start_time"``, or a list of such parts, asks for; None is no order."""
    if requested is None:
        return ()
    if isinstance(requested, str):
        texts = _split(requested)
    elif isinstance(requested, Iterable):
        texts = list(requested)
    else:
        raise InvalidValueError(f"An order is a field, or several of them, not {requested!r:.80}.")
    return tuple(parse_order(text, fields) for text in texts)


def _split(text: str) -> list[str]:
    """Split at commas, but for those in a quoted name."""
    return [part.strip() for part in re.findall(r"""(?:[^,"`]|"[^"]*"|`[^`]*`|["`])+""", text)] or [
        text
    ]


def parse_order(text: str, fields: Mapping[str, Kind]) -> Order:
    """Return what ``"metrics.auc DESC"`` asks for."""
    parts = check_text("an order", text).rsplit(None, 1)
    directed = len(parts) == 2 and parts[1].upper() in {"ASC", "DESC"}
    parser = _Parser(parts[0] if directed else text, fields)
    field = parser.field()
    parser.expect_end()
    return Order(field, kind_of(field, fields), directed and parts[1].upper() == "DESC")


class _Parser:
    def __init__(self, text: str, fields: Mapping[str, Kind]) -> None:
        self.text = text
        self.fields = fields
        self.tokens: list[_Token] = list(self._scan())
        self.index = 0
        self._depth = 0

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
            if group not in GROUPS:
                self._fail(f"{group!r} is no group; use one of {', '.join(GROUPS)}.")
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
        self._depth += 1
        if self._depth > _DEEPEST:
            self._fail(f"Here more than {_DEEPEST} parentheses and NOTs are within each other.")
        node = self._nested()
        self._depth -= 1
        return node

    def _nested(self) -> Node:
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
            return Test(
                field,
                kind,
                lambda _: present,
                if_absent=not present,
                question="null",
                negated=present,
            )
        if self._token.kind == "operator" and SAME_SIGN.get(
            self._token.value, self._token.value
        ) in (SIGNS):
            sign = self._token.value
            self.index += 1
            return self._compared(field, kind, sign)
        negated = self._accept("not")
        if self._accept("like") or self._accept("ilike"):
            question = self.tokens[self.index - 1].value.lower()
            accepts, operands = self._pattern(field, kind, ignores_case=question == "ilike")
        elif self._accept("in"):
            accepts, operands = self._membership(field, kind)
            question = "in"
        else:
            self._fail("Here should be a comparison (=, !=, <, <=, >, >=, LIKE, ILIKE, IN or IS).")
        requested: dict[str, Any] = {"question": question, "operands": operands, "negated": negated}
        if not negated:
            return Test(field, kind, accepts, **requested)
        return Test(field, kind, lambda value: not accepts(value), **requested)

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

    def _membership(self, field: str, kind: Kind) -> _Accepting:
        self._expect("(")
        tests = [self._compared(field, kind, "=")]
        while self._accept(","):
            tests.append(self._compared(field, kind, "="))
        self._expect(")")
        operands = tuple(test.operands[0] for test in tests)
        return (lambda value: any(test.accepts(value) for test in tests)), operands

    def _pattern(self, field: str, kind: Kind, *, ignores_case: bool) -> _Accepting:
        if kind in {Kind.NUMBER, Kind.TIME}:
            self._fail(f"{field} is a {kind.value}, which has no LIKE.")
        position = self.index
        pattern = str(self._value(Kind.TEXT))
        try:
            matches = matcher(pattern, ignores_case=ignores_case)
        except InvalidValueError as error:
            self.index = position
            self._fail(error.message)
        return (lambda value: matches(as_text(value))), (pattern,)

    def _value(self, kind: Kind) -> float | str:
        token = self._token
        is_null = token.kind == "field" and token.value.lower() in _NULLS and kind is Kind.MIXED
        if token.kind not in {"number", "text"} and not is_null:
            self._fail("Here should be a number or a 'text'.")
        self.index += 1
        if is_null:
            return "null"  # as a parameter that is None counts
        if token.kind == "text":
            quote = token.value[0]
            return token.value[1:-1].replace(quote * 2, quote)
        if kind in {Kind.NUMBER, Kind.TIME}:
            number = as_number(token.value)
            return math.inf if number is None else number  # 1e999
        return token.value
