"""Files of the user's own on Databricks: content in the volume, its path in a table.

A volume cannot rename, so each content is uploaded to a place of its own, and the row of its path is
what changes: a reader sees the old content or the new one. Appending to a table replaces it only if
nobody else did meanwhile, and begins again otherwise: two who append both get in. A folder that
replaces another is one MERGE; files that only the old one had are deleted by a second statement.
"""

from __future__ import annotations

import contextlib
import json
import logging
import pathlib
import secrets
from typing import TYPE_CHECKING, Any, Literal

from ops.foundation.files import safe_join
from ops.registry.databricks.volumes import Stored, Volume, encoded
from ops.registry.disk import artifacts
from ops.registry.disk.journal import decode, encode
from ops.registry.errors import (
    ArtifactNotFoundError,
    CorruptStoreError,
    InvalidValueError,
    MLOpsException,
    StorageError,
)
from ops.registry.events import EventType, HookType
from ops.registry.operations import Operations

if TYPE_CHECKING:
    from collections.abc import Collection, Iterator, Sequence

    import pandas as pd

    from ops.foundation.files import StrPath
    from ops.registry.databricks.warehouse import Warehouse

__all__ = ["DatabricksStorageBackend"]

logger = logging.getLogger("ops.registry")

_FILES = "array<struct<path:string,place:string,size:bigint,checksum:string>>"
_AT = "(path = :path OR startswith(path, :below))"
_ATTEMPTS = 20


