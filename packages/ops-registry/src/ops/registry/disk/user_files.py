"""Files of the user's own: what every storage does with a table, a JSON value and an artifact, wherever it keeps them.

A storage defines where a path is (`location`), whether something is there, how bytes get in, and gives a local
copy of what comes out; hooks, events, formats and errors are here, and the same everywhere.
"""

from __future__ import annotations

import abc
import pathlib
from typing import IO, TYPE_CHECKING, Any, Generic, Literal, TypeVar

from ops.registry.disk import artifacts
from ops.registry.disk.checked_paths import refuse_links_below
from ops.registry.disk.journal import decode, encode, writing
from ops.registry.errors import (
    ArtifactNotFoundError,
    CorruptStoreError,
    InvalidValueError,
    StorageError,
)
from ops.registry.events import EventType, HookType
from ops.registry.operations import Operations, reported
from ops.registry.validators import check_path

if TYPE_CHECKING:
    from collections.abc import Callable
    from contextlib import AbstractContextManager

    import pandas as pd

    from ops.foundation.files import StrPath

__all__ = ["UserFiles", "check_mode", "put_table", "table_of"]

Location = TypeVar("Location")


class UserFiles(abc.ABC, Generic[Location]):
    """Tables (Parquet), JSON values and artifacts under relative paths.

    Missing paths are an `ArtifactNotFoundError`, unreadable content a `CorruptStoreError`, paths
    that leave the storage `ops.foundation.PathEscapesRootError`.
    """

    def __init__(self, operations: Operations | None = None) -> None:
        self._operations = operations or Operations()

    @reported
    def write_dataframe(
        self, df: pd.DataFrame, path: StrPath, mode: Literal["overwrite", "append"] = "overwrite"
    ) -> None:
        """Write *df* as Parquet to *path*; *mode* "append" adds its rows to those that are there, by column name.

        Raises `InvalidValueError` for another mode.
        """
        appends = check_mode(mode)
        name, location = self._writing(path)
        if appends:
            self._append(df, location)
        else:
            self._write(location, lambda file: put_table(df, file))
        self.written(name)

    @reported
    def read_dataframe(self, path: StrPath) -> pd.DataFrame:
        """Return the table at *path*; raises `ArtifactNotFoundError` when there is nothing."""
        name, location = self._reading(path)
        with self._local(location) as copy:
            table = table_of(copy, name)
        self._done_reading(name)
        return table

    @reported
    def write_json(self, data: Any, path: StrPath) -> None:
        """Write any JSON value; NaN and infinities are kept (see `ops.registry.disk.journal`)."""
        body = encode(data)
        name, location = self._writing(path)
        self._write(location, lambda file: file.write(body))
        self.written(name)

    @reported
    def read_json(self, path: StrPath) -> Any:
        """Return the JSON value at *path*; mappings come back as dicts, sequences as lists.

        Raises `ArtifactNotFoundError` when there is nothing, `StorageError` for a folder, and
        `CorruptStoreError` for what is no JSON.
        """
        name, location = self._reading(path)
        with self._local(location) as copy:
            if copy.is_dir():
                raise StorageError(f"{name!r} is a folder.")
            body = copy.read_bytes()
        try:
            value = decode(body)
        except ValueError as error:
            raise CorruptStoreError(f"{name!r} is no JSON: {error}.") from error
        self._done_reading(name)
        return value

    @reported
    def write_artifact(self, source: StrPath, path: StrPath) -> None:
        """Copy a file or folder in, in location of what has this path.

        A folder replaces a folder and a file a file; else it is a `StorageError`.

        Raises `ArtifactNotFoundError` when *source* is not there.
        """
        origin = pathlib.Path(source)
        if not origin.exists():
            raise ArtifactNotFoundError(f"There is no file or folder {str(origin)!r} to store.")
        name, location = self._writing(path)
        self._copy_in(origin, location)
        self.written(name)

    @reported
    def read_artifact(
        self, path: StrPath, destination: StrPath, *, overwrite: bool = False
    ) -> pathlib.Path:
        """Copy the file or folder at *path* out to *destination*, or into it if it is a folder; return where.

        Raises `ArtifactNotFoundError` when there is nothing, and `AlreadyExistsError` for other
        content at the destination, unless *overwrite*.
        """
        name, location = self._reading(path)
        target = pathlib.Path(destination).absolute()
        target = target / pathlib.PurePosixPath(name).name if target.is_dir() else target
        with self._local(location) as copy:
            refuse_links_below(copy)
            staged, _, digest = artifacts.stage(copy, target.parent)
            try:
                with writing(target):
                    artifacts.deliver(staged, target, digest, overwrite=overwrite)
            finally:
                artifacts.remove(staged)
        self._done_reading(name)
        return target

    def exists(self, path: StrPath) -> bool:
        """Whether there is a file or folder at *path*."""
        return self._is_there(self.location(check_path("path", path)))

    @reported
    def delete(self, path: StrPath) -> bool:
        """Delete a file, or a folder with all that is in it; False when there was none."""
        name = check_path("path", path)
        if not self._remove(self.location(name)):
            return False
        self.deleted(name)
        return True

    def deleted(self, path: str) -> None:
        """Report that what was at *path* was deleted."""
        self._operations.after(
            EventType.STORAGE_DELETED, {"path": path}, resource=f"storage:{path}"
        )

    @abc.abstractmethod
    def list_paths(self, prefix: StrPath = "") -> list[str]:
        """Return the paths of all files that start with *prefix*, sorted, with "/" between parts."""

    def health_check(self) -> bool:
        """Whether the paths can be listed."""
        self.list_paths()
        return True

    def announce_write(self, path: StrPath) -> str:
        """Let the pre-hooks know of a write, and refuse it; return the path, which they may change."""
        name = check_path("path", path)
        self.location(name)
        requested = self._operations.before(HookType.PRE_STORAGE_WRITE, {"path": name})
        return check_path("path", requested["path"])

    # Of each storage

    @abc.abstractmethod
    def location(self, path: str) -> Location:
        """Return where *path* is, or refuse it."""

    @abc.abstractmethod
    def _is_there(self, location: Location) -> bool: ...

    @abc.abstractmethod
    def _write(self, location: Location, write: Callable[[IO[bytes]], object]) -> None:
        """Let *location* be a file that has what *write* puts into it."""

    @abc.abstractmethod
    def _append(self, df: pd.DataFrame, location: Location) -> None:
        """Add rows to the table at *location*; of two who do so at once both get in."""

    @abc.abstractmethod
    def _copy_in(self, source: pathlib.Path, location: Location) -> None: ...

    @abc.abstractmethod
    def _local(self, location: Location) -> AbstractContextManager[pathlib.Path]:
        """Give a local file or folder with what is at *location*, for reading."""

    @abc.abstractmethod
    def _remove(self, location: Location) -> bool:
        """Remove what is at *location*; say whether something was."""

    # What is reported

    def _writing(self, path: StrPath) -> tuple[str, Location]:
        name = self.announce_write(path)
        return name, self.location(name)

    def written(self, path: str) -> None:
        """Report that *path* was written: counter, event, audit and post-hooks."""
        self._operations.after(
            EventType.STORAGE_WRITTEN,
            {"path": path},
            hook=HookType.POST_STORAGE_WRITE,
            resource=f"storage:{path}",
        )

    def _reading(self, path: StrPath) -> tuple[str, Location]:
        name = check_path("path", path)
        self.location(name)
        requested = self._operations.before(HookType.PRE_STORAGE_READ, {"path": name})
        name = check_path("path", requested["path"])
        location = self.location(name)
        if not self._is_there(location):
            raise ArtifactNotFoundError(f"There is nothing at {name!r} in the storage.")
        return name, location

    def _done_reading(self, path: StrPath) -> None:
        self._operations.after(
            EventType.STORAGE_READ, {"path": path}, hook=HookType.POST_STORAGE_READ
        )


