"""What an attacker can write into a tree of data: each ends in an error of ours, and soon."""

from __future__ import annotations

import dataclasses
import json
import struct
import subprocess
import sys
import zlib
from typing import Any

import numpy as np
import pandas as pd
import pyarrow as pa
import pytest

from ops.serialize import (
    CorruptDataError,
    Safe,
    SerializationFormat,
    SerializeError,
    SmartSerializer,
    TooLargeError,
    deserialize_data,
    serialize_data,
)
from ops.serialize.codecs import Codec
from ops.serialize.formats import FORMAT_IDS
from ops.serialize.layout import HEADER, MAGIC, NO_MAC, TABLE_ENTRY, head_checksum
from ops.serialize.nodes import Allowed, known_encoders
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
    """Write *value*, which may have forged nodes in it, and read it."""
    stream, buffers = encode_tree(value, Allowed())
    data = pack(stream, buffers, format_id=FORMAT_IDS[SerializationFormat.FRAME]).tobytes()
    return SmartSerializer(**options).deserialize(data)


def dtype(described: Any) -> str:
    return json.dumps(described)


FIELD = {"names": ["a"], "offsets": [0], "titles": [None], "size": 8, "aligned": False}
NODES = {
    "a name that is none": Node("os.system", ("true",)),
    "a name of another kind": Node(5),
    "a library that is none": Node("np.load", ("x",)),
    "a field outside of its item": Node("np.dtype", (dtype({**FIELD, "formats": ["<i8"], "offsets": [1 << 14]}),)),
    "a field before its item": Node("np.dtype", (dtype({**FIELD, "formats": ["<i8"], "offsets": [-8]}),)),
    "objects over bytes": Node("np.array", (dtype("|O"), "C", b"A" * 8, 1)),
    "an object in a field over bytes": Node("np.array", (dtype({**FIELD, "formats": ["|O"]}), "C", b"A" * 8, 1)),
    "objects from texts": Node("np.array", (dtype("<U1"), "O", ("a",), 1)),
    "more items than bytes": Node("np.array", (dtype("<f8"), "C", b"A" * 8, 1 << 40)),
    "more objects than there are": Node("np.array", (dtype("|O"), "O", (1,), 100_000)),
    "a negative length": Node("np.array", (dtype("<f8"), "C", b"", -1)),
    "lengths that overflow": Node("np.array", (dtype("<f8"), "C", b"", 1 << 32, 1 << 32)),
    "items of no bytes": Node("np.array", (dtype("|V0"), "C", b"", 1 << 40)),
    "a dtype in a text of Python": Node("np.dtype", (dtype("f8,(2,3)O"),)),
    "an item of gigabytes": Node("np.dtype", (dtype({"base": "<f8", "shape": [1 << 40]}),)),
    "a truth value of 2": Node("np.array", (dtype("|b1"), "C", b"\x02", 1)),
    "a truth value of 2 in a field": Node("np.array", (dtype({**FIELD, "formats": ["|b1"], "size": 1}), "C", b"\x02", 1)),
    "a character that is none": Node("np.array", (dtype("<U1"), "C", b"\xff" * 4, 1)),
    "a generator's position beyond its key": Node("np.randomstate", (np.zeros(624, np.uint32), 1 << 20, 0, 0.0)),
    "a generator's key that is short": Node("np.randomstate", (np.zeros(3, np.uint32), 0, 0, 0.0)),
    "a seed of a gigabyte": Node("np.generator", ("PCG64", (1, (), 1 << 30, 0), 1, 1, 0, 0)),
    "a mask of another shape": Node("np.ma", (np.zeros(3), np.zeros(2, bool), None, False)),
    "a scalar of objects": Node("np.scalar", (dtype("|O"), "O", (1,))),
    "codes of a categorical beyond it": Node("pd.categorical", (np.array([9], np.int8), pd.Index(["a"]), False)),
    "codes of levels beyond them": Node("pd.levels", ((pd.Index([1]),), (np.array([7]),), (None,))),
    "a frame with a column missing": Node("pd.frame", (pd.RangeIndex(1), pd.Index(["a", "b"]), (np.array([0]), np.zeros((1, 1))), (), True)),
    "a frame with a column twice": Node("pd.frame", (pd.RangeIndex(1), pd.Index(["a"]), (np.array([0, 0]), np.zeros((2, 1))), (), True)),
    "a frame of other length": Node("pd.frame", (pd.RangeIndex(9), pd.Index(["a"]), (np.array([0]), np.zeros((1, 1))), (), True)),
    "a column that is no array": Node("pd.frame", (pd.RangeIndex(1), pd.Index(["a"]), (np.array([0]), [1]), (), True)),
    "a series that is no array": Node("pd.series", ("x", pd.RangeIndex(1), None, (), True)),
    "sparse positions beyond the length": Node("pd.sparse", (np.zeros(1), np.array([9], np.int32), 2, "integer", pd.SparseDtype(float))),
    "a mask that is none": Node("pd.masked", ("IntegerArray", np.zeros(2, np.int64), np.zeros(1, bool))),
    "an offset that is none": Node("pd.offset", ("system", 1, False, ())),
    "a period of no frequency": Node("pd.period", (1, "os")),
    "a unit that is none": Node("pd.timestamp", (1, "fortnight", None, 0)),
    "Arrow's message cut off": Node("pa.table", (b"\xff\xff\xff\xff\x10\x00\x00\x00", 1)),
    "no message of Arrow": Node("pa.table", (b"x" * 100, 1)),
    "a zone that is a path": Node("zone", ("../../../etc/passwd",)),
    "a zone of another kind": Node("datetime", (2020, 1, 1, 0, 0, 0, 0, 0, "UTC")),
    "a year that is none": Node("date", (10**9, 1, 1)),
    "a decimal that is a program": Node("decimal", ("1e5; import os",)),
    "a fraction over zero": Node("fraction", (1, 0)),
    "a uuid that is short": Node("uuid", (b"x", None)),
    "a path that is a number": Node("path", ("PosixPath", 5)),
    "a path of another class": Node("path", ("Path.unlink", "x")),
    "a factory that is none": Node("defaultdict", ("eval", ())),
    "a mapping without a value": Node("counter", (("a",),)),
    "a type that is none": Node("type", ("os.system",)),
    "a deque of a number": Node("deque", (5, None)),
    "an array of an unknown code": Node("array", ("O8", b"A" * 8, "little")),
    "an instance of no class": Node("instance", ("os.system", "object", ())),
    "parts that are too few": Node("datetime"),
    "parts that are too many": Node("complex", (1.0, 2.0, 3.0)),
}  # fmt: skip


