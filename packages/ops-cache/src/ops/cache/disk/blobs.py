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

from ops.cache.disk.index import BlobRef, is_blob_name
from ops.cache.own_files import refuse_link

if TYPE_CHECKING:
    import pathlib
    from collections.abc import Iterator

    from ops.serialize.packing import Packed

__all__ = ["BlobFolder"]


class BlobFolder:
    """The files of large values below one folder, spread over 256 subfolders."""

    def __init__(self, root: pathlib.Path) -> None:
        self._root = root
        self._looked_at: set[str] = set()

    def path(self, name: str) -> str:
        """Return the path of the file called *name*; raises `ValueError` for any other name."""
        if not is_blob_name(name):
            raise ValueError(f"{name[:80]!r} is no name of a blob.")
        return f"{self._root}/{name[:2]}/{name}"

    def write(self, packed: Packed) -> BlobRef:
        """Write a container as a new file."""
        name = secrets.token_hex(12)
        path = self.path(name)
        self._refuse_links(name)
        try:
            packed.write(path, durable="none")
        except FileNotFoundError:
            for folder in (self._root, self._root / name[:2]):
                folder.mkdir(mode=0o700, exist_ok=True)
            packed.write(path, durable="none")
        return BlobRef(name, packed.size)

    def remove(self, blob: BlobRef) -> None:
        """Remove a file; a reader that has mapped it keeps its content."""
        with contextlib.suppress(FileNotFoundError):
            self._refuse_links(blob.name)
            os.unlink(self.path(blob.name))  # noqa: PTH108 - hot path

    def _refuse_links(self, name: str) -> None:
        """Refuse subfolders that lead elsewhere; each is looked at once."""
        part = name[:2]
        if part not in self._looked_at:
            refuse_link(self._root)
            refuse_link(self._root / part)
            self._looked_at.add(part)

    def files(self) -> Iterator[pathlib.Path]:
        """Yield the files there are, also those that a killed writer left unfinished."""
        for folder in self._root.glob("??"):
            if folder.is_dir() and not folder.is_symlink():
                yield from folder.iterdir()
