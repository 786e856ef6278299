"""`TwoLevelCache`: a small fast cache in front of a large slow one."""

from __future__ import annotations

import threading
import time
import weakref
from collections.abc import Hashable
from typing import TYPE_CHECKING, Any, Generic, Literal, NamedTuple, Protocol, Self, TypeVar

from ops.cache.errors import CacheClosedError, ValueTooLargeError
from ops.cache.expiry import Ttl, check_interval, check_ttl
from ops.cache.memory import MISSING
from ops.cache.single_flight import SingleFlight
from ops.cache.write_coherence import Front
from ops.foundation.errors import ValidationError
from ops.foundation.forks import in_children
from ops.foundation.logs import get_logger

if TYPE_CHECKING:
    from collections.abc import Callable

    from ops.cache.expiry import TtlLike
    from ops.cache.write_coherence import Change

__all__ = ["Level", "TwoLevelCache"]

K = TypeVar("K", bound=Hashable)
V = TypeVar("V")
_log = get_logger("ops.cache")


class Level(Protocol):
    """What a level of a `TwoLevelCache` can do: every cache of this package is one."""

    def get(self, key: Any, default: Any = None) -> Any:
        """Return the value of *key*, or *default*."""
        ...

    def set(self, key: Any, value: Any, ttl: TtlLike = Ttl.DEFAULT) -> None:
        """Store a value."""
        ...

    def delete(self, key: Any) -> bool:
        """Remove *key*; return False when there is no such key."""
        ...

    def clear(self) -> None:
        """Remove all entries."""
        ...


