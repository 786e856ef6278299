"""Objects as files below a folder.

A put writes beside its target and renames, after an fsync of the file and then of its folder: a
reader and a machine that loses power see the old object or the new one. A create-once put publishes
with a hard link, which the file system refuses when the name is taken, so of two writers one wins.
"""

from __future__ import annotations

import contextlib
import os
import pathlib
import re
import shutil
from typing import IO, TYPE_CHECKING, Any

from ops.foundation.files import atomic_write, safe_join
from ops.metrics_collect.errors import ObjectExists, ObjectNotFound, ParameterError
from ops.metrics_collect.storage._base import glob_pattern, opened_source, private_path

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

    from ops.foundation.files import StrPath

__all__ = ["StorageDirectory"]

# What atomic_write calls its unfinished files; a crash leaves one behind, which is no object.
_UNFINISHED = re.compile(r"\..*\.[0-9a-f]{12}\.tmp")


class StorageDirectory:
    """A storage in the folder *base_path*, which is created by the first put."""

    def __init__(self, base_path: StrPath = ".") -> None:
        self.base_path = pathlib.Path(base_path)

    def put(
        self,
        name: str,
        *,
        dict: Mapping[str, Any] | None = None,  # noqa: A002 - the name of the specification
        filename: StrPath | None = None,
        fileobj: IO[bytes] | None = None,
        overwrite: bool = True,
    ) -> None:
        """Store exactly one of *dict*, *filename* and *fileobj*; durable when it returns."""
        path = self._path(name)
        if _UNFINISHED.fullmatch(path.name):
            raise ParameterError(f"{name!r} is a name of unfinished files; choose another one.")
        with opened_source(dict, filename, fileobj) as source:
            path.parent.mkdir(parents=True, exist_ok=True)
            try:
                with atomic_write(path, "wb" if overwrite else "xb", durable="full") as target:
                    shutil.copyfileobj(source, target, 1 << 20)
            except FileExistsError as error:
                raise ObjectExists(f"{name!r} is already in {str(self.base_path)!r}.") from error

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
        return self._path(name).is_file()

    def remove(self, name: str) -> None:
        """Remove an object; its folders stay."""
        try:
            self._path(name).unlink()
        except (FileNotFoundError, IsADirectoryError, NotADirectoryError, PermissionError) as error:
            if isinstance(error, PermissionError) and not self._path(name).is_dir():
                raise
            raise self._missing(name) from error

    def glob(self, pattern: str) -> list[str]:
        """Return the sorted names that match: `*` and `?` within a part, `**` across parts."""
        expression = glob_pattern(pattern)
        return [name for name in self.list() if expression.match(name)]

    def list(self, prefix: str = "") -> list[str]:
        """Return the sorted names that start with *prefix*."""
        names = []
        for folder, _, files in os.walk(self.base_path):
            for file in files:
                if not _UNFINISHED.fullmatch(file):
                    relative = pathlib.Path(folder, file).relative_to(self.base_path)
                    names.append(relative.as_posix())
        return sorted(name for name in names if name.startswith(prefix))

    def _path(self, name: str) -> pathlib.Path:
        return safe_join(self.base_path, name)

    def _missing(self, name: str) -> ObjectNotFound:
        return ObjectNotFound(f"There is no {name!r} in {str(self.base_path)!r}.")

    def __repr__(self) -> str:
        return f"StorageDirectory({str(self.base_path)!r})"
