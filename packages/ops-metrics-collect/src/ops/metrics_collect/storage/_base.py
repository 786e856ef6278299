"""What a storage is: objects by name, put whole or not at all, fetched as private files.

Names are relative paths with "/" between their parts. `BaseStorage` and the helpers here are the
parts of the behaviour that must not differ from storage to storage: what may be put, and globbing.
"""

from __future__ import annotations

import abc
import contextlib
import io
import json
import os
import pathlib
import re
import shutil
import tempfile
from typing import IO, TYPE_CHECKING, Any, Protocol, runtime_checkable

from ops.foundation.files import safe_join
from ops.metrics_collect.errors import ObjectExists, ObjectNotFound, ParameterError
from ops.metrics_collect.workspaces import workspace

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

    from ops.foundation.files import StrPath

__all__ = [
    "BaseStorage",
    "Storage",
    "checked_name",
    "glob_pattern",
    "private_path",
    "seekable",
    "setting",
]

_NOWHERE = pathlib.Path("/ops-metrics-objects")


@runtime_checkable
class Storage(Protocol):
    """Objects by name."""

    def put(
        self,
        name: str,
        *,
        dict: Mapping[str, Any] | None = None,  # noqa: A002 - the name of the specification
        filename: StrPath | None = None,
        fileobj: IO[bytes] | None = None,
        overwrite: bool = True,
    ) -> None:
        """Store as *name* exactly one of *dict* (as JSON), the file *filename* and the open *fileobj*.

        With *overwrite* False the object is created once: `ObjectExists` when the name is taken.
        """
        ...

    def get(self, name: str) -> contextlib.AbstractContextManager[str]:
        """Give the path of a private temporary copy that vanishes; `ObjectNotFound` if missing."""
        ...

    def exists(self, name: str) -> bool:
        """Say whether there is an object of that name."""
        ...

    def remove(self, name: str) -> None:
        """Remove an object; `ObjectNotFound` if missing."""
        ...

    def glob(self, pattern: str) -> list[str]:
        """Return the sorted names that match: `*` and `?` within a part, `**` across parts."""
        ...

    def list(self, prefix: str = "") -> list[str]:
        """Return the sorted names that start with *prefix*."""
        ...


class BaseStorage(abc.ABC):
    """What the storages here have in common: the three ways to pass an object, and globbing."""

    def put(
        self,
        name: str,
        *,
        dict: Mapping[str, Any] | None = None,  # noqa: A002 - the name of the specification
        filename: StrPath | None = None,
        fileobj: IO[bytes] | None = None,
        overwrite: bool = True,
    ) -> None:
        """Store as *name* exactly one of *dict* (as JSON), *filename* and *fileobj*; done when it returns.

        With *overwrite* False the object is created once: raises `ObjectExists` when the name is
        taken. Raises `ParameterError` for none or several of the three, and for a name that leads
        outside; `StorageError` when the storage failed, retries included.
        """
        key = checked_name(name)
        with _opened_source(dict, filename, fileobj) as source:
            self._put(key, source, overwrite=overwrite)

    @abc.abstractmethod
    def _put(self, name: str, source: IO[bytes], *, overwrite: bool) -> None:
        """Store what *source*, which may have no beginning to return to, has left."""

    def glob(self, pattern: str) -> list[str]:
        """Return the sorted names that match: `*` and `?` within a part, `**` across parts."""
        expression = glob_pattern(pattern)
        return [name for name in self.list() if expression.match(name)]

    @abc.abstractmethod
    def list(self, prefix: str = "") -> list[str]:
        """Return the sorted names that start with *prefix*."""

    def _missing(self, name: str) -> ObjectNotFound:
        return ObjectNotFound(f"There is no {name!r} in {self!r}.")

    def _taken(self, name: str) -> ObjectExists:
        return ObjectExists(f"{name!r} is already in {self!r}.")


@contextlib.contextmanager
def _opened_source(
    data: Mapping[str, Any] | None, filename: StrPath | None, fileobj: IO[bytes] | None
) -> Iterator[IO[bytes]]:
    """Give what is to be stored as one readable binary file, whichever way it was passed."""
    if sum(source is not None for source in (data, filename, fileobj)) != 1:
        raise ParameterError("put() takes exactly one of dict=, filename= and fileobj=.")
    if data is not None:
        text = json.dumps(data, indent=1, sort_keys=True, ensure_ascii=False, allow_nan=False)
        yield io.BytesIO(text.encode() + b"\n")
    elif filename is not None:
        with pathlib.Path(filename).open("rb") as file:
            yield file
    elif fileobj is not None:
        yield fileobj


def checked_name(name: str) -> str:
    """Return the name of an object in its shortest form; `PathEscapesRootError` if it leads outside."""
    return safe_join(_NOWHERE, name).relative_to(_NOWHERE).as_posix()


@contextlib.contextmanager
def private_path(name: str) -> Iterator[str]:
    """Give a path in a folder of one's own for a copy of *name*; it vanishes with the block."""
    with workspace("metrics-object-") as folder:
        # The suffix is kept: readers choose by it.
        yield str(folder / pathlib.PurePosixPath(name).name)


@contextlib.contextmanager
def seekable(source: IO[bytes]) -> Iterator[IO[bytes]]:
    """Give *source*, or a temporary copy of what is left of it, as a file that can be read again."""
    if source.seekable() and source.tell() == 0:
        yield source
    else:
        with tempfile.TemporaryFile() as copy:
            shutil.copyfileobj(source, copy, 1 << 20)
            copy.seek(0)
            yield copy


def setting(given: str | None, name: str) -> str | None:
    """Return *given*, or what the environment variable OPS_METRICS_<name> holds."""
    return given if given is not None else os.environ.get(f"OPS_METRICS_{name}") or None


def glob_pattern(pattern: str) -> re.Pattern[str]:
    """Translate a glob to an expression for whole names; every storage globs alike this way."""
    tokens = re.findall(r"\*\*/|\*\*|\*|\?|\[!?\]?[^\]]*\]|.", pattern, re.DOTALL)
    return re.compile("".join(_expression(t) for t in tokens) + r"\Z", re.DOTALL)


def _expression(token: str) -> str:
    if len(token) > 2 and token.startswith("["):
        body = token[1:-1].replace("\\", r"\\")
        return f"(?!/)[{'^' + body[1:] if body.startswith('!') else body}]"
    known = {"**/": "(?:.*/)?", "**": ".*", "*": "[^/]*", "?": "[^/]"}
    return known.get(token, re.escape(token))