class TwoLevelCache(Generic[K, V]):
    """A small fast cache *l1* before a large slow one *l2*.

    What only *l2* has is promoted. Threads that miss one key ask *l2* once; other keys never wait.
    With `write="through"` a write goes to both, the slow level first. With `write="back"` it goes to
    *l1* and to a list that a thread writes to *l2* every *flush_interval* seconds, and `flush`,
    `close` and the end of the process at once: faster, but a process that is killed loses what was
    on the list. A list of *max_pending* entries makes the writer wait for the flush.

    Raises `ValidationError` for another *write*.

    >>> import tempfile
    >>> from ops.cache import DiskCache, MemoryCache
    >>> with DiskCache(tempfile.mkdtemp()) as disk:
    ...     both = TwoLevelCache(MemoryCache(100), disk)
    ...     both.set("user:1", "ann")
    ...     both.get("user:1"), disk.get("user:1")
    ('ann', 'ann')
    """

    def __init__(
        self,
        l1: Level,
        l2: Level,
        *,
        write: Literal["through", "back"] = "through",
        flush_interval: float = 1.0,
        max_pending: int = 1000,
    ) -> None:
        if write not in {"through", "back"}:
            raise ValidationError(f"write is 'through' or 'back', not {write!r}.")
        self.l1 = l1
        self.l2 = l2
        self._flights: SingleFlight[K] = SingleFlight()
        self._front = Front(l1.delete)
        self._back = _WriteBack(l2, flush_interval, max_pending) if write == "back" else None

    def get(self, key: K, default: Any = None) -> Any:
        """Return the value of *key* from either level, or *default*."""
        if self._front.is_contested(key):
            value, _ = self._behind(key)
        else:
            value = self.l1.get(key, MISSING)
            if value is MISSING:
                value = self._flights.do(key, lambda: self._promote(key))
        return default if value is MISSING else value

    def _promote(self, key: K) -> Any:
        with self._front.changing(key) as change:
            value, ttl = self._behind(key)
            if value is not MISSING:
                self._set_in_front(change, key, value, ttl)
        return value

    def _behind(self, key: K) -> tuple[Any, TtlLike]:
        """Return the value that the second level has, or is to have, and the seconds it has left."""
        pending = None if self._back is None else self._back.find(key)
        if pending is not None:  # it counts also when its time has come: *l2* has an older one
            left = pending.remaining()
            return (MISSING if left == 0 else pending.value), left
        with_ttl = getattr(self.l2, "get_with_ttl", None)
        if with_ttl is None:  # a level from another package
            return self.l2.get(key, MISSING), Ttl.DEFAULT
        found: tuple[Any, TtlLike] = with_ttl(key, MISSING)
        return found

    def _set_in_front(self, change: Change, key: K, value: Any, ttl: TtlLike) -> None:
        """Store in *l1* for *ttl* seconds, or for its own default time if that is shorter."""
        if change.overlaps:
            return
        longest = getattr(self.l1, "default_ttl", None)
        if longest is not None and (ttl is None or (not isinstance(ttl, Ttl) and ttl > longest)):
            ttl = Ttl.DEFAULT
        try:
            self.l1.set(key, value, ttl)
        except ValueTooLargeError as error:  # the level behind may still hold it
            _log.debug("Kept in the second level only: %s", error)

    def get_or_compute(self, key: K, fn: Callable[[], V], ttl: TtlLike = Ttl.DEFAULT) -> Any:
        """Return the value of *key*, computing it once if neither level has it.

        *fn* takes no argument; *ttl* is that of `set`. When *l2* is shared between processes and
        can compute once for all of them, as `DiskCache` and `RedisCache` can, it does (with
        `write="through"`).
        """
        if self._front.is_contested(key):  # a computation that has begun may be outdated
            return self._fill(key, fn, ttl)
        value = self.l1.get(key, MISSING)
        if value is MISSING:
            value = self._flights.do(
                key, lambda: self._fill(key, fn, ttl), lambda: self._compute(key, fn, ttl)
            )
            if value is MISSING:  # we joined a plain lookup, which found nothing
                return self.get_or_compute(key, fn, ttl)
        return value

    def _fill(self, key: K, fn: Callable[[], V], ttl: TtlLike) -> Any:
        shared = getattr(self.l2, "get_or_compute", None)
        if self._back is not None or shared is None:
            return self._compute(key, fn, ttl)
        value = self._promote(key)
        if value is MISSING:
            with self._front.changing(key) as change:
                value = shared(key, fn, ttl)
                if ttl != 0:
                    self._set_in_front(change, key, value, ttl)
        return value

    def _compute(self, key: K, fn: Callable[[], V], ttl: TtlLike) -> Any:
        value = self._promote(key)
        if value is MISSING:
            value = fn()
            self.set(key, value, ttl)
        return value

    def set(self, key: K, value: V, ttl: TtlLike = Ttl.DEFAULT) -> None:
        """Store *value* under *key* in both levels, in *l1* no longer than its own default TTL.

        *ttl* is in seconds or a timedelta: None never expires, `Ttl.DEFAULT` is that of each level.
        Raises what the levels raise.
        """
        with self._front.changing(key) as change:
            self.l1.delete(key)  # if the slow level fails, no reader may see the old value in front
            if self._back is None:
                self.l2.set(key, value, ttl)
            else:
                self._back.put(key, value, ttl)
            self._set_in_front(change, key, value, ttl)

    def delete(self, key: K) -> bool:
        """Remove *key* from both levels; False when neither had it."""
        with self._front.changing(key):
            pending = self._back is not None and self._back.drop(key)
            behind = self.l2.delete(key)
            return self.l1.delete(key) or behind or pending

    def contains(self, key: K) -> bool:
        """Say whether either level has *key*."""
        return self.get(key, MISSING) is not MISSING

    def clear(self) -> None:
        """Empty both levels."""
        if self._back is not None:
            self._back.drop_all()
        self.l2.clear()
        self._front.contest_all()
        self.l1.clear()

    def flush(self) -> None:
        """Write what is pending to *l2*; raises the error of *l2*, and keeps what it refused."""
        if self._back is not None:
            self._back.flush()

    def close(self) -> None:
        """Flush and stop the thread. The two levels stay open: they belong to who made them."""
        if self._back is not None:
            self._back.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_exc: object) -> None:
        self.close()