def check_mode(mode: str) -> bool:
    """Whether rows are added to a table instead of replacing it; another mode is an `InvalidValueError`."""
    if mode not in ("overwrite", "append"):  # a tuple: what cannot be hashed is refused too
        raise InvalidValueError(f"mode={mode!r:.80} is unknown; use 'overwrite' or 'append'.")
    return mode == "append"


def put_table(df: pd.DataFrame, file: IO[bytes]) -> None:
    """Write *df* to *file* as Parquet, or refuse what that cannot say."""
    import pandas as pd
    import pyarrow as pa

    if not isinstance(df, pd.DataFrame):
        raise InvalidValueError(f"A table is a pandas.DataFrame, not {type(df).__name__}.")
    try:
        df.to_parquet(file, engine="pyarrow")
    except (pa.ArrowException, ValueError, TypeError) as error:
        raise InvalidValueError(f"The table cannot be kept as Parquet: {error}.") from error


def table_of(file: pathlib.Path, path: str) -> pd.DataFrame:
    """Return the table in *file*, which is called *path* in the storage."""
    import pandas as pd
    import pyarrow as pa

    try:
        return pd.read_parquet(file, engine="pyarrow")
    except (pa.ArrowException, ValueError) as error:
        raise CorruptStoreError(f"{path!r} is no table: {error}.") from error
