"""Runs: stretches of messages that lie together in a file and know their times before they are read.

A log of any size is a list of runs. A run is a chunk of a segment, the end of a writer that is still in
its tail, a thousand .npy files, or a stretch of an archive (see `stored`). `pieces` reads one and
checks it. Files are opened for each read and closed again, so that a log may have any number of them.
"""

from __future__ import annotations

import os
from dataclasses import dataclass
from typing import TYPE_CHECKING, NamedTuple, Protocol

import numpy as np

from ops.datalog._liveness import open_regular
from ops.datalog.errors import LogFormatError, LogNotFoundError
from ops.datalog.footer import full_scan, scan_or_index
from ops.datalog.frames import HEADER_SIZE
from ops.datalog.scan import (
    Scan,
    frames_in,
    header_of,
    messages_of,
    other_header,
    read_at,
    valid_frames,
)
from ops.foundation.paths import listed

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping
    from pathlib import Path

    from ops.datalog.checksums import Checksum
    from ops.datalog.messages import LogReport
    from ops.datalog.scan import Frames, Table


class Piece(NamedTuple):
    """Messages that were read: where `table` points is `data`, which begins at `base` of `path`."""

    table: Table
    data: bytes
    base: int = 0
    path: Path | None = None


class Run(Protocol):
    """A stretch of messages; `first` and `last` bound their times."""

    first: int
    last: int
    messages: int

    def has(self, source: int) -> bool:
        """Return whether messages of *source* may be in it."""
        ...

    def sources(self) -> set[int]:
        """Return the sources in it."""
        ...

    def pieces(self) -> Iterator[Piece]:
        """Read it."""
        ...


class ChunkRun:
    """One chunk of a segment; frames up to the sequence *after* were read from elsewhere already."""

    __slots__ = ("_after", "_checksum", "_chunk", "_path", "_report", "first", "last", "messages")

    def __init__(
        self, path: Path, chunk: np.void, checksum: Checksum, after: int, report: LogReport
    ) -> None:
        self._path, self._chunk, self._after, self._report = path, chunk, after, report
        self._checksum = checksum
        self.first: int = int(chunk["first"])
        self.last: int = int(chunk["last"])
        self.messages: int = int(chunk["messages"])

    def has(self, source: int) -> bool:
        """Return whether messages of *source* are in it."""
        if not 0 <= source <= 255:
            return False
        return bool(self._chunk["sources"][source >> 3] >> (source & 7) & 1)

    def sources(self) -> set[int]:
        """Return the sources in it."""
        bits = np.unpackbits(self._chunk["sources"], bitorder="little")
        return set(np.flatnonzero(bits).tolist())

    def pieces(self) -> Iterator[Piece]:
        """Read it."""
        try:
            found = self._read()
        except FileNotFoundError:
            raise LogNotFoundError(
                f"{self._path.name} was laid out while it was being read.",
                suggestions=("Read again: its messages are in other files now.",),
            ) from None
        except (OSError, LogFormatError) as error:
            self._report.note_unreadable(self._path, error)
            return
        for frames in found:
            yield Piece(
                messages_of(behind(frames, self._after)), frames.data, frames.base, self._path
            )

    def _read(self) -> list[Frames]:
        offset, size = int(self._chunk["offset"]), int(self._chunk["size"])
        fd = open_regular(self._path)
        try:
            data = read_at(fd, size, offset)
            if len(data) == size and self._checksum(data) == self._chunk["crc"]:
                return [frames_in(offset, data)]
            # Damaged since it was indexed: keep what is good of it.
            self._report.note_damage(self._path, f"within {size} bytes at offset {offset}")
            return list(valid_frames(fd, offset, offset + len(data), self._checksum, Scan()))
        finally:
            os.close(fd)


class TailRun:
    """The frames of a tail that no segment has yet, as they were when it was read."""

    __slots__ = ("_frames", "_table", "first", "last", "messages")

    def __init__(self, frames: Frames) -> None:
        self._frames, self._table = frames, messages_of(frames)
        times = self._table.times
        self.messages: int = len(times)
        self.first: int
        self.last: int
        self.first, self.last = (int(times.min()), int(times.max())) if len(times) else (0, 0)

    def has(self, source: int) -> bool:
        """Return whether messages of *source* are in it."""
        return source in self.sources()

    def sources(self) -> set[int]:
        """Return the sources in it."""
        return set(np.unique(self._table.sources).tolist())

    def pieces(self) -> Iterator[Piece]:
        """Read it."""
        yield Piece(self._table, self._frames.data)


@dataclass(frozen=True, slots=True)
class WriterFiles:
    """The files of one writer: its segments in order, and its tail if there is one."""

    stem: str
    segments: list[Path]
    tail: Path | None


