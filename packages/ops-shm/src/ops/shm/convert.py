"""What callers pass in: indices checked against the shape, values converted when nothing is lost."""

from __future__ import annotations

import datetime as dt
import functools
import operator
from typing import Any, SupportsIndex, TypeAlias

import numpy as np

from ops.foundation.errors import ValidationError

Index: TypeAlias = SupportsIndex | tuple[SupportsIndex] | tuple[SupportsIndex, SupportsIndex]


def as_slice(index: Index, shape: tuple[int, ...], name: str) -> slice | int:
    """Return the slice of `(start,)` or `(start, stop)`, negative numbers counted from the end.

    Raises IndexError for anything outside the first axis, where NumPy would silently cut.
    """
    length = shape[0] if shape else 0
    try:
        if not isinstance(index, tuple):
            return operator.index(index)
        start, stop = map(operator.index, index if len(index) != 1 else (*index, length))
    except (TypeError, ValueError):
        text = f"{index!r} is no index: give an integer, (start,) or (start, stop)."
        raise IndexError(text) from None
    first = start + length if start < 0 else start
    last = stop + length if stop < 0 else stop
    if not 0 <= first <= last <= length:
        raise IndexError(f"{index!r} is outside the array {name!r} of length {length}.")
    return slice(first, last)


def one_element(array: np.ndarray, index: Any) -> Any:
    """Return the element at *index*; raises IndexError when that is more than one."""
    value: Any = array[index]
    if isinstance(value, np.ndarray):
        raise IndexError(f"{index!r} is not the index of one element of shape {array.shape}.")
    return value


def is_exact(data: Any, dtype: np.dtype[Any]) -> bool:
    """Return, quickly, whether *data* is a Python number that *dtype* holds as it is; False: look closer."""
    if data.__class__ is int:
        low, high = _integer_limits(dtype)
        return low <= data <= high
    return data.__class__ is float and dtype.char == "d"


@functools.cache
def _integer_limits(dtype: np.dtype[Any]) -> tuple[int, int]:
    if dtype.kind not in "iu":
        return 1, 0
    limits = np.iinfo(dtype)
    return int(limits.min), int(limits.max)


def to_element(data: Any, dtype: np.dtype[Any]) -> Any:
    """Return *data* as one scalar of *dtype*; raises ValidationError as `to_dtype` does."""
    value = to_dtype(data, dtype)
    if value.shape:
        raise ValidationError(f"{_shown(data)} is more than one element.")
    return value[()]


def as_element(data: Any, dtype: np.dtype[Any]) -> Any:
    """Return *data* as a scalar of *dtype*, or as it is when no element can be equal to it."""
    try:
        return to_element(data, dtype)
    except ValidationError:
        return data if dtype.names is None else None


def to_dtype(data: Any, dtype: np.dtype[Any]) -> np.ndarray:
    """Return *data* as an array of *dtype*.

    Python and NumPy values are accepted when the dtype can hold them: 7 and 7.0 fit uint8, 7.5 and
    300 do not. Rounding to a shorter float is accepted, overflow to infinity is not. Dates are
    accepted as datetime, date and text, NaT stays NaT; a date with a time zone becomes UTC, as
    datetime64 has none. A structured dtype takes tuples, lists of tuples, and arrays with its fields.

    Raises ValidationError.
    """
    if type(data) is np.ndarray and data.dtype == dtype:
        return data
    if dtype.names is not None:
        return _to_structured(data, dtype)
    try:
        value = np.asarray(data)
        if value.dtype == dtype:
            return value
        if dtype.kind in "mM":
            value = _as_times(value, dtype)
        if value.dtype.kind == "c" and dtype.kind in "biuf":
            if np.any(np.imag(value)):
                raise ValidationError(f"{_shown(data)} does not fit {dtype}.")
            value = np.real(value)
        with np.errstate(invalid="ignore", over="ignore"):
            converted = value.astype(dtype)
            lossless = _keeps(value, converted)
    except (TypeError, ValueError, OverflowError) as error:
        if isinstance(error, ValidationError):
            raise
        raise ValidationError(f"{_shown(data)} cannot become {dtype}: {error}") from error
    if not lossless:
        raise ValidationError(f"{_shown(data)} does not fit {dtype}.")
    return converted


