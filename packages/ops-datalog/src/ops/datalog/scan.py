"""Finding the frames of a segment, in bulk and whatever has happened to it.

Frames of equal length, which is what most producers write, are found and checked by NumPy for whole
runs; others are walked one by one. The unit of everything that reads is the chunk: consecutive frames
of one writer, about 256 KB of them, without a gap in their sequence. A chunk knows its times, its
sources and a checksum over all its bytes, so that who reads it later need not check every frame.

After bytes that are no valid frame the next valid one is searched for: damage in the middle costs what
it hit. What lies behind the last valid frame is a torn end, as a killed writer leaves it. Nor does a file
header that is damaged cost the frames behind it: which checksum they have is found by trying.
"""

from __future__ import annotations

import contextlib
import os
import struct
from dataclasses import dataclass, field
from itertools import pairwise
from typing import TYPE_CHECKING, NamedTuple
from zlib import crc32

import numpy as np

from ops.datalog.checksums import checksum_of
from ops.datalog.errors import LogFormatError
from ops.datalog.frames import (
    BLOCK,
    BLOCK_HEAD,
    FRAME,
    HEAD_DTYPE,
    HEADER_SIZE,
    INDEX,
    VERSION,
    NewerFormatError,
    is_frame,
    parse_file_header,
)
from ops.foundation.errors import MissingExtraError

if TYPE_CHECKING:
    from collections.abc import Iterator

    from ops.datalog.checksums import Checksum

CHUNK_BYTES = 256 * 1024
WINDOW_BYTES = 4 << 20
CHUNK = np.dtype(
    [
        ("offset", "<u8"),
        ("size", "<u8"),
        ("sequence", "<u8"),
        ("first", "<u8"),
        ("last", "<u8"),
        ("frames", "<u4"),
        ("messages", "<u4"),
        ("sources", "u1", 32),
        ("crc", "<u4"),
        ("reserved", "<u4"),
    ]
)
_FLAGS_AT, _VERSION_AT = 17, 18  # of a frame
_version_and_length = struct.Struct("<HII").unpack_from
_RUN = 16  # frames of one length, from which on NumPy is worth it
_PATIENCE = 64  # frames to walk after a run was looked for in vain
_ROW_LIMIT = 4096  # bytes of a frame, up to which frames are checked as rows of one array


class Frames(NamedTuple):
    """Frames in `data`, which begins at offset `base` of the file; `starts` count from there."""

    base: int
    data: bytes
    starts: np.ndarray
    heads: np.ndarray

    @property
    def size(self) -> int:
        """Bytes from the beginning of the data to the end of the last frame."""
        return (
            int(self.starts[-1]) + FRAME + int(self.heads["length"][-1]) if len(self.starts) else 0
        )


@dataclass(slots=True)
class Scan:
    """What was found in one file; `header` is what is wrong with its header, "" if nothing."""

    chunks: np.ndarray = field(default_factory=lambda: np.empty(0, CHUNK))
    torn_bytes: int = 0
    damaged: list[tuple[int, int]] = field(default_factory=list)  # (offset, bytes)
    header: str = ""
    is_newer: bool = False
    checksum: Checksum = crc32

    def damage(self) -> list[str]:
        """Return what is damaged as texts."""
        found = [f"{size} bytes at offset {at}" for at, size in self.damaged]
        return [self.header, *found] if self.header else found


class Header(NamedTuple):
    """What is known of a file before its frames are read; *damage* as in `Scan.header`."""

    checksum: Checksum
    damage: str = ""
    is_newer: bool = False


def header_of(fd: int, size: int, name: str) -> Header:
    """Read the header of a segment or tail of *size* bytes, and find out what it should say if it is damaged.

    Raises MissingExtraError when the frames have a checksum that is not installed.
    """
    data = os.pread(fd, HEADER_SIZE, 0)
    try:
        header = parse_file_header(data, name)
        checksum = checksum_of(header.checksum, name)
    except (LogFormatError, MissingExtraError) as error:
        found = _fitting_checksum(fd, size, name)
        if found is None:
            if isinstance(error, MissingExtraError):
                raise
            return Header(crc32, str(error), isinstance(error, NewerFormatError))
        return Header(found, str(error))
    return Header(checksum, header.damage)


def other_header(fd: int, size: int, name: str, header: Header) -> Header | None:
    """Return the header of a file without valid frames as it should be, if another checksum fits them."""
    if size < HEADER_SIZE + FRAME:
        return None
    found = _fitting_checksum(fd, size, name)
    if found is None or found is header.checksum:
        return None
    return Header(found, "its header names another checksum than its frames have")


def _fitting_checksum(fd: int, size: int, name: str) -> Checksum | None:
    """Return the checksum of the first valid frame, None when there is no frame."""
    for number in (0, 1):
        with contextlib.suppress(MissingExtraError):
            checksum = checksum_of(number, name)
            if _next_frame(fd, HEADER_SIZE, size, checksum) is not None:
                return checksum
    return None