@pytest.mark.parametrize("what", NODES)
def test_a_forged_node_is_refused(what: str) -> None:
    with pytest.raises(SerializeError):
        read([NODES[what]])


@dataclasses.dataclass
class Report:
    score: float


FIELDS = {
    "one of another class": (("other", 1),),
    "a method": (("__class__", 5),),
    "none": (),
    "a number": ((5, 1),),
    "a name with a dot": (("score.real", 1),),
}


@pytest.mark.parametrize("what", FIELDS)
def test_fields_that_a_class_does_not_declare_are_refused(what: str) -> None:
    name = f"{Report.__module__}.{Report.__qualname__}"
    parts = tuple(part for field in FIELDS[what] for part in field)
    with pytest.raises(CorruptDataError):
        read(Node("instance", (name, "object", parts)), trust=Safe(allow=(Report,)))


def test_what_takes_two_to_the_power_of_its_size_to_hash_is_refused() -> None:
    value: Any = (1, 2)
    for _ in range(60):
        value = (value, value)
    assert read([value]) is not None  # as a value it is as small as it looks
    with pytest.raises(CorruptDataError):
        read(Node("counter", ((value, 1),)))
    # A key of a dict: the reference to "k" becomes one to the last node, which is the whole value.
    stream, _ = encode_tree([value, {"k": 1}], Allowed())
    counts = HEAD.unpack_from(stream)[3:-2]
    last = len(CONSTANTS) + sum(counts[n] for n in (0, 1, 4, 5, 6, 7, 8, 9, 10)) - 1
    end = len(stream) - HEAD.unpack_from(stream)[-2] - counts[Section.LISTS] - counts[Section.NODES]
    forged = stream[: end - 8] + struct.pack("<I", last) + stream[end - 4 :]
    with pytest.raises(CorruptDataError, match="hash"):
        deserialize_data(pack(forged, format_id=7).tobytes())


HEAVY: Any = (1, 2)
for _ in range(60):
    HEAVY = (HEAVY, HEAVY)
HASHING = {
    "the name of an index": Node("pd.index", ("Index", np.arange(2), HEAVY, None)),
    "the name of a range": Node("pd.range", (0, 1, 1, HEAVY)),
    "the name of a series": Node("pd.series", (np.arange(1), pd.RangeIndex(1), HEAVY, (), True)),
    "the names of levels": Node("pd.levels", ((pd.Index([1]),), (np.array([0]),), (HEAVY,))),
    "the sides of an interval": Node("pd.interval", (HEAVY, HEAVY, "left")),
    "the keys of a counter": Node("counter", ((HEAVY, 1),)),
    "categories": Node(
        "pd.categories",
        (Node("pd.index", ("Index", Node("np.array", (dtype("|O"), "O", (HEAVY,), 1)), None, None)), False),
    ),
}  # fmt: skip


