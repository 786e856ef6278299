"""Reading data trees. Every count and number of the file is checked before it is used.

Leaves are made in bulk; lists and dicts are made empty; nodes are built in order, each from what has a
lower number; then lists and dicts are filled. What a tree would allocate is estimated from its counts and
compared with the limit first. Three things could take far more than its size: hashing tuples that share
parts (2 to the power of their depth), keys that are made to collide (`keys`), and parts that many nodes
copy or walk (`Reading.charge`). All are counted before they happen.
"""

from __future__ import annotations

import array
import itertools
import sys
from typing import TYPE_CHECKING, Any

from ops.foundation.errors import OpsError
from ops.serialize.errors import (
    CorruptDataError,
    FutureVersionError,
    SerializeError,
    TooLargeError,
    in_words,
    missing_library,
)
from ops.serialize.keys import STEADY, charge_keys, words_of
from ops.serialize.limits import Budget
from ops.serialize.nodes import Allowed, Reading, builder_for
from ops.serialize.tree import (
    CONSTANTS,
    HEAD,
    MAGIC,
    MAX_DEPTH,
    SPLIT_BY_NUL,
    TREE_VERSION,
    Kind,
    Mode,
    Section,
)

if TYPE_CHECKING:
    from collections.abc import Sequence

__all__ = ["decode_tree", "names_of_instances"]

_MAX_WEIGHT = 1 << 20  # parts that hashing one key may visit
_MANY = 8
_LIGHT = 256  # parts of a node up to which builders take no note of it


def decode_tree(stream: Any, buffers: Sequence[Any], allowed: Allowed, budget: Budget) -> Any:
    """Return what the tree in *stream* holds; *buffers* are those of its container, in order.

    Raises `CorruptDataError` for whatever is not as a writer makes it, `UntrustedDataError` for a class
    that is not among *allowed*, and `TooLargeError` beyond *budget*.
    """
    try:
        return _Reader(memoryview(stream).cast("B"), buffers, allowed, budget).read()
    except OpsError:
        raise
    except MemoryError as error:
        raise TooLargeError("There is not enough memory for what the data holds.") from error
    except ImportError as error:
        raise missing_library(error) from error
    except Exception as error:  # a builder got parts that make nothing
        raise CorruptDataError(f"The object could not be rebuilt: {in_words(error)}") from error


