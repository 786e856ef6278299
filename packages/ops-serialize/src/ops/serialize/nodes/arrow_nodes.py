"""Nodes of pyarrow: tables, arrays, scalars, types and schemas, as messages of Arrow's IPC format.

What messages claim is counted before Arrow reads them (`arrow_messages`), whose reader checks their structure;
offsets and texts within their buffers are checked by `validate(full=True)` before anything uses them.
"""

from __future__ import annotations

import functools
from typing import TYPE_CHECKING, Any

from ops.foundation.imports import LazyImport
from ops.serialize.errors import CorruptDataError, UnsupportedTypeError
from ops.serialize.nodes.arrow_messages import check_messages
from ops.serialize.nodes.parts import Raw, expect, int_between

if TYPE_CHECKING:
    from collections.abc import Callable

    from ops.serialize.nodes.parts import Reading

# Typed Any: the stubs know no internals, and differ between versions.
pa: Any = LazyImport("pyarrow", "ops-serialize[arrow]").import_module()
np: Any = LazyImport("numpy", "ops-serialize[numpy]")

__all__ = ["BUILDERS", "array_parts", "encoder_of", "read_array"]

_MOST_METADATA = 1 << 26
_WALKED_AT_ONCE = 128  # bytes that are validated in the time of a step


def encoder_of(kind: type) -> Callable[[Any], tuple[str, tuple[Any, ...]]] | None:
    """Return the encoder of exactly this type or, for arrays and scalars, of its base."""
    found: Any = _exact().get(kind)
    if found is not None:
        return found  # type: ignore[no-any-return] # an encoder
    if issubclass(kind, pa.ExtensionArray) and kind.__module__ != "pyarrow.lib":
        return None
    for base, encoder in (
        (pa.Array, _array),
        (pa.Scalar, _scalar),
        (pa.DataType, lambda value: ("pa.type", (_schema_bytes(_one_field(value)),))),
    ):
        if issubclass(kind, base):
            return encoder
    return None


@functools.cache
def _exact() -> dict[type, Any]:
    return {
        pa.Table: lambda value: ("pa.table", _table_parts(value)),
        pa.RecordBatch: lambda value: ("pa.batch", _table_parts(pa.Table.from_batches([value]))),
        pa.ChunkedArray: lambda value: ("pa.chunked", array_parts(value)),
        pa.Schema: lambda value: ("pa.schema", (_schema_bytes(value),)),
        pa.Field: lambda value: ("pa.field", (_schema_bytes(pa.schema([value])),)),
        pa.Buffer: lambda value: ("pa.buffer", (Raw(memoryview(value)),)),
    }


def _one_field(kind: Any) -> Any:
    return pa.schema([pa.field("", kind)])


def _schema_bytes(schema: Any) -> bytes:
    data = bytes(schema.serialize())
    if not _same_schema(pa.ipc.read_schema(pa.py_buffer(data)), schema):
        raise UnsupportedTypeError(f"The schema {str(schema)[:200]} is not kept by Arrow's format.")
    return data


def _same_schema(one: Any, other: Any) -> bool:
    return bool(one.equals(other, check_metadata=True)) and _details(one) == _details(other)


def _details(schema: Any) -> list[Any]:
    """Return what types do not compare: names within maps, and whether their keys are sorted."""
    found: list[Any] = []
    pending = [field.type for field in schema]
    while pending:
        kind = pending.pop()
        if pa.types.is_map(kind):
            found.append((kind.keys_sorted, kind.key_field.name, kind.item_field.name))
        pending += [kind.field(at).type for at in range(kind.num_fields)]
    return found


def _table_parts(table: Any) -> tuple[Any, ...]:
    sink = pa.BufferOutputStream()
    with pa.ipc.new_stream(sink, table.schema) as writer:
        writer.write_table(table)
    data = sink.getvalue()
    if _details(_open(data).schema) != _details(table.schema):
        raise UnsupportedTypeError("Names or order of a map are not kept by Arrow's format.")
    return Raw(memoryview(data), 1), table.num_rows


def array_parts(values: Any) -> tuple[Any, ...]:
    """Return the parts of an array, or of a chunked array."""
    chunked = values if isinstance(values, pa.ChunkedArray) else pa.chunked_array([values])
    table = pa.Table.from_arrays([chunked], schema=_one_field(values.type))
    return *_table_parts(table), chunked.num_chunks


def _array(values: Any) -> tuple[str, tuple[Any, ...]]:
    return "pa.array", array_parts(values)


def _scalar(value: Any) -> tuple[str, tuple[Any, ...]]:
    array = pa.repeat(value, 1) if value.is_valid else pa.nulls(1, value.type)
    if array.type != value.type:
        raise UnsupportedTypeError(f"A scalar of {value.type} is not kept by Arrow's format.")
    return "pa.scalar", array_parts(array)