def scan(fd: int, size: int, name: str, header: Header, start: int = HEADER_SIZE) -> Scan:
    """Check every frame from offset *start* on in the first *size* bytes of a segment."""
    checksum = header.checksum
    result = Scan(header=header.damage, is_newer=header.is_newer, checksum=checksum)
    parts = [
        chunks_of(found, checksum) for found in valid_frames(fd, start, size, checksum, result)
    ]
    if parts:
        result.chunks = np.concatenate(parts)
    elif start == HEADER_SIZE:
        other = other_header(fd, size, name, header)
        if other is not None:
            return scan(fd, size, name, other)
    return result


def valid_frames(
    fd: int, start: int, size: int, checksum: Checksum, result: Scan
) -> Iterator[Frames]:
    """Yield the valid frames between *start* and *size*; note in *result* what is none."""
    at = start
    while at < size:
        found = checked_frames(at, _window(fd, at, size), checksum)
        if len(found.starts):
            yield found
            at += found.size
            continue
        offset = _next_frame(fd, at + 1, size, checksum)
        if offset is None:
            result.torn_bytes += size - at
            return
        result.damaged.append((at, offset - at))
        at = offset


def checked_frames(base: int, data: bytes, checksum: Checksum) -> Frames:
    """Return the valid frames that *data* begins with."""
    found = frames_in(base, data)
    good = _count_good(found, checksum)
    return found._replace(starts=found.starts[:good], heads=found.heads[:good])


def frames_in(base: int, data: bytes) -> Frames:
    """Return the frames that *data* begins with by their lengths alone; nothing is checked."""
    starts = _walk(data)
    return Frames(base, data, starts, _heads(data, starts))


def chunks_of(found: Frames, checksum: Checksum) -> np.ndarray:
    """Return the rows of CHUNK that describe *found*."""
    sequences = found.heads["sequence"]
    is_message = found.heads["flags"] & INDEX == 0
    breaks = np.flatnonzero(
        (sequences[1:] != sequences[:-1] + np.uint64(1)) | (is_message[1:] != is_message[:-1])
    )
    edges = [0, *(breaks + 1).tolist(), len(sequences)]
    rows = [
        _chunk(found, first, last, checksum)
        for lower, upper in pairwise(edges)
        if upper > lower and is_message[lower]
        for first, last in _cut(found, lower, upper)
    ]
    return np.array(rows, dtype=CHUNK)


class Table(NamedTuple):
    """Messages: when, who, and where in the data of their frames."""

    times: np.ndarray
    sources: np.ndarray
    starts: np.ndarray
    lengths: np.ndarray


def messages_of(found: Frames) -> Table:
    """Return the messages of *found* in order: one of a frame, or the rows of a block."""
    heads, starts = found.heads, found.starts + FRAME
    flags = heads["flags"]
    if not flags.any():
        return Table(heads["time"], heads["source"], starts, heads["length"].astype(np.int64))
    parts: list[tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray]] = []
    for head, start in zip(heads, starts.tolist(), strict=True):
        if head["flags"] & BLOCK:
            count, size = BLOCK_HEAD.unpack_from(found.data, start)
            rows = start + BLOCK_HEAD.size + 8 * count
            times = np.frombuffer(found.data, "<u8", count, start + BLOCK_HEAD.size)
            offsets = rows + size * np.arange(count, dtype=np.int64)
            parts.append((times, np.full(count, head["source"]), offsets, np.full(count, size)))
        elif not head["flags"] & INDEX:
            time, who, size = head["time"], head["source"], head["length"]
            parts.append((np.array([time]), np.array([who]), np.array([start]), np.array([size])))
    if not parts:
        return Table(*(np.empty(0, kind) for kind in ("u8", "u1", "i8", "i8")))
    return Table(*map(np.concatenate, zip(*parts, strict=True)))


def _cut(found: Frames, first: int, last: int) -> Iterator[tuple[int, int]]:
    """Cut frames into stretches of about CHUNK_BYTES."""
    while first < last:
        limit = found.starts[first] + CHUNK_BYTES
        end = max(first + 1, int(np.searchsorted(found.starts[:last], limit)))
        yield first, end
        first = end


def _chunk(found: Frames, first: int, last: int, checksum: Checksum) -> tuple[object, ...]:
    part = found._replace(starts=found.starts[first:last], heads=found.heads[first:last])
    begin, end = int(part.starts[0]), part.size
    times, sources, _, _ = messages_of(part)
    present = np.zeros(256, np.uint8)
    present[sources] = 1
    return (
        found.base + begin,
        end - begin,
        part.heads["sequence"][0],
        times.min() if len(times) else 0,
        times.max() if len(times) else 0,
        last - first,
        len(times),
        np.packbits(present, bitorder="little"),
        checksum(found.data[begin:end]),
        0,
    )


