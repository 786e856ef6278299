"""Caches in front of something slower: another cache, or a storage; and keys for them."""

from __future__ import annotations

import contextlib
import copy
import inspect
import uuid
from collections import deque
from collections.abc import Hashable
from typing import TYPE_CHECKING, Any, Generic, Protocol, TypeVar

from ops.cache.errors import ValueTooLargeError
from ops.cache.expiry import Ttl
from ops.cache.flights import SingleFlight
from ops.cache.memory import MISSING
from ops.serialize.digests import digest

if TYPE_CHECKING:
    from collections.abc import Callable

    from ops.cache.expiry import TtlLike

__all__ = ["CacheKeyBuilder", "CachedStorage", "TwoLevelCache"]

K = TypeVar("K", bound=Hashable)
V = TypeVar("V")


class _Level(Protocol):
    def get(self, key: Any, default: Any = None) -> Any: ...
    def set(self, key: Any, value: Any, ttl: TtlLike = Ttl.DEFAULT) -> None: ...
    def delete(self, key: Any) -> bool: ...
    def clear(self) -> None: ...


class TwoLevelCache(Generic[K, V]):
    """A small fast cache *l1* before a large slow one *l2*.

    Writes go to both, the slow one first; what only *l2* has is promoted. Threads that miss one key
    ask *l2* once; other keys never wait.
    """

    def __init__(self, l1: _Level, l2: _Level) -> None:
        self.l1 = l1
        self.l2 = l2
        self._flights: SingleFlight[K] = SingleFlight()

    def get(self, key: K, default: Any = None) -> Any:
        """Return the value of *key* from either level, or *default*."""
        value = self.l1.get(key, MISSING)
        if value is MISSING:
            value = self._flights.do(key, lambda: self._promote(key))
        return default if value is MISSING else value

    def _promote(self, key: K) -> Any:
        value = self.l2.get(key, MISSING)
        if value is not MISSING:
            self.l1.set(key, value)
        return value

    def get_or_compute(self, key: K, fn: Callable[[], V], ttl: TtlLike = Ttl.DEFAULT) -> Any:
        """Return the value of *key*, computing it once if neither level has it."""
        value = self.l1.get(key, MISSING)
        if value is MISSING:
            value = self._flights.do(key, lambda: self._fill(key, fn, ttl))
            if value is MISSING:  # we joined a plain lookup, which found nothing
                return self.get_or_compute(key, fn, ttl)
        return value

    def _fill(self, key: K, fn: Callable[[], V], ttl: TtlLike) -> Any:
        value = self._promote(key)
        if value is MISSING:
            value = fn()
            self.set(key, value, ttl)
        return value

    def set(self, key: K, value: V, ttl: TtlLike = Ttl.DEFAULT) -> None:
        """Store *value* in both levels; each applies its own default time to live."""
        self.l1.delete(key)  # if the slow level fails, no reader may see the old value in front
        self.l2.set(key, value, ttl)
        self.l1.set(key, value, ttl)

    def delete(self, key: K) -> bool:
        """Remove *key* from both levels; False when neither had it."""
        behind = self.l2.delete(key)
        return self.l1.delete(key) or behind

    def contains(self, key: K) -> bool:
        """Say whether either level has *key*."""
        return self.get(key, MISSING) is not MISSING

    def clear(self) -> None:
        """Empty both levels."""
        self.l2.clear()
        self.l1.clear()


class CachedStorage:
    """Any object with `read_*`, `write_*` and `delete_*` methods, its reads cached by path.

    The path is the parameter called `path`, or the first where none is: `write_json(data, path)` and
    `read(path)` both work. A write or delete forgets every cached read of that
    path, before and after, also when it fails. Each read is an entry of its own, so the limits of the
    cache see its size; one that is too large is passed on, not kept. Callers get copies, so nobody shares a mutable.
    """

    def __init__(self, storage: Any, cache: Any) -> None:
        self._storage = storage
        self._cache = cache

    def __getattr__(self, name: str) -> Any:
        member = getattr(self._storage, name)
        verb = name.partition("_")[0]
        if verb == "read":
            return lambda *a, **k: self._read(name, member, a, k)
        if verb in {"write", "delete"}:
            return lambda *a, **k: self._change(member, a, k)
        return member

    def _read(self, name: str, member: Callable[..., Any], args: Any, kwargs: Any) -> Any:
        path = _path_of(member, args, kwargs)
        reads = self._cache.get(("storage", str(path)), MISSING)
        if reads is MISSING:
            reads = _Reads()
            self._cache.set(("storage", str(path)), reads)
        # A write while we read removes `reads`, so nobody asks for this key again.
        key = ("storage", reads.token, name, digest([args, kwargs], algorithm="blake2b"))
        value = self._cache.get(key, MISSING)
        if value is MISSING:
            value = member(*args, **kwargs)
            reads.keys.append(key)
            with contextlib.suppress(ValueTooLargeError):  # counted by the cache
                self._cache.set(key, value)
        return copy.deepcopy(value)

    def _change(self, member: Callable[..., Any], args: Any, kwargs: Any) -> Any:
        path = _path_of(member, args, kwargs)
        self._forget(path)
        try:
            return member(*args, **kwargs)
        finally:
            self._forget(path)

    def _forget(self, path: Any) -> None:
        reads = self._cache.get(("storage", str(path)), MISSING)
        self._cache.delete(("storage", str(path)))
        if reads is not MISSING:
            for key in tuple(reads.keys):
                self._cache.delete(key)


def _path_of(member: Callable[..., Any], args: Any, kwargs: Any) -> Any:
    """Return which of the arguments is the path; wrong arguments raise as the member would."""
    bound = inspect.signature(member).bind(*args, **kwargs).arguments
    return bound["path"] if "path" in bound else next(iter(bound.values()), None)


class _Reads:
    """The cached reads of one path: a token that is part of their keys, and the keys."""

    def __init__(self) -> None:
        self.token = uuid.uuid4().hex
        self.keys: deque[Any] = deque(maxlen=64)  # older ones, if any, wait for their eviction


class CacheKeyBuilder:
    """Builds readable keys that cannot collide: parts are kept apart and typed by a digest.

    >>> CacheKeyBuilder("models").build("churn", 1) == CacheKeyBuilder("models").build("churn", "1")
    False
    """

    def __init__(self, prefix: str = "", separator: str = ":") -> None:
        self._prefix = prefix
        self._separator = separator

    def build(self, *parts: Any, **named: Any) -> str:
        """Return the key of *parts* and *named*: the prefix, and a digest of all of them."""
        made = digest([self._prefix, parts, named], algorithm="blake2b")[:32]
        return f"{self._prefix}{self._separator}{made}" if self._prefix else made