class _Reader:
    def __init__(
        self,
        data: memoryview,
        buffers: Sequence[Any] | None,
        allowed: Allowed,
        budget: Budget,
    ) -> None:
        self._data = data
        self._buffers = buffers
        self._at = HEAD.size
        self._budget = budget
        budget.add(data.nbytes + sum(memoryview(raw).nbytes for raw in buffers or ()))
        self._reading = Reading(allowed, budget)
        self._deep: dict[int, tuple[int, int]] = {}  # depth and weight of nodes that hold nodes

    def read(self) -> Any:
        values = self._read_tables()
        values += self._lists
        values += self._dicts
        self._at = 0
        self._build_nodes(values)
        self._fill_lists(values)
        self._fill_dicts(values)
        return values[self._root]

    def names_of_instances(self) -> list[str]:
        values = self._read_tables()
        found, at = [], 0
        for kind, size in zip(self._kinds, self._node_sizes, strict=True):
            parts = self._refs[at : at + size]
            at += size
            if kind == Kind.TYPED and size > 1 and max(parts[:2]) < len(values):
                tag, name = values[parts[0]], values[parts[1]]
                if tag == "instance" and type(name) is str:
                    found.append(name)
        return found

    # Tables

    def _read_tables(self) -> list[Any]:
        """Read and check all tables; return the constants and leaves."""
        if self._data.nbytes < HEAD.size:
            raise CorruptDataError("The tree has no head.")
        magic, version, flags, *counts, text_size, tail_size = HEAD.unpack_from(self._data)
        if magic != MAGIC:
            raise CorruptDataError("The stream is no tree of data.")
        if version != TREE_VERSION:
            raise FutureVersionError(
                f"The tree has version {version}; this ops-serialize reads {TREE_VERSION}.",
                suggestions=("Upgrade ops-serialize.",),
            )
        buffers = [None] * min(counts[Section.BUFFERS], 1 << 20)
        if self._buffers is not None:
            buffers = list(self._buffers)
            if counts[Section.BUFFERS] != len(buffers):
                raise CorruptDataError("The tree and its container differ in the buffers.")
        integers = self._numbers("q", counts[Section.INTEGERS])
        floats = self._numbers("d", counts[Section.FLOATS])
        self._integer_runs = self._numbers("q", counts[Section.INTEGER_RUNS])
        self._float_runs = self._numbers("d", counts[Section.FLOAT_RUNS])
        lengths = self._numbers("I", 0 if flags & SPLIT_BY_NUL else counts[Section.TEXTS])
        sizes = self._numbers("I", counts[Section.LARGE_INTEGERS] + counts[Section.BYTES])
        self._list_sizes = self._numbers("I", counts[Section.LISTS])
        self._dict_sizes = self._numbers("I", counts[Section.DICTS])
        self._node_sizes = self._numbers("I", counts[Section.NODES])
        self._refs = self._numbers("I", counts[Section.REFS])
        self._modes = bytes(self._take(counts[Section.LISTS]))
        self._kinds = bytes(self._take(counts[Section.NODES]))
        texts = self._take(text_size)
        tail = self._take(tail_size)
        if self._at != self._data.nbytes:
            raise CorruptDataError("The sizes of the tree's tables do not add up.")
        self._check_sizes(counts, sum(sizes), tail_size)
        self._budget.take(
            40 * (len(integers) + len(self._integer_runs) + len(sizes))
            + 32 * (len(floats) + len(self._float_runs))
            + 56 * counts[Section.TEXTS]
            + len(texts)
            + tail_size
            + 64 * (len(self._list_sizes) + len(self._dict_sizes) + len(self._node_sizes))
            + 24 * len(self._refs)
        )
        self._root = counts[Section.ROOT]
        self._lists: list[list[Any]] = [[] for _ in self._list_sizes]
        self._dicts: list[dict[Any, Any]] = [{} for _ in self._dict_sizes]
        values: list[Any] = [*CONSTANTS, *integers]
        self._steady_below = len(values)
        large = counts[Section.LARGE_INTEGERS]
        self._reading.words = words_of(max(sizes[:large], default=0))
        values += floats
        parts = _split(tail, sizes)
        values += [int.from_bytes(part, "little", signed=True) for part in parts[:large]]
        values += _split_texts(texts, lengths, counts[Section.TEXTS])
        values += map(bytes, parts[large:])
        values += buffers
        return values

    def _take(self, size: int) -> memoryview:
        start = self._at
        self._at = end = start + size
        if end > self._data.nbytes:
            raise CorruptDataError("A table of the tree is cut off.")
        return self._data[start:end]

    def _numbers(self, code: str, count: int) -> array.array[Any]:
        numbers = array.array(code)
        numbers.frombytes(self._take(numbers.itemsize * count))
        if sys.byteorder == "big":
            numbers.byteswap()
        return numbers

    def _check_sizes(self, counts: Sequence[int], sizes: int, tail_size: int) -> None:
        used = [0, 0, 0]
        if len(self._modes) == self._modes.count(Mode.REFS):
            used[Mode.REFS] = sum(self._list_sizes)
        else:
            for mode, size in zip(self._modes, self._list_sizes, strict=True):
                used[mode] += size  # an unknown mode is an IndexError, and so damage
        refs = used[Mode.REFS] + 2 * sum(self._dict_sizes) + sum(self._node_sizes)
        found = (refs, used[Mode.INTEGERS], used[Mode.FLOATS], sizes)
        expected = (
            counts[Section.REFS],
            counts[Section.INTEGER_RUNS],
            counts[Section.FLOAT_RUNS],
            tail_size,
        )
        if found != expected:
            raise CorruptDataError("The containers of the tree do not use its tables up.")

    # Nodes

    def _build_nodes(self, values: list[Any]) -> None:
        """Build the nodes in order, each from what is before it."""
        get, append, refs = values.__getitem__, values.append, self._refs
        first = self._first_node = len(values)
        at = self._at
        for (kind, size), group in itertools.groupby(
            zip(self._kinds, self._node_sizes, strict=True)
        ):
            count = sum(1 for _ in group)
            end = at + size * count
            if not kind and size and count >= _MANY and max(refs[at:end]) < first:  # Kind.TUPLE
                parts = map(get, refs[at:end])
                values += zip(*[parts] * size, strict=True)
                at = end
                continue
            for _ in range(count):
                numbers = refs[at : at + size]
                at += size
                if numbers and max(numbers) >= first:
                    self._go_deeper(len(values), numbers)
                append(self._node(kind, tuple(map(get, numbers)), numbers))
                heavy = self._deep.get(len(values) - 1)
                if heavy is not None and heavy[1] > _LIGHT:
                    self._reading.weights[id(values[-1])] = heavy[1]
        self._at = at

    def _node(self, kind: int, parts: tuple[Any, ...], numbers: array.array[int]) -> Any:
        if kind == Kind.TUPLE:
            return parts
        if kind == Kind.TYPED:
            build = builder_for(parts[0])
            self._reading.charge(parts)
            return build(self._reading, *parts[1:])
        if kind not in {Kind.SET, Kind.FROZENSET}:
            raise CorruptDataError(f"The kind {kind} of a node is unknown.")
        self.check_keys(parts, numbers)
        value = set(parts) if kind == Kind.SET else frozenset(parts)
        if len(value) != len(parts):
            raise CorruptDataError("A set has an item twice.")
        return value

    def _go_deeper(self, number: int, parts: array.array[int]) -> None:
        """Note how deep the node *number* is, and how many parts hashing it would visit."""
        depth, weight = 1, len(parts)
        for part in parts:
            if part >= self._first_node:
                if part >= number:
                    raise CorruptDataError("A node refers to one that is not before it.")
                below, more = self._deep.get(part, (1, self._node_sizes[part - self._first_node]))
                depth = max(depth, below + 1)
                weight += more
        if depth > MAX_DEPTH:
            raise CorruptDataError(f"Nodes are nested deeper than {MAX_DEPTH} levels.")
        self._deep[number] = depth, min(weight, 1 << 62)

    def _weight(self, number: int) -> int:
        known = self._deep.get(number)
        return self._node_sizes[number - self._first_node] if known is None else known[1]

    def check_keys(self, keys: Sequence[Any], numbers: array.array[int]) -> int:
        """Refuse keys that would take long to hash or to compare; return the steps it takes."""
        highest = max(numbers, default=0)
        if highest < self._steady_below or STEADY.issuperset(map(type, keys)):
            return 0
        total, heaviest = len(keys), 1
        if highest >= self._first_node:
            weights = [self._weight(number) for number in numbers if number >= self._first_node]
            total, heaviest = total + sum(weights), max(weights)
            if heaviest > _MAX_WEIGHT:
                raise CorruptDataError("A key takes too long to hash.")
        return charge_keys(self._budget, keys, total, heaviest, self._reading.words)

    # Lists and dicts

    def _fill_lists(self, values: list[Any]) -> None:
        get, refs = values.__getitem__, self._refs
        integers_at = floats_at = 0
        at = self._at
        for target, mode, size in zip(self._lists, self._modes, self._list_sizes, strict=True):
            if mode == Mode.REFS:
                target.extend(map(get, refs[at : at + size]))
                at += size
            elif mode == Mode.INTEGERS:
                target.extend(self._integer_runs[integers_at : integers_at + size])
                integers_at += size
            else:
                target.extend(self._float_runs[floats_at : floats_at + size])
                floats_at += size
        self._at = at

    def _fill_dicts(self, values: list[Any]) -> None:
        get, refs, at = values.__getitem__, self._refs, self._at
        keys: tuple[Any, ...] = ()
        known: Any = None
        steps = 0
        for target, size in zip(self._dicts, self._dict_sizes, strict=True):
            middle = at + size
            end = middle + size
            numbers = refs[at:middle]
            if numbers != known:
                keys, known = tuple(map(get, numbers)), numbers
                steps = self.check_keys(keys, numbers)
            elif steps:
                self._budget.take_time(steps)
            target.update(zip(keys, map(get, refs[middle:end]), strict=True))
            if len(target) != size:
                raise CorruptDataError("A dict has a key twice.")
            at = end


def _split(data: memoryview, sizes: array.array[int]) -> list[memoryview]:
    ends = list(itertools.accumulate(sizes))
    return [data[end - size : end] for end, size in zip(ends, sizes, strict=True)]


def _split_texts(data: memoryview, lengths: array.array[int], count: int) -> list[str]:
    text = str(data, "utf-8", "surrogatepass")
    if len(lengths):
        ends = list(itertools.accumulate(lengths))
        if ends[-1] != len(text):
            raise CorruptDataError("The lengths of the texts do not add up.")
        return [text[end - size : end] for end, size in zip(ends, lengths, strict=True)]
    texts = text.split("\0") if count else []
    if len(texts) != count or (text and not count):
        raise CorruptDataError("The number of texts is wrong.")
    return texts


def names_of_instances(stream: Any) -> list[str]:
    """Return the names of the classes that a reader of this tree would have to allow.

    Raises `CorruptDataError`.
    """
    data = memoryview(stream).cast("B")
    reader = _Reader(data, None, Allowed(), Budget(data.nbytes))
    try:
        return reader.names_of_instances()
    except SerializeError:
        raise
    except Exception as error:
        raise CorruptDataError(f"The tree could not be read: {in_words(error)}") from error
