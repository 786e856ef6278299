"""Folders to work in, which vanish with the block, and with the next program if this one is killed.

A workspace is a private folder that its process holds locked; the kernel gives the lock back when
the process dies, whatever kills it. So a workspace that is not locked has no owner, and a process that
makes its first one in a folder removes those that killed processes have left there.

The lock is `flock` on the folder itself. Between its making and its locking a folder looks forgotten,
and may be swept; its maker notices, and makes another. Where folders cannot be locked (Windows, NFS)
nothing is swept.
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
        folder = pathlib.Path(parent or tempfile.gettempdir())
        if folder not in _swept:
            _swept.add(folder)
            _sweep(folder)
        self._owner = os.getpid()
        while True:
            self.path: pathlib.Path = pathlib.Path(tempfile.mkdtemp(_SUFFIX, prefix, folder))
            self._lock = None
            with contextlib.suppress(BlockingIOError, FileNotFoundError):
                self._lock = _locked(self.path)
                if self.path.exists():
                    break
            self._unlock()  # a sweep was faster

    def close(self) -> None:
        """Remove the folder and what is in it; a process that was forked meanwhile leaves it alone."""
        if os.getpid() != self._owner:
            return
        shutil.rmtree(self.path, ignore_errors=True)
        self._unlock()

    def _unlock(self) -> None:
        lock, self._lock = self._lock, None
        if lock is not None:
            os.close(lock)


def _sweep(folder: pathlib.Path) -> None:
    """Remove the workspaces in *folder* whose owners are dead, as far as they are this user's."""
    with contextlib.suppress(OSError), os.scandir(folder) as entries:
        for entry in entries:
            if entry.name.endswith(_SUFFIX) and entry.is_dir(follow_symlinks=False):
                with contextlib.suppress(OSError):  # another user's, held, or gone meanwhile
                    lock = _locked(pathlib.Path(entry.path))
                    if lock is not None:
                        shutil.rmtree(entry.path, ignore_errors=True)
                        os.close(lock)


def _locked(folder: pathlib.Path) -> int | None:
    """Return a descriptor that holds the lock of *folder*, or None where there are no such locks.

    Raises BlockingIOError when it is held, and other OSErrors when the folder cannot be opened.
    """
    if sys.platform == "win32":
        return None
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        os.close(descriptor)
        raise
    except OSError:  # as on NFS
        os.close(descriptor)
        return None
    return descriptor
