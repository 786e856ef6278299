"""What saving costs in memory, and what a small hostile input may claim to be."""

from __future__ import annotations

import contextlib
import pickle
import subprocess
import sys
import tracemalloc
import zlib
from pathlib import Path

import numpy as np
import pytest

from ops.serialize import (
    CorruptDataError,
    SmartSerializer,
    TooLargeError,
    deserialize_data,
    dump,
    load,
    serialize_data,
)
from ops.serialize.codecs import Codec, decode
from ops.serialize.formats import FORMAT_IDS, SerializationFormat
from ops.serialize.packing import pack

MIB = 1 << 20


@pytest.mark.skipif(
    not Path("/proc/self/clear_refs").exists(), reason="needs Linux's high-water mark"
)
@pytest.mark.parametrize("what", ["array", "frame", "nested"])
def test_saving_takes_no_memory_of_the_size_of_the_object(tmp_path: Path, what: str) -> None:
    program = """
import sys, pathlib
import numpy as np
from ops.serialize import dump, load
def peak():
    return next(int(line.split()[1]) << 10 for line in open("/proc/self/status") if "VmHWM" in line)
size = 256 << 20
data = np.random.default_rng(0).integers(0, 255, size, np.uint8)
if sys.argv[2] == "frame":
    import pandas as pd
    data = pd.DataFrame(data.view(np.float64).reshape(-1, 8))
elif sys.argv[2] == "nested":
    data = {str(n): [part] for n, part in enumerate(np.split(data, 64))}
dump({"warm": np.zeros(10_000)}, sys.argv[1])  # imports are not the object
open("/proc/self/clear_refs", "w").write("5")
before = peak()
dump(data, sys.argv[1])
print((peak() - before) / size)
"""
    path = str(tmp_path / "x.opsf")
    run = subprocess.run(
        [sys.executable, "-c", program, path, what], capture_output=True, text=True, check=True
    )
    assert float(run.stdout) <= 0.02
    assert Path(path).stat().st_size > 256 * MIB


def test_a_small_input_cannot_claim_more_than_is_allowed(tmp_path: Path) -> None:
    bomb = serialize_data(np.zeros(64 * MIB, np.uint8), compression="zstd")
    assert len(bomb) < MIB
    reader = SmartSerializer(max_size=10 * MIB)
    with pytest.raises(TooLargeError, match="67108") as caught:
        reader.deserialize(bomb)
    assert "max_size" in str(caught.value)
    (tmp_path / "bomb").write_bytes(bomb)
    with pytest.raises(TooLargeError):
        reader.load(tmp_path / "bomb")
    assert deserialize_data(bomb).nbytes == 64 * MIB
    assert reader.deserialize(serialize_data(np.zeros(MIB))).nbytes == 8 * MIB


def test_raw_files_within_the_limit_are_mapped(tmp_path: Path) -> None:
    dump(np.zeros(MIB), tmp_path / "a")
    assert SmartSerializer(max_size=9 * MIB).load(tmp_path / "a", mmap="r").nbytes == 8 * MIB
    assert load(tmp_path / "a", mmap="r").nbytes == 8 * MIB


@pytest.mark.parametrize("cut", range(0, 60, 3))
def test_a_damaged_pickle_is_corrupt_data(cut: int) -> None:
    stream = pickle.dumps({"a": [1, "text", 2.5], "b": (b"bytes", None)}, 5)
    for damaged in (stream[:cut], stream[:cut] + b"\xff" + stream[cut + 1 :]):
        data = pack(damaged, format_id=FORMAT_IDS[SerializationFormat.PICKLE]).tobytes()
        with contextlib.suppress(CorruptDataError):  # or a flip that makes another plain value
            deserialize_data(data, trust="all")


def test_compressed_parts_swell_to_no_more_than_they_say() -> None:
    swollen = zlib.compress(bytes(200 * MIB), 9)
    tracemalloc.start()
    try:
        with pytest.raises(CorruptDataError):
            decode(swollen, Codec.ZLIB, 10)
        assert tracemalloc.get_traced_memory()[1] < MIB
    finally:
        tracemalloc.stop()
    assert decode(zlib.compress(b"x" * 10), Codec.ZLIB, 10) == b"x" * 10
    for damaged in (b"", b"garbage", zlib.compress(b"x" * 10)[:-6]):
        with pytest.raises(CorruptDataError):
            decode(damaged, Codec.ZLIB, 10)
