"""Tidying a log after a crash. Reading never needs it; it makes reading fast and the folder small.

For each writer that is gone: what only its tail holds becomes one more segment, made beside its place
and renamed; only then the tail is removed. A torn end, which was never acknowledged, is cut off.
Segments that are whole get an index. Damage in the middle is reported and left as it is, because
whoever repairs it wants the bytes. Cut off at any moment, a second run does the rest: frames that are
in a segment and still in a tail have the same sequence numbers and are read once.
"""

from __future__ import annotations

import os
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

import numpy as np

from ops.datalog.closing import open_state, owner_is_alive, refuse_if_written, turn
from ops.datalog.footer import full_scan, scan_or_index, seal
from ops.datalog.frames import FRAME, HEADER_SIZE
from ops.datalog.runs import behind, tail_frames, writers_in
from ops.foundation.files import atomic_write, sync_directory

if TYPE_CHECKING:
    from pathlib import Path

    from ops.datalog.runs import WriterFiles
    from ops.datalog.scan import Frames

__all__ = ["Recovery"]


@dataclass(slots=True)
class Recovery:
    """What recover() did."""

    tails: int = 0
    frames_from_tails: int = 0
    torn_bytes: int = 0
    sealed: int = 0
    damaged: list[str] = field(default_factory=list)


def recover(folder: Path) -> Recovery:
    """Tidy the log in *folder*; raises DataLogError when somebody still writes it."""
    with turn(folder):
        refuse_if_written(folder)
        return _recovered(folder)


def _recovered(folder: Path) -> Recovery:
    done = Recovery()
    is_open = open_state(folder) is not None
    writers = [
        writer
        for writer in writers_in(folder)
        # One that has begun since may be in the middle of a put.
        if not (is_open and writer.tail is not None and owner_is_alive(writer.tail))
    ]
    for writer in writers:
        last = _last_sequence(writer)
        for path in writer.segments:
            _mend(path, done)
        if writer.tail is not None:
            _absorb(writer, last, done)
    done.sealed = sum(_seal_all(folder, writer.stem) for writer in writers)
    sync_directory(folder)
    return done


def finish_segments(folder: Path) -> None:
    """Index the segments of a stopped log, and take over the tails of producers that have ended."""
    _seal_all(folder)
    for writer in writers_in(folder):
        if writer.tail is not None and not owner_is_alive(writer.tail):
            _absorb(writer, _last_sequence(writer), Recovery())
    _seal_all(folder)


def _mend(path: Path, done: Recovery) -> None:
    """Cut off the torn end of a segment."""
    found = full_scan(path)
    if found.torn_bytes:
        os.truncate(path, path.stat().st_size - found.torn_bytes)
        done.torn_bytes += found.torn_bytes
    done.damaged += [f"{path.name}: {size} bytes at offset {at}" for at, size in found.damaged]
    if path.stat().st_size <= HEADER_SIZE:
        path.unlink()


def _seal_all(folder: Path, stem: str = "*") -> int:
    return sum(seal(path) for path in folder.glob(f"{stem}.*.seg"))


def _last_sequence(writer: WriterFiles) -> int:
    ends = [0]
    for path in writer.segments:
        chunks = scan_or_index(path).chunks
        ends += (chunks["sequence"] + chunks["frames"].astype("u8") - np.uint64(1)).tolist()
    return max(ends)


def _absorb(writer: WriterFiles, last: int, done: Recovery) -> None:
    """Make a segment of what only the tail holds, and remove the tail."""
    assert writer.tail is not None  # noqa: S101 - for the type checkers
    frames = tail_frames(writer.tail)
    if frames is not None:
        fresh = behind(frames, last)
        if len(fresh.starts):
            numbers = [int(path.name.rsplit(".", 2)[1]) for path in writer.segments]
            path = writer.tail.with_name(f"{writer.stem}.{max(numbers, default=-1) + 1:05d}.seg")
            with atomic_write(path, "wb") as file:
                file.write(writer.tail.read_bytes()[:HEADER_SIZE] + _bytes_of(fresh))
            done.frames_from_tails += len(fresh.starts)
    writer.tail.unlink()
    done.tails += 1


def _bytes_of(frames: Frames) -> bytes:
    first = int(frames.starts[0])
    last = int(frames.starts[-1]) + FRAME + int(frames.heads["length"][-1])
    return frames.data[first:last]
