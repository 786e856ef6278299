"""Following a log that is being written, across all its producers.

Each look reads, for every writer, first a copy of its tail, then what its segments have grown by, then
the frames of the copy that are newer still. In this order nothing falls between the two, however they
move meanwhile, and sequence numbers tell what was seen already.
"""

from __future__ import annotations

import os
import time
from typing import TYPE_CHECKING

from ops.datalog.checksums import checksum_of
from ops.datalog.frames import HEADER_SIZE, parse_file_header
from ops.datalog.merge import merged
from ops.datalog.messages import LogReport
from ops.datalog.runs import TailRun, behind, tail_frames, writers_in
from ops.datalog.scan import Scan, valid_frames
from ops.datalog.state import LogState
from ops.datalog.stored import stored_runs

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

    from ops.datalog.messages import Message
    from ops.datalog.runs import Run


def followed(
    folder: Path,
    source: int | None,
    *,
    new_only: bool,
    pause: float,
    wait: Callable[[float], object] | None,
) -> Iterator[Message]:
    """Yield messages as they are logged, until the log is stopped and all were seen."""
    writers: dict[str, Cursor] = {}
    if not new_only:
        for block in merged(list(stored_runs(folder, LogReport())), source):
            yield from block.messages()
    first = True
    while True:
        stopped = not _is_open(folder)
        runs = _news(folder, writers)
        if not (first and new_only):
            for block in merged(runs, source):
                yield from block.messages()
        first = False
        if stopped:  # and so was it before that look, which therefore saw everything
            return
        if not runs:
            (wait or time.sleep)(pause)


def _is_open(folder: Path) -> bool:
    try:
        return LogState(folder).is_open
    except FileNotFoundError:
        return False


def _news(folder: Path, writers: dict[str, Cursor]) -> list[Run]:
    found: list[Run] = []
    # The copies of all tails come before any look at a segment.
    tails = {path.name.removesuffix(".tail"): tail_frames(path) for path in folder.glob("*.tail")}
    for files in writers_in(folder):
        writer = writers.setdefault(files.stem, Cursor())
        found += writer.grown(files.segments)
        frames = tails.get(files.stem)
        if frames is not None:
            fresh = behind(frames, writer.sequence)
            if len(fresh.starts):
                writer.sequence = int(fresh.heads["sequence"][-1])
                found.append(TailRun(fresh))
    return found


class Cursor:
    """How far the segments of one writer were read; `sequence` is the last frame that was seen."""

    def __init__(self, sequence: int = 0) -> None:
        self.sequence: int = sequence
        self._offsets: dict[str, int] = {}

    def grown(self, segments: list[Path]) -> Iterator[Run]:
        """Yield what was appended to *segments* since the last time, in order."""
        for path in segments:
            try:
                with path.open("rb", buffering=0) as file:
                    yield from self._read(path, file.fileno())
            except FileNotFoundError:
                continue  # laid out since

    def _read(self, path: Path, fd: int) -> Iterator[Run]:
        at, size = self._offsets.get(path.name, HEADER_SIZE), os.fstat(fd).st_size
        if size <= at:
            return
        header = parse_file_header(os.pread(fd, HEADER_SIZE, 0), path.name)
        checksum = checksum_of(header.checksum, path.name)
        # A torn end is looked at again, since it may be an append that is under way.
        for frames in valid_frames(fd, at, size, checksum, Scan()):
            self._offsets[path.name] = frames.base + frames.size
            fresh = behind(frames, self.sequence)
            if len(fresh.starts):
                self.sequence = int(fresh.heads["sequence"].max())
                yield TailRun(fresh)
