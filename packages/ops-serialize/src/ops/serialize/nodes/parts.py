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
    "check_labels",
    "count_items",
    "expect",
    "int_between",
    "name_of",
    "paired",
    "pairs",
    "register",
    "weight_of",
]

T = TypeVar("T")
_DEEPEST = 8
_OF_TUPLE, _OF_LABEL = 56, 40  # bytes of a tuple, and of an item with its reference
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


@dataclasses.dataclass(slots=True)
class Reading:
    """What builders need to know of one load."""

    allowed: Allowed
    budget: Budget
    dtypes: dict[str, Any] = dataclasses.field(default_factory=dict)  # by their descriptions
    weights: dict[int, int] = dataclasses.field(default_factory=dict)  # of heavy nodes, by their id
    words: int = 1  # what hashing the longest number takes
    copied: set[int] = dataclasses.field(default_factory=set)  # ids of parts that were copied

    def copy(self, part: Any, size: int) -> None:
        """Count *size* bytes that a builder makes of *part*; the first time they are part of the data."""
        self.budget.take(size)
        if id(part) in self.copied:  # parts live as long as the load
            self.budget.copy(size)
        self.copied.add(id(part))

    def charge(self, parts: tuple[Any, ...]) -> None:
        """Count what building a node from *parts* walks and copies; *parts* starts with its name.

        Of each part the builder may make a copy. Raises `CorruptDataError` or `TooLargeError`.
        """
        steps = copied = 0
        for part in parts:
            kind = type(part)
            if kind in _SMALL or (kind in _FLAT and len(part) <= _SHORT):
                continue
            size = _extent(part)
            copied += size
            steps += len(part) if kind is str else size // 16
        if steps:
            self.budget.take_time(steps)
            if parts[0] not in _VIEWS:
                self.budget.copy(copied)


_SMALL = frozenset((int, float, bool, complex, type(None), list, dict))  # lists are filled last
_FLAT = frozenset((str, bytes))
_SHORT = 256
_SIZED = frozenset(("numpy", "pandas", "pyarrow", "torch"))
# Nodes that only look at their parts, and those that count what they copy themselves.
_VIEWS = frozenset(
    (
        "np.array", "np.recarray", "np.matrix", "np.scalar", "np.record", "pd.frame", "pd.series",
        "pd.index", "pd.times", "pd.timedeltas", "pd.periods", "pd.numpy", "pd.masked", "pd.arrow",
        "pd.arrowtexts", "pd.categorical", "pd.categories", "pa.table", "pa.chunked", "pa.batch",
        "pa.array", "pa.scalar", "torch.view",
    )
)  # fmt: skip


def _extent(part: Any) -> int:
    """Return the bytes of what *part* holds, which a builder may walk or copy."""
    kind = type(part)
    if kind in _FLAT:
        return len(part)
    if kind is tuple:
        inner = set(map(type, part)) - _SMALL - _FLAT
        return 4 * len(part) + (sum(map(_inner_extent, part)) if inner else 0)
    return _inner_extent(part)


def _inner_extent(part: Any) -> int:
    kind = type(part)
    if kind in {tuple, set, frozenset}:
        return 4 * len(part)
    if kind in {memoryview, bytes, bytearray} or kind.__module__.partition(".")[0] in _SIZED:
        size = getattr(part, "nbytes", 0)
        return size if type(size) is int else 0
    return 0


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
    from ops.serialize.keys import STEADY, charge_keys

    reading.budget.take_time(len(items))
    kinds = {*map(type, items)}
    if kinds <= STEADY:
        return
    total, heaviest = len(items), 1
    if reading.weights or any(issubclass(kind, (tuple, frozenset)) for kind in kinds):
        heavy = [reading.weights.get(id(item), 1) for item in items]  # also of frozen dataclasses
        if max(heavy) > _HEAVIEST:
            raise CorruptDataError("A key takes too long to hash.")
        weights = [*map(max, heavy, map(weight_of, items))]
        total, heaviest = sum(weights), max(weights)
    charge_keys(reading.budget, items, total, heaviest, reading.words)


def check_labels(reading: Reading, labels: Any) -> None:
    """Refuse labels that take too long to hash, or to be made: pandas hashes each, and walks levels."""
    levels = getattr(labels, "nlevels", 1)
    if levels > 1:  # it makes a tuple of each row
        size = len(labels) * (_OF_TUPLE + _OF_LABEL * levels)
        reading.budget.take(size)
        reading.budget.copy(size // 4)
        reading.budget.take_time(len(labels) * levels)
    if labels.dtype == object:
        check_hashable(reading, labels.to_numpy())


def weight_of(item: Any, depth: int = 0) -> int:
    """Return how many parts hashing *item* visits; stops counting where that is too many."""
    if not isinstance(item, (tuple, frozenset)):
        return 1
    if depth > _DEEPEST:
        raise CorruptDataError(f"A key is nested deeper than {_DEEPEST} levels.")
    total = 1
    for part in item:
        total += weight_of(part, depth + 1)
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
