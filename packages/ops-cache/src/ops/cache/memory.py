"""Caches in memory: one set of operations, and an eviction policy per subclass.

`MemoryCache(...)` returns the class of the requested strategy. The base holds everything
that policies share: TTLs, limits in entries and bytes, counters, single flight, the
mapping protocol. A policy adds seven small methods, all called under the lock of the cache.

Entries leave in two steps: under the lock they are collected, after it `on_evict` gets them, so
a callback may use the cache. The lock is re-entrant because dropping a value can run a finaliser
that uses the cache again.
"""

from __future__ import annotations

import inspect
import threading
import time
from collections import Counter, deque
from collections.abc import Hashable, MutableMapping
from typing import TYPE_CHECKING, Any, Final, Self, TypeVar, cast, overload

from ops.cache.claims import Claim
from ops.cache.errors import ValueTooLargeError
from ops.cache.expiry import Expirations, Ttl, check_ttl
from ops.cache.policy import Policy
from ops.cache.single_flight import ALONE, SingleFlight
from ops.cache.sizes import approximate_size, positive_limit
from ops.cache.stats import CacheStats, EvictionCause
from ops.cache.strategies import CacheStrategy, class_of
from ops.cache.updates import KEEP, KEPT_TTL, Numbers
from ops.cache.views import SnapshotItems, SnapshotValues
from ops.foundation.callables import refuse_coroutine_function
from ops.foundation.errors import ValidationError
from ops.foundation.forks import keep_over_forks
from ops.foundation.logs import get_logger

if TYPE_CHECKING:
    from collections.abc import Callable, ItemsView, Iterable, Iterator, Mapping, ValuesView

    from ops.cache.expiry import TtlLike

__all__ = ["MISSING", "MemoryCache"]

K = TypeVar("K", bound=Hashable)
V = TypeVar("V")
D = TypeVar("D")

MISSING: Final[Any] = object()
_NOTHING: Final[Any] = object()
_log = get_logger("ops.cache")


