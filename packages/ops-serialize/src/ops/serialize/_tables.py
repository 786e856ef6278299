"""How frames and Arrow tables enter a digest: labels and types, then the columns' buffers.

Equal tables have equal digests, however they lie in memory: what lies under nulls, offsets, chunks
and the order of a dictionary make no difference, nor do the names of the children of lists and maps,
which Arrow's own equality ignores.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from ops.serialize._objects import class_name, write_reduced

if TYPE_CHECKING:
    from ops.serialize._canonical import Canonical

__all__ = ["write_arrow", "write_pandas"]


def write_arrow(out: Canonical, obj: Any, kind: type) -> bytes:
    """Write an Arrow object: its type, which values are null, and the values that are not."""
    import pyarrow as pa

    head = out.tag("arrow", kind.__qualname__)
    if isinstance(obj, pa.DataType):
        return head + out.node(_type(obj))
    if isinstance(obj, pa.Field):
        return head + out.nodes(_field(obj, named=True), dict(obj.metadata or {}))
    if isinstance(obj, pa.Schema):
        return head + _schema(out, obj)
    if isinstance(obj, pa.Scalar):
        return head + _array(out, pa.array([obj], obj.type))
    if isinstance(obj, pa.ChunkedArray | pa.Array):
        return head + _array(out, obj)
    if isinstance(obj, pa.RecordBatch | pa.Table):
        columns = b"".join(out.short(_array(out, column)) for column in obj.columns)
        return head + _schema(out, obj.schema) + out.tag(obj.num_rows, obj.num_columns) + columns
    if isinstance(obj, pa.Buffer):
        return head + out.buffer(obj)
    if isinstance(obj, pa.Tensor):
        return head + out.nodes(obj.to_numpy(), obj.dim_names)
    return write_reduced(out, obj, kind)


def _schema(out: Canonical, schema: Any) -> bytes:
    fields = [(_field(field, named=True), dict(field.metadata or {})) for field in schema]
    return out.nodes(fields, dict(schema.metadata or {}))


def _field(field: Any, *, named: bool) -> tuple[Any, ...]:
    return (field.name if named else None, field.nullable, _type(field.type))


def _type(kind: Any) -> Any:
    """Return what distinguishes an Arrow type from those that are not equal to it."""
    import pyarrow as pa

    if isinstance(kind, pa.BaseExtensionType):
        return ("extension", kind.extension_name, str(kind), _type(kind.storage_type))
    if pa.types.is_map(kind):
        sorted_ = "keys_sorted" in str(kind)  # has no attribute before pyarrow 18
        return ("map", _type(kind.key_type), _field(kind.item_field, named=False), sorted_)
    if pa.types.is_struct(kind):
        return ("struct", [_field(kind.field(i), named=True) for i in range(kind.num_fields)])
    if pa.types.is_fixed_size_list(kind):
        return ("fixed list", kind.list_size, _field(kind.value_field, named=False))
    if hasattr(kind, "value_field"):  # lists and views of lists, with 32 or 64 bits
        return (str(kind).partition("<")[0], _field(kind.value_field, named=False))
    if pa.types.is_dictionary(kind):
        return ("dictionary", str(kind.index_type), _type(kind.value_type), kind.ordered)
    return str(kind)


def _array(out: Canonical, array: Any) -> bytes:
    """Write an array by content."""
    import pyarrow as pa

    if isinstance(array, pa.ChunkedArray):
        array = array.combine_chunks()
        if isinstance(array, pa.ChunkedArray):  # too long for 32-bit offsets
            array = pa.concat_arrays([_widened(chunk) for chunk in array.chunks])
    head = out.tag("array", len(array), array.null_count) + out.node(_type(array.type))
    if array.null_count and not pa.types.is_null(array.type):
        head += out.node(array.is_null().to_numpy(zero_copy_only=False))
        array = array.drop_null()
    return head + out.short(_values(out, array))


def _widened(array: Any) -> Any:
    import pyarrow as pa

    if pa.types.is_string(array.type):
        return array.cast(pa.large_string())
    return array.cast(pa.large_binary()) if pa.types.is_binary(array.type) else array


def _values(out: Canonical, array: Any) -> bytes:
    """Write the values of an array without nulls."""
    import pyarrow as pa
    import pyarrow.compute

    pc: Any = pyarrow.compute  # its functions are made at run time
    kind = array.type
    if isinstance(kind, pa.BaseExtensionType):
        return _array(out, array.storage)
    if pa.types.is_dictionary(kind):
        return _array(out, array.dictionary_decode())
    if pa.types.is_struct(kind):
        return b"".join(_array(out, pc.struct_field(array, [i])) for i in range(kind.num_fields))
    if pa.types.is_list(kind) or pa.types.is_large_list(kind):
        return out.node(pc.list_value_length(array).to_numpy()) + _array(out, array.flatten())
    if pa.types.is_fixed_size_list(kind):
        return _array(out, array.flatten())
    if pa.types.is_map(kind):
        ends = array.offsets.to_numpy()
        start, stop = (int(ends[0]), int(ends[-1])) if len(ends) else (0, 0)
        inside = (child.slice(start, stop - start) for child in (array.keys, array.items))
        return out.node(ends[1:] - ends[:-1]) + b"".join(_array(out, child) for child in inside)
    if pa.types.is_large_string(kind) or pa.types.is_large_binary(kind):
        offsets = memoryview(array.buffers()[1] or bytes(8)).cast("B").cast("q")
        start, end = offsets[array.offset], offsets[array.offset + len(array)]
        data = memoryview(array.buffers()[2] or b"").cast("B")[start:end]
        return out.node(pc.binary_length(array).to_numpy()) + out.buffer(data)
    if pa.types.is_string(kind) or pa.types.is_binary(kind):
        return _values(out, _widened(array))
    if pa.types.is_integer(kind) or pa.types.is_floating(kind):
        return out.node(array.to_numpy())
    if pa.types.is_boolean(kind):
        return out.node(array.to_numpy(zero_copy_only=False))
    if pa.types.is_temporal(kind) and kind.bit_width in {32, 64}:
        return out.node(array.view(pa.int32() if kind.bit_width == 32 else pa.int64()).to_numpy())
    return out.node(array.to_pylist())  # decimals, unions and what is yet to come: by value


def write_pandas(out: Canonical, obj: Any, kind: type) -> bytes:
    """Write a frame, series, index or extension array column by column."""
    import pandas as pd

    module, name = class_name(kind)
    ours = module.partition(".")[0] == "pandas"
    head = out.tag("pandas", *((name,) if ours else (module, name)))
    if isinstance(obj, pd.DataFrame):
        columns = [column.array for _, column in obj.items()]
        return (
            head
            + out.tag(len(columns), obj.flags.allows_duplicate_labels)
            + out.nodes(obj.index, obj.columns, dict(obj.attrs), _metadata(obj, kind, ours=ours))
            + b"".join(out.short(_column(out, column)) for column in columns)
        )
    if isinstance(obj, pd.Series):
        labels = (obj.index, obj.name, dict(obj.attrs), _metadata(obj, kind, ours=ours))
        unique = obj.flags.allows_duplicate_labels
        return head + out.tag(unique) + out.nodes(*labels) + _column(out, obj.array)
    if isinstance(obj, pd.RangeIndex):
        return head + out.nodes((obj.start, obj.stop, obj.step, obj.name))
    if isinstance(obj, pd.MultiIndex):
        levels = (_column(out, obj.get_level_values(i).array) for i in range(obj.nlevels))
        names = out.node(list(obj.names))
        return head + out.tag(len(obj)) + names + b"".join(map(out.short, levels))
    if isinstance(obj, pd.Index):
        described = (list(obj.names), getattr(obj, "freqstr", None))
        return head + out.nodes(described) + _column(out, obj.array)
    if isinstance(obj, pd.api.extensions.ExtensionArray):
        return head + _column(out, obj)
    return write_reduced(out, obj, kind)


def _metadata(obj: Any, kind: type, *, ours: bool) -> dict[str, Any]:
    """Return the attributes that a subclass of pandas' classes declares, or was given."""
    if ours:
        return {}
    names = {*getattr(kind, "_metadata", ()), *vars(obj)}
    names -= {"_mgr", "_item_cache", "_attrs", "_flags", "_cache", "_name", "name", "_is_copy"}
    return {name: getattr(obj, name, None) for name in sorted(names)}


