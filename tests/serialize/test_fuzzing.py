"""Bytes that are changed at random end in an error of ours, soon and in little memory, in every loader."""

from __future__ import annotations

import collections
import contextlib
import datetime as dt
import random
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pyarrow as pa
import pytest
from tests.fuzzed_bytes import FULL, MIB, full_run, measured, mutated, rounds

from ops.foundation.errors import MissingExtraError
from ops.serialize import Safe, SerializationFormat, SerializeError, SmartSerializer, serialize_data
from ops.serialize.formats import FORMAT_IDS
from ops.serialize.nodes import Allowed, known_encoders
from ops.serialize.packing import pack
from ops.serialize.tree_writer import encode_tree

CORPUS = Path(__file__).parent / "corpus"
ROUNDS = 60  # of each seed, in a short run

FRAME = pd.DataFrame(
    {
        "a": [1, 2],
        "b": ["x", None],
        "c": pd.Categorical(["u", "v"]),
        "d": pd.date_range("2020", periods=2, tz="UTC"),
        "e": pd.array([1, None], "Int8"),
        "f": pd.period_range("2020", periods=2, freq="M"),
        "g": pd.interval_range(0, 2),
        "h": pd.arrays.SparseArray([0, 1]),
    },
    index=pd.MultiIndex.from_tuples([(1, "x"), (2, "y")]),
)
TREES: list[Any] = [
    {"a": [1, 2.5, "x", None, True, (1, {2}, frozenset([3])), 2**70], 1: b"bytes", (1, 2): [[]]},
    [(1, "x", 0.5)] * 2 + [(n, str(n), n / 2) for n in range(20)],
    [{"id": n, "name": str(n), "tags": ["a"]} for n in range(20)],
    [dt.datetime(2020, 1, 1, tzinfo=dt.UTC), dt.timedelta(1), collections.Counter("aab"), range(3)],
    {"array": np.arange(600.0), "mask": np.ma.masked_array([1, 2], [0, 1]), "text": np.array(["ab"])},
    np.array([(1, "x")], [("a", "<i4"), ("b", "O")]),
    FRAME,
    pa.table({"a": [1, 2], "b": [["x"], None], "c": pa.array(["u", "u"]).dictionary_encode()}),
    [np.random.default_rng(0), np.random.RandomState(0)],
]  # fmt: skip
STREAMS = {
    SerializationFormat.JSON: {"a": [1, 2.5, "x", None]},
    SerializationFormat.MSGPACK: {"a": [1, 2.5, "x", None]},
    SerializationFormat.YAML: {"a": [1, 2.5, "x", None]},
    SerializationFormat.NUMPY: np.arange(6.0).reshape(2, 3),
    SerializationFormat.PARQUET: pd.DataFrame({"a": [1, 2], "b": [0.5, 1.5]}),
    SerializationFormat.ARROW: pa.table({"a": [1, 2], "b": ["x", None]}),
    SerializationFormat.CSV: pd.DataFrame({"a": [1, 2]}),
}


class Tensor:
    """What a tensor becomes, also where torch is not installed."""


known_encoders[Tensor] = lambda _: (
    "torch.tensor",
    ("float32", b"12345678", False, False, "cpu", 2),
)


def seeds() -> list[tuple[int, bytes, list[Any]]]:
    """Return format number, stream and buffers of one object of each kind."""
    found = []
    for tree in TREES:
        stream, buffers = encode_tree(tree, Allowed())
        found.append(
            (FORMAT_IDS[SerializationFormat.FRAME], stream, [bytes(raw) for raw, _ in buffers])
        )
    for name, value in STREAMS.items():
        data = serialize_data(value, name, compression=None)
        found.append((FORMAT_IDS[name], data[64:], []))
    stream, _ = encode_tree([Tensor()], Allowed())
    found.append((FORMAT_IDS[SerializationFormat.TORCH], stream, []))
    return found


MAX_SIZE = 16 * MIB
ALLOWED = 64 * MIB + 4 * MAX_SIZE
READER = SmartSerializer(max_size=MAX_SIZE, trust=Safe())


def attempt(number: int, stream: bytes, buffers: list[Any]) -> None:
    """Load one container; anything but an object or an error of ours is kept, and fails."""
    parts = [(memoryview(raw), 1) for raw in buffers]
    data = pack(stream, parts, format_id=number).tobytes()
    with measured(data, CORPUS, ALLOWED), contextlib.suppress(SerializeError, MissingExtraError):
        READER.deserialize(data)


@pytest.mark.filterwarnings("ignore")
@full_run
@pytest.mark.parametrize("seed", range(len(TREES) + len(STREAMS) + 1))
def test_changed_bytes_end_in_an_error_of_ours_or_in_an_object(seed: int) -> None:
    number, stream, buffers = seeds()[seed]
    rng = random.Random(f"{seed} {random.randrange(1 << 30) if FULL else 0}")
    for _ in rounds(ROUNDS, 1 / len(seeds())):
        raws = [mutated(raw, rng) if rng.random() < 0.1 else raw for raw in buffers]
        attempt(number, mutated(stream, rng), raws)


@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize("path", sorted(CORPUS.glob("*.opsf")), ids=lambda path: path.stem)
def test_what_an_earlier_run_found_is_an_error_of_ours_now(path: Path) -> None:
    try:
        READER.deserialize(path.read_bytes())
    except (SerializeError, MissingExtraError):
        return
