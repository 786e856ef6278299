"""Folders that are there, and folders that go again."""

from __future__ import annotations

import contextlib
import pathlib
import shutil
import tempfile
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterator

    from ops.foundation.paths import StrPath

__all__ = ["ensure_directory", "temporary_directory"]


def ensure_directory(path: StrPath, mode: int = 0o777) -> pathlib.Path:
    """Create *path* and its parents unless they are there, and return it.

    If the path is something else, raises FileExistsError or NotADirectoryError.
    """
    folder = pathlib.Path(path)
    folder.mkdir(mode=mode, parents=True, exist_ok=True)
    return folder


@contextlib.contextmanager
def temporary_directory(
    prefix: str = "ops-", parent: StrPath | None = None, *, keep: bool = False
) -> Iterator[pathlib.Path]:
    """Give a new folder that only this user can enter, and remove it afterwards unless *keep*.

    Its name begins with *prefix*; *parent* is where it is made (default: the folder of `tempfile`).

    >>> with temporary_directory() as folder:
    ...     folder.is_dir()
    True
    >>> folder.exists()
    False
    """
    folder = pathlib.Path(tempfile.mkdtemp(prefix=prefix, dir=parent))
    try:
        yield folder
    finally:
        if not keep:
            shutil.rmtree(folder, ignore_errors=True)