class _Pending(NamedTuple):
    value: Any
    ttl: float | Ttl | None
    since: float  # monotonic seconds

    def remaining(self) -> float | Ttl | None:
        """Return the seconds that are left, 0 when there are none."""
        if self.ttl is None or isinstance(self.ttl, Ttl):
            return self.ttl
        return max(self.ttl - (time.monotonic() - self.since), 0.0)


class _WriteBack:
    """Entries on their way to the second level, newest per key, and the thread that writes them."""

    def __init__(self, level: Level, interval: float, most: int) -> None:
        check_interval("flush_interval", interval)
        self._level = level
        self._most = most
        self._interval = interval
        self._stop = threading.Event()
        self._begin()
        in_children(self, _WriteBack.leave_to_parent)

    def _begin(self) -> None:
        self._pending: dict[Any, _Pending] = {}
        self._mutex = threading.Lock()
        self._flushing = threading.RLock()  # a deletion waits for the flush that has begun
        # Runs when the cache is no longer referenced, and at the end of the process.
        self._rest = weakref.finalize(
            self, _write_rest, self._level, self._pending, self._stop, self._flushing
        )
        threading.Thread(
            target=_flush_regularly,
            args=(weakref.ref(self), self._stop, self._interval),
            name="ops-cache-write-back",
            daemon=True,
        ).start()

    def leave_to_parent(self) -> None:
        """Begin with nothing pending, in a forked child: what there was, the parent writes."""
        self._rest.detach()
        if not self._stop.is_set():
            self._begin()

    def find(self, key: Any) -> _Pending | None:
        with self._mutex:
            return self._pending.get(key)

    def put(self, key: Any, value: Any, ttl: TtlLike) -> None:
        seconds = check_ttl(None if isinstance(ttl, Ttl) else ttl)
        with self._mutex:
            if self._stop.is_set():
                raise CacheClosedError("This TwoLevelCache was closed.")
            lifetime = ttl if isinstance(ttl, Ttl) else seconds
            self._pending[key] = _Pending(value, lifetime, time.monotonic())
            full = len(self._pending) >= self._most
        if full:
            self.flush()

    def drop(self, key: Any) -> bool:
        with self._flushing, self._mutex:
            entry = self._pending.pop(key, None)
        return entry is not None and entry.remaining() != 0

    def drop_all(self) -> None:
        with self._flushing, self._mutex:
            self._pending.clear()

    def flush(self) -> None:
        failed: Exception | None = None
        with self._flushing:
            with self._mutex:
                batch = dict(self._pending)
            for key, entry in batch.items():
                try:
                    self._level.set(key, entry.value, entry.remaining())
                except Exception as error:  # noqa: BLE001 - raised below, after the others
                    failed = error
                    continue
                with self._mutex:
                    if self._pending.get(key) is entry:  # not set again meanwhile
                        del self._pending[key]
        if failed is not None:
            raise failed

    def close(self) -> None:
        with self._mutex:  # what was taken before is in the flush
            self._stop.set()
        self.flush()
        self._rest.detach()


def _flush_regularly(back: weakref.ref[_WriteBack], stop: threading.Event, interval: float) -> None:
    while not stop.wait(interval):
        target = back()
        if target is None:
            return
        try:
            target.flush()
        except Exception:  # noqa: BLE001 - logged, and kept for the next time
            _log.exception("Writing back failed; what is pending stays pending")
        del target


def _write_rest(
    level: Level, pending: dict[Any, _Pending], stop: threading.Event, flushing: threading.RLock
) -> None:
    stop.set()
    with flushing:  # the thread, which still runs, may be about to write something older
        for key, entry in list(pending.items()):
            try:
                level.set(key, entry.value, entry.remaining())
            except Exception:  # noqa: BLE001 - logged; the process ends
                _log.exception("Writing back %r failed; it is lost", key)
