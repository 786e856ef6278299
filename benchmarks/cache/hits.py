"""Hits in memory and on disk, beside the peers that do the same."""

from __future__ import annotations

import functools
import os
import tempfile
import threading
import time
from collections.abc import Callable, Iterator

import cachebox
import cachetools
import diskcache
import joblib
import theine

from benchmarks.harness import Case, Measure, Target
from ops.cache import MemoryCache, cache, configure, memoize


def _square(x: int) -> int:
    return x * x


def _by_threads(call: Callable[[], object], threads: int = 4, number: int = 50_000) -> float:
    """Return the seconds per call while *threads* threads make *number* calls each."""
    gate = threading.Barrier(threads + 1)

    def work() -> None:
        gate.wait()
        for _ in range(number):
            call()

    workers = [threading.Thread(target=work) for _ in range(threads)]
    for worker in workers:
        worker.start()
    gate.wait()
    start = time.perf_counter()
    for worker in workers:
        worker.join()
    return (time.perf_counter() - start) / (threads * number)


def cases() -> Iterator[Case]:
    """Yield the cases; each contender serves one key that it holds."""
    ours: MemoryCache[str, int] = MemoryCache(1000)
    box: cachebox.LRUCache[str, int] = cachebox.LRUCache(1000)
    tools: cachetools.LRUCache[str, int] = cachetools.LRUCache(1000)
    for n in range(100):
        ours[f"k{n}"] = box[f"k{n}"] = tools[f"k{n}"] = n
    lock = threading.RLock()

    def locked() -> int:
        with lock:
            return tools["k5"]

    yield Case(
        "cache[key], hit",
        {
            "ops": lambda: ours["k5"],
            "cachebox.LRUCache": lambda: box["k5"],
            "cachetools+RLock": locked,
        },
        (Target("cachebox.LRUCache", 1.4), Target("cachetools+RLock", 10)),
        packages=("cachebox", "cachetools"),
    )

    yield Case(
        "cache[key], hit, 4 threads",
        {
            "ops": lambda: _by_threads(lambda: ours["k5"]),
            "cachebox.LRUCache": lambda: _by_threads(lambda: box["k5"]),
            "cachetools+RLock": lambda: _by_threads(locked),
        },
        (Target("cachebox.LRUCache", 1.4), Target("cachetools+RLock", 10)),
        measure=Measure.RETURNED,
        rounds=7,
    )
    reader: theine.Cache[str, int] = theine.Cache(1000)
    reader.set("k5", 5)
    yield Case(
        "cache.get(key), hit",
        {"ops": lambda: ours.get("k5"), "theine": lambda: reader.get("k5")},
        packages=("theine",),
    )

    timed: MemoryCache[str, int] = MemoryCache(1000, default_ttl=3600)
    tools_ttl: cachetools.TTLCache[str, int] = cachetools.TTLCache(1000, 3600)
    timed["k"] = tools_ttl["k"] = 1
    yield Case(
        "get with TTL, hit",
        {"ops": lambda: timed.get("k"), "cachetools.TTLCache": lambda: tools_ttl.get("k")},
        (Target("cachetools.TTLCache", 12),),
    )

    memo = memoize(_square)
    memo_box = cachebox.cached(cachebox.LRUCache(1000))(_square)
    memo_tools = cachetools.cached(cachetools.LRUCache(1000), lock=threading.RLock())(_square)
    memo_std = functools.lru_cache(1000)(_square)
    yield Case(
        "memoize, hit",
        {
            "ops": lambda: memo(3),
            "cachebox.cached": lambda: memo_box(3),
            "cachetools+lock": lambda: memo_tools(3),
            "functools.lru_cache": lambda: memo_std(3),
        },
        (
            Target("cachebox.cached", 5),
            Target("cachetools+lock", 9),
            Target("functools.lru_cache", 0.9),
        ),
    )

    with tempfile.TemporaryDirectory() as folder:
        configure(data_folder=folder)
        disk = cache(_square)
        store = diskcache.Cache(folder + "/dc")
        disk_dc = store.memoize()(_square)
        disk_joblib = joblib.Memory(folder + "/jl", verbose=0).cache(_square)
        disk(3)
        # That no other process has replaced or removed the result is seen by this call, on each hit.
        metadata = str(disk.path_of(3).with_suffix(".yaml"))
        yield Case(
            "@cache, hit",
            {
                "ops": lambda: disk(3),
                "diskcache.memoize": lambda: disk_dc(3),
                "joblib.Memory": lambda: disk_joblib(3),
                "the bare os.stat of a hit": lambda: os.stat(metadata),
            },
            (Target("diskcache.memoize", 15), Target("joblib.Memory", 60)),
            packages=("diskcache", "joblib"),
        )
        store.close()
        configure(data_folder=None)
