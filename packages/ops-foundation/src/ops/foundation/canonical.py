"""The digest of a Python object's content: equal content, equal digest, in every process.

Every value is written as a tag, a length and its bytes, so neither types nor borders can be
confused: 1, 1.0, "1" and True differ, and so do ["ab"] and ["a", "b"]. What has no order (sets,
dicts) is written as the sorted digests of its members, which does not depend on PYTHONHASHSEED.
Arrays and tables are recognised by the module of their type, so nothing is imported here that the
caller has not imported before. Objects are taken apart as pickle would, members in canonical order.

Format of a node: tag + b":" + length in decimal + b":" + payload; containers give their count as the
length, then their members. Changing any of it changes every digest: raise `_VERSION` then.
"""

from __future__ import annotations

import datetime as dt
import decimal
import enum
import fractions
import hashlib
import pathlib
import struct
import types
import uuid
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable

__all__ = ["calculate_content_hash"]

_VERSION = b"ops-content-1;"


def calculate_content_hash(obj: Any) -> str:
    """Return a hex digest (BLAKE2b, 256 bits) of the content of *obj*.

    The order of dict keys and set members does not matter; the type of every value does. Arrays
    count by dtype, shape and values; tables by labels, dtypes and values, all of them. Raises
    ValueError for an object that contains itself and TypeError for one without content to speak of
    (a lambda, a socket, a generator).
    """
    hasher = hashlib.blake2b(_VERSION, digest_size=32)
    _Writer(hasher.update, set()).write(obj)
    return hasher.hexdigest()


class _Writer:
    __slots__ = ("_path", "_put")

    def __init__(self, put: Callable[[Any], object], path: set[int]) -> None:
        self._put = put
        self._path = path

    def write(self, obj: Any) -> None:
        """Write one value; the type decides, exact types first."""
        encode = _ATOMS.get(type(obj))
        if encode is not None:
            tag, payload = encode(obj)
            self._node(tag, payload)
            return
        if id(obj) in self._path:
            raise ValueError(f"A {type(obj).__name__} contains itself; it has no content digest.")
        self._path.add(id(obj))
        try:
            self._write_compound(obj)
        finally:
            self._path.discard(id(obj))

    def _node(self, tag: bytes, payload: Any) -> None:
        self._put(b"%s:%d:" % (tag, len(payload)))
        self._put(payload)

    def _write_compound(self, obj: Any) -> None:
        kind = type(obj)
        if kind is list or kind is tuple:
            self._sequence(b"l" if kind is list else b"t", obj)
        elif kind is dict:
            self._mapping(b"d", obj.items())
        elif kind is set or kind is frozenset:
            self._unordered(b"S" if kind is set else b"F", (_digest_of(self._path, m) for m in obj))
        elif isinstance(obj, enum.Enum):
            self._node(b"enum", f"{_name(kind)}.{obj.name}".encode())
        elif isinstance(obj, pathlib.PurePath):
            self._node(b"path", str(obj).encode("utf-8", "surrogateescape"))
        elif isinstance(obj, type | types.FunctionType | types.BuiltinFunctionType):
            self._node(b"name", _name(obj).encode())
        elif not self._write_foreign(obj):
            self._write_object(obj)

    def _sequence(self, tag: bytes, members: Any) -> None:
        self._put(b"%s:%d:" % (tag, len(members)))
        for member in members:
            self.write(member)

    def _mapping(self, tag: bytes, items: Iterable[tuple[Any, Any]]) -> None:
        self._unordered(
            tag, (_digest_of(self._path, k) + _digest_of(self._path, v) for k, v in items)
        )

    def _unordered(self, tag: bytes, digests: Iterable[bytes]) -> None:
        ordered = sorted(digests)
        self._put(b"%s:%d:" % (tag, len(ordered)))
        for digest in ordered:
            self._put(digest)

    def _write_foreign(self, obj: Any) -> bool:
        """Write an array or a table of a library that the caller has loaded."""
        for base in type(obj).__mro__:
            write = _FOREIGN.get((base.__module__.partition(".")[0], base.__name__))
            if write is not None:
                # A subclass is not the same content as its base.
                self._node(b"class", _name(type(obj)).encode())
                write(self, obj)
                return True
        return False

    def _write_object(self, obj: Any) -> None:
        """Write what pickle would need to rebuild *obj*."""
        try:
            reduced = obj.__reduce_ex__(4)
        except Exception as error:
            raise TypeError(f"A {type(obj).__name__} has no content digest: {error}") from error
        if isinstance(reduced, str):
            self._node(b"global", f"{type(obj).__module__}.{reduced}".encode())
            return
        make, arguments, state, members, items = (*reduced, None, None, None)[:5]
        self._put(b"o:5:")
        self.write(make)
        self.write(arguments)
        self.write(state)
        self.write(None if members is None else list(members))
        self.write(None if items is None else dict(items))

    def array(self, array: Any) -> None:
        """Write a numpy array; object arrays count by their members."""
        self._node(b"dtype", str(array.dtype if array.dtype.names else array.dtype.str).encode())
        self._sequence(b"t", array.shape)
        if hasattr(array, "mask"):  # a masked array is its data and what of them counts
            self.array(array.mask)
            array = array.data
        if array.dtype.names:  # field by field: what lies between them means nothing
            self._sequence(b"f", [array[name] for name in array.dtype.names])
        elif array.dtype.hasobject:
            self._sequence(b"l", array.reshape(-1).tolist())
        else:
            self._node(b"b", array.tobytes())

    def scalar(self, value: Any) -> None:
        """Write a numpy scalar, which has a dtype and no shape."""
        self._node(b"dtype", value.dtype.str.encode())
        self._node(b"b", value.tobytes())

    def column(self, column: Any) -> None:
        """Write a pandas Index or Series: name, dtype, values."""
        self.write(column.name)
        self._node(b"dtype", str(column.dtype).encode())
        if str(column.dtype) == "category":
            self.write((column.dtype.ordered, column.dtype.categories))
        if type(column.dtype).__module__.partition(".")[0] == "numpy":
            self.array(column.to_numpy())
        else:
            self._sequence(b"l", column.array.astype(object).tolist())

    def multi_index(self, index: Any) -> None:
        """Write a pandas MultiIndex level by level."""
        self._sequence(b"l", [index.get_level_values(i) for i in range(index.nlevels)])

    def series(self, series: Any) -> None:
        """Write a pandas Series with its index."""
        self.write(series.index)
        self.column(series)

    def frame(self, frame: Any) -> None:
        """Write a pandas DataFrame: labels, then each column by position (names may repeat)."""
        self.write(frame.columns)
        self.write(frame.index)
        for i in range(frame.shape[1]):
            self.column(frame.iloc[:, i])

    def nanoseconds(self, value: Any) -> None:
        """Write a pandas Timestamp or Timedelta, which count nanoseconds."""
        self._node(b"ns", f"{value.value} {getattr(value, 'tz', None)}".encode())

    def missing(self, value: Any) -> None:
        """Write pandas' NA or NaT: their type is all they hold."""


