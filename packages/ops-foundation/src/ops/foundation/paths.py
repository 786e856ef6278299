r"""Names from outside that become paths inside a folder, and nowhere else.

Two guards, for two kinds of origin:

- `safe_join` takes the name that a user or a program passes, and follows links that stay inside.
- `RelativePath` is the type of a name that was read from disk or from the network: a manifest, an
  index, an archive. What has this type is relative, in one spelling and free of `..`; it becomes a
  path only below a root, and no component there may be a link. A store so checked lies where its
  root is now, not where it was when the name was written.
"""

from __future__ import annotations

import errno
import fnmatch
import functools
import os
import pathlib
import re
import stat
from typing import TYPE_CHECKING, Literal, Self, TypeAlias, final

from ops.foundation.errors import PathEscapesRootError

if TYPE_CHECKING:
    from collections.abc import Container, Iterator
    from typing import BinaryIO

__all__ = ["RelativePath", "StrPath", "anchored", "is_there", "listed", "safe_join", "walked"]

StrPath: TypeAlias = "str | os.PathLike[str]"

_DRIVE = re.compile(r"[A-Za-z]:")
_SEPARATORS = re.compile(r"[/\\]")
_WINDOWS_DEVICES = {"CON", "PRN", "AUX", "NUL"} | {
    f"{p}{i}" for p in ("COM", "LPT") for i in range(10)
}


def anchored(path: StrPath) -> str:
    """Return *path* as it leads from the current folder, also when that changes later.

    Nothing is looked up: links and ".." stay as they are. What keeps a path for later use keeps
    this.
    """
    text = os.fspath(path)
    return text if os.path.isabs(text) else os.path.join(os.getcwd(), text)  # noqa: PTH109, PTH117, PTH118 - text


def safe_join(base: StrPath, name: StrPath) -> pathlib.Path:
    r"""Return *base*/*name*, or raise `PathEscapesRootError` when that could lie outside *base*.

    Refused on every system, so that data written here can be read there: absolute names, `..`,
    NUL, drive letters, backslashes that hide any of these, Windows device names, the empty name,
    and links below *base* that lead outside. *base* itself may be reached through links.

    The check holds at the time of the call: it is no defence against a process that may write into
    *base* and swaps a folder for a link later; `RelativePath.open` is.
    """
    text = os.fspath(name)
    reason = _escape_reason(text)
    if reason:
        raise _refusal(text, base, reason)
    # An inner link is only seen by resolving; the base is resolved alike, so its own links cancel.
    path = pathlib.Path(base, *text.split("/"))
    root = os.path.realpath(base)
    real = os.path.realpath(path)
    if real == root or not real.startswith(root.rstrip(os.sep) + os.sep):
        reason = "it names the folder itself" if real == root else f"a link leads to {real!r}"
        raise _refusal(text, base, reason)
    return path


def is_there(path: StrPath, *, follow_links: bool = True) -> bool:
    """Return whether there is something at *path*; a link that leads nowhere counts without *follow_links*.

    For decisions that cannot be taken back. `os.path.exists`, and from Python 3.14 `Path.exists` too, take every
    error for "no". Raises OSError when it cannot be found out, as for want of the right to a folder, or on a disk that fails.
    """
    try:
        os.stat(path, follow_symlinks=follow_links)  # noqa: PTH116 - strings too
    except (FileNotFoundError, NotADirectoryError, ValueError):
        return False
    except OSError as error:
        if error.errno in _NO_NAME:
            return False
        raise
    return True


# No file can have such a name, or the link goes round in a circle.
_NO_NAME = {errno.ENAMETOOLONG, errno.ELOOP}


def listed(folder: StrPath, pattern: str = "*") -> list[pathlib.Path]:
    """Return what is in *folder* and has a name that fits *pattern*, sorted; nothing when there is no such folder.

    For decisions that cannot be taken back. `Path.glob` takes a folder that it may not read for an empty one, and
    from Python 3.12 also one for which there is no descriptor left. Raises OSError for those.
    """
    try:
        names = os.listdir(folder)  # noqa: PTH208 - names are matched
    except (FileNotFoundError, NotADirectoryError):
        return []
    matches = re.compile(fnmatch.translate(pattern)).match
    return [pathlib.Path(folder, name) for name in sorted(names) if matches(name)]


