"""What the content of JSON, Parquet and other formats may claim, before its parser believes it.

The parsers of these formats run nothing, but allocate what their input claims. So what they will allocate is
estimated first, from what is there, and compared with the limit of the load.
"""

from __future__ import annotations

import ast
import io
import json
import math
import re
from typing import TYPE_CHECKING, Any

from ops.foundation.imports import LazyImport
from ops.serialize.errors import CorruptDataError, UntrustedDataError
from ops.serialize.formats import SerializationFormat
from ops.serialize.nodes.arrow_messages import check_messages
from ops.serialize.parquet_footer import BYTE_ARRAY, FIXED_LENGTH, read_footer
from ops.serialize.parquet_pages import unpacked_size
from ops.serialize.tree import is_tree

if TYPE_CHECKING:
    from collections.abc import Callable

    from ops.serialize.limits import Budget

np: Any = LazyImport("numpy", extra="ops-serialize[numpy]")
pa: Any = LazyImport("pyarrow", extra="ops-serialize[arrow]")
pd: Any = LazyImport("pandas", extra="ops-serialize[pandas]")

__all__ = ["check_content"]

_SIXTIES = re.compile(rb"(?::[0-5]?[0-9]){16}")
_MOST_COLUMNS = 1 << 16
_TIME_DTYPE = re.compile(r"(?:datetime64|timedelta64|[mM]8)\s*\[([^\],]*)")
_UNIT = re.compile(r"\s*(?:[1-9]\d{0,8})?(?:[YMWDhms]|[munpfa]s)\s*", re.ASCII)
_MOST_UNCHECKED = 1 << 24  # bytes of texts that are not worth counting
_LONGEST_HEADER = 10_000  # as NumPy has it
_LARGE_MAP = re.compile(rb"\xde[\x01-\xff]|\xdf")  # of 256 keys or more
_MAPS = frozenset((*range(0x80, 0x90), 0xDE, 0xDF))
_ARRAYS = frozenset((*range(0x90, 0xA0), 0xDC, 0xDD))
_DEEPEST = 64  # as `is_plain` has it
_ALIAS = re.compile(rb"(?:^|[\s\[{,:-])[*&][^\s,\[\]{}]", re.MULTILINE)


def check_content(name: SerializationFormat, stream: memoryview, budget: Budget) -> None:
    """Raise `TooLargeError` or `CorruptDataError` for content that would make its parser allocate more.

    Raises `UntrustedDataError` for files of `torch.save`, whose content is a pickle.
    """
    check = _CHECKS.get(name)
    if check is not None:
        check(stream, budget)


def _json(stream: memoryview, budget: Budget) -> None:
    data = bytes(stream)
    budget.take(80 * (data.count(b"[") + data.count(b"{")) + 48 * data.count(b",") + 2 * len(data))


def _msgpack(stream: memoryview, budget: Budget) -> None:
    # Every byte may be an empty array or map.
    data = bytes(stream)
    containers = sum(data.count(code) for code in range(0x80, 0xA0))
    budget.take(72 * containers + 40 * len(data))
    if _LARGE_MAP.search(data):
        _check_maps(data)


def _check_maps(data: bytes) -> None:
    """Refuse keys that are no text: arrays can be made to have one hash, and the writer makes none."""
    import msgspec

    maps = msgspec.msgpack.Decoder(dict[str, msgspec.Raw])
    arrays = msgspec.msgpack.Decoder(list[msgspec.Raw])
    pending: list[tuple[Any, int]] = [(data, 0)]
    while pending:
        raw, depth = pending.pop()
        code = memoryview(raw)[0]
        if code in _MAPS:
            items: Any = maps.decode(raw).values()
        elif code in _ARRAYS:
            items = arrays.decode(raw)
        else:
            continue
        if depth >= _DEEPEST:
            raise CorruptDataError(f"The data is nested deeper than {_DEEPEST} levels.")
        pending += [(item, depth + 1) for item in items if _LARGE_MAP.search(item)]


def _yaml(stream: memoryview, budget: Budget) -> None:
    data = bytes(stream)
    if (b"&" in data and b"*" in data and _ALIAS.search(data)) or _SIXTIES.search(data):
        _refuse_events(data)
    budget.take(100 * (data.count(b"\n") + data.count(b",") + data.count(b"[")) + 4 * len(data))


def _refuse_events(data: bytes) -> None:
    import yaml

    loader = getattr(yaml, "CSafeLoader", yaml.SafeLoader)
    for event in yaml.parse(data, loader):
        if isinstance(event, yaml.AliasEvent):
            raise CorruptDataError("YAML data has an alias, which the writer never makes.")
        # A number in base 60 takes the square of its length to read.
        if (
            isinstance(event, yaml.ScalarEvent)
            and event.implicit[0]
            and len(event.value) > 64
            and _SIXTIES.search(event.value.encode())
        ):
            raise CorruptDataError("YAML data has a long number in base 60.")


def _numpy(stream: memoryview, _budget: Budget) -> None:
    """Check that the array has as many bytes as its header claims."""
    _check_header(stream)
    file = io.BytesIO(stream)
    version = np.lib.format.read_magic(file)
    read = {
        (1, 0): np.lib.format.read_array_header_1_0,
        (2, 0): np.lib.format.read_array_header_2_0,
    }.get(version)
    if read is None:  # 3.0 is 2.0 with names that are no Latin-1
        read = np.lib.format.read_array_header_2_0
    shape, _, dtype = read(file)
    if dtype.hasobject:
        raise CorruptDataError("An array of objects is no NUMPY content.")
    wanted = math.prod(shape) * dtype.itemsize
    if len(stream) - file.tell() != wanted or any(length < 0 for length in shape):
        raise CorruptDataError(
            f"An array of shape {shape} needs {wanted} bytes, which are not there."
        )
    if not dtype.itemsize and math.prod(shape) > 1 << 24:
        raise CorruptDataError("An array has too many items of no bytes.")


