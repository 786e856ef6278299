"""Our log beside LMDB as the engine of `DiskCache`, with many entries, at the limit, and in two processes; see `engines`."""

from __future__ import annotations

import contextlib
import itertools
import os
import pathlib
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from typing import Any

import diskcache

from benchmarks.cache.engines import fresh_keys, setter, stores_of
from benchmarks.cache.lmdb_engine.cache import LmdbCache
from benchmarks.harness import Case, Measure
from benchmarks.programs import together
from ops.cache import DiskCache

ROOT = pathlib.Path(__file__).parents[2]
MANY = 100_000
OPENERS = {
    "ops": "from ops.cache import DiskCache as Store",
    "ops on LMDB": "from benchmarks.cache.lmdb_engine.cache import LmdbCache as Store",
    "diskcache": "from diskcache import Cache as Store",
}
_WRITER = """
import sys, time
sys.path.insert(0, sys.argv[4])
exec(sys.argv[2])
worker, folder, count = sys.argv[1], sys.argv[3], int(sys.argv[5])
store = Store(folder)
value = b"x" * 100
print("ready", flush=True)
sys.stdin.readline()
start = time.perf_counter()
for n in range(count):
    store.set(f"{worker}-{n}", value)
print(time.perf_counter() - start)
"""
# Prints the bytes of its own memory that opening and reading every entry took, not what is a map of files.
_MEMORY = """
import gc, sys
sys.path.insert(0, sys.argv[3])
exec(sys.argv[1])
def own():
    gc.collect()
    lines = open("/proc/self/smaps_rollup").read().splitlines()
    return int(next(line for line in lines if line.startswith("Anonymous")).split()[1]) << 10
warm = Store(sys.argv[2] + "/warm")
warm.set("k", b"v")
warm.get("k")
before = own()
store = Store(sys.argv[2])
for n in range(int(sys.argv[4])):
    store.get(f"key-{n}")
print(own() - before)
"""


def cases() -> Iterator[Case]:
    """Yield the cases. Each store has a fresh folder on the same disk."""
    yield from _many()
    yield from _full()
    yield Case(
        "set, 100 B, two processes at once",
        {name: lambda name=name: _two_writers(name) for name in OPENERS},
        measure=Measure.RETURNED,
        rounds=5,
    )


def _many() -> Iterator[Case]:
    with tempfile.TemporaryDirectory() as folder:
        folders = {name: f"{folder}/{n}" for n, name in enumerate(OPENERS)}
        openers = {"ops": DiskCache, "ops on LMDB": LmdbCache, "diskcache": diskcache.Cache}
        for name, at in folders.items():
            with contextlib.closing(openers[name](at)) as store:
                for n in range(MANY):
                    store.set(f"key-{n}", b"v" * 100)
        yield Case(
            "disk taken by 100 000 entries of 100 B, bytes an entry",
            {n: lambda at=at: _bytes_of(at) for n, at in folders.items()},
            measure=Measure.RETURNED,
            rounds=1,
            divide=MANY,
        )
        yield Case(
            "opening a folder of 100 000 entries",
            {n: lambda n=n, at=at: openers[n](at).close() for n, at in folders.items()},
            number=1,
            rounds=7,
            measure=Measure.CPU,
        )
        with contextlib.ExitStack() as opened:
            stores = {
                n: opened.enter_context(contextlib.closing(openers[n](at)))
                for n, at in folders.items()
            }
            keys = itertools.cycle(f"key-{n * 7919 % MANY}" for n in range(MANY))
            yield Case(
                "get of any of 100 000, 100 B",
                {n: lambda s=s: s.get(next(keys)) for n, s in stores.items()},
                number=100,
                rounds=41,
                measure=Measure.CPU,
            )
            yield Case(
                "iterating over 100 000 keys, a key",
                {n: lambda s=s: sum(1 for _ in s) for n, s in stores.items()},
                number=1,
                rounds=5,
                measure=Measure.CPU,
                divide=MANY,
            )
            yield Case(
                "len of 100 000 entries",
                {n: lambda s=s: len(s) for n, s in stores.items()},
                number=1,
                measure=Measure.CPU,
            )
        yield Case(
            "own memory of a process that read 100 000 entries, bytes an entry",
            {n: lambda n=n, at=at: _memory(n, at) for n, at in folders.items()},
            measure=Measure.RETURNED,
            rounds=3,
            divide=MANY,
        )
        left: dict[str, Any] = {}
        for name, at in folders.items():
            with contextlib.closing(openers[name](at)) as store:
                store.clear()
            left[name] = lambda at=at: _bytes_of(at)
        yield Case("disk left after clear(), bytes", left, measure=Measure.RETURNED, rounds=1)


def _full() -> Iterator[Case]:
    limit = 4 << 20
    for label, size in (("100 B", 100), ("10 KB", 10_240)):
        with stores_of(limit, dbm=False) as stores:
            value = os.urandom(size)
            for store in stores.values():
                keys = fresh_keys()
                for _ in range(limit // size if store is not stores["diskcache"] else 1000):
                    store.set(next(keys), value)
            yield Case(
                f"set of new keys in a full cache, {label}",
                {n: setter(s, value, fresh_keys()) for n, s in stores.items()},
                number=500,
                rounds=21,
                measure=Measure.CPU,
            )
            if size > 1000:
                ours = {n: s for n, s in stores.items() if n != "diskcache"}
                yield Case(
                    "disk taken, as a share of max_bytes",
                    {n: lambda s=s: _bytes_of(s.directory) / limit for n, s in ours.items()},
                    measure=Measure.RETURNED,
                    rounds=1,
                )


def _memory(name: str, folder: str) -> float:
    program = [sys.executable, "-c", _MEMORY, OPENERS[name], folder, str(ROOT), str(MANY)]
    return float(subprocess.run(program, capture_output=True, check=True).stdout)


def _two_writers(name: str) -> float:
    """Return the seconds per set while two processes write at once."""
    count = 1000 if name == "diskcache" else 10_000
    with tempfile.TemporaryDirectory() as folder:
        return max(together(_WRITER, 2, OPENERS[name], folder, ROOT, count)) / count


def _bytes_of(folder: Any) -> float:
    return float(
        sum(p.stat().st_blocks * 512 for p in pathlib.Path(folder).glob("*") if p.is_file())
    )
