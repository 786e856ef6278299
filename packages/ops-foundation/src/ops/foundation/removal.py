"""Removing what was judged, and not what another process has put there since.

A clean-up looks first (at an age, at who uses a file) and removes later, by a path. In between a living process may
have put something else there. So a file or folder is renamed first, which takes it from all others in one
step, and then compared with what was seen; another one is put back.
"""

from __future__ import annotations

import os
import pathlib
import secrets
import shutil
import stat
from typing import TYPE_CHECKING

from ops.foundation.atomic_files import publish_new
from ops.foundation.paths import is_there
from ops.foundation.temporary_names import TEMPORARY_SUFFIX

if TYPE_CHECKING:
    from ops.foundation.paths import StrPath

__all__ = ["remove_as_seen"]


def remove_as_seen(path: StrPath, seen: os.stat_result, *, aside: StrPath | None = None) -> bool:
    """Remove the file or folder at *path* if it is what was *seen* there; return whether it was removed.

    Args:
        path: what to remove; a link is removed itself.
        seen: what `os.lstat` returned when it was judged. A file that was written to since is another one.
        aside: the name that it has on its way, in the same folder; by default that of an unfinished file of
            `atomic_write`. A kill leaves it there.
    """
    target = pathlib.Path(path)
    if not _is_as_seen(target, seen):
        return False
    own = f".{target.name[:55]}.{secrets.token_hex(6)}{TEMPORARY_SUFFIX}"
    away = target.with_name(own) if aside is None else pathlib.Path(aside)
    try:
        target.rename(away)
    except FileNotFoundError:
        return False
    if not _is_as_seen(away, seen):
        _put_back(away, target)
        return False
    if stat.S_ISDIR(seen.st_mode):
        shutil.rmtree(away)
    else:
        away.unlink()
    return True


def _is_as_seen(path: pathlib.Path, seen: os.stat_result) -> bool:
    try:
        found = path.lstat()
    except FileNotFoundError:
        return False
    # Not its ctime, which a rename changes. Numbers of inodes are reused, hence the time.
    return os.path.samestat(found, seen) and (found.st_mtime_ns, found.st_size) == (
        seen.st_mtime_ns,
        seen.st_size,
    )


def _put_back(away: pathlib.Path, target: pathlib.Path) -> None:
    """Give what was renamed its name again, unless something newer has it by now."""
    mode = away.lstat().st_mode
    try:
        if stat.S_ISREG(mode):
            publish_new(away, target)
        else:
            _rename_to_nothing(away, target)
    except (FileExistsError, NotADirectoryError):
        if not stat.S_ISDIR(mode):  # a folder is left where it is
            away.unlink()


def _rename_to_nothing(away: pathlib.Path, target: pathlib.Path) -> None:
    if is_there(target, follow_links=False):
        raise FileExistsError(str(target))
    away.rename(target)
