"""How arrays and tensors enter a digest: class, dtype and shape as text, then the buffers themselves.

No value is turned into a Python object unless the dtype is object, so the speed is that of reading
memory. Non-contiguous arrays are copied once; equal arrays of different memory order have equal
digests. Bytes that are no part of a value do not count: between the fields of a record, and behind
the ten that x86 uses of a long double.
"""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING, Any

from ops.serialize._objects import class_name, write_reduced

if TYPE_CHECKING:
    from ops.serialize._canonical import Canonical

__all__ = ["write_numpy", "write_torch"]

_X87_MANTISSA = 63
_X87_BYTES = 10


def write_numpy(out: Canonical, obj: Any, kind: type) -> bytes:
    """Write an array or NumPy scalar: class, dtype, shape, C-ordered buffer, own attributes."""
    import numpy as np

    if not isinstance(obj, np.ndarray | np.generic):
        return write_reduced(out, obj, kind)
    if obj is np.ma.masked:  # a constant, which refuses to be looked into
        return out.tag("numpy", "masked")
    array = np.asarray(obj)
    parts = [
        out.tag("numpy", *_public_name(kind), _described(array.dtype), array.shape),
        _elements(out, array),
    ]
    if isinstance(obj, np.ma.MaskedArray):  # what lies under the mask counts, too
        mask, hard = np.ma.getmaskarray(obj), bool(obj.hardmask)
        parts.append(out.nodes(mask, obj.fill_value, hard))
    if kind.__module__.partition(".")[0] != "numpy":
        held = {
            name: value
            for name, value in getattr(obj, "__dict__", {}).items()
            if name not in _of_the_library()
        }
        parts.append(out.node(held))
    return b"".join(parts)


def _public_name(kind: type) -> tuple[str, ...]:
    """Return the name of a class; NumPy has moved its own between modules."""
    module, name = class_name(kind)
    return (name,) if module.partition(".")[0] == "numpy" else (module, name)


def _of_the_library() -> frozenset[str]:
    """Return the attributes that NumPy's own classes in Python keep in a `__dict__`."""
    import numpy as np

    return frozenset((*vars(np.ma.array([0])), "_mmap", "offset", "mode", "filename"))


def _described(dtype: Any) -> object:
    if dtype.names:
        return _fields_of(dtype)
    return str(dtype) if dtype.kind == "T" else dtype.str  # 'T': text of any length


def _fields_of(dtype: Any) -> Any:
    try:
        return dtype.descr
    except ValueError:  # fields that overlap or are out of order
        return [(name, *map(str, dtype.fields[name])) for name in dtype.names]


def _elements(out: Canonical, array: Any) -> bytes:
    import numpy as np

    dtype = array.dtype
    if dtype.names:  # field by field, since the bytes between fields mean nothing
        return b"".join(
            out.tag(name, _described(array[name].dtype), array[name].shape)
            + _elements(out, array[name])
            for name in dtype.names
        )
    if dtype.hasobject or dtype.kind == "T":
        return out.node(array.ravel().tolist())
    if not (array.size and dtype.itemsize):
        return out.buffer(b"")
    flat = np.ascontiguousarray(array).reshape(-1).view(np.uint8)
    if dtype.char in "gG" and np.finfo(np.longdouble).nmant == _X87_MANTISSA:
        flat = np.ascontiguousarray(flat.reshape(-1, np.dtype("g").itemsize)[:, :_X87_BYTES])
    return out.buffer(flat.data)


def write_torch(out: Canonical, obj: Any, kind: type) -> bytes:
    """Write a dense tensor by its own elements, not by the storage that it may be a view of."""
    torch: Any = sys.modules["torch"]
    if not isinstance(obj, torch.Tensor) or obj.layout != torch.strided or obj.is_quantized:
        return write_reduced(out, obj, kind)
    head = out.tag("torch", *class_name(kind), obj.dtype, tuple(obj.shape), obj.requires_grad)
    flat = obj.detach().resolve_conj().resolve_neg().cpu().contiguous().reshape(-1)
    held = dict(getattr(obj, "__dict__", ()))
    return head + out.buffer(flat.view(torch.uint8).numpy().data) + out.node(held)
