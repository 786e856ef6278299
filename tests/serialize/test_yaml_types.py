"""Configurations of every supported type come back equal in value and type, or are not written."""

from __future__ import annotations

import collections
import dataclasses
import datetime as dt
import decimal
import enum
import ipaddress
import itertools
import re
import uuid
import zoneinfo
from collections import OrderedDict
from collections.abc import Mapping, Sequence
from dataclasses import InitVar, dataclass, field, make_dataclass
from pathlib import Path, PurePosixPath
from typing import Any, Final, Literal, NamedTuple, NewType, Union

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ops.serialize import ConfigError, YamlConfig

pytest.importorskip("yaml")
pytest.importorskip("pydantic")


class Level(enum.Enum):
    LOW = 1
    HIGH = 2


class Crossed(enum.Enum):
    """The names of its members are the values of others."""

    A = "B"
    B = "A"


class Shape(enum.Enum):
    PAIR = (1, 2)
    NONE = None


class Word(enum.StrEnum):
    NO = "no"


class Perm(enum.Flag):
    READ = 1
    WRITE = 2


class Bits(enum.IntFlag):
    ONE = 1


@dataclass(frozen=True)
class Point:
    x: int = 0
    y: int = 0


@dataclass(frozen=True)
class Deep(Point):
    z: int = 0


@dataclass(slots=True, kw_only=True)
class Node:
    name: str
    next: Node | None = None


class Pair(NamedTuple):
    x: int
    name: str = "one"


Channel = NewType("Channel", int)

WORDS = """007 1.10 1e3 1.5e3 nan inf .nan .inf 5 0o17 0x1f 0b1 1_000 12:30 1:30.5 010 08 1e5 00:00:00 00:30 0:5 +1:2 yes no on off
y N null ~ true False << = 2024-01-01 2024-01-01T00:00:00Z - ? : # & * ! | > % @ ` ' " { } [ ] , 'x x'"""
TEXTS = [
    *WORDS.split(),
    *("", " x ", "a\nb\n", "\t", "é", "\x85", "\u2028", "# c", "- a", "k: v", "\ufeff", "x" * 500),
]

ZONE = dt.timezone(dt.timedelta(hours=-5, minutes=-30))
WRITTEN: list[tuple[Any, list[Any]]] = [
    (str, TEXTS),
    (float | str, TEXTS),
    (dt.datetime | dt.date | dt.time | decimal.Decimal | str, TEXTS),
    (Any, TEXTS),
    (float, [0.0, -0.0, 1e300, 5e-324, 1e22, 1e16, float("inf"), float("-inf"), 123456789.123]),
    (float | int, [1, 1.0, 2**70]),
    (int | float, [1, 1.0, 2**70]),
    (bool | int | str, [True, 1, "true", "1", "yes"]),
    (Path, [Path(), Path("a/b"), Path("~")]),
    (PurePosixPath | None, [PurePosixPath("a"), None]),
    (dt.datetime | str, ["2024-01-01", dt.datetime(2024, 1, 1)]),
    (dt.date | dt.datetime, [dt.date(2024, 1, 1), dt.datetime(2024, 1, 1), dt.date.max]),
    (dt.datetime, [dt.datetime(2024, 1, 1, 1, 2, 3, 4, z) for z in (None, dt.UTC, ZONE)]),
    (dt.datetime, [dt.datetime.max, dt.datetime.min]),
    (dt.datetime, [dt.datetime(2024, 7, 1, tzinfo=zoneinfo.ZoneInfo("Europe/Paris"))]),
    (dt.time, [dt.time(), dt.time(0, 30), dt.time(10), dt.time(10, 1, 2, 3, dt.UTC)]),
    (dt.timedelta, [dt.timedelta.max, dt.timedelta.min, dt.timedelta(microseconds=-1)]),
    (dt.timedelta | float, [1.0, dt.timedelta(1)]),
    (decimal.Decimal, [decimal.Decimal(t) for t in ("1.10", "-0", "Infinity", "1E+30")]),
    (decimal.Decimal | str, ["1.5"]),
    (uuid.UUID | str, [str(uuid.UUID(int=5))]),
    (uuid.UUID, [uuid.UUID(int=5)]),
    (Level, list(Level)),
    (Level | int, [1, Level.LOW]),
    (Level | str, ["LOW", "1"]),
    (Crossed, list(Crossed)),
    (Shape, list(Shape)),
    (Shape | None, [None, *Shape]),
    (Word, list(Word)),
    (Perm, [Perm.READ, Perm.READ | Perm.WRITE, Perm(0)]),
    (Bits, [Bits.ONE, Bits(0), Bits(8), Bits(9)]),
    (Literal["a", 1, True] | None, ["a", 1, True, None]),
    (Literal[Level.LOW, 3], [Level.LOW, 3]),
    (Channel, [Channel(1)]),
    (Final[int], [1]),
    (Sequence[int], [[1, 2]]),
    (Mapping[str, int], [{"a": 1}]),
    (OrderedDict[str, int], [OrderedDict(b=1, a=2)]),
    (collections.Counter[str], [collections.Counter("aab")]),
    (collections.deque[int], [collections.deque([1, 2])]),
    (tuple[int, ...] | list[int], [[1]]),
    (set[int] | list[int], [[1, 1]]),
    (tuple[int, str], [(1, "a")]),
    (tuple[()], [()]),
    (set[int | str], [{1, "1", 10, 2}]),
    (set[tuple[int, int]], [{(1, 2), (0, 5)}]),
    (set[Point], [{Point(1), Point(2)}]),
    (frozenset[str], [frozenset("abc")]),
    (Pair, [Pair(1), Pair(1, "007")]),
    (Point | Deep, [Point(1), Deep(1, 2, 3)]),
    (list[Node], [[Node(name="a", next=Node(name="no"))]]),
    (dict[Level, int], [{Level.LOW: 1}]),
    (dict[int, str], [{1: "a", 10: "b"}]),
    (dict[str, str], [{"on": "off", "1": "", "": "no", "<<": "="}]),
    (dict[dt.date, Path], [{dt.date(2024, 1, 1): Path("a")}]),
    (bytes | str, [b"\x00\xff", "AP8="]),
    (complex, [1 + 2j]),
    (ipaddress.IPv4Address, [ipaddress.ip_address("1.2.3.4")]),
    (re.Pattern, [re.compile("a+")]),
    (Any, [None, {"a": [1, 2.5, True, dt.date(2024, 1, 1), dt.datetime(2024, 1, 1, 2), b"x"]}]),
]


