"""Nodes of NumPy: arrays, scalars, dtypes, generators of random numbers.

NumPy believes what it is given about memory: offsets of fields, flags, positions of generators. So no state
of NumPy is ever set from a file. A dtype is a description in JSON that goes through the checked constructor;
an array is made over bytes whose number is that of its shape, and whose truth values and characters are
looked at, since NumPy would use others as offsets or as characters that there are not.
"""

from __future__ import annotations

import functools
import importlib
import json
import math
import re
from typing import TYPE_CHECKING, Any

from ops.foundation.imports import LazyImport
from ops.serialize.errors import CorruptDataError, UnsupportedTypeError
from ops.serialize.nodes.parts import Raw, expect, int_between

if TYPE_CHECKING:
    from collections.abc import Callable

    from ops.serialize.nodes.parts import Reading

# Typed Any: the stubs know no internals, and differ between versions.
np: Any = LazyImport("numpy", "ops-serialize[numpy]").import_module()

__all__ = [
    "BUILDERS",
    "describes_simple_dtype",
    "dtype_from",
    "encode_type",
    "encoder_of",
    "text_of_dtype",
]

_SIMPLE = re.compile(
    r"[<>|=]?(?:[biufcSUV]\d{0,9}|\?|[mM]8(?:\[(?:[1-9]\d{0,8})?(?:[YMWDhms]|[munpfa]s)\])?|O)",
    re.ASCII,
)
_MOST_DIMENSIONS = 64
_LARGEST_ITEM = (1 << 31) - 1
_MOST_CHARACTER = 0x10FFFF
_EMPTY_ITEMS = 1 << 24  # items of no bytes that an array may have


def encoder_of(kind: type) -> Callable[[Any], tuple[str, tuple[Any, ...]]] | None:
    """Return the encoder of exactly this type, or None."""
    found = _encoders().get(kind)
    if found is None and issubclass(kind, np.dtype):
        return _dtype
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
        np.random.RandomState: _random_state,
        np.random.Generator: _generator,
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


def text_of_dtype(dtype: Any) -> str:
    """Return the description of *dtype* in JSON; raises `UnsupportedTypeError`."""
    described = _describe(dtype)
    text = json.dumps(described, separators=(",", ":"))
    if dtype_from(text) != dtype:
        raise UnsupportedTypeError(f"The dtype {dtype!r} has no form that keeps it.")
    return text


def _describe(dtype: Any) -> Any:
    described: Any
    strings: Any = getattr(np.dtypes, "StringDType", ())
    if isinstance(dtype, strings):
        described = {"string": _na_name(dtype), "coerce": dtype.coerce}
    elif dtype.fields is not None:
        parts = [dtype.fields[name] for name in dtype.names]
        described = {
            "names": list(dtype.names),
            "formats": [_describe(part[0]) for part in parts],
            "offsets": [part[1] for part in parts],
            "titles": [part[2] if len(part) > 2 else None for part in parts],
            "size": dtype.itemsize,
            "aligned": dtype.isalignedstruct,
        }
        if dtype.type is np.record:
            described["record"] = True
    elif dtype.subdtype is not None:
        described = {"base": _describe(dtype.subdtype[0]), "shape": list(dtype.subdtype[1])}
    elif _SIMPLE.fullmatch(dtype.str) and np.dtype(dtype.str) == dtype:
        described = dtype.str
    else:
        raise UnsupportedTypeError(f"The dtype {dtype!r} is no plain data.")
    if dtype.metadata:
        metadata = dict(dtype.metadata)
        if json.loads(json.dumps(metadata, default=repr)) != metadata:
            raise UnsupportedTypeError(f"The metadata of the dtype {dtype!r} are no JSON.")
        described = {"of": described, "metadata": metadata}
    return described


