"""Compression of buffers: a few named codecs, and the decision whether a buffer is worth it.

lz4 and zstd come from `pyarrow.Codec`, which releases the GIL; zlib is always there. A buffer is
first probed: if 64 KB of it do not shrink by a tenth, the rest will not either and it stays raw.
Numbers are byte-shuffled before zstd (all first bytes, then all second bytes, …), which puts the
slowly changing bytes side by side.
"""

from __future__ import annotations

import os
import zlib
from concurrent.futures import ThreadPoolExecutor
from enum import IntEnum
from typing import TYPE_CHECKING, Any, Literal, TypeAlias

from ops.foundation.imports import LazyImport
from ops.serialize.errors import CorruptDataError

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable

    import pyarrow as pa
else:
    pa = LazyImport("pyarrow", extra="ops-serialize[arrow]")

__all__ = ["Codec", "Compression", "compress_data", "decompress_data", "resolve_codec"]

Compression: TypeAlias = Literal["auto", "none", "lz4", "zstd", "zlib"]

PROBE = 65536
WORTH = 0.9


class Codec(IntEnum):
    """Codecs by the number that is written to files."""

    NONE = 0
    LZ4 = 1
    ZSTD = 2
    ZLIB = 3


def resolve_codec(compression: Compression | None) -> Codec:
    """Return the codec of a name; "auto" is zstd where pyarrow is installed, else zlib."""
    if compression is None:
        return Codec.NONE
    if compression == "auto":
        import importlib.util

        return Codec.ZSTD if importlib.util.find_spec("pyarrow") else Codec.ZLIB
    try:
        return Codec[compression.upper()]
    except KeyError:
        known = ", ".join(repr(c.name.lower()) for c in Codec)
        raise ValueError(
            f"compression={compression!r} is unknown; use 'auto' or {known}."
        ) from None


def compress_data(data: Any, compression: Compression = "auto") -> bytes:
    """Return *data*, a buffer, compressed; the inverse is `decompress_data` with the same arguments.

    *compression* is "none", "lz4", "zstd" or "zlib"; "auto" is zstd where pyarrow is installed,
    else zlib.
    """
    return bytes(encode(data, resolve_codec(compression)))


def decompress_data(data: Any, size: int, compression: Compression = "auto") -> bytes:
    """Return the *size* bytes that `compress_data` was given.

    *data* is what it returned, *compression* what it was called with. Raises `CorruptDataError` for
    other data.
    """
    return bytes(decode(data, resolve_codec(compression), size))


def encode(data: Any, codec: Codec) -> memoryview:
    """Compress *data* with *codec*."""
    if codec is Codec.NONE:
        return memoryview(data).cast("B")
    if codec is Codec.ZLIB:
        return memoryview(zlib.compress(data, 1))
    return memoryview(_arrow_codec(codec).compress(pa.py_buffer(data)))


def decode(data: Any, codec: Codec, size: int) -> memoryview:
    """Decompress to exactly *size* bytes, or raise `CorruptDataError`."""
    if codec is Codec.NONE:
        raw = memoryview(data)
    elif codec is Codec.ZLIB:
        try:  # at most one byte more than declared: it may be made to swell
            raw = memoryview(zlib.decompressobj().decompress(data, size + 1))
        except zlib.error as error:
            raise CorruptDataError(f"A compressed part is damaged: {error}.") from error
    else:
        try:
            raw = memoryview(_arrow_codec(codec).decompress(pa.py_buffer(data), size))
        except OSError as error:
            raise CorruptDataError(f"A compressed part is damaged: {error}.") from error
    if raw.nbytes != size:
        raise CorruptDataError(f"A part has {raw.nbytes} bytes where {size} were written.")
    return raw


def is_worth_compressing(data: memoryview, codec: Codec) -> bool:
    """Whether a probe from the middle of *data* shrinks by a tenth."""
    start = max(0, (data.nbytes - PROBE) // 2)
    probe = data[start : start + PROBE]
    return encode(probe, codec).nbytes < WORTH * probe.nbytes


def shuffle(data: memoryview, itemsize: int) -> memoryview:
    """Group the bytes of items by their position in the item."""
    import numpy as np

    items = np.frombuffer(data, np.uint8).reshape(-1, itemsize)
    return np.ascontiguousarray(items.T).data.cast("B")


def unshuffle(data: memoryview, itemsize: int) -> memoryview:
    """Undo `shuffle`."""
    import numpy as np

    planes = np.frombuffer(data, np.uint8).reshape(itemsize, -1)
    return np.ascontiguousarray(planes.T).data.cast("B")


def _arrow_codec(codec: Codec) -> Any:
    if codec is Codec.ZSTD:
        return pa.Codec("zstd", compression_level=1)
    return pa.Codec("lz4")


def spread(call: Callable[[Any], Any], items: Iterable[Any], *, parallel: bool) -> list[Any]:
    """Call with each item, in threads if that is worth it."""
    items = list(items)
    if not parallel or len(items) < 2:
        return [call(item) for item in items]
    with ThreadPoolExecutor(min(len(items), os.cpu_count() or 1)) as pool:
        return list(pool.map(call, items))
