"""Files kept once by what is in them: equal artifacts of runs and models are names of one file.

``contents/ab/{sha256}`` is a hard link to a file of the store; an artifact with the same bytes becomes
one more link to it instead of a copy. The artifacts stay where they are and are read as ever, so a
store can begin to do this, or stop, at any time. Files that are shared are made read-only. One that no
artifact shares any more has a single link left, and `clear` removes it. A process that is about to link to it meanwhile
finds it gone and copies.
"""

from __future__ import annotations

import contextlib
import os
from typing import TYPE_CHECKING

from ops.foundation.hashing import calculate_file_hash

if TYPE_CHECKING:
    import pathlib
    from collections.abc import Iterator

__all__ = ["ContentStore"]


class ContentStore:
    """The files below *folder*, by digest; the folder must be on the file system of the artifacts."""

    def __init__(self, folder: pathlib.Path) -> None:
        self.folder = folder

    def give(self, origin: pathlib.Path, target: pathlib.Path) -> tuple[int, str] | None:
        """Make *target* a link to what *origin* has in it; None if that is not here, else size and digest.

        A file system without hard links, or at its limit of them, is no error.
        """
        digest = calculate_file_hash(origin)
        if self._path(digest).is_symlink():  # not of ours: what it points to is not shared
            return None
        with contextlib.suppress(OSError):
            os.link(self._path(digest), target)
            return target.stat().st_size, digest
        return None

    def keep(self, file: pathlib.Path, digest: str) -> None:
        """Let later files with the content of *file*, which has that *digest*, be links to it.

        It is flushed first: a loss of power must not damage what other artifacts will share.
        """
        path = self._path(digest)
        with contextlib.suppress(OSError):  # no hard links here, or another process was first
            with file.open("rb") as opened:
                os.fsync(opened.fileno())
            path.parent.mkdir(parents=True, exist_ok=True)
            mode = file.stat().st_mode
            file.chmod(0o444)  # first: a kill must not leave one that is shared and can be written
            try:
                os.link(file, path)
            except OSError:
                file.chmod(mode)  # it stays the artifact's own
                raise

    def unused(self) -> list[pathlib.Path]:
        """Return the files that no artifact shares."""
        found = []
        for path in self._all():
            with contextlib.suppress(FileNotFoundError):  # removed by another process
                if path.stat().st_nlink == 1:
                    found.append(path)
        return found

    def damaged(self) -> list[pathlib.Path]:
        """Read all files and return those whose content does not match their name."""
        return [path for path in self._all() if calculate_file_hash(path) != path.name]

    def _all(self) -> Iterator[pathlib.Path]:
        return self.folder.glob("??/*")

    def _path(self, digest: str) -> pathlib.Path:
        return self.folder / digest[:2] / digest
