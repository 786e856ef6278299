"""The FRAME container (`.opsf`): header, buffer table, pickle-5 stream, aligned raw buffers.

Little-endian throughout; docs/serialize.md has the bytes. The header's checksum covers header,
table and stream, and the table has a checksum of each buffer, so a flipped bit anywhere is found:
the small parts always before use, the buffers on every load except a memory-mapped one, where
reading them all is what the caller asked to avoid (`mmap=`, as in `numpy.load`; or `verify=True`).

Saving gathers views of the caller's memory and writes them in order, so nothing is copied; loading
maps the file privately and hands out views of the map.
"""

from __future__ import annotations

import dataclasses
import hashlib
import hmac
import importlib.util
import mmap as _mmap
import os
import pickle
import struct
import zlib
from concurrent.futures import ThreadPoolExecutor
from enum import IntEnum
from typing import TYPE_CHECKING, Any, Literal, NamedTuple, TypeAlias

from ops.foundation.errors import MissingExtraError
from ops.foundation.files import atomic_write
from ops.serialize.codecs import (
    PROBE,
    WORTH,
    Codec,
    decode,
    encode,
    is_worth_compressing,
    resolve_codec,
    shuffle,
    unshuffle,
)
from ops.serialize.errors import (
    CorruptDataError,
    FutureVersionError,
    SignatureError,
    TooLargeError,
)
from ops.serialize.trust import MAC_SIZE, unpickle

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Sequence

    from ops.foundation.files import Durability, StrPath
    from ops.serialize.codecs import (
        Compression,
    )
    from ops.serialize.trust import Signed, Trust

__all__ = ["Contents", "Mmap", "Packed", "open_container", "pack", "pickle_parts", "read_frame"]

MAGIC = b"\x89OPSF\r\n\x1a"
VERSION = 1
HEADER = struct.Struct("<8sBBBBIQQ16sQ8s")
ENTRY = struct.Struct("<QQQQBBB5x")
ALIGNMENT = 64
INLINE = 2048
STREAM_THRESHOLD = 256
_SIGNED = 1
_NO_MAC = bytes(MAC_SIZE)

Mmap: TypeAlias = Literal["r", "c"]


class _Sum(IntEnum):
    CRC32 = 1
    XXH3_64 = 2


class Entry(NamedTuple):
    """One buffer: where it is, how large stored and raw, its checksum and how it was encoded."""

    offset: int
    stored: int
    raw: int
    checksum: int
    codec: int
    itemsize: int
    algorithm: int


@dataclasses.dataclass(frozen=True, slots=True)
class Packed:
    """A container ready to be written: *parts* in order, their total and uncompressed sizes."""

    parts: Sequence[Any]
    size: int
    original_size: int
    codec: Codec
    checksum: str

    def write(self, path: StrPath, *, durable: Durability = "file") -> None:
        """Write the parts to *path*, whole or not at all; *durable* as in `atomic_write`."""
        with atomic_write(path, "wb", durable=durable) as file:
            file.flush()
            _write_all(file.fileno(), self.parts)

    def tobytes(self) -> bytes:
        """Return the parts as one bytes object."""
        return b"".join(self.parts)


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


def pickle_parts(obj: Any) -> tuple[bytes, list[tuple[memoryview, int]]]:
    """Return the pickle-5 stream of *obj* and its large buffers with their item sizes."""
    buffers: list[tuple[memoryview, int]] = []

    def keep_in_band(buffer: pickle.PickleBuffer) -> bool:
        try:
            raw = buffer.raw()
        except BufferError:  # not contiguous
            return True
        if raw.nbytes < INLINE:
            return True
        buffers.append((raw, memoryview(buffer).itemsize))
        return False

    try:
        stream = pickle.dumps(obj, 5, buffer_callback=keep_in_band)
    except (pickle.PicklingError, AttributeError, TypeError) as error:
        from ops.serialize.errors import UnsupportedTypeError

        raise UnsupportedTypeError(
            f"A {type(obj).__module__}.{type(obj).__qualname__} cannot be pickled: {error}"
        ) from error
    return stream, buffers


def pack(
    stream: Any,
    buffers: Sequence[tuple[memoryview, int]] = (),
    *,
    format_id: int,
    compression: Compression | None = None,
    key: Signed | None = None,
) -> Packed:
    """Lay out a container around *stream* and *buffers*; nothing large is copied unless compressed."""
    codec = resolve_codec(compression)
    raw_size = memoryview(stream).nbytes
    stored, stream_codec = _encode_stream(stream, codec)
    encoded = _map(
        lambda item: _encode_buffer(item[0], item[1], codec), buffers, parallel=bool(codec)
    )
    position = HEADER.size + ENTRY.size * len(encoded) + memoryview(stored).nbytes
    table, tail = [], []
    for (data, used, itemsize), (raw, _) in zip(encoded, buffers, strict=True):
        gap = -position % ALIGNMENT
        tail += [bytes(gap), data]
        position += gap
        algorithm, checksum = _checksum(data)
        table.append(
            ENTRY.pack(position, data.nbytes, raw.nbytes, checksum, used, itemsize, algorithm)
        )
        position += data.nbytes
    head = _seal(
        (MAGIC, VERSION, format_id, stream_codec, _SIGNED if key else 0, len(table)),
        (memoryview(stored).nbytes, raw_size),
        position,
        (b"".join(table), stored),
        key,
    )
    return Packed(
        parts=[head, *table, stored, *tail],
        size=position,
        original_size=raw_size + sum(raw.nbytes for raw, _ in buffers),
        codec=max([Codec(stream_codec), *(Codec(used) for _, used, _ in encoded)]),
        checksum=head[-8:].hex(),
    )


