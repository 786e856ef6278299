"""The folder of a disk cache: what it must be, and the file that identifies it.

`cache.json` holds the version of the format, the random salt of the checksums and where the folder was
made. It is linked into place whole, so two processes that create a cache agree on one. What was signed
counts only where it was signed; in a folder that was moved or copied since, the path shows that its
entries are not forged but of another folder, and count as missing.
"""

from __future__ import annotations

import contextlib
import json
import os
import re
import secrets
import sys
from typing import TYPE_CHECKING, NamedTuple

from ops.cache.errors import CacheError, UnsuitableFolderError
from ops.cache.own_files import open_own_to_read, refuse_link
from ops.foundation.files import atomic_write
from ops.foundation.locks import FileLock
from ops.foundation.logs import get_logger

if TYPE_CHECKING:
    import pathlib

__all__ = ["MARKER", "Opened", "mark_moved_here", "open_folder"]

_log = get_logger("ops.cache")
MARKER = "cache.json"
_FORMAT = "ops-cache log"
_VERSION = 1
_MOST_MARKER = 32768
_SEGMENT = re.compile(r"\d{8,}\.(seg|hint)")
_REMOTE = frozenset(
    ("nfs", "nfs4", "cifs", "smb3", "smbfs", "9p", "afs", "fuse.sshfs", "fuse.s3fs")
)


class Opened(NamedTuple):
    """What a folder is: the salt of its checksums, whether it can only be read, and where it was before."""

    salt: bytes
    read_only: bool
    was_moved: bool


def open_folder(folder: pathlib.Path) -> Opened:
    """Make *folder* a cache if it is none, and return what it is.

    Raises `UnsuitableFolderError` on Windows and on network file systems, where appends of several
    processes may overwrite each other.
    """
    if sys.platform == "win32":
        raise UnsuitableFolderError(
            "DiskCache needs POSIX appends, which Windows does not have.",
            suggestions=("Use RedisCache, or @cache, which works with whole files.",),
        )
    with contextlib.suppress(OSError):  # what is wrong shows when the marker is read
        folder.mkdir(mode=0o700, parents=True, exist_ok=True)
    kind = _file_system(os.path.realpath(folder))
    if kind in _REMOTE:
        raise UnsuitableFolderError(
            f"{folder} is on a network file system ({kind}), where appends are not atomic.",
            suggestions=("Use a folder on a local disk, or RedisCache between machines.",),
        )
    read_only = not os.access(folder, os.W_OK)
    try:
        found = _read_marker(folder / MARKER)
    except _DamagedMarkerError:
        if read_only:
            raise UnsuitableFolderError(f"{folder / MARKER} is damaged, and read-only.") from None
        found = _emptied(folder)
    if found is None:
        if read_only:
            raise UnsuitableFolderError(f"{folder} is no cache and cannot be made one: read-only.")
        found = _make_marker(folder)
    salt, made_at = found
    return Opened(salt, read_only, made_at not in {"", _path_of(folder)})


def mark_moved_here(folder: pathlib.Path, salt: bytes) -> None:
    """Write that *folder*, which has no entry of before any more, is at home where it is now."""
    with atomic_write(folder / MARKER) as file:
        file.write(_marker(folder, salt))


def _marker(folder: pathlib.Path, salt: bytes) -> str:
    record = {"format": _FORMAT, "version": _VERSION, "salt": salt.hex(), "path": _path_of(folder)}
    return json.dumps(record) + "\n"


def _path_of(folder: pathlib.Path) -> str:
    return os.fsencode(os.path.realpath(folder)).decode("utf-8", "backslashreplace")


class _DamagedMarkerError(Exception):
    """Without the salt no record can be checked, so none of them counts any more."""


def _emptied(folder: pathlib.Path) -> tuple[bytes, str] | None:
    """Remove a damaged marker with the segments that it was for; return what is there if another process has done so."""
    path, lock = folder / MARKER, folder / "evict.lock"
    refuse_link(lock)
    with FileLock(lock):
        try:
            return _read_marker(path)
        except _DamagedMarkerError as error:
            _log.warning("%s is damaged (%s): the cache starts empty", path, error)
        ours = [old for old in folder.iterdir() if _SEGMENT.fullmatch(old.name)]
        for old in (*ours, path):  # the marker last: until then the rest is to be done
            old.unlink(missing_ok=True)
    return None


def _read_marker(path: pathlib.Path) -> tuple[bytes, str] | None:
    """Return the salt and the path, None when there is no marker."""
    try:
        with open(open_own_to_read(path), encoding="utf-8") as file:  # noqa: PTH123 - a descriptor
            record = json.loads(file.read(_MOST_MARKER))
        if record.get("format") != _FORMAT:
            raise UnsuitableFolderError(
                f"{path} was not made by ops-cache; nothing in {path.parent} was touched.",
                suggestions=("Give the cache a folder of its own.",),
            )
        version, salt = int(record["version"]), bytes.fromhex(record["salt"])
        made_at = str(record.get("path", ""))
    except FileNotFoundError:
        return None
    except (ValueError, KeyError, TypeError, AttributeError, RecursionError) as error:
        raise _DamagedMarkerError(error) from error
    if version > _VERSION:
        raise CacheError(
            f"{path.parent} has format version {version}; this ops-cache knows up to {_VERSION}.",
            suggestions=("Upgrade ops-cache, or use another folder.",),
        )
    return salt, made_at


def _make_marker(folder: pathlib.Path) -> tuple[bytes, str]:
    salt = secrets.token_bytes(16)
    path, fresh = folder / MARKER, folder / f".{MARKER}.{secrets.token_hex(6)}"
    try:
        with fresh.open("x", encoding="utf-8") as file:
            file.write(_marker(folder, salt))
            file.flush()
            os.fsync(file.fileno())
        os.link(fresh, path)
    except FileExistsError:  # another process was first
        with contextlib.suppress(_DamagedMarkerError):
            return _read_marker(path) or (salt, "")
    finally:
        fresh.unlink(missing_ok=True)
    return salt, ""


def _file_system(path: str) -> str:
    """Return the type of the file system that holds *path*, "" where it is not known."""
    try:
        with open("/proc/self/mounts", encoding="utf-8", errors="surrogateescape") as file:  # noqa: PTH123
            mounts = [line.split(" ", 3)[1:3] for line in file]
    except (FileNotFoundError, PermissionError):
        return ""
    holding = (
        (len(at), kind) for at, kind in mounts if f"{path}/".startswith(at.rstrip("/") + "/")
    )
    return max(holding, default=(0, ""))[1]
