"""Nodes of the standard library: collections, numbers, times, paths, identifiers."""

from __future__ import annotations

import array
import collections
import datetime as dt
import decimal
import fractions
import ipaddress
import pathlib
import re
import sys
import uuid
import zoneinfo
from typing import TYPE_CHECKING, Any

from ops.serialize.errors import CorruptDataError, UnsupportedTypeError
from ops.serialize.nodes.parts import Raw, check_hashable, expect, paired, pairs

if TYPE_CHECKING:
    from collections.abc import Callable

    from ops.serialize.nodes.parts import Reading

__all__ = ["BUILDERS", "build_zone", "encode_type", "encoder_of"]

_FACTORIES: dict[str, Any] = {
    kind.__name__: kind
    for kind in (list, dict, set, int, float, str, tuple, bool, bytes, frozenset, complex)
}
_TYPES: dict[str, type] = {
    **_FACTORIES,
    **{
        kind.__name__: kind
        for kind in (object, bytearray, slice, range, type(None), type(Ellipsis), memoryview)
    },
    **{
        f"{kind.__module__}.{kind.__qualname__}": kind
        for kind in (
            dt.date, dt.datetime, dt.time, dt.timedelta, dt.timezone, decimal.Decimal,
            fractions.Fraction, uuid.UUID, collections.OrderedDict, collections.Counter,
            collections.deque, collections.defaultdict, pathlib.Path, pathlib.PurePath,
        )
    },
}  # fmt: skip
_NAMES_OF_TYPES = {kind: name for name, kind in _TYPES.items()}
_MOST_DIGITS = 4300
_MOST_BITS = 1 << 14
_DECIMAL = re.compile(
    r"-?(\d+(E[+-]\d{1,19})?|\d+\.\d+(E[+-]\d{1,19})?|Infinity|s?NaN\d*)", re.ASCII
)
_ZONE = re.compile(r"[A-Za-z0-9_+\-]{1,40}(/[A-Za-z0-9_+\-]{1,40}){0,3}", re.ASCII)
_PATHS = {
    kind.__name__: kind
    for kind in (
        pathlib.PurePosixPath, pathlib.PureWindowsPath, pathlib.PosixPath, pathlib.WindowsPath,
    )
}  # fmt: skip
_ADDRESSES = {
    kind.__name__: kind
    for kind in (
        ipaddress.IPv4Address, ipaddress.IPv6Address, ipaddress.IPv4Network,
        ipaddress.IPv6Network, ipaddress.IPv4Interface, ipaddress.IPv6Interface,
    )
}  # fmt: skip
_CODES = "bBuwhHiIlLqQfd"


def encoder_of(kind: type) -> Callable[[Any], tuple[str, tuple[Any, ...]]] | None:
    """Return the encoder of exactly this type, or None."""
    return _ENCODERS.get(kind)


def encode_type(value: Any) -> tuple[str, tuple[Any, ...]]:
    """Return the node of a class of the standard library, itself the value."""
    name = _NAMES_OF_TYPES.get(value)
    if name is None:
        raise UnsupportedTypeError(
            f"The class {value.__module__}.{value.__qualname__} is no plain data."
        )
    return "type", (name,)


def _defaultdict(value: Any) -> tuple[str, tuple[Any, ...]]:
    factory = value.default_factory
    name = None if factory is None else getattr(factory, "__name__", "")
    if factory is not None and _FACTORIES.get(str(name)) is not factory:
        raise UnsupportedTypeError(f"The factory {factory!r} of a defaultdict is no plain type.")
    return "defaultdict", (name, paired(value))


def _ordered(value: Any) -> tuple[str, tuple[Any, ...]]:
    state = vars(value)
    if set(state) - {"_metadata"}:  # torch puts the versions of a module's parts there
        raise UnsupportedTypeError("An OrderedDict with attributes of its own is no plain data.")
    return "ordereddict", (paired(value), state.get("_metadata"))


def _array(value: Any) -> tuple[str, tuple[Any, ...]]:
    if value.typecode in "uw":
        return "array", (value.typecode, value.tounicode(), sys.byteorder)
    return "array", (
        f"{value.typecode}{value.itemsize}",
        Raw(memoryview(value).cast("B"), value.itemsize),
        sys.byteorder,
    )


def _fraction(value: Any) -> tuple[str, tuple[Any, ...]]:
    if max(value.numerator.bit_length(), value.denominator.bit_length()) > _MOST_BITS:
        raise UnsupportedTypeError(f"A fraction of more than {_MOST_BITS} bits is no plain data.")
    return "fraction", (value.numerator, value.denominator)


