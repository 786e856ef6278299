"""`lock`: one holder of a key at a time, by whatever the holders share.

- A PostgreSQL server: an advisory lock with a 64-bit key, on a connection of its own, so that it ends
  with its holder and never with another caller's transaction.
- A file system: a lock on a file, which the kernel ends with its holder.
- A storage: a lease. Who holds it is the object with the highest number; taking it creates the next
  number, which only one can. A lease that is not renewed in time is free. Its safety rests on clocks
  that differ by less than the lease lasts; the other two kinds have no such condition.
"""

from __future__ import annotations

import contextlib
import dataclasses
import datetime as dt
import json
import math
import os
import pathlib
import platform
import threading
import time
from hashlib import blake2b
from typing import TYPE_CHECKING, Any
from urllib.parse import quote

from ops.foundation.errors import LockTimeout
from ops.foundation.files import atomic_write
from ops.foundation.helpers import LazyImport
from ops.foundation.ids import generate_short_id
from ops.foundation.instants import iso, now
from ops.foundation.locks import FileLock
from ops.foundation.logs import get_logger
from ops.metrics_collect.errors import MetricsError, ObjectExists, ObjectNotFound, ParameterError

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from ops.foundation.files import StrPath
    from ops.metrics_collect.storage import Storage

__all__ = ["Holder", "lock"]

psycopg: Any = LazyImport("psycopg", "ops-metrics-collect[postgres]")

_PAUSE = 0.2
_log = get_logger("ops.metrics_collect")


@dataclasses.dataclass(frozen=True, slots=True)
class Holder:
    """Who holds a lock: the machine *host*, the process *pid*, and *since* when (ISO 8601)."""

    host: str
    pid: int
    since: str


@contextlib.contextmanager
def lock(
    key: str,
    *,
    db: Any = None,
    path: StrPath | None = None,
    storage: Storage | None = None,
    wait: bool = True,
    timeout: float | None = None,
    lease_seconds: float = 60.0,
    sleep: Callable[[float], object] = time.sleep,
) -> Iterator[Holder]:
    """Hold the lock *key* within the block, by exactly one of *db*, *path* and *storage*.

    *db* is a psycopg connection or a DSN, *path* a folder. Without *wait*, or after *timeout*
    seconds (None: no limit), this raises `LockTimeout`, which names the holder. *lease_seconds* is
    for storages: how long a holder that died keeps the lock. *sleep* waits, for tests. Raises
    `ParameterError` unless exactly one of the three is given, and for a lease that is not positive.

    >>> import tempfile
    >>> with lock("nightly", path=tempfile.mkdtemp(), wait=False):
    ...     pass  # one process at a time
    """
    if sum(target is not None for target in (db, path, storage)) != 1:
        raise ParameterError("lock() takes exactly one of db=, path= and storage=.")
    if not 0 < lease_seconds < math.inf:
        raise ParameterError(f"lease_seconds must be more than 0, not {lease_seconds!r}.")
    limit = timeout if wait else 0.0
    me = Holder(platform.node(), os.getpid(), iso(now()))
    if db is not None:
        held = _postgres_lock(key, db, limit, me)
    elif path is not None:
        held = _file_lock(key, pathlib.Path(path), limit, me)
    else:
        held = _lease(key, storage, limit, me, lease_seconds, sleep)  # type: ignore[arg-type]  # the third
    with held:
        yield me


@contextlib.contextmanager
def _postgres_lock(key: str, db: Any, limit: float | None, me: Holder) -> Iterator[None]:
    number = int.from_bytes(blake2b(key.encode(), digest_size=8).digest(), "big", signed=True)
    if isinstance(db, str):
        connection = psycopg.connect(db, autocommit=True)
    else:
        connection = psycopg.connect(
            db.info.dsn, password=db.info.password or None, autocommit=True
        )
    try:
        name = f"ops-metrics-collect {me.pid}@{me.host}"[:63]
        connection.execute("select set_config('application_name', %s, false)", (name,))
        if limit is not None:
            # 0 would mean no limit.
            milliseconds = str(max(int(limit * 1000), 1))
            connection.execute("select set_config('lock_timeout', %s, false)", (milliseconds,))
        try:
            connection.execute("select pg_advisory_lock(%s)", (number,))
        except psycopg.errors.LockNotAvailable as error:
            raise _timed_out(key, limit, _postgres_holder(connection, number)) from error
        # The lock ends with the connection, however the block ends.
        yield
    finally:
        if _is_holder(me):
            connection.close()


