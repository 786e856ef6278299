r"""The canonical bytes of a value, which a digest is the hash of.

Plain values are written by `marshal` version 0, which knows no references and no interning flag, so
its bytes depend on values alone; lists and tuples as marshal writes them; a dict as the tuple
`(..., keys, values)` with sorted keys. Everything else begins with a control character, which marshal
never begins with, and delimits itself, so that two different trees cannot write the same bytes:

    \x01 hash      what would be longer than LIMIT bytes
    \x02 n bytes   a buffer          \x03 n hash   a long buffer, hashed in chunks
    \x04 tag ...   an object: marshalled texts, then a number of values that follows from them
    \x05 list      a set, sorted     \x06 n doubles  a long list or tuple of floats

Each object is written once and its bytes are kept until the end, so shared objects cost nothing, and
an object that is met again while it is being written contains itself. Long lists are hashed in
slices, so memory stays bounded too.
"""

from __future__ import annotations

import marshal
import math
import os
import pickle
import struct
import threading
from array import array
from typing import TYPE_CHECKING, Any

from ops.serialize._objects import writer_of
from ops.serialize.errors import UnsupportedTypeError

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Sequence

__all__ = ["CONTAINERS", "LIMIT", "SCALARS", "SHORT", "Canonical", "short_bytes"]

LIMIT = 1024
CHUNK = 1 << 20
THREADED = 8 << 20  # bytes of a buffer from which on two threads are faster than one

SCALARS = frozenset((int, float, str, bytes, bool, type(None), complex))
CONTAINERS = frozenset((list, tuple, dict))
SHORT = 16  # items of a container that takes the shortcut; about five times as many in all

_BUFFERS = frozenset((bytearray, memoryview, pickle.PickleBuffer))
_INTEGERS: frozenset[type] = frozenset((int,))
_FLOATS: frozenset[type] = frozenset((float,))
_SORTABLE: tuple[frozenset[type], ...] = (frozenset((str,)), _INTEGERS)
_SLICE = 4096
_DICT = marshal.dumps((..., 0, 0), 0)[:6]  # a tuple of three that begins with an ellipsis
_OPEN = b""  # stands for an object that is being written
_all_scalars = SCALARS.issuperset
_dumps = marshal.dumps