@pytest.mark.parametrize("what", HASHING)
def test_no_node_hashes_or_compares_what_would_never_end(what: str) -> None:
    with pytest.raises(SerializeError):
        read([HASHING[what]])


def test_a_small_file_cannot_copy_one_tuple_or_read_one_text_many_times() -> None:
    items = tuple(range(50_000))
    for nodes in (
        [Node("deque", (items, None)) for _ in range(2000)],
        [Node("np.array", (dtype("|O"), "O", items, len(items))) for _ in range(2000)],
        [Node("path", ("PurePosixPath", "a/" * 50_000)) for _ in range(2000)],
        [Node("fraction", (3**9000, 7**5000)) for _ in range(2000)],
    ):
        with pytest.raises(SerializeError):
            read(nodes)


COLLIDING = [n * (2**61 - 1) for n in range(1, 3000)]


def test_keys_that_all_collide_are_refused() -> None:
    for value in (dict.fromkeys(COLLIDING, 1), set(COLLIDING), frozenset(COLLIDING)):
        with pytest.raises(CorruptDataError, match="same hash"):
            read(value)
    assert read(dict.fromkeys(COLLIDING[:50], 1)) == dict.fromkeys(COLLIDING[:50], 1)


def test_a_small_file_cannot_copy_one_large_part_many_times() -> None:
    part = b"x" * 60_000
    nodes = [Node("bytearray", (part,)) for _ in range(40_000)]  # 2.4 GB from half a megabyte
    with pytest.raises(TooLargeError):
        read(nodes)


def test_max_size_counts_all_that_is_made() -> None:
    small = {"max_size": 100_000}
    assert read([1, 2, 3], **small) == [1, 2, 3]
    for value in (
        [[] for _ in range(50_000)],
        list(range(100_000)),
        "x" * 500_000,
        np.zeros(50_000),
    ):
        with pytest.raises(TooLargeError, match="max_size"):
            read(value, **small)


def test_a_table_with_buffers_that_overlap_is_refused() -> None:
    content = bytes(1 << 16)
    stream = encode_tree([np.zeros(1 << 13), np.zeros(1 << 13)], Allowed())[0]
    start = HEADER.size + 2 * TABLE_ENTRY.size + len(stream)
    offset = start + -start % 64
    entry = TABLE_ENTRY.pack(
        offset, len(content), len(content), 0, 0, 1, zlib.crc32(content).to_bytes(32, "little")
    )
    table, total = entry * 2, offset + len(content)
    head = HEADER.pack(MAGIC, 2, 7, 0, 0, 2, len(stream), len(stream), NO_MAC, total, bytes(8))
    head = head[:-8] + head_checksum(head[:-8], table, stream)
    data = head + table + stream + bytes(offset - start) + content
    with pytest.raises(CorruptDataError, match="Buffer 1 is not at"):
        deserialize_data(data)


@pytest.mark.parametrize("codec", [Codec.LZ4, Codec.ZSTD, Codec.ZLIB])
def test_a_size_that_a_codec_cannot_reach_is_refused_before_it_is_allocated(codec: Codec) -> None:
    stream = b"garbage"
    head = HEADER.pack(
        MAGIC, 2, 7, codec, 0, 0, len(stream), 1 << 40, NO_MAC, 64 + len(stream), bytes(8)
    )
    data = head[:-8] + head_checksum(head[:-8], b"", stream) + stream
    with pytest.raises(SerializeError, match="cannot unpack"):
        deserialize_data(data)


def content(name: SerializationFormat, stream: bytes) -> bytes:
    return pack(stream, format_id=FORMAT_IDS[name]).tobytes()


def npy(shape: tuple[int, ...], descr: str = "<f8") -> bytes:
    header = repr({"descr": descr, "fortran_order": False, "shape": shape}).encode()
    header += b" " * (-(len(header) + 11) % 64) + b"\n"
    return b"\x93NUMPY\x01\x00" + struct.pack("<H", len(header)) + header


def compressed_arrow() -> bytes:
    sink = pa.BufferOutputStream()
    table = pa.table({"a": np.zeros(1_000_000)})
    options = pa.ipc.IpcWriteOptions(compression="zstd")
    with pa.ipc.new_stream(sink, table.schema, options=options) as writer:
        writer.write_table(table)
    return bytes(sink.getvalue())


