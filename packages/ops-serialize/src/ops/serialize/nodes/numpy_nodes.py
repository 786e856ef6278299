"""Nodes of NumPy: arrays, scalars, dtypes, generators of random numbers.

NumPy believes what it is given about memory: offsets of fields, flags, positions of generators. So no state
of NumPy is ever set from a file. A dtype is a description in JSON that goes through the checked constructor;
an array is made over bytes whose number is that of its shape, and whose truth values and characters are
looked at, since NumPy would use others as offsets or as characters that there are not.
"""

from __future__ import annotations

import functools
import math
from typing import TYPE_CHECKING, Any

from ops.foundation.imports import LazyImport
from ops.serialize.errors import CorruptDataError, UnsupportedTypeError
from ops.serialize.nodes.numpy_dtypes import (
    build_type,
    dtype_from,
    encode_dtype,
    encode_type,
    shape_of,
    text_of_dtype,
)
from ops.serialize.nodes.numpy_random import (
    build_generator,
    build_random_state,
    encode_generator,
    encode_random_state,
)
from ops.serialize.nodes.parts import Raw, expect

if TYPE_CHECKING:
    from collections.abc import Callable

    from ops.serialize.nodes.parts import Reading

# Typed Any: the stubs know no internals, and differ between versions.
np: Any = LazyImport("numpy", "ops-serialize[numpy]").import_module()

__all__ = [
    "BUILDERS",
    "build_array",
    "encode_type",
    "encoder_of",
]

_MOST_CHARACTER = 0x10FFFF
_EMPTY_ITEMS = 1 << 24  # items of no bytes that an array may have


def encoder_of(kind: type) -> Callable[[Any], tuple[str, tuple[Any, ...]]] | None:
    """Return the encoder of exactly this type, or None."""
    found = _encoders().get(kind)
    if found is None and issubclass(kind, np.dtype):
        return encode_dtype
    return found


@functools.cache
def _encoders() -> dict[type, Any]:
    found: dict[type, Any] = {
        np.ndarray: lambda array: ("np.array", _parts(array)),
        np.recarray: lambda array: ("np.recarray", _parts(array.view(np.ndarray))),
        np.matrix: lambda array: ("np.matrix", _parts(array.view(np.ndarray))),
        np.ma.MaskedArray: _masked,
        np.record: lambda scalar: ("np.record", _parts(np.asarray(scalar))),
        type(np.ma.masked): lambda _: ("np.masked", ()),
        np.random.RandomState: encode_random_state,
        np.random.Generator: encode_generator,
    }
    for kind in {*np.sctypeDict.values()} - {np.object_}:
        found[kind] = lambda scalar: ("np.scalar", _parts(np.asarray(scalar)))
    found[np.bytes_] = _bytes_scalar
    found[np.str_] = _text_scalar
    return found


def _bytes_scalar(scalar: Any) -> tuple[str, tuple[Any, ...]]:
    data = bytes.__getitem__(scalar, slice(None))
    if not data.endswith(b"\0"):
        return "np.scalar", _parts(np.asarray(scalar))
    return "np.bytes", (Raw(memoryview(data)),)  # an array would drop the zeros at the end


def _text_scalar(scalar: Any) -> tuple[str, tuple[Any, ...]]:
    text = str.__getitem__(scalar, slice(None))
    if not text.endswith("\0"):
        return "np.scalar", _parts(np.asarray(scalar))
    return "np.str", (text,)


# dtypes


def _parts(array: Any) -> tuple[Any, ...]:
    """Return dtype, order, content and shape; the content of objects is a tuple of them."""
    dtype = array.dtype
    shape = array.shape
    text = text_of_dtype(dtype)
    if dtype.kind == "T":
        return text, "T", tuple(array.ravel().tolist()), *shape
    if dtype.fields is not None and dtype.hasobject:
        return text, "F", tuple(np.ascontiguousarray(array[name]) for name in dtype.names), *shape
    if dtype.hasobject:
        return text, "O", tuple(array.ravel().tolist()), *shape
    order = "C"
    if not array.flags.c_contiguous:
        if array.flags.f_contiguous:
            order, array = "A", array.T
        else:
            array = np.ascontiguousarray(array)
    return text, order, Raw(_memory(array), max(1, dtype.itemsize)), *shape


