"""Files of the user's own on Databricks: content in the volume, its path in a table.

A volume cannot rename, so each content is uploaded to a path of its own, and the row of its name is
what changes: a reader sees the old content or the new one. Appending to a table replaces it only if
no other process did meanwhile, and is repeated otherwise: of two appends both get in. A folder that
replaces another is one MERGE; files that only the old one had are deleted by a second statement.
"""

from __future__ import annotations

import contextlib
import json
import pathlib
import secrets
from typing import IO, TYPE_CHECKING, Any

from ops.foundation.files import safe_join
from ops.foundation.logs import get_logger
from ops.registry.databricks.unique_rows import taking
from ops.registry.databricks.volumes import Stored, Volume, encoded
from ops.registry.disk import artifacts
from ops.registry.disk.user_files import UserFiles, put_table, table_of
from ops.registry.errors import ArtifactNotFoundError, MLOpsException, StorageError
from ops.registry.validators import check_path

if TYPE_CHECKING:
    import functools
    import logging
    from collections.abc import Callable, Collection, Iterator, Sequence

    import pandas as pd

    from ops.foundation.files import StrPath
    from ops.registry.databricks.warehouse import Warehouse
    from ops.registry.operations import Operations

__all__ = ["DatabricksStorageBackend"]

logger: logging.Logger = get_logger("ops.registry")

_FILES = "array<struct<path:string,place:string,size:bigint,checksum:string>>"
_COLUMNS = ("path", "place", "size", "checksum")
#: What holds for files: the lock row has no content, and neither has a name that was only taken.
_NAMED = "place IS NOT NULL"
_AT = "(path = :path OR startswith(path, :below))"
_ATTEMPTS = 20