class Canonical:
    """Writes values as canonical bytes; *new* makes a hash object from bytes."""

    __slots__ = ("_kept", "_made", "_new")

    def __init__(self, new: Callable[[Any], Any]) -> None:
        self._new = new
        self._made: dict[int, bytes] = {}
        self._kept: list[object] = []  # so that no address is used twice

    def node(self, obj: Any) -> bytes:
        """Return the bytes of *obj*, at most about `LIMIT`; raises `UnsupportedTypeError`."""
        kind: Any = type(obj)  # Any: that a class is hashable, not every checker knows
        if kind in SCALARS and not _is_large(obj, kind):
            return _dumps(obj, 0)
        key = id(obj)
        made = self._made.get(key)
        if made is not None:
            if made is _OPEN:
                raise UnsupportedTypeError(
                    f"A {kind.__qualname__} is cyclic: it contains itself and so has no digest."
                )
            return made
        if kind in CONTAINERS and len(obj) <= SHORT:
            short = short_bytes(obj, kind)
            if short is not None:
                return short
        self._made[key] = _OPEN
        self._kept.append(obj)
        try:
            # Few frames for each level: the depth that Python allows is the depth of the object.
            if kind is list or kind is tuple:
                made = self.sequence(obj)
            elif kind is dict:
                made = self.mapping(obj)
            elif kind is set or kind is frozenset:
                made = self.unordered(obj, kind.__name__)
            elif kind in SCALARS or kind in _BUFFERS:
                made = self._flat(obj, kind)
            else:
                made = writer_of(kind)(self, obj, kind)
            made = self.short(made)
        except BaseException:
            del self._made[key]
            raise
        self._made[key] = made
        return made

    def short(self, data: bytes) -> bytes:
        """Return *data*, or its hash when it is long."""
        return data if len(data) <= LIMIT else b"\x01" + self._new(data).digest()

    def tag(self, *parts: object) -> bytes:
        """Return the beginning of an object; its texts must say how many values follow."""
        return b"\x04" + _dumps(tuple(map(str, parts)), 0)

    def nodes(self, *values: Any) -> bytes:
        """Return the bytes of *values*, one after the other."""
        return b"".join(map(self.node, values))

    def buffer(self, data: Any) -> bytes:
        """Return the bytes of a C-contiguous buffer of any item size, without copying a long one."""
        view = memoryview(data)
        size = view.nbytes
        if size == 0:
            return b"\x02" + struct.pack("<Q", 0)
        view = view.cast("B")
        if size <= LIMIT:
            return b"\x02" + struct.pack("<Q", size) + view
        return b"\x03" + struct.pack("<Q", size) + self._hash_of(view)

    def _hash_of(self, view: memoryview) -> bytes:
        """Return the hash of the hashes of all chunks, which several threads make for a long buffer."""
        new, size = self._new, view.nbytes
        if size <= CHUNK:
            return bytes(new(view).digest())
        count = -(-size // CHUNK)
        hashes: list[bytes] = [b""] * count

        def fill(first: int, last: int) -> None:
            for i in range(first, last):
                hashes[i] = new(view[i * CHUNK : (i + 1) * CHUNK]).digest()

        parts = min(4, os.cpu_count() or 1) if size >= THREADED else 1
        bounds = [count * i // parts for i in range(parts + 1)]
        threads = [
            threading.Thread(target=fill, args=bounds[i : i + 2], name="ops-digest", daemon=True)
            for i in range(1, parts)
        ]
        for thread in threads:
            thread.start()
        fill(bounds[0], bounds[1])
        for thread in threads:
            thread.join()
        return bytes(new(b"".join(hashes)).digest())

    # Builtins

    def _flat(self, obj: Any, kind: type) -> bytes:
        if kind is bytes or kind is bytearray:
            return self.tag(kind.__name__) + self.buffer(obj)
        if kind is str:
            return self.tag("str") + self.buffer(obj.encode("utf-8", "surrogatepass"))
        if kind is int:
            return _dumps(obj, 0)
        view = memoryview(obj)
        data = view if view.c_contiguous else view.tobytes()
        return self.tag(kind.__name__, view.format, view.shape) + self.buffer(data)

    def sequence(self, obj: list[Any] | tuple[Any, ...]) -> bytes:
        """Return the bytes of a list or tuple."""
        kinds = set(map(type, obj))
        head = b"[" if isinstance(obj, list) else b"("
        if kinds == _FLOATS and len(obj) > 16:
            return b"\x06" + head + self.buffer(array("d", _with_one_nan(obj)))
        plain = kinds <= SCALARS and not _holds_large(obj, kinds)
        head += struct.pack("<I", len(obj))
        if len(obj) <= _SLICE:
            return _dumps(obj, 0) if plain else head + b"".join(map(self.node, obj))
        whole = self._new(head)
        for i in range(0, len(obj), _SLICE):
            part = list(obj[i : i + _SLICE])
            whole.update(_dumps(part, 0)[5:] if plain else b"".join(map(self.node, part)))
        return b"\x01" + bytes(whole.digest())

    def mapping(self, obj: dict[Any, Any]) -> bytes:
        """Return the bytes of a dict, which do not depend on its order."""
        kinds = frozenset(map(type, obj))
        if kinds in _SORTABLE:
            keys = sorted(obj)
            head = self.short(self.sequence(keys))
            values = list(map(obj.__getitem__, keys))
        else:
            pairs = sorted(((self.node(key), value) for key, value in obj.items()), key=_first)
            keys_bytes = b"".join(key for key, _ in pairs)
            head = self.short(b"[" + struct.pack("<I", len(pairs)) + keys_bytes)
            values = [value for _, value in pairs]
        return _DICT + head + self.short(self.sequence(values))

    def unordered(self, items: Iterable[Any], *name: object) -> bytes:
        """Return the bytes of the members of a set."""
        members = list(items)
        kinds = frozenset(map(type, members))
        if kinds in _SORTABLE:
            return b"\x05" + self.tag(*name) + self.short(self.sequence(sorted(members)))
        written = sorted(map(self.node, members))
        whole = b"[" + struct.pack("<I", len(written)) + b"".join(written)
        return b"\x05" + self.tag(*name) + self.short(whole)


def short_bytes(obj: Any, kind: type) -> bytes | None:
    """Return what `Canonical` writes for a small tree of builtins, or None if it is none.

    One call of marshal writes it, so the time is bounded however often its parts occur.
    """
    seen: list[Any] = []
    tree = _short_tree(obj, kind, seen)
    if tree is None or not _all_scalars(map(type, seen)):
        return None
    data = _dumps(tree, 0)
    return data if len(data) <= LIMIT else None  # and so no part of it is longer


def _short_tree(obj: Any, kind: type, seen: list[Any]) -> Any:
    """Return *obj* with dicts as `(..., keys, values)`, or None; adds to *seen* what must be scalars."""
    values: list[Any] = []
    if kind is dict:
        try:
            keys = sorted(obj)
        except TypeError:  # keys of several types
            return None
        if not keys or type(keys[0]) is not str:  # else all are, or they are no scalars
            return None
        seen += keys
        for key in keys:
            value = obj[key]
            item = type(value)
            if item not in SCALARS:
                if (item is list or item is tuple) and len(value) <= SHORT:
                    seen += value
                else:
                    value = _short_part(value, item, seen)
                    if value is None:
                        return None
            values.append(value)
        return (..., keys, values)
    for value in obj:
        item = type(value)
        if item not in SCALARS:
            if (item is list or item is tuple) and len(value) <= SHORT:
                seen += value
            else:
                value = _short_part(value, item, seen)  # noqa: PLW2901 - as it is written
                if value is None:
                    return None
        values.append(value)
    return values if kind is list else tuple(values)


def _short_part(value: Any, kind: type, seen: list[Any]) -> Any:
    if kind is dict and len(value) <= SHORT and len(seen) <= 4 * SHORT:
        return _short_tree(value, dict, seen)
    return None


def _first(pair: tuple[bytes, Any]) -> bytes:
    return pair[0]


def _is_large(obj: Any, kind: object) -> bool:
    """Say whether a scalar enters its parent as a hash; a matter of its value alone."""
    if kind is str or kind is bytes:
        return len(obj) > LIMIT
    return isinstance(obj, int) and obj.bit_length() > 8 * LIMIT


def _holds_large(obj: Sequence[Any], kinds: set[type]) -> bool:
    if kinds <= {str} or kinds <= {bytes}:
        return max(map(len, obj), default=0) > LIMIT
    if kinds == _INTEGERS:
        return bool(max(max(obj).bit_length(), min(obj).bit_length()) > 8 * LIMIT)
    if kinds & {int, str, bytes}:
        return any(_is_large(item, type(item)) for item in obj)
    return False


def _with_one_nan(items: Sequence[float]) -> Iterable[float]:
    """Return *items* with every NaN as the one NaN that marshal knows."""
    if not math.isnan(sum(items)):
        return items
    return (math.nan if item != item else item for item in items)  # noqa: PLR0124 - the NaN test
