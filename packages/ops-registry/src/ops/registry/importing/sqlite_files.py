"""A SQLite database of another program, opened only to be read.

Its own schema is not trusted: views and triggers are never run, and rows of columns that are not there have None. A
database that is written to meanwhile is read between two of its transactions.
"""

from __future__ import annotations

import contextlib
import os
import pathlib
import sqlite3
import stat
import weakref
from typing import TYPE_CHECKING, Any
from urllib.parse import quote

from ops.registry.errors import InvalidValueError

if TYPE_CHECKING:
    from collections.abc import Iterator

    from ops.registry.importing.findings import Findings

__all__ = ["ForeignDatabase", "tables_of"]

_WAIT_SECONDS = 60
#: No value is larger: larger ones are no history of a run.
_LONGEST = 64 << 20
_MAGIC = b"SQLite format 3\0"


class ForeignDatabase:
    """One database; columns are looked up, so that a version with more or fewer of them is read too."""

    def __init__(self, path: pathlib.Path, findings: Findings) -> None:
        self.path: pathlib.Path = path
        self._findings = findings
        self._connection = _opened(path)
        # Sources are often made in the call that uses them, and then no one closes them.
        self._close = weakref.finalize(self, self._connection.close)
        self.tables: set[str] = _tables(self._connection)

    def rows(
        self, table: str, where: str = "", values: tuple[Any, ...] = (), order: str = ""
    ) -> Iterator[dict[str, Any]]:
        """Yield the rows of a table; none of one that is not there. *where* and *order* are written here only."""
        if table not in self.tables:
            return
        condition = f" WHERE {where}" if where else ""
        ordered = f" ORDER BY {order}" if order else ""
        sql = f'SELECT * FROM "{table}"{condition}{ordered}'  # noqa: S608 - no text from outside
        try:
            cursor = self._connection.execute(sql, values)
            names = [column[0] for column in cursor.description]
            for row in cursor:
                yield dict(zip(names, row, strict=True))
        except sqlite3.Error as error:
            self._findings.refuse(f"{self.path.name} table {table}", error)

    def summary(self, table: str, where: str, values: tuple[Any, ...]) -> tuple[Any, ...]:
        """Return how many rows of a table there are, and the number of the last one that was added."""
        if table not in self.tables:
            return ()
        sql = f'SELECT count(*), max(rowid) FROM "{table}" WHERE {where}'  # noqa: S608 - as above
        try:
            return tuple(self._connection.execute(sql, values).fetchone())
        except sqlite3.Error as error:
            self._findings.refuse(f"{self.path.name} table {table}", error)
            return ()

    def close(self) -> None:
        """Close the database."""
        self._close()


def tables_of(path: pathlib.Path) -> set[str]:
    """Return the tables of a database that is a regular file; none of anything else."""
    try:
        if not stat.S_ISREG(os.lstat(path).st_mode):
            return set()
        with path.open("rb") as file:
            if file.read(len(_MAGIC)) != _MAGIC:
                return set()
        with contextlib.closing(_opened(path)) as connection:
            return _tables(connection)
    except (FileNotFoundError, InvalidValueError):
        return set()
    except OSError as error:  # it may be the one that is wanted
        raise InvalidValueError(f"{str(path)!r} cannot be read: {error}.") from error


def _opened(path: pathlib.Path) -> sqlite3.Connection:
    address = f"file:{quote(str(path.absolute()))}?mode=ro"
    # In a folder that cannot be written to no files of a lock can be made; without a log none is needed.
    for one in (address, f"{address}&immutable=1"):
        connection = None
        try:
            # It may be closed by the thread in which what has it is collected.
            connection = sqlite3.connect(
                one, uri=True, timeout=_WAIT_SECONDS, check_same_thread=False
            )
            connection.text_factory = lambda data: data.decode("utf-8", "replace")
            connection.setlimit(sqlite3.SQLITE_LIMIT_LENGTH, _LONGEST)
            connection.execute("PRAGMA query_only = ON")
            connection.execute("PRAGMA trusted_schema = OFF")
            connection.execute("SELECT count(*) FROM sqlite_master").fetchone()
        except sqlite3.Error as error:
            failure = error
            if connection is not None:
                connection.close()
            if pathlib.Path(f"{path}-wal").exists():
                break
        else:
            return connection
    raise InvalidValueError(f"{str(path)!r} cannot be read as a database: {failure}.") from failure


def _tables(connection: sqlite3.Connection) -> set[str]:
    try:
        found = connection.execute("SELECT name FROM sqlite_master WHERE type = 'table'")
        return {str(name) for (name,) in found}
    except sqlite3.Error:
        return set()