def _decimal(value: Any) -> tuple[str, tuple[Any, ...]]:
    text = str(value)
    if len(text) > _MOST_DIGITS:
        raise UnsupportedTypeError(
            f"A Decimal of more than {_MOST_DIGITS} digits is no plain data."
        )
    return "decimal", (text,)


def _datetime(value: Any) -> tuple[str, tuple[Any, ...]]:
    return "datetime", (*value.timetuple()[:6], value.microsecond, value.fold, value.tzinfo)


def _time(value: Any) -> tuple[str, tuple[Any, ...]]:
    return "time", (
        value.hour, value.minute, value.second, value.microsecond, value.fold, value.tzinfo,
    )  # fmt: skip


def _zone(value: Any) -> tuple[str, tuple[Any, ...]]:
    if not value.key or not _ZONE.fullmatch(value.key):
        raise UnsupportedTypeError("A time zone that was read from a file is no plain data.")
    return "zone", (value.key,)


def _timezone(value: Any) -> tuple[str, tuple[Any, ...]]:
    offset, *name = value.__getinitargs__()
    return "timezone", (offset.days, offset.seconds, offset.microseconds, name[0] if name else None)


_ENCODERS: dict[type, Any] = {
    complex: lambda v: ("complex", (v.real, v.imag)),
    bytes: lambda v: ("bytes", (Raw(memoryview(v)),)),
    bytearray: lambda v: ("bytearray", (Raw(memoryview(v)),)),
    range: lambda v: ("range", (v.start, v.stop, v.step)),
    slice: lambda v: ("slice", (v.start, v.stop, v.step)),
    collections.deque: lambda v: ("deque", (tuple(v), v.maxlen)),
    collections.OrderedDict: _ordered,
    collections.defaultdict: _defaultdict,
    collections.Counter: lambda v: ("counter", (paired(v),)),
    array.array: _array,
    dt.date: lambda v: ("date", (v.year, v.month, v.day)),
    dt.datetime: _datetime,
    dt.time: _time,
    dt.timedelta: lambda v: ("timedelta", (v.days, v.seconds, v.microseconds)),
    dt.timezone: _timezone,
    zoneinfo.ZoneInfo: _zone,
    decimal.Decimal: _decimal,
    fractions.Fraction: _fraction,
    uuid.UUID: lambda v: ("uuid", (v.bytes, v.is_safe.value)),
    uuid.SafeUUID: lambda v: ("safeuuid", (v.value,)),
    **{kind: lambda v: ("path", (type(v).__name__, str(v))) for kind in _PATHS.values()},
    **{kind: lambda v: ("ip", (type(v).__name__, str(v))) for kind in _ADDRESSES.values()},
}


def _build_type(_: Reading, name: Any) -> type:
    return _TYPES[expect(name, str)]


def _build_bytes(reading: Reading, data: Any) -> bytes:
    reading.budget.take(len(data))
    return bytes(memoryview(data))


def _build_bytearray(reading: Reading, data: Any) -> bytearray:
    reading.budget.take(len(data))
    return bytearray(memoryview(data))


def _build_range(_: Reading, start: Any, stop: Any, step: Any) -> range:
    return range(expect(start, int), expect(stop, int), expect(step, int))


def _build_deque(reading: Reading, items: Any, maxlen: Any) -> Any:
    reading.budget.take(8 * len(expect(items, tuple)))
    made = collections.deque(items, maxlen)
    if len(made) != len(items):
        raise CorruptDataError("A deque has more items than it may.")
    return made


def _checked_keys(reading: Reading, parts: Any) -> list[tuple[Any, Any]]:
    """Return the pairs of a mapping, whose keys have been checked."""
    items = pairs(parts)
    reading.copy(parts, 100 * len(items))
    check_hashable(reading, [key for key, _ in items])
    return items


def _build_ordered(reading: Reading, parts: Any, metadata: Any) -> Any:
    made: Any = collections.OrderedDict(_checked_keys(reading, parts))
    if metadata is not None:
        made._metadata = metadata  # noqa: SLF001 - as torch does
    return made


def _build_defaultdict(reading: Reading, name: Any, parts: Any) -> Any:
    factory = None if name is None else _FACTORIES[expect(name, str)]
    return collections.defaultdict(factory, _checked_keys(reading, parts))


def _build_counter(reading: Reading, parts: Any) -> Any:
    made: collections.Counter[Any] = collections.Counter()
    dict.update(made, _checked_keys(reading, parts))
    return made