def _to_structured(data: Any, dtype: np.dtype[Any]) -> np.ndarray:
    """Convert field by field, so that each is checked as an array of its own would be."""
    names = dtype.names or ()
    given = getattr(getattr(data, "dtype", None), "names", None)
    if given is not None and given != names:
        raise ValidationError(f"{_shown(data)} has the fields {given}, the array has {names}.")
    shape = np.shape(data) if given is not None else _shape_of_records(data, len(names), dtype)
    converted = np.empty(shape, dtype)
    for position, name in enumerate(names):
        field = dtype[name]
        base, inner = field.subdtype or (field, ())
        column = data[name] if given is not None else _column(data, position)
        value = to_dtype(column, base)
        if value.shape != (*shape, *inner):
            raise ValidationError(
                f"{_shown(data)} has a field {name!r} of shape {value.shape[len(shape) :]}, "
                f"which is {inner} in the array."
            )
        converted[name] = value
    return converted


def _shape_of_records(data: Any, fields: int, dtype: np.dtype[Any]) -> tuple[int, ...]:
    if isinstance(data, tuple):
        if len(data) != fields:
            raise ValidationError(f"{_shown(data)} has {len(data)} fields, {dtype} has {fields}.")
        return ()
    if isinstance(data, np.ndarray) and data.ndim and not data.dtype.hasobject:
        data = None
    if not isinstance(data, (list, np.ndarray)):
        raise ValidationError(
            f"{_shown(data)} cannot become {dtype}: give a tuple, a list of tuples, or an array "
            "with these fields."
        )
    shapes = {_shape_of_records(record, fields, dtype) for record in data}
    if len(shapes) > 1:
        raise ValidationError(f"{_shown(data)} has rows of different lengths.")
    return (len(data), *next(iter(shapes), ()))


def _column(data: Any, position: int) -> Any:
    if isinstance(data, tuple):
        return data[position]
    return [_column(record, position) for record in data]


def _as_times(value: np.ndarray, dtype: np.dtype[Any]) -> np.ndarray:
    """Return text and Python's own dates and durations as NumPy's, in the unit that they need."""
    kind = "M8" if dtype.kind == "M" else "m8"
    if value.dtype.kind in "US" and kind == "M8":
        return value.astype("M8") if value.dtype.kind == "U" else value.astype("U").astype("M8")
    if value.dtype.kind != "O":
        return value
    times = [_time(item) for item in value.ravel()]
    return np.array(times, kind).reshape(value.shape)


def _time(item: Any) -> Any:
    if isinstance(item, str):
        return np.datetime64(item)
    if isinstance(item, dt.datetime) and item.tzinfo is not None:
        return item.astimezone(dt.UTC).replace(tzinfo=None)
    if not isinstance(item, (dt.date, dt.timedelta, np.datetime64, np.timedelta64)):
        raise TypeError(f"{item!r} is no date or duration")
    return item


def to_addend(amount: Any, dtype: np.dtype[Any]) -> Any:
    """Return *amount* as a scalar of *dtype* that adds the same, modulo what the dtype can hold.

    Raises ValidationError when *dtype* is no number or *amount* would lose something.
    """
    if dtype.kind in "fc":
        return dtype.type(to_dtype(amount, dtype)[()])
    if dtype.kind not in "iu":
        raise ValidationError(f"{_shown(amount)} cannot be added to {dtype}.")
    try:
        whole: int = int(amount) if isinstance(amount, float) else amount.__index__()
        exact = whole == amount
    except (AttributeError, ValueError, OverflowError):
        whole, exact = 0, False
    if not exact:
        raise ValidationError(f"{_shown(amount)} is no integer, which {dtype} needs.")
    low, high = _integer_limits(dtype)
    return dtype.type((whole - low) % (high - low + 1) + low)


def _keeps(value: np.ndarray, converted: np.ndarray) -> bool:
    kind = converted.dtype.kind
    if value.dtype.kind in "mM" and kind in "mM":
        back = converted.astype(value.dtype)
        return bool(np.all((back == value) | (np.isnat(converted) & np.isnat(value))))
    if value.dtype.kind not in "biufc" or kind not in "biufc":
        return bool(np.array_equal(converted.astype(value.dtype), value))
    if kind in "fc":
        return bool(np.array_equal(np.isfinite(converted), np.isfinite(value)))
    if value.dtype.kind in "iu" and kind in "iu" and value.size:
        limits = np.iinfo(converted.dtype)
        # Compared as Python integers: uint64 against int64 would go through float.
        return limits.min <= int(value.min()) and int(value.max()) <= limits.max
    return bool(np.array_equal(converted, value))


def _shown(data: Any) -> str:
    text = repr(data)
    return text if len(text) <= 80 else f"{text[:77]}..."