def _check_header(stream: memoryview) -> None:
    """Check the dtype in the header before NumPy reads it, which divides by what stands there."""
    from ops.serialize.nodes.numpy_dtypes import describes_simple_dtype

    width = 2 if stream[6] == 1 else 4
    size = int.from_bytes(stream[8 : 8 + width], "little")
    if size > _LONGEST_HEADER:
        raise CorruptDataError("The header of an array is too long.")
    header = ast.literal_eval(str(stream[8 + width : 8 + width + size], "utf-8"))
    if not isinstance(header, dict) or not describes_simple_dtype(header.get("descr")):
        raise CorruptDataError("The header of an array describes no plain dtype.")


def _arrow(stream: memoryview, budget: Budget) -> None:
    budget.add(len(stream))
    check_messages(stream, budget)


def _csv(stream: memoryview, budget: Budget) -> None:
    data = bytes(stream)
    line = data[: data.find(b"\n")] if b"\n" in data else data
    if line.count(b",") >= _MOST_COLUMNS:
        raise CorruptDataError(f"A table has more than {_MOST_COLUMNS} columns.")
    commas, lines = data.count(b","), data.count(b"\n") + data.count(b"\r") + 1
    budget.take(64 * (commas + lines))
    columns = len(pd.read_csv(io.BytesIO(data), nrows=1).columns)
    if columns * lines > 2 * (commas + lines) + (1 << 20):  # short rows, or texts of several lines
        rows = len(pd.read_csv(io.BytesIO(data), usecols=[0]))
        budget.take(16 * columns * rows)


def _parquet(stream: memoryview, budget: Budget) -> None:
    """Count what the pages of each column claim to unpack to, and the rows of each column."""
    import pyarrow.parquet as pq

    budget.add(len(stream))
    footer = read_footer(stream, budget)
    file = pq.ParquetFile(pa.BufferReader(pa.py_buffer(stream)))
    _check_numpy_types(file.schema_arrow.metadata or {})
    total = 0
    texts: dict[str, int] = {}  # by the paths of columns: what decoding them may take at most
    for group in footer.groups:
        for column, (kind, length) in zip(group, footer.leaves, strict=True):
            size = unpacked_size(stream, column)
            total += size + 16 * column.values
            if kind == BYTE_ARRAY:
                most = column.values * max(size, 16 * len(stream))
                texts[column.path] = texts.get(column.path, 0) + most
            elif kind == FIXED_LENGTH:
                total += column.values * length
    if not 0 <= footer.rows <= 1 << 40:
        raise CorruptDataError("The number of rows is not possible.")
    budget.take(total + 8 * footer.rows)
    long = [path for path, most in texts.items() if most > _MOST_UNCHECKED]
    if long:  # one long text may be there for each row
        file = pq.ParquetFile(pa.BufferReader(pa.py_buffer(stream)), read_dictionary=long)
        for number in range(len(footer.groups)):
            for column in file.read_row_group(number, columns=long).columns:
                for chunk in column.chunks:
                    budget.take(_decoded_size(chunk))


def _decoded_size(array: Any) -> int:
    """Return the bytes of the texts of *array*, which are kept once each in its dictionaries."""
    import pyarrow.compute

    pc: Any = pyarrow.compute  # its functions are made when it is imported
    kind = array.type
    if pa.types.is_dictionary(kind):
        lengths = pc.binary_length(array.dictionary).cast("int64")
        return int(pc.sum(lengths.take(array.indices)).as_py() or 0)
    if pa.types.is_struct(kind):
        return sum(_decoded_size(array.field(at)) for at in range(kind.num_fields))
    if pa.types.is_map(kind):
        return _decoded_size(array.keys) + _decoded_size(array.items)
    if pa.types.is_nested(kind) and hasattr(array, "values"):
        return _decoded_size(array.values)
    return int(array.nbytes)


def _check_numpy_types(metadata: dict[bytes, bytes]) -> None:
    """Check the units of time in the dtypes that pandas would give NumPy, which divides by them."""
    pending: list[Any] = [json.loads(metadata.get(b"pandas", b"null"))]
    while pending:
        value = pending.pop()
        if isinstance(value, dict):
            pending += [*value, *value.values()]
        elif isinstance(value, list):
            pending += value
        elif isinstance(value, str) and not all(
            _UNIT.fullmatch(found) for found in _TIME_DTYPE.findall(value)
        ):
            raise CorruptDataError(f"{value[:40]!r} describes no dtype.")


def _torch(stream: memoryview, _budget: Budget) -> None:
    if not is_tree(stream):
        raise UntrustedDataError(
            "torch",
            "load",
            reason="The data is a file of torch.save, whose content is a pickle.",
            suggestions=("Load it with torch.load(weights_only=True), and dump what it holds.",),
        )


_CHECKS: dict[SerializationFormat, Callable[[memoryview, Budget], None]] = {
    SerializationFormat.JSON: _json,
    SerializationFormat.MSGPACK: _msgpack,
    SerializationFormat.YAML: _yaml,
    SerializationFormat.NUMPY: _numpy,
    SerializationFormat.ARROW: _arrow,
    SerializationFormat.PARQUET: _parquet,
    SerializationFormat.CSV: _csv,
    SerializationFormat.TORCH: _torch,
}