def _build_array(reading: Reading, code: Any, data: Any, order: Any) -> Any:
    letter = expect(code, str)[:1]
    if letter not in _CODES or not letter:
        raise CorruptDataError("The type code of an array is unknown.")
    reading.copy(data, 4 * len(data))
    if letter in "uw":
        return array.array(letter, expect(data, str))
    made = array.array(letter)
    if code != f"{letter}{made.itemsize}":
        raise CorruptDataError("An array has items of another size on this machine.")
    made.frombytes(memoryview(data))
    if order != sys.byteorder:
        made.byteswap()
    return made


def _build_decimal(_: Reading, text: Any) -> decimal.Decimal:
    if len(expect(text, str)) > _MOST_DIGITS or not _DECIMAL.fullmatch(text):
        raise CorruptDataError("A Decimal is not written as one.")
    return decimal.Decimal(text)


def _build_fraction(_: Reading, numerator: Any, denominator: Any) -> fractions.Fraction:
    top, bottom = expect(numerator, int), expect(denominator, int)
    if max(top.bit_length(), bottom.bit_length()) > _MOST_BITS or bottom < 1:
        raise CorruptDataError("A fraction is not one.")
    words = (top.bit_length() + bottom.bit_length()) // 64
    _.budget.take_time(words * words // 16)  # of their greatest common divisor
    return fractions.Fraction(top, bottom)


def build_zone(_: Reading, key: Any) -> zoneinfo.ZoneInfo:
    """Return the time zone called *key*, which is a name and no path."""
    if not _ZONE.fullmatch(expect(key, str)):
        raise CorruptDataError("The name of a time zone is none.")
    return zoneinfo.ZoneInfo(key)


def _zone_or_none(zone: Any) -> Any:
    if zone is not None and not isinstance(zone, dt.tzinfo):
        raise CorruptDataError("A time zone is none.")
    return zone


def _build_datetime(_: Reading, *parts: Any) -> dt.datetime:
    year, month, day, *numbers, fold, zone = parts
    hour, minute, second, microsecond = map(_int, numbers)
    return dt.datetime(
        _int(year),
        _int(month),
        _int(day),
        hour,
        minute,
        second,
        microsecond,
        _zone_or_none(zone),
        fold=_int(fold),
    )


def _build_time(_: Reading, *parts: Any) -> dt.time:
    *numbers, fold, zone = parts
    hour, minute, second, microsecond = map(_int, numbers)
    return dt.time(hour, minute, second, microsecond, _zone_or_none(zone), fold=_int(fold))


def _int(value: Any) -> int:
    return int(expect(value, int))


def _build_timezone(_: Reading, days: Any, seconds: Any, micros: Any, name: Any) -> dt.timezone:
    offset = dt.timedelta(_int(days), _int(seconds), _int(micros))
    if name is None:
        return dt.timezone(offset) if offset else dt.UTC
    return dt.timezone(offset, expect(name, str))


def _build_uuid(_: Reading, data: Any, safe: Any) -> uuid.UUID:
    return uuid.UUID(
        bytes=expect(data, bytes), is_safe=uuid.SafeUUID(expect(safe, int, type(None)))
    )


def _build_path(_: Reading, kind: Any, text: Any) -> Any:
    return _PATHS[expect(kind, str)](expect(text, str))


def _build_address(_: Reading, kind: Any, text: Any) -> Any:
    if len(expect(text, str)) > 100:
        raise CorruptDataError("An address is none.")
    return _ADDRESSES[expect(kind, str)](text)


BUILDERS: dict[str, Any] = {
    "type": _build_type,
    "complex": lambda _, real, imag: complex(expect(real, float), expect(imag, float)),
    "bytes": _build_bytes,
    "bytearray": _build_bytearray,
    "range": _build_range,
    "slice": lambda _, start, stop, step: slice(start, stop, step),
    "deque": _build_deque,
    "ordereddict": _build_ordered,
    "defaultdict": _build_defaultdict,
    "counter": _build_counter,
    "array": _build_array,
    "date": lambda _, *parts: dt.date(*map(_int, parts)),
    "datetime": _build_datetime,
    "time": _build_time,
    "timedelta": lambda _, *parts: dt.timedelta(*map(_int, parts)),
    "timezone": _build_timezone,
    "zone": build_zone,
    "decimal": _build_decimal,
    "fraction": _build_fraction,
    "uuid": _build_uuid,
    "safeuuid": lambda _, value: uuid.SafeUUID(expect(value, int, type(None))),
    "path": _build_path,
    "ip": _build_address,
}


def _build_instance(reading: Reading, *parts: Any) -> Any:
    from ops.serialize.nodes.instances import build_instance

    return build_instance(reading, *parts)


BUILDERS["instance"] = _build_instance
