"""What hostile data may cost: a second, and 64 MB beside a few times its size. Each load is measured."""

from __future__ import annotations

import array
import base64
import collections
import dataclasses
import datetime as dt
import decimal
import enum
import fractions
import io
import ipaddress
import json
import pathlib
import struct
import sys
import uuid
import zoneinfo
from collections.abc import Callable
from typing import Any

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from ops.foundation.errors import OpsError
from ops.foundation.imports import LazyImport
from ops.serialize import (
    CorruptDataError,
    Safe,
    SerializeError,
    SmartSerializer,
    deserialize_data,
    serialize_data,
    tree_writer,
)
from ops.serialize.errors import in_words
from ops.serialize.formats import FORMAT_IDS, SerializationFormat
from ops.serialize.limits import Budget
from ops.serialize.nodes import (
    Allowed,
    Raw,
    arrow_messages,
    arrow_nodes,
    encoder_for,
    known_encoders,
)
from ops.serialize.nodes.arrow_nodes import BUILDERS as OF_ARROW
from ops.serialize.nodes.numpy_nodes import BUILDERS as OF_NUMPY
from ops.serialize.nodes.pandas_nodes import BUILDERS as OF_PANDAS
from ops.serialize.nodes.standard_nodes import BUILDERS as OF_STANDARD
from ops.serialize.packing import pack
from ops.serialize.tree_writer import encode_tree


@dataclasses.dataclass(eq=False)
class Node:
    """A node of any name with any parts, as no writer would make it."""

    name: Any
    parts: tuple[Any, ...] = ()


