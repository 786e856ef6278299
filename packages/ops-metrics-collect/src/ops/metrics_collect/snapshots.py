"""Snapshots of a PostgreSQL database: one state that all collectors of a package see.

A REPEATABLE READ READ ONLY transaction sees what was committed before its first query, and cannot
change or create anything. Collectors run in savepoints of it, so that one that fails (or runs into
its timeout) leaves the snapshot to the others.
"""

from __future__ import annotations

import contextlib
from typing import TYPE_CHECKING, Any

from ops.metrics_collect.errors import StateError

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

__all__ = ["is_postgres", "shared_snapshot", "snapshot"]

_IDLE = 0  # psycopg.pq.TransactionStatus.IDLE


def is_postgres(db: Any) -> bool:
    """Say whether *db* is a psycopg 3 connection; finding out imports nothing."""
    return any(c.__module__.partition(".")[0] == "psycopg" for c in type(db).__mro__)


@contextlib.contextmanager
def snapshot(db: Any, *, statement_timeout_seconds: float | None = None) -> Iterator[None]:
    """Within the block *db* (psycopg 3) sees one state, read-only; a snapshot in it joins it.

    The timeout is for each statement of this block. Times are rendered in UTC. A connection that is
    in a transaction of another kind is a `StateError`: its past cannot be undone here.
    """
    with contextlib.ExitStack() as stack:
        if db.info.transaction_status == _IDLE:
            stack.enter_context(db.transaction())
            db.execute("set transaction isolation level repeatable read, read only")
        else:
            _require_snapshot(db)
        stack.enter_context(db.transaction())  # a savepoint: failing ends this block alone
        db.execute("set local timezone = 'UTC'")
        db.execute("set local datestyle = 'ISO, YMD'")
        if statement_timeout_seconds is not None:
            db.execute(f"set local statement_timeout = {int(statement_timeout_seconds * 1000)}")
        yield


@contextlib.contextmanager
def shared_snapshot(connections: Iterable[Any]) -> Iterator[None]:
    """Hold a snapshot of each PostgreSQL connection among *connections*, the same one once."""
    with contextlib.ExitStack() as stack:
        for db in {id(c): c for c in connections if is_postgres(c)}.values():
            stack.enter_context(snapshot(db))
        yield


def _require_snapshot(db: Any) -> None:
    from psycopg.rows import tuple_row

    with db.cursor(row_factory=tuple_row) as cursor:
        names = ("transaction_isolation", "transaction_read_only")
        level, read_only = (cursor.execute(f"show {n}").fetchone()[0] for n in names)
    if level not in {"repeatable read", "serializable"} or read_only != "on":
        raise StateError(
            f"The connection is in a transaction ({level}, read_only {read_only}) already.",
            suggestions=(
                "Commit or roll back first, or give the collectors their own connection.",
            ),
        )
