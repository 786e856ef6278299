"""The format of segments and tail maps; documented for other languages in docs/datalog.md.

A segment file is a 64-byte file header and frames. A frame is a 32-byte header and the payload, all
little-endian, without padding:

    time u64 · sequence u64 · source u8 · flags u8 · version u16 · pid u32 · length u32 · crc u32

The CRC-32 (zlib's polynomial) covers the 28 bytes before it and the payload, so a torn or changed
frame is never taken for a good one. The sequence counts the frames of one writer from 1. A frame
with flag BLOCK holds many messages of one source: count u32, size u32, count times u64, count * size
bytes.

A tail map is the 64-byte file header with the words BUSY and OFFSET, and frames that were not yet
appended to the segment. Behind the newest frame stand older ones; their sequence numbers tell.
"""

from __future__ import annotations

import struct
from dataclasses import dataclass
from typing import TYPE_CHECKING
from zlib import crc32

from ops.datalog.errors import LogFormatError

if TYPE_CHECKING:
    from collections.abc import Iterator

MAGIC = b"OPSDLOG\x01"
VERSION = 1
HEADER_SIZE = 64
FRAME = 32
BLOCK = 1

#: magic, version, pid, time_ns when made, host (16 bytes), boot id (16 bytes)
_FILE = struct.Struct("<8sHHIQ16s16s")
HEAD = struct.Struct("<QQBBHII")
CRC = struct.Struct("<I")
BLOCK_HEAD = struct.Struct("<II")


@dataclass(frozen=True, slots=True)
class Frame:
    """One frame of a file; `payload` is a view into its mapping."""

    time: int
    sequence: int
    source: int
    flags: int
    pid: int
    payload: memoryview
    end: int


def file_header(pid: int, made_ns: int, host: str, boot: bytes) -> bytes:
    """Return the first 64 bytes of a segment or tail map."""
    packed = _FILE.pack(MAGIC, VERSION, 0, pid, made_ns, host.encode()[:16], boot[:16])
    return packed.ljust(HEADER_SIZE, b"\0")


def check_header(buffer: memoryview, source: str) -> None:
    """Raise LogFormatError unless *buffer* begins with a file header that this version reads."""
    if len(buffer) < HEADER_SIZE or bytes(buffer[:8]) != MAGIC:
        raise LogFormatError(f"{source} is no log segment.")
    version = _FILE.unpack_from(buffer)[1]
    if version > VERSION:
        raise LogFormatError(
            f"{source} has format {version}, this ops-datalog reads up to {VERSION}.",
            suggestions=("Upgrade ops-datalog.",),
        )


def head(time: int, sequence: int, source: int, flags: int, pid: int, length: int) -> bytes:
    """Return the first 28 bytes of a frame."""
    return HEAD.pack(time, sequence, source, flags, VERSION, pid, length)


def frames(buffer: memoryview, start: int = HEADER_SIZE) -> Iterator[Frame]:
    """Yield the valid frames from *start* on, up to the first that is torn, damaged or empty."""
    at = start
    while (frame := frame_at(buffer, at)) is not None:
        yield frame
        at = frame.end


def frame_at(buffer: memoryview, at: int) -> Frame | None:
    """Return the frame at offset *at*, None when there is no valid one."""
    if at + FRAME > len(buffer):
        return None
    time, sequence, source, flags, version, pid, length = HEAD.unpack_from(buffer, at)
    end = at + FRAME + length
    if version != VERSION or end > len(buffer):
        return None
    payload = buffer[at + FRAME : end]
    if crc32(payload, crc32(buffer[at : at + 28])) != CRC.unpack_from(buffer, at + 28)[0]:
        return None
    return Frame(time, sequence, source, flags, pid, payload, end)
