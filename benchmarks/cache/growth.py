"""How the costs of the cache on disk grow with its entries, of 100 bytes each."""

from __future__ import annotations

import itertools
import tempfile
import tracemalloc
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from benchmarks.harness import Case, Growth, Measure, decades
from ops.cache import DiskCache

SIZES = {"entries": decades(1_000, 1_000_000)}
LIMIT = 4 << 30  # bytes, which no size fills
VALUE = b"v" * 100


def cases(sizes: Mapping[str, Sequence[int]] = SIZES) -> Iterator[Case]:
    """Yield a case for each size of each operation."""
    for size in sizes["entries"]:
        with tempfile.TemporaryDirectory() as folder:
            _fill(folder, size)
            yield from _by_entries(folder, size)


def _by_entries(folder: str, size: int) -> Iterator[Case]:
    curve: dict[str, Any] = {"size": size, "unit": "entries", "growth": Growth.FLAT}
    yield Case(
        "open a cache",
        {"ops-cache": lambda: DiskCache(folder, max_bytes=LIMIT).close()},
        number=1,
        rounds=7,
        **curve | {"growth": Growth.LINEAR},
    )
    yield Case(
        "memory of an open cache per entry",
        {"ops-cache": lambda: _memory(folder) / size},
        measure=Measure.RETURNED,
        rounds=1,
        **curve,
        figure_unit="bytes",
    )
    with DiskCache(folder, max_bytes=LIMIT) as store:
        names = [f"key-{number * 7919 % size}" for number in range(1_000)]
        read, written = itertools.cycle(names), itertools.cycle(names)
        yield Case("get", {"ops-cache": lambda: store.get(next(read))}, **curve)
        yield Case("set", {"ops-cache": lambda: store.set(next(written), VALUE)}, **curve)


def _fill(folder: str, entries: int) -> None:
    with DiskCache(folder, max_bytes=LIMIT) as store:
        for start in range(0, entries, 10_000):
            numbers = range(start, min(start + 10_000, entries))
            store.set_many({f"key-{number}": VALUE for number in numbers})
        store._log.seal()  # a full segment has a hint; the last one would be scanned


def _memory(folder: str) -> float:
    """Return the bytes of Python objects that opening the cache makes and keeps."""
    DiskCache(folder, max_bytes=LIMIT).close()  # imports what only the first opening does
    tracemalloc.start()
    try:
        with DiskCache(folder, max_bytes=LIMIT):
            return float(tracemalloc.get_traced_memory()[0])
    finally:
        tracemalloc.stop()
