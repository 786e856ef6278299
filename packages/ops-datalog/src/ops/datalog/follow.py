"""Following a log that is being written, across all its producers; needs no right to write.

Each look reads, for every writer, first its tail, then what its segments have grown by, then the frames of
the tail that are newer still. In this order nothing falls between the two, however they move meanwhile, and
sequence numbers show what was seen already. Of what is found only the index is held; the messages are read
when they go out.

`stop` with the layout "npy" replaces segments by files, also while the one who follows is busy with a message. Then
the files hold what was seen and what was not, under names without a writer. So while such a log is followed,
13 bytes of each message are kept (its time, source and CRC-32), and of the files those messages go out
that are not among them.
"""

from __future__ import annotations

import contextlib
import os
import time
from array import array
from collections import Counter
from typing import TYPE_CHECKING
from zlib import crc32

from ops.datalog._chunks import ChunkRun, TailRun, behind, tail_frames, writers_in
from ops.datalog._liveness import open_regular
from ops.datalog._npy_archive import DONE, stored_runs
from ops.datalog._shutdown import PUT_SECONDS, is_busy
from ops.datalog.errors import LogFormatError, LogNotFoundError
from ops.datalog.footer import scan_or_index
from ops.datalog.frames import HEADER_SIZE
from ops.datalog.merge import merged
from ops.datalog.messages import LogReport
from ops.datalog.scan import Scan, header_of, scan, valid_frames
from ops.datalog.state import GENERATION, LAYOUTS, NPY, TOKEN, words_of
from ops.foundation.paths import listed
from ops.foundation.processes import full_memory_barrier

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

    from ops.datalog._chunks import Run
    from ops.datalog.messages import Block, Message


def followed(
    folder: Path,
    source: int | None,
    *,
    new_only: bool,
    pause: float,
    wait: Callable[[float], object] | None,
) -> Iterator[Message]:
    """Yield messages as they are logged, until the log is stopped and all were seen."""
    follower = _Follower(folder, source)
    yield from follower.begin(new_only=new_only)
    stopped_at: float | None = None
    while True:
        stopped = not words_of(folder)[TOKEN]
        if stopped:
            full_memory_barrier()  # behind it each put that missed the stop shows that it is BUSY
        # A put that was accepted before the stop may be under way still, but not for ever.
        now = time.monotonic()
        stopped_at = None if not stopped else now if stopped_at is None else stopped_at
        ended = stopped and (
            (stopped_at is not None and now - stopped_at > PUT_SECONDS) or not _has_puts(folder)
        )
        seen = follower.passed
        yield from follower.look()
        if ended:  # and so was it before that look, which therefore saw everything
            return
        if follower.passed == seen:
            (wait or time.sleep)(pause)


def _has_puts(folder: Path) -> bool:
    return any(map(is_busy, listed(folder, "*.tail")))


class _Follower:
    """How far the log in *folder* was seen; `passed` counts the messages that were read or skipped."""

    def __init__(self, folder: Path, source: int | None) -> None:
        self._folder, self._source = folder, source
        self._cursors: dict[str, Cursor] = {}
        self._kept = _Kept()
        self.passed = 0
        self._layout = self._layout_now()

    def begin(self, *, new_only: bool) -> Iterator[Message]:
        """Yield what is there, or, with *new_only*, pass over it."""
        while True:
            self._layout = self._layout_now()
            stored = list(stored_runs(self._folder, LogReport()))
            runs = [] if self._layout[1] else self._news()
            if self._layout == self._layout_now():
                break
            self._cursors.clear()
        if new_only:
            self._skip(stored, runs)
        else:
            yield from self._all_of([*stored, *runs])

    def look(self) -> Iterator[Message]:
        """Yield what has come since the last look."""
        if self._layout_now() != self._layout:
            yield from self._laid_out()
        runs = self._news()
        if runs:
            yield from self._all_of(runs)

    def _layout_now(self) -> tuple[int, bool]:
        return words_of(self._folder)[LAYOUTS], (self._folder / DONE).is_dir()

    def _keeps(self) -> bool:
        """Return whether the log will be laid out as files."""
        words = words_of(self._folder)
        return bool(words[NPY]) and bool(words[GENERATION])

    def _skip(self, stored: list[Run], runs: list[Run]) -> None:
        self.passed += sum(run.messages for run in [*stored, *runs])
        if self._keeps():
            for run in [*stored, *runs]:
                self._kept.add_stamps(run)

    def _all_of(self, runs: list[Run]) -> Iterator[Message]:
        keeps = self._keeps()
        try:
            for block in merged(runs, None if keeps else self._source):
                if keeps:
                    self._kept.add(block)
                for message in block.messages():
                    self.passed += 1
                    if self._source is None or message.source_id == self._source:
                        yield message
        except LogNotFoundError:
            if not keeps:
                raise
            yield from self._laid_out()  # they went to files, where the rest of them is

    def _laid_out(self) -> Iterator[Message]:
        """Yield of the files that have replaced the segments what was not seen."""
        self._cursors.clear()
        for _ in range(100):
            layout = self._layout_now()
            with contextlib.suppress(LogNotFoundError):  # replaced again meanwhile
                yield from self._unseen(list(stored_runs(self._folder, LogReport())))
                if layout == self._layout_now():
                    self._layout = layout
                    return
        raise LogNotFoundError(
            f"{str(self._folder)!r} is replaced again and again while it is read."
        )

    def _unseen(self, stored: list[Run]) -> Iterator[Message]:
        if not self._keeps():
            if sum(run.messages for run in stored) > self.passed:
                raise LogNotFoundError(
                    f"{str(self._folder)!r} was archived before all of it was followed.",
                    suggestions=("Open it again: its messages are in other files now.",),
                )
            return
        kept = self._kept.counted()
        for block in merged(stored):
            for message in block.messages():
                if kept.pass_over(message):
                    continue
                self._kept.add_one(message)
                self.passed += 1
                if self._source is None or message.source_id == self._source:
                    yield message

    def _news(self) -> list[Run]:
        found: list[Run] = []
        # The copies of all tails come before any look at a segment.
        tails = {
            path.name.removesuffix(".tail"): tail_frames(path)
            for path in listed(self._folder, "*.tail")
        }
        for files in writers_in(self._folder):
            writer = self._cursors.setdefault(files.stem, Cursor())
            found += writer.chunks(files.segments)
            for frames in tails.get(files.stem, ()):
                fresh = behind(frames, writer.sequence)
                if len(fresh.starts):
                    writer.sequence = int(fresh.heads["sequence"][-1])
                    found.append(TailRun(fresh))
        return found


