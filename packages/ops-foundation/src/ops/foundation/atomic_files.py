"""Files that are written whole or not at all.

`atomic_write` writes a temporary file in the folder of its target and renames it over the target
with `os.replace`. The rename is the one visible step: a reader, and a machine that loses power,
sees the old file or the new one. Everything before the rename may fail (including with
KeyboardInterrupt) and leaves the old file alone; the temporary file is then removed.
"""

from __future__ import annotations

import contextlib
import errno
import os
import pathlib
import secrets
import shutil
import stat
import tempfile
from typing import IO, TYPE_CHECKING, Any, Literal, TypeAlias, overload

from ops.foundation._metadata import keep_metadata
from ops.foundation.temporary_names import TEMPORARY_SUFFIX

if TYPE_CHECKING:
    from collections.abc import Generator

    from ops.foundation.paths import StrPath

    # Literal modes give the caller the exact type of file that is opened.
    TextMode: TypeAlias = Literal["w", "wt", "x", "xt"]
    BinaryMode: TypeAlias = Literal["wb", "xb"]

__all__ = [
    "Durability",
    "atomic_write",
    "keep_metadata",
    "publish_new",
    "safe_file_write",
    "sync_directory",
]

Durability: TypeAlias = Literal["none", "file", "full"]

_MODES = {"w", "wt", "x", "xt", "wb", "xb"}
_BACKUP_SUFFIX = ".bak"


@overload
def atomic_write(
    path: StrPath,
    mode: TextMode = "w",
    encoding: str | None = "utf-8",
    *,
    durable: Durability = "file",
    backup: bool = False,
) -> contextlib.AbstractContextManager[IO[str]]: ...
@overload
def atomic_write(
    path: StrPath,
    mode: BinaryMode,
    encoding: str | None = "utf-8",
    *,
    durable: Durability = "file",
    backup: bool = False,
) -> contextlib.AbstractContextManager[IO[bytes]]: ...
def atomic_write(
    path: StrPath,
    mode: str = "w",
    encoding: str | None = "utf-8",
    *,
    durable: Durability = "file",
    backup: bool = False,
) -> contextlib.AbstractContextManager[IO[Any]]:
    """Open a file whose content replaces *path* when the block ends without an error.

    What is at *path* decides how:

    - A regular file keeps its mode, ACL and extended attributes, its owner (where the process may
      set it), and a symbolic link that leads to it. Where an ACL cannot be kept, no user gets access whom
      it kept out. A second name of the file (a hard link) keeps the old content.
    - A FIFO, a socket or a device is no file that could be replaced: what was written is passed to it
      when the block ends without an error; *durable* and *backup* do not apply. OSError (ENXIO) is
      raised when nothing reads from it.
    - A folder raises IsADirectoryError before the block runs.

    Args:
        path: the file.
        mode: "w", "wb", "x" or "xb"; the last two raise FileExistsError when there is something at
            *path*, also if it appeared while the block ran.
        encoding: of text.
        durable: what is flushed to the disk before the call returns: "none", the "file", or the
            file and its folder ("full").
        backup: keep the old content beside it as `<name>.bak`.

    >>> import pathlib, tempfile
    >>> target = pathlib.Path(tempfile.mkdtemp(), "notes.txt")
    >>> with atomic_write(target) as file:
    ...     _ = file.write("whole or not at all")
    >>> target.read_text()
    'whole or not at all'
    """
    if mode not in _MODES:
        raise ValueError(f"mode {mode!r} does not write a whole file; use 'w', 'wb', 'x' or 'xb'.")
    if durable not in {"none", "file", "full"}:
        raise ValueError(f"durable={durable!r} is unknown; use 'none', 'file' or 'full'.")
    return _atomic_write(path, mode, encoding, durable, backup=backup)


@contextlib.contextmanager
def _atomic_write(
    path: StrPath, mode: str, encoding: str | None, durable: Durability, *, backup: bool
) -> Generator[IO[Any]]:
    exclusive = "x" in mode
    target = os.fspath(path)
    if not os.path.isabs(target):  # noqa: PTH117 - hot path
        target = os.path.join(os.getcwd(), target)  # noqa: PTH109, PTH118 - hot path
    if not exclusive and os.path.islink(target):  # noqa: PTH114 - hot path
        target = os.path.realpath(target)
    if exclusive and os.path.lexists(target):
        raise FileExistsError(errno.EEXIST, os.strerror(errno.EEXIST), target)
    binary = "b" in mode
    previous = None if exclusive else _status(target)
    if previous is not None and not stat.S_ISREG(previous.st_mode):
        with _special_file(target, previous, None if binary else encoding, binary=binary) as file:
            yield file
        return
    temporary = _beside(target)
    try:
        descriptor = _created(temporary, target)
        with open(  # noqa: PTH123 - a descriptor
            descriptor,
            "wb" if binary else "w",
            encoding=None if binary else encoding,
        ) as file:
            yield file
            file.flush()
            previous = _status(target)
            if previous is not None:
                keep_metadata(descriptor, temporary, target, previous)
            if durable != "none":
                os.fsync(descriptor)
        if backup and previous is not None:
            _keep_backup(target)
        if exclusive:
            publish_new(temporary, target)
        else:
            os.replace(temporary, target)  # noqa: PTH105 - hot path
    except BaseException:
        with contextlib.suppress(OSError):
            os.unlink(temporary)  # noqa: PTH108 - hot path
        raise
    if durable == "full":
        sync_directory(os.path.dirname(target))  # noqa: PTH120 - hot path