# Reading


def _open(data: Any) -> Any:
    return pa.ipc.open_stream(pa.py_buffer(data))


def read_table(reading: Reading, content: Any, rows: Any) -> Any:
    """Return the table in *content*, of which everything has been validated."""
    data = memoryview(content).cast("B")
    check_messages(data, reading.budget)
    reader = _open(data)
    table = reader.read_all()
    if table.num_rows != int_between(rows, 0, (1 << 62)):
        raise CorruptDataError("A table has another number of rows than it had.")
    reading.budget.take(64 * sum(column.num_chunks for column in table.columns))
    walked = sum(_walked(chunk) for column in table.columns for chunk in column.chunks)
    reading.budget.take_time(walked // _WALKED_AT_ONCE)
    table.validate(full=True)
    return table


def _walked(array: Any) -> int:
    """Return the bytes that validating *array* looks at: arrays may share buffers, and views texts.

    Nothing is computed from offsets in the buffers, which are not validated yet.
    """
    kind = array.type
    if isinstance(kind, pa.BaseExtensionType):
        return _walked(array.storage)
    if pa.types.is_string_view(kind) or pa.types.is_binary_view(kind):
        views = np.frombuffer(array.buffers()[1] or b"", np.int32)
        lengths = views[: views.size // 4 * 4].reshape(-1, 4)[:, 0]
        return int(np.maximum(lengths, 0).sum(dtype=np.int64))
    size: int = sum(part.size for part in array.buffers() if part is not None)
    if pa.types.is_dictionary(kind):
        return size + _walked(array.dictionary)
    if pa.types.is_struct(kind) or pa.types.is_union(kind):
        return size + sum(_walked(array.field(at)) for at in range(kind.num_fields))
    if pa.types.is_map(kind):
        return size + _walked(array.keys) + _walked(array.items)
    if pa.types.is_nested(kind) or pa.types.is_run_end_encoded(kind):
        return size + _walked(array.values)
    return size


def read_array(reading: Reading, content: Any, rows: Any, chunks: Any) -> Any:
    """Return the chunked array in *content*, in as many chunks as it had."""
    table = read_table(reading, content, rows)
    if table.num_columns != 1:
        raise CorruptDataError("An array has not one column.")
    column = table.column(0)
    wanted = int_between(chunks, 0, 1 << 31)
    if column.num_chunks == wanted or column.length():
        return column  # a writer drops empty chunks and splits long ones, which no value shows
    return pa.chunked_array([pa.nulls(0, column.type)][:wanted], column.type)


def _build_array(reading: Reading, *parts: Any) -> Any:
    column = read_array(reading, *parts)
    if column.num_chunks > 1:
        # Where one chunk has missing values, all get a bit for each, at each level of nesting.
        depth = str(column.type).count("<") + 1
        size = column.nbytes + depth * len(column) // 8
        reading.budget.take(size)
        reading.budget.copy(size)
        joined = column.combine_chunks()
        return joined.combine_chunks() if isinstance(joined, pa.ChunkedArray) else joined
    return column.chunk(0) if column.num_chunks else pa.nulls(0, column.type)


def _build_scalar(reading: Reading, *parts: Any) -> Any:
    array = _build_array(reading, *parts)
    if len(array) != 1:
        raise CorruptDataError("A scalar is not one.")
    return array[0]


def _build_batch(reading: Reading, content: Any, rows: Any) -> Any:
    table = read_table(reading, content, rows)
    batches = table.to_batches()
    if len(batches) > 1:
        raise CorruptDataError("A batch is several.")
    return batches[0] if batches else pa.RecordBatch.from_pylist([], schema=table.schema)


def _build_schema(reading: Reading, data: Any) -> Any:
    if len(expect(data, bytes, bytearray, memoryview)) > _MOST_METADATA:
        raise CorruptDataError("A schema is too large.")
    copy = bytes(data)
    check_messages(memoryview(copy), reading.budget)
    return pa.ipc.read_schema(pa.py_buffer(copy))


def _build_field(reading: Reading, data: Any) -> Any:
    schema = _build_schema(reading, data)
    if len(schema) != 1:
        raise CorruptDataError("A field is not one.")
    return schema.field(0)


def _build_buffer(reading: Reading, data: Any) -> Any:
    reading.budget.take(len(data))
    return pa.py_buffer(bytes(data))


BUILDERS: dict[str, Any] = {
    "pa.table": read_table,
    "pa.batch": _build_batch,
    "pa.chunked": read_array,
    "pa.array": _build_array,
    "pa.scalar": _build_scalar,
    "pa.type": lambda reading, data: _build_field(reading, data).type,
    "pa.schema": _build_schema,
    "pa.field": _build_field,
    "pa.buffer": _build_buffer,
}
