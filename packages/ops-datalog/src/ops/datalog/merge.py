"""All messages in time order, with memory for a few runs instead of for all of them.

Messages of one producer are nearly in order, so the times of its runs hardly overlap. The merge goes
through all runs by their first time and holds those that are not used up; everything before the first
time of the next run can go out, because nothing that comes later is earlier. What is held is a few
chunks per producer.

Where times are in no order at all, every run overlaps every other and must be held. Then what stays of
a message is its index (21 bytes); the data of runs is let go beyond HELD_BYTES and read again from the
file, message by message, when it is next in order. Equal times come out by source, then as they were logged.
"""

from __future__ import annotations

import os
from typing import TYPE_CHECKING

import numpy as np

from ops.datalog.messages import Block
from ops.datalog.scan import even_stride

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from ops.datalog._chunks import Piece, Run

HELD_BYTES = 64 << 20
_BLOCK = 8192  # messages that go out together


def merged(
    runs: Sequence[Run], source: int | None = None, start: int = 0, stop: int | None = None
) -> Iterator[Block]:
    """Yield the messages of *runs* that are of *source* and have *start* <= time < *stop*."""
    wanted = [
        (run.first, number, run)
        for number, run in enumerate(runs)
        if run.last >= start
        and (stop is None or run.first < stop)
        and (source is None or run.has(source))
    ]
    wanted.sort(key=lambda entry: entry[:2])
    held: list[_Held] = []
    for index, (_, number, run) in enumerate(wanted):
        for piece in run.pieces():
            found = _Held.of(piece, number, source, start, stop)
            if found is not None:
                held.append(found)
        horizon = wanted[index + 1][0] if index + 1 < len(wanted) else None
        yield from _before(horizon, held)
        held = [one for one in held if one.at < len(one.times)]
        _let_go(held)


class _Held:
    """Messages of one piece in time order, of which those up to `at` have gone out."""

    __slots__ = (
        "_base",
        "_data",
        "_lengths",
        "_path",
        "_starts",
        "at",
        "number",
        "sources",
        "times",
    )

    def __init__(self, piece: Piece, number: int, chosen: np.ndarray | slice) -> None:
        times, sources, starts, lengths = (column[chosen] for column in piece.table)
        if (times[1:] < times[:-1]).any() or len(np.unique(sources)) > 1:
            order = np.lexsort((sources, times))
            times, sources = times[order], sources[order]
            starts, lengths = starts[order], lengths[order]
        self.times, self.sources = times, sources.astype(np.uint8)
        self._starts, self._lengths = starts, lengths.astype(np.uint32)
        self._data: bytes | None = piece.data
        self._base, self._path = piece.base, piece.path
        self.number, self.at = number, 0

    @classmethod
    def of(
        cls, piece: Piece, number: int, source: int | None, start: int, stop: int | None
    ) -> _Held | None:
        times, sources = piece.table.times, piece.table.sources
        if not len(times):
            return None
        keep = np.ones(len(times), bool)
        if source is not None:
            keep &= sources == source
        if start > 0:
            keep &= times >= np.uint64(start)
        if stop is not None and stop < 1 << 64:
            keep &= times < np.uint64(max(stop, 0))
        if not keep.any():
            return None
        return cls(piece, number, slice(None) if keep.all() else keep)

    def held_bytes(self) -> int:
        """Return how much data could be let go."""
        return len(self._data) if self._data is not None and self._path is not None else 0

    def let_go(self) -> None:
        """Forget data that can be read again."""
        self._data = None

    def rows(self, first: int, last: int) -> np.ndarray | list[np.ndarray]:
        """Return the data of messages *first* to *last*, as copies."""
        starts, lengths = self._starts[first:last], self._lengths[first:last]
        if self._data is None:
            return self._read_again(starts.tolist(), lengths.tolist())
        size = int(lengths[0])
        if not (lengths == size).all():
            whole = np.frombuffer(self._data, np.uint8)
            ends = starts + lengths
            return [whole[a:b].copy() for a, b in zip(starts.tolist(), ends.tolist(), strict=True)]
        stride = even_stride(starts)
        if len(starts) == 1 or stride > 0:
            shape, offset = (len(starts), size), int(starts[0])
            return np.ndarray(shape, np.uint8, self._data, offset, (stride, 1)).copy()
        return np.frombuffer(self._data, np.uint8)[starts[:, None] + np.arange(size)]

    def _read_again(self, starts: list[int], lengths: list[int]) -> list[np.ndarray]:
        assert self._path is not None  # noqa: S101 - only such data is let go
        fd = os.open(self._path, os.O_RDONLY | os.O_CLOEXEC)
        try:
            return [
                np.frombuffer(bytearray(os.pread(fd, length, self._base + at)), np.uint8)
                for at, length in zip(starts, lengths, strict=True)
            ]
        finally:
            os.close(fd)


def _before(horizon: int | None, held: list[_Held]) -> Iterator[Block]:
    """Take everything before *horizon* from *held*, in blocks."""
    limits = [
        (one, len(one.times) if horizon is None else _index_of(one.times, horizon, "left"))
        for one in sorted(held, key=lambda one: one.number)
    ]
    while ready := [(one, end) for one, end in limits if one.at < end]:
        step = max(1, _BLOCK // len(ready))
        # All of them up to the earliest time at which one of them has given its share.
        border = min(int(one.times[min(one.at + step, end) - 1]) for one, end in ready)
        parts = []
        for one, end in ready:
            until = min(end, one.at + _index_of(one.times[one.at : end], border, "right"))
            if until > one.at:
                parts.append((one, one.at, until))
                one.at = until
        yield _joined(parts)


def _index_of(times: np.ndarray, time: int, side: str) -> int:
    return int(np.searchsorted(times, np.uint64(time), side=side))  # type: ignore[call-overload]  # a literal


def _joined(parts: list[tuple[_Held, int, int]]) -> Block:
    if len(parts) == 1:
        one, first, last = parts[0]
        return Block(one.times[first:last], one.sources[first:last], one.rows(first, last))
    times = np.concatenate([one.times[a:b] for one, a, b in parts])
    sources = np.concatenate([one.sources[a:b] for one, a, b in parts])
    order = np.lexsort((sources, times))
    found = [one.rows(a, b) for one, a, b in parts]
    arrays = [rows for rows in found if isinstance(rows, np.ndarray)]
    if len(arrays) == len(found) and len({rows.shape[1] for rows in arrays}) == 1:
        return Block(times[order], sources[order], np.concatenate(arrays)[order])
    single = [row for rows in found for row in rows]
    return Block(times[order], sources[order], [single[index] for index in order.tolist()])


def _let_go(held: list[_Held]) -> None:
    """Keep at most HELD_BYTES of data, of the messages that come first."""
    total = 0
    for one in sorted(held, key=lambda one: int(one.times[one.at])):
        total += one.held_bytes()
        if total > HELD_BYTES and one.held_bytes():
            one.let_go()