def _postgres_holder(connection: Any, number: int) -> str:
    row = connection.execute(
        "select a.application_name, a.pid, a.client_addr, a.backend_start from pg_locks l "
        "join pg_stat_activity a on a.pid = l.pid where l.locktype = 'advisory' and l.granted "
        "and (l.classid::bigint << 32) | l.objid::bigint = %s",
        (number,),
    ).fetchone()
    return "" if row is None else f"{row[0]} (backend {row[1]}, {row[2]}, since {row[3]})"


@contextlib.contextmanager
def _file_lock(key: str, folder: pathlib.Path, limit: float | None, me: Holder) -> Iterator[None]:
    folder.mkdir(parents=True, exist_ok=True)
    file = folder / f"{quote(key, safe='')}.lock"
    note = file.with_suffix(".json")
    try:
        held = FileLock(file, limit)
        held.acquire()
    except LockTimeout as error:
        there = ""
        with contextlib.suppress(FileNotFoundError):  # as when it has just been released
            there = note.read_text("utf-8")
        raise _timed_out(key, limit, there) from error
    try:
        with atomic_write(note, durable="none") as target:
            json.dump(dataclasses.asdict(me), target)
        yield
    finally:
        if _is_holder(me):
            with contextlib.suppress(OSError):  # it only names the holder
                note.unlink(missing_ok=True)
            held.release()


@contextlib.contextmanager
def _lease(
    key: str,
    storage: Storage,
    limit: float | None,
    me: Holder,
    seconds: float,
    sleep: Callable[[float], object],
) -> Iterator[None]:
    lease = _Lease(storage, f"locks/{quote(key, safe='')}", me, seconds)
    waited = 0.0
    while not lease.try_take():
        if limit is not None and waited >= limit:
            raise _timed_out(key, limit, json.dumps(lease.current()))
        sleep(_PAUSE)
        waited += _PAUSE
    renewed = threading.Event()
    renewal = threading.Thread(target=lease.keep, args=(renewed,), daemon=True)
    renewal.start()
    try:
        yield
    finally:
        if _is_holder(me):
            renewed.set()
            renewal.join()
            lease.release()


def _is_holder(me: Holder) -> bool:
    """Distinguish the process that holds from one that was forked in the block, and holds nothing."""
    return os.getpid() == me.pid


class _Lease:
    """Numbered objects `<prefix>/<number>.json`; the highest has the lease's holder and end."""

    def __init__(self, storage: Storage, prefix: str, me: Holder, seconds: float) -> None:
        self._storage = storage
        self._prefix = prefix
        self._content = {**dataclasses.asdict(me), "token": generate_short_id()}
        self._seconds = seconds
        self._number = 0

    def try_take(self) -> bool:
        names = self._storage.list(f"{self._prefix}/")
        there = self._read(names[-1]) if names else None
        if there is not None and dt.datetime.fromisoformat(there["expires"]) > now():
            return False
        self._number = int(names[-1].rpartition("/")[2].removesuffix(".json")) + 1 if names else 1
        try:
            self._put(overwrite=False)
        except ObjectExists:
            return False
        # That number may have been taken, and removed by its successor, since we looked.
        names = self._storage.list(f"{self._prefix}/")
        taken = names[-1] == self._name
        for name in names[:-1] if taken else [self._name]:
            with contextlib.suppress(ObjectNotFound):
                self._storage.remove(name)
        return taken

    def keep(self, ended: threading.Event) -> None:
        while not ended.wait(self._seconds / 3):
            try:
                self._put(overwrite=True)
            except (MetricsError, OSError) as error:
                # Another try comes before the lease ends; when none succeeds, others may take it.
                _log.warning("the lease %s was not renewed: %s", self._prefix, error)

    def release(self) -> None:
        # Left as expired and not removed: the numbers must go on.
        self._put(overwrite=True, seconds=0.0)

    def current(self) -> dict[str, Any] | None:
        names = self._storage.list(f"{self._prefix}/")
        return self._read(names[-1]) if names else None

    def _put(self, *, overwrite: bool, seconds: float | None = None) -> None:
        lasting = self._seconds if seconds is None else seconds
        expires = iso(now() + dt.timedelta(seconds=lasting))
        content = {**self._content, "expires": expires}
        self._storage.put(self._name, dict=content, overwrite=overwrite)

    @property
    def _name(self) -> str:
        return f"{self._prefix}/{self._number:012}.json"

    def _read(self, name: str) -> dict[str, Any] | None:
        try:
            with self._storage.get(name) as path:
                found: dict[str, Any] = json.loads(pathlib.Path(path).read_text("utf-8"))
        except ObjectNotFound:
            return None
        return found


def _timed_out(key: str, limit: float | None, holder: str) -> LockTimeout:
    by = f"; it is held by {holder}" if holder else ""
    return LockTimeout(f"The lock {key!r} was not free within {limit} s{by}.")
