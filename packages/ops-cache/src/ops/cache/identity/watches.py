"""What a resolved identity rests on, and whether that is still so.

A hit must not walk the code again. It compares what the names, cells and values of the last walk
are now with what they were: names and cells by identity, values that can change in place by their
bytes (plain data) or by their digest.

A value that the computation itself changes, such as a counter, is not what its result depends on;
`settle` stops watching those that changed while the function ran. Arrays and frames beyond 64 KiB
are not watched: what they held when the function was first called is what counts.
"""

from __future__ import annotations

import datetime as dt
import decimal
import enum
import fractions
import marshal
import pathlib
import re
import uuid
from operator import is_, itemgetter
from typing import TYPE_CHECKING, Any, TypeAlias

from ops.serialize.digests import digest
from ops.serialize.errors import SerializeError

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence
    from types import CellType

__all__ = ["Watches", "is_plain"]

_LIMIT = 64 << 10
_IMMUTABLE = (
    dt.date,
    dt.time,
    dt.timedelta,
    dt.tzinfo,
    decimal.Decimal,
    enum.Enum,
    fractions.Fraction,
    pathlib.PurePath,
    re.Pattern,
    range,
    uuid.UUID,
)
_EMPTY = object()
_Reader: TypeAlias = "tuple[Callable[[Any], Any], Mapping[str, Any], tuple[Any, ...]]"


class Watches:
    """The names, cells and values that an identity was made from."""

    def __init__(self) -> None:
        self._names: dict[int, tuple[Mapping[str, Any], dict[str, Any]]] = {}
        self._readers: list[_Reader] | None = None  # made of the names at the first use
        self._cells: list[tuple[CellType, Any]] = []
        self._values: dict[int, tuple[Any, bytes | str]] = {}
        self._sizes: list[tuple[Mapping[str, Any], int]] = []

    def names(self, namespace: Mapping[str, Any], names: Sequence[str]) -> None:
        """Watch what *names* of *namespace* lead to."""
        _, found = self._names.setdefault(id(namespace), (namespace, {}))
        for name in names:
            found.setdefault(name, namespace[name])
        self._readers = None

    def attributes(self, instance: object) -> None:
        """Watch the attributes of *instance*."""
        namespace = vars(instance)
        self._sizes.append((namespace, len(namespace)))
        if namespace:
            self.names(namespace, sorted(namespace))

    def cell(self, cell: CellType) -> None:
        """Watch a variable that a function closes over."""
        self._cells.append((cell, contents(cell)))

    def value(self, value: Any, known: str) -> None:
        """Watch a value that may change in place and whose digest is *known*."""
        if isinstance(value, _IMMUTABLE) or _size(value) > _LIMIT:
            return
        snapshot = _snapshot(value)
        self._values[id(value)] = (value, known if snapshot is None else snapshot)

    def hold(self) -> bool:
        """Say whether all is as it was."""
        readers = self._readers
        if readers is None:
            readers = self._readers = [_reader(*watched) for watched in self._names.values()]
        try:
            for get, namespace, before in readers:
                if not all(map(is_, get(namespace), before)):
                    return False
        except KeyError:
            return False
        for namespace, size in self._sizes:
            if len(namespace) != size:
                return False
        for cell, content in self._cells:
            if contents(cell) is not content:
                return False
        return all(_is_same(value, before) for value, before in self._values.values())

    def settle(self) -> None:
        """Stop watching the values that have changed: the function itself has just run."""
        for key, (value, before) in list(self._values.items()):
            if not _is_same(value, before):
                self._values.pop(key, None)


def _reader(namespace: Mapping[str, Any], found: Mapping[str, Any]) -> _Reader:
    names = list(found)
    get = itemgetter(*names, names[0])  # one of them again, so that it returns a tuple
    return get, namespace, (*found.values(), found[names[0]])


def contents(cell: CellType) -> Any:
    """Return what *cell* holds; a mark when it holds nothing yet."""
    try:
        return cell.cell_contents
    except ValueError:
        return _EMPTY


def is_plain(value: Any) -> bool:
    """Say whether *value* is made of plain containers and values alone."""
    return _snapshot(value) is not None


def _size(value: Any) -> int:
    size = getattr(value, "nbytes", None)
    if isinstance(size, int):
        return size
    elements = getattr(value, "size", 0)  # of a frame
    return 8 * elements if isinstance(elements, int) else 0


def _snapshot(value: Any) -> bytes | None:
    try:
        return marshal.dumps(value, 0)
    except ValueError:  # something in it is no plain data
        return None


def _is_same(value: Any, before: bytes | str) -> bool:
    if isinstance(before, bytes):
        return _snapshot(value) == before
    try:
        return digest(value, algorithm="blake2b") == before
    except SerializeError:
        return False
