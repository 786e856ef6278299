"""Hint files: what a sealed segment did to the index, so that opening need not read the segment.

    magic u32 | version u32 | crc u32 | escaped u32 | count u64 | keys u64 | rest u64 |
    count offsets u64 | keys, joined by newlines | rest, JSON                       (little-endian)

The rest names what the segment deleted, and the tags and files of its keys. A hint that is missing
or damaged costs time only: the segment is then scanned. What a hint says is believed only after
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

from ops.cache.disk.index import OFFSET_BITS, OFFSET_MASK, BlobRef
from ops.foundation.files import atomic_write

if TYPE_CHECKING:
    import pathlib

    from ops.cache.disk.index import Index

__all__ = ["Deletions", "apply_hint", "write_hint"]

_HEADER = struct.Struct("<IIIIQQQ")
_MAGIC = 0x3148504F  # "OPH1"
_VERSION = 1


@dataclasses.dataclass(slots=True)
class Deletions:
    """What one segment deleted: single keys, and in bulk, in order, by tag or by prefix."""

    keys: set[bytes] = dataclasses.field(default_factory=set)
    bulk: list[tuple[str, bytes]] = dataclasses.field(default_factory=list)


def write_hint(path: pathlib.Path, index: Index, segment: int, deletions: Deletions) -> None:
    """Write the hint of *segment*, just sealed, from the index as it is then."""
    first, last = segment << OFFSET_BITS, (segment + 1) << OFFSET_BITS
    mine = {key: at for key, at in index.positions.items() if first <= at < last}
    offsets = array.array("Q", [at & OFFSET_MASK for at in mine.values()])
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
        }
    ).encode()
    body = b"".join((offsets.tobytes(), keys, rest))
    head = _HEADER.pack(_MAGIC, _VERSION, 0, escaped, len(mine), len(keys), len(rest))
    crc = zlib.crc32(body, zlib.crc32(head))
    with atomic_write(path, "wb", durable="none") as file:
        file.write(_HEADER.pack(_MAGIC, _VERSION, crc, escaped, len(mine), len(keys), len(rest)))
        file.write(body)


def apply_hint(path: pathlib.Path, index: Index, segment: int) -> bool:
    """Bring *index* from before *segment* to after it; False when the hint is of no use."""
    try:
        data = path.read_bytes()
        magic, version, crc, escaped, count, key_size, rest_size = _HEADER.unpack_from(data)
    except (OSError, struct.error):
        return False
    head = _HEADER.pack(magic, version, 0, escaped, count, key_size, rest_size)
    if magic != _MAGIC or version != _VERSION:
        return False
    middle = _HEADER.size + 8 * count
    end = middle + key_size
    if end + rest_size != len(data) or zlib.crc32(data[_HEADER.size :], zlib.crc32(head)) != crc:
        return False
    offsets = array.array("Q", data[_HEADER.size : middle])
    if sys.byteorder == "big":
        offsets.byteswap()
    keys = data[middle:end].split(b"\n") if count else []
    if escaped:
        keys = [_ESCAPE.sub(_unescape, key) for key in keys]
    rest = json.loads(data[end:])
    for kind, what in rest["bulk"]:
        name = _bytes(what)
        index.discard_all(index.with_tag(name) if kind == "tag" else index.below(name))
    index.discard_all(map(_bytes, rest["deleted"]))
    # Unseen positions are stored inverted; -1 - (base + offset) is ~(base + offset).
    base = -1 - (segment << OFFSET_BITS)
    placed = zip(keys, [base - offset for offset in offsets], strict=True)
    if index.blobs or index.tag_of or rest["blobs"] or rest["tags"]:
        tags, blobs = rest["tags"], rest["blobs"]
        for key, position in placed:
            text = _text(key)
            blob = BlobRef(*blobs[text]) if text in blobs else None
            index.set(key, position, _bytes(tags.get(text, "")), blob)
    else:
        index.positions.update(placed)
    return True


_ESCAPE = re.compile(rb"\\(.)")


def _unescape(match: re.Match[bytes]) -> bytes:
    return b"\n" if match[1] == b"n" else match[1]


def _text(data: bytes) -> str:
    return data.decode("latin-1")


def _bytes(text: str) -> bytes:
    return text.encode("latin-1")
