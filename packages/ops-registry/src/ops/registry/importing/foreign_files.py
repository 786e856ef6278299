"""Reading a folder that another program, or an attacker, has filled: links are named and never followed.

Only what the folder itself lists becomes a path; no text inside a file does. A file is opened without following a
link and without waiting for a pipe, and what is larger than its kind ever is stays unread.
"""

from __future__ import annotations

import contextlib
import errno
import os
import pathlib
import stat
from typing import TYPE_CHECKING, BinaryIO

from ops.registry.disk.checked_paths import is_relative
from ops.registry.importing.findings import ForeignDataError
from ops.registry.importing.records import ForeignFile

if TYPE_CHECKING:
    from collections.abc import Iterator

    from ops.foundation.files import StrPath
    from ops.registry.importing.findings import Findings

__all__ = ["VALUE_BYTES", "ForeignFolder"]

_FLAGS = (
    os.O_RDONLY
    | getattr(os, "O_NOFOLLOW", 0)
    | getattr(os, "O_NONBLOCK", 0)
    | getattr(os, "O_CLOEXEC", 0)
    | getattr(os, "O_BINARY", 0)
)
#: No parameter, tag or meta.yaml of a run is larger: MLflow allows 8 000 characters, prompts some 100 000.
VALUE_BYTES = 1 << 20
#: No line of a metric is longer: a few numbers, and the name and digest of a dataset.
_LINE = 2_000
_DEEPEST = 64


