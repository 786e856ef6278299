"""Finding, describing, copying and ageing out files."""

from __future__ import annotations

import dataclasses
import datetime as dt
import fnmatch
import os
import pathlib
import shutil
import stat
from typing import TYPE_CHECKING

from ops.foundation import instants
from ops.foundation.atomic_files import atomic_write
from ops.foundation.callables import refuse_coroutine_function
from ops.foundation.removal import remove_as_seen
from ops.foundation.temporary_names import is_temporary_name, target_of_temporary_name

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from ops.foundation.paths import StrPath

__all__ = ["FileInfo", "cleanup_old_files", "copy_with_progress", "find_files", "get_file_info"]

_PIECE = 1 << 20
# A write that has changed nothing for so long has died.
_UNFINISHED_DAYS = 1.0


@dataclasses.dataclass(frozen=True, slots=True)
class FileInfo:
    """What the file system knows about a path; links are described themselves, not followed.

    *path* is as it was given, *size_bytes* in bytes, *modified* an aware UTC datetime, *mode* the
    permission bits. Exactly one of *is_file*, *is_directory* and *is_link* is true for what is one
    of these.
    """

    path: pathlib.Path
    size_bytes: int
    modified: dt.datetime
    mode: int
    is_file: bool
    is_directory: bool
    is_link: bool


def get_file_info(path: StrPath) -> FileInfo:
    """Return the `FileInfo` of *path*, or raise FileNotFoundError."""
    where = pathlib.Path(path)
    status = where.lstat()
    return FileInfo(
        path=where,
        size_bytes=status.st_size,
        modified=dt.datetime.fromtimestamp(status.st_mtime, dt.UTC),
        mode=stat.S_IMODE(status.st_mode),
        is_file=stat.S_ISREG(status.st_mode),
        is_directory=stat.S_ISDIR(status.st_mode),
        is_link=stat.S_ISLNK(status.st_mode),
    )


def find_files(
    directory: StrPath, pattern: str = "*", *, recursive: bool = True
) -> Iterator[pathlib.Path]:
    """Yield the regular files below *directory* whose name fits *pattern*, sorted, no links.

    *recursive* includes its folders. The unfinished files of a running `atomic_write` are left out.
    Raises NotADirectoryError when *directory* is no folder, OSError when it cannot be read.
    """
    folder = pathlib.Path(directory)
    if not folder.is_dir():
        raise NotADirectoryError(f"{os.fspath(folder)!r} is no folder.")
    os.scandir(folder).close()  # `glob` takes a folder that cannot be read for an empty one
    found = folder.rglob(pattern) if recursive else folder.glob(pattern)
    yield from sorted(
        p for p in found if not is_temporary_name(p.name) and p.is_file() and not p.is_symlink()
    )


def cleanup_old_files(
    directory: StrPath,
    pattern: str = "*",
    days: float | None = None,
    keep_count: int | None = None,
    dry_run: bool = False,  # noqa: FBT001, FBT002 - the signature of the spec
    *,
    now: dt.datetime | None = None,
) -> list[pathlib.Path]:
    """Remove files of *directory* (not of its folders) and return them, oldest first.

    A file that is written, or replaced, while this looks at the others stays. A file goes when it is older than *days* and not among the *keep_count* newest; of the two, one
    that is None does not protect. *dry_run* only returns. Unfinished files of `atomic_write` are
    neither counted nor returned; those that a process left behind when it died go when the name
    that they were for fits *pattern* and they are older than *days*, and than a day. *now* (aware;
    default: the clock) is the time that ages count to. Raises ValueError when neither *days* nor
    *keep_count* is given, and for a pattern with a slash.
    """
    if days is None and keep_count is None:
        raise ValueError("Neither days nor keep_count is given; that would remove every file.")
    if (days is not None and not days >= 0) or (keep_count is not None and keep_count < 0):
        raise ValueError("days and keep_count must not be negative.")
    if {*pattern} & {"/", os.sep}:
        raise ValueError(f"pattern={pattern!r} leads out of the folder; give a pattern of names.")
    at = (instants.now() if now is None else instants.require_aware(now)).timestamp()
    files = find_files(directory, pattern, recursive=False)
    ages = sorted((seen.st_mtime, p, seen) for p in files if (seen := _seen(p)) is not None)
    if keep_count:
        ages = ages[:-keep_count]
    limit = at if days is None else at - days * 86400
    doomed = [(p, seen) for modified, p, seen in ages if days is None or modified < limit]
    if dry_run:
        return [path for path, _ in doomed]
    for path, seen in _left_behind(directory, pattern, at, days or 0):
        remove_as_seen(path, seen)
    return [path for path, seen in doomed if remove_as_seen(path, seen)]


def _left_behind(
    directory: StrPath, pattern: str, at: float, days: float
) -> Iterator[tuple[pathlib.Path, os.stat_result]]:
    """Yield the unfinished files of writes that no process can still be at."""
    limit = at - max(days, _UNFINISHED_DAYS) * 86400
    for path in pathlib.Path(directory).iterdir():
        target = target_of_temporary_name(path.name)
        if target is not None and fnmatch.fnmatchcase(target, pattern):
            seen = _seen(path)
            if seen is not None and seen.st_mtime < limit and stat.S_ISREG(seen.st_mode):
                yield path, seen


def _seen(path: pathlib.Path) -> os.stat_result | None:
    try:
        return path.lstat()
    except FileNotFoundError:  # another process cleans up at the same time
        return None


def copy_with_progress(
    src: StrPath, dst: StrPath, callback: Callable[[int, int], object] | None = None
) -> pathlib.Path:
    """Copy the file *src*, whole or not at all, calling *callback* with the bytes so far and in all.

    The mode and times are copied too; an existing *dst* is replaced at the end. An empty file calls
    once with (0, 0). An error in the callback stops the copy and leaves *dst* as it was. Raises
    `shutil.SameFileError` when both are one file, `ValidationError` for a coroutine function.
    """
    refuse_coroutine_function(callback, "callback")
    source, target = pathlib.Path(src), pathlib.Path(dst)
    if target.exists() and source.samefile(target):
        raise shutil.SameFileError(f"{os.fspath(src)!r} and {os.fspath(dst)!r} are one file.")
    done = 0
    with source.open("rb") as file, atomic_write(target, "wb") as out:
        status = os.fstat(file.fileno())
        total = status.st_size
        if hasattr(os, "fchmod"):  # before there is a byte that others might read
            os.fchmod(out.fileno(), stat.S_IMODE(status.st_mode))
        while piece := file.read(_PIECE):
            out.write(piece)
            done += len(piece)
            if callback is not None:
                callback(done, max(total, done))
        if not done and callback is not None:
            callback(0, 0)
    if target.is_file():  # and no device, which the bytes were passed to
        shutil.copystat(source, target)
    return target