def _na_name(dtype: Any) -> str | None:
    if not hasattr(dtype, "na_object"):
        return None
    na = dtype.na_object
    if na is None:
        return "None"
    if isinstance(na, float) and math.isnan(na):
        return "nan"
    if type(na).__module__.startswith("pandas") and type(na).__name__ == "NAType":
        return "NA"
    raise UnsupportedTypeError(f"A StringDType whose na_object is {na!r} is no plain data.")


def dtype_from(text: Any) -> Any:
    """Return the dtype that *text* describes; raises `CorruptDataError`."""
    if len(expect(text, str)) > 1 << 20:
        raise CorruptDataError("The description of a dtype is too long.")
    return _described(json.loads(text), 0)


def _described(described: Any, depth: int) -> Any:
    if depth > 16:
        raise CorruptDataError("A dtype is nested deeper than 16 levels.")
    if isinstance(described, str):
        return _simple(described)
    keys = set(expect(described, dict))
    if keys == {"of", "metadata"}:
        metadata = expect(described["metadata"], dict)
        base = _described(described["of"], depth + 1)
        return _with_metadata(base, metadata)
    if keys == {"string", "coerce"}:
        options = {} if described["string"] is None else {"na_object": _na(described["string"])}
        return np.dtypes.StringDType(coerce=bool(described["coerce"]), **options)
    if keys == {"base", "shape"}:
        shape = _shape(described["shape"])
        base = _described(described["base"], depth + 1)
        if math.prod(shape) * max(base.itemsize, 1) > _LARGEST_ITEM:
            raise CorruptDataError("The items of a dtype are too large.")
        return np.dtype((base, shape))
    return _structured(described, keys, depth)


def describes_simple_dtype(text: Any) -> bool:
    """Whether *text* is a dtype as NumPy writes it, which it can read: it divides by a unit's divisor."""
    return type(text) is str and _SIMPLE.fullmatch(text) is not None


def _simple(text: str) -> Any:
    if not describes_simple_dtype(text):
        raise CorruptDataError(f"{text[:40]!r} describes no dtype.")
    found = np.dtype(text)
    if found.itemsize > _LARGEST_ITEM:
        raise CorruptDataError("The items of a dtype are too large.")
    return found


def _na(name: Any) -> Any:
    if name == "NA":
        pandas: Any = importlib.import_module("pandas")
        return pandas.NA
    return {"None": None, "nan": float("nan")}[expect(name, str)]


def _with_metadata(base: Any, metadata: dict[str, Any]) -> Any:
    options: Any = {"metadata": metadata}
    if base.fields is None and base.subdtype is None:
        return np.dtype(base.str, **options)
    if base.subdtype is not None:
        return np.dtype(base.subdtype, **options)
    described: Any = _dict_form(base)
    made = np.dtype(described, align=base.isalignedstruct, **options)
    return np.dtype((np.record, made)) if base.type is np.record else made


def _dict_form(dtype: Any) -> dict[str, Any]:
    parts = [dtype.fields[name] for name in dtype.names]
    described: dict[str, Any] = {
        "names": list(dtype.names),
        "formats": [part[0] for part in parts],
        "offsets": [part[1] for part in parts],
        "itemsize": dtype.itemsize,
    }
    if any(len(part) > 2 for part in parts):
        described["titles"] = [part[2] if len(part) > 2 else None for part in parts]
    return described


def _structured(described: dict[str, Any], keys: set[str], depth: int) -> Any:
    expected = {"names", "formats", "offsets", "titles", "size", "aligned"}
    if keys - {"record"} != expected:
        raise CorruptDataError("A dtype is described in no known way.")
    names = [expect(name, str) for name in expect(described["names"], list)]
    formats = [_described(part, depth + 1) for part in expect(described["formats"], list)]
    size = int_between(described["size"], 0, _LARGEST_ITEM)
    offsets = [int_between(at, 0, size) for at in expect(described["offsets"], list)]
    titles = [
        title if title is None else expect(title, str)
        for title in expect(described["titles"], list)
    ]
    if not len(names) == len(formats) == len(offsets) == len(titles):
        raise CorruptDataError("The fields of a dtype are not all described.")
    for at, part in zip(offsets, formats, strict=True):
        if at + part.itemsize > size:
            raise CorruptDataError("A field of a dtype is outside of its item.")
    form: Any = {"names": names, "formats": formats, "offsets": offsets, "itemsize": size}
    if any(title is not None for title in titles):
        form["titles"] = titles
    made = np.dtype(form, align=bool(described["aligned"]))
    return np.dtype((np.record, made)) if described.get("record") else made


