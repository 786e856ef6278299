"""The bytes of a container (`.opsf`): header, table of buffers, stream, aligned raw buffers.

Little-endian throughout; docs/serialize.md has the bytes. The header's checksum covers header, table and
stream, and the table has a checksum of each buffer, so a flipped bit anywhere is found. In a signed
container these checksums are cryptographic digests and the header holds a MAC of header, table and stream,
so that every byte is authenticated. Each buffer starts at the first aligned offset behind the one before
it: there is one way only to lay a container out, and so no bytes that overlap or that nothing covers.
`packing` writes containers, `container` reads them. Version 1, which is still read where it is trusted, had
table entries of 40 bytes.
"""

from __future__ import annotations

import hashlib
import importlib.util
import struct
import zlib
from enum import IntEnum
from typing import Any, NamedTuple

from ops.serialize.errors import CorruptDataError, SerializeError
from ops.serialize.trust import MAC_SIZE

__all__ = [
    "ALIGNMENT",
    "ENTRY",
    "HEADER",
    "MAGIC",
    "NO_MAC",
    "OLD_VERSION",
    "SIGNED",
    "TABLE_ENTRY",
    "VERSION",
    "Entry",
    "Sum",
    "best_algorithm",
    "checksum",
    "digest_of",
    "head_checksum",
    "unpack_entry",
]

MAGIC = b"\x89OPSF\r\n\x1a"
VERSION = 2
OLD_VERSION = 1
HEADER = struct.Struct("<8sBBBBIQQ16sQ8s")
ENTRY = struct.Struct("<QQQQBBB5x")  # of version 1
TABLE_ENTRY = struct.Struct("<QQQBBB5x32s")
ALIGNMENT = 64
SIGNED = 1
NO_MAC = bytes(MAC_SIZE)


class Entry(NamedTuple):
    """One buffer: where it is, how large stored and raw, its digest and how it was encoded."""

    offset: int
    stored: int
    raw: int
    codec: int
    itemsize: int
    algorithm: int
    digest: bytes


def unpack_entry(version: int, fields: tuple[Any, ...]) -> Entry:
    """Return the entry of these *fields* of the table, as *version* of the format has them."""
    if version != OLD_VERSION:
        return Entry._make(fields)
    offset, stored, raw, number, codec, itemsize, algorithm = fields
    return Entry(offset, stored, raw, codec, itemsize, algorithm, _padded(number))


def head_checksum(*parts: Any) -> bytes:
    """Return the checksum of the parts that are always read."""
    hasher = hashlib.blake2b(digest_size=8)
    for part in parts:
        hasher.update(part)
    return hasher.digest()


class Sum(IntEnum):
    """The algorithms of the digests of buffers; those from `BLAKE2B` on are cryptographic."""

    CRC32 = 1
    XXH3_64 = 2
    BLAKE2B = 3
    BLAKE3 = 4


def digest_of(data: Any, algorithm: int) -> bytes:
    """Return the digest of *data* in 32 bytes; raises `CorruptDataError` for unknown algorithms."""
    if algorithm == Sum.BLAKE2B:
        return hashlib.blake2b(data, digest_size=32).digest()
    if algorithm == Sum.BLAKE3:
        try:
            import blake3
        except ModuleNotFoundError as error:
            raise _missing("blake3") from error
        hasher: Any = blake3.blake3(max_threads=blake3.blake3.AUTO)
        return bytes(hasher.update(data).digest())
    return _padded(checksum(data, algorithm)[1])


def best_algorithm(*, signed: bool) -> Sum:
    """Return the fastest algorithm that is installed and strong enough."""
    if signed:
        return Sum.BLAKE3 if importlib.util.find_spec("blake3") else Sum.BLAKE2B
    return Sum.XXH3_64 if importlib.util.find_spec("xxhash") else Sum.CRC32


def _missing(module: str) -> SerializeError:
    return SerializeError(
        f"The digests of this data need {module!r}, which is not installed.",
        suggestions=('Install it with: pip install "ops-serialize[hash]"',),
    )


def _padded(number: int) -> bytes:
    return number.to_bytes(32, "little")


def checksum(data: Any, algorithm: int | None = None) -> tuple[int, int]:
    """Return the algorithm's number and the checksum; xxh3 where installed, else CRC-32."""
    if algorithm in {None, Sum.XXH3_64}:
        try:
            import xxhash
        except ModuleNotFoundError as error:
            if algorithm is not None:
                raise _missing("xxhash") from error
        else:
            return Sum.XXH3_64, xxhash.xxh3_64_intdigest(data)
    if algorithm in {None, Sum.CRC32}:
        return Sum.CRC32, zlib.crc32(data)
    raise CorruptDataError(f"The checksum algorithm {algorithm} is unknown.")
