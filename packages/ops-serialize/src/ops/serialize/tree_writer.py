"""Writing data trees: what can be held as data is, and everything else is refused by name.

Every object with content is looked at once; the walk over lists and dicts is a loop, so that no depth of
plain data ends it. Leaves are numbered as they are met by dicts that count, which costs no Python call
for each value, and renumbered in bulk at the end.
"""

from __future__ import annotations

import array
import itertools
import sys
from collections import defaultdict
from typing import TYPE_CHECKING, Any

from ops.serialize.errors import UnsupportedTypeError
from ops.serialize.nodes import Raw, encoder_for
from ops.serialize.tree import (
    CONSTANTS,
    HEAD,
    MAGIC,
    MAX_DEPTH,
    SPLIT_BY_NUL,
    TREE_VERSION,
    Kind,
    Mode,
)

if TYPE_CHECKING:
    from collections.abc import Iterable

    from ops.serialize.nodes import Allowed

__all__ = ["encode_tree"]

_NUMBERS = {id(value): number for number, value in enumerate(CONSTANTS[:5])}
_NONE, _FALSE, _TRUE, _ZERO, _MINUS_ZERO = 0, 1, 2, 5, 6
_TEXT, _INTEGER, _FLOAT = frozenset((str,)), frozenset((int,)), frozenset((float,))
_LEAVES = frozenset((str, int, float, bool, type(None)))
_ATOMS = (type(Ellipsis), type(NotImplemented))
_MANY = 8  # rows of one shape from which on they are written column by column
_LARGE_BYTES = 64 << 10
INLINE = 2048


def encode_tree(
    obj: Any, allowed: Allowed, *, inline: int = INLINE
) -> tuple[bytes, list[tuple[memoryview, int]]]:
    """Return *obj* as a tree, and the large buffers that belong to it with their item sizes.

    Buffers of fewer than *inline* bytes are in the tree. *allowed* are the classes of the caller whose instances may be nodes. Raises `UnsupportedTypeError`
    for what is no data, so that nothing is written that the same *allowed* would not read.
    """
    return _Writer(allowed, inline).write(obj)