@pytest.fixture(autouse=True)
def _forging(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(known_encoders, Node, lambda node: (node.name, node.parts))
    write = tree_writer._Writer._buffer
    numbers: dict[tuple[int, int], int] = {}

    def shared(writer: Any, raw: Raw) -> int:
        """Write memory that several nodes have once, as no writer would."""
        key = id(writer), id(raw)
        if key not in numbers:
            numbers[key] = write(writer, raw)
            kept.append((writer, raw))
        return numbers[key]

    kept: list[Any] = []
    monkeypatch.setattr(tree_writer._Writer, "_buffer", shared)


def forged(value: Any) -> bytes:
    stream, buffers = encode_tree(value, Allowed())
    return pack(stream, buffers, format_id=7).tobytes()


MODULUS = (1 << 61) - 1


def numbers_that_equal_a_decimal_but_for_their_length() -> Any:
    large = 10**100_000
    large += (hash(decimal.Decimal(7)) - hash(large)) % MODULUS
    keys = [*(large + MODULUS * n for n in range(1, 20)), decimal.Decimal(7)]
    return Node("counter", (tuple(part for key in keys for part in (key, 1)),))


def numbers_in_a_frozenset() -> Any:
    large = 10**50_000
    large += (hash(decimal.Decimal(7)) - hash(large)) % MODULUS
    return [frozenset([large, decimal.Decimal(7)])] * 1, [
        frozenset([large + MODULUS * n, decimal.Decimal(7)]) for n in range(1, 30)
    ]


def business_hours() -> Any:
    times = tuple(dt.time(n % 24, n // 24 % 60) for n in range(100_000))
    return Node("pd.offset", ("BusinessHour", 1, False, ("start", times, "end", times)))


def levels(count: int = 200, rows: int = 100_000) -> Node:
    codes, level = np.arange(rows, dtype=np.int32), pd.RangeIndex(rows)
    names = tuple(f"n{n}" for n in range(count))
    return Node("pd.levels", ((level,) * count, (codes,) * count, names))


def fields_over_each_other() -> Any:
    count, size = 5000, 1 << 20
    described = {
        "names": [f"f{n}" for n in range(count)],
        "formats": [f">U{size // 4}"] * count,
        "offsets": [0] * count,
        "titles": [None] * count,
        "size": size,
        "aligned": False,
    }
    return Node("np.array", (json.dumps(described), "C", Raw(memoryview(bytes(size))), 1))


def categoricals_of_one_array() -> Any:
    codes, labels = np.zeros(1 << 20, np.int64), pd.Index(["a"])
    return [Node("pd.categorical", (codes, labels, n % 2 == 0)) for n in range(40)]


def schema_of_shared_fields(depth: int = 20) -> bytes:
    """Return a schema of a few hundred bytes that stands for 2 to the power of *depth* fields."""
    kind: Any = pa.int64()
    for _ in range(depth):
        kind = pa.struct([("a", kind), ("b", pa.int64())])
    data = bytearray(pa.schema([("x", kind)]).serialize())
    message = memoryview(data)[8:]
    reader = arrow_messages._Message(message, Budget(1 << 30))
    schema = reader._follow(reader._field(reader._number("<I", 0), 2))
    pending = reader._vector(reader._field(schema, 1))
    while pending:
        vector = reader._field(pending.pop(), 5)
        if vector:
            first = reader._follow(vector) + 4
            children = reader._vector(vector)
            if len(children) == 2:
                pending.append(children[0])
                struct.pack_into("<I", message, first + 4, children[0] - first - 4)
    return bytes(data)


def parquet_of_shared_fields() -> bytes:
    key = {"ARROW:hostil": base64.b64encode(schema_of_shared_fields())}
    sink = io.BytesIO()
    pq.write_table(pa.table({"a": [1]}).replace_schema_metadata(key), sink)
    data = sink.getvalue().replace(b"ARROW:schema", b"ARROW:honest")
    assert b"ARROW:hostil" in data
    return data.replace(b"ARROW:hostil", b"ARROW:schema")


def parquet_of_many_columns() -> bytes:
    """Return a file whose footer has a million empty columns, of a byte each."""
    count = 1_000_000
    columns = b"\x19\xfc" + varint(count) + bytes(count) + b"\x00"  # a RowGroup
    footer = b"\x15\x02\x19\x1c\x48\x01s\x00\x16\x00\x19\x1c" + columns + b"\x00"
    return b"PAR1" + footer + struct.pack("<I", len(footer)) + b"PAR1"


def varint(number: int) -> bytes:
    found = b""
    while number > 127:
        found, number = found + bytes((number & 127 | 128,)), number >> 7
    return found + bytes((number,))


def arrow_of_pieces(count: int = 3000) -> bytes:
    """Return a table whose dictionary grows with each batch, and is made anew each time."""
    sink = io.BytesIO()
    options = pa.ipc.IpcWriteOptions(emit_dictionary_deltas=True)
    texts: list[str] = []
    kind = pa.dictionary(pa.int32(), pa.string())
    with pa.ipc.new_stream(sink, pa.schema([("a", kind)]), options=options) as writer:
        for n in range(count):
            texts.append("x" * 100 + str(n))
            array = pa.DictionaryArray.from_arrays(pa.array([n], pa.int32()), texts)
            writer.write_batch(pa.record_batch([array], names=["a"]))
    return sink.getvalue()


CONTENTS: dict[str, tuple[SerializationFormat, Callable[[], bytes]]] = {
    "fields of Arrow": (SerializationFormat.ARROW, schema_of_shared_fields),
    "pieces of a dictionary": (SerializationFormat.ARROW, arrow_of_pieces),
    "fields of Parquet": (SerializationFormat.PARQUET, parquet_of_shared_fields),
    "columns of Parquet": (SerializationFormat.PARQUET, parquet_of_many_columns),
}


@pytest.mark.parametrize("what", CONTENTS)
@pytest.mark.parametrize("max_size", [None, 24 << 20])
def test_hostile_content_is_refused_soon(
    cost_of: Callable[..., Any], what: str, max_size: int | None
) -> None:
    name, make = CONTENTS[what]
    cost = cost_of(pack(make(), format_id=FORMAT_IDS[name]).tobytes(), max_size)
    assert cost.ended.startswith("refused"), cost
    assert cost.is_bounded, cost


def views_of_one_text() -> Any:
    count, size = 60_000, 1 << 20
    view = struct.pack("<i4sii", size, b"aaaa", 0, 0)
    buffers = [None, pa.py_buffer(view * count), pa.py_buffer(b"a" * size)]
    array = pa.Array.from_buffers(pa.string_view(), count, buffers)
    return [Node("pa.chunked", arrow_nodes.array_parts(pa.StructArray.from_arrays([array], ["a"])))]


def texts_of_numpy() -> Any:
    described = json.dumps({"string": None, "coerce": True})
    return Node("np.array", (described, "T", ("x" * 100_000,) * 50_000, 50_000))


def masks_of_many_fields() -> Any:
    data = np.zeros(3, [(f"f{n}", "i1") for n in range(3000)])
    return [Node("np.ma", (data, None, None, n % 2 == 0)) for n in range(500)]


HOSTILE: dict[str, Callable[[], Any]] = {
    "numbers beside a Decimal": numbers_that_equal_a_decimal_but_for_their_length,
    "numbers in a set": numbers_in_a_frozenset,
    "business hours": business_hours,
    "levels as categories": lambda: Node("pd.categories", (levels(), False)),
    "levels as labels that are looked at": lambda: Node(
        "pd.frame", (levels(), pd.RangeIndex(0), (), (), False)
    ),
    "levels in levels": lambda: Node("pd.levels", ((levels(50),), (np.zeros(1, int),), ("a",))),
    "levels as an index": lambda: [levels() for _ in range(20)],
    "fields over each other": fields_over_each_other,
    "codes of many categoricals": categoricals_of_one_array,
    "fields of a schema": lambda: Node("pa.schema", (schema_of_shared_fields(),)),
    "views of one text": views_of_one_text,
    "one text in an array of NumPy": texts_of_numpy,
    "masks of many fields": masks_of_many_fields,
    "an unknown type": lambda: Node("np.type", ("x" * (4 << 20),)),
}


@pytest.mark.parametrize("what", HOSTILE)
@pytest.mark.parametrize("max_size", [None, 24 << 20])
def test_hostile_trees_are_refused_soon(
    cost_of: Callable[..., Any], what: str, max_size: int | None
) -> None:
    cost = cost_of(forged(HOSTILE[what]()), max_size)
    assert cost.ended.startswith("refused"), cost
    assert cost.is_bounded, cost


# Every node there is, whose parts are large and shared by very many.

N = 1 << 16
WIDE = {f"k{n}": n for n in range(N // 16)}
NUMBERS = np.arange(N)
TEXTS = pd.Index([f"x{n}" for n in range(N // 16)], dtype=object)


class Color(enum.Flag):
    RED = 1
    BLUE = 2


def samples() -> dict[str, Any]:
    """Return an object of each node, as large as it may be."""
    structured = np.zeros(N // 16, [("a", "O"), ("b", "<i8")])
    every = pa.table({"a": NUMBERS, "b": [str(n) for n in range(N)]})
    found: list[Any] = [
        complex(1, 2), b"x" * N, bytearray(N), range(N), slice(0, N), collections.deque(range(N // 64)),
        collections.OrderedDict(WIDE), collections.defaultdict(list, WIDE), collections.Counter(WIDE),
        array.array("d", range(N)), dt.date(2020, 1, 1), dt.datetime(2020, 1, 1), dt.time(1),
        dt.timedelta(1), dt.timezone(dt.timedelta(hours=1), "x" * N), zoneinfo.ZoneInfo("Europe/Paris"),
        decimal.Decimal("1" * 4000), fractions.Fraction(3**9000, 7**5000), uuid.uuid4(),
        uuid.SafeUUID.safe, pathlib.PurePosixPath("a/" * 2000), ipaddress.ip_address("::1"), int,
        NUMBERS, structured, np.zeros(N, [("a", "i8")]).view(np.recarray), NUMBERS.reshape(256, -1).view(np.matrix),
        np.ma.masked_array(NUMBERS, NUMBERS > 5), np.ma.masked, np.float64(1), np.bytes_(b"x" * N + b"\0"),
        np.str_("x" * N + "\0"), np.dtype([(f"f{n}", "<i8") for n in range(500)]), np.float64,
        np.zeros(1, [("a", "i8")]).view(np.recarray)[0], np.random.RandomState(0), np.random.default_rng(0),
        np.array(["x" * 9] * N), np.array([None] * (N // 64)),
        pd.DataFrame({"a": NUMBERS, "b": ["x"] * N}), pd.Series(NUMBERS, name="x" * N), pd.Index(NUMBERS),
        TEXTS, pd.RangeIndex(N), pd.MultiIndex.from_arrays([NUMBERS, NUMBERS]),
        pd.Series(NUMBERS).astype("Int64").array, pd.Categorical(NUMBERS), pd.Categorical(TEXTS),
        pd.CategoricalDtype(TEXTS), pd.CategoricalDtype(pd.RangeIndex(N)),
        pd.date_range("2020", periods=N, freq="h").array, pd.DatetimeTZDtype("ns", dt.UTC),
        pd.timedelta_range(0, periods=N, freq="h").array, pd.period_range("2020", periods=N, freq="h").array,
        pd.interval_range(0, N).array, pd.arrays.SparseArray(np.where(NUMBERS > 9, NUMBERS, 0)),
        pd.SparseDtype("int64", 0), pd.arrays.NumpyExtensionArray(NUMBERS),
        pd.array(["x"] * N, dtype=pd.StringDtype("python")), pd.array(["x"] * N, dtype=pd.StringDtype("pyarrow")),
        pd.StringDtype("python"), pd.arrays.ArrowExtensionArray(pa.array(NUMBERS)), pd.ArrowDtype(pa.int64()),
        pd.Timestamp(0), pd.Timedelta(0), pd.Period("2020"), pd.Interval(0, 1), pd.NaT, pd.NA, pd.Int8Dtype(),
        pd.PeriodDtype("D"), pd.IntervalDtype("int64", "left"), pd.offsets.BusinessHour(),
        pd.offsets.Week(weekday=1),
        every, every.to_batches()[0], every["a"], every["b"].combine_chunks(),
        pa.scalar("x" * N), pa.list_(pa.int64()), pa.schema([(f"f{n}", pa.int64()) for n in range(1000)]),
        pa.field("x" * N, pa.int64()), pa.py_buffer(b"x" * N),
    ]  # fmt: skip
    named: dict[str, Any] = {}
    for value in found:
        name, made = encoder_for(value, Allowed())
        named[f"{name} {type(value).__name__} {len(named)}"] = name, made
    return named


SAMPLES = samples()
UNCOMMON = {"instance", "pd.pytz"}  # need a class of the reader's, and pytz


def test_there_is_a_sample_of_every_node() -> None:
    every = {*OF_STANDARD, *OF_NUMPY, *OF_PANDAS, *OF_ARROW} - UNCOMMON
    assert {name for name, _ in SAMPLES.values()} == every


@pytest.mark.parametrize("what", SAMPLES)
def test_nodes_that_share_their_parts_take_no_more_than_they_may(
    cost_of: Callable[..., Any], what: str
) -> None:
    name, parts = SAMPLES[what]
    count = 6000 if name in OF_STANDARD or name in OF_NUMPY else 2000
    data = forged([Node(name, parts) for _ in range(count)])
    for max_size in (None, 8 << 20):
        cost = cost_of(data, max_size)
        assert cost.is_bounded, cost


@pytest.mark.parametrize("what", SAMPLES)
def test_one_of_each_node_still_loads(what: str) -> None:
    deserialize_data(forged([Node(*SAMPLES[what])]))


WRONG: list[Any] = [
    None, -1, 1 << 70, float("nan"), "x" * 100_000, b"\xff" * 64, (), (None,) * 50, [], {}, frozenset(),
    np.zeros(0), np.zeros((2, 2)), np.array(["x"]), np.array([None, 1]), np.zeros(3, [("a", "i1")]),
    np.array(np.nan), np.arange(5), np.dtype("f4"), pd.Index([1]), pd.Index(["a", "a"]), pd.NaT, pd.NA,
    pd.RangeIndex(1 << 40), pd.MultiIndex.from_tuples([(1, 2)]), pd.Categorical(["a"]), pa.array([1]),
    pd.interval_range(0, 2).array, pd.Timestamp(0), pd.Int8Dtype(), dt.UTC, slice(0), int,
]  # fmt: skip


@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize("what", SAMPLES)
def test_a_part_of_another_kind_is_an_error_of_ours_or_an_object(what: str) -> None:
    name, parts = SAMPLES[what]
    reader = SmartSerializer(max_size=64 << 20)
    for at in range(len(parts)):
        for wrong in WRONG:
            data = forged([Node(name, (*parts[:at], wrong, *parts[at + 1 :]))])
            try:
                value = reader.deserialize(data)
            except SerializeError:
                continue
            repr(type(value))


def test_an_error_is_put_into_words_without_writing_all_of_it() -> None:
    endless: Any = (1,)
    for _ in range(60):
        endless = (endless, endless)
    for part in (endless, "x" * 10_000, b"x" * 10_000, 1 << 100_000, [endless], KeyError(endless)):
        assert len(in_words(ValueError(part, part))) < 1000
    assert in_words(KeyError("name")) == "KeyError: name"


# Dataclasses and flags


@dataclasses.dataclass
class Made:
    size: int
    parts: list[int] = dataclasses.field(default_factory=list)
    note: str = "none"


CALLED: list[int] = []


@dataclasses.dataclass
class Calling:
    size: int = 1
    parts: list[int] = dataclasses.field(default_factory=lambda: CALLED.append(1) or [])  # type: ignore[func-returns-value]


def instance(cls: type, *parts: Any, shape: str = "object") -> Node:
    content = parts[0] if shape == "flags" else parts
    return Node("instance", (f"{cls.__module__}.{cls.__qualname__}", shape, content))


def test_a_field_that_is_left_out_is_filled_without_calling_a_factory() -> None:
    trust = Safe(allow=(Made, Calling))
    first, second = deserialize_data(
        forged([instance(Made, "size", 1), instance(Made, "size", 2)]), trust=trust
    )
    assert first == Made(1)
    assert first.parts is not second.parts
    with pytest.raises(CorruptDataError, match="parts"):
        deserialize_data(forged([instance(Calling, "size", 1)]), trust=trust)
    assert not CALLED
    whole = serialize_data([Calling(2, [3])], trust=trust)
    assert deserialize_data(whole, trust=trust) == [Calling(2, [3])]


def test_flags_of_many_values_do_not_stay_for_ever() -> None:
    class Plain(enum.Flag, boundary=enum.KEEP):
        ONE = 1
        TWO = 2

    class Number(enum.IntFlag):
        ONE = 1
        TWO = 2

    for cls in (Plain, Number):
        cls.__qualname__ = cls.__name__
        trust = Safe(allow=(cls,))
        both = cls(3)
        assert deserialize_data(serialize_data([both], trust=trust), trust=trust)[0] is both
        for start in range(4, 40_000, 4000):
            nodes = [instance(cls, n, shape="flags") for n in range(start, start + 4000)]
            try:
                found = deserialize_data(forged(nodes), trust=trust)
            except CorruptDataError:
                assert cls is Plain
            else:
                assert [flags.value for flags in found] == [*range(start, start + 4000)]
        assert len(cls._value2member_map_) < 20_000
        with pytest.raises(CorruptDataError, match="bits"):
            deserialize_data(forged([instance(cls, 1 << 5000, shape="flags")]), trust=trust)


def test_a_library_that_is_missing_is_an_error_of_ours(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "torch", None)
    monkeypatch.setattr(
        "ops.serialize.nodes.torch_nodes.torch", LazyImport("torch", "ops-serialize[torch]")
    )
    with pytest.raises(OpsError, match=r"ops-serialize\[torch\]|not be imported") as caught:
        deserialize_data(
            forged([Node("torch.tensor", ("float32", b"1234", False, False, "cpu", 1))])
        )
    assert "nstall" in str(caught.value.suggestions) + str(caught.value)