def _memory(array: Any) -> memoryview:
    if not array.nbytes:
        return memoryview(b"")
    return (
        memoryview(array.reshape(-1).view(np.uint8)) if array.ndim else memoryview(array.tobytes())
    )


def build_array(reading: Reading, text: Any, order: Any, content: Any, *lengths: Any) -> Any:
    """Return the array of a dtype and shape over *content*, all of which is checked."""
    dtype = reading.dtypes.get(text) if type(text) is str else None
    if dtype is None:
        dtype = reading.dtypes[text] = dtype_from(text)
    if dtype.names:
        reading.budget.take_time(text.count(","))  # each field is looked at
    shape = shape_of(lengths)
    count = math.prod(shape)
    expect(order, str)
    if order in {"O", "T", "F"}:
        return _build_from_objects(reading, dtype, order, content, shape)
    if order not in {"C", "A"} or dtype.hasobject:
        raise CorruptDataError("The objects of an array are not held as objects.")
    data = memoryview(content).cast("B")
    if data.nbytes != count * dtype.itemsize:
        raise CorruptDataError(
            f"An array of {count} items has {data.nbytes} bytes instead of {count * dtype.itemsize}."
        )
    if not dtype.itemsize and count > _EMPTY_ITEMS:
        raise CorruptDataError(f"An array has {count} items of no bytes.")
    if isinstance(content, bytes):  # small, and not writable
        reading.budget.take(data.nbytes)
        reading.budget.copy(data.nbytes)
        data = memoryview(bytearray(data))
    if not data.nbytes:
        return np.zeros(shape, dtype)
    form = shape[::-1] if order == "A" else shape
    array = np.ndarray(form, dtype, data)
    _check_content(reading, array)
    return array.T if order == "A" else array


