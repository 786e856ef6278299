"""How arrays and frames enter a digest: type, dtype and shape as text, then the buffers themselves.

No value is turned into a Python object unless the dtype is object, so the speed is that of reading
memory. Non-contiguous arrays are copied once; Fortran order does not change a digest's cost but is
part of the value's layout only for hashing: equal arrays of different order have equal digests.
"""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from ops.serialize.digests import _Walk

__all__ = ["walk_arrow", "walk_numpy", "walk_pandas", "walk_torch"]


def walk_numpy(walk: _Walk, obj: Any) -> None:
    """Write an array or NumPy scalar: its class, dtype, shape, then its C-ordered buffer."""
    import numpy as np

    array = np.asarray(obj)
    dtype = array.dtype
    described = _fields_of(dtype) if dtype.names else dtype.str
    walk.tag("numpy", type(obj).__qualname__, described, array.shape)
    if isinstance(obj, np.ma.MaskedArray):  # what lies under the mask counts, too
        walk.node(np.ma.getmaskarray(obj))
    if dtype.names:  # field by field, since the bytes between fields mean nothing
        for field in dtype.names:
            walk_numpy(walk, array[field])
    elif dtype.hasobject:
        walk.node(array.ravel().tolist())
    elif array.size:
        flat = np.ascontiguousarray(array).reshape(-1)
        walk.write(flat.view(np.uint8).data if dtype.itemsize else b"")


def _fields_of(dtype: Any) -> Any:
    try:
        return dtype.descr
    except ValueError:  # fields that overlap or are out of order
        return [(name, *map(str, dtype.fields[name])) for name in dtype.names]


def walk_arrow(walk: _Walk, obj: Any) -> None:
    """Write an Arrow object: its type, which values are null, and the values that are not."""
    import pyarrow as pa

    walk.tag("arrow", type(obj).__qualname__)
    if isinstance(obj, pa.DataType | pa.Field | pa.Schema):
        walk.tag(repr(obj))
    elif isinstance(obj, pa.Scalar):
        _arrow_array(walk, pa.array([obj.as_py()], obj.type))
    elif isinstance(obj, pa.ChunkedArray | pa.Array):
        _arrow_array(walk, obj)
    elif isinstance(obj, pa.RecordBatch | pa.Table):
        walk.node(dict(obj.schema.metadata or {}))
        walk.tag(obj.num_rows, *obj.schema)
        for column in obj.columns:
            _arrow_array(walk, column)
    else:
        walk.reduced(obj, type(obj))


def _arrow_array(walk: _Walk, array: Any) -> None:
    """Write an array by content: what lies under nulls, offsets and chunks make no difference."""
    import pyarrow as pa
    import pyarrow.compute

    pc: Any = pyarrow.compute  # its functions are made at run time
    if isinstance(array, pa.ChunkedArray):
        array = array.combine_chunks()
    kind = array.type
    walk.tag("array", kind, len(array), array.null_count)
    if array.null_count:
        walk.node(array.is_null().to_numpy(zero_copy_only=False))
        array = array.drop_null()
    if isinstance(kind, pa.BaseExtensionType):
        _arrow_array(walk, array.storage)
    elif pa.types.is_dictionary(kind):
        _arrow_array(walk, array.dictionary_decode())
    elif pa.types.is_struct(kind):
        for i in range(kind.num_fields):
            _arrow_array(walk, pc.struct_field(array, [i]))
    elif pa.types.is_list(kind) or pa.types.is_large_list(kind):
        walk.node(pc.list_value_length(array).to_numpy())
        _arrow_array(walk, array.flatten())
    elif pa.types.is_large_string(kind) or pa.types.is_large_binary(kind):
        walk.node(pc.binary_length(array).to_numpy())
        offsets = memoryview(array.buffers()[1] or bytes(8)).cast("B").cast("q")
        start, end = offsets[array.offset], offsets[array.offset + len(array)]
        walk.write(memoryview(array.buffers()[2] or b"").cast("B")[start:end])
    elif pa.types.is_string(kind) or pa.types.is_binary(kind):
        wide = pa.large_string() if pa.types.is_string(kind) else pa.large_binary()
        _arrow_array(walk, array.cast(wide))
    elif pa.types.is_integer(kind) or pa.types.is_floating(kind):
        walk.node(array.to_numpy())
    elif pa.types.is_boolean(kind):
        walk.node(array.to_numpy(zero_copy_only=False))
    elif pa.types.is_temporal(kind) and kind.bit_width in {32, 64}:
        walk.node(array.view(pa.int32() if kind.bit_width == 32 else pa.int64()).to_numpy())
    else:  # decimals, maps, unions, views and what is yet to come: slower, by value
        walk.node(array.to_pylist())


def walk_pandas(walk: _Walk, obj: Any) -> None:
    """Write a frame, series, index or extension array column by column."""
    import pandas as pd

    walk.tag("pandas", type(obj).__qualname__)
    if isinstance(obj, pd.DataFrame):
        walk.node(obj.index)
        walk.node(obj.columns)
        for _, column in obj.items():  # noqa: PERF102 - the values of a frame are one array
            _values(walk, column.array)
        walk.node(dict(obj.attrs))
    elif isinstance(obj, pd.Series):
        walk.node(obj.index)
        walk.node(obj.name)
        _values(walk, obj.array)
    elif isinstance(obj, pd.RangeIndex):
        walk.node((obj.start, obj.stop, obj.step, obj.name))
    elif isinstance(obj, pd.MultiIndex):
        walk.node(list(obj.names))
        walk.tag(len(obj))
        for i in range(obj.nlevels):
            _values(walk, obj.get_level_values(i).array)
    elif isinstance(obj, pd.Index):
        walk.node((list(obj.names), getattr(obj, "freqstr", None)))
        _values(walk, obj.array)
    elif isinstance(obj, pd.api.extensions.ExtensionArray):
        _values(walk, obj)
    else:
        walk.reduced(obj, type(obj))


def _values(walk: _Walk, values: Any) -> None:
    import pandas as pd

    walk.tag("values", values.dtype, len(values))
    if isinstance(values, pd.Categorical):
        walk.node(values.codes)
        walk.node(values.ordered)
        _values(walk, values.categories.array)
    elif hasattr(values, "_mask"):
        walk.node(values._mask)  # noqa: SLF001 - the masked arrays have no public buffers
        walk.node(values.to_numpy(dtype=values.dtype.numpy_dtype, na_value=0))
    elif "Arrow" in type(values).__name__:
        walk_arrow(walk, values.__arrow_array__())
    elif hasattr(values, "_ndarray"):
        walk.node(values._ndarray)  # noqa: SLF001 - also datetimes, without a copy
    else:
        walk.node(list(values))


def walk_torch(walk: _Walk, obj: Any) -> None:
    """Write a dense tensor by its own elements, not by the storage that it may be a view of."""
    torch: Any = sys.modules["torch"]
    if not isinstance(obj, torch.Tensor) or obj.layout != torch.strided or obj.is_quantized:
        walk.reduced(obj, type(obj))
        return
    walk.tag("torch", type(obj).__qualname__, obj.dtype, tuple(obj.shape), obj.requires_grad)
    flat = obj.detach().resolve_conj().resolve_neg().cpu().contiguous().reshape(-1)
    walk.write(flat.view(torch.uint8).numpy().data)
