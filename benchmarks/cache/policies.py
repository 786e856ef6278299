"""Hit rates of the eviction policies on six traces (those of the prototype `hitrate.py`)."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np

from benchmarks.harness import Case, Measure, Target
from ops.cache import CacheStrategy, MemoryCache

KEYS, REQUESTS = 50_000, 500_000


def cases() -> Iterator[Case]:
    """Yield a case per trace and size; the figure is the share of requests that miss."""
    for size in (500, 5000):
        for name, trace in _traces():
            rates = {s: _misses(s, size, trace) for s in ("s3fifo", "lru", "lfu", "fifo")}
            yield Case(
                f"miss rate, {name}, {size} of {KEYS} keys",
                {s: lambda s=s, rates=rates: rates[s] for s in rates},
                (Target("lru", 1.0),),
                measure=Measure.RETURNED,
                rounds=1,
            )
            if size == 500 and name == "Zipf 1.0":
                yield Case(
                    "points of hit rate that S3-FIFO lacks to LRU + 8, Zipf 1.0, 1 % of the keys",
                    {"ops": lambda rates=rates: 100 * (rates["s3fifo"] - rates["lru"] + 0.08)},
                    (Target(at_most=0.0),),
                    measure=Measure.RETURNED,
                    rounds=1,
                )


def _misses(strategy: str, size: int, trace: list[int]) -> float:
    cache: MemoryCache[int, int] = MemoryCache(size, strategy=CacheStrategy(strategy))
    misses = 0
    for key in trace:
        if cache.get(key) is None:
            misses += 1
            cache.set(key, 1)
    return misses / len(trace)


def _zipf(exponent: float, rng: np.random.Generator) -> np.ndarray:
    weights = np.cumsum(1 / np.arange(1, KEYS + 1) ** exponent)
    return np.searchsorted(weights / weights[-1], rng.random(REQUESTS))


def _traces() -> Iterator[tuple[str, list[int]]]:
    rng = np.random.default_rng(7)
    for exponent in (0.8, 1.0, 1.2):
        yield f"Zipf {exponent}", _zipf(exponent, rng).tolist()
    zipf, parts = _zipf(1.0, rng), []
    for n, start in enumerate(range(0, REQUESTS, 20_000)):  # a third are scans of one-time keys
        parts += [zipf[start : start + 20_000], np.arange(10_000) + 10**6 + n * 10_000]
    yield "Zipf 1.0 with scans", np.concatenate(parts)[:REQUESTS].tolist()
    shifts = (np.arange(REQUESTS) // 100_000) * 7919
    yield "Zipf 1.0, popularity shifting", ((_zipf(1.0, rng) + shifts) % KEYS).tolist()
    loop = np.arange(REQUESTS) % 6000 + 10**7
    mixed = np.where(rng.random(REQUESTS) < 0.5, loop, _zipf(1.0, rng))
    yield "Zipf 1.0 with a loop of 6000", mixed.tolist()
