"""Folders to work in, which vanish with the block, and with the next program if this one is killed.

A workspace is a private folder that its process holds locked; the kernel gives the lock back when
the process dies, whatever kills it. So a workspace that is not locked belongs to nobody, and whoever
makes the first one in a place removes those that the dead have left there.

The lock is `flock` on the folder itself, and the folder gets its last name, by which it is found,
when it is locked: nobody can take a new one for a forgotten one. Where folders cannot be locked
(Windows, NFS) the name stays the first, and nothing is swept.
"""

from __future__ import annotations

import contextlib
import os
import pathlib
import shutil
import sys
import tempfile
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterator

    from ops.foundation.files import StrPath

if sys.platform != "win32":
    import fcntl

__all__ = ["Workspace", "tempdir", "workspace"]

_SUFFIX = ".ops-metrics"
_swept: set[pathlib.Path] = set()


@contextlib.contextmanager
def tempdir(prefix: str = "ops-metrics-") -> Iterator[str]:
    """Give the path of a private folder, for collectors' `output_dir=`; the working directory stays."""
    with workspace(prefix) as folder:
        yield str(folder)


@contextlib.contextmanager
def workspace(prefix: str = "", parent: StrPath | None = None) -> Iterator[pathlib.Path]:
    """Give a private folder in *parent* (default: that of temporary files) that vanishes with the block."""
    made = Workspace(prefix, parent)
    try:
        yield made.path
    finally:
        made.close()


class Workspace:
    """A private folder, `path`, until `close`; see `workspace`."""

    def __init__(self, prefix: str = "", parent: StrPath | None = None) -> None:
        place = pathlib.Path(parent or tempfile.gettempdir())
        if place not in _swept:
            _swept.add(place)
            _sweep(place)
        self.path = pathlib.Path(tempfile.mkdtemp(prefix=prefix, dir=place))
        self._lock = _locked(self.path)
        if self._lock is not None:
            self.path = self.path.rename(self.path.with_name(self.path.name + _SUFFIX))

    def close(self) -> None:
        """Remove the folder and what is in it."""
        shutil.rmtree(self.path, ignore_errors=True)
        lock, self._lock = self._lock, None
        if lock is not None:
            os.close(lock)


def _sweep(place: pathlib.Path) -> None:
    """Remove the workspaces in *place* whose owners are dead, as far as they are this user's."""
    with contextlib.suppress(OSError), os.scandir(place) as entries:
        for entry in entries:
            if entry.name.endswith(_SUFFIX) and entry.is_dir(follow_symlinks=False):
                lock = _locked(pathlib.Path(entry.path))
                if lock is not None:
                    shutil.rmtree(entry.path, ignore_errors=True)
                    os.close(lock)


def _locked(folder: pathlib.Path) -> int | None:
    """Return a descriptor that holds the lock of *folder*; None if it is not to be had."""
    if sys.platform == "win32":
        return None
    try:
        descriptor = os.open(folder, os.O_RDONLY)
    except OSError:  # another user's, or gone
        return None
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError:  # its owner lives, or locks are unknown here
        os.close(descriptor)
        return None
    return descriptor
