"""The key of this user, for what the user's own programs store and read again (`trust="user"`).

Who can write into a cache folder can put a pickle there; who cannot read this key cannot sign one. The key
is made once, at random, in the user's data folder, readable by its owner alone; programs that start at
once agree on one, because a finished file is linked to the name, which only the first can do.
"""

from __future__ import annotations

import contextlib
import errno
import os
import pathlib
import secrets
import stat
import sys

from ops.serialize.errors import SignatureError
from ops.serialize.trust import Signed

__all__ = ["user_key", "user_key_path"]

_NAME = "serialize.key"
_SIZE = 32
_known: dict[pathlib.Path, Signed] = {}


def user_key_path() -> pathlib.Path:
    """Return the path of the key: `OPS_SERIALIZE_USER_KEY_FILE`, else in the user's data folder."""
    # Environment OPS_SERIALIZE_USER_KEY_FILE: the file with the key that `trust="user"` signs
    # with (default: `ops/serialize.key` in the user's data folder).
    # Environment XDG_DATA_HOME, LOCALAPPDATA: the user's data folder (default: `~/.local/share`,
    # on macOS `~/Library/Application Support`).
    if given := os.environ.get("OPS_SERIALIZE_USER_KEY_FILE"):
        return pathlib.Path(given).absolute()
    if base := os.environ.get("XDG_DATA_HOME") or os.environ.get("LOCALAPPDATA"):
        return pathlib.Path(base).absolute() / "ops" / _NAME
    try:
        home = pathlib.Path.home()
    except RuntimeError as error:
        raise SignatureError(
            "This user has no home folder that could hold the key.",
            suggestions=("Set OPS_SERIALIZE_USER_KEY_FILE, or pass trust=Signed(key).",),
        ) from error
    inner = "Library/Application Support" if sys.platform == "darwin" else ".local/share"
    return home / inner / "ops" / _NAME


def user_key() -> Signed:
    """Return the key of this user, which is created when there is none.

    Raises `SignatureError` when it cannot be created, or when others could read it or have made it.
    """
    path = user_key_path()
    key = _known.get(path)
    if key is None:
        data = _read(path)
        if data is None:
            _create(path)
            data = _read(path)
        if data is None:
            raise SignatureError(f"The key {path} vanished while it was created.")
        key = _known[path] = Signed(data).bound("user")
    return key


def _read(path: pathlib.Path) -> bytes | None:
    flags = os.O_RDONLY
    for name in ("O_NOFOLLOW", "O_CLOEXEC", "O_NONBLOCK"):  # a FIFO must not make us wait
        flags |= getattr(os, name, 0)
    try:
        descriptor = os.open(path, flags)
    except FileNotFoundError:
        return None
    except OSError as error:
        raise SignatureError(
            f"The key {path} cannot be read: {error}",
            suggestions=("Set OPS_SERIALIZE_USER_KEY_FILE, or pass trust=Signed(key).",),
        ) from error
    try:
        status = os.fstat(descriptor)
        if os.name == "posix" and (
            status.st_uid != os.geteuid()
            or stat.S_IMODE(status.st_mode) & 0o077
            or not stat.S_ISREG(status.st_mode)
        ):
            raise SignatureError(
                f"The key {path} is not a file that only you can read.",
                suggestions=("Remove it: what it signed is then computed anew.",),
            )
        text = os.read(descriptor, 4 * _SIZE)
    finally:
        os.close(descriptor)
    try:
        data = bytes.fromhex(text.decode("ascii"))
    except ValueError:
        data = b""
    if len(data) != _SIZE:
        raise SignatureError(
            f"The key {path} is damaged.",
            suggestions=("Remove it: what it signed is then computed anew.",),
        )
    return data


def _create(path: pathlib.Path) -> None:
    fresh = path.with_name(f".{path.name}.{secrets.token_hex(6)}")
    try:
        path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
        descriptor = os.open(fresh, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
        try:
            text = secrets.token_bytes(_SIZE).hex().encode("ascii")
            if os.write(descriptor, text) < len(text):  # the rest of a key would be no key
                raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC), str(fresh))
            os.fsync(descriptor)
        finally:
            os.close(descriptor)
        with contextlib.suppress(FileExistsError):  # another process was first
            os.link(fresh, path)
    except OSError as error:
        raise SignatureError(
            f"The key {path} cannot be created: {error}",
            suggestions=("Set OPS_SERIALIZE_USER_KEY_FILE, or pass trust=Signed(key).",),
        ) from error
    finally:
        with contextlib.suppress(OSError):
            fresh.unlink(missing_ok=True)
