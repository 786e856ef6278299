"""Opening files of a cache folder that others may have written to.

A link that another user put there would lead a read, or worse an append, to any file of this one, and a
file of another user may be cut while it is mapped, which kills the process. So links are never followed,
and only files that belong to this user (or to the administrator) are opened.
"""

from __future__ import annotations

import contextlib
import errno
import os
import stat
from typing import TYPE_CHECKING

from ops.cache.errors import UnsuitableFolderError
from ops.foundation.errors import ValidationError
from ops.serialize.errors import SignatureError

if TYPE_CHECKING:
    import pathlib

    from ops.foundation.files import StrPath

__all__ = ["can_be_mapped", "open_own", "open_own_to_read", "refuse_key_inside", "refuse_link"]

_NO_LINK = getattr(os, "O_NOFOLLOW", 0)
_CLOSE = getattr(os, "O_CLOEXEC", 0)
_BINARY = getattr(os, "O_BINARY", 0)
_NO_WAIT = getattr(os, "O_NONBLOCK", 0)  # a FIFO must not make us wait for its other end
_LINK_ERRORS = {errno.ELOOP, errno.EMLINK}
_OTHERS_WRITE = 0o022


def open_own(path: StrPath, flags: int) -> int:
    """Open *path* with *flags* if it is a file of this user's and no link; created with mode 0600.

    Raises `UnsuitableFolderError` for anything else, `FileNotFoundError` when there is nothing.
    """
    try:
        descriptor = os.open(path, flags | _NO_LINK | _CLOSE | _BINARY | _NO_WAIT, 0o600)
    except OSError as error:
        if error.errno in _LINK_ERRORS:
            raise _refusal(path, "is a symbolic link") from error
        raise
    status = os.fstat(descriptor)
    reason = None
    if not stat.S_ISREG(status.st_mode):
        reason = "is no regular file"
    elif not _is_ours(status):
        reason = f"belongs to the user {status.st_uid}"
    elif flags & (os.O_WRONLY | os.O_RDWR) and status.st_nlink > 1:
        reason = "has a second name elsewhere (a hard link)"
    if reason is not None:
        os.close(descriptor)
        raise _refusal(path, reason)
    return descriptor


def open_own_to_read(path: StrPath) -> int:
    """Open *path* for reading; see `open_own`."""
    return open_own(path, os.O_RDONLY)


def read_own_text(path: StrPath) -> str:
    """Return the text in *path*; see `open_own`. Raises `UnicodeDecodeError` for what is no UTF-8."""
    with os.fdopen(open_own_to_read(path), encoding="utf-8") as file:
        return file.read()


def can_be_mapped(path: StrPath) -> bool:
    """Say whether only this user can write to the file at *path*, so that it can safely be mapped."""
    try:
        status = os.lstat(path)
    except OSError:
        return False
    if not hasattr(os, "geteuid"):
        return stat.S_ISREG(status.st_mode)
    return (
        stat.S_ISREG(status.st_mode)
        and _is_ours(status)
        and not stat.S_IMODE(status.st_mode) & _OTHERS_WRITE
    )


def refuse_link(path: StrPath) -> None:
    """Raise `UnsuitableFolderError` when *path* is there and is a link or another user's."""
    try:
        status = os.lstat(path)
    except FileNotFoundError:
        return
    if stat.S_ISLNK(status.st_mode):
        raise _refusal(path, "is a symbolic link")
    if not _is_ours(status):
        raise _refusal(path, f"belongs to the user {status.st_uid}")


def refuse_key_inside(folder: pathlib.Path) -> None:
    """Raise `ValidationError` when the key of this user lies in *folder*, where a cache is to be.

    Who can write there could then replace the key with one of theirs.
    """
    from ops.serialize.user_key import user_key_path

    with contextlib.suppress(SignatureError):  # there is no key, and none can be made
        if user_key_path().is_relative_to(folder):
            raise ValidationError(
                f"The key of this user, {user_key_path()}, lies in the folder of the cache, {folder}.",
                suggestions=("Give the cache a folder of its own.",),
            )


def _is_ours(status: os.stat_result) -> bool:
    return not hasattr(os, "geteuid") or status.st_uid in {os.geteuid(), 0}


def _refusal(path: StrPath, reason: str) -> UnsuitableFolderError:
    return UnsuitableFolderError(
        f"{os.fspath(path)} {reason}, so it is not used as a part of a cache.",
        suggestions=("Use a folder that only you can write to, or remove the file.",),
    )
