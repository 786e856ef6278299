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
import pathlib
from typing import TYPE_CHECKING, Any, Literal

from ops.foundation.files import atomic_write, safe_join
from ops.foundation.locks import FileLock
from ops.registry.disk import artifacts
from ops.registry.disk.journal import decode, encode
from ops.registry.errors import (
    ArtifactNotFoundError,
    CorruptStoreError,
    InvalidValueError,
    StorageError,
)
from ops.registry.events import EventType, HookType
from ops.registry.operations import Operations

if TYPE_CHECKING:
    from collections.abc import Iterator

    import pandas as pd

    from ops.foundation.files import StrPath

__all__ = ["LocalStorageBackend"]

_LOCK = ".lock"


class LocalStorageBackend:
    """Tables (Parquet), JSON values and artifacts below one folder; processes may share it.

    Missing paths are an `ArtifactNotFoundError`, unreadable content a `CorruptStoreError`, paths
    that leave the folder `ops.foundation.PathEscapesRootError`.
    """

    def __init__(
        self, root: StrPath, *, operations: Operations | None = None, durability: str = "process"
    ) -> None:
        self.root = pathlib.Path(root).absolute()
        self._operations = operations or Operations()
        self._durable: Literal["none", "full"] = "full" if durability == "commit" else "none"
        self.lock = FileLock(self.root / _LOCK, timeout=60)
        if (self.root / ".transactions").is_dir():
            from ops.registry.disk.transactions import recover

            undone = recover(self.root)
            if undone:
                self.tell(EventType.TRANSACTION_RECOVERED, {"undone": undone})

    def write_dataframe(
        self, df: pd.DataFrame, path: str, mode: Literal["overwrite", "append"] = "overwrite"
    ) -> None:
        """Write *df* as Parquet; "append" adds its rows to those that are there, by column name."""
        if mode not in {"overwrite", "append"}:
            raise InvalidValueError(f"mode={mode!r} is unknown; use 'overwrite' or 'append'.")
        target = self._writing(path)
        if mode == "append":
            with self.lock:
                self._put_table(self._joined(df, target), target)
        else:
            self._put_table(df, target)
        self._written(path)

    def read_dataframe(self, path: str) -> pd.DataFrame:
        """Return a table."""
        table = self._table(self._reading(path))
        self._done_reading(path)
        return table

    def write_json(self, data: Any, path: str) -> None:
        """Write any JSON value; NaN and infinities are kept (see `ops.registry.disk.journal`)."""
        body = encode(data)
        target = self._writing(path)
        with _translated(path), atomic_write(target, "wb", durable=self._durable) as file:
            file.write(body)
        self._written(path)

    def read_json(self, path: str) -> Any:
        """Return a JSON value; mappings come back as dicts, sequences as lists."""
        source = self._reading(path)
        with _translated(path):
            body = source.read_bytes()
        try:
            value = decode(body)
        except ValueError as error:
            raise CorruptStoreError(f"{path!r} is no JSON: {error}.") from error
        self._done_reading(path)
        return value

    def write_artifact(self, source: StrPath, path: str) -> None:
        """Copy a file or folder in, in place of what has this path."""
        target = self._writing(path)
        with _translated(path):
            artifacts.copy_in(source, target)
        self._written(path)

    def read_artifact(self, path: str, destination: StrPath) -> pathlib.Path:
        """Copy a file or folder out to *destination*, or into it if it is a folder; return where."""
        source = self._reading(path)
        target = pathlib.Path(destination).absolute()
        target = target / source.name if target.is_dir() else target
        with _translated(path):
            artifacts.copy_in(source, target)
        self._done_reading(path)
        return target

    def exists(self, path: str) -> bool:
        """Whether there is a file or folder at *path*."""
        return self.place(path).exists()

    def delete(self, path: str) -> bool:
        """Delete a file, or a folder with all that is in it; False when there was none."""
        target = self.place(path)
        if not target.exists():
            return False
        with _translated(path):
            artifacts.remove(target)
        self._operations.after(
            EventType.STORAGE_DELETED, {"path": path}, resource=f"storage:{path}"
        )
        return True

    def list_paths(self, prefix: str = "") -> list[str]:
        """Return the paths of all files that start with *prefix*, sorted, with "/" between parts."""
        if not self.root.is_dir():
            return []
        found = (p.relative_to(self.root) for p in self.root.rglob("*") if p.is_file())
        names = (p.as_posix() for p in found if not any(map(_is_reserved, p.parts)))
        return sorted(name for name in names if name.startswith(prefix))

    def health_check(self) -> bool:
        """Whether the folder can be listed."""
        self.list_paths()
        return True

    def place(self, path: str) -> pathlib.Path:
        """Return where *path* is on disk, or refuse it."""
        place = safe_join(self.root, path)
        if any(map(_is_reserved, place.relative_to(self.root).parts)):
            raise InvalidValueError(f"{path!r} is a name that the storage uses itself.")
        return place

    def announce_write(self, path: str) -> None:
        """Let the pre-hooks know of a write, and refuse it."""
        self._operations.before(HookType.PRE_STORAGE_WRITE, {"path": path})

    def extended(self, df: pd.DataFrame, path: str) -> pd.DataFrame:
        """Return the rows of the table at *path*, if there is one, and those of *df*."""
        return self._joined(df, self.place(path))

    def tell(self, event: EventType, data: dict[str, Any]) -> None:
        """Emit an event about several paths at once."""
        self._operations.after(event, data, resource="storage")

    def _writing(self, path: str) -> pathlib.Path:
        target = self.place(path)
        self.announce_write(path)
        with _translated(path):
            target.parent.mkdir(parents=True, exist_ok=True)
        return target

    def _written(self, path: str) -> None:
        self._operations.after(
            EventType.STORAGE_WRITTEN,
            {"path": path},
            hook=HookType.POST_STORAGE_WRITE,
            resource=f"storage:{path}",
        )

    def _reading(self, path: str) -> pathlib.Path:
        source = self.place(path)
        self._operations.before(HookType.PRE_STORAGE_READ, {"path": path})
        if not source.exists():
            raise ArtifactNotFoundError(f"There is nothing at {path!r} in the storage.")
        return source

    def _done_reading(self, path: str) -> None:
        self._operations.after(
            EventType.STORAGE_READ, {"path": path}, hook=HookType.POST_STORAGE_READ
        )

    def _put_table(self, df: pd.DataFrame, target: pathlib.Path) -> None:
        with _translated(target.name), atomic_write(target, "wb", durable=self._durable) as file:
            df.to_parquet(file, engine="pyarrow")

    def _joined(self, df: pd.DataFrame, target: pathlib.Path) -> pd.DataFrame:
        if not target.exists():
            return df
        import pandas as pd

        old = self._table(target)
        return pd.concat([old, df], ignore_index=True)

    @staticmethod
    def _table(source: pathlib.Path) -> pd.DataFrame:
        import pandas as pd
        import pyarrow as pa

        try:
            with _translated(source.name):
                return pd.read_parquet(source, engine="pyarrow")
        except (pa.ArrowException, ValueError) as error:
            raise CorruptStoreError(f"{source.name!r} is no table: {error}.") from error


def _is_reserved(part: str) -> bool:
    return part in {_LOCK, ".transactions"} or (part.startswith(".") and part.endswith(".tmp"))


@contextlib.contextmanager
def _translated(path: str) -> Iterator[None]:
    """Turn errors of the system into this package's; its own pass."""
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
