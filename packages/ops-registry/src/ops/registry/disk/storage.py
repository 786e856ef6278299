"""Files of the user's own in the store: tables, JSON and artifacts under relative paths.

`LocalStorageBackend` keeps them below one folder, apart from the journals of the tracker and the
registry, so no path can reach those. Every write makes a whole new file beside its target and
renames it; a reader, or the next start after a kill, sees the old content or the new one. Appending
to a table reads and writes all of it, under a lock: two processes that append both get in.

Paths from outside pass `safe_join`, which refuses whatever could leave the folder. Names of
temporary files and of the lock are refused too.
"""

from __future__ import annotations

import contextlib
import functools
import os
import pathlib
from typing import IO, TYPE_CHECKING, Any, Literal

from ops.foundation.errors import LockTimeout
from ops.foundation.files import atomic_write, safe_join
from ops.foundation.locks import FileLock
from ops.foundation.paths import is_there
from ops.registry.disk import artifacts
from ops.registry.disk.checked_paths import inside
from ops.registry.disk.user_files import UserFiles, put_table, table_of
from ops.registry.errors import ArtifactNotFoundError, InvalidValueError, StorageError
from ops.registry.events import EventType
from ops.registry.validators import check_path

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    import pandas as pd

    from ops.foundation.files import StrPath
    from ops.registry.operations import Operations

__all__ = ["LocalStorageBackend"]

_LOCK = ".lock"


class LocalStorageBackend(UserFiles[pathlib.Path]):
    """Tables (Parquet), JSON values and artifacts below the folder *root*; processes may share it.

    *operations* is that of the context; *durability* "commit" flushes each write before it returns.
    Missing paths are an `ArtifactNotFoundError`, unreadable content a `CorruptStoreError`, paths
    that leave the folder `ops.foundation.PathEscapesRootError`.
    """

    def __init__(
        self, root: StrPath, *, operations: Operations | None = None, durability: str = "process"
    ) -> None:
        super().__init__(operations)
        self._durability = durability
        self.root: pathlib.Path = pathlib.Path(root).absolute()
        self._durable: Literal["none", "full"] = "full" if durability == "commit" else "none"
        self.lock: FileLock = FileLock(self.root / _LOCK, timeout=60)
        self.recover()

    def __reduce__(self) -> tuple[Any, ...]:
        """Be sent to another process as where it is, and opened anew there."""
        made = functools.partial(
            type(self), self.root, operations=self._operations, durability=self._durability
        )
        return made, ()

    def recover(self) -> None:
        """Undo the transactions of processes that are gone; who has the lock has done so."""
        if not self._has_transactions():
            return
        from ops.registry.disk.transactions import recover

        try:
            self.lock.acquire(timeout=0)
        except LockTimeout:
            return
        try:
            undone = recover(self.root)
        finally:
            self.lock.release()
        if undone:
            self.report(EventType.TRANSACTION_RECOVERED, {"undone": undone})

    @contextlib.contextmanager
    def locked(self) -> Iterator[None]:
        """Exclude transactions that commit, and have none that is half done."""
        with self.lock:
            self.recover()
            yield

    def list_paths(self, prefix: StrPath = "") -> list[str]:
        """Return the paths of all files that start with *prefix*, sorted, with "/" between parts.

        Raises `StorageError` for a folder that cannot be listed.
        """
        wanted = check_path("prefix", prefix)
        return sorted(name for name in _names(self.root) if name.startswith(wanted))

    def location(self, path: str) -> pathlib.Path:
        """Return where *path* is on disk.

        Raises `InvalidValueError` for names that the storage uses itself, and
        `PathEscapesRootError`.
        """
        safe_join(self.root, path)  # names that other systems cannot have are refused too
        location = inside(self.root, path)
        if any(map(_is_reserved, location.relative_to(self.root).parts)):
            raise InvalidValueError(f"{path!r} is a name that the storage uses itself.")
        return location

    def extended(self, df: pd.DataFrame, path: StrPath) -> pd.DataFrame:
        """Return the rows of the table at *path*, if there is one, and those of *df*."""
        return self._joined(df, self.location(check_path("path", path)))

    def report(self, event: EventType, data: dict[str, Any]) -> None:
        """Emit an event about several paths at once."""
        self._operations.after(event, data, resource="storage")

    def _writing(self, path: StrPath) -> tuple[str, pathlib.Path]:
        name, target = super()._writing(path)
        with self._translated(target):
            target.parent.mkdir(parents=True, exist_ok=True)
        return name, target

    def _is_there(self, location: pathlib.Path) -> bool:
        with self._translated(location):
            return is_there(location)  # False for names that no file could have too

    def _write(self, location: pathlib.Path, write: Callable[[IO[bytes]], object]) -> None:
        with (
            self._translated(location),
            atomic_write(location, "wb", durable=self._durable) as file,
        ):
            write(file)

    def _append(self, df: pd.DataFrame, location: pathlib.Path) -> None:
        with self.locked(), self._translated(location):
            while not self._appended(df, location):
                pass

    def _appended(self, df: pd.DataFrame, location: pathlib.Path) -> bool:
        """Add rows to a table; False when it was written meanwhile, as writing all of it takes no lock."""
        seen = _version(location)
        joined = self._joined(df, location)

        def put(file: IO[bytes]) -> None:
            put_table(joined, file)
            file.flush()
            if self._durable != "none":  # here, as it takes longest
                os.fsync(file.fileno())
            if _version(location) != seen:
                raise _ChangedError

        try:
            self._write(location, put)
        except _ChangedError:
            return False
        return True

    def _has_transactions(self) -> bool:
        try:
            with os.scandir(self.root / ".transactions") as found:
                return any(found)
        except (FileNotFoundError, NotADirectoryError):
            return False

    def _joined(self, df: pd.DataFrame, location: pathlib.Path) -> pd.DataFrame:
        if not self._is_there(location):
            return df
        import pandas as pd

        with self._local(location) as file:
            old = table_of(file, file.name)
        return pd.concat([old, df], ignore_index=True)

    def _copy_in(self, source: pathlib.Path, location: pathlib.Path) -> None:
        with self._translated(location):
            refuse_other_kind(source, location)
            artifacts.copy_in(source, location)

    @contextlib.contextmanager
    def _local(self, location: pathlib.Path) -> Iterator[pathlib.Path]:
        with self._translated(location):
            yield location

    def _remove(self, location: pathlib.Path) -> bool:
        if not self._is_there(location):
            return False
        with self._translated(location):
            artifacts.remove(location)
        return True

    @contextlib.contextmanager
    def _translated(self, location: pathlib.Path) -> Iterator[None]:
        """Turn errors of the system into this package's; its own pass."""
        path = location.relative_to(self.root).as_posix()
        try:
            yield
        except FileNotFoundError as error:
            if isinstance(error, ArtifactNotFoundError):
                raise
            raise ArtifactNotFoundError(f"There is nothing at {path!r} in the storage.") from error
        except OSError as error:
            if isinstance(error, StorageError):
                raise
            raise StorageError(f"{path!r} cannot be read or written: {error}.") from error