class DatabricksStorageBackend(UserFiles[str]):
    """Tables (Parquet), JSON values and artifacts in the volume of a schema.

    Missing paths are an `ArtifactNotFoundError`, unreadable content a `CorruptStoreError`, paths
    that leave the storage `ops.foundation.PathEscapesRootError`.
    """

    made_again: functools.partial[Any] | None = None

    def __reduce__(self) -> tuple[Any, ...]:
        """Be sent to another process as the configuration; see `ops.registry.databricks.factory.sent`."""
        from ops.registry.databricks.factory import sent

        return sent(self, self.made_again)

    def __init__(self, warehouse: Warehouse, *, operations: Operations | None = None) -> None:
        super().__init__(operations)
        self.warehouse = warehouse
        self._volume = Volume(warehouse)

    def list_paths(self, prefix: StrPath = "") -> list[str]:
        """Return the paths of all files that start with *prefix*, sorted, with "/" between parts."""
        rows = self.warehouse.rows(
            f"SELECT path FROM @ops_files WHERE startswith(path, :prefix) AND {_NAMED}",  # noqa: S608 - literals of this package, values are parameters
            prefix=check_path("prefix", prefix),
        )
        return sorted(row["path"] for row in rows)

    def location(self, path: str) -> str:
        """Return the name that *path* has in the table, or refuse it."""
        root = pathlib.Path("/storage")
        return safe_join(root, path).relative_to(root).as_posix()

    def left_over(self, before_seconds: float) -> list[str]:
        """Return the files in the volume that no path of the storage has, older than a time."""

        def named() -> set[str]:
            rows = self.warehouse.rows(f"SELECT place FROM @ops_files WHERE {_NAMED}")  # noqa: S608 - literals of this package
            return {row["place"] for row in rows}

        return self._volume.left_over("storage", before_seconds, named)

    def clear(self, uris: Collection[str]) -> None:
        """Remove what `left_over` returned."""
        self._volume.clear(uris)

    def _append(self, df: pd.DataFrame, location: str) -> None:
        import pandas as pd

        for attempt in range(_ATTEMPTS):
            rows = self._rows(location)
            with self._temporary() as copy:
                if rows:
                    with self._fetched(location) as (old, rows):
                        df_all = pd.concat([table_of(old, location), df], ignore_index=True)
                else:
                    df_all = df
                with copy.open("wb") as file:
                    put_table(df_all, file)
                (sent,) = self._volume.upload(copy, _new_path(location))
            if self._swapped(location, sent, rows):
                self._clear(rows)
                return
            self._clear([{"place": sent.path}])
            self.warehouse.wait(min(attempt, 4))
        raise StorageError(f"{location!r} was changed by others {_ATTEMPTS} times in a row.")

    def _swapped(self, name: str, file: Stored, old: Sequence[dict[str, Any]]) -> bool:
        """Let *name* be *file* if it still has the version in *old*; return whether it is."""
        values = {"path": name, "target": file.path, "size": file.size, "checksum": file.checksum}
        if not old:
            # A row without content takes the name; then all who append compete for its version.
            self.warehouse.change(
                taking("ops_files", "SELECT :path AS path", ("path",), inserts="version = 0"),
                path=name,
            )
        count = self.warehouse.change(
            "UPDATE @ops_files SET place = :target, size = :size, checksum = :checksum, "
            "version = version + 1 WHERE path = :path AND version = :version",
            version=old[0]["version"] if old else 0,
            **values,
        )
        if count > 0:  # others may have gone on from it by now
            return True
        # After a lost answer the statement was done twice, and changed nothing then.
        return [row["place"] for row in self._rows(name)] == [file.path]

    def _is_there(self, location: str) -> bool:
        return bool(self._rows(location))

    def _write(self, location: str, write: Callable[[IO[bytes]], object]) -> None:
        with self._temporary() as copy:
            with copy.open("wb") as file:
                write(file)
            self._copy_in(copy, location)

    def _remove(self, location: str) -> bool:
        gone = self._rows(location)
        if gone:
            statement = f"DELETE FROM @ops_files WHERE {_AT}"  # noqa: S608 - literals of this package, values are parameters
            self.warehouse.change(statement, path=location, below=f"{location}/")
            self._clear(gone)
        return bool(gone)

    def _copy_in(self, source: pathlib.Path, location: str) -> None:
        files = self._volume.upload(source, _new_path(location))
        old = self._rows(location)
        batch = [
            {
                "path": f"{location}/{file.name}" if file.name else location,
                "place": file.path,
                "size": file.size,
                "checksum": file.checksum,
            }
            for file in files
        ]
        self.warehouse.change(
            taking(
                "ops_files",
                "SELECT e.path AS path, e.place AS place, e.size AS size, e.checksum AS checksum "  # noqa: S608 - literals of this package, values are parameters
                f"FROM (SELECT explode(from_json(:batch, '{_FILES}')) AS e)",
                _COLUMNS,
                inserts="version = 1",
                updates="place = s.place, size = s.size, checksum = s.checksum, version = t.version + 1",
            ),
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
    def _local(self, location: str) -> Iterator[pathlib.Path]:
        with self._fetched(location) as (copy, _):
            yield copy

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
    def _temporary(self) -> Iterator[pathlib.Path]:
        copy = self._volume.temporary()
        try:
            yield copy
        finally:
            artifacts.remove(copy)

    def _rows(self, name: str) -> list[dict[str, Any]]:
        return self.warehouse.rows(
            f"SELECT path, place, size, checksum, version FROM @ops_files "  # noqa: S608 - literals of this package, values are parameters
            f"WHERE {_AT} AND {_NAMED} ORDER BY path",
            path=name,
            below=f"{name}/",
        )

    def _clear(self, rows: Sequence[dict[str, Any]]) -> None:
        try:
            self._volume.remove([Stored("", row["place"], 0, "") for row in rows])
        except MLOpsException:
            # No row names them any more: what was done must not be denied.
            logger.warning("%d files stay in the volume", len(rows), exc_info=True)


def _new_path(name: str) -> str:
    return f"storage/{secrets.token_hex(8)}/{encoded(pathlib.PurePosixPath(name).name)}"


def _files(name: str, rows: Sequence[dict[str, Any]]) -> list[Stored]:
    return [
        Stored(
            row["path"].removeprefix(name).lstrip("/"), row["place"], row["size"], row["checksum"]
        )
        for row in rows
    ]
