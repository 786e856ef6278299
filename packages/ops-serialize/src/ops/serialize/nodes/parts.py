"""What encoders and builders share: raw memory, the classes a reader allows, checks of parts."""

from __future__ import annotations

import dataclasses
import importlib
from typing import TYPE_CHECKING, Any, TypeVar

from ops.serialize.errors import CorruptDataError, SerializeError, UntrustedDataError

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from ops.serialize.limits import Budget

__all__ = [
    "Allowed",
    "Raw",
    "Reading",
    "check_hashable",
    "count_items",
    "expect",
    "int_between",
    "name_of",
    "paired",
    "pairs",
    "register",
]

T = TypeVar("T")
_FEW = 64  # keys of which any number may collide
_DEEPEST = 8
_HEAVIEST = 1 << 16  # parts that hashing one key may visit

_registered: dict[str, type] = {}


@dataclasses.dataclass(frozen=True, slots=True, eq=False)
class Raw:
    """Memory that becomes a buffer of the container, or bytes in the tree when it is small."""

    data: memoryview
    itemsize: int = 1


class Allowed:
    """The classes of the reader, beside the built-in ones, whose instances a tree may hold.

    *given* holds classes, or their dotted names, which are imported when data needs them: names that
    the caller wrote, never those of a file.
    """

    def __init__(self, given: Iterable[type | str] = ()) -> None:
        self._given: dict[str, type | None] = {}
        for item in given:
            if isinstance(item, type):
                self._given[name_of(item)] = item
            else:
                self._given[str(item)] = None

    def cls(self, name: str) -> type | None:
        """Return the class called *name* if it is allowed, else None."""
        if name not in self._given:
            return _registered.get(name)
        found = self._given[name]
        if found is None:
            found = self._given[name] = _import(name)
        return found

    def require(self, name: Any) -> type:
        """Return the class called *name*; raises `UntrustedDataError` when it is not allowed."""
        expect(name, str)
        found = self.cls(name)
        if found is None:
            module, _, attribute = name[:200].rpartition(".")
            raise UntrustedDataError(module, attribute)
        return found


def _import(name: str) -> type:
    module, _, attribute = name.rpartition(".")
    try:
        found: Any = getattr(importlib.import_module(module), attribute)
    except (ImportError, AttributeError, ValueError) as error:
        raise SerializeError(f"allow={name!r} names no class: {error}") from error
    if not isinstance(found, type):
        raise SerializeError(f"allow={name!r} names a {type(found).__qualname__}, not a class.")
    return found


def register(cls: type) -> None:
    """Allow *cls* in this process."""
    _registered[name_of(cls)] = cls


def registered(name: str) -> bool:
    """Say whether a class called *name* was registered."""
    return name in _registered


def name_of(cls: type) -> str:
    """Return the name by which a file refers to *cls*."""
    return f"{cls.__module__}.{cls.__qualname__}"


@dataclasses.dataclass(frozen=True, slots=True)
class Reading:
    """What builders need to know of one load."""

    allowed: Allowed
    budget: Budget
    dtypes: dict[str, Any] = dataclasses.field(default_factory=dict)  # by their descriptions
    weights: dict[int, int] = dataclasses.field(default_factory=dict)  # of heavy nodes, by their id


def expect(value: Any, *kinds: type) -> Any:
    """Return *value* if its type is exactly one of *kinds*; raises `CorruptDataError`."""
    if type(value) not in kinds:
        names = " or ".join(kind.__qualname__ for kind in kinds)
        raise CorruptDataError(f"A part of a node is a {type(value).__qualname__}, not {names}.")
    return value


def int_between(value: Any, low: int, high: int) -> int:
    """Return *value* if it is an int from *low* to *high*; raises `CorruptDataError`."""
    if not low <= expect(value, int) <= high:
        raise CorruptDataError(f"A part of a node is not from {low} to {high}.")
    return int(value)


def count_items(reading: Reading, values: Any) -> None:
    """Count the items of *values* that may be far more than its bytes: ranges, runs, sparse arrays."""
    size = getattr(values, "nbytes", 0)
    if type(values).__name__ == "RangeIndex":  # whose bytes are those that it would take
        size = 0
    reading.budget.take(max(0, 8 * len(values) - size))


def check_hashable(reading: Reading, items: Sequence[Any]) -> None:
    """Refuse *items* that take too long to hash, or of which too many have the same hash."""
    from ops.serialize.tree_reader import check_collisions

    if reading.weights:  # also of objects that hash what they hold, as frozen dataclasses do
        heavy = [reading.weights[id(item)] for item in items if id(item) in reading.weights]
        if max(heavy, default=0) > _HEAVIEST:
            raise CorruptDataError("A key takes too long to hash.")
        reading.budget.take_time(sum(heavy))
    if any(isinstance(item, (tuple, frozenset)) for item in items):
        reading.budget.take_time(sum(map(_weight, items)))
    if len(items) > _FEW:
        check_collisions(items)


def _weight(item: Any, depth: int = 0) -> int:
    """Return how many parts hashing *item* visits; stops counting where that is too many."""
    if not isinstance(item, (tuple, frozenset)):
        return 1
    if depth > _DEEPEST:
        raise CorruptDataError(f"A key is nested deeper than {_DEEPEST} levels.")
    total = 1
    for part in item:
        total += _weight(part, depth + 1)
        if total > _HEAVIEST:
            raise CorruptDataError("A key takes too long to hash.")
    return total


def paired(mapping: Any) -> tuple[Any, ...]:
    """Return keys and values of *mapping* in one tuple, which is complete when a node is built."""
    return tuple(part for item in mapping.items() for part in item)


def pairs(parts: tuple[Any, ...]) -> list[tuple[Any, Any]]:
    """Undo `paired`; raises `CorruptDataError`."""
    expect(parts, tuple)
    if len(parts) % 2:
        raise CorruptDataError("A key of a mapping has no value.")
    return list(zip(parts[::2], parts[1::2], strict=True))
