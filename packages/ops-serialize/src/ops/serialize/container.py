"""Reading containers: everything is verified before it is used.

The small parts (header, table, stream) always, the buffers on every load except a memory-mapped
one, where reading them all is what the caller asked to avoid (`mmap=`, as in `numpy.load`; or
`verify=True`). A load maps the file privately and hands out views of the map. See `layout` for the
bytes.
"""

from __future__ import annotations

import dataclasses
import hmac
import mmap as _mmap
import os
from typing import TYPE_CHECKING, Any, Literal, TypeAlias

from ops.serialize.codecs import Codec, decode, spread, unshuffle
from ops.serialize.errors import (
    CorruptDataError,
    FutureVersionError,
    SignatureError,
    TooLargeError,
)
from ops.serialize.layout import (
    ENTRY,
    HEADER,
    MAGIC,
    NO_MAC,
    SIGNED,
    VERSION,
    Entry,
    checksum,
    head_checksum,
)
from ops.serialize.trust import unpickle

if TYPE_CHECKING:
    from ops.foundation.files import StrPath
    from ops.serialize.trust import Signed, Trust

__all__ = ["Contents", "Mmap", "open_container", "read_frame"]

Mmap: TypeAlias = Literal["r", "c"]


@dataclasses.dataclass(frozen=True, slots=True)
class Contents:
    """A container whose header, table and stream have been verified."""

    format: int
    version: int
    codec: Codec
    signed: bool
    stream: memoryview
    entries: tuple[Entry, ...]
    data: memoryview
    checksum: str


def open_container(
    source: Any,
    *,
    mmap: Mmap | None = None,
    key: Signed | None = None,
    verify: bool = True,
    max_size: int | None = None,
) -> Contents:
    """Verify the container in *source* (a path or a buffer) and return its parts.

    *verify* extends the check to the buffers. Raises `CorruptDataError`, `FutureVersionError`,
    `TooLargeError` before anything beyond *max_size* bytes is unpacked, or `SignatureError` when
    *key* is given and the signature is missing or wrong.
    """
    if isinstance(source, str | os.PathLike):
        data = _map_file(source, mmap)
    else:
        data = memoryview(source).cast("B")
    contents = _open(data, key, max_size)
    if verify:
        _verify_buffers(contents)
    return contents


def _map_file(path: StrPath, mmap: Mmap | None) -> memoryview:
    access = _mmap.ACCESS_READ if mmap == "r" else _mmap.ACCESS_COPY
    descriptor = os.open(
        path, os.O_RDONLY | getattr(os, "O_BINARY", 0) | getattr(os, "O_CLOEXEC", 0)
    )
    try:
        if not os.fstat(descriptor).st_size:
            raise CorruptDataError(f"{os.fspath(path)} is empty.")
        return memoryview(_mmap.mmap(descriptor, 0, access=access))
    finally:
        os.close(descriptor)


def _open(data: memoryview, key: Signed | None, max_size: int | None) -> Contents:
    if data.nbytes < HEADER.size:
        raise CorruptDataError(f"{data.nbytes} bytes are too few for a container.")
    head = HEADER.unpack_from(data)
    magic, version, format_id, codec, flags, count, stored, raw, mac, total, expected = head
    if magic != MAGIC:
        raise CorruptDataError("The data does not start like a container of ops-serialize.")
    table_end = HEADER.size + count * ENTRY.size
    end = table_end + stored
    if total != data.nbytes or end > data.nbytes:
        if version > VERSION:
            raise _future(version)
        raise CorruptDataError(f"The container has {data.nbytes} bytes where {total} were written.")
    table, stream = data[HEADER.size : table_end], data[table_end:end]
    if head_checksum(data[: HEADER.size - 8], table, stream) != expected:
        raise CorruptDataError("The checksum of header, table and stream is wrong.")
    if version > VERSION:
        raise _future(version)
    if key is not None:
        zeroed = HEADER.pack(*head[:8], NO_MAC, total, bytes(8))
        if not flags & SIGNED or not hmac.compare_digest(key.mac(zeroed, table, stream), mac):
            raise SignatureError("The data was not signed with this key.")
    entries = tuple(map(Entry._make, ENTRY.iter_unpack(table)))
    unpacked = raw + sum(entry.raw for entry in entries)
    if max_size is not None and unpacked > max_size:
        raise TooLargeError(
            f"The data unpacks to {unpacked} bytes, and max_size allows {max_size}.",
            suggestions=("Raise max_size if you know where the data comes from.",),
        )
    return Contents(
        format=format_id,
        version=version,
        codec=_codec(codec),
        signed=bool(flags & SIGNED),
        stream=decode(stream, _codec(codec), raw),
        entries=entries,
        data=data,
        checksum=expected.hex(),
    )


def _future(version: int) -> FutureVersionError:
    return FutureVersionError(
        f"The container has format version {version}; this ops-serialize reads up to {VERSION}.",
        suggestions=("Upgrade ops-serialize.",),
    )


def _codec(number: int) -> Codec:
    try:
        return Codec(number)
    except ValueError:
        raise CorruptDataError(f"The codec number {number} is unknown.") from None


def _verify_buffers(contents: Contents) -> None:
    """Check every buffer's checksum, and that what lies between buffers is zero."""
    data, count = contents.data, len(contents.entries)
    stored = HEADER.unpack_from(data)[6]
    end = HEADER.size + count * ENTRY.size + stored
    for number, entry in enumerate(contents.entries):
        gap = data[end : entry.offset]
        end = entry.offset + entry.stored
        if end > data.nbytes or any(gap):
            raise CorruptDataError(f"Buffer {number} is not where the table says.")
        found = checksum(data[entry.offset : end], entry.algorithm)[1]
        if found != entry.checksum:
            raise CorruptDataError(f"The checksum of buffer {number} is wrong.")
    if end != data.nbytes:
        raise CorruptDataError("There are bytes behind the last buffer.")


def read_frame(contents: Contents, trust: Trust, *, copy: bool) -> Any:
    """Rebuild the object of a FRAME; *copy* gives it writable memory of its own."""

    def buffer(entry: Entry) -> Any:
        data = contents.data[entry.offset : entry.offset + entry.stored]
        if not entry.codec:
            return bytearray(data) if copy else data
        raw = decode(data, _codec(entry.codec), entry.raw)
        if entry.itemsize:
            return unshuffle(raw, entry.itemsize)
        return bytearray(raw) if raw.readonly else raw

    parallel = any(entry.codec for entry in contents.entries)
    buffers = spread(buffer, contents.entries, parallel=parallel)
    return unpickle(contents.stream, buffers, trust)
