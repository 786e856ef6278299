"""Hint files: what a sealed segment did to the index, so that opening need not read the segment.

    magic u32 | version u32 | crc u32 | escaped u32 | count u64 | keys u64 | rest u64 |
    count offsets u64 | keys, joined by newlines | rest, JSON                       (little-endian)

The upper half of an offset is the size of the record in units of 8 bytes. The rest names what the segment deleted, and the tags and files of its keys. A hint that is missing
or damaged costs time only: the segment is then scanned. The content of a hint is trusted only after
the record it points to has been checked, on the first read.
"""

from __future__ import annotations

import array
import dataclasses
import json
import re
import struct
import sys
import zlib
from typing import TYPE_CHECKING

from ops.cache.disk.index import SEGMENT_SHIFT, WITHIN_MASK, BlobRef
from ops.foundation.files import atomic_write

if TYPE_CHECKING:
    import pathlib

    from ops.cache.disk.index import Index

__all__ = ["Deletions", "apply_hint", "most_of_hint", "write_hint"]

_HEADER = struct.Struct("<IIIIQQQ")
_MAGIC = 0x3148504F  # "OPH1"
_VERSION = 2  # 1 had no sizes
_LARGEST_SHARE = 2
_LEAST_BYTES = 512
_USUAL_BYTES = 16 << 20
_MOST_PARSED = 32 << 20  # bytes that the rest may take beside four times the hint


@dataclasses.dataclass(slots=True)
class Deletions:
    """What one segment deleted: single keys, and in bulk, in order, by tag or by prefix."""

    keys: dict[bytes, int] = dataclasses.field(default_factory=dict)  # and where
    bulk: list[tuple[str, bytes]] = dataclasses.field(default_factory=list)


def write_hint(
    path: pathlib.Path,
    index: Index,
    segment: int,
    deletions: Deletions,
    segment_bytes: int = _USUAL_BYTES,
) -> None:
    """Write the hint of *segment*, just sealed, from the index as it is then.

    There is none that takes more than half of *segment_bytes*, what the segment takes itself: it
    would save little time and much space.
    """
    first, last = segment << SEGMENT_SHIFT, (segment + 1) << SEGMENT_SHIFT
    mine = {key: at for key, at in index.positions.items() if first <= at < last}
    offsets = array.array("Q", [at & WITHIN_MASK for at in mine.values()])
    if sys.byteorder == "big":
        offsets.byteswap()
    keys = b"\n".join(mine)
    escaped = keys.count(b"\n") != max(len(mine) - 1, 0)
    if escaped:
        keys = b"\n".join(key.replace(b"\\", b"\\\\").replace(b"\n", b"\\n") for key in mine)
    rest = json.dumps(
        {
            "deleted": [_text(key) for key in deletions.keys],
            "bulk": [(kind, _text(what)) for kind, what in deletions.bulk],
            "tags": {_text(k): _text(t) for k, t in index.tag_of.items() if k in mine},
            "blobs": {_text(k): blob for k, blob in index.blobs.items() if k in mine},
        },
        ensure_ascii=False,
    ).encode()
    if _HEADER.size + len(keys) + len(rest) + 8 * len(mine) > most_of_hint(segment_bytes):
        return
    body = b"".join((offsets.tobytes(), keys, rest))
    head = _HEADER.pack(_MAGIC, _VERSION, 0, escaped, len(mine), len(keys), len(rest))
    crc = zlib.crc32(body, zlib.crc32(head))
    with atomic_write(path, "wb", durable="none") as file:
        file.write(_HEADER.pack(_MAGIC, _VERSION, crc, escaped, len(mine), len(keys), len(rest)))
        file.write(body)


def most_of_hint(segment_bytes: int) -> int:
    """Return how many bytes the hint of a segment of *segment_bytes* may take."""
    return _HEADER.size + max(segment_bytes // _LARGEST_SHARE, _LEAST_BYTES)


def apply_hint(data: bytes, index: Index, segment: int) -> bool:
    """Bring *index* from before *segment* to after it; False when the hint in *data* is of no use."""
    try:
        hint = _parse(data)
    except (struct.error, ValueError, KeyError, TypeError, AttributeError, RecursionError):
        return False  # any user who may write here can have made it
    if hint is None:
        return False
    for kind, name in hint.bulk:
        index.discard_all(index.with_tag(name) if kind == "tag" else index.below(name))
    index.discard_all(hint.deleted)
    # Unseen positions are stored inverted; -1 - (base + offset) is ~(base + offset).
    base = -1 - (segment << SEGMENT_SHIFT)
    placed = zip(hint.keys, [base - offset for offset in hint.offsets], strict=True)
    if index.blobs or index.tag_of or hint.blobs or hint.tags:
        for key, position in placed:
            index.set(key, position, hint.tags.get(key, b""), hint.blobs.get(key))
    else:
        index.update(placed)
    return True


@dataclasses.dataclass(slots=True)
class _Hint:
    """The content of a hint, each part of the type that it must have."""

    keys: list[bytes]
    offsets: array.array[int]
    deleted: list[bytes]
    bulk: list[tuple[str, bytes]]
    tags: dict[bytes, bytes]
    blobs: dict[bytes, BlobRef]


def _parse(data: bytes) -> _Hint | None:
    magic, version, crc, escaped, count, key_size, rest_size = _HEADER.unpack_from(data)
    head = _HEADER.pack(magic, version, 0, escaped, count, key_size, rest_size)
    if magic != _MAGIC or version != _VERSION:
        return None
    middle = _HEADER.size + 8 * count
    end = middle + key_size
    if end + rest_size != len(data) or zlib.crc32(data[_HEADER.size :], zlib.crc32(head)) != crc:
        return None
    offsets = array.array("Q", data[_HEADER.size : middle])
    if sys.byteorder == "big":
        offsets.byteswap()
    keys = data[middle:end].split(b"\n") if count else []
    if escaped:
        keys = [_ESCAPE.sub(_unescape, key) for key in keys]
    if len(keys) != len(offsets) or max(offsets, default=0) > WITHIN_MASK:
        return None
    rest = data[end:]
    if 80 * (rest.count(b"[") + rest.count(b"{")) + 48 * rest.count(b",") > _MOST_PARSED + 4 * len(
        data
    ):
        return None
    rest = json.loads(rest)
    return _Hint(
        keys=keys,
        offsets=offsets,
        deleted=[_bytes(key) for key in rest["deleted"]],
        bulk=[(str(kind), _bytes(what)) for kind, what in rest["bulk"]],
        tags={_bytes(key): _bytes(tag) for key, tag in rest["tags"].items()},
        blobs={_bytes(key): BlobRef.checked(*blob) for key, blob in rest["blobs"].items()},
    )


_ESCAPE = re.compile(rb"\\(.)")


def _unescape(match: re.Match[bytes]) -> bytes:
    return b"\n" if match[1] == b"n" else match[1]


def _text(data: bytes) -> str:
    return data.decode("latin-1")


def _bytes(text: str) -> bytes:
    return text.encode("latin-1")