def _dtype(dtype: Any) -> tuple[str, tuple[Any, ...]]:
    return "np.dtype", (text_of_dtype(dtype),)


def encode_type(kind: Any) -> tuple[str, tuple[Any, ...]]:
    """Return the node of one of NumPy's scalar classes, itself the value."""
    if issubclass(kind, np.generic) and np.sctypeDict.get(kind.__name__) is kind:
        return "np.type", (kind.__name__,)
    raise UnsupportedTypeError(f"The class {kind.__module__}.{kind.__qualname__} is no plain data.")


def _build_type(_: Reading, name: Any) -> Any:
    found = np.sctypeDict[expect(name, str)]
    if not issubclass(found, np.generic):
        raise CorruptDataError(f"{name[:40]!r} is no type of NumPy.")
    return found


# Arrays


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


def _shape(shape: Any) -> tuple[int, ...]:
    if len(shape) > _MOST_DIMENSIONS:
        raise CorruptDataError(f"An array has {len(shape)} dimensions.")
    return tuple(int_between(length, 0, (1 << 63) - 1) for length in shape)


def build_array(reading: Reading, text: Any, order: Any, content: Any, *lengths: Any) -> Any:
    """Return the array of a dtype and shape over *content*, all of which is checked."""
    dtype = reading.dtypes.get(text) if type(text) is str else None
    if dtype is None:
        dtype = reading.dtypes[text] = dtype_from(text)
    if dtype.names:
        reading.budget.take_time(text.count(","))  # each field is looked at
    shape = _shape(lengths)
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
        data = memoryview(bytearray(data))
    if not data.nbytes:
        return np.zeros(shape, dtype)
    form = shape[::-1] if order == "A" else shape
    array = np.ndarray(form, dtype, data)
    _check_content(array)
    return array.T if order == "A" else array


def _check_content(array: Any) -> None:
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
        for name in dtype.names:
            part = array[name]
            if part.dtype.kind in "bUV":
                _check_content(np.ascontiguousarray(part))


def _build_from_objects(
    reading: Reading, dtype: Any, order: str, content: Any, shape: tuple[int, ...]
) -> Any:
    parts = expect(content, tuple)
    count = math.prod(shape)
    reading.budget.take(max(dtype.itemsize, 8) * count)
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


def _build_masked(_: Reading, data: Any, mask: Any, fill: Any, hard: Any) -> Any:
    expect(data, np.ndarray)
    if mask is not None and expect(mask, np.ndarray).shape != data.shape:
        raise CorruptDataError("The mask of an array has another shape.")
    made: Any = np.ma.MaskedArray(
        data, mask=np.ma.nomask if mask is None else mask, hard_mask=expect(hard, bool)
    )
    if fill is not None:
        made.fill_value = expect(fill, np.ndarray)[()]
    return made


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


# Random numbers

_WORDS = (1 << 32) - 1
_MT_WORDS = 624
_BIT_GENERATORS: dict[str, Any] = {
    cls.__name__: cls for cls in (np.random.MT19937, np.random.PCG64, np.random.PCG64DXSM)
}


