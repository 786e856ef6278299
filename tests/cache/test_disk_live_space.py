"""DiskCache: space is what lives. What was replaced, deleted or has expired gives its disk back."""

from __future__ import annotations

import os
import random
import signal
import subprocess
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from ops.cache import DiskCache
from ops.cache.__main__ import main

FULL = os.environ.get("OPS_FAULTS") == "full"
Child = Callable[..., "subprocess.Popen[str]"]
MIB = 1 << 20


class Clock:
    now = 1_000_000.0

    def __call__(self) -> float:
        return self.now


def folder_bytes(folder: Path) -> int:
    return sum(p.stat().st_size for p in folder.rglob("*") if p.is_file())


def delete_all_of(name: str, cache: DiskCache, clock: Clock) -> None:
    if name == "expire":
        clock.now += 60
        assert cache.expire() == 4000
    elif name == "delete_many":
        assert cache.delete_many(list(range(4000))) == 4000
    elif name == "delete each":
        for n in range(4000):
            del cache[n]
    elif name == "delete_tag":
        assert cache.delete_tag("mine") == 4000
    else:
        cache.clear()


@pytest.mark.parametrize("large", [False, True])
@pytest.mark.parametrize(
    "way", ["clear", "expire", "delete_many", "delete_tag", "delete each", "namespace clear"]
)
@pytest.mark.parametrize("max_bytes", [16 * MIB, 1 << 30])
def test_what_is_removed_gives_its_disk_back_at_once(
    tmp_path: Path, way: str, max_bytes: int, *, large: bool
) -> None:
    clock = Clock()
    with DiskCache(tmp_path, max_bytes=max_bytes, clock=clock) as whole:
        whole["kept"] = "x" * 1000
        cache = whole.namespace("part") if way == "namespace clear" else whole
        for n in range(4000):
            cache.set(n, os.urandom(1000), ttl=30, tag="mine")
        if large:
            cache.set(0, np.ones(100_000), ttl=30, tag="mine")
        before = folder_bytes(tmp_path)
        delete_all_of(way, cache, clock)
        limit = before // 3 if way == "delete each" else 10_000
        assert folder_bytes(tmp_path) < limit + (1000 if way != "clear" else 0)
        assert (whole.get("kept") is None) is (way == "clear")
        cache["again"] = 1
    with DiskCache(tmp_path, max_bytes=max_bytes, clock=clock) as late:
        assert (late.get("kept") is None) is (way == "clear")
        assert late.check().is_sound


def test_prune_of_the_command_line_gives_the_disk_back(tmp_path: Path) -> None:
    with DiskCache(tmp_path, clock=lambda: 1000.0) as cache:
        for n in range(1000):
            cache.set(n, os.urandom(1000), ttl=30)
    assert main(["prune", str(tmp_path)]) == 0
    assert folder_bytes(tmp_path) < 10_000


def waste(name: str, cache: DiskCache, clock: Clock, n: int) -> None:
    """Write 1 KB that is dead at the next call."""
    if name == "replaced":
        cache["k"] = "x" * 1000
    elif name == "deleted":
        cache[n] = "x" * 1000
        del cache[n]
    elif name == "expired":
        cache.set(n, "x" * 1000, ttl=1)
        clock.now += 2
    elif name == "touched":
        if "k" not in cache:
            cache["k"] = "x" * 1000
        cache.touch("k", ttl=1000)
    elif name == "cleared":
        cache.namespace("part")[n] = "x" * 1000
        cache.namespace("part").clear()
    elif n % 20 == 0:  # a large value, a file of its own, which is replaced
        cache["k"] = np.full(50_000, n)


@pytest.mark.parametrize(
    "name", ["replaced", "deleted", "expired", "touched", "cleared", "large replaced"]
)
def test_what_is_dead_costs_no_other_entry_its_place(tmp_path: Path, name: str) -> None:
    clock = Clock()
    with DiskCache(tmp_path, max_bytes=MIB, clock=clock) as cache:
        for n in range(400):
            cache.set(f"kept {n}", "y" * 1000)  # a good third of the cache
        for n in range(2000):
            waste(name, cache, clock, n)
            if n % 100 == 0:
                assert folder_bytes(tmp_path) < MIB * 1.1
        assert [n for n in range(400) if cache.peek(f"kept {n}") != "y" * 1000] == []
        assert cache.get_stats().evicted == 0
    with DiskCache(tmp_path, max_bytes=MIB, clock=clock) as late:
        assert [n for n in range(400) if late.peek(f"kept {n}") != "y" * 1000] == []


