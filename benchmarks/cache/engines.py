"""Our log beside LMDB as the engine of `DiskCache`, with diskcache and the standard library's dbm.sqlite3.

Both engines do all that `DiskCache` does: limits, tags, deadlines, trust, large values as files. `lmdb_engine`
has the prototype, `engines_at_scale` the rows about many entries and processes; docs/cache.md has what was
decided. Nothing waits for the disk here, so the time of the processor is what counts: other work on the machine
does not add to it.
"""

from __future__ import annotations

import contextlib
import importlib
import importlib.util
import itertools
import os
import tempfile
import threading
from collections.abc import Callable, Iterator
from hashlib import blake2b
from typing import Any

import diskcache
import numpy as np

from benchmarks.cache.lmdb_engine.cache import LmdbCache
from benchmarks.harness import Case, Measure
from ops.cache import DiskCache

_LIMIT = 4 << 30
_SHORT: dict[str, Any] = {"number": 100, "rounds": 41, "measure": Measure.CPU}


def cases() -> Iterator[Case]:
    """Yield the cases. Each store has a fresh folder on the same disk."""
    yield from _values()
    yield from _changes()


def _values() -> Iterator[Case]:
    values: dict[str, Any] = {
        "100 B": os.urandom(100),
        "10 KB": os.urandom(10_240),
        "1 MB": os.urandom(1 << 20),
        "10 MB array": np.random.default_rng(0).random(1_310_720),
    }
    for name, value in values.items():
        is_small = name in {"100 B", "10 KB"}
        how = _SHORT if is_small else {"number": 3, "rounds": 21, "measure": Measure.CPU}
        with stores_of(dbm=name != "10 MB array") as stores:
            for label, keys in (("set", _overwritten), ("set of new keys", fresh_keys)):
                if label == "set" or is_small:
                    calls = {n: setter(s, value, keys()) for n, s in stores.items()}
                    yield Case(
                        f"{label}, {name}",
                        calls,
                        packages=("diskcache", "lmdb"),
                        **how,
                    )
            for store in stores.values():
                store["k7"] = value
            yield Case(
                f"get, {name}",
                {n: _getter(s) for n, s in stores.items()},
                **how,
            )
    with tempfile.TemporaryDirectory() as folder, LmdbCache(folder, sync=True) as synced:
        yield Case(
            "set, 100 B, LMDB flushing each to the disk",
            {"ops on LMDB": setter(synced, values["100 B"], _overwritten())},
            number=20,
        )


def _changes() -> Iterator[Case]:
    with stores_of(dbm=False) as stores:
        yield Case("incr", {n: lambda s=s: s.incr("n") for n, s in stores.items()}, **_SHORT)
        yield Case(
            "set and delete, 100 B",
            {n: lambda s=s: (s.set("d", b"x" * 100), s.delete("d")) for n, s in stores.items()},
            **_SHORT,
        )
        ours = {n: s for n, s in stores.items() if n != "diskcache"}
        yield Case(
            "set with tag and deadline, 100 B",
            {n: lambda s=s: s.set("t", b"x" * 100, ttl=1000, tag="t") for n, s in ours.items()},
            **_SHORT,
        )
        yield Case(
            "get, four threads", {n: _threads(s) for n, s in stores.items()}, number=1, rounds=15
        )
        yield Case(
            "set_many, 1000 of 100 B",
            {
                n: lambda s=s: s.set_many({f"m{i}": b"x" * 100 for i in range(1000)})
                for n, s in ours.items()
            },
            number=1,
            rounds=41,
            measure=Measure.CPU,
            divide=1000,
        )


@contextlib.contextmanager
def stores_of(limit: int = _LIMIT, *, dbm: bool) -> Iterator[dict[str, Any]]:
    with tempfile.TemporaryDirectory() as folder, contextlib.ExitStack() as opened:
        stores: dict[str, Any] = {
            "ops": DiskCache(f"{folder}/ops", max_bytes=limit),
            "ops on LMDB": LmdbCache(f"{folder}/lmdb", max_bytes=limit),
            "diskcache": diskcache.Cache(f"{folder}/diskcache", size_limit=limit),
        }
        if dbm and importlib.util.find_spec("dbm.sqlite3"):  # from Python 3.13 on
            opener = importlib.import_module("dbm.sqlite3").open
            stores["dbm.sqlite3"] = opener(f"{folder}/dbm", "c")
        for store in stores.values():
            opened.enter_context(contextlib.closing(store))
        yield stores


def _overwritten() -> Iterator[str]:
    return itertools.cycle([f"k{n}" for n in range(20)])


def fresh_keys() -> Iterator[str]:
    return (blake2b(b"%d" % n, digest_size=16).hexdigest() for n in itertools.count())


def setter(store: Any, value: Any, keys: Iterator[str]) -> Callable[[], None]:
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