def _random_state(value: Any) -> tuple[str, tuple[Any, ...]]:
    state = value.get_state(legacy=False)
    if state["bit_generator"] != "MT19937":
        raise UnsupportedTypeError("Only a RandomState of MT19937 is plain data.")
    inner = state["state"]
    return "np.randomstate", (
        inner["key"], int(inner["pos"]), int(state["has_gauss"]), float(state["gauss"]),
    )  # fmt: skip


def _mt19937(key: Any, at: Any) -> dict[str, Any]:
    if type(key) is not np.ndarray or key.shape != (_MT_WORDS,) or key.dtype != np.uint32:
        raise CorruptDataError("The key of a generator is none.")
    # Behind 624 the generator would read beyond its key.
    return {"key": key, "pos": int_between(at, 0, _MT_WORDS)}


def _build_random_state(_: Reading, key: Any, at: Any, has: Any, gauss: Any) -> Any:
    made = np.random.RandomState(np.random.MT19937())
    made.set_state(
        {
            "bit_generator": "MT19937",
            "state": _mt19937(key, at),
            "has_gauss": int_between(has, 0, 1),
            "gauss": expect(gauss, float),
        }
    )
    return made


def _generator(value: Any) -> tuple[str, tuple[Any, ...]]:
    state = value.bit_generator.state
    seed = value.bit_generator.seed_seq
    name, inner = state["bit_generator"], state["state"]
    if name not in _BIT_GENERATORS or type(seed) is not np.random.SeedSequence:
        raise UnsupportedTypeError(f"A generator of {name} is no plain data.")
    entropy = seed.entropy
    seeds = (
        tuple(map(int, entropy)) if isinstance(entropy, (list, tuple, np.ndarray)) else entropy,
        tuple(map(int, seed.spawn_key)),
        int(seed.pool_size),
        int(seed.n_children_spawned),
    )
    if name == "MT19937":
        return "np.generator", (name, seeds, inner["key"], int(inner["pos"]), 0, 0)
    return "np.generator", (
        name, seeds, inner["state"], inner["inc"], state["has_uint32"], state["uinteger"],
    )  # fmt: skip


def _build_generator(
    _: Reading, name: Any, seeds: Any, first: Any, second: Any, has: Any, word: Any
) -> Any:
    generator = _BIT_GENERATORS[expect(name, str)](_seed_sequence(*expect(seeds, tuple)))
    if name == "MT19937":
        generator.state = {"bit_generator": name, "state": _mt19937(first, second)}
        return np.random.Generator(generator)
    most = (1 << 128) - 1
    generator.state = {
        "bit_generator": name,
        "state": {"state": int_between(first, 0, most), "inc": int_between(second, 0, most) | 1},
        "has_uint32": int_between(has, 0, 1),
        "uinteger": int_between(word, 0, _WORDS),
    }
    return np.random.Generator(generator)


def _seed_sequence(entropy: Any, spawned: Any, pool: Any, children: Any) -> Any:
    most = (1 << 4096) - 1
    parts = (*(entropy if type(entropy) is tuple else (entropy,)), *expect(spawned, tuple))
    if len(parts) > 1024:
        raise CorruptDataError("The seed of a generator is too long.")
    for part in parts:
        if part is not None:
            int_between(part, 0, most)
    return np.random.SeedSequence(
        entropy,
        spawn_key=spawned,
        pool_size=int_between(pool, 4, 64),
        n_children_spawned=int_between(children, 0, (1 << 32) - 1),
    )


BUILDERS: dict[str, Any] = {
    "np.dtype": lambda _, text: dtype_from(text),
    "np.type": _build_type,
    "np.array": build_array,
    "np.scalar": _build_scalar,
    "np.bytes": _build_bytes,
    "np.str": lambda _, text: np.str_(expect(text, str)),
    "np.recarray": _build_recarray,
    "np.record": _build_record,
    "np.matrix": _build_matrix,
    "np.ma": _build_masked,
    "np.masked": lambda _: np.ma.masked,
    "np.randomstate": _build_random_state,
    "np.generator": _build_generator,
}
