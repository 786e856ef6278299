"""Views: small files for people and tools that can be made again from the journals at any time.

So they are never flushed, keep no owner and follow no link, which leaves of `atomic_write` what is cheap
enough to be done with every change: a temporary file beside the target, and a rename over it.
"""

from __future__ import annotations

import contextlib
import errno
import os
import secrets

__all__ = ["write_view"]

_FLAGS = os.O_WRONLY | os.O_CREAT | os.O_EXCL | getattr(os, "O_CLOEXEC", 0)
_FLAGS |= getattr(os, "O_BINARY", 0)


def write_view(path: str, body: bytes) -> None:
    """Replace the file at *path*, made with its folder if need be; readers see the old or the new."""
    folder, name = os.path.split(path)
    temporary = f"{folder}/.{name}.{secrets.token_hex(6)}.tmp"
    try:
        _put(temporary, body)
        os.replace(temporary, path)  # noqa: PTH105 - strings, with every change
    except BaseException:
        with contextlib.suppress(OSError):
            os.unlink(temporary)  # noqa: PTH108 - strings
        raise


def _put(path: str, body: bytes) -> None:
    with open(_opened(path), "wb", buffering=0) as file:
        if file.write(body) < len(body):
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC), path)


def _opened(path: str) -> int:
    try:
        return os.open(path, _FLAGS, 0o666)
    except FileNotFoundError:
        os.makedirs(os.path.dirname(path), exist_ok=True)  # noqa: PTH103, PTH120 - strings
        return os.open(path, _FLAGS, 0o666)