class _ChangedError(Exception):
    """A table was written since it was read."""


def _version(location: pathlib.Path) -> tuple[int, int, int] | None:
    try:
        found = location.stat()
    except FileNotFoundError:
        return None
    return found.st_ino, found.st_mtime_ns, found.st_size


def refuse_other_kind(source: pathlib.Path, location: pathlib.Path) -> None:
    """Refuse to put a file where a folder is, or the other way round: that would delete it."""
    if is_there(location) and location.is_dir() != source.is_dir():
        kind = "folder" if location.is_dir() else "file"
        raise StorageError(
            f"{str(location)!r} is a {kind}, which this would replace with something else.",
            suggestions=("Delete it first, or choose another path.",),
        )


def _names(folder: pathlib.Path, prefix: str = "") -> Iterator[str]:
    """Yield the paths of the regular files in a folder; a file that may be there is not left out."""
    try:
        with os.scandir(folder) as found:
            entries = list(found)
    except (FileNotFoundError, NotADirectoryError):
        return
    except OSError as error:
        raise StorageError(f"{prefix or str(folder)!r} cannot be listed: {error}.") from error
    for entry in entries:
        if _is_reserved(entry.name):
            continue
        if entry.is_dir(follow_symlinks=False):
            yield from _names(folder / entry.name, f"{prefix}{entry.name}/")
        elif entry.is_file(follow_symlinks=False):
            yield f"{prefix}{entry.name}"


def _is_reserved(part: str) -> bool:
    return part in {_LOCK, ".transactions"} or (part.startswith(".") and part.endswith(".tmp"))
