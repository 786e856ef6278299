"""Which keys start with given bytes, found without looking at every key each time.

A folder may hold any number of records that clear a namespace. Looking through all keys for each would take
the product of both. So the first search sorts the keys. Those that come later are sorted in runs, which
are merged when they have the same length, so that a search looks into few of them, and what it finds is
taken out, since all of it is about to be deleted.
"""

from __future__ import annotations

import bisect
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

__all__ = ["SortedKeys"]


class SortedKeys:
    """Keys that were added and not taken yet, in sorted runs; each run is longer than the next."""

    def __init__(self, keys: Iterable[bytes]) -> None:
        self._runs: list[list[bytes]] = [sorted(keys)]
        self._fresh: list[bytes] = []
        self.append = self._fresh.append
        self.extend = self._fresh.extend

    def __len__(self) -> int:
        return sum(map(len, self._runs)) + len(self._fresh)

    def take(self, prefix: bytes) -> Sequence[bytes]:
        """Remove and return the keys that start with *prefix*; one may be there twice."""
        runs = self._runs
        if self._fresh:
            run = sorted(self._fresh)
            self._fresh.clear()
            while runs and len(runs[-1]) < 2 * len(run):
                run = sorted(runs.pop() + run)  # both are sorted: it merges them
            runs.append(run)
        found: list[bytes] = []
        end = _next_prefix(prefix)
        for run in runs:
            first = bisect.bisect_left(run, prefix)
            last = len(run) if end is None else bisect.bisect_left(run, end, first)
            if first < last:
                found += run[first:last]
                del run[first:last]
        self._runs = [run for run in runs if run]
        return found


def _next_prefix(prefix: bytes) -> bytes | None:
    """Return the lowest bytes above all that start with *prefix*, None where there are none."""
    kept = prefix.rstrip(b"\xff")
    return kept[:-1] + bytes((kept[-1] + 1,)) if kept else None