class ForeignFolder:
    """One folder of another program; paths are relative to it, with "/" between parts."""

    def __init__(self, root: StrPath, findings: Findings) -> None:
        # The folder itself may be a link: the caller has named it.
        self.root: str = os.path.realpath(root)
        self._findings = findings

    def folders(self, path: str = "") -> list[str]:
        """Return the names of the real folders in *path*, sorted; none when it is not there."""
        found = []
        for entry in self._entries(path):
            if entry.is_dir(follow_symlinks=False):
                found.append(entry.name)
            elif entry.is_symlink():
                self._refuse_link(path, entry)
        return found

    def has(self, path: str) -> bool:
        """Whether there is a regular file at *path*."""
        found = self._found(path)
        return found is not None and stat.S_ISREG(found.st_mode)

    def file(self, path: str) -> ForeignFile | None:
        """Return the regular file at *path*, which may come from a text: None if a link is on the way, or none is there."""
        if not is_relative(path) or "\\" in path:
            return None
        found, below = None, self.root
        for part in path.split("/"):
            below = f"{below}/{part}"
            found = self._found(below.removeprefix(f"{self.root}/"))
            if found is None or stat.S_ISLNK(found.st_mode):
                return None
        if found is None or not stat.S_ISREG(found.st_mode):
            return None
        return ForeignFile(path, below, found.st_size, found.st_mtime_ns)

    def _found(self, path: str) -> os.stat_result | None:
        """Return what is at *path*, None when there is nothing; what cannot be looked at is noted."""
        try:
            return os.lstat(f"{self.root}/{path}")
        except (FileNotFoundError, NotADirectoryError, ValueError):
            return None
        except OSError as error:
            self._findings.refuse(path, _reason(error))
            return None

    def files(self, path: str) -> Iterator[ForeignFile]:
        """Yield the regular files below *path*, at any depth, by name."""
        yield from self._files(path, "", 0)

    def _files(self, path: str, prefix: str, depth: int) -> Iterator[ForeignFile]:
        for entry in self._entries(path):
            where = f"{path}/{entry.name}".lstrip("/")
            if entry.is_symlink():
                self._refuse_link(path, entry)
            elif entry.is_dir(follow_symlinks=False):
                if depth >= _DEEPEST:
                    self._findings.refuse(where, f"more than {_DEEPEST} folders deep")
                    continue
                yield from self._files(where, f"{prefix}{entry.name}/", depth + 1)
            elif entry.is_file(follow_symlinks=False):
                found = entry.stat(follow_symlinks=False)
                yield ForeignFile(prefix + entry.name, entry.path, found.st_size, found.st_mtime_ns)
            else:
                self._findings.refuse(where, "neither a file nor a folder")

    def read(self, path: str, most: int = VALUE_BYTES) -> bytes:
        """Return the content of a file; one of more than *most* bytes is a `ForeignDataError`."""
        descriptor, size = self._opened(path)
        try:
            parts, left = [], most + 1
            while left and (part := os.read(descriptor, min(left, max(size, 1) + 1))):
                parts.append(part)
                left -= len(part)
        except OSError as error:
            raise ForeignDataError(_reason(error)) from error
        finally:
            os.close(descriptor)
        data = b"".join(parts)
        if len(data) > most:
            raise ForeignDataError(f"{max(size, len(data))} bytes, at most {most} are read")
        return data

    def text(self, path: str, most: int = VALUE_BYTES) -> str:
        """Return the content of a file as text in UTF-8."""
        try:
            return self.read(path, most).decode()
        except UnicodeDecodeError as error:
            raise ForeignDataError(f"no UTF-8: {error.reason} at byte {error.start}") from error

    def values(self, path: str, found: list[str] | None = None) -> dict[str, str]:
        """Return the small texts below *path* by the names of their files, which may have "/"."""
        names = [file.name for file in self.files(path)] if found is None else found
        values = {}
        for name in names:
            try:  # not `refusing`: a run has dozens of them
                name.encode()
                values[name] = self.text(f"{path}/{name}")
            except (ForeignDataError, OSError, ValueError) as error:
                self._findings.refuse(f"{path}/{name}", error)
        return values

    def lines(self, path: str) -> Iterator[tuple[int, bytes]]:
        """Yield the lines of a file with their numbers; the last one may have no end.

        A longer line than any metric has is noted and left out; where it has no end at all, reading stops.
        """
        number = 0
        with self.opened(path) as file:
            while line := file.readline(_LINE):
                number += 1
                if line.endswith(b"\n") or len(line) < _LINE:
                    yield number, line
                    continue
                self._findings.refuse(f"{path} line {number}", f"more than {_LINE} bytes")
                if not file.readline(VALUE_BYTES).endswith(b"\n"):
                    return

    @contextlib.contextmanager
    def opened(self, path: str) -> Iterator[BinaryIO]:
        """Give a regular file, opened to be read; anything else is a `ForeignDataError`."""
        with open(self._opened(path)[0], "rb") as file:  # noqa: PTH123 - a descriptor
            yield file

    def _opened(self, path: str) -> tuple[int, int]:
        """Return the descriptor of a regular file, and how many bytes it has."""
        try:
            descriptor = os.open(f"{self.root}/{path}", _FLAGS)
        except (OSError, ValueError) as error:
            raise ForeignDataError(_reason(error)) from error
        found = os.fstat(descriptor)
        if stat.S_ISREG(found.st_mode):
            return descriptor, found.st_size
        os.close(descriptor)
        raise ForeignDataError("no regular file")

    def _entries(self, path: str) -> list[os.DirEntry[str]]:
        folder = f"{self.root}/{path}" if path else self.root
        try:
            if os.path.islink(folder) and path:  # noqa: PTH114 - it may be checked before
                return []
            with os.scandir(folder) as entries:
                found = sorted(entries, key=lambda entry: entry.name)
        except (FileNotFoundError, NotADirectoryError):
            return []
        except OSError as error:
            self._findings.refuse(path, _reason(error))
            return []
        return [entry for entry in found if self._is_named(path, entry.name)]

    def _is_named(self, path: str, name: str) -> bool:
        """Whether a name can be written down: bytes that are no UTF-8 cannot."""
        try:
            name.encode()
        except UnicodeEncodeError:
            self._findings.refuse(f"{path}/{name}", "a name that is no UTF-8")
            return False
        if not is_relative(name):
            self._findings.refuse(f"{path}/{name}", "a name that no store has on every system")
            return False
        return True

    def _refuse_link(self, path: str, entry: os.DirEntry[str]) -> None:
        target = ""
        with contextlib.suppress(OSError):
            target = f" to {str(pathlib.Path(entry.path).readlink())!r:.200}"
        self._findings.refuse(f"{path}/{entry.name}".lstrip("/"), f"a link{target}, not followed")


def _reason(error: BaseException) -> str:
    if isinstance(error, OSError):
        if error.errno == errno.ELOOP:
            return "a link, not followed"
        return error.strerror or type(error).__name__
    return str(error)
