"""The cache on disk beside diskcache and the bare calls of the system, and its costs at a million entries.

The bare calls are what `strace -c` counts for one operation of ours, with the same bytes and without any Python
around them: what is left when nothing is checked, locked, indexed or encoded. `engines` has LMDB.
"""

from __future__ import annotations

import itertools
import mmap
import os
import tempfile
from collections.abc import Callable, Iterator
from typing import Any

import diskcache
import numpy as np

from benchmarks.harness import Case, Measure, Target
from benchmarks.programs import together
from ops.cache import DiskCache

_WRITER = """
import sys, time
worker, kind, folder, count = *sys.argv[1:4], int(sys.argv[4])
if kind == "ops":
    from ops.cache import DiskCache as Cache
else:
    from diskcache import Cache
store = Cache(folder)
value = b"x" * 100
print("ready", flush=True)
sys.stdin.readline()
start = time.perf_counter()
for n in range(count):
    store.set(f"{worker}-{n}", value)
print(time.perf_counter() - start)
"""


def cases() -> Iterator[Case]:
    """Yield the cases. Each store has a fresh folder on the same disk."""
    values: dict[str, tuple[Any, float, float]] = {
        "100 B": (os.urandom(100), 25, 8),
        "10 KB": (os.urandom(10_240), 8, 3.5),
        "10 MB array": (np.random.default_rng(0).random(1_310_720), 10, 40),
    }
    for name, (value, set_target, get_target) in values.items():
        with tempfile.TemporaryDirectory() as folder:
            ours = DiskCache(f"{folder}/ops", max_bytes=4 << 30)
            peer = diskcache.Cache(f"{folder}/diskcache", size_limit=4 << 30)
            yield Case(
                f"set, {name}",
                {
                    "ops": _setter(ours, value),
                    "diskcache": _setter(peer, value),
                    "bare calls": _bare_set(folder, value),
                },
                (Target("diskcache", set_target),),
                number=5 if name.startswith("10 MB") else None,
                packages=("diskcache",),
            )
            ours["k7"] = peer["k7"] = value
            yield Case(
                f"get, {name}",
                {
                    "ops": lambda ours=ours: ours.get("k7"),
                    "diskcache": lambda peer=peer: peer.get("k7"),
                    "bare calls": _bare_get(folder, value),
                },
                (Target("diskcache", get_target),),
            )
            ours.close()
            peer.close()
    yield Case(
        "set, 100 B, two processes at once",
        {"ops": lambda: _two_writers("ops"), "diskcache": lambda: _two_writers("diskcache")},
        (Target("diskcache", 10),),
        measure=Measure.RETURNED,
        rounds=5,
    )
    with tempfile.TemporaryDirectory() as folder:
        count = 1_000_000
        with DiskCache(folder, max_bytes=4 << 30) as store:
            for start in range(0, count, 10_000):
                store.set_many({f"key-{n}": b"v" * 100 for n in range(start, start + 10_000)})
            store._log.seal()  # a full segment has a hint; the last one is scanned
        yield Case(
            "opening a cache of a million entries",
            {"ops": lambda: DiskCache(folder, max_bytes=4 << 30).close()},
            (Target(at_most=0.5),),
            number=1,
            rounds=7,
        )
        with DiskCache(folder, max_bytes=4 << 30) as large, DiskCache(f"{folder}/s") as small:
            small.set_many({f"key-{n}": b"v" * 100 for n in range(100)})
            yield Case(
                "get from a million entries, beside a hundred",
                {"ops": lambda: large.get("key-7"), "of 100": lambda: small.get("key-7")},
                (Target("of 100", 0.67),),
            )


def _setter(store: Any, value: Any) -> Any:
    names = [f"k{n}" for n in range(20)]
    state = [0]

    def call() -> None:
        state[0] += 1
        store.set(names[state[0] % 20], value)

    return call


def _bare_set(folder: str, value: Any) -> Callable[[], object]:
    """Return the calls of one set: an append and where it came to lie, or a new file instead of another one."""
    if isinstance(value, bytes):
        log = os.open(f"{folder}/bare", os.O_WRONLY | os.O_CREAT | os.O_APPEND)
        record = b"h" * 35 + value
        write, seek = os.write, os.lseek
        return lambda: (write(log, record), seek(log, 0, os.SEEK_CUR))
    data, numbers = memoryview(value).cast("B"), itertools.count()
    names = [f"{folder}/bare{n}" for n in range(20)]

    def call() -> None:
        path, fresh = names[next(numbers) % 20], f"{folder}/fresh"
        file = os.open(fresh, os.O_WRONLY | os.O_CREAT | os.O_EXCL)
        os.writev(file, [data])
        os.close(file)
        os.rename(fresh, path)

    return call


def _bare_get(folder: str, value: Any) -> Callable[[], object]:
    """Return the calls of one get: the end of the log and a slice of its map, or a new map of a file."""
    path = f"{folder}/bare to read"
    with open(path, "wb") as file:
        file.write(b"h" * 35 + value if isinstance(value, bytes) else value)
    if isinstance(value, bytes):
        log = os.open(path, os.O_RDONLY)
        mapped = mmap.mmap(log, 0, access=mmap.ACCESS_READ)
        seek, end = os.lseek, 35 + len(value)
        return lambda: (seek(log, 0, os.SEEK_END), mapped[35:end])

    def call() -> object:
        file = os.open(path, os.O_RDONLY)
        os.fstat(file)
        mapped = mmap.mmap(file, 0, access=mmap.ACCESS_COPY)
        os.close(file)
        return np.frombuffer(mapped)

    return call


def _two_writers(kind: str) -> float:
    """Return the seconds per set while two processes write at once."""
    count = 20_000 if kind == "ops" else 2000
    with tempfile.TemporaryDirectory() as folder:
        return max(together(_WRITER, 2, kind, folder, count)) / count
