"""Writing containers: views of the caller's memory, in order, so nothing large is copied.

Only what a codec makes smaller is new memory. See `layout` for the bytes.
"""

from __future__ import annotations

import dataclasses
import importlib.util
import os
import pickle
from typing import TYPE_CHECKING, Any

from ops.foundation.files import atomic_write
from ops.serialize.codecs import (
    PROBE,
    WORTH,
    Codec,
    encode,
    is_worth_compressing,
    resolve_codec,
    shuffle,
    spread,
)
from ops.serialize.errors import UnsupportedTypeError
from ops.serialize.layout import (
    ALIGNMENT,
    HEADER,
    MAGIC,
    NO_MAC,
    SIGNED,
    TABLE_ENTRY,
    VERSION,
    best_algorithm,
    digest_of,
    head_checksum,
)
from ops.serialize.limits import default_limit
from ops.serialize.tree_writer import INLINE, encode_tree
from ops.serialize.trust import allowed_by, may_pickle

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Sequence

    from ops.foundation.files import Durability, StrPath
    from ops.serialize.codecs import Compression
    from ops.serialize.trust import Signed, Trust

__all__ = ["Packed", "frame_parts", "pack", "pickle_parts", "pickled"]

STREAM_THRESHOLD = 256


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


def pickled(
    obj: Any, buffer_callback: Callable[[pickle.PickleBuffer], object] | None = None
) -> bytes:
    """Return the pickle-5 stream of *obj*. Raises `UnsupportedTypeError`."""
    try:
        return pickle.dumps(obj, 5, buffer_callback=buffer_callback)
    except (pickle.PicklingError, AttributeError, TypeError, RecursionError) as error:
        raise UnsupportedTypeError(
            f"A {type(obj).__module__}.{type(obj).__qualname__} cannot be pickled: {error}"
        ) from error


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

    return pickled(obj, keep_in_band), buffers


def frame_parts(obj: Any, trust: Trust) -> tuple[bytes, list[tuple[memoryview, int]], bool]:
    """Return stream and buffers of *obj*, and whether the stream is a pickle.

    It is a tree of data if *obj* is data, else a pickle if *trust* could read one again. Raises
    `UnsupportedTypeError`.
    """
    try:
        return *encode_tree(obj, allowed_by(trust)), False
    except UnsupportedTypeError:
        if not may_pickle(trust):
            raise
    return *pickle_parts(obj), True


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
    encoded = spread(
        lambda item: _encode_buffer(item[0], item[1], codec), buffers, parallel=bool(codec)
    )
    size = memoryview(stored).nbytes + sum(data.nbytes for data, _, _ in encoded)
    if codec and raw_size + sum(raw.nbytes for raw, _ in buffers) > default_limit(size):
        # It shrinks so much that a reader would take it for a bomb.
        return pack(stream, buffers, format_id=format_id, compression=None, key=key)
    position = HEADER.size + TABLE_ENTRY.size * len(encoded) + memoryview(stored).nbytes
    algorithm = best_algorithm(signed=key is not None)
    table, tail = [], []
    for (data, used, itemsize), (raw, _) in zip(encoded, buffers, strict=True):
        gap = -position % ALIGNMENT
        tail += [bytes(gap), data]
        position += gap
        found = digest_of(data, algorithm)
        table.append(
            TABLE_ENTRY.pack(position, data.nbytes, raw.nbytes, used, itemsize, algorithm, found)
        )
        position += data.nbytes
    head = _seal(
        (MAGIC, VERSION, format_id, stream_codec, SIGNED if key else 0, len(table)),
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
    mac = NO_MAC
    if key is not None:
        mac = key.mac(HEADER.pack(*front, *sizes, NO_MAC, total, bytes(8)), *body)
    unsealed = HEADER.pack(*front, *sizes, mac, total, bytes(8))
    return unsealed[:-8] + head_checksum(unsealed[:-8], *body)


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