class _Kept:
    """Times, sources and checksums of messages that were seen; of skipped ones times and sources."""

    def __init__(self) -> None:
        self._times, self._sources, self._sums = array("Q"), array("B"), array("I")
        self._stamps: Counter[tuple[int, int]] = Counter()

    def add(self, block: Block) -> None:
        self._times.extend(block.times.tolist())
        self._sources.extend(block.sources.tolist())
        self._sums.extend([crc32(row.data) for row in block.rows])

    def add_one(self, message: Message) -> None:
        self._times.append(message.timestamp)
        self._sources.append(message.source_id)
        self._sums.append(crc32(message.data.data))

    def add_stamps(self, run: Run) -> None:
        for piece in run.pieces():
            columns = (piece.table.sources.tolist(), piece.table.times.tolist())
            self._stamps.update(zip(*columns, strict=True))

    def counted(self) -> _Counted:
        return _Counted(
            Counter(zip(self._sources, self._times, self._sums, strict=True)), self._stamps.copy()
        )


class _Counted:
    """How often a message of equal source, time and content was seen."""

    def __init__(
        self, seen: Counter[tuple[int, int, int]], skipped: Counter[tuple[int, int]]
    ) -> None:
        self._seen, self._skipped = seen, skipped

    def pass_over(self, message: Message) -> bool:
        """Return whether *message* was seen before; each one counts once."""
        stamp = (message.source_id, message.timestamp)
        for counter, key in (
            (self._skipped, stamp), (self._seen, (*stamp, crc32(message.data.data))),
        ):  # fmt: skip
            if counter[key] > 0:  # type: ignore[index]  # each counter has keys of its own
                counter[key] -= 1  # type: ignore[index]
                return True
        return False


class Cursor:
    """How far the segments of one writer were read; `sequence` is the last frame that was seen."""

    def __init__(self, sequence: int = 0) -> None:
        self.sequence: int = sequence
        self._offsets: dict[str, int] = {}
        self._sizes: dict[str, int] = {}

    def chunks(self, segments: list[Path]) -> list[Run]:
        """Return what was appended to *segments* since the last time, in order, without its data."""
        found: list[Run] = []
        for path in segments:
            with contextlib.suppress(
                OSError, LogFormatError
            ):  # laid out since, or no file of a writer
                found += self._chunks(path)
        return found

    def _chunks(self, path: Path) -> Iterator[Run]:
        size, report = path.stat().st_size, LogReport()
        if self._sizes.get(path.name) == size:
            return
        if path.name not in self._sizes:
            result = scan_or_index(path)
        else:
            fd = open_regular(path)
            try:
                at = self._offsets.get(path.name, HEADER_SIZE)
                result = scan(fd, size, path.name, header_of(fd, size, path.name), at)
            finally:
                os.close(fd)
        self._sizes[path.name] = size
        for chunk in result.chunks:
            # A torn end is looked at again, since it may be an append that is under way.
            self._offsets[path.name] = int(chunk["offset"] + chunk["size"])
            last = int(chunk["sequence"]) + int(chunk["frames"]) - 1
            if last > self.sequence:
                begun = self.sequence if chunk["sequence"] <= self.sequence else 0
                yield ChunkRun(path, chunk, result.checksum, begun, report)
                self.sequence = last

    def grown(self, segments: list[Path]) -> Iterator[Run]:
        """Yield what was appended to *segments* since the last time, in order, a few megabytes at a time."""
        for path in segments:
            try:
                fd = open_regular(path)
            except (FileNotFoundError, LogFormatError):
                continue  # laid out since, or no file of a writer
            try:
                yield from self._read(path, fd)
            finally:
                os.close(fd)

    def _read(self, path: Path, fd: int) -> Iterator[Run]:
        at, size = self._offsets.get(path.name, HEADER_SIZE), os.fstat(fd).st_size
        if size <= at:
            return
        checksum = header_of(fd, size, path.name).checksum
        for frames in valid_frames(fd, at, size, checksum, Scan()):
            self._offsets[path.name] = frames.base + frames.size
            fresh = behind(frames, self.sequence)
            if len(fresh.starts):
                self.sequence = int(fresh.heads["sequence"].max())
                yield TailRun(fresh)