def _walk(data: bytes) -> np.ndarray:
    """Return where frames start, each where the one before ends."""
    size, at, patience = len(data), 0, 0
    parts: list[np.ndarray] = []
    single: list[int] = []
    while at + FRAME <= size:
        version, _, length = _version_and_length(data, at + _VERSION_AT)
        stride = FRAME + length
        if version != VERSION or at + stride > size:
            break
        if patience == 0:
            count = _run_length(data, at, stride, length)
            if count >= _RUN:
                parts += [np.array(single, np.int64), at + stride * np.arange(count)]
                single = []
                at += stride * count
                continue
            patience = _PATIENCE
        patience -= 1
        single.append(at)
        at += stride
    return np.concatenate([*parts, np.array(single, np.int64)])


def _run_length(data: bytes, at: int, stride: int, length: int) -> int:
    """Return how many frames from *at* on have the same length."""
    most = (len(data) - at) // stride
    for count in (min(most, _RUN), most):
        heads = np.ndarray((count,), HEAD_DTYPE, data, at, (stride,))
        same = (heads["length"] == length) & (heads["version"] == VERSION)
        if not same.all():
            return int(same.argmin())
    return most


def _heads(data: bytes, starts: np.ndarray) -> np.ndarray:
    stride = even_stride(starts)
    if stride:
        return np.ndarray((len(starts),), HEAD_DTYPE, data, int(starts[0]), (stride,)).copy()
    offsets = starts[:, None] + np.arange(FRAME)
    return np.frombuffer(data, np.uint8)[offsets].view(HEAD_DTYPE).reshape(len(starts))


def even_stride(starts: np.ndarray) -> int:
    """Return the distance between all neighbours, 0 when it differs or there are none."""
    if len(starts) < 2:
        return 0
    stride = int(starts[1] - starts[0])
    return stride if (starts[1:] - starts[:-1] == stride).all() else 0


def _count_good(found: Frames, checksum: Checksum) -> int:
    """Return how many frames there are before the first whose checksum is wrong."""
    lengths = found.heads["length"]
    stride = even_stride(found.starts)
    # The distance does not bound the length of the last one.
    if 0 < stride <= _ROW_LIMIT and lengths[-1] == lengths[0]:
        good = _sums_of_rows(found, stride, checksum) == found.heads["crc"]
        return len(good) if good.all() else int(good.argmin())
    view = memoryview(found.data)
    columns = (found.starts, lengths, found.heads["crc"])
    for number, (at, length, crc) in enumerate(
        zip(*(column.tolist() for column in columns), strict=True)
    ):
        payload = view[at + FRAME : at + FRAME + length]
        if checksum(payload, checksum(view[at : at + 28])) != crc:
            return number
    return len(found.starts)


def _sums_of_rows(found: Frames, stride: int, checksum: Checksum) -> np.ndarray:
    count = len(found.starts)
    rows = np.ndarray((count, stride), np.uint8, found.data, int(found.starts[0]), (stride, 1))
    covered = np.empty((count, stride - 4), np.uint8)
    covered[:, :28], covered[:, 28:] = rows[:, :28], rows[:, 32:]
    # As void scalars the rows become bytes objects in one call, which is what checksums like best.
    texts = covered.view(f"V{stride - 4}").ravel().tolist()
    return np.fromiter(map(checksum, texts), np.uint32, count)


def _window(fd: int, at: int, size: int) -> bytes:
    """Read from *at* on, at least the whole frame that seems to start there."""
    data = read_at(fd, min(WINDOW_BYTES, size - at), at)
    if len(data) >= FRAME:
        version, _, length = _version_and_length(data, _VERSION_AT)
        if version == VERSION and len(data) < FRAME + length <= size - at:
            return read_at(fd, FRAME + length, at)
    return data


def read_at(fd: int, size: int, at: int) -> bytes:
    """Read *size* bytes, fewer only at the end of the file; one pread(2) ends at 2 GB."""
    data = os.pread(fd, size, at)
    if len(data) < size:
        parts = [data]
        while parts[-1] and sum(map(len, parts)) < size:
            done = sum(map(len, parts))
            parts.append(os.pread(fd, size - done, at + done))
        data = b"".join(parts)
    return data


def _next_frame(fd: int, start: int, size: int, checksum: Checksum) -> int | None:
    """Return the offset of the next valid frame, looking for the bytes of its version field."""
    mark = VERSION.to_bytes(2, "little")
    while start + FRAME <= size:
        data = os.pread(fd, min(WINDOW_BYTES, size - start), start)
        found = data.find(mark, _VERSION_AT)
        while 0 <= found <= len(data) - (FRAME - _VERSION_AT):
            at = found - _VERSION_AT
            if _is_frame_at(fd, data, at, start, size, checksum):
                return start + at
            found = data.find(mark, found + 1)
        # A frame may straddle the end of what was searched.
        start += max(1, len(data) - FRAME)
    return None


def _is_frame_at(fd: int, data: bytes, at: int, base: int, size: int, checksum: Checksum) -> bool:
    flags, length = data[at + _FLAGS_AT], _version_and_length(data, at + _VERSION_AT)[2]
    end = at + FRAME + length
    if flags > BLOCK | INDEX or base + end > size:
        return False
    frame = data[at:end] if end <= len(data) else read_at(fd, FRAME + length, base + at)
    return bool(is_frame(memoryview(frame), 0, checksum))