@pytest.mark.parametrize("shape", ["small", "long keys", "tags", "mixed", "large"])
def test_the_folder_is_never_more_than_a_tenth_too_large(tmp_path: Path, shape: str) -> None:
    rng = random.Random(7)
    largest = 0
    with DiskCache(tmp_path, max_bytes=2 * MIB) as cache:
        for n in range({"large": 200, "mixed": 1500}.get(shape, 8000)):
            size = {"small": 10, "long keys": 10, "tags": 30, "large": 300_000}.get(shape)
            value = rng.randbytes(rng.choice([20, 500, 30_000]) if size is None else size)
            key = f"{n}:" + "é" * 150 if shape == "long keys" else n
            cache.set(key, value, tag=f"tag-ü-{n % 7}" if shape == "tags" else None)
            if n % 100 == 0 or (shape in {"mixed", "large"} and n % 3 == 0):
                largest = max(largest, folder_bytes(tmp_path))
        assert cache.get_stats().disk_bytes == folder_bytes(tmp_path)
        assert len(cache) > 3
    assert largest < 2.2 * MIB


def test_an_object_whose_log_another_one_rewrites_misses_nothing(tmp_path: Path) -> None:
    with (
        DiskCache(tmp_path, max_bytes=MIB) as reader,
        DiskCache(tmp_path, max_bytes=MIB) as writer,
    ):
        for n in range(300):
            writer[f"kept {n}"] = [n] * 100
        for n in range(3000):
            writer["k"] = "x" * 1000
            if n % 7 == 0:
                assert reader[f"kept {n % 300}"] == [n % 300] * 100
        assert writer._log.segments.numbers()[0] > 10
        assert (reader._log.misses, reader.get_stats().evicted) == (0, 0)


def test_an_entry_changed_while_it_is_moved_keeps_its_new_value(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with (
        DiskCache(tmp_path, max_bytes=MIB) as mover,
        DiskCache(tmp_path, max_bytes=MIB) as other,
    ):
        for n in range(200):
            mover[n] = f"old {n}"
        mover["dead"] = "x" * 20_000
        del mover["dead"]
        segments = mover._log.segments
        real = segments.write
        writes: list[int] = []

        def write(data: bytes) -> int:
            if len(data) > 5000 and not writes:  # the moved entries
                writes.append(len(data))
                other[7] = "new"
                del other[8]
            return real(data)

        monkeypatch.setattr(segments, "write", write)
        mover.expire()
        assert writes
        assert len(segments.numbers()) == 1
        for cache in (mover, other):
            assert cache[7] == "new"
            assert 8 not in cache
            assert cache[9] == "old 9"
            assert len(cache) == 199


# Writes to a small cache whose log is rewritten all the time; prints each number after its set.
WRITER = """
import sys
from ops.cache import DiskCache
folder, worker = sys.argv[1], int(sys.argv[2])
cache = DiskCache(folder, max_bytes=1 << 20)
n = 0
while True:
    cache.set((worker, n % 50), (worker, n, "x" * (n % 2000)))
    if n % 300 == 0:
        cache.namespace("part").set(n, "y" * 5000)
        cache.namespace("part").clear()
    print(n, flush=True)
    n += 1
"""


@pytest.mark.fault
def test_writers_killed_while_they_rewrite_lose_nothing_that_lives(
    tmp_path: Path, child: Child, fault_record: dict[str, Any]
) -> None:
    kept = dict.fromkeys(range(200), "z" * 1000)
    with DiskCache(tmp_path, max_bytes=MIB) as cache:
        cache.set_many(kept)
    segments: list[int] = []
    kills = 200 if FULL else 8
    for _ in range(kills):
        writers = [child(WRITER, tmp_path, worker) for worker in range(2)]
        lines = []
        for writer in writers:
            assert writer.stdout
            lines.append([writer.stdout.readline() for _ in range(200)])
        time.sleep(random.random() * 0.05)
        last = []
        for writer, begun in zip(writers, lines, strict=True):
            assert writer.stdout
            writer.send_signal(signal.SIGKILL)
            # Not communicate(), which leaves out what was read ahead.
            last.append(int([*begun, *writer.stdout][-1]))
            writer.wait()
        with DiskCache(tmp_path, max_bytes=MIB) as cache:
            assert {n: cache.get(n) for n in kept} == kept
            for worker, n in enumerate(last):
                value = cache[(worker, n % 50)]
                assert value[1] in {n, n + 50}
                assert value[2] == "x" * (value[1] % 2000)
            assert cache.check().damaged_entries == 0
            segments.append(cache._log.number)
        assert folder_bytes(tmp_path) < MIB * 1.2
    assert segments[-1] > 10
    fault_record["SIGKILLs of writers that rewrite"] = 2 * kills
    fault_record["segments rewritten or dropped"] = segments[-1]
    fault_record["living entries lost"] = 0