def _check_content(reading: Reading, array: Any) -> None:
    dtype = array.dtype
    if dtype.kind == "b":
        if array.view(np.uint8).max(initial=0) > 1:
            raise CorruptDataError("A truth value of an array is neither 0 nor 1.")
    elif dtype.kind == "U" and dtype.itemsize:
        flat = array.reshape(-1)
        points = flat.view(np.dtype("u4").newbyteorder(dtype.byteorder))
        if points.max(initial=0) > _MOST_CHARACTER:
            raise CorruptDataError("A character of an array is none.")
    elif dtype.names:
        for name in dtype.names:  # fields may lie over each other
            part = array[name]
            if part.dtype.kind in "bUV":
                reading.budget.take_time(part.nbytes // 16)
                reading.budget.copy(part.nbytes)
                _check_content(reading, np.ascontiguousarray(part))


def _build_from_objects(
    reading: Reading, dtype: Any, order: str, content: Any, shape: tuple[int, ...]
) -> Any:
    parts = expect(content, tuple)
    count = math.prod(shape)
    reading.budget.take(max(dtype.itemsize, 8) * count)
    reading.budget.copy((dtype.itemsize + 3) // 2 * count)  # of objects twice what references take
    reading.budget.take_time(count)
    if order == "F":
        if dtype.names is None or len(parts) != len(dtype.names):
            raise CorruptDataError("An array has not the fields of its dtype.")
        if count > 1 << 16 and not any(getattr(part, "size", 0) >= count for part in parts):
            raise CorruptDataError("The fields of an array have other shapes than it.")
        made = np.zeros(shape, dtype)
        for name, part in zip(dtype.names, parts, strict=True):
            if type(part) is not np.ndarray or part.dtype != made[name].dtype:
                raise CorruptDataError("A field of an array is of another dtype.")
            if part.shape != made[name].shape:
                raise CorruptDataError("A field of an array has another shape.")
            made[name] = part
        return made
    if len(parts) != count or dtype.kind != order:
        raise CorruptDataError("An array of objects has another number of them.")
    if order == "T":  # NumPy has texts of its own
        size = sum(len(part) * (1 if part.isascii() else 4) for part in parts if type(part) is str)
        reading.budget.take(size)
        reading.budget.copy(size)
    if order == "T" and not {str}.issuperset(map(type, parts)):
        na = getattr(dtype, "na_object", None)
        if not all(type(part) is str or part is na or _is_nan(part) for part in parts):
            raise CorruptDataError("An array of texts holds something else.")
    made = np.empty(count, dtype)
    for at, part in enumerate(parts):
        made[at] = part
    return made.reshape(shape)


def _is_nan(value: Any) -> bool:
    return isinstance(value, float) and math.isnan(value)


def _build_scalar(reading: Reading, *parts: Any) -> Any:
    array = build_array(reading, *parts)
    if array.shape != () or array.dtype.hasobject:
        raise CorruptDataError("A scalar of NumPy is none.")
    return array[()]


def _build_bytes(reading: Reading, content: Any) -> Any:
    data = memoryview(content).cast("B")
    reading.budget.take(data.nbytes)
    return np.bytes_(bytes(data))


def _masked(array: Any) -> tuple[str, tuple[Any, ...]]:
    state = {k: v for k, v in vars(array).items() if k not in _OF_MASKED}
    if state:
        raise UnsupportedTypeError(f"A masked array with {', '.join(state)} is no plain data.")
    mask = None if array.mask is np.ma.nomask else np.asarray(array.mask)
    fill = None if array._fill_value is None else np.asarray(array._fill_value)  # noqa: SLF001
    return "np.ma", (np.asarray(array.data), mask, fill, bool(array.hardmask))


_OF_MASKED = frozenset(
    {"_mask", "_fill_value", "_hardmask", "_sharedmask", "_isfield", "_baseclass", "_optinfo",
     "_basedict"}
)  # fmt: skip


def _build_masked(reading: Reading, data: Any, mask: Any, fill: Any, hard: Any) -> Any:
    expect(data, np.ndarray)
    reading.budget.take_time(64 * len(data.dtype.names or ()))  # each gets a field of the mask
    if mask is not None and expect(mask, np.ndarray).shape != data.shape:
        raise CorruptDataError("The mask of an array has another shape.")
    if mask is not None and mask.dtype != np.ma.make_mask_descr(data.dtype):
        raise CorruptDataError("The mask of an array is none.")
    if fill is not None and (expect(fill, np.ndarray).ndim or not _is_scalar(fill[()])):
        raise CorruptDataError("The fill value of an array is none.")
    made: Any = np.ma.MaskedArray(
        data, mask=np.ma.nomask if mask is None else mask, hard_mask=expect(hard, bool)
    )
    if fill is not None:
        made.fill_value = fill[()]
    return made


def _is_scalar(value: Any) -> bool:
    """Whether NumPy takes *value* as it is, instead of looking for what it holds."""
    return value is None or isinstance(value, (np.generic, int, float, complex, str, bytes))


def _build_recarray(reading: Reading, *parts: Any) -> Any:
    made = build_array(reading, *parts)
    if made.dtype.names is None:
        raise CorruptDataError("A record array has no fields.")
    return made.view(np.recarray)


def _build_record(reading: Reading, *parts: Any) -> Any:
    made = build_array(reading, *parts)
    if made.shape != () or made.dtype.type is not np.record:
        raise CorruptDataError("A record is none.")
    return made[()]


def _build_matrix(reading: Reading, *parts: Any) -> Any:
    made = build_array(reading, *parts)
    if made.ndim != 2:
        raise CorruptDataError("A matrix has two dimensions.")
    return made.view(np.matrix)


BUILDERS: dict[str, Any] = {
    "np.dtype": lambda _, text: dtype_from(text),
    "np.type": build_type,
    "np.array": build_array,
    "np.scalar": _build_scalar,
    "np.bytes": _build_bytes,
    "np.str": lambda _, text: np.str_(expect(text, str)),
    "np.recarray": _build_recarray,
    "np.record": _build_record,
    "np.matrix": _build_matrix,
    "np.ma": _build_masked,
    "np.masked": lambda _: np.ma.masked,
    "np.randomstate": build_random_state,
    "np.generator": build_generator,
}
