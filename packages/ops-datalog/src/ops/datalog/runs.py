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

from ops.datalog.checksums import checksum_of
from ops.datalog.errors import LogNotFoundError
from ops.datalog.footer import full_scan, scan_or_index
from ops.datalog.frames import HEADER_SIZE, parse_file_header
from ops.datalog.scan import Scan, checked_frames, frames_in, messages_of, read_at, valid_frames

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping
    from pathlib import Path

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
        """Tell whether messages of *source* may be in it."""
        ...

    def sources(self) -> set[int]:
        """Return the sources in it."""
        ...

    def pieces(self) -> Iterator[Piece]:
        """Read it."""
        ...


class ChunkRun:
    """One chunk of a segment; frames up to the sequence *after* were read from elsewhere already."""

    __slots__ = ("_after", "_chunk", "_path", "_report", "first", "last", "messages")

    def __init__(self, path: Path, chunk: np.void, after: int, report: LogReport) -> None:
        self._path, self._chunk, self._after, self._report = path, chunk, after, report
        self.first: int = int(chunk["first"])
        self.last: int = int(chunk["last"])
        self.messages: int = int(chunk["messages"])

    def has(self, source: int) -> bool:
        """Tell whether messages of *source* are in it."""
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
        for frames in found:
            yield Piece(
                messages_of(behind(frames, self._after)), frames.data, frames.base, self._path
            )

    def _read(self) -> list[Frames]:
        offset, size = int(self._chunk["offset"]), int(self._chunk["size"])
        with self._path.open("rb", buffering=0) as file:
            fd = file.fileno()
            header = parse_file_header(os.pread(fd, HEADER_SIZE, 0), self._path.name)
            checksum = checksum_of(header.checksum, self._path.name)
            data = read_at(fd, size, offset)
            if len(data) == size and checksum(data) == self._chunk["crc"]:
                return [frames_in(offset, data)]
            # Damaged since it was indexed: keep what is good of it.
            self._report.note_damage(self._path, f"within {size} bytes at offset {offset}")
            return list(valid_frames(fd, offset, offset + len(data), checksum, Scan()))


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
        """Tell whether messages of *source* are in it."""
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
    for path in sorted(folder.glob("*.seg")):
        segments.setdefault(path.name.rsplit(".", 2)[0], []).append(path)
    tails = {path.name.removesuffix(".tail"): path for path in folder.glob("*.tail")}
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

    *check_all* checks every frame also where an index says where they are; *after* is the sequence
    number of each writer behind which to begin.
    """
    # Tails first: what a writer moves from its tail to its segment meanwhile is then seen twice,
    # which sequence numbers tell, and never missed.
    tails = {
        path.name.removesuffix(".tail"): tail_frames(path) for path in sorted(folder.glob("*.tail"))
    }
    files = {writer.stem: writer.segments for writer in writers_in(folder)}
    for stem in sorted({*files, *tails}):
        last = 0 if after is None else after.get(stem, 0)
        for path in files.get(stem, []):
            try:
                found = full_scan(path) if check_all else scan_or_index(path)
            except FileNotFoundError:
                continue  # laid out since
            report.torn_bytes += found.torn_bytes
            for offset, size in found.damaged:
                report.note_damage(path, f"{size} bytes at offset {offset}")
            for chunk in found.chunks:
                end = int(chunk["sequence"]) + int(chunk["frames"]) - 1
                if end > last:
                    _note_gap(report, stem, last, int(chunk["sequence"]))
                    yield ChunkRun(path, chunk, last if chunk["sequence"] <= last else 0, report)
                    last = end
        frames = tails.get(stem)
        if frames is not None:
            fresh = behind(frames, last)
            if len(fresh.starts):
                _note_gap(report, stem, last, int(fresh.heads["sequence"][0]))
                yield TailRun(fresh)


def tail_frames(path: Path) -> Frames | None:
    """Return the newest run of frames of a tail; what stands behind it is older."""
    try:
        data = path.read_bytes()
    except FileNotFoundError:
        return None  # closed meanwhile: all of it is in the segment
    if len(data) < HEADER_SIZE or not any(data[:8]):
        return None  # its writer died while it was made
    header = parse_file_header(data, path.name)
    checksum = checksum_of(header.checksum, path.name)
    found = checked_frames(0, data[HEADER_SIZE:], checksum)
    sequences = found.heads["sequence"]
    breaks = np.flatnonzero(sequences[1:] != sequences[:-1] + np.uint64(1))
    newest = int(breaks[0]) + 1 if len(breaks) else len(sequences)
    return found._replace(starts=found.starts[:newest], heads=found.heads[:newest])


def behind(frames: Frames, sequence: int) -> Frames:
    """Return the frames with higher sequence numbers."""
    if not sequence:
        return frames
    keep = frames.heads["sequence"] > sequence
    return frames._replace(starts=frames.starts[keep], heads=frames.heads[keep])


def _note_gap(report: LogReport, stem: str, last: int, sequence: int) -> None:
    if sequence > last + 1:
        report.gaps.setdefault(stem, []).append((last + 1, sequence - 1))
