"""Reading a log in whatever form it lies there: segments with their tails, .npy files, .npz archives.

Segments and tail of one writer are read as one sequence: the frames of the segments in order, then
those of the tail that continue it. What was torn by a crash fails its CRC and is skipped and counted.
After damage in the middle of a segment the next valid frame is searched for.
"""

from __future__ import annotations

import mmap
import os
import re
import zipfile
from collections import defaultdict
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

import numpy as np

from ops.datalog import frames
from ops.datalog.errors import LogNotFoundError
from ops.datalog.frames import BLOCK, BLOCK_HEAD, HEADER_SIZE, VERSION

if TYPE_CHECKING:
    from collections.abc import Iterator

    from ops.datalog.frames import Frame

__all__ = ["Columns", "LogReader", "LogReport", "Message", "open_log"]

_VERSION_AT = 18  # of a frame
_ENTRY = re.compile(r"(\d{3})_(\d{20})(?:_(\d+))?(?:\.npy)?")


class Message(NamedTuple):
    """One message; `data` is a uint8 array of its own."""

    source_id: int
    timestamp: int
    data: np.ndarray


@dataclass(frozen=True, slots=True)
class Columns:
    """All messages of one source: `times` uint64 (n,), `data` uint8 (n, size) or a list of arrays."""

    times: np.ndarray
    data: np.ndarray | list[np.ndarray]


@dataclass(slots=True)
class LogReport:
    """What verify() found; `gaps` are sequence numbers that a writer used and nobody can read."""

    messages: int = 0
    sources: list[int] = field(default_factory=list)
    torn_bytes: int = 0
    damaged: list[str] = field(default_factory=list)
    gaps: dict[str, list[tuple[int, int]]] = field(default_factory=dict)

    @property
    def is_whole(self) -> bool:
        """Whether nothing is damaged and nothing is missing; torn ends of killed writers are normal."""
        return not self.damaged and not self.gaps


def open_log(folder: str | os.PathLike[str]) -> LogReader:
    """Open the log in *folder*; raises LogNotFoundError when it holds none."""
    path = Path(folder)
    reader = LogReader(path)
    if not path.is_dir() or not reader.files():
        raise LogNotFoundError(f"{str(path)!r} holds no log: no .seg, .tail, .npy or .npz file.")
    return reader