class _Writer:
    def __init__(self, allowed: Allowed, inline: int) -> None:
        self.allowed = allowed
        self._inline = inline
        count = self._count = itertools.count(len(CONSTANTS)).__next__
        self._integers: defaultdict[int, int] = defaultdict(count)
        self._floats: defaultdict[float, int] = defaultdict(count)
        self._texts: defaultdict[str, int] = defaultdict(count)
        self._bytes: defaultdict[bytes, int] = defaultdict(count)
        self._buffers: list[tuple[memoryview, int]] = []
        self._buffer_numbers: list[int] = []
        self._small_raws: list[tuple[int, bytes]] = []
        self._integer_runs = array.array("q")
        self._float_runs = array.array("d")
        self._seen: dict[int, int] = {}  # what has a number, by its address
        self._kept: list[Any] = []
        self._open: set[int] = set()  # nodes whose parts are being written
        self._depth = 0
        self._pending: list[Any] = []
        self._lists: list[int] = []
        self._list_modes = bytearray()
        self._list_sizes: list[int] = []
        self._list_refs: list[int] = []
        self._dicts: list[int] = []
        self._dict_sizes: list[int] = []
        self._dict_refs: list[int] = []
        self._nodes: list[int] = []
        self._kinds = bytearray()
        self._node_sizes: list[int] = []
        self._node_refs: list[int] = []

    def write(self, obj: Any) -> tuple[bytes, list[tuple[memoryview, int]]]:
        (root,) = self._refs((obj,))
        pending, add_to_dicts, texts = self._pending, self._dict_refs.extend, self._texts
        while pending:
            number, item = pending.pop()
            if type(item) is not dict:
                self._fill_list(number, item)
                continue
            if _TEXT.issuperset(map(type, item)):
                add_to_dicts([texts[key] for key in item])
            else:
                add_to_dicts(self._refs(item))
            add_to_dicts(self._refs(item.values()))
            self._dicts.append(number)
            self._dict_sizes.append(len(item))
        return self._joined(root), self._buffers

    # Containers

    def _refs(self, items: Any) -> list[int]:
        """Return the numbers of *items*, giving each a number that has none."""
        made: list[int] = []
        append = made.append
        texts, integers, floats, seen = self._texts, self._integers, self._floats, self._seen
        for item in items:
            kind = type(item)
            if kind is str:
                append(texts[item])
            elif kind is int:
                append(integers[item])
            elif kind is float:
                if item:
                    append(floats[item])
                else:
                    append(_ZERO if str(item)[0] == "0" else _MINUS_ZERO)
            elif kind is bool:
                append(_TRUE if item else _FALSE)
            elif item is None:
                append(_NONE)
            elif kind is dict or kind is list:
                number = seen.get(id(item))
                if number is None:
                    number = seen[id(item)] = self._count()
                    self._pending.append((number, item))
                append(number)
            elif kind is tuple and _LEAVES.issuperset(map(type, item)):
                number = seen.get(id(item))
                if number is None:
                    parts = self._refs(item)
                    number = seen[id(item)] = self._count()
                    self._node_refs += parts
                    self._node_sizes.append(len(parts))
                    self._kinds.append(0)  # Kind.TUPLE
                    self._nodes.append(number)
                append(number)
            elif kind is bytes and len(item) < _LARGE_BYTES:
                append(self._bytes[item])
            elif kind in _ATOMS:
                append(_NUMBERS[id(item)])
            else:
                append(self._node(item))
        return made

    def _fill_list(self, number: int, items: list[Any]) -> None:
        first = type(items[0]) if items else None
        mode = 0  # Mode.REFS
        if first is str and _TEXT.issuperset(map(type, items)):
            texts = self._texts
            self._list_refs += [texts[item] for item in items]
        elif first is int and _INTEGER.issuperset(map(type, items)) and self._add_run(items):
            mode = Mode.INTEGERS
        elif first is float and _FLOAT.issuperset(map(type, items)):
            mode = Mode.FLOATS
            self._float_runs.fromlist(items)
        elif len(items) >= _MANY and (rows := self._rows(first, items)) is not None:
            self._list_refs += rows
        elif items:
            self._list_refs += self._refs(items)
        self._lists.append(number)
        self._list_modes.append(mode)
        self._list_sizes.append(len(items))

    # Rows: many tuples of leaves, or dicts, of one shape are written column by column

    def _rows(self, kind: Any, items: list[Any]) -> list[int] | None:
        """Return the numbers of *items*, written in bulk, or None when they are no rows of one shape."""
        if kind not in {tuple, dict} or set(map(type, items)) != {kind}:
            return None
        width = len(items[0])
        if not width or set(map(len, items)) != {width}:
            return None
        addresses = list(map(id, items))
        if len(set(addresses)) != len(items) or not self._seen.keys().isdisjoint(addresses):
            return None
        if kind is tuple:
            columns = list(zip(*items, strict=True))
            if not all(_LEAVES.issuperset(map(type, column)) for column in columns):
                return None
            refs = list(map(self._column, columns))
            numbers = self._numbered(addresses)
            self._node_refs += itertools.chain.from_iterable(zip(*refs, strict=True))
            self._node_sizes += [width] * len(items)
            self._kinds += bytes(len(items))  # Kind.TUPLE
            self._nodes += numbers
            return numbers
        keys = list(map(tuple, items))
        first = keys[0]
        if keys.count(first) != len(keys) or set(
            map(type, itertools.chain.from_iterable(keys))
        ) != {str}:
            return None
        numbers = self._numbered(addresses)
        parts: list[Any] = [itertools.repeat(self._texts[key]) for key in first]
        parts += map(self._column, zip(*[item.values() for item in items], strict=True))
        self._dict_refs += itertools.chain.from_iterable(zip(*parts, strict=False))
        self._dict_sizes += [width] * len(items)
        self._dicts += numbers
        return numbers

    def _numbered(self, addresses: list[int]) -> list[int]:
        count = self._count
        numbers = [count() for _ in addresses]
        self._seen.update(zip(addresses, numbers, strict=True))
        return numbers

    def _column(self, items: tuple[Any, ...]) -> list[int]:
        kinds = set(map(type, items))
        table: Any = None
        if len(kinds) == 1:
            if str in kinds:
                table = self._texts
            elif int in kinds:
                table = self._integers
            elif float in kinds and 0.0 not in items:
                table = self._floats
        return self._refs(items) if table is None else [table[item] for item in items]

    def _add_run(self, items: list[int]) -> bool:
        try:
            self._integer_runs.fromlist(items)
        except OverflowError:  # the array is then as it was
            return False
        return True

    # Nodes

    def _node(self, item: Any) -> int:
        kind = type(item)
        if kind is Raw:
            return self._buffer(item)
        address = id(item)
        number = self._seen.get(address)
        if number is not None:
            if address in self._open:
                raise UnsupportedTypeError(
                    f"A {kind.__qualname__} holds itself, which data cannot."
                )
            return number
        number = self._seen[address] = self._count()
        self._open.add(address)
        self._depth += 1
        if self._depth > MAX_DEPTH:
            raise UnsupportedTypeError(
                f"Tuples, sets and objects are nested deeper than {MAX_DEPTH} levels."
            )
        if kind is tuple:
            code, refs = Kind.TUPLE, self._refs(item)
        elif kind is set:
            code, refs = Kind.SET, self._refs(item)
        elif kind is frozenset:
            code, refs = Kind.FROZENSET, self._refs(item)
        else:
            code = Kind.TYPED
            tag, parts = encoder_for(item, self.allowed)
            self._kept.append(parts)  # or the next ones may have their addresses
            refs = self._refs((tag, *parts))
        self._depth -= 1
        self._open.discard(address)
        self._nodes.append(number)
        self._kinds.append(code)
        self._node_sizes.append(len(refs))
        self._node_refs += refs
        return number

    def _buffer(self, raw: Raw) -> int:
        view = raw.data
        if view.nbytes < self._inline:
            # Not shared with equal bytes: a reader counts how often what is copied is referred to.
            number = self._count()
            self._small_raws.append((number, bytes(view)))
            return number
        number = self._count()
        self._buffers.append((view, raw.itemsize))
        self._buffer_numbers.append(number)
        return number

    # Bytes

    def _joined(self, root: int) -> bytes:
        """Number everything anew, table by table, and return the whole."""
        small: dict[int, int] = {}
        large: list[tuple[int, int]] = []
        try:
            integers = array.array("q", self._integers)
            small = self._integers
        except OverflowError:
            for value, number in self._integers.items():
                if -(1 << 63) <= value < 1 << 63:
                    small[value] = number
                else:
                    large.append((value, number))
            integers = array.array("q", small)
        tables = (
            range(len(CONSTANTS)),
            small.values(),
            self._floats.values(),
            [number for _, number in large],
            self._texts.values(),
            self._bytes.values(),
            [number for number, _ in self._small_raws],
            self._buffer_numbers,
            self._lists,
            self._dicts,
            self._nodes,
        )
        order = list(itertools.chain.from_iterable(tables))
        new = [0] * len(order)
        for position, number in enumerate(order):
            new[number] = position
        refs = array.array("I", [])
        for part in (self._node_refs, self._list_refs, self._dict_refs):
            refs.extend(map(new.__getitem__, part))
        texts, lengths, flags = _join_texts(list(self._texts))
        large_parts = [_bytes_of_integer(value) for value, _ in large]
        binary = [*self._bytes, *(data for _, data in self._small_raws)]
        counts = (
            len(integers),
            len(self._floats),
            len(self._integer_runs),
            len(self._float_runs),
            len(large),
            len(self._texts),
            len(binary),
            len(self._buffers),
            len(self._lists),
            len(self._dicts),
            len(self._nodes),
            len(refs),
            new[root],
        )
        tail = [*large_parts, *binary]
        head = HEAD.pack(MAGIC, TREE_VERSION, flags, *counts, len(texts), sum(map(len, tail)))
        return b"".join(
            (
                head,
                _little(integers),
                _little(array.array("d", self._floats)),
                _little(self._integer_runs),
                _little(self._float_runs),
                _words(lengths),
                _words(map(len, tail)),
                _words(self._list_sizes),
                _words(self._dict_sizes),
                _words(self._node_sizes),
                _little(refs),
                bytes(self._list_modes),
                bytes(self._kinds),
                texts,
                *tail,
            )
        )


def _join_texts(texts: list[str]) -> tuple[bytes, list[int], int]:
    joined = "\0".join(texts)
    if joined.count("\0") == len(texts) - 1:
        return joined.encode("utf-8", "surrogatepass"), [], SPLIT_BY_NUL
    return "".join(texts).encode("utf-8", "surrogatepass"), list(map(len, texts)), 0


def _bytes_of_integer(value: int) -> bytes:
    return value.to_bytes(value.bit_length() // 8 + 1, "little", signed=True)


def _words(values: Iterable[int]) -> bytes:
    return _little(array.array("I", values))


def _little(numbers: array.array[Any]) -> bytes:
    if sys.byteorder == "big":
        numbers = numbers[:]
        numbers.byteswap()
    return numbers.tobytes()