def config(hint: Any) -> Any:
    return make_dataclass("C", [("v", hint)], bases=(YamlConfig,))


@pytest.mark.parametrize(("hint", "values"), WRITTEN, ids=lambda v: None)
def test_what_is_written_comes_back_equal_in_value_and_type(hint: Any, values: list[Any]) -> None:
    cls = config(hint)
    for value in values:
        again = cls.from_yaml_text(cls(value).to_yaml_text()).v
        assert (type(again), again) == (type(value), value)


REFUSED: list[tuple[Any, Any]] = [
    (int, "x"),
    (str, 5),
    (list, "abc"),
    (Path | str, Path("x")),
    (Level | str, Level.LOW),
    (tuple[int, ...] | list[int], (1,)),
    (Sequence[int], (1,)),
    (Literal[1], True),
    (Point, Deep(1)),
    (Deep | Point, Point(1)),
    (Any, (1, 2)),
    (Any, Level.LOW),
    (dict[str, Any], {"a": Path("x")}),
    (dict[tuple[int, int], str], {(1, 2): "a"}),
    (dict[Any, int], {"a": 1, Path("a"): 2}),
    (Any, object()),
    (Any, "\ud800"),
    (float, 1),
    (dt.datetime, dt.datetime(2024, 10, 27, 2, 30, tzinfo=zoneinfo.ZoneInfo("Europe/Paris"))),
]


@pytest.mark.parametrize(("hint", "value"), REFUSED, ids=lambda v: None)
def test_what_would_come_back_as_something_else_is_not_written(hint: Any, value: Any) -> None:
    with pytest.raises(ConfigError, match=r"\$\.v"):
        config(hint)(value).to_yaml_text()


def test_cyclic_and_endlessly_shared_values_are_not_written() -> None:
    cls = config(Any)
    cycle: list[Any] = []
    cycle.append(cycle)
    shared: Any = [1]
    for _ in range(60):
        shared = [shared, shared]
    for value in (cycle, shared):
        with pytest.raises(ConfigError, match="cyclic, too deep or too large"):
            cls(value).to_yaml_text()


@dataclass
class Derived(YamlConfig):
    v: int
    scale: InitVar[int] = 2
    double: int = field(init=False, default=0)
    label: str = field(init=False, default="")

    def __post_init__(self, scale: int) -> None:
        self.double = scale * self.v


def test_what_a_configuration_computes_itself_is_computed_again_when_it_is_read() -> None:
    assert Derived.from_yaml_text(Derived(3).to_yaml_text()).double == 6
    with pytest.raises(ConfigError, match=r"\$\.double"):
        Derived(3, scale=5).to_yaml_text()
    changed = Derived(3)
    changed.label = "x"
    with pytest.raises(ConfigError, match=r"\$\.label"):
        changed.to_yaml_text()


def test_a_default_of_none_allows_null() -> None:
    @dataclass
    class Implicit(YamlConfig):
        v: list = None  # type: ignore[type-arg, assignment]
        when: dt.datetime = None  # type: ignore[assignment]

    assert Implicit.from_yaml_text(Implicit().to_yaml_text()) == Implicit()
    assert Implicit.from_yaml_text("v: [1]").v == [1]


