"""One connection to a SQL warehouse: statements with native parameters, and errors of this package.

Values are never put into statements: they are parameters, and many rows are one JSON parameter that
the statement takes apart. Every statement passes `parameters.bound`, which keeps their number and types within
what Databricks takes. Statements are literals; a table is ``@ops_runs`` in them, and the names of catalog and
schema are checked once and quoted.

What an error means is looked up in one table (`failures`). A conflict of Delta means that nothing was done, so
the statement is tried again after a wait with jitter. A warehouse that is starting is waited for (`patience`), and a
lost session is opened anew: nothing was done either. After a lost connection it is not known whether the statement
was done: it is repeated on a new connection, because each statement of this package can be repeated. Rows have an
identity that readers count once, changes are conditional on a version.
"""

from __future__ import annotations

import os
import random
import re
import threading
import time
from typing import TYPE_CHECKING, Any

from ops.foundation.forks import in_children
from ops.foundation.logs import get_logger
from ops.registry.databricks.auth import Credentials
from ops.registry.databricks.failures import ADVICE, Failure, failure_of, readable
from ops.registry.databricks.files_api import FilesApi
from ops.registry.databricks.parameters import bound
from ops.registry.databricks.patience import Patience
from ops.registry.errors import (
    BackendUnavailableError,
    ConfigurationError,
    MLOpsException,
    StorageError,
)

if TYPE_CHECKING:
    import logging
    import pathlib
    from collections.abc import Callable, Iterator, Mapping

    from ops.registry.databricks.config import WarehouseAccess

__all__ = ["Warehouse"]

logger: logging.Logger = get_logger("ops.registry")

#: What Unity Catalog takes as the name of a catalog or a schema, less what would end a quoted name or path. See "Object names"
#: in https://docs.databricks.com/aws/en/sql/language-manual/sql-ref-names: no period, space, slash, or control character.
_NAME = re.compile(r"""[^\s./\\'"`\x00-\x1f\x7f]{1,255}""")
_TABLE = re.compile(r"@(ops_[a-z_]+)")
#: Attempts at a change that conflicts, and the bounds of the first wait and of all, in seconds.
_ATTEMPTS, _FIRST_WAIT, _LONGEST_WAIT = 20, 0.05, 3.0
#: How often a statement opens another session or connection; the table shows when nothing was done.
_MOST_SESSIONS, _MOST_CONNECTIONS = 3, 1
#: Seconds that a statement waits for a warehouse to start, as Databricks' own drivers do.
START_SECONDS = 900.0


