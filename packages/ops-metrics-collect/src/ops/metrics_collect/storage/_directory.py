"""Objects as files below a folder.

A put writes beside its target and renames, after an fsync of the file and then of its folder: a
reader and a machine that loses power see the old object or the new one. A create-once put publishes
with a hard link, which the file system refuses when the name is taken, so of two writers one wins.
"""

from __future__ import annotations

import contextlib
import pathlib
import re
import shutil
import time
from typing import IO, TYPE_CHECKING

from ops.foundation.files import atomic_write, safe_join
from ops.foundation.paths import is_there, walked
from ops.metrics_collect.errors import ParameterError, StorageError
from ops.metrics_collect.storage._base import BaseStorage, private_path

if TYPE_CHECKING:
    from collections.abc import Iterator

    from ops.foundation.files import StrPath

__all__ = ["StorageDirectory"]

# What atomic_write calls its unfinished files; a kill leaves one behind, which is no object.
_UNFINISHED = re.compile(r"\..*\.[0-9a-f]{12}\.tmp")
_FORGOTTEN_SECONDS = 3600


class StorageDirectory(BaseStorage):
    """A storage in the folder *base_path*, which is created by the first put; a put is durable.

    >>> import tempfile
    >>> storage = StorageDirectory(tempfile.mkdtemp())
    >>> storage.put("2026/runs.json", dict={"count": 3})
    >>> storage.glob("**/*.json")
    ['2026/runs.json']
    """

    def __init__(self, base_path: StrPath = ".") -> None:
        self.base_path: pathlib.Path = pathlib.Path(base_path)
        self._swept: set[pathlib.Path] = set()

    def _put(self, name: str, source: IO[bytes], *, overwrite: bool) -> None:
        path = self._path(name)
        if _UNFINISHED.fullmatch(path.name):
            raise ParameterError(f"{name!r} is a name of unfinished files; choose another one.")
        try:
            path.parent.mkdir(parents=True, exist_ok=True)
        except (FileExistsError, NotADirectoryError) as error:
            raise StorageError(f"{name!r} leads through an object of {self!r}.") from error
        self._sweep(path.parent)
        try:
            with atomic_write(path, "wb" if overwrite else "xb", durable="full") as target:
                shutil.copyfileobj(source, target, 1 << 20)
        except FileExistsError as error:
            raise self._taken(name) from error
        except IsADirectoryError as error:
            raise StorageError(f"{name!r} is a folder of objects in {self!r}.") from error

    def _sweep(self, folder: pathlib.Path) -> None:
        """Remove what killed writers left in *folder*, once; what was written lately may live."""
        if folder in self._swept:
            return
        self._swept.add(folder)
        before = time.time() - _FORGOTTEN_SECONDS
        for path in folder.glob(".*.tmp"):
            with contextlib.suppress(OSError):
                if _UNFINISHED.fullmatch(path.name) and path.stat().st_mtime < before:
                    path.unlink()

    @contextlib.contextmanager
    def get(self, name: str) -> Iterator[str]:
        """Give the path of a private temporary copy that vanishes when the block ends."""
        path = self._path(name)
        with private_path(name) as copy:
            try:
                shutil.copyfile(path, copy)
            except (FileNotFoundError, IsADirectoryError, NotADirectoryError) as error:
                raise self._missing(name) from error
            yield copy

    def exists(self, name: str) -> bool:
        """Say whether there is an object of that name."""
        path = self._path(name)
        return is_there(path) and path.is_file()

    def remove(self, name: str) -> None:
        """Remove an object; its folders stay."""
        try:
            self._path(name).unlink()
        except (FileNotFoundError, IsADirectoryError, NotADirectoryError, PermissionError) as error:
            if isinstance(error, PermissionError) and not self._path(name).is_dir():
                raise
            raise self._missing(name) from error

    def list(self, prefix: str = "") -> list[str]:
        """Return the sorted names that start with *prefix*; raises OSError when a folder cannot be read."""
        names = []
        for folder, files in walked(self.base_path):
            for file in files:
                if not _UNFINISHED.fullmatch(file):
                    relative = pathlib.Path(folder, file).relative_to(self.base_path)
                    names.append(relative.as_posix())
        return sorted(name for name in names if name.startswith(prefix))

    def _path(self, name: str) -> pathlib.Path:
        return safe_join(self.base_path, name)

    def __repr__(self) -> str:
        return f"StorageDirectory({str(self.base_path)!r})"
