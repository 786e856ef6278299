"""Bytes that are changed at random end in an error of ours, in every loader; long under OPS_FAULTS=full.

A full run goes on for ten minutes and keeps what it found in `tests/serialize/corpus`, one file each;
every later run, also a short one, starts with what lies there.
"""

from __future__ import annotations

import collections
import datetime as dt
import hashlib
import os
import random
import struct
import time
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pyarrow as pa
import pytest

from ops.serialize import Safe, SerializationFormat, SerializeError, SmartSerializer, serialize_data
from ops.serialize.formats import FORMAT_IDS
from ops.serialize.nodes import Allowed
from ops.serialize.packing import pack
from ops.serialize.tree_writer import encode_tree

CORPUS = Path(__file__).parent / "corpus"
FULL = os.environ.get("OPS_FAULTS") == "full"
SECONDS = 600 if FULL else 0
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
    return found


INTERESTING = [0, 1, 2, 0x7F, 0x80, 0xFF, 0x7FFFFFFF, 0x80000000, 0xFFFFFFFF, 1 << 62]


def mutated(data: bytes, rng: random.Random) -> bytes:
    """Return *data* with some bytes, words or spans changed."""
    changed = bytearray(data)
    for _ in range(rng.choice((1, 1, 1, 2, 4))):
        if not changed:
            break
        at = rng.randrange(len(changed))
        how = rng.randrange(7)
        if how == 0:
            changed[at] ^= 1 << rng.randrange(8)
        elif how == 1:
            changed[at] = rng.randrange(256)
        elif how == 2:
            changed[at : at + 4] = struct.pack("<I", rng.choice(INTERESTING) & 0xFFFFFFFF)
        elif how == 3:
            changed[at : at + 8] = struct.pack("<Q", rng.choice(INTERESTING))
        elif how == 4:
            del changed[at : at + rng.randrange(1, 16)]
        elif how == 5:
            other = rng.randrange(len(changed))
            changed[at:at] = changed[other : other + rng.randrange(1, 32)]
        else:
            word = struct.unpack_from("<I", changed.ljust(at + 4, b"\0"), at)[0]
            changed[at : at + 4] = struct.pack("<I", (word + rng.choice((-1, 1))) & 0xFFFFFFFF)
    return bytes(changed)


READER = SmartSerializer(max_size=64 << 20, trust=Safe())


def attempt(number: int, stream: bytes, buffers: list[Any]) -> None:
    """Load one container; anything but an object or an error of ours is kept, and fails."""
    parts = [(memoryview(raw), 1) for raw in buffers]
    data = pack(stream, parts, format_id=number).tobytes()
    start = time.process_time()
    try:
        READER.deserialize(data)
    except SerializeError:
        pass
    except BaseException:
        keep(data)
        raise
    if time.process_time() - start > 5:  # seconds of work: a loop that does not end, or nearly
        keep(data)
        pytest.fail("a load took more than 5 seconds of work")


def keep(data: bytes) -> None:
    if FULL:
        CORPUS.mkdir(exist_ok=True)
        (CORPUS / f"{hashlib.sha256(data).hexdigest()[:16]}.opsf").write_bytes(data)


@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize("seed", range(len(TREES) + len(STREAMS)))
def test_changed_bytes_end_in_an_error_of_ours_or_in_an_object(seed: int) -> None:
    number, stream, buffers = seeds()[seed]
    rng = random.Random(f"{seed} {random.randrange(1 << 30) if FULL else 0}")
    deadline = time.monotonic() + SECONDS / (len(TREES) + len(STREAMS))
    rounds = 0
    while rounds < ROUNDS or time.monotonic() < deadline:
        rounds += 1
        raws = [mutated(raw, rng) if rng.random() < 0.1 else raw for raw in buffers]
        attempt(number, mutated(stream, rng), raws)


@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize("path", sorted(CORPUS.glob("*.opsf")), ids=lambda path: path.stem)
def test_what_an_earlier_run_found_is_an_error_of_ours_now(path: Path) -> None:
    try:
        READER.deserialize(path.read_bytes())
    except SerializeError:
        return
