"""The bytes of a FRAME container (`.opsf`): header, buffer table, pickle-5 stream, aligned raw buffers.

Little-endian throughout; docs/serialize.md has the bytes. The header's checksum covers header,
table and stream, and the table has a checksum of each buffer, so a flipped bit anywhere is found.
`packing` writes containers, `container` reads them.
"""

from __future__ import annotations

import hashlib
import struct
import zlib
from enum import IntEnum
from typing import Any, NamedTuple

from ops.foundation.errors import MissingExtraError
from ops.serialize.errors import CorruptDataError
from ops.serialize.trust import MAC_SIZE

__all__ = [
    "ALIGNMENT",
    "ENTRY",
    "HEADER",
    "MAGIC",
    "NO_MAC",
    "SIGNED",
    "VERSION",
    "Entry",
    "checksum",
    "head_checksum",
]

MAGIC = b"\x89OPSF\r\n\x1a"
VERSION = 1
HEADER = struct.Struct("<8sBBBBIQQ16sQ8s")
ENTRY = struct.Struct("<QQQQBBB5x")
ALIGNMENT = 64
SIGNED = 1
NO_MAC = bytes(MAC_SIZE)


class Entry(NamedTuple):
    """One buffer: where it is, how large stored and raw, its checksum and how it was encoded."""

    offset: int
    stored: int
    raw: int
    checksum: int
    codec: int
    itemsize: int
    algorithm: int


def head_checksum(*parts: Any) -> bytes:
    """Return the checksum of the parts that are always read."""
    hasher = hashlib.blake2b(digest_size=8)
    for part in parts:
        hasher.update(part)
    return hasher.digest()


class _Sum(IntEnum):
    CRC32 = 1
    XXH3_64 = 2


def checksum(data: Any, algorithm: int | None = None) -> tuple[int, int]:
    """Return the algorithm's number and the checksum; xxh3 where installed, else CRC-32."""
    if algorithm in {None, _Sum.XXH3_64}:
        try:
            import xxhash
        except ModuleNotFoundError as error:
            if algorithm is not None:
                raise MissingExtraError("xxhash", "ops-serialize[hash]") from error
        else:
            return _Sum.XXH3_64, xxhash.xxh3_64_intdigest(data)
    if algorithm in {None, _Sum.CRC32}:
        return _Sum.CRC32, zlib.crc32(data)
    raise CorruptDataError(f"The checksum algorithm {algorithm} is unknown.")
