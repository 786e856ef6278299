"""What callers pass in: indices checked against the shape, values converted when nothing is lost."""

from __future__ import annotations

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
    """Tell, quickly, whether *data* is a Python number that *dtype* holds as it is; False: look closer."""
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


def to_dtype(data: Any, dtype: np.dtype[Any]) -> np.ndarray:
    """Return *data* as an array of *dtype*.

    Python and NumPy values are accepted when the dtype can hold them: 7 and 7.0 fit uint8, 7.5 and
    300 do not. Rounding to a shorter float is accepted, overflow to infinity is not.

    Raises ValidationError.
    """
    if type(data) is np.ndarray and data.dtype == dtype:
        return data
    value = np.asarray(data)
    if value.dtype == dtype:
        return value
    if value.dtype.kind == "c" and dtype.kind in "biuf":
        if np.any(np.imag(value)):
            raise ValidationError(f"{_shown(data)} does not fit {dtype}.")
        value = np.real(value)
    try:
        with np.errstate(invalid="ignore", over="ignore"):
            converted = value.astype(dtype)
            lossless = _keeps(value, converted)
    except (TypeError, ValueError, OverflowError) as error:
        raise ValidationError(f"{_shown(data)} cannot become {dtype}: {error}") from error
    if not lossless:
        raise ValidationError(f"{_shown(data)} does not fit {dtype}.")
    return converted


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
