"""One connection to a SQL warehouse: statements with native parameters, and errors of this package.

Values are never put into statements: they are parameters, and many rows are one JSON parameter that
the statement takes apart (a statement may have at most 255 parameters). Statements are literals; a table is
``@ops_runs`` in them, and the names of catalog and schema are checked once and quoted.

Conflicts of Delta (SQLSTATE 2D521, DELTA_CONCURRENT_*) mean that nothing was done, so every statement
is tried again after a wait with jitter. After a lost connection it is not known whether the
statement was done: it is repeated once on a new connection, because each statement of this package
can be repeated. Rows have an identity that readers count once, changes are conditional on a version.
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
from ops.registry.databricks.credentials import Credentials
from ops.registry.databricks.filesapi import FilesApi
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

    from ops.registry.databricks.access import WarehouseAccess

__all__ = ["Warehouse"]

logger: logging.Logger = get_logger("ops.registry")

_NAME = re.compile(r"[A-Za-z_][A-Za-z0-9_]{0,127}")
_TABLE = re.compile(r"@(ops_[a-z_]+)")
_CONFLICT = re.compile(r"SQLSTATE: 2D521|DELTA_CONCURRENT_|DELTA_METADATA_CHANGED|ConcurrentAppend")
_REFUSED = re.compile(
    r"invalid access token|unauthorized|http-code['\": ]+(401|403)"
    r"|invalid token|token is expired|forbidden",
    re.IGNORECASE,
)
_LOST = {
    "RequestError",
    "OperationalError",
    "InterfaceError",
    "SessionAlreadyClosedError",
    "NonRecoverableNetworkError",
    "UnsafeToRetryError",
    "ConnectionError",  # of requests, which moves the files
}
#: Attempts at a change that conflicts, and the bounds of the first wait and of all, in seconds.
_ATTEMPTS, _FIRST_WAIT, _LONGEST_WAIT = 20, 0.05, 3.0


class Warehouse:
    """Runs statements in one catalog and schema; threads share it, a forked child gets its own.

    It connects at the first statement. *staging* is the local folder that files pass through.
    """

    def __init__(
        self,
        access: WarehouseAccess,
        catalog: str,
        schema: str,
        staging: pathlib.Path,
        *,
        sleep: Callable[[float], object] = time.sleep,
    ) -> None:
        for kind, name in (("catalog", catalog), ("schema", schema)):
            if not _NAME.fullmatch(name):
                raise ConfigurationError(
                    f"{kind}={name!r} is no name: letters, digits and _ are allowed."
                )
        self.access = access
        self.credentials: Credentials = Credentials(access)
        self.files: FilesApi = FilesApi(access, self.credentials)
        self.catalog = catalog
        self.schema = schema
        self.staging = staging
        self._sleep = sleep
        self._turn = threading.RLock()
        in_children(self, Warehouse.begin_in_child)
        self._connection: Any = None
        self._process = -1
        self._prepared = False

    def begin_in_child(self) -> None:
        """Take turns anew in a forked child, where no other thread waits for a statement."""
        self._turn = threading.RLock()

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
        """Return the rows of a query."""

        def fetch(cursor: Any) -> list[dict[str, Any]]:
            # Through Arrow: the plain rows of the connector turn NaN into None.
            found: list[dict[str, Any]] = cursor.fetchall_arrow().to_pylist()
            return found

        self._prepare()
        return self._run(self._named(statement), parameters, fetch)  # type: ignore[no-any-return]  # of fetch

    def change(self, statement: str, **parameters: Any) -> int:
        """Run an INSERT, UPDATE, DELETE or MERGE and return how many rows it changed."""
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
        with self._turn:
            connection, self._connection = self._connection, None
            if connection is not None and self._process == os.getpid():
                try:
                    connection.close()
                except Exception as error:  # noqa: BLE001 - it is given up either way
                    logger.debug("closing: %s", self.access.hidden(str(error)))

    def wait(self, attempt: int) -> None:
        """Wait before trying a change again that lost against another."""
        bound = min(_FIRST_WAIT * 2**attempt, _LONGEST_WAIT)
        self._sleep(bound * random.uniform(0.5, 1.5))

    def _prepare(self) -> None:
        with self._turn:
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
        attempt = losses = renewals = 0
        while True:
            try:
                with self._turn, self._cursor() as cursor:
                    cursor.execute(statement, dict(parameters) or None)
                    return take(cursor)
            except MLOpsException:
                raise
            except Exception as error:  # noqa: BLE001 - the connector raises what its libraries do
                if self.credentials.failure is not None:
                    # There was no token to be had, which the connector says as one of many things.
                    raise self.credentials.failure from None
                said = self.access.hidden(f"{error} {getattr(error, 'context', '')}")
                if _CONFLICT.search(said) and attempt < _ATTEMPTS:
                    self.wait(attempt)
                    attempt += 1
                    continue
                is_refused = _is_refused(error, said)
                if is_refused and not renewals and self.credentials.renew():
                    self._disconnect()
                    renewals += 1
                    continue
                if _is_lost(error) and not is_refused:
                    self._disconnect()
                    losses += 1
                    if losses == 1:
                        continue
                # The connector's error is not chained: its context may have what the request had.
                raise self._translated(error, said) from None

    def _named(self, statement: str) -> str:
        """Return *statement* with the tables of this schema in place of ``@ops_…``."""
        return _TABLE.sub(lambda found: self.table(found[1]), statement)

    def _cursor(self) -> Any:
        if self._connection is None or self._process != os.getpid():
            self.staging.mkdir(parents=True, exist_ok=True)
            self._connection = self.access.connect(str(self.staging), self.credentials)
            self._process = os.getpid()
        return self._connection.cursor()

    def _translated(self, error: Exception, said: str) -> MLOpsException:
        if isinstance(error, ImportError):
            return BackendUnavailableError(said)
        if _is_refused(error, said):
            return self.access.refused()
        return StorageError(
            f"The warehouse at {self.access.hostname!r} could not do it: "
            f"{type(error).__name__}: {said[:500]}"
        )


def _is_refused(error: Exception, said: str) -> bool:
    # What a statement says of its own failure may quote anything.
    return type(error).__name__ != "ServerOperationError" and bool(_REFUSED.search(said))


def _is_lost(error: Exception) -> bool:
    names = {kind.__name__ for kind in type(error).__mro__}
    return bool(names & _LOST) or "Invalid SessionHandle" in str(error)
