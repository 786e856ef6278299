"""Objects in a PostgreSQL table (extra `postgres`), cut into pieces of a megabyte.

Each put is one transaction, so that an object is there wholly or not at all. The first piece of an
object claims its name by the primary key; of two writers that create it once, one wins. When an earlier
attempt of ours was committed although its answer was lost, its digests match, and the put has succeeded.
"""

from __future__ import annotations

import contextlib
import dataclasses
import hashlib
import itertools
from typing import IO, TYPE_CHECKING, Any

from ops.foundation.helpers import LazyImport
from ops.metrics_collect.errors import (
    ParameterError,
    StorageError,
)
from ops.metrics_collect.secrets import libpq_dsn, redacted, secrets_in
from ops.metrics_collect.storage._base import (
    BaseStorage,
    checked_name,
    private_path,
    seekable,
    setting,
)
from ops.resilience import RetryConfig, RetryError, with_retry

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

__all__ = ["StoragePostgres"]

psycopg: Any = LazyImport("psycopg", "ops-metrics-collect[postgres]")
psycopg_sql: Any = LazyImport("psycopg.sql", "ops-metrics-collect[postgres]")

_PIECE = 1 << 20
_RETRY = RetryConfig(max_attempts=5, initial_delay=0.2, max_delay=10.0, timeout=120.0)


class StoragePostgres(BaseStorage):
    """A storage in *table* (which is created when it is missing) of the database *dsn*.

    What is not given is taken from OPS_METRICS_DSN. Connections live as long as a call. *retry*
    bounds the attempts and the total time (default: 5 within 120 seconds). Raises `ParameterError`
    without a DSN.
    """

    def __init__(
        self,
        dsn: str | None = None,
        table: str = "ops_metrics_objects",
        *,
        retry: RetryConfig = _RETRY,
    ) -> None:
        # Environment OPS_METRICS_DSN: the database of `StoragePostgres`, a DSN of PostgreSQL.
        found = setting(dsn, "DSN")
        if found is None:
            raise ParameterError("StoragePostgres needs a dsn= (or OPS_METRICS_DSN).")
        self._dsn = libpq_dsn(found)
        self.table = table
        self._config = retry
        self._ready = False

    def _put(self, name: str, source: IO[bytes], *, overwrite: bool) -> None:
        attempts = itertools.count()

        def write(db: Any) -> None:
            again = next(attempts) > 0
            if not self._written(db, name, whole, overwrite=overwrite) and not (
                again and self._holds(db, name, whole)
            ):
                raise self._taken(name)

        with seekable(source) as whole:
            self._call(write)

    def _written(self, db: Any, key: str, source: IO[bytes], *, overwrite: bool) -> bool:
        """Write an object; False when its name is taken."""
        if overwrite:
            # One lock per name: two writers run one after the other.
            db.execute("select pg_advisory_xact_lock(hashtextextended(%s, 0))", (key,))
            db.execute(self._sql("delete from {} where name = %s"), (key,))
        insert = self._sql("insert into {} values (%s, %s, %s) on conflict do nothing")
        rows = (db.execute(insert, (key, *piece)).rowcount for piece in _pieces(source))
        return all(rows)

    def _holds(self, db: Any, key: str, source: IO[bytes]) -> bool:
        """Return whether the object of that name is what *source* has."""
        query = self._sql("select piece, sha256(data) from {} where name = %s order by piece")
        found = db.execute(query, (key,)).fetchall()
        ours = [(number, hashlib.sha256(piece).digest()) for number, piece in _pieces(source)]
        return bool(found == ours)

    @contextlib.contextmanager
    def get(self, name: str) -> Iterator[str]:
        """Give the path of a private temporary copy that vanishes when the block ends.

        Raises `ObjectNotFound`, or `StorageError` when the database failed, retries included.
        """
        key = checked_name(name)

        def download(db: Any) -> None:
            query = self._sql("select data from {} where name = %s order by piece")
            with (
                open(path, "wb") as target,  # noqa: PTH123 - a str is what callers get
                db.cursor("pieces") as cursor,
            ):
                cursor.itersize = 4
                cursor.execute(query, (key,), binary=True)
                found = False
                for (piece,) in cursor:
                    found = True
                    target.write(piece)
            if not found:
                raise self._missing(name)

        with private_path(name) as path:
            self._call(download)
            yield path

    def exists(self, name: str) -> bool:
        """Return whether there is an object of that name; raises `StorageError` when the database failed."""
        key = checked_name(name)
        query = self._sql("select 1 from {} where name = %s and piece = 0")
        return bool(self._call(lambda db: db.execute(query, (key,)).fetchone()))

    def remove(self, name: str) -> None:
        """Remove an object; raises `ObjectNotFound`, or `StorageError` when the database failed."""
        key = checked_name(name)
        query = self._sql("delete from {} where name = %s")
        if not self._call(lambda db: db.execute(query, (key,)).rowcount):
            raise self._missing(name)

    def list(self, prefix: str = "") -> list[str]:
        """Return the sorted names that start with *prefix*; raises `StorageError` when the database failed."""
        query = self._sql("select name from {} where piece = 0 and starts_with(name, %s)")
        rows = self._call(lambda db: db.execute(query, (prefix,)).fetchall())
        return sorted(name for (name,) in rows)

    def _call(self, work: Callable[[Any], Any]) -> Any:
        """Do *work* in a transaction of its own, again after errors that pass."""

        def attempt() -> Any:
            with psycopg.connect(self._dsn) as db:
                if not self._ready:
                    self._create(db)
                return work(db)

        config = dataclasses.replace(
            self._config,
            exceptions=(psycopg.OperationalError, psycopg.errors.DeadlockDetected),
            reraise=False,
        )
        try:
            result = with_retry(config)(attempt)()
        except RetryError as error:
            # libpq quotes an address that it cannot read, with the password in it.
            raise StorageError(f"{self!r}: {self._redacted(error.last_exception)}") from None
        except psycopg.Error as error:
            raise StorageError(f"{self!r}: {self._redacted(error)}") from None
        self._ready = True
        return result

    def _redacted(self, error: object) -> str:
        return redacted(str(error), secrets_in(self._dsn))

    def _create(self, db: Any) -> None:
        # "if not exists" alone is no match for two first writers.
        db.execute("select pg_advisory_xact_lock(hashtextextended(%s, 0))", (self.table,))
        db.execute(
            self._sql(
                "create table if not exists {} "
                "(name text, piece integer, data bytea not null, primary key (name, piece))"
            )
        )

    def _sql(self, text: str) -> Any:
        return psycopg_sql.SQL(text).format(psycopg_sql.Identifier(*self.table.split(".")))

    def __repr__(self) -> str:
        return f"<StoragePostgres {self.table}>"


def _pieces(source: IO[bytes]) -> Iterator[tuple[int, bytes]]:
    """Yield numbered pieces from the start of a file; an empty one has one."""
    source.seek(0)
    for number in itertools.count():
        piece = source.read(_PIECE)
        if not piece and number:
            return
        yield number, piece