class DatabricksStorageBackend:
    """Tables (Parquet), JSON values and artifacts in the volume of a schema.

    Missing paths are an `ArtifactNotFoundError`, unreadable content a `CorruptStoreError`, paths
    that leave the storage `ops.foundation.PathEscapesRootError`.
    """

    def __init__(self, warehouse: Warehouse, *, operations: Operations | None = None) -> None:
        self.warehouse = warehouse
        self._volume = Volume(warehouse)
        self._operations = operations or Operations()

    def write_dataframe(
        self, df: pd.DataFrame, path: str, mode: Literal["overwrite", "append"] = "overwrite"
    ) -> None:
        """Write *df* as Parquet; "append" adds its rows to those that are there, by column name."""
        if mode not in {"overwrite", "append"}:
            raise InvalidValueError(f"mode={mode!r} is unknown; use 'overwrite' or 'append'.")
        name = self._writing(path)
        if mode == "append":
            self._append(df, name)
        else:
            with self._local() as copy:
                df.to_parquet(copy, engine="pyarrow")
                self._put(copy, name)
        self._written(path)

    def read_dataframe(self, path: str) -> pd.DataFrame:
        """Return a table."""
        name = self._reading(path)
        with self._fetched(name) as (copy, _):
            table = _parsed(copy, path)
        self._done_reading(path)
        return table

    def write_json(self, data: Any, path: str) -> None:
        """Write any JSON value; NaN and infinities are kept (see `ops.registry.disk.journal`)."""
        body = encode(data)
        name = self._writing(path)
        with self._local() as copy:
            copy.write_bytes(body)
            self._put(copy, name)
        self._written(path)

    def read_json(self, path: str) -> Any:
        """Return a JSON value; mappings come back as dicts, sequences as lists."""
        name = self._reading(path)
        with self._fetched(name) as (copy, _):
            if copy.is_dir():
                raise StorageError(f"{path!r} is a folder.")
            body = copy.read_bytes()
        try:
            value = decode(body)
        except ValueError as error:
            raise CorruptStoreError(f"{path!r} is no JSON: {error}.") from error
        self._done_reading(path)
        return value

    def write_artifact(self, source: StrPath, path: str) -> None:
        """Copy a file or folder in, in place of what has this path."""
        origin = pathlib.Path(source)
        if not origin.exists():
            raise ArtifactNotFoundError(f"There is no file or folder {str(origin)!r} to store.")
        name = self._writing(path)
        self._put(origin, name)
        self._written(path)

    def read_artifact(self, path: str, destination: StrPath) -> pathlib.Path:
        """Copy a file or folder out to *destination*, or into it if it is a folder; return where."""
        name = self._reading(path)
        target = pathlib.Path(destination).absolute()
        target = target / pathlib.PurePosixPath(name).name if target.is_dir() else target
        with self._fetched(name) as (copy, _):
            artifacts.copy_in(copy, target)
        self._done_reading(path)
        return target

    def exists(self, path: str) -> bool:
        """Whether there is a file or folder at *path*."""
        return bool(self._rows(_checked(path)))

    def delete(self, path: str) -> bool:
        """Delete a file, or a folder with all that is in it; False when there was none."""
        name = _checked(path)
        gone = self._rows(name)
        if not gone:
            return False
        self.warehouse.change(f"DELETE FROM @ops_files WHERE {_AT}", path=name, below=f"{name}/")  # noqa: S608 - literals of this package, values are parameters
        self._clear(gone)
        self._operations.after(
            EventType.STORAGE_DELETED, {"path": path}, resource=f"storage:{path}"
        )
        return True

    def list_paths(self, prefix: str = "") -> list[str]:
        """Return the paths of all files that start with *prefix*, sorted, with "/" between parts."""
        rows = self.warehouse.rows(
            "SELECT path FROM @ops_files WHERE startswith(path, :prefix)", prefix=prefix
        )
        return sorted(row["path"] for row in rows)

    def health_check(self) -> bool:
        """Whether the paths can be listed."""
        self.list_paths()
        return True

    def left_over(self, before_seconds: float) -> list[str]:
        """Return the files in the volume that no path of the storage has, older than a time."""

        def named() -> set[str]:
            return {row["place"] for row in self.warehouse.rows("SELECT place FROM @ops_files")}

        return self._volume.left_over("storage", before_seconds, named)

    def clear(self, uris: Collection[str]) -> None:
        """Remove what `left_over` returned."""
        self._volume.clear(uris)

    def _append(self, df: pd.DataFrame, name: str) -> None:
        import pandas as pd

        for attempt in range(_ATTEMPTS):
            rows = self._rows(name)
            with self._local() as copy:
                if rows:
                    with self._fetched(name) as (old, rows):
                        df_all = pd.concat([_parsed(old, name), df], ignore_index=True)
                else:
                    df_all = df
                df_all.to_parquet(copy, engine="pyarrow")
                (file,) = self._volume.upload(copy, self._place(name))
            if self._swapped(name, file, rows):
                self._clear(rows)
                return
            self._clear([{"place": file.place}])
            self.warehouse.wait(min(attempt, 4))
        raise StorageError(f"{name!r} was changed by others {_ATTEMPTS} times in a row.")

    def _swapped(self, name: str, file: Stored, old: Sequence[dict[str, Any]]) -> bool:
        """Let *name* be *file* if it is still what *old* says; return whether it is."""
        values = {"path": name, "place": file.place, "size": file.size, "checksum": file.checksum}
        if old:
            self.warehouse.change(
                "UPDATE @ops_files SET place = :place, size = :size, checksum = :checksum, "
                "version = version + 1 WHERE path = :path AND version = :version",
                version=old[0]["version"],
                **values,
            )
        else:
            self.warehouse.change(
                "MERGE INTO @ops_files t USING (SELECT :path AS path, :place AS place, "
                "CAST(:size AS BIGINT) AS size, :checksum AS checksum) s ON t.path = s.path "
                "WHEN NOT MATCHED THEN INSERT (path, place, size, checksum, version) "
                "VALUES (s.path, s.place, s.size, s.checksum, 1)",
                **values,
            )
        # Not by the count: after a lost answer the statement was done twice, and changed nothing then.
        return [row["place"] for row in self._rows(name)] == [file.place]

    def _put(self, source: pathlib.Path, name: str) -> None:
        files = self._volume.upload(source, self._place(name))
        old = self._rows(name)
        batch = [
            {
                "path": f"{name}/{file.name}" if file.name else name,
                "place": file.place,
                "size": file.size,
                "checksum": file.checksum,
            }
            for file in files
        ]
        self.warehouse.change(
            f"MERGE INTO @ops_files t USING (SELECT e.path AS path, e.place AS place, "  # noqa: S608 - literals of this package, values are parameters
            "e.size AS size, e.checksum AS checksum "
            f"FROM (SELECT explode(from_json(:batch, '{_FILES}')) AS e)) s ON t.path = s.path "
            "WHEN MATCHED THEN UPDATE SET place = s.place, size = s.size, "
            "checksum = s.checksum, version = t.version + 1 "
            "WHEN NOT MATCHED THEN INSERT (path, place, size, checksum, version) "
            "VALUES (s.path, s.place, s.size, s.checksum, 1)",
            batch=json.dumps(batch),
        )
        stale = sorted({row["path"] for row in old} - {one["path"] for one in batch})
        if stale:
            self.warehouse.change(
                "MERGE INTO @ops_files t USING (SELECT e AS path FROM "
                "(SELECT explode(from_json(:stale, 'array<string>')) AS e)) s "
                "ON t.path = s.path WHEN MATCHED THEN DELETE",
                stale=json.dumps(stale),
            )
        self._clear(old)

    @contextlib.contextmanager
    def _fetched(self, name: str) -> Iterator[tuple[pathlib.Path, list[dict[str, Any]]]]:
        """Give a local copy of what is at *name*, and its rows."""
        with contextlib.ExitStack() as stack:
            rows = self._rows(name)
            try:
                copy = stack.enter_context(self._volume.fetched(_files(name, rows)))
            except ArtifactNotFoundError:
                # Replaced and removed since its row was read, or lost.
                before, rows = rows, self._rows(name)
                if rows == before:
                    raise
                copy = stack.enter_context(self._volume.fetched(_files(name, rows)))
            yield copy, rows

    @contextlib.contextmanager
    def _local(self) -> Iterator[pathlib.Path]:
        copy = self._volume.temporary()
        try:
            yield copy
        finally:
            artifacts.remove(copy)

    def _rows(self, name: str) -> list[dict[str, Any]]:
        return self.warehouse.rows(
            f"SELECT path, place, size, checksum, version FROM @ops_files "  # noqa: S608 - literals of this package, values are parameters
            f"WHERE {_AT} ORDER BY path",
            path=name,
            below=f"{name}/",
        )

    def _clear(self, rows: Sequence[dict[str, Any]]) -> None:
        try:
            self._volume.remove([Stored("", row["place"], 0, "") for row in rows])
        except MLOpsException:
            # Nobody reaches them any more: what was done must not be denied.
            logger.warning("%d files stay in the volume", len(rows), exc_info=True)

    @staticmethod
    def _place(name: str) -> str:
        return f"storage/{secrets.token_hex(8)}/{encoded(pathlib.PurePosixPath(name).name)}"

    def _writing(self, path: str) -> str:
        name = _checked(path)
        self._operations.before(HookType.PRE_STORAGE_WRITE, {"path": path})
        return name

    def _written(self, path: str) -> None:
        self._operations.after(
            EventType.STORAGE_WRITTEN,
            {"path": path},
            hook=HookType.POST_STORAGE_WRITE,
            resource=f"storage:{path}",
        )

    def _reading(self, path: str) -> str:
        name = _checked(path)
        self._operations.before(HookType.PRE_STORAGE_READ, {"path": path})
        if not self._rows(name):
            raise ArtifactNotFoundError(f"There is nothing at {path!r} in the storage.")
        return name

    def _done_reading(self, path: str) -> None:
        self._operations.after(
            EventType.STORAGE_READ, {"path": path}, hook=HookType.POST_STORAGE_READ
        )


def _checked(path: str) -> str:
    root = pathlib.Path("/storage")
    return safe_join(root, path).relative_to(root).as_posix()


def _files(name: str, rows: Sequence[dict[str, Any]]) -> list[Stored]:
    return [
        Stored(
            row["path"].removeprefix(name).lstrip("/"), row["place"], row["size"], row["checksum"]
        )
        for row in rows
    ]


def _parsed(copy: pathlib.Path, path: str) -> pd.DataFrame:
    import pandas as pd
    import pyarrow as pa

    try:
        return pd.read_parquet(copy, engine="pyarrow")
    except (pa.ArrowException, ValueError, OSError) as error:
        raise CorruptStoreError(f"{path!r} is no table: {error}.") from error
