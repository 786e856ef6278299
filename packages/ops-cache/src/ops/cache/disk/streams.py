"""Values as files: bytes that go from a file into a cache, and come back as one, without being in memory.

What is stored is what `bytes` of the same content would be, so either way of reading gives either way of
writing. The file of a large value is a container of `ops.serialize` with one buffer, which a reader maps.
"""

from __future__ import annotations

import functools
import io
import mmap
import shutil
import tempfile
from typing import TYPE_CHECKING, Any

from ops.foundation.errors import ValidationError
from ops.serialize.tree_writer import encode_tree
from ops.serialize.trust import allowed_by

if TYPE_CHECKING:
    import pathlib
    from typing import IO

    from ops.serialize.container import Contents

__all__ = ["bytes_tree", "only_buffer", "opened", "spooled"]

#: From so many bytes on `encode_tree` gives bytes a buffer of their own, beside the tree.
_LARGE = 64 << 10


@functools.cache
def bytes_tree() -> bytes:
    """Return the tree that any large bytes object has: one buffer, which is bytes."""
    tree, buffers = encode_tree(bytes(_LARGE), allowed_by("safe"))
    assert len(buffers) == 1  # noqa: S101 - or what is stored here could not be read
    return tree


def only_buffer(contents: Contents) -> memoryview | None:
    """Return the buffer of a container that holds a large bytes object as it is, None for any other."""
    if len(contents.entries) != 1 or contents.stream != bytes_tree():
        return None
    (entry,) = contents.entries
    return None if entry.codec else contents.data[entry.offset : entry.offset + entry.stored]


def spooled(stream: IO[bytes], folder: pathlib.Path) -> memoryview:
    """Return what is left to read in *stream* as a map of a file in *folder* that has no name any more.

    Raises `ValidationError` for a stream of text.
    """
    with tempfile.TemporaryFile(dir=folder) as file:
        try:
            shutil.copyfileobj(stream, file, 1 << 20)
        except TypeError as error:
            raise ValidationError(
                f"{stream!r} gives no bytes: {error}", suggestions=("Open it with mode 'rb'.",)
            ) from error
        file.flush()
        if not file.tell():
            return memoryview(b"")
        return memoryview(mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ))


def opened(data: bytes | memoryview) -> io.BufferedReader:
    """Return a binary file that reads *data*."""
    return io.BufferedReader(_Reader(memoryview(data).cast("B")))


class _Reader(io.RawIOBase):
    """A file over memory, which it does not copy."""

    def __init__(self, data: memoryview) -> None:
        self._data, self._at = data, 0

    def readable(self) -> bool:
        return True

    def seekable(self) -> bool:
        return True

    def readinto(self, buffer: Any) -> int:
        target = memoryview(buffer).cast("B")
        part = self._data[self._at : self._at + target.nbytes]
        target[: part.nbytes] = part
        self._at += part.nbytes
        return part.nbytes

    def seek(self, offset: int, whence: int = io.SEEK_SET) -> int:
        start = {io.SEEK_SET: 0, io.SEEK_CUR: self._at, io.SEEK_END: self._data.nbytes}.get(whence)
        if start is None or start + offset < 0:
            raise ValueError(f"There is no position {offset} from {whence}.")
        self._at = start + offset
        return self._at

    def tell(self) -> int:
        return self._at

    def close(self) -> None:
        self._data = memoryview(b"")  # so that the map of the file can go
        super().close()