def walked(folder: StrPath, without: Container[str] = ()) -> Iterator[tuple[str, list[str]]]:
    """Yield each folder at and below *folder* with the names of its files; links to folders are not followed.

    Folders whose names are in *without* are left out, and ``lost+found``.

    Raises OSError for a folder that cannot be read, which `os.walk` takes for an empty one; one that is gone is none.
    """

    def refuse(error: OSError) -> None:
        if not isinstance(error, (FileNotFoundError, NotADirectoryError)):
            raise error

    for root, folders, names in os.walk(folder, onerror=refuse):
        # The system's own at the top of a disk, which only its administrator may read.
        folders[:] = [name for name in folders if name not in without and name != "lost+found"]
        yield root, names


@final
@functools.total_ordering
class RelativePath:
    """A checked name: relative, inside, in one spelling, whatever it was read from.

    Immutable, hashable and ordered by its components; `str()` gives the text with "/", as it is to
    be written. It has no `__fspath__`: by itself it is no path. Two names of one file are equal,
    since empty components, "." and a slash at the end are refused. Creating one from text that fits
    no file below a folder raises `PathEscapesRootError`, from what is no str TypeError.

        >>> name = RelativePath("models/3/weights.bin")
        >>> (name.name, str(name.parent), str(name.parent / "card.json"))
        ('weights.bin', 'models/3', 'models/3/card.json')
        >>> RelativePath("../weights.bin")
        Traceback (most recent call last):
        ops.foundation.errors.PathEscapesRootError: '../weights.bin' is refused as a name: it has '..'.
    """

    __slots__ = ("parts",)

    parts: tuple[str, ...]

    def __init__(self, text: str) -> None:
        if not isinstance(text, str):
            raise TypeError(f"A name is text, not {type(text).__name__}: {text!r}.")
        parts = tuple(text.split("/"))
        reason = _escape_reason(text)
        if reason is None and not {"", "."}.isdisjoint(parts):
            reason = "it has an empty or '.' component"
        if reason:
            raise PathEscapesRootError(f"{text!r} is refused as a name: {reason}.")
        object.__setattr__(self, "parts", parts)

    @classmethod
    def component(cls, text: str) -> Self:
        """Return *text* checked as the name of one file or folder.

        Raises `PathEscapesRootError` for a separator of any system, and for what the class refuses.
        """
        checked = cls(text)
        if _SEPARATORS.search(text):
            raise PathEscapesRootError(f"{text!r} is refused as a name: it has a separator.")
        return checked

    @classmethod
    def of(cls, path: StrPath, root: StrPath) -> Self:
        """Return what *path* is called below *root*; neither is looked up on the disk.

        Raises `PathEscapesRootError` when it is not below.
        """
        try:
            relative = pathlib.Path(os.path.abspath(path)).relative_to(os.path.abspath(root))  # noqa: PTH100 - resolve() would follow links
        except ValueError:
            raise _refusal(os.fspath(path), root, "it is not below") from None
        return cls(relative.as_posix())

    def below(self, root: StrPath) -> pathlib.Path:
        """Return the path of this name below *root*, of which nothing has to exist.

        Raises `PathEscapesRootError` when a component below *root* is a link, wherever it leads.
        """
        path = os.fspath(root)
        for part in self.parts:
            path = os.path.join(path, part)  # noqa: PTH118 - many names are checked at once
            if _is_link(path):
                raise _refusal(str(self), root, f"{part!r} is a link")
        return pathlib.Path(path)

    def open(self, root: StrPath) -> BinaryIO:
        """Open the regular file of this name below *root* for reading bytes.

        No link is followed, also none that appears meanwhile: on POSIX each component is opened
        relative to the one before. Raises `PathEscapesRootError` for links and for what is no
        regular file (a FIFO would block its reader), FileNotFoundError when there is none.
        """
        if os.name == "posix":
            descriptor = _opened_inside(self, root)
        else:
            descriptor = os.open(self.below(root), os.O_RDONLY | getattr(os, "O_BINARY", 0))
        if not stat.S_ISREG(os.fstat(descriptor).st_mode):
            os.close(descriptor)
            raise _refusal(str(self), root, "it is no regular file")
        return open(descriptor, "rb")  # noqa: PTH123 - a descriptor

    def read_bytes(self, root: StrPath) -> bytes:
        """Return the content of the regular file of this name below *root*; raises as `open`."""
        with self.open(root) as file:
            return file.read()

    @property
    def name(self) -> str:
        """The last component."""
        return self.parts[-1]

    @property
    def parent(self) -> RelativePath | None:
        """The name without its last component, None for a single one."""
        return RelativePath("/".join(self.parts[:-1])) if len(self.parts) > 1 else None

    def __truediv__(self, name: str | RelativePath) -> RelativePath:
        return RelativePath(f"{self}/{name}")

    def __str__(self) -> str:
        return "/".join(self.parts)

    def __repr__(self) -> str:
        return f"RelativePath({str(self)!r})"

    def __eq__(self, other: object) -> bool:
        return self.parts == other.parts if isinstance(other, RelativePath) else NotImplemented

    def __lt__(self, other: object) -> bool:
        return self.parts < other.parts if isinstance(other, RelativePath) else NotImplemented

    def __hash__(self) -> int:
        return hash(self.parts)

    def __setattr__(self, name: str, value: object) -> None:
        raise AttributeError(f"A RelativePath does not change: {name!r} cannot be set.")

    def __delattr__(self, name: str) -> None:
        raise AttributeError(f"A RelativePath does not change: {name!r} cannot be removed.")

    def __reduce__(self) -> tuple[type[RelativePath], tuple[str]]:
        return RelativePath, (str(self),)  # checked again where it is read