class MemoryCache(Numbers, MutableMapping[K, V], Policy[K, V]):
    """A bounded, thread-safe mapping that forgets.

    Args:
        max_size: The most entries it holds, or None for no such limit.
        default_ttl: Seconds that entries live unless `set` overrides it; None for ever.
        strategy: The eviction policy; decides the class of the object.
        max_memory: The most bytes all values may take together, by *sizeof*.
        sizeof: Bytes of one value (default: `approximate_size`, which follows containers).
        on_evict: Called with key, value and cause after an entry was evicted or has expired.
        count_hits: Count hits also with S3-FIFO, which then takes its lock on each read.
        clock: Seconds that never go back.

    Raises `ValidationError` for a limit or a TTL out of range, for a coroutine function as *sizeof* or
    *on_evict*, and for a *strategy* other than that
    of a subclass.

    >>> recent = MemoryCache(max_size=100, default_ttl=60)
    >>> recent.set("user:1", {"name": "ann"})
    >>> recent.get("user:1"), recent.get("user:2")
    ({'name': 'ann'}, None)
    >>> recent.get_or_compute("user:2", lambda: {"name": "ben"})
    {'name': 'ben'}
    """

    strategy = CacheStrategy.S3FIFO

    def __new__(cls, *_args: Any, **options: Any) -> Self:
        """Return an object of the class of *strategy*."""
        if cls is not MemoryCache:
            return super().__new__(cls)
        chosen = class_of(
            options.get("strategy") or cls.strategy,
            count_hits=bool(options.get("count_hits")),
        )
        return cast("Self", object.__new__(chosen))

    def __init__(
        self,
        max_size: int | None = 1000,
        default_ttl: float | None = None,
        *,
        strategy: CacheStrategy | str | None = None,
        max_memory: int | None = None,
        sizeof: Callable[[V], int] | None = None,
        on_evict: Callable[[K, V, EvictionCause], object] | None = None,
        count_hits: bool = False,  # noqa: ARG002 - read by __new__
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        if strategy is not None and strategy != self.strategy:
            msg = f"{type(self).__name__} has the strategy {self.strategy!s}, not {strategy!s}."
            raise ValidationError(msg, suggestions=("Make a MemoryCache with that strategy.",))
        refuse_coroutine_function(sizeof, "sizeof")
        refuse_coroutine_function(on_evict, "on_evict")
        self._max_size = positive_limit("max_size", max_size)
        self._max_memory = positive_limit("max_memory", max_memory)
        self._default_ttl = check_ttl(default_ttl)
        measured = max_memory is not None or sizeof is not None
        self._sizeof = (sizeof or approximate_size) if measured else None
        self._sizes: dict[K, int] = {}
        self._memory = 0
        self._on_evict = on_evict
        self._clock = clock
        self._lock = threading.RLock()
        keep_over_forks(self)
        self._expirations: Expirations[K] = Expirations()
        self._gone: deque[tuple[K, V, EvictionCause]] = deque()
        self._evictions: Counter[EvictionCause] = Counter()
        self._timed = False
        self._hits = self._misses = self._rejected = 0
        self._flights: SingleFlight[K] = SingleFlight()

    # Reading

    def __getitem__(self, key: K) -> V:
        value = self._read(key)
        return cast("V", self._missing(key) if value is MISSING else value)

    def _missing(self, key: K) -> Any:
        """Return what `cache[key]` gives for a missing key: `__missing__` of a subclass, as with dict."""
        missing = getattr(type(self), "__missing__", None)
        if missing is None:
            raise KeyError(key)
        return missing(self, key)

    @overload
    def get(self, key: K, default: None = None) -> V | None: ...
    @overload
    def get(self, key: K, default: V | D) -> V | D: ...
    def get(self, key: K, default: Any = None) -> Any:
        """Return the value of *key*, or *default*. A stored None is a hit."""
        value = self._read(key)
        return default if value is MISSING else value

    def _read(self, key: K) -> Any:
        with self._lock:
            value = self._look_up(key)
        self._report_gone()
        return value

    def _look_up(self, key: K) -> Any:
        self._expire_due()
        value = self._use(key)
        if value is MISSING:
            self._misses += 1
        else:
            self._hits += 1
        return value

    @overload
    def peek(self, key: K, default: None = None) -> V | None: ...
    @overload
    def peek(self, key: K, default: V | D) -> V | D: ...
    def peek(self, key: K, default: Any = None) -> Any:
        """Return the value as `get` does, without any effect on eviction or counters."""
        with self._lock:
            self._expire_due()
            value = self._find(key)
        self._report_gone()
        return default if value is MISSING else value

    @overload
    def get_with_ttl(self, key: K, default: None = None) -> tuple[V | None, float | None]: ...
    @overload
    def get_with_ttl(self, key: K, default: V | D) -> tuple[V | D, float | None]: ...
    def get_with_ttl(self, key: K, default: Any = None) -> Any:
        """Return the value as `get` does, and the seconds it has left (None: it never expires)."""
        with self._lock:
            value = self._look_up(key)
            left = self._expirations.remaining(key, self._clock())
        self._report_gone()
        return default if value is MISSING else value, left

    @property
    def mutex(self) -> threading.RLock:
        """The lock of the cache; see `forks`."""
        return self._lock

    @property
    def default_ttl(self) -> float | None:
        """The seconds that entries live by default; None for ever."""
        return self._default_ttl

    def get_many(self, keys: Iterable[K]) -> dict[K, V]:
        """Return the values of those *keys* that have one."""
        found = {key: self.get(key, MISSING) for key in keys}
        return {key: cast("V", value) for key, value in found.items() if value is not MISSING}

    def contains(self, key: K) -> bool:
        """Say whether *key* has a value, without any effect on eviction or counters."""
        return self.peek(key, MISSING) is not MISSING

    def __contains__(self, key: object) -> bool:
        return self.contains(cast("K", key))

    def get_or_compute(self, key: K, fn: Callable[[], V], ttl: TtlLike = Ttl.DEFAULT) -> V:
        """Return the value of *key*, computing and storing it if there is none.

        *fn* takes no argument; *ttl* is that of `set`. Threads that ask at the same time compute
        once; other keys do not wait. If *fn* raises, the caller gets the error and the next waiter
        computes.
        """
        claim, value = self._claim(key, ttl)
        if claim is None:
            return cast("V", value)
        try:
            value = fn()
        except BaseException:
            claim.fail()
            raise
        claim.finish(value)
        return value

    def _claim(self, key: K, ttl: TtlLike) -> tuple[Claim | None, Any]:
        """Return the value of *key*, or a claim with which the caller computes it.

        `memoize` computes between the two itself, so that a recursion is no deeper than it has to.
        """
        value = self.get(key, MISSING)
        if value is not MISSING:
            return None, value
        flight, landed = self._flights.board(key)
        if flight is None:
            return None, landed[0]
        value = self.peek(key, MISSING)  # the leader before us may have just landed
        if value is MISSING:
            return Claim(
                lambda v: self._set_computed(key, v, ttl), self._flights, key, flight
            ), None
        if flight is not ALONE:
            self._flights.land(key, flight, (value,))
        return None, value

    def _set_computed(self, key: K, value: V, ttl: TtlLike) -> None:
        if inspect.iscoroutine(value):  # the second who awaits it would get an error
            value.close()
            msg = f"What computes the value of {key!r} returns a coroutine, which is awaited once."
            raise ValidationError(
                msg, suggestions=("Use AsyncCache, or memoize the coroutine function.",)
            )
        try:
            self.set(key, value, ttl)
        except ValueTooLargeError as error:
            if self._rejected == 1:  # once per cache; get_stats() has the count
                _log.warning("Returned, not cached: %s", error)

    # Writing

    def set(self, key: K, value: V, ttl: TtlLike = Ttl.DEFAULT) -> None:
        """Store *value* under *key*.

        *ttl* is in seconds or a timedelta: zero stores nothing, None never expires, `Ttl.DEFAULT`
        is the cache's. Raises `ValueTooLargeError` when the value alone exceeds `max_memory`; the
        entry that was there before is then gone, because it is outdated.
        """
        seconds = self._default_ttl if isinstance(ttl, Ttl) else check_ttl(ttl)
        size = self._sizeof(value) if self._sizeof is not None else 0
        with self._lock:
            self._expire_due()
            self._set(key, value, size, seconds)
        self._report_gone()

    def _set(self, key: K, value: V, size: int, seconds: float | None) -> None:
        if seconds == 0:
            self._discard(key)
            self._evictions[EvictionCause.EXPIRED] += 1
            return
        if self._max_memory is not None and size > self._max_memory:
            self._discard(key)
            self._rejected += 1
            msg = f"The value of {key!r} takes {size} bytes and the cache holds {self._max_memory}."
            raise ValueTooLargeError(msg, suggestions=("Raise max_memory, or store less.",))
        if self._sizeof is not None:
            self._memory -= self._sizes.pop(key, 0)
            self._evict_for(key, size)
            self._memory += size
            self._sizes[key] = size
        if self._max_size is not None and self._find(key) is MISSING:
            while self._count() >= self._max_size:
                self._evict(self._victim(), EvictionCause.SIZE)
        self._store(key, value)
        self._set_deadline(key, seconds)

    def _evict_for(self, key: K, size: int) -> None:
        while self._max_memory is not None and self._memory + size > self._max_memory:
            victim = self._victim()
            if victim == key:  # its old value goes anyway; it comes back as a new entry
                self._discard(key)
            else:
                self._evict(victim, EvictionCause.MEMORY)

    def _set_deadline(self, key: K, seconds: float | None) -> None:
        if seconds is None:
            self._expirations.drop(key)
            return
        if not self._timed:
            self._timed = True
            self._become_timed()
        self._expirations.put(key, self._clock() + seconds)

    def _change(
        self,
        key: K,
        decide: Callable[[Any, Any], Any],
        ttl: Any = KEPT_TTL,
        tag: str | None = None,
    ) -> None:
        if tag is not None:
            raise ValidationError(f"A memory cache has no tags; remove tag={tag!r}.")
        with self._lock:
            self._expire_due()
            found = self._find(key)
            wanted = decide(found, MISSING)
            if wanted is not KEEP:
                size = self._sizeof(wanted) if self._sizeof is not None else 0
                if ttl is KEPT_TTL and found is not MISSING:
                    seconds = self._expirations.remaining(key, self._clock())
                else:
                    wish: Any = Ttl.DEFAULT if ttl is KEPT_TTL else ttl
                    seconds = self._default_ttl if isinstance(wish, Ttl) else check_ttl(wish)
                self._set(key, wanted, size, seconds)
        self._report_gone()

    def set_many(self, values: Mapping[K, V], ttl: TtlLike = Ttl.DEFAULT) -> None:
        """Store all *values* as `set` does, one after the other."""
        for key, value in values.items():
            self.set(key, value, ttl)

    def touch(self, key: K, ttl: TtlLike = Ttl.DEFAULT) -> bool:
        """Let *key* live for *ttl* seconds from now; return False when there is no such key."""
        seconds = self._default_ttl if isinstance(ttl, Ttl) else check_ttl(ttl)
        with self._lock:
            self._expire_due()
            found = self._find(key) is not MISSING
            if found and seconds == 0:
                self._evict(key, EvictionCause.EXPIRED)
            elif found:
                self._set_deadline(key, seconds)
        self._report_gone()
        return found

    def delete(self, key: K) -> bool:
        """Remove *key*; return False when there is no such key."""
        return self.pop(key, _NOTHING) is not _NOTHING

    def clear(self) -> None:
        """Remove all entries. Counters stay; `on_evict` is not called."""
        with self._lock:
            for key in self._keys():
                self._discard(key)
            self._expirations.clear()

    def expire(self) -> int:
        """Remove the entries whose time has come and return how many; each call here does so."""
        with self._lock:
            number = self._expire_due()
        self._report_gone()
        return number

    def get_stats(self) -> CacheStats:
        """Return the counters and the size now."""
        with self._lock:
            self._expire_due()
            stats = CacheStats(
                hits=self._hits,
                misses=self._misses,
                evictions={cause: self._evictions[cause] for cause in EvictionCause},
                rejected=self._rejected,
                size=self._count(),
                max_size=self._max_size,
                memory_bytes=None if self._sizeof is None else self._memory,
                max_memory=self._max_memory,
            )
        self._report_gone()
        return stats

    # The rest of the mapping protocol

    def __setitem__(self, key: K, value: V) -> None:
        self.set(key, value)

    def __delitem__(self, key: K) -> None:
        self.pop(key)

    def __len__(self) -> int:
        self.expire()
        return self._count()

    def __iter__(self) -> Iterator[K]:
        """Iterate over the current keys; other threads may go on changing the cache."""
        with self._lock:
            self._expire_due()
            keys = self._keys()
        self._report_gone()
        return iter(keys)

    def items(self) -> ItemsView[K, V]:
        """Return a view whose iteration takes a snapshot and counts as no use."""
        return SnapshotItems(self)

    def values(self) -> ValuesView[V]:
        """Return a view whose iteration takes a snapshot and counts as no use."""
        return SnapshotValues(self)

    def snapshot(self) -> list[tuple[K, V]]:
        """Return all current entries; counts as no use."""
        with self._lock:
            self._expire_due()
            entries = [(key, self._find(key)) for key in self._keys()]
        self._report_gone()
        return entries

    @overload
    def pop(self, key: K) -> V: ...
    @overload
    def pop(self, key: K, default: V | D) -> V | D: ...
    def pop(self, key: K, default: Any = MISSING) -> Any:
        """Remove *key* and return its value, or *default*; without one a missing key raises."""
        with self._lock:
            self._expire_due()
            value = self._discard(key)
        self._report_gone()
        if value is not MISSING:
            return value
        if default is MISSING:
            raise KeyError(key)
        return default

    @overload
    def setdefault(self: MemoryCache[K, D | None], key: K, default: None = None) -> D | None: ...
    @overload
    def setdefault(self, key: K, default: V) -> V: ...
    def setdefault(self, key: K, default: Any = None) -> Any:
        """Return the value of *key*, storing *default* first if there is none, in one step.

        Raises `ValueTooLargeError` when *default* alone exceeds `max_memory`.
        """
        size = self._sizeof(default) if self._sizeof is not None else 0
        with self._lock:
            value = self._look_up(key)
            if value is MISSING:
                self._set(key, default, size, self._default_ttl)
                value = default
        self._report_gone()
        return value

    def __reduce__(self) -> Any:
        """Pickle as the options and the entries; the copy has counters of its own.

        Functions among the options (`sizeof`, `on_evict`, `clock`) are pickled by their names.
        """
        with self._lock:
            self._expire_due()
            now = self._clock()
            entries = [
                (key, self._find(key), self._expirations.remaining(key, now))
                for key in self._keys()
            ]
        own = {
            "max_memory": self._max_memory,
            "sizeof": None if self._sizeof is approximate_size else self._sizeof,
            "on_evict": self._on_evict,
            "clock": self._clock,
        }
        state = {k: v for k, v in self.__dict__.items() if not k.startswith("_")}
        return (_rebuilt, (type(self), self._max_size, self._default_ttl, own, state, entries))

    def __eq__(self, other: object) -> bool:
        return self is other  # a cache changes by itself, so equality by content means little

    def __hash__(self) -> int:
        return id(self)

    def __repr__(self) -> str:
        return f"<{type(self).__name__} with {len(self)} of {self._max_size or 'any number of'} entries>"

    # Leaving, under the lock

    def _discard(self, key: K) -> Any:
        value = self._remove(key)
        if value is not MISSING:
            self._expirations.drop(key)
            self._memory -= self._sizes.pop(key, 0)
        return value

    def _evict(self, key: K, cause: EvictionCause) -> None:
        value = self._discard(key)
        self._evictions[cause] += 1
        if self._on_evict is not None:
            self._gone.append((key, value, cause))

    def _expire_due(self) -> int:
        now = self._clock() if self._timed else 0.0
        if now < self._expirations.deadline:
            return 0
        due = list(self._expirations.pop_due(now))
        for key in due:
            self._evict(key, EvictionCause.EXPIRED)
        return len(due)

    def _report_gone(self) -> None:
        """Call `on_evict`, outside of the lock. Its errors are logged: the cache did its part."""
        while self._gone and self._on_evict is not None:
            try:
                entry = self._gone.popleft()
            except IndexError:  # another thread reports it
                return
            try:
                self._on_evict(*entry)
            except Exception:  # noqa: BLE001 - logged with its traceback
                _log.exception("on_evict failed for the key %r", entry[0])


def _rebuilt(
    kind: type[MemoryCache[Any, Any]],
    max_size: int | None,
    default_ttl: float | None,
    options: dict[str, Any],
    state: dict[str, Any],
    entries: list[tuple[Any, Any, float | None]],
) -> MemoryCache[Any, Any]:
    cache = kind(max_size, default_ttl, **options)
    cache.__dict__.update(state)
    for key, value, seconds in entries:
        cache.set(key, value, seconds)
    return cache
