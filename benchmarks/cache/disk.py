"""The cache on disk beside diskcache and LMDB, and its costs at a million entries."""

from __future__ import annotations

import os
import pickle
import tempfile
from collections.abc import Iterator
from typing import Any

import diskcache
import lmdb
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
            database = lmdb.open(f"{folder}/lmdb", map_size=4 << 30, sync=False)
            yield Case(
                f"set, {name}",
                {
                    "ops": _setter(ours, value),
                    "diskcache": _setter(peer, value),
                    "lmdb, no sync": _lmdb_setter(database, value),
                },
                (Target("diskcache", set_target),),
                number=5 if name.startswith("10 MB") else None,
                packages=("diskcache", "lmdb"),
            )
            ours["k7"] = peer["k7"] = value
            yield Case(
                f"get, {name}",
                {
                    "ops": lambda ours=ours: ours.get("k7"),
                    "diskcache": lambda peer=peer: peer.get("k7"),
                    "lmdb, unpickled": _lmdb_getter(database),
                },
                (Target("diskcache", get_target),),
            )
            ours.close()
            peer.close()
            database.close()
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


def _lmdb_setter(database: Any, value: Any) -> Any:
    names = [b"k%d" % n for n in range(20)]
    state = [0]

    def call() -> None:
        state[0] += 1
        with database.begin(write=True) as transaction:
            transaction.put(names[state[0] % 20], pickle.dumps(value, 5))

    call()
    for _ in range(20):
        call()
    return call


def _lmdb_getter(database: Any) -> Any:
    def call() -> Any:
        with database.begin(buffers=True) as transaction:
            return pickle.loads(transaction.get(b"k7"))

    return call


def _two_writers(kind: str) -> float:
    """Return the seconds per set while two processes write at once."""
    count = 20_000 if kind == "ops" else 2000
    with tempfile.TemporaryDirectory() as folder:
        return max(together(_WRITER, 2, kind, folder, count)) / count
