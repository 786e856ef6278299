"""Large values: one file each, mapped when they are read.

A file is written whole under a random name before the record that names it, and never changed. So a
record leads to a whole file, and a writer that was killed leaves at most a file that no record
names, which `DiskCache.check(repair=True)` removes.
"""

from __future__ import annotations

import contextlib
import os
import secrets
from typing import TYPE_CHECKING

from ops.cache.disk.index import BlobRef

if TYPE_CHECKING:
    import pathlib
    from collections.abc import Iterator

    from ops.serialize.packing import Packed

__all__ = ["BlobFolder"]


class BlobFolder:
    """The files of large values below one folder, spread over 256 subfolders."""

    def __init__(self, root: pathlib.Path) -> None:
        self._root = root

    def path(self, name: str) -> str:
        """Return the path of the file called *name*."""
        return f"{self._root}/{name[:2]}/{name}"

    def write(self, packed: Packed) -> BlobRef:
        """Write a container as a new file."""
        name = secrets.token_hex(12)
        path = self.path(name)
        try:
            packed.write(path, durable="none")
        except FileNotFoundError:
            for folder in (self._root, self._root / name[:2]):
                folder.mkdir(mode=0o700, exist_ok=True)
            packed.write(path, durable="none")
        return BlobRef(name, packed.size)

    def remove(self, blob: BlobRef) -> None:
        """Remove a file; whoever has mapped it keeps it until then."""
        with contextlib.suppress(FileNotFoundError):
            os.unlink(self.path(blob.name))  # noqa: PTH108 - hot path

    def files(self) -> Iterator[pathlib.Path]:
        """Yield the files there are, also those that a killed writer left unfinished."""
        for folder in self._root.glob("??"):
            yield from folder.iterdir()