class Warehouse:
    """Runs statements in one catalog and schema; threads share it, a forked child gets its own.

    It connects at the first statement.

    Args:
        access: Where the warehouse is, and with which credentials.
        catalog: The name of the catalog, which must be there.
        schema: The name of the schema, which is made when it is missing.
        staging: The local folder that files pass through.
        start_seconds: How long a statement waits for a warehouse that is starting.
        prepares: Whether the first statement makes the schema and its tables when they are missing.
        sleep: How to wait; tests pass another.

    Raises `ConfigurationError` for a catalog or schema that is no name.
    """

    def __init__(
        self,
        access: WarehouseAccess,
        catalog: str,
        schema: str,
        staging: pathlib.Path,
        *,
        start_seconds: float = START_SECONDS,
        prepares: bool = True,
        sleep: Callable[[float], object] = time.sleep,
    ) -> None:
        for kind, name in (("catalog", catalog), ("schema", schema)):
            if not _NAME.fullmatch(name):
                raise ConfigurationError(
                    f"{kind}={name!r} is no name: it has 1 to 255 characters, and no space, period, slash or quote."
                )
        self.access = access
        self.credentials: Credentials = Credentials(access)
        self.files: FilesApi = FilesApi(access, self.credentials)
        self.catalog = catalog
        self.schema = schema
        self.staging = staging
        self.patience: Patience = Patience(start_seconds, sleep=sleep)
        self._sleep = sleep
        self.begin_in_child()
        in_children(self, Warehouse.begin_in_child)
        self._connection: Any = None
        self._process = -1
        self._prepared = not prepares

    def begin_in_child(self) -> None:
        """Make the locks again in a forked child, where no other thread has them."""
        self._mutex = threading.RLock()
        # Another: making a schema may wait for a warehouse that is starting, and closing does not.
        self._preparing = threading.RLock()

    def __repr__(self) -> str:
        return f"Warehouse({self.access.hostname!r}, {self.catalog!r}, {self.schema!r})"

    @property
    def scope(self) -> str:
        """The quoted schema."""
        return f"`{self.catalog}`.`{self.schema}`"

    def table(self, name: str) -> str:
        """Return the quoted name of a table."""
        return f"{self.scope}.`{name}`"

    def rows(self, statement: str, **parameters: Any) -> list[dict[str, Any]]:
        """Return the rows of the query *statement*; *parameters* are what its ``:names`` stand for."""

        def fetch(cursor: Any) -> list[dict[str, Any]]:
            # Through Arrow: the plain rows of the connector turn NaN into None.
            found: list[dict[str, Any]] = cursor.fetchall_arrow().to_pylist()
            return found

        self._prepare()
        return self._run(self._named(statement), parameters, fetch)  # type: ignore[no-any-return]  # of fetch

    def change(self, statement: str, **parameters: Any) -> int:
        """Run an INSERT, UPDATE, DELETE or MERGE and return how many rows it changed.

        *parameters* are what the ``:names`` of *statement* stand for.
        """
        self._prepare()
        return int(self._run(self._named(statement), parameters, lambda cursor: cursor.rowcount))

    def define(self, statement: str) -> None:
        """Run a statement about tables, volumes or files as it is; they have no parameters in SQL."""
        self._run(statement, {}, lambda _: None)

    def transfer(self, statement: str) -> None:
        """Run a PUT, GET or REMOVE once the schema is there."""
        self._prepare()
        self.define(statement)

    def stream_in(self, source: pathlib.Path, path: str) -> tuple[int, str]:
        """Upload a file of any size once the schema is there; return its size and SHA-256."""
        self._prepare()
        return self.files.put(source, path)

    def stream_names(self, path: str) -> Iterator[tuple[str, float]]:
        """Yield the files below a folder, each with the time of its last change."""
        self._prepare()
        yield from self.files.files(path)

    def close(self) -> None:
        """Close the connection; the next statement opens another."""
        self.files.close()
        self._disconnect()

    def _disconnect(self) -> None:
        with self._mutex:
            connection, self._connection = self._connection, None
            if connection is not None and self._process == os.getpid():
                try:
                    connection.close()
                except Exception as error:  # noqa: BLE001 - it is given up either way
                    logger.debug("closing: %s", self.hidden(str(error)))

    def wait(self, attempt: int) -> None:
        """Wait before trying a change again that lost against another."""
        bound = min(_FIRST_WAIT * 2**attempt, _LONGEST_WAIT)
        self._sleep(bound * random.uniform(0.5, 1.5))

    def _prepare(self) -> None:
        with self._preparing:
            if self._prepared:
                return
            from ops.registry.databricks.tables import prepare

            self._prepared = True  # for the statements of prepare itself; others wait for the lock
            try:
                prepare(self)
            except BaseException:
                self._prepared = False
                raise

    def _run(
        self, statement: str, parameters: Mapping[str, Any], take: Callable[[Any], Any]
    ) -> Any:
        repeats = _Repeats(self)
        while True:
            try:
                with self._mutex, self._cursor() as cursor:
                    cursor.execute(*bound(statement, parameters))
                    return take(cursor)
            except MLOpsException:
                raise
            except Exception as error:  # noqa: BLE001 - the connector raises what its libraries do
                if self.credentials.failure is not None:
                    # There was no token, which the connector reports in one of many ways.
                    raise self.credentials.failure from None
                message = readable(error)
                failure = failure_of(error, message)
                translated = self._translated(error, self.hidden(message), failure)
                if not repeats.may_follow(failure, translated):
                    # The connector's error is not chained: its context may have what the request had.
                    raise translated from None

    def _named(self, statement: str) -> str:
        """Return *statement* with the tables of this schema in place of ``@ops_…``."""
        return _TABLE.sub(lambda found: self.table(found[1]), statement)

    def _cursor(self) -> Any:
        if self._connection is None or self._process != os.getpid():
            self.staging.mkdir(parents=True, exist_ok=True)
            self._connection = self.access.connect(str(self.staging), self.credentials)
            self._process = os.getpid()
        return self._connection.cursor()

    def hidden(self, text: str) -> str:
        """Return *text* without secrets."""
        return self.credentials.hidden(text)

    def reconnect(self) -> None:
        """Give up the connection; the next statement opens another."""
        self._disconnect()

    def _translated(
        self, error: Exception, message: str, failure: Failure | None
    ) -> MLOpsException:
        if isinstance(error, ImportError):
            return BackendUnavailableError(message)
        if failure is Failure.REFUSED:
            return self.access.refused()
        return StorageError(
            f"The warehouse at {self.access.hostname!r} could not do it: "
            f"{type(error).__name__}: {message[:500]}",
            suggestions=ADVICE.get(failure, ()),
        ).with_context(failure=failure)


class _Repeats:
    """Decides for one statement whether it is tried again, and waits before."""

    def __init__(self, warehouse: Warehouse) -> None:
        self._warehouse = warehouse
        self._start = warehouse.patience.begin()
        self._conflicts = self._renewals = self._sessions = self._connections = 0

    def may_follow(self, failure: Failure | None, error: MLOpsException) -> bool:
        """Return whether the statement may be tried again now, after *error*."""
        warehouse = self._warehouse
        if failure is Failure.CONFLICT and self._conflicts < _ATTEMPTS:
            warehouse.wait(self._conflicts)
            self._conflicts += 1
            return True
        if failure is Failure.REFUSED and not self._renewals and warehouse.credentials.renew():
            warehouse.reconnect()
            self._renewals += 1
            return True
        if failure is Failure.STARTING_SESSION:
            warehouse.reconnect()
        if failure in {Failure.STARTING, Failure.STARTING_SESSION}:
            return self._start.goes_on(warehouse.access.hostname, error)
        if failure is Failure.LOST_SESSION and self._sessions < _MOST_SESSIONS:
            warehouse.reconnect()
            self._sessions += 1
            return True
        if failure is Failure.LOST_CONNECTION:
            warehouse.reconnect()
            self._connections += 1
            return self._connections <= _MOST_CONNECTIONS
        return False