def _beside(target: str) -> str:
    """Return a name of its own for a file on its way to *target*, in the same folder."""
    folder, name = os.path.split(target)
    # A quarter of what a name may have: a character takes up to four bytes.
    own = f".{name[:55]}.{secrets.token_hex(6)}{TEMPORARY_SUFFIX}"
    return os.path.join(folder, own)  # noqa: PTH118 - hot path


def _created(temporary: str, target: str) -> int:
    """Open a new file that only users may read who may read what is at *target*."""
    previous = _status(target)
    # Without one the umask decides, as for `open`; mkstemp's 0600 would stay for ever.
    mode = 0o666 if previous is None else stat.S_IMODE(previous.st_mode) & 0o600
    try:
        return os.open(temporary, os.O_RDWR | os.O_CREAT | os.O_EXCL | _O_EXTRA, mode)
    except OSError as error:
        error.filename = target  # the name that the caller knows
        raise


_O_EXTRA = getattr(os, "O_CLOEXEC", 0) | getattr(os, "O_BINARY", 0)


def _status(target: str) -> os.stat_result | None:
    try:
        return os.stat(target)  # noqa: PTH116 - hot path
    except FileNotFoundError:
        return None


@contextlib.contextmanager
def _special_file(
    target: str, status: os.stat_result, encoding: str | None, *, binary: bool
) -> Generator[IO[Any]]:
    """Collect what the block writes, and write it through to the FIFO, socket or device at the end."""
    if stat.S_ISDIR(status.st_mode):
        raise IsADirectoryError(errno.EISDIR, os.strerror(errno.EISDIR), target)
    with tempfile.TemporaryFile("w+b" if binary else "w+", encoding=encoding) as file:
        yield file
        file.flush()
        raw = file if binary else file.buffer  # type: ignore[attr-defined]  # a text file has one
        raw.seek(0)
        with open(_opened_special(target), "wb") as special:
            shutil.copyfileobj(raw, special)


def _opened_special(target: str) -> int:
    # Not O_CREAT: should it be gone by now, no regular file takes its name. And not blocking, as a
    # FIFO without a reader would hold its writer for ever.
    try:
        descriptor = os.open(target, os.O_WRONLY | os.O_NONBLOCK | _O_EXTRA)
    except OSError as error:
        if error.errno == errno.ENXIO:
            error.add_note("A FIFO without a reader, or a socket, takes no data.")
        raise
    os.set_blocking(descriptor, True)
    return descriptor


def _keep_backup(target: str) -> None:
    """Copy to the side and rename, so that a crash never leaves half a backup."""
    copy = _beside(target)
    try:
        # Private until it has the mode of the original.
        os.close(os.open(copy, os.O_WRONLY | os.O_CREAT | os.O_EXCL | _O_EXTRA, 0o600))
        shutil.copy2(target, copy)
        os.replace(copy, target + _BACKUP_SUFFIX)  # noqa: PTH105 - strings here
    except BaseException:
        pathlib.Path(copy).unlink(missing_ok=True)
        raise


def publish_new(temporary: StrPath, target: StrPath) -> None:
    """Give the file *temporary* the name *target*, or raise FileExistsError: link refuses where rename replaces."""
    try:
        os.link(temporary, target)
    except FileExistsError:
        raise
    except OSError:
        # A file system without hard links: claim the name first, then replace the empty claim.
        os.close(os.open(target, os.O_CREAT | os.O_EXCL | _O_EXTRA))
        os.replace(temporary, target)  # noqa: PTH105 - strings here
    else:
        os.unlink(temporary)  # noqa: PTH108 - strings here


def sync_directory(folder: StrPath) -> None:
    """Flush the entries of *folder*; a system or file system that cannot do this is tolerated."""
    if os.name != "posix":
        return
    descriptor = os.open(folder or ".", os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        os.fsync(descriptor)
    except OSError as error:
        if error.errno not in {errno.EINVAL, errno.ENOTSUP, errno.EBADF, errno.EROFS, errno.EACCES}:
            raise
    finally:
        os.close(descriptor)


def safe_file_write(
    path: StrPath,
    data: str | bytes,
    backup: bool = True,  # noqa: FBT001, FBT002 - the signature of the spec
    *,
    durable: Durability = "file",
) -> pathlib.Path:
    """Write *data* (str as UTF-8) to *path* at once and return the path.

    *backup* keeps the old content as `<name>.bak`. *durable* is what a power cut cannot take:
    nothing, the content ("file") or content and name ("full"), as for `atomic_write`.
    """
    if isinstance(data, str):
        with atomic_write(path, "w", durable=durable, backup=backup) as text:
            text.write(data)
    else:
        with atomic_write(path, "wb", durable=durable, backup=backup) as file:
            file.write(data)
    return pathlib.Path(path)
