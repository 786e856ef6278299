"""Our log beside LMDB as the engine of `DiskCache`, with diskcache and the standard library's dbm.sqlite3.

Both engines do all that `DiskCache` does: limits, tags, deadlines, trust, large values as files. `lmdb_engine`
has the prototype; docs/cache.md has what was decided.
"""

from __future__ import annotations

import contextlib
import importlib.util
import itertools
import os
import pathlib
import subprocess
import sys
import tempfile
import threading
from collections.abc import Callable, Iterator
from hashlib import blake2b
from typing import Any

import diskcache
import numpy as np

from benchmarks.cache.lmdb_engine.cache import LmdbCache
from benchmarks.harness import Case, Measure
from benchmarks.programs import together
from ops.cache import DiskCache

ROOT = pathlib.Path(__file__).parents[2]
MANY = 100_000
LIMIT = 4 << 30
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
    yield from _values()
    yield from _changes()
    yield from _many()
    yield from _full()
    yield Case(
        "set, 100 B, two processes at once",
        {name: lambda name=name: _two_writers(name) for name in OPENERS},
        measure=Measure.RETURNED,
        rounds=5,
    )


def _values() -> Iterator[Case]:
    values: dict[str, Any] = {
        "100 B": os.urandom(100),
        "10 KB": os.urandom(10_240),
        "1 MB": os.urandom(1 << 20),
        "10 MB array": np.random.default_rng(0).random(1_310_720),
    }
    for name, value in values.items():
        is_small = name in {"100 B", "10 KB"}
        number = None if is_small else 5
        with _stores(dbm=name != "10 MB array") as stores:
            for label, keys in (("set", _overwritten), ("set of new keys", _fresh)):
                if label == "set" or is_small:
                    calls = {n: _setter(s, value, keys()) for n, s in stores.items()}
                    yield Case(
                        f"{label}, {name}", calls, number=number, packages=("diskcache", "lmdb")
                    )
            for store in stores.values():
                store["k7"] = value
            yield Case(f"get, {name}", {n: _getter(s) for n, s in stores.items()}, number=number)
    with tempfile.TemporaryDirectory() as folder, LmdbCache(folder, sync=True) as synced:
        yield Case(
            "set, 100 B, LMDB flushing each to the disk",
            {"ops on LMDB": _setter(synced, values["100 B"], _overwritten())},
            number=20,
        )


def _changes() -> Iterator[Case]:
    with _stores(dbm=False) as stores:
        yield Case("incr", {n: lambda s=s: s.incr("n") for n, s in stores.items()})
        yield Case(
            "set and delete, 100 B",
            {n: lambda s=s: (s.set("d", b"x" * 100), s.delete("d")) for n, s in stores.items()},
        )
        ours = {n: s for n, s in stores.items() if n != "diskcache"}
        yield Case(
            "set with tag and deadline, 100 B",
            {n: lambda s=s: s.set("t", b"x" * 100, ttl=1000, tag="t") for n, s in ours.items()},
        )
        yield Case("get, four threads", {n: _threads(s) for n, s in stores.items()}, rounds=7)
        yield Case(
            "set_many, 1000 of 100 B",
            {
                n: lambda s=s: s.set_many({f"m{i}": b"x" * 100 for i in range(1000)})
                for n, s in ours.items()
            },
            divide=1000,
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
            )
            yield Case(
                "iterating over 100 000 keys, a key",
                {n: lambda s=s: sum(1 for _ in s) for n, s in stores.items()},
                number=1,
                rounds=5,
                divide=MANY,
            )
            yield Case(
                "len of 100 000 entries",
                {n: lambda s=s: len(s) for n, s in stores.items()},
                number=1,
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
    limit = 16 << 20
    for label, size in (("100 B", 100), ("10 KB", 10_240)):
        with _stores(limit, dbm=False) as stores:
            value = os.urandom(size)
            for store in stores.values():
                keys = _fresh()
                for _ in range(limit // size if store is not stores["diskcache"] else 1000):
                    store.set(next(keys), value)
            yield Case(
                f"set of new keys in a full cache, {label}",
                {n: _setter(s, value, _fresh()) for n, s in stores.items()},
                number=3000,
                rounds=7,
            )
            if size > 1000:
                ours = {n: s for n, s in stores.items() if n != "diskcache"}
                yield Case(
                    "disk taken, as a share of max_bytes",
                    {n: lambda s=s: _bytes_of(s.directory) / limit for n, s in ours.items()},
                    measure=Measure.RETURNED,
                    rounds=1,
                )


@contextlib.contextmanager
def _stores(limit: int = LIMIT, *, dbm: bool) -> Iterator[dict[str, Any]]:
    with tempfile.TemporaryDirectory() as folder, contextlib.ExitStack() as opened:
        stores: dict[str, Any] = {
            "ops": DiskCache(f"{folder}/ops", max_bytes=limit),
            "ops on LMDB": LmdbCache(f"{folder}/lmdb", max_bytes=limit),
            "diskcache": diskcache.Cache(f"{folder}/diskcache", size_limit=limit),
        }
        if dbm and importlib.util.find_spec("dbm.sqlite3"):  # from Python 3.13 on
            import dbm.sqlite3

            stores["dbm.sqlite3"] = dbm.sqlite3.open(f"{folder}/dbm", "c")  # noqa: SIM115
        for store in stores.values():
            opened.enter_context(contextlib.closing(store))
        yield stores


def _overwritten() -> Iterator[str]:
    return itertools.cycle([f"k{n}" for n in range(20)])


def _fresh() -> Iterator[str]:
    return (blake2b(b"%d" % n, digest_size=16).hexdigest() for n in itertools.count())


def _setter(store: Any, value: Any, keys: Iterator[str]) -> Callable[[], None]:
    put = getattr(store, "set", store.__setitem__)  # dbm has items only
    return lambda: put(next(keys), value)


def _getter(store: Any) -> Callable[[], Any]:
    return lambda: store.get("k7")


def _threads(store: Any) -> Callable[[], None]:
    store.set("k7", b"x" * 100)

    def work() -> None:
        for _ in range(2000):
            store.get("k7")

    def call() -> None:
        threads = [threading.Thread(target=work) for _ in range(4)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()

    return call


def _memory(name: str, folder: str) -> float:
    program = [sys.executable, "-c", _MEMORY, OPENERS[name], folder, str(ROOT), str(MANY)]
    return float(subprocess.run(program, capture_output=True, check=True).stdout)


def _two_writers(name: str) -> float:
    """Return the seconds per set while two processes write at once."""
    count = 2000 if name == "diskcache" else 20_000
    with tempfile.TemporaryDirectory() as folder:
        return max(together(_WRITER, 2, OPENERS[name], folder, ROOT, count)) / count


def _bytes_of(folder: Any) -> float:
    return float(
        sum(p.stat().st_blocks * 512 for p in pathlib.Path(folder).glob("*") if p.is_file())
    )
