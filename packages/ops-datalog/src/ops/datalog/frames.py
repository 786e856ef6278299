"""The format of segments and tail maps; documented for other languages in docs/datalog.md.

A segment file is a 64-byte file header and frames. A frame is a 32-byte header and the payload, all
little-endian, without padding:

    time u64 · sequence u64 · source u8 · flags u8 · version u16 · pid u32 · length u32 · crc u32

The checksum covers the 28 bytes before it and the payload, so a torn or changed frame is never taken
for a good one; which checksum it is stands in the file header (see `checksums`). The sequence counts
the frames of one writer from 1. A frame with flag BLOCK holds many messages of one source: count u32,
size u32, count times u64, count * size bytes. A frame with flag INDEX holds no messages (see `footer`).

A tail map is the 64-byte file header with the words BUSY and OWNER, and frames that were not yet
appended to the segment. Behind the newest frame stand older ones, known by their sequence numbers.
"""

from __future__ import annotations

import struct
import zlib
from typing import TYPE_CHECKING, NamedTuple

import numpy as np

from ops.datalog.errors import LogFormatError

if TYPE_CHECKING:
    from ops.datalog.checksums import Checksum

MAGIC = b"OPSDLOG\x01"
VERSION = 1
HEADER_SIZE = 64
FRAME = 32
BLOCK, INDEX = 1, 2

#: magic, version, checksum, pid, time_ns when made, host (16 bytes), boot id (16 bytes)
_FILE = struct.Struct("<8sHHIQ16s16s")
HEAD = struct.Struct("<QQBBHII")
#: the same 28 bytes as one field, and the checksum
SEALED_HEAD = struct.Struct("<28sI")
BLOCK_HEAD = struct.Struct("<II")
HEAD_DTYPE = np.dtype(
    [
        ("time", "<u8"),
        ("sequence", "<u8"),
        ("source", "u1"),
        ("flags", "u1"),
        ("version", "<u2"),
        ("pid", "<u4"),
        ("length", "<u4"),
        ("crc", "<u4"),
    ]
)


#: Where the checksum (CRC-32) of the first 48 bytes of a file header is; 0 in files that have none.
_HEADER_SUM, _SUMMED = 60, 48


class FileHeader(NamedTuple):
    """What the first 64 bytes of a segment or tail map hold; *damage* is what is wrong, "" if nothing."""

    checksum: int
    pid: int
    made_ns: int
    host: str
    damage: str = ""


class NewerFormatError(LogFormatError):
    """A file header is of a version that this ops-datalog does not know."""


def pack_file_header(checksum: int, pid: int, made_ns: int, host: str, boot: bytes) -> bytes:
    """Return the first 64 bytes of a segment or tail map."""
    packed = _FILE.pack(MAGIC, VERSION, checksum, pid, made_ns, host.encode()[:16], boot[:16])
    summed = zlib.crc32(packed[:_SUMMED]).to_bytes(4, "little")
    return packed.ljust(_HEADER_SUM, b"\0") + summed


def parse_file_header(data: bytes, source: str) -> FileHeader:
    """Read a file header; raises LogFormatError when *source* is no segment that we can read."""
    if len(data) < HEADER_SIZE or data[:8] != MAGIC:
        what = "has an empty header" if not any(data[:HEADER_SIZE]) else "is no log segment"
        raise LogFormatError(f"{source} {what}.")
    _, version, checksum, pid, made_ns, host, _ = _FILE.unpack_from(data)
    summed = int.from_bytes(data[_HEADER_SUM:HEADER_SIZE], "little")
    if not 0 < version <= VERSION:
        raise NewerFormatError(
            f"{source} has format {version}, this ops-datalog reads up to {VERSION}.",
            suggestions=("Upgrade ops-datalog.",),
        )
    damage = "its header is damaged" if summed not in {0, zlib.crc32(data[:_SUMMED])} else ""
    return FileHeader(checksum, pid, made_ns, host.rstrip(b"\0").decode(errors="replace"), damage)


def pack_frame(
    checksum: Checksum, time: int, sequence: int, source: int, flags: int, pid: int, payload: bytes
) -> bytes:
    """Return a whole frame; the writer builds its own in place."""
    head = HEAD.pack(time, sequence, source, flags, VERSION, pid, len(payload))
    return SEALED_HEAD.pack(head, checksum(payload, checksum(head))) + payload


def is_frame(buffer: memoryview, at: int, checksum: Checksum) -> int:
    """Return the end of the valid frame at offset *at*, 0 when there is none."""
    if at + FRAME > len(buffer):
        return 0
    _, _, _, _, version, _, length = HEAD.unpack_from(buffer, at)
    end = at + FRAME + int(length)
    if version != VERSION or end > len(buffer):
        return 0
    found = checksum(buffer[at + FRAME : end], checksum(buffer[at : at + 28]))
    return end if found == int.from_bytes(buffer[at + 28 : at + 32], "little") else 0