def _column(out: Canonical, values: Any) -> bytes:
    import pandas as pd

    named = isinstance(values.dtype, pd.ArrowDtype)  # whose text has names that make no difference
    described = "arrow" if named else values.dtype
    head = out.tag("values", type(values).__qualname__, described, len(values))
    if isinstance(values, pd.Categorical):
        codes = (values.codes, values.ordered)
        return head + out.nodes(*codes) + _column(out, values.categories.array)
    if isinstance(values, pd.arrays.IntervalArray):
        ends = (values.left, values.right)
        return head + b"".join(out.short(_column(out, end.array)) for end in ends)
    if hasattr(values, "_mask"):  # the masked arrays have no public buffers
        plain = values.to_numpy(dtype=values.dtype.numpy_dtype, na_value=0)
        return head + out.nodes(values._mask, plain)  # noqa: SLF001
    if "Arrow" in type(values).__name__:
        held = values.__arrow_array__()
        return head + write_arrow(out, held, type(held))
    if hasattr(values, "_ndarray"):
        return head + out.node(values._ndarray)  # noqa: SLF001 - also datetimes, without a copy
    if isinstance(values.dtype, pd.SparseDtype):
        dense = (values.sp_values, values.sp_index.indices, values.fill_value)
        return head + out.nodes(*dense)
    return head + out.node(list(values))
