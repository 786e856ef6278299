"""One message: who, when, what."""

from __future__ import annotations

from typing import Any

import numpy as np

from ops.datalog.errors import InvalidPackageError

__all__ = ["LogPackage"]

_TIME_LIMIT = 1 << 64
#: Bytes of a payload that a frame can hold.
LONGEST = (1 << 32) - 1


class LogPackage:
    """A message of *source_id* (0 to 255) at *timestamp* (unsigned 64-bit, in any unit) with *data*.

    *data* is a uint8 array or any contiguous buffer. The names *time_stamp* and *serialized_data*
    are accepted for the last two as well. Raises InvalidPackageError.

    >>> package = LogPackage(source_id=1, timestamp=1_000, data=b"frame")
    >>> package.source_id, package.timestamp, len(package.data)
    (1, 1000, 5)
    """

    __slots__ = ("data", "source_id", "timestamp")

    def __init__(
        self,
        source_id: Any,
        timestamp: Any = None,
        data: Any = None,
        *,
        time_stamp: Any = None,
        serialized_data: Any = None,
    ) -> None:
        self.source_id: Any = source_id
        self.timestamp: Any = time_stamp if timestamp is None else timestamp
        self.data: Any = serialized_data if data is None else data
        if self.timestamp is None or self.data is None:
            raise InvalidPackageError("A LogPackage needs source_id, timestamp and data.")

    @property
    def time_stamp(self) -> Any:
        """The same as `timestamp`."""
        return self.timestamp

    @property
    def serialized_data(self) -> Any:
        """The same as `data`."""
        return self.data

    def __repr__(self) -> str:
        size = f"{len(self.data)} elements" if hasattr(self.data, "__len__") else repr(self.data)
        return f"LogPackage({self.source_id}, {self.timestamp}, {size})"


def checked(source: Any, time: Any, data: Any) -> tuple[int, int, memoryview]:
    """Return what a frame holds; raises InvalidPackageError that names what is wrong."""
    try:
        source, time = source.__index__(), time.__index__()
    except AttributeError:
        raise InvalidPackageError(
            f"source_id and timestamp must be integers, not {source!r} and {time!r}."
        ) from None
    if not 0 <= source <= 255:
        raise InvalidPackageError(f"source_id must be 0 to 255, not {source}.")
    if not 0 <= time < _TIME_LIMIT:
        raise InvalidPackageError(f"timestamp must be an unsigned 64-bit integer, not {time}.")
    try:
        view = memoryview(data)
        view = view if view.format == "B" and view.ndim == 1 else view.cast("B")
    except (TypeError, ValueError):
        raise InvalidPackageError(
            f"data must be a contiguous buffer of bytes, not {type(data).__name__}."
        ) from None
    if "O" in memoryview(data).format:
        raise InvalidPackageError("data must be bytes, not addresses of objects.")
    if not view.contiguous:
        raise InvalidPackageError("data must be contiguous; copy it first.")
    if len(view) > LONGEST:
        raise InvalidPackageError(f"data of {len(view)} bytes is longer than {LONGEST}.")
    return source, time, view


def as_unsigned(what: str, values: Any, dtype: np.dtype[Any]) -> np.ndarray:
    """Return integers as a contiguous array of *dtype*; raises InvalidPackageError when they do not fit."""
    found = np.asarray(values)
    if found.dtype.kind == "f" and not isinstance(values, np.ndarray):
        found = np.array(values, dtype=object)  # 2**63 and 1 became floats
    if found.dtype != dtype and found.size:
        integers = found.dtype.kind in "iu" or all(isinstance(v, int) for v in found.flat)
        if not integers or found.min() < 0 or found.max() > np.iinfo(dtype).max:
            raise InvalidPackageError(
                f"{what} must be integers that fit {dtype}; {found.dtype} or what it holds does not."
            )
    return np.ascontiguousarray(found, dtype=dtype)
