"""Names that were read from a store, and when they may become paths.

A store may come from another person: an export, an rsync, an archive. Whatever stands in its journals, views and
plans is data, and a checksum does not change that, since any program can compute one. A name becomes a path here and
only here: it must be relative, lead into the store, and meet no link on its way. This package never
makes links inside a store, so one that is met was put there by other means.

`is_id`, `is_part` and `is_relative` look at the text alone and cost little: readers use them to leave out frames that
this package cannot have written. `inside`, which is `ops.foundation.RelativePath`, asks the file system too, and is
what comes before each use of a path.
"""

from __future__ import annotations

import errno
import os
import pathlib
import re
import stat
from typing import TYPE_CHECKING

from ops.foundation.paths import RelativePath
from ops.registry.errors import CorruptStoreError, StorageError

if TYPE_CHECKING:
    from collections.abc import Iterator

    from ops.foundation.files import StrPath

__all__ = [
    "inside",
    "is_id",
    "is_part",
    "is_relative",
    "links_below",
    "refuse_link",
    "refuse_links",
    "refuse_links_below",
]

_ID = re.compile(r"[0-9A-Za-z_-]{1,64}")
_DRIVE = re.compile(r"[A-Za-z]:" if os.name == "nt" else r"[A-Za-z]:(?:[/\\]|$)")
_SEPARATORS = re.compile(r"[/\\]")


def is_id(value: object) -> bool:
    """Whether *value* can be the id of a run, an experiment or a writer: 1 to 64 letters, digits, - and _."""
    return isinstance(value, str) and _ID.fullmatch(value) is not None


def is_part(value: object) -> bool:
    """Whether *value* can be the name of one file or folder, on any system."""
    return isinstance(value, str) and "/" not in value and is_relative(value)


def is_relative(value: object) -> bool:
    """Whether *value* is a relative path that by its text alone stays below where it begins."""
    if not isinstance(value, str) or "\0" in value or _DRIVE.match(value):
        return False
    # A backslash separates on Windows alone, and what was written here may be read there.
    parts = _SEPARATORS.split(value)
    return bool(parts[0]) and all(part.rstrip(". ") or not part.startswith(".") for part in parts)


def inside(root: StrPath, *names: str) -> pathlib.Path:
    """Return the path of *names* below *root*; a link among what is there already is refused.

    Raises:
        PathEscapesRootError: a name is absolute, has ``..``, NUL or a drive, or a link was met.
    """
    name = RelativePath("/".join(names))
    try:
        return name.below(root)
    except OSError as error:
        if error.errno != errno.ENAMETOOLONG:
            raise _unknown(error, root, str(name)) from error
        return pathlib.Path(root, str(name))  # no file can have that name: its first use raises


def refuse_link(path: StrPath) -> None:
    """Raise `CorruptStoreError` when there is a link at *path*, `StorageError` when that cannot be found out."""
    try:
        found = os.lstat(path)
    except (FileNotFoundError, NotADirectoryError, ValueError):
        return
    except OSError as error:
        if error.errno == errno.ENAMETOOLONG:
            return
        raise _unknown(error, path) from error
    if stat.S_ISLNK(found.st_mode):
        raise CorruptStoreError(
            f"{os.fspath(path)!r} is a link, which no store has: what it points to is not used.",
            suggestions=("Remove it; storage_path itself may be a link.",),
        )


def refuse_links(root: StrPath, *names: str) -> None:
    """Raise `CorruptStoreError` when one of the paths that a part of a store always uses is a link."""
    for name in names:
        refuse_link(f"{os.fspath(root)}/{name}")


def links_below(folder: StrPath) -> Iterator[str]:
    """Yield the paths of all links in a folder and the folders in it, none of which is followed."""
    try:
        entries = sorted(os.scandir(folder), key=lambda entry: entry.name)
    except (FileNotFoundError, NotADirectoryError):
        return
    for entry in entries:
        if entry.is_symlink():
            yield entry.path
        elif entry.is_dir(follow_symlinks=False):
            yield from links_below(entry.path)


def refuse_links_below(path: StrPath, *, itself: bool = True) -> None:
    """Raise `CorruptStoreError` when *path* (unless not *itself*), or anything in it, is a link."""
    if itself:
        refuse_link(path)
    for found in links_below(path):
        refuse_link(found)


def _unknown(error: OSError, *names: StrPath) -> StorageError:
    path = "/".join(os.fspath(name) for name in names)
    return StorageError(f"{path!r:.300} cannot be looked at: {error.strerror or error}.")
