"""What a reviewer wrote to break the safe loading: each ends in an error of ours, and soon."""

from __future__ import annotations

import collections
import contextlib
import dataclasses
import io
import json
import struct
from typing import Any

import msgspec
import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from ops.serialize import (
    CorruptDataError,
    SerializationFormat,
    SerializeError,
    SmartSerializer,
    TooLargeError,
    deserialize_data,
    serialize_data,
)
from ops.serialize.formats import FORMAT_IDS
from ops.serialize.nodes import Allowed, Raw, known_encoders
from ops.serialize.nodes.arrow_nodes import array_parts
from ops.serialize.packing import pack
from ops.serialize.tree import CONSTANTS, HEAD, Section
from ops.serialize.tree_writer import encode_tree


@dataclasses.dataclass(eq=False)
class Node:
    """A node of any name with any parts, as no writer would make it."""

    name: Any
    parts: tuple[Any, ...] = ()


@pytest.fixture(autouse=True)
def _forging(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(known_encoders, Node, lambda node: (node.name, node.parts))


def read(value: Any, **options: Any) -> Any:
    stream, buffers = encode_tree(value, Allowed())
    data = pack(stream, buffers, format_id=FORMAT_IDS[SerializationFormat.FRAME]).tobytes()
    return SmartSerializer(**options).deserialize(data)


def read_content(name: SerializationFormat, content: bytes, **options: Any) -> Any:
    data = pack(content, (), format_id=FORMAT_IDS[name]).tobytes()
    return SmartSerializer(**options).deserialize(data)


def npy(described: str) -> bytes:
    head = f"{{'descr': {described}, 'fortran_order': False, 'shape': (0,), }}".encode()
    head = head.ljust(117) + b"\n"
    return b"\x93NUMPY\x01\x00" + struct.pack("<H", len(head)) + head


UNITS = ("M8[s/0]", "<M8[0s]", "m8[s/1]", "M8[00s]", "M8[generic]", "M8[q]", "M8[5D/5]")


@pytest.mark.parametrize("text", UNITS)
def test_a_unit_of_time_is_one_that_numpy_writes(text: str) -> None:
    for described in (text, {"base": text, "shape": [2]}):
        with pytest.raises(CorruptDataError):
            read(Node("np.dtype", (json.dumps(described),)))
    for header in (repr(text), repr([("a", text)]), repr((text, (2,)))):
        with pytest.raises(CorruptDataError):
            read_content(SerializationFormat.NUMPY, npy(header))


@pytest.mark.parametrize("unit", ["Y", "M", "W", "D", "h", "m", "s", "ms", "us", "ns", "25s", "ps"])
def test_times_of_every_unit_come_back(unit: str) -> None:
    for kind in "mM":
        array = np.arange(3).astype(f"{kind}8[{unit}]")
        for form in (None, "numpy"):
            again = deserialize_data(serialize_data(array, form))
            assert again.dtype == array.dtype
            assert (again == array).all()


def tower(height: int = 60) -> Any:
    made: Any = (1, 2)
    for _ in range(height):
        made = (made, made)
    return made


def heavy_parts() -> dict[str, Node]:
    range_ = Node("pd.range", (0, 2, 1, None))
    objects = Node("np.array", ('"|O"', "O", (tower(), 1), 2))
    labels = Node("pd.index", ("Index", objects, None, None))
    numbers = Node("np.array", ('"<i8"', "C", Raw(memoryview(bytes(16))), 2))
    return {
        "the safety of a UUID": Node("uuid", (b"1" * 16, tower())),
        "the order of an array": Node("np.array", ('"<i8"', tower(), b"", 0)),
        "the name of a range": Node("pd.range", (0, 2, 1, tower())),
        "the name of a series": Node("pd.series", (numbers, range_, tower(), (), True)),
        "the name of an index": Node("pd.index", ("Index", numbers, tower(), None)),
        "a slice in a name": Node("pd.range", (0, 2, 1, slice(tower(), None))),
        "an option of an offset": Node("pd.offset", ("Week", 1, False, (tower(), 1))),
        "an attribute of a frame": Node("pd.frame", (range_, range_, (), (tower(), 1), True)),
        "an attribute of a series": Node("pd.series", (numbers, range_, None, (tower(), 1), True)),
        "a category": Node("pd.categories", (labels, True)),
        "a level": Node("pd.levels", ((labels,), (numbers,), (None,))),
        "a storage of texts": Node("pd.text", (tower(), True)),
        "a kind of intervals": Node("pd.intervaldtype", (None, tower())),
    }


@pytest.mark.parametrize("name", heavy_parts())
def test_no_part_of_a_node_is_hashed_before_it_is_known_to_be_light(name: str) -> None:
    with pytest.raises(SerializeError):
        read(heavy_parts()[name])


def test_keys_with_one_hash_that_take_long_to_compare_are_refused() -> None:
    modulus = (1 << 61) - 1
    keys = [(tower(11), (5 << 64) + i * modulus) for i in range(60)]
    with pytest.raises(CorruptDataError):
        read(dict.fromkeys(keys))


def test_wide_and_shared_tuples_still_load() -> None:
    wide = tuple(range(100_000))
    objects = np.empty(20, object)
    objects[:] = [(wide, i) for i in range(20)]
    again = deserialize_data(serialize_data([objects, wide]))
    assert again[0][3] == (wide, 3)
    assert again[0][3][0] is again[1]
    keys = {(i, -1 - i % 2): i for i in range(50_000)}
    assert deserialize_data(serialize_data(keys)) == keys


def test_csv_rows_that_are_much_shorter_than_the_first_are_counted() -> None:
    head = b"a" + b"," * 5000 + b"\n"
    with pytest.raises(TooLargeError):
        read_content(SerializationFormat.CSV, head + b"1\n" * 100_000)


@pytest.mark.filterwarnings("ignore:The 'float_precision'")
def test_a_csv_text_of_many_lines_still_loads() -> None:
    frame = pd.DataFrame({f"c{i}": [i] for i in range(40)}).assign(text="line\n" * 60_000)
    data = serialize_data(frame, "csv")
    pd.testing.assert_frame_equal(SmartSerializer(max_size=20_000_000).deserialize(data), frame)


@pytest.mark.parametrize(
    "text",
    [
        "1:30",
        "- !!int '1:99:99'",
        "- !!float '1:99.5'",
        "1: a\n2: b",
        "? [1, 2]\n: a",
        "{!!set {1: }: 2}",
        "<<: {a: 1}",
    ],
)
def test_yaml_has_no_keys_but_texts_and_no_numbers_in_base_60(text: str) -> None:
    with pytest.raises(CorruptDataError):
        read_content(SerializationFormat.YAML, text.encode())


def test_yaml_gives_texts_back_that_look_like_numbers_in_base_60() -> None:
    data = {"1:30": "1:30", "12": "=", "<<": "2020-01-01", "a": [1, 1.5e300, -1e-7, None, True]}
    assert deserialize_data(serialize_data(data, "yaml")) == data


def test_large_maps_of_msgpack_have_no_keys_but_texts() -> None:
    honest = {"a": [{str(i): {"b": [i, None]} for i in range(300)}]}
    content = msgspec.msgpack.encode(honest)
    assert read_content(SerializationFormat.MSGPACK, content) == honest
    for key in (b"\x92\x01\x02", b"\xcc\xf0"):
        large = b"\xde\x01\x2c" + b"".join(
            b"\xa4%04d\xc0" % i for i in range(299)
        ) + key + b"\xc0"  # fmt: skip
        for forged in (large, b"\x91" + large, b"\x81\xa1a" + large):
            with pytest.raises(CorruptDataError):
                read_content(SerializationFormat.MSGPACK, forged)


def test_a_few_nodes_may_not_copy_the_same_bytes_again_and_again() -> None:
    count, size = 200, 1 << 20
    nodes = [
        Node("np.array", ('"|b1"', "C", Raw(memoryview(bytes(size))), size)) for _ in range(count)
    ]
    stream, buffers = encode_tree(nodes, Allowed())
    content = bytes(stream)
    _, _, _, *counts, _, _ = HEAD.unpack_from(content)
    before = (
        Section.INTEGERS,
        Section.FLOATS,
        Section.LARGE_INTEGERS,
        Section.TEXTS,
        Section.BYTES,
    )
    first = len(CONSTANTS) + sum(counts[section] for section in before)
    for order in range(
        len(CONSTANTS), first
    ):  # all refer to the first buffer; the others have a byte each
        for at in range(1, count):
            found = struct.pack("<II", order, first + at)
            content = content.replace(found, struct.pack("<II", order, first))
    kept = [buffers[0], *((memoryview(b"\0"), 1) for _ in buffers[1:])]
    data = pack(content, kept, format_id=FORMAT_IDS[SerializationFormat.FRAME]).tobytes()
    with pytest.raises(SerializeError):
        deserialize_data(data)


def test_a_zone_of_pytz_without_pytz_is_an_error_of_ours(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(__import__("sys").modules, "pytz", None)
    with pytest.raises(SerializeError, match="pytz"):
        read(Node("pd.pytz", ("Europe/Berlin",)))


def test_a_digest_whose_library_is_missing_is_an_error_of_ours(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    from ops.serialize.layout import Sum, digest_of

    for module, algorithm in (("blake3", Sum.BLAKE3), ("xxhash", Sum.XXH3_64)):
        monkeypatch.setitem(__import__("sys").modules, module, None)
        with pytest.raises(SerializeError, match=module):
            digest_of(b"", algorithm)


@pytest.mark.parametrize(
    "value", [np.bytes_(b"a\0"), np.str_("a\0\0"), np.str_("\0"), np.bytes_(b"")]
)
def test_scalars_of_numpy_keep_zeros_at_their_end(value: Any) -> None:
    for form in (value, [value], {"a": (value,)}):
        again = deserialize_data(serialize_data(form))
        again = again["a"][0] if isinstance(again, dict) else again
        again = again[0] if isinstance(again, list) else again
        assert type(again) is type(value)
        assert len(again) == len(value)
        assert again == value


def parquet(table: Any, **options: Any) -> bytes:
    sink = io.BytesIO()
    pq.write_table(table, sink, compression="zstd", **options)
    return sink.getvalue()


def test_texts_of_parquet_are_counted_once_for_each_row() -> None:
    indices = pa.array(np.zeros(3000, "i4"))
    column = pa.DictionaryArray.from_arrays(indices, ["x" * (1 << 20)])
    for table in (
        pa.table({"a": column}),
        pa.table({"a": pa.StructArray.from_arrays([column], ["b"])}),
    ):
        with pytest.raises(TooLargeError):
            read_content(SerializationFormat.PARQUET, parquet(table, store_schema=False))


def test_many_texts_in_parquet_still_load() -> None:
    texts = [f"{i} {'x' * 100}" for i in range(20_000)]
    frame = pd.DataFrame(
        {"a": texts, "b": [[text, None] for text in texts], "c": ["same"] * 20_000}
    )
    data = serialize_data(frame, "parquet")
    pd.testing.assert_frame_equal(deserialize_data(data), frame)


def as_varint(number: int, length: int) -> bytes:
    zigzag, data = number << 1, bytearray()
    for _ in range(length - 1):
        data.append(128 | zigzag & 127)
        zigzag >>= 7
    return bytes([*data, zigzag])


@pytest.mark.parametrize("version", ["1.0", "2.0"])
def test_pages_of_parquet_are_counted_as_their_own_headers_have_them(version: str) -> None:
    table = pa.table({"a": np.zeros(1 << 24, "i8")})  # 128 MiB of zeros
    data = parquet(table, use_dictionary=False, data_page_version=version, row_group_size=1 << 24)
    assert len(data) < 100_000
    assert read_content(SerializationFormat.PARQUET, data, max_size=1 << 30).shape == (1 << 24, 1)
    row_group = pq.ParquetFile(io.BytesIO(data)).metadata.row_group(0).column(0)
    length = 0
    while row_group.total_uncompressed_size << 1 >> 7 * length:
        length += 1
    told = as_varint(row_group.total_uncompressed_size, length)
    assert data.count(told) in {1, 2}
    forged = data.replace(told, as_varint(1000, length))
    assert pq.ParquetFile(io.BytesIO(forged)).metadata.row_group(0).total_byte_size == 1000
    with pytest.raises(TooLargeError):
        read_content(SerializationFormat.PARQUET, forged, max_size=130 << 20)


def test_damaged_headers_of_pages_are_corrupt_data() -> None:
    data = parquet(pa.table({"a": np.arange(1000), "b": ["text"] * 1000}))
    for position in range(4, 400):
        for flipped in (1, 128, 255):
            torn = bytearray(data)
            torn[position] ^= flipped
            with contextlib.suppress(SerializeError):
                read_content(SerializationFormat.PARQUET, bytes(torn))


@pytest.mark.parametrize("text", ["datetime64[s/0]", "M8[0s]", "interval[m8[s/0]]"])
def test_the_dtypes_that_parquet_names_are_checked(text: str) -> None:
    table = pa.Table.from_pandas(pd.DataFrame({"a": [1]}))
    described = json.loads(table.schema.metadata[b"pandas"])
    described["columns"][0]["numpy_type"] = text
    table = table.replace_schema_metadata({"pandas": json.dumps(described)})
    with pytest.raises(CorruptDataError):
        read_content(SerializationFormat.PARQUET, parquet(table))


def test_a_range_is_counted_where_it_would_be_spread_out() -> None:
    long = Node("pd.range", (0, 1 << 40, 1, None))
    assert len(read(long)) == 1 << 40
    numbers = Node("np.array", ('"<i8"', "C", Raw(memoryview(bytes(16))), 2))
    for node in (
        Node("pd.intervals", (long, long, "left")),
        Node("pd.categories", (long, True)),
        Node("pd.levels", ((long,), (numbers,), (None,))),
    ):
        with pytest.raises(TooLargeError):
            read(node)


def object_array(value: Any, *shape: int) -> Any:
    array = np.empty(shape, object)
    array[...] = None
    array.reshape(-1)[0] = value
    return array


@pytest.mark.parametrize(
    "node",
    [
        lambda: Node("np.ma", (np.zeros(3), None, object_array(tower()), False)),
        lambda: Node("np.ma", (np.zeros(3), np.zeros(3, np.int8), None, False)),
        lambda: Node("pd.texts", (object_array(tower(), 1), pd.StringDtype("python"))),
        lambda: Node("pd.sparsedtype", ("float64", collections.deque([tower()]))),
        lambda: Node("pd.sparsedtype", ("float64", slice(tower()))),
        lambda: Node("pd.levels", ((pd.Index(["x" * 1000] * 9),), (np.zeros(1, np.int8),), ("a",))),
        lambda: [
            Node("np.randomstate", (key, 0, 0, 0.0))
            for key in [np.zeros(624, np.uint32)]
            for _ in range(20_000)
        ],
        lambda: [
            Node("np.generator", ("PCG64", (entropy, (), 4, 0), 1, 1, 0, 0))
            for entropy in [((1 << 4096) - 1,) * 1000]
            for _ in range(300)
        ],
    ],
)
def test_a_part_that_would_be_walked_printed_or_seeded_for_long_is_refused(node: Any) -> None:
    with pytest.raises(CorruptDataError):
        read(node())


def test_bits_of_missing_values_are_counted_where_chunks_are_joined() -> None:
    first = pa.StructArray.from_buffers(pa.struct([]), 8, [pa.py_buffer(b"\x01")])
    long = pa.StructArray.from_buffers(pa.struct([]), (1 << 31) - 1, [None])
    parts = array_parts(pa.chunked_array([first] + [long] * 4))
    with pytest.raises(TooLargeError):
        read(Node("pa.array", parts), max_size=16 << 20)
