"""Dtypes of NumPy as descriptions in JSON, which go through the checked constructor.

NumPy believes offsets and flags that it is given, so no state of a dtype is ever set from a file.
"""

from __future__ import annotations

import importlib
import json
import math
import re
from typing import TYPE_CHECKING, Any

from ops.foundation.imports import LazyImport
from ops.serialize.errors import CorruptDataError, UnsupportedTypeError
from ops.serialize.nodes.parts import expect, int_between

if TYPE_CHECKING:
    from ops.serialize.nodes.parts import Reading

# Typed Any: the stubs know no internals, and differ between versions.
np: Any = LazyImport("numpy", "ops-serialize[numpy]").import_module()

__all__ = [
    "build_type",
    "describes_simple_dtype",
    "dtype_from",
    "encode_dtype",
    "encode_type",
    "shape_of",
    "text_of_dtype",
]

_SIMPLE = re.compile(
    r"[<>|=]?(?:[biufcSUV]\d{0,9}|\?|[mM]8(?:\[(?:[1-9]\d{0,8})?(?:[YMWDhms]|[munpfa]s)\])?|O)",
    re.ASCII,
)
_LARGEST_ITEM = (1 << 31) - 1
_MOST_DIMENSIONS = 64


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
        shape = shape_of(described["shape"])
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


def encode_dtype(dtype: Any) -> tuple[str, tuple[Any, ...]]:
    """Return the node of *dtype*."""
    return "np.dtype", (text_of_dtype(dtype),)


def encode_type(kind: Any) -> tuple[str, tuple[Any, ...]]:
    """Return the node of one of NumPy's scalar classes, itself the value."""
    if issubclass(kind, np.generic) and np.sctypeDict.get(kind.__name__) is kind:
        return "np.type", (kind.__name__,)
    raise UnsupportedTypeError(f"The class {kind.__module__}.{kind.__qualname__} is no plain data.")


def build_type(_: Reading, name: Any) -> Any:
    """Return the scalar class called *name*."""
    found = np.sctypeDict[expect(name, str)]
    if not issubclass(found, np.generic):
        raise CorruptDataError(f"{name[:40]!r} is no type of NumPy.")
    return found


def shape_of(shape: Any) -> tuple[int, ...]:
    """Return the lengths of *shape*, checked."""
    if len(shape) > _MOST_DIMENSIONS:
        raise CorruptDataError(f"An array has {len(shape)} dimensions.")
    return tuple(int_between(length, 0, (1 << 63) - 1) for length in shape)