def _seal(
    front: tuple[Any, ...],
    sizes: tuple[int, int],
    total: int,
    body: tuple[Any, ...],
    key: Signed | None,
) -> bytes:
    mac = _NO_MAC
    if key is not None:
        mac = key.mac(HEADER.pack(*front, *sizes, _NO_MAC, total, bytes(8)), *body)
    unsealed = HEADER.pack(*front, *sizes, mac, total, bytes(8))
    return unsealed[:-8] + _head_checksum(unsealed[:-8], *body)


def _head_checksum(*parts: Any) -> bytes:
    hasher = hashlib.blake2b(digest_size=8)
    for part in parts:
        hasher.update(part)
    return hasher.digest()


def _encode_stream(stream: Any, codec: Codec) -> tuple[Any, int]:
    if codec and memoryview(stream).nbytes > STREAM_THRESHOLD:
        small = encode(stream, codec)
        if small.nbytes < memoryview(stream).nbytes:
            return small, codec
    return stream, Codec.NONE


def _encode_buffer(raw: memoryview, itemsize: int, codec: Codec) -> tuple[memoryview, int, int]:
    """Return the stored bytes, the codec used and the item size of the shuffle (0: none)."""
    if not codec:
        return raw, Codec.NONE, 0
    width = itemsize if codec is Codec.ZSTD and 1 < itemsize <= 16 and _has_numpy() else 0
    if raw.nbytes % max(width, 1):
        width = 0
    if raw.nbytes > PROBE:  # else compressing it is the probe
        probe = raw[: PROBE - PROBE % max(width, 1)]
        if not is_worth_compressing(shuffle(probe, width) if width else probe, codec):
            return raw, Codec.NONE, 0
    small = encode(shuffle(raw, width) if width else raw, codec)
    return (small, codec, width) if small.nbytes < WORTH * raw.nbytes else (raw, Codec.NONE, 0)


def _has_numpy() -> bool:
    return importlib.util.find_spec("numpy") is not None


def _map(call: Callable[[Any], Any], items: Iterable[Any], *, parallel: bool) -> list[Any]:
    items = list(items)
    if not parallel or len(items) < 2:
        return [call(item) for item in items]
    with ThreadPoolExecutor(min(len(items), os.cpu_count() or 1)) as pool:
        return list(pool.map(call, items))


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
    magic, version, format_id, codec, flags, count, stored, raw, mac, total, checksum = head
    if magic != MAGIC:
        raise CorruptDataError("The data does not start like a container of ops-serialize.")
    table_end = HEADER.size + count * ENTRY.size
    end = table_end + stored
    if total != data.nbytes or end > data.nbytes:
        if version > VERSION:
            raise _future(version)
        raise CorruptDataError(f"The container has {data.nbytes} bytes where {total} were written.")
    table, stream = data[HEADER.size : table_end], data[table_end:end]
    if _head_checksum(data[: HEADER.size - 8], table, stream) != checksum:
        raise CorruptDataError("The checksum of header, table and stream is wrong.")
    if version > VERSION:
        raise _future(version)
    if key is not None:
        zeroed = HEADER.pack(*head[:8], _NO_MAC, total, bytes(8))
        if not flags & _SIGNED or not hmac.compare_digest(key.mac(zeroed, table, stream), mac):
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
        signed=bool(flags & _SIGNED),
        stream=decode(stream, _codec(codec), raw),
        entries=entries,
        data=data,
        checksum=checksum.hex(),
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
        found = _checksum(data[entry.offset : end], entry.algorithm)[1]
        if found != entry.checksum:
            raise CorruptDataError(f"The checksum of buffer {number} is wrong.")
    if end != data.nbytes:
        raise CorruptDataError("There are bytes behind the last buffer.")


def _checksum(data: Any, algorithm: int | None = None) -> tuple[int, int]:
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
    buffers = _map(buffer, contents.entries, parallel=parallel)
    return unpickle(contents.stream, buffers, trust)


def _write_all(descriptor: int, parts: Iterable[Any]) -> None:
    views = [view for part in parts if (view := memoryview(part).cast("B")).nbytes]
    if not hasattr(os, "writev"):  # Windows
        for view in views:
            while view:
                view = view[os.write(descriptor, view[: 1 << 30]) :]  # noqa: PLW2901
        return
    for start in range(0, len(views), 512):
        batch = views[start : start + 512]
        while batch:
            written = os.writev(descriptor, batch)
            while batch and written >= batch[0].nbytes:
                written -= batch.pop(0).nbytes
            if written:
                batch[0] = batch[0][written:]
