"""How saving, loading and digesting grow with the bytes of an array; files lie in the page cache."""

from __future__ import annotations

import pathlib
import tempfile
from collections.abc import Iterator, Mapping, Sequence

import numpy as np
from benchmarks.harness import Case, Growth, decades

from ops.serialize import digest, dump, load

SIZES = {"bytes": decades(10_000, 100_000_000)}


def cases(sizes: Mapping[str, Sequence[int]] = SIZES) -> Iterator[Case]:
    """Yield a case for each size of each operation."""
    for size in sizes["bytes"]:
        with tempfile.TemporaryDirectory() as folder:
            yield from _by_bytes(pathlib.Path(folder) / "array.opsf", size)


def _by_bytes(path: pathlib.Path, size: int) -> Iterator[Case]:
    array = np.random.default_rng(0).random(size // 8)
    dump(array, path)
    for name, call, growth in (
        ("save an array, synced", lambda: dump(array, path), Growth.LINEAR),
        ("load an array, read and verified", lambda: load(path), Growth.LINEAR),
        ("load an array, mapped", lambda: load(path, mmap="r"), Growth.FLAT),
        ("digest of an array", lambda: digest(array), Growth.LINEAR),
    ):
        yield Case(
            name,
            {"ops-serialize": call},
            number=1 if size > 1_000_000 and growth is Growth.LINEAR else None,
            rounds=7,
            size=size,
            unit="bytes",
            growth=growth,
        )