def _digest_of(path: set[int], obj: Any) -> bytes:
    hasher = hashlib.blake2b(digest_size=32)
    _Writer(hasher.update, path).write(obj)
    return hasher.digest()


def _name(obj: Any) -> str:
    """Return where *obj* can be imported from; what cannot be has no identity across processes."""
    module = getattr(obj, "__module__", None) or "builtins"
    name = obj.__qualname__
    if "<lambda>" in name or (not isinstance(obj, type) and "<locals>" in name):
        raise TypeError(f"{name} has no content digest: it cannot be named from another process.")
    return f"{module}.{name}"


def _zone(time: dt.datetime | dt.time) -> str:
    zone = time.tzinfo
    if zone is not None and type(zone).__repr__ is object.__repr__:
        raise TypeError(f"A {type(zone).__name__} has no content digest: its repr is an address.")
    return repr(zone)


def _float_bytes(value: float) -> bytes:
    # One NaN, whatever its payload; -0.0 and 0.0 differ as their text does.
    return b"nan" if value != value else struct.pack("<d", value)  # noqa: PLR0124 - the NaN test


_ATOMS: dict[type, Callable[[Any], tuple[bytes, Any]]] = {
    types.NoneType: lambda _: (b"n", b""),
    types.EllipsisType: lambda _: (b"...", b""),
    bool: lambda v: (b"?", b"1" if v else b"0"),
    # Hexadecimal: decimal text of huge integers is slow and limited.
    int: lambda v: (b"i", b"%x" % v),
    float: lambda v: (b"f", _float_bytes(v)),
    complex: lambda v: (b"c", _float_bytes(v.real) + b"," + _float_bytes(v.imag)),
    str: lambda v: (b"s", v.encode("utf-8", "surrogatepass")),
    bytes: lambda v: (b"b", v),
    bytearray: lambda v: (b"B", v),
    memoryview: lambda v: (b"m", v.tobytes()),
    dt.datetime: lambda v: (b"datetime", f"{v.isoformat()} {v.fold} {_zone(v)}".encode()),
    dt.date: lambda v: (b"date", v.isoformat().encode()),
    dt.time: lambda v: (b"time", f"{v.isoformat()} {v.fold} {_zone(v)}".encode()),
    dt.timedelta: lambda v: (b"timedelta", f"{v.days} {v.seconds} {v.microseconds}".encode()),
    decimal.Decimal: lambda v: (b"decimal", str(v).encode()),
    fractions.Fraction: lambda v: (b"fraction", str(v).encode()),
    uuid.UUID: lambda v: (b"uuid", v.bytes),
    range: lambda v: (b"range", f"{v.start} {v.stop} {v.step}".encode()),
}

_FOREIGN: dict[tuple[str, str], Callable[[_Writer, Any], None]] = {
    ("numpy", "ndarray"): _Writer.array,
    ("numpy", "generic"): _Writer.scalar,
    ("pandas", "DataFrame"): _Writer.frame,
    ("pandas", "Series"): _Writer.series,
    ("pandas", "MultiIndex"): _Writer.multi_index,
    ("pandas", "Index"): _Writer.column,
    ("pandas", "Timestamp"): _Writer.nanoseconds,
    ("pandas", "Timedelta"): _Writer.nanoseconds,
    ("pandas", "NaTType"): _Writer.missing,
    ("pandas", "NAType"): _Writer.missing,
}
