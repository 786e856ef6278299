"""The index at the end of a segment that is no longer written: its chunks, found without a scan.

A sealed segment ends with one more frame, flag INDEX and sequence 0, whose payload is a table of chunks
(see `scan.CHUNK`) and 16 bytes: the offset of that frame and a magic. A reader of the file reads its
last 16 bytes, goes to the frame and checks its checksum. If anything there is missing or wrong the file
is scanned as if it had no index, so an index can make reading faster and never wrong.

Only segments without damage are sealed. One that is written to after all (its writer was thought dead)
has its index in the middle, where it is skipped, and none at its end.
"""

from __future__ import annotations

import contextlib
import os
import struct
from typing import TYPE_CHECKING

import numpy as np

from ops.datalog._liveness import open_regular
from ops.datalog.frames import FRAME, HEADER_SIZE, INDEX, is_frame, pack_frame
from ops.datalog.scan import CHUNK, Scan, header_of, scan

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from ops.datalog.checksums import Checksum

_TRAILER = struct.Struct("<Q8s")
_MAGIC = b"OPSDIDX\x01"


def scan_or_index(path: Path) -> Scan:
    """Return the chunks of a segment, by its index when it has one that is right.

    Raises OSError and LogFormatError when the file cannot be read at all.
    """
    with _opened(path) as (fd, size):
        if size < HEADER_SIZE:
            return Scan(torn_bytes=size)  # its writer died while it was made
        header = header_of(fd, size, path.name)
        chunks = _index(fd, size, header.checksum)
        if chunks is None:
            return scan(fd, size, path.name, header)
        return Scan(chunks, header=header.damage, checksum=header.checksum)


def full_scan(path: Path) -> Scan:
    """Check every frame of a segment, whether it has an index or not."""
    with _opened(path) as (fd, size):
        if size < HEADER_SIZE:
            return Scan(torn_bytes=size)
        return scan(fd, size, path.name, header_of(fd, size, path.name))


def is_sealed(path: Path) -> bool:
    """Return whether a segment has an index that is right."""
    with _opened(path) as (fd, size):
        return size > HEADER_SIZE and (
            _index(fd, size, header_of(fd, size, path.name).checksum) is not None
        )


def seal(path: Path) -> bool:
    """Append an index to a segment without a writer; return whether it has one now.

    A segment with damage or a torn end is left alone.
    """
    with _opened(path, os.O_RDWR | os.O_APPEND) as (fd, size):
        if size <= HEADER_SIZE:
            return False
        header = header_of(fd, size, path.name)
        if _index(fd, size, header.checksum) is not None:
            return True
        found = scan(fd, size, path.name, header)
        if found.torn_bytes or found.damage():
            return False
        payload = found.chunks.tobytes() + _TRAILER.pack(size, _MAGIC)
        frame = pack_frame(header.checksum, 0, 0, 0, INDEX, os.getpid(), payload)
        try:
            if os.write(fd, frame) == len(frame):
                return True
        except OSError:
            os.ftruncate(fd, size)
            raise
        os.ftruncate(fd, size)
        return False


@contextlib.contextmanager
def _opened(path: Path, flags: int = os.O_RDONLY) -> Iterator[tuple[int, int]]:
    fd = open_regular(path, flags)
    try:
        yield fd, os.fstat(fd).st_size
    finally:
        os.close(fd)


def _index(fd: int, size: int, checksum: Checksum) -> np.ndarray | None:
    trailer = os.pread(fd, _TRAILER.size, size - _TRAILER.size)
    offset, magic = _TRAILER.unpack(trailer)
    if magic != _MAGIC or not HEADER_SIZE <= offset <= size - FRAME - _TRAILER.size:
        return None
    frame = os.pread(fd, size - offset, offset)
    if is_frame(memoryview(frame), 0, checksum) != len(frame):
        return None
    table = frame[FRAME : -_TRAILER.size]
    if len(table) % CHUNK.itemsize:
        return None
    return np.frombuffer(table, CHUNK)