class Picky:
    def __init__(self, **kwargs: Any) -> None:
        raise AssertionError


@dataclass
class Refusing(YamlConfig):
    v: int = 0

    def __post_init__(self) -> None:
        if self.v < 0:
            raise KeyError("negative")


def test_what_a_class_raises_for_its_values_is_a_config_error() -> None:
    with pytest.raises(ConfigError, match=r"KeyError.*negative"):
        Refusing.from_yaml_text("v: -1")


def test_a_type_that_no_text_can_be_made_into_is_named() -> None:
    cls = make_dataclass("C", [("v", Picky), ("w", Picky | None, None)], bases=(YamlConfig,))
    with pytest.raises(ConfigError, match=r"\$\.v.*Picky"):
        cls.from_yaml_text("v: 1")
    open_ = make_dataclass("D", [("v", int, 1), ("w", Picky | None, None)], bases=(YamlConfig,))
    assert open_.from_yaml_text(open_().to_yaml_text()) == open_()
    undefined = make_dataclass("E", [("v", "Undefined")], bases=(YamlConfig,))
    with pytest.raises(ConfigError, match="types of E"):
        undefined.from_yaml_text("v: 1")


leaves = (
    st.none()
    | st.booleans()
    | st.integers()
    | st.floats(allow_nan=False)
    | st.text(st.characters(exclude_categories=["Cs"]))
    | st.sampled_from(TEXTS)
    | st.binary()
    | st.dates()
    | st.datetimes(timezones=st.none() | st.just(dt.UTC)).map(lambda d: d.replace(fold=0))
)
trees = st.recursive(
    leaves,
    lambda t: st.lists(t, max_size=4) | st.dictionaries(st.text() | st.integers(), t, max_size=4),
    max_leaves=20,
)


@given(trees)
def test_every_plain_tree_comes_back_below_any_or_is_refused(tree: Any) -> None:
    cls = config(Any)
    try:
        text = cls(tree).to_yaml_text()
    except ConfigError as error:
        assert "no text that YAML allows" in str(error) or "no UTF-8" in str(error)  # noqa: PT017
        return
    assert repr(cls.from_yaml_text(text).v) == repr(tree)


SCALAR_TYPES: dict[Any, Any] = {
    int: st.integers(),
    float: st.floats(allow_nan=False),
    str: st.text(st.characters(exclude_categories=["Cs", "Cc"])) | st.sampled_from(TEXTS),
    bool: st.booleans(),
    bytes: st.binary(),
    dt.date: st.dates(),
    dt.datetime: st.datetimes(timezones=st.none() | st.just(dt.UTC)),
    dt.time: st.times(),
    dt.timedelta: st.timedeltas(),
    decimal.Decimal: st.decimals(allow_nan=False),
    uuid.UUID: st.uuids(),
    Level: st.sampled_from(Level),
    Crossed: st.sampled_from(Crossed),
    Point: st.builds(Point, st.integers(), st.integers()),
}


@given(st.data())
def test_a_union_gives_back_the_member_that_was_written_or_refuses(data: Any) -> None:
    kinds = data.draw(st.lists(st.sampled_from(list(SCALAR_TYPES)), min_size=1, max_size=4))
    hint = Union[tuple(kinds)]  # noqa: UP007 - made at run time
    hint = data.draw(st.sampled_from([hint, list[hint], dict[str, hint], tuple[hint, ...]]))
    value = data.draw(SCALAR_TYPES[data.draw(st.sampled_from(kinds))])
    origin = getattr(hint, "__origin__", None)
    made = {list: lambda: [value], dict: lambda: {"k": value}, tuple: lambda: (value,)}
    whole = made.get(origin, lambda: value)() if origin in (list, dict, tuple) else value
    cls = config(hint)
    try:
        text = cls(whole).to_yaml_text()
    except ConfigError as error:
        assert len(set(kinds)) > 1 and "would come back" in str(error)  # noqa: PT017, PT018
        return
    again = cls.from_yaml_text(text).v
    assert again == whole
    for one, other in itertools.zip_longest(_members(whole), _members(again)):
        assert type(one) is type(other)


def _members(value: Any) -> list[Any]:
    if isinstance(value, dict):
        return list(value.values())
    return list(value) if isinstance(value, list | tuple) else [value]


def test_comments_do_not_change_what_is_read() -> None:
    @dataclass
    class Noted(YamlConfig):
        a: Any = dataclasses.field(default_factory=dict)  # {: not a mapping
        b: str = "# c"  # b: 5

    for value in ({}, {"x": [1]}, None):
        noted = Noted(value)
        assert Noted.from_yaml_text(noted.to_yaml_text(with_comments=True)) == noted