class LogReader:
    """Reads one folder; every call looks at the files anew, so a log may grow meanwhile."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder

    def files(self) -> list[Path]:
        """Return the files that hold messages."""
        found = [*self.folder.glob("*.seg"), *self.folder.glob("*.tail")]
        found += [f for f in self.folder.glob("**/*.npy") if _ENTRY.fullmatch(f.name)]
        return sorted([*found, *self.folder.glob("*_log.npz")])

    def sources(self) -> list[int]:
        """Return the sources that have messages, ascending."""
        return sorted({message.source_id for message in self._all()})

    def iter(
        self, source: int | None = None, start: int = 0, stop: int | None = None
    ) -> Iterator[Message]:
        """Yield messages of *source* (None: all) with *start* <= time < *stop*, in time order."""
        found = (
            m
            for m in self._all()
            if (source is None or m.source_id == source)
            and m.timestamp >= start
            and (stop is None or m.timestamp < stop)
        )
        yield from sorted(found, key=lambda m: (m.timestamp, m.source_id))

    def __iter__(self) -> Iterator[Message]:
        return self.iter()

    def merge(self) -> Iterator[Message]:
        """Yield the messages of all sources in time order."""
        return self.iter()

    def columns(self, source: int) -> Columns:
        """Return all messages of *source* as columns, in time order."""
        messages = list(self.iter(source))
        times = np.array([m.timestamp for m in messages], dtype=np.uint64)
        data = [m.data for m in messages]
        if len({len(d) for d in data}) == 1:
            return Columns(times, np.stack(data))
        return Columns(times, data)

    def verify(self) -> LogReport:
        """Read everything and report what is torn, damaged or missing."""
        report = LogReport()
        sources = set()
        for message in self._all(report):
            report.messages += 1
            sources.add(message.source_id)
        report.sources = sorted(sources)
        return report

    def _all(self, report: LogReport | None = None) -> Iterator[Message]:
        report = LogReport() if report is None else report
        yield from self._segment_messages(report)
        archived: set[str] = set()
        for path in sorted(self.folder.glob("*_log.npz")):
            yield from _archived(path, archived, report)
        for path in sorted(self.folder.glob("**/*.npy")):
            match = _ENTRY.fullmatch(path.name)
            if match and path.stem not in archived:
                try:
                    data = np.load(path, allow_pickle=False)
                except (ValueError, EOFError, OSError) as error:
                    report.damaged.append(f"{path.name}: {error}")
                    continue
                yield Message(int(match[1]), int(match[2]), data)

    def segment_messages(self) -> list[Message]:
        """Return the messages that lie in segments and tails, in time order."""
        return sorted(self._segment_messages(LogReport()), key=lambda m: (m.timestamp, m.source_id))

    def _segment_messages(self, report: LogReport) -> Iterator[Message]:
        for stem, files in sorted(self.writers().items()):
            for frame in writer_frames(stem, files, report):
                yield from messages(frame)

    def writers(self) -> dict[str, list[Path]]:
        """Return the files of each writer: its segments in order, then its tail."""
        found: dict[str, list[Path]] = defaultdict(list)
        for path in sorted(self.folder.glob("*.seg")):
            found[path.name.rsplit(".", 2)[0]].append(path)
        for path in sorted(self.folder.glob("*.tail")):
            found[path.name.rsplit(".", 1)[0]].append(path)
        return found


def writer_frames(stem: str, files: list[Path], report: LogReport) -> Iterator[Frame]:
    """Yield the frames of one writer in order, each once; note in *report* what is not there."""
    last = 0
    for path in files:
        buffer = _mapped(path)
        if buffer is None:
            continue
        frames.check_header(buffer, path.name)
        found = (
            _tail_frames(buffer)
            if path.suffix == ".tail"
            else _segment_frames(path, buffer, report)
        )
        for frame in found:
            if frame.sequence <= last:
                continue  # in the tail: it was appended to the segment before the writer died
            if frame.sequence > last + 1:
                report.gaps.setdefault(stem, []).append((last + 1, frame.sequence - 1))
            last = frame.sequence
            yield frame


def _tail_frames(buffer: memoryview) -> Iterator[Frame]:
    """Yield the newest run of frames; what stands behind it is older and has lower numbers."""
    expected = None
    for frame in frames.frames(buffer):
        if expected is not None and frame.sequence != expected:
            return
        yield frame
        expected = frame.sequence + 1


def _segment_frames(path: Path, buffer: memoryview, report: LogReport) -> Iterator[Frame]:
    at = HEADER_SIZE
    while at < len(buffer):
        frame = frames.frame_at(buffer, at)
        if frame is not None:
            yield frame
            at = frame.end
            continue
        found = _next_frame(buffer, at + 1)
        if found is None:
            report.torn_bytes += len(buffer) - at
            return
        report.damaged.append(f"{path.name}: {found - at} bytes at offset {at}")
        at = found


def _next_frame(buffer: memoryview, start: int) -> int | None:
    """Return the offset of the next valid frame, looking for the bytes of its version field."""
    data = bytes(buffer[start:])
    mark = VERSION.to_bytes(2, "little")
    place = data.find(mark, _VERSION_AT)
    while place >= 0:
        offset = start + place - _VERSION_AT
        if frames.frame_at(buffer, offset) is not None:
            return offset
        place = data.find(mark, place + 1)
    return None


def messages(frame: Frame) -> Iterator[Message]:
    """Yield the messages of a frame: one, or the rows of a block."""
    data = np.frombuffer(frame.payload, dtype=np.uint8)
    if not frame.flags & BLOCK:
        yield Message(frame.source, frame.time, data.copy())
        return
    count, size = BLOCK_HEAD.unpack_from(frame.payload)
    rows_at = BLOCK_HEAD.size + 8 * count
    times = np.frombuffer(frame.payload, "<u8", count, BLOCK_HEAD.size)
    rows = data[rows_at:].reshape(count, size).copy()
    for stamp, row in zip(times.tolist(), rows, strict=True):
        yield Message(frame.source, stamp, row)


def _archived(path: Path, names: set[str], report: LogReport) -> Iterator[Message]:
    try:
        with np.load(path, allow_pickle=False) as archive:
            for name in archive.files:
                match = _ENTRY.fullmatch(name)
                if match:
                    names.add(name)
                    yield Message(int(match[1]), int(match[2]), archive[name])
    except (zipfile.BadZipFile, ValueError, OSError) as error:
        report.damaged.append(f"{path.name}: {error}")


def _mapped(path: Path) -> memoryview | None:
    with path.open("rb") as file:
        if os.fstat(file.fileno()).st_size < HEADER_SIZE:
            return None  # its writer died while it was made
        return memoryview(mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ))