CONTENTS = {
    "an array of 745 GiB": (SerializationFormat.NUMPY, npy((10**11,))),
    "an array of objects": (SerializationFormat.NUMPY, npy((1,), "|O") + b"x" * 8),
    "an array of negative length": (SerializationFormat.NUMPY, npy((-1,))),
    "an array whose header is deep": (SerializationFormat.NUMPY, b"\x93NUMPY\x01\x00\xff\x1f" + b"(" * 0x1FFF),
    "a deep list": (SerializationFormat.JSON, b"[" * 1_000_000),
    "a number that is none": (SerializationFormat.JSON, b"NaN"),
    "bytes that are no text": (SerializationFormat.JSON, b'"\xff"'),
    "a deep array": (SerializationFormat.MSGPACK, b"\x91" * 1_000_000),
    "an array of 4 G items": (SerializationFormat.MSGPACK, b"\xdd\xff\xff\xff\xff"),
    "a YAML object": (SerializationFormat.YAML, b"!!python/object/apply:os.system ['true']"),
    "aliases": (SerializationFormat.YAML, b"a: &a [1]\nb: *a\n"),
    "a long number in base 60": (SerializationFormat.YAML, b"1" + b":1" * 500_000),
    "a table of a million columns": (SerializationFormat.CSV, b"a," * 1_000_000),
    "a deep YAML": (SerializationFormat.YAML, b"[" * 100_000),
    "no Parquet": (SerializationFormat.PARQUET, b"PAR1garbagePAR1"),
    "no Arrow": (SerializationFormat.ARROW, b"\xff\xff\xff\xff\x00\x10\x00\x00garbage"),
    "an Arrow stream with a compressed body": (SerializationFormat.ARROW, compressed_arrow()),
    "no CSV": (SerializationFormat.CSV, b""),
    "a pickle of torch": (SerializationFormat.TORCH, b"\x80\x02}q\x00."),
    "no tree": (SerializationFormat.FRAME, b"opsT" + b"\xff" * 200),
    "nothing": (SerializationFormat.FRAME, b""),
}  # fmt: skip


@pytest.mark.parametrize("what", CONTENTS)
def test_content_of_other_formats_claims_no_more_than_there_is(what: str) -> None:
    with pytest.raises(SerializeError):
        deserialize_data(content(*CONTENTS[what]))


@pytest.mark.parametrize(
    "value", [np.zeros(5000), pd.DataFrame({"a": ["x"] * 5000}), {"a": (1, 2)}]
)
def test_every_cut_or_wrong_count_of_a_tree_is_damage(value: Any) -> None:
    stream, buffers = encode_tree(value, Allowed())
    for at in range(min(len(stream), 300)):
        for patch in (b"\xff\xff\xff\xff", b"\x00\x00\x00\x00", b"\x01\x00\x00\x80"):
            forged = stream[:at] + patch + stream[at + 4 :]
            data = pack(forged, buffers, format_id=7).tobytes()
            try:
                deserialize_data(data)
            except SerializeError:
                continue


def test_hostile_data_takes_little_memory_and_time() -> None:
    """The claims of these few bytes are gigabytes; a process of its own shows what they take."""
    stream, _ = encode_tree([1], Allowed())
    counts = bytearray(stream)
    for at in range(8, 60, 4):
        counts[at : at + 4] = b"\xff\xff\xff\x7f"
    cases = [content(*CONTENTS[name]) for name in CONTENTS]
    cases.append(content(SerializationFormat.FRAME, bytes(counts)))
    program = """
import resource, sys, time
import numpy, pandas, pyarrow, yaml, pyarrow.parquet
from ops.serialize import SerializeError, deserialize_data, serialize_data
deserialize_data(serialize_data(pandas.DataFrame({"a": ["x"]})))
peak = lambda: resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
for line in sys.stdin:
    data = bytes.fromhex(line)
    before = peak()
    try:
        deserialize_data(data)
    except SerializeError:
        pass
    grown = (peak() - before) << 10
    assert grown < (64 << 20) + 4 * len(data), (grown, len(data), data[:100])
print("ok")
"""
    run = subprocess.run(
        [sys.executable, "-c", program],
        input="\n".join(case.hex() for case in cases),
        capture_output=True,
        text=True,
        check=False,
        timeout=120,
    )
    assert run.stdout == "ok\n", run.stderr


def test_the_writer_compresses_nothing_that_the_reader_would_take_for_a_bomb(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr("ops.serialize.limits._LEAST", 1 << 16)
    value = np.zeros(1 << 20)
    data = serialize_data({"a": value}, compression="zstd")
    assert deserialize_data(data)["a"].shape == value.shape
