"""What a hostile folder may cost: opening it ends, soon and in little memory, whatever its files claim."""

from __future__ import annotations

import itertools
import os
import random
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ops.cache import DiskCache
from ops.cache.disk import records
from ops.cache.disk.index import Index
from ops.cache.disk.prefixes import SortedKeys
from ops.cache.disk.records import BODY, FRONT, MAGIC, Flag, pack, scan
from ops.cache.disk.segments import LARGEST

MIB = 1 << 20
TERABYTE = 1 << 40
# Seconds of work and bytes that opening and reading may take: a multiple of what it does take.
OPENING = """
import resource, sys
import ops.cache.disk.store, ops.serialize.tree_reader
from ops.cache import DiskCache
from ops.foundation.errors import OpsError
used = int(next(line for line in open("/proc/self/status") if line.startswith("VmSize")).split()[1]) << 10
resource.setrlimit(resource.RLIMIT_AS, (used + int(sys.argv[2]), used + int(sys.argv[2])))
resource.setrlimit(resource.RLIMIT_CPU, (15, 15))
try:
    with DiskCache(sys.argv[1]) as cache:
        cache.set("new", 1)
        assert cache["new"] == 1
        print(cache.get("old", "missing"), len(cache))
    with DiskCache(sys.argv[1]) as cache:
        assert cache["new"] == 1
except OpsError as error:
    print("refused", type(error).__name__)
"""


@pytest.fixture
def opened(tmp_path: Path) -> Callable[..., str]:
    """Open the folder in a process with limits; return what it wrote."""

    def run(memory: int = 256 * MIB) -> str:
        if not Path("/proc/self/status").exists():
            pytest.skip("needs the size of the process")
        done = subprocess.run(
            [sys.executable, "-c", OPENING, str(tmp_path), str(memory)],
            capture_output=True,
            text=True,
            check=False,
        )
        assert done.returncode == 0, done.stderr
        return done.stdout.strip()

    return run


def sealed(folder: Path) -> None:
    """Fill a segment with a few entries, and seal it."""
    with DiskCache(folder) as cache:
        cache.set("old", 1)
        cache._log.seal()
        cache.set("older", 2)


@pytest.mark.parametrize("name", ["00000001.hint", "00000001.seg", "00000002.seg", "00000009.seg"])
@pytest.mark.parametrize("size", [TERABYTE, LARGEST + 1, 200 * MIB])
def test_a_file_that_is_mostly_a_hole_takes_no_memory(
    tmp_path: Path, opened: Callable[..., str], name: str, size: int
) -> None:
    sealed(tmp_path)
    (tmp_path / name).touch()
    os.truncate(tmp_path / name, size)
    found = opened(memory=700 * MIB)
    if name.endswith("hint"):
        assert found == "1 3"
    assert found


def test_a_segment_that_can_only_be_read_and_is_too_large_does_not_count(tmp_path: Path) -> None:
    sealed(tmp_path)
    os.truncate(tmp_path / "00000002.seg", TERABYTE)
    with DiskCache(tmp_path) as cache:
        cache._log.segments.read_only = True
        cache._log._load()
        assert cache["old"] == 1
        assert cache.get("older") is None


def test_fronts_of_records_that_claim_all_that_follows_are_not_all_looked_at(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    size = 4 * MIB
    fakes = bytearray(size)
    for at in range(0, size - 64, 64):
        fakes[at : at + 8] = FRONT.pack(MAGIC, 1)
        fakes[at + 8 : at + 32] = BODY.pack(0, 0, 1, size - at - 64, 0.0)
    summed: list[int] = []
    real = records._checksum
    monkeypatch.setattr(
        records, "_checksum", lambda b, s, e, seed: summed.append(e - s) or real(b, s, e, seed)
    )
    assert list(scan(bytes(fakes), 7)) == []
    assert sum(summed) <= 32 * MIB + 3 * size


def test_a_whole_record_behind_many_torn_ones_is_found() -> None:
    seed, torn = 7, pack(8, 0, b"sk", b"x" * 2000, 0.0, b"")[:1000]
    data = torn * 2000 + pack(seed, 0, b"sk", b"y", 0.0, b"")
    assert [record.value for record in scan(data, seed)] == [b"y"]


@pytest.mark.parametrize("kind", ["in the segment", "in hints"])
def test_a_folder_that_clears_very_often_opens_soon(
    tmp_path: Path, opened: Callable[..., str], kind: str
) -> None:
    with DiskCache(tmp_path, max_bytes=1 << 30) as cache:
        cache.set("old", 1)
        seed = cache._log.segments.seed(1)
        sets = [pack(seed, 1, b"s%d" % n, b"", 0.0, b"") for n in range(100_000)]
        clears = [pack(seed, Flag.CLEAR, b"n5:%05d" % n, b"", 0.0, b"") for n in range(20_000)]
        mixed = [*itertools.chain.from_iterable(zip(sets, clears, strict=False)), *sets[20_000:]]
        with (tmp_path / "00000001.seg").open("ab") as file:
            file.write(b"".join(sets + clears if kind == "in hints" else mixed + clears))
            if kind == "in hints":
                file.write(pack(seed, Flag.SEAL, b"", b"", 0.0, b""))
    assert opened() == "1 100002"


keys = st.binary(max_size=3)


@given(st.lists(st.one_of(keys.map(lambda k: ("add", k)), keys.map(lambda k: ("take", k)))))
def test_sorted_keys_give_what_starts_with_a_prefix(steps: list[tuple[str, bytes]]) -> None:
    found, kept = (
        SortedKeys([b"a", b"ab", b"\xff", b"\xff\xff"]),
        {b"a", b"ab", b"\xff", b"\xff\xff"},
    )
    for what, key in steps:
        if what == "add":
            found.append(key)
            kept.add(key)
        else:
            expected = {k for k in kept if k.startswith(key)}
            assert {*found.take(key)} == expected
            kept -= expected


def test_an_index_finds_below_a_prefix_what_it_holds_after_any_changes() -> None:
    rng, index, model = random.Random(0), Index(), set[bytes]()
    for _ in range(20_000):
        key = b"%c%c" % (rng.randrange(97, 105), rng.randrange(97, 123))
        how = rng.randrange(10)
        if how < 5:
            index.set(key, 1 << 48, b"", None)
            model.add(key)
        elif how < 8:
            index.discard(key)
            model.discard(key)
        elif how == 8:
            index.update([(key, 1 << 48)])
            model.add(key)
        else:
            found = index.below(key[:1])
            assert sorted(found) == sorted(k for k in model if k.startswith(key[:1]))
            index.discard_all(found)
            model -= {*found}
    assert {*index.positions} == model