def writers_in(folder: Path) -> list[WriterFiles]:
    """Return the files of all writers, ordered by name."""
    segments: dict[str, list[Path]] = {}
    for path in listed(folder, "*.seg"):
        segments.setdefault(path.name.rsplit(".", 2)[0], []).append(path)
    tails = {path.name.removesuffix(".tail"): path for path in listed(folder, "*.tail")}
    stems = sorted({*segments, *tails})
    return [WriterFiles(stem, segments.get(stem, []), tails.get(stem)) for stem in stems]


def writer_runs(
    folder: Path,
    report: LogReport,
    *,
    check_all: bool = False,
    after: Mapping[str, int] | None = None,
) -> Iterator[Run]:
    """Yield the runs of all writers; note in *report* what is torn, damaged or missing.

    *check_all* checks every frame also where an index lists their offsets; *after* is the sequence
    number of each writer behind which to begin. What cannot be read is noted and costs nothing else.
    """
    # Tails first: what a writer moves from its tail to its segment meanwhile is then seen twice,
    # which sequence numbers show, and never missed.
    tails = {
        path.name.removesuffix(".tail"): tail_frames(path, report)
        for path in listed(folder, "*.tail")
    }
    files = {writer.stem: writer.segments for writer in writers_in(folder)}
    for stem in sorted({*files, *tails}):
        last = 0 if after is None else after.get(stem, 0)
        for path in files.get(stem, []):
            found = _scanned(path, report, check_all=check_all)
            for chunk in found.chunks:
                end = int(chunk["sequence"]) + int(chunk["frames"]) - 1
                if end > last:
                    _note_gap(report, stem, last, int(chunk["sequence"]))
                    begun = last if chunk["sequence"] <= last else 0
                    yield ChunkRun(path, chunk, found.checksum, begun, report)
                    last = end
        for frames in tails.get(stem, ()):
            fresh = behind(frames, last)
            if len(fresh.starts):
                _note_gap(report, stem, last, int(fresh.heads["sequence"][0]))
                last = int(fresh.heads["sequence"][-1])
                yield TailRun(fresh)


def _scanned(path: Path, report: LogReport, *, check_all: bool) -> Scan:
    try:
        found = full_scan(path) if check_all else scan_or_index(path)
    except FileNotFoundError:
        return Scan()  # laid out since
    except (OSError, LogFormatError) as error:
        report.note_unreadable(path, error)
        return Scan()
    report.torn_bytes += found.torn_bytes
    for what in found.damage():
        report.note_damage(path, what)
    if found.is_newer:
        report.newer_files.append(str(path))
    return found


def tail_frames(path: Path, report: LogReport | None = None) -> list[Frames]:
    """Return the frames of a tail in order: its newest run, in several parts where a frame is damaged.

    The frames that stand behind it are older. They come along when the first one is damaged, and their
    sequence numbers show that a segment has them. *report* records a damaged header.
    """
    try:
        fd = open_regular(path)
    except FileNotFoundError:
        return []  # closed meanwhile: all of it is in the segment
    except (OSError, LogFormatError) as error:
        if report is not None:
            report.note_unreadable(path, error)
        return []
    try:
        size = os.fstat(fd).st_size
        if size < HEADER_SIZE:
            return []  # cut short before anything was in it
        header = header_of(fd, size, path.name)
        parts = _ascending(valid_frames(fd, HEADER_SIZE, size, header.checksum, Scan()))
        if not parts:
            other = other_header(fd, size, path.name, header)
            if other is not None:
                header = other
                parts = _ascending(valid_frames(fd, HEADER_SIZE, size, header.checksum, Scan()))
        if header.damage and report is not None:
            report.note_damage(path, header.damage)
            if header.is_newer:
                report.newer_files.append(str(path))
        return parts
    finally:
        os.close(fd)


def _ascending(found: Iterator[Frames]) -> list[Frames]:
    parts: list[Frames] = []
    last = 0
    for frames in found:
        newer = _consecutive(behind(frames, last))
        if len(newer.starts):
            parts.append(newer)
            last = int(newer.heads["sequence"][-1])
    return parts


def _consecutive(frames: Frames) -> Frames:
    sequences = frames.heads["sequence"]
    breaks = np.flatnonzero(sequences[1:] != sequences[:-1] + np.uint64(1))
    count = int(breaks[0]) + 1 if len(breaks) else len(sequences)
    return frames._replace(starts=frames.starts[:count], heads=frames.heads[:count])


def behind(frames: Frames, sequence: int) -> Frames:
    """Return the frames with higher sequence numbers."""
    if not sequence:
        return frames
    keep = frames.heads["sequence"] > sequence
    return frames._replace(starts=frames.starts[keep], heads=frames.heads[keep])


def _note_gap(report: LogReport, stem: str, last: int, sequence: int) -> None:
    if sequence > last + 1:
        report.gaps.setdefault(stem, []).append((last + 1, sequence - 1))
