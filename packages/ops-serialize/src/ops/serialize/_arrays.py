"""How arrays and frames enter a digest: type, dtype and shape as text, then the buffers themselves.

No value is turned into a Python object unless the dtype is object, so the speed is that of reading
memory. Non-contiguous arrays are copied once; Fortran order does not change a digest's cost but is
part of the value's layout only for hashing: equal arrays of different order have equal digests.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from ops.serialize.digests import _Walk

__all__ = ["walk_arrow", "walk_numpy", "walk_pandas"]


def walk_numpy(walk: _Walk, obj: Any) -> None:
    """Write an array or NumPy scalar: its class, dtype, shape, then its C-ordered buffer."""
    import numpy as np

    array = np.asarray(obj)
    dtype = array.dtype
    described = dtype.descr if dtype.names else dtype.str
    walk.tag("numpy", type(obj).__qualname__, described, array.shape)
    if dtype.hasobject:
        walk.node(array.ravel().tolist())
    elif array.size:
        flat = np.ascontiguousarray(array).reshape(-1)
        walk.write(flat.view(np.uint8).data if dtype.itemsize else b"")


def walk_arrow(walk: _Walk, obj: Any) -> None:
    """Write an Arrow object as an IPC stream, whose buffers are cut and offset-free."""
    import pyarrow as pa

    walk.tag("arrow", type(obj).__qualname__)
    if isinstance(obj, pa.DataType | pa.Field | pa.Schema):
        walk.tag(repr(obj))
        return
    if isinstance(obj, pa.Scalar):
        obj = pa.array([obj.as_py()], obj.type)
    if isinstance(obj, pa.ChunkedArray | pa.Array):
        obj = pa.table({"x": obj})
    if isinstance(obj, pa.RecordBatch):
        obj = pa.Table.from_batches([obj])
    if not isinstance(obj, pa.Table):
        walk.reduced(obj, type(obj))
        return
    with (
        pa.PythonFile(_Sink(walk), "w") as sink,
        pa.ipc.new_stream(sink, obj.schema) as writer,
    ):
        writer.write_table(obj.combine_chunks())


class _Sink:
    """A file that feeds what is written to the walk."""

    closed = False

    def __init__(self, walk: _Walk) -> None:
        self._walk = walk

    def write(self, data: Any) -> int:
        self._walk.write(data)
        return len(data)

    def flush(self) -> None:
        """Do nothing: there is no buffer."""

    def tell(self) -> int:
        """Return 0: positions are not used."""
        return 0

    def close(self) -> None:
        """Do nothing: the walk goes on."""


def walk_pandas(walk: _Walk, obj: Any) -> None:
    """Write a frame, series, index or extension array column by column."""
    import pandas as pd

    walk.tag("pandas", type(obj).__qualname__)
    if isinstance(obj, pd.DataFrame):
        walk.node(obj.index)
        walk.node(obj.columns)
        for i in range(obj.shape[1]):
            _values(walk, obj.iloc[:, i].array)
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
        walk.node(list(obj.names))
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