def _opened_inside(name: RelativePath, root: StrPath) -> int:
    """Open component after component without following links; return the last descriptor."""
    # Not blocking: opening a FIFO would wait for its writer.
    flags = os.O_RDONLY | os.O_CLOEXEC | os.O_NOFOLLOW | os.O_NONBLOCK
    folder = os.open(root, os.O_RDONLY | os.O_CLOEXEC | os.O_DIRECTORY)
    for position, part in enumerate(name.parts, 1):
        last = position == len(name.parts)
        try:
            inner = os.open(part, flags if last else flags | os.O_DIRECTORY, dir_fd=folder)
        except OSError as error:
            if error.errno in _MEANS_LINK and _is_link_in(folder, part):
                raise _refusal(str(name), root, f"{part!r} is a link") from error
            error.filename = os.path.join(root, *name.parts)  # noqa: PTH118 - as the error has it
            raise
        finally:
            os.close(folder)
        folder = inner
    return folder


# Of O_NOFOLLOW by itself (NetBSD and FreeBSD have codes of their own), and together with O_DIRECTORY.
_MEANS_LINK = {errno.ELOOP, errno.ENOTDIR, errno.EMLINK, getattr(errno, "EFTYPE", errno.ELOOP)}


def _is_link_in(folder: int, part: str) -> bool:
    return stat.S_ISLNK(os.lstat(part, dir_fd=folder).st_mode)


def _is_link(path: str) -> bool:
    try:
        status = os.lstat(path)
    except (FileNotFoundError, NotADirectoryError):
        return False
    # A junction of Windows is a folder that leads elsewhere, like a link.
    return stat.S_ISLNK(status.st_mode) or getattr(status, "st_reparse_tag", 0) == _JUNCTION


_JUNCTION: Literal[0xA0000003] = 0xA0000003


def _refusal(text: str, root: StrPath, reason: str) -> PathEscapesRootError:
    return PathEscapesRootError(
        f"{text!r} is refused as a name below {os.fspath(root)!r}: {reason}."
    )


def _escape_reason(text: str) -> str | None:
    parts = _SEPARATORS.split(text)
    if not text.strip("/\\. "):
        return "it is empty or made of dots" if ".." not in parts else "it has '..'"
    if "\0" in text:
        return "it has a NUL byte"
    if not parts[0]:
        return "it is absolute"
    for part in parts:
        if _DRIVE.match(part):
            return "it has a drive letter"
        # Windows drops trailing dots and spaces, so ".. " is ".." there.
        if part.rstrip(". ") == "" and part.strip().startswith(".."):
            return "it has '..'"
        if part.split(".")[0].rstrip().upper() in _WINDOWS_DEVICES:
            return "it is a device name on Windows"
    return None
