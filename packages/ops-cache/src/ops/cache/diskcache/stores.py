"""`Cache` and `FanoutCache`: the interface of diskcache on a `DiskCache`.

A user changes one import line. docs/howto/come-from-diskcache.md has the table of what differs.
"""

from __future__ import annotations

import contextlib
import functools
import io
import os
import tempfile
import threading
import time
from typing import TYPE_CHECKING, Any, Literal, Self

from ops.cache.disk.store import DiskCache
from ops.cache.diskcache.folders import refuse_folder_of_diskcache
from ops.cache.diskcache.keys import from_stored, to_stored
from ops.cache.memoization import memoize
from ops.cache.memory import MISSING
from ops.foundation.errors import ValidationError

if TYPE_CHECKING:
    from collections.abc import Callable, Generator, Hashable, Iterator

    from ops.cache.diskcache.collections import Deque, Index
    from ops.foundation.files import StrPath
    from ops.serialize.trust import Trust

__all__ = ["ENOVAL", "UNKNOWN", "Cache", "FanoutCache"]


class _Constant:
    def __init__(self, name: str) -> None:
        self._name = name

    def __repr__(self) -> str:
        return self._name


ENOVAL: Any = _Constant("ENOVAL")
UNKNOWN: Any = _Constant("UNKNOWN")
_SETTINGS: dict[str, Any] = {
    "size_limit": 1 << 30,
    "eviction_policy": "least-recently-stored",
    "cull_limit": 10,
    "statistics": 0,
    "tag_index": 0,
}
_IGNORED = ("disk_", "sqlite_")
_FIRST = 500_000_000_000_000  # where diskcache begins to number a queue
Side = Literal["front", "back"]


class Cache:
    """A dictionary on disk with the methods of `diskcache.Cache`, on a `DiskCache`.

    Args:
        directory: The folder; None is a new temporary one.
        timeout: Taken for compatibility; nothing here waits for a database.
        disk: Taken for compatibility; *trust* decides what is stored and read.
        trust: As for `DiskCache`.
        settings: `size_limit` is the `max_bytes` of the cache; the others are kept and change nothing.

    Raises:
        ValidationError: a setting is unknown.
        UnsuitableFolderError: the folder was written by diskcache itself, or the disk is no local one.
    """

    def __init__(
        self,
        directory: StrPath | None = None,
        timeout: float = 60,
        disk: object = None,
        *,
        trust: Trust = "user",
        **settings: Any,
    ) -> None:
        unknown = [k for k in settings if k not in _SETTINGS and not k.startswith(_IGNORED)]
        if unknown:
            raise ValidationError(
                f"There is no setting {unknown[0]!r}; known are {sorted(_SETTINGS)}."
            )
        if directory is None:
            directory = tempfile.mkdtemp(prefix="ops-diskcache-")
        self._directory = os.path.expanduser(os.path.expandvars(os.fspath(directory)))  # noqa: PTH111 - as diskcache does
        refuse_folder_of_diskcache(self._directory)
        self._arguments = (timeout, disk, trust, settings)
        self._timeout = timeout
        self._settings = _SETTINGS | settings
        for name, value in self._settings.items():
            setattr(self, name, value)
        self._store = DiskCache(
            self._directory, max_bytes=int(self._settings["size_limit"]), trust=trust
        )
        self._transaction = threading.local()

    @classmethod
    def of(cls, store: DiskCache) -> Self:
        """Return the cache of a `DiskCache`, or of one of its namespaces."""
        made = cls.__new__(cls)
        made._directory, made._timeout = str(store.directory), 60
        made._arguments = None  # type: ignore[assignment] # it is pickled with its store
        made._settings = dict(_SETTINGS)
        made._store = store
        made._transaction = threading.local()
        return made

    @property
    def directory(self) -> str:
        """The folder."""
        return self._directory

    @property
    def timeout(self) -> float:
        """What was given; nothing waits."""
        return self._timeout

    @property
    def store(self) -> DiskCache:
        """The `DiskCache` behind."""
        return self._store

    @property
    def _target(self) -> Any:
        return getattr(self._transaction, "changes", None) or self._store

    # Reading and writing

    def get(
        self,
        key: Hashable,
        default: Any = None,
        read: bool = False,
        expire_time: bool = False,
        tag: bool = False,
        retry: bool = False,
    ) -> Any:
        """Return the value of *key*, or *default*.

        Args:
            key: the key.
            default: what a missing key gives.
            read: give a file that reads the value, which is bytes.
            expire_time: return a tuple with the seconds since the epoch at which it expires.
            tag: return a tuple with the tag.
            retry: taken for compatibility.
        """
        stored = to_stored(key)
        value = self._target.get(stored, MISSING)
        found = value is not MISSING
        if read and found and isinstance(value, bytes):
            value = io.BytesIO(value)
        parts: list[Any] = [value if found else default]
        if expire_time:
            left = self._store.get_with_ttl(stored)[1] if found else None
            parts.append(None if left is None else time.time() + left)
        if tag:
            parts.append(self._store.tag_of(stored) if found else None)
        return parts[0] if len(parts) == 1 else tuple(parts)

    def read(self, key: Hashable, retry: bool = False) -> Any:
        """Return a file that reads the value of *key*; raises `KeyError` when there is none."""
        value = self.get(key, MISSING, read=True)
        if value is MISSING:
            raise KeyError(key)
        return value

    def set(
        self,
        key: Hashable,
        value: Any,
        expire: float | None = None,
        read: bool = False,
        tag: Any = None,
        retry: bool = False,
    ) -> bool:
        """Store *value* under *key* with *tag*, for *expire* seconds (None: for ever).

        With *read* it is a file, whose bytes are stored. *retry* has no effect: writers wait for
        each other.
        """
        value = value.read() if read else value
        self._target.set(to_stored(key), value, _ttl(expire), tag=_tag(tag))
        return True

    def add(
        self,
        key: Hashable,
        value: Any,
        expire: float | None = None,
        read: bool = False,
        tag: Any = None,
        retry: bool = False,
    ) -> bool:
        """Store *value* if *key* has none; return whether it was stored.

        *expire*, *read*, *tag* and *retry* are those of `set`.
        """
        value = value.read() if read else value
        return bool(self._target.add(to_stored(key), value, _ttl(expire), tag=_tag(tag)))

    def touch(self, key: Hashable, expire: float | None = None, retry: bool = False) -> bool:
        """Let *key* live for *expire* seconds from now (None: for ever); False when there is no such key.

        *retry* has no effect.
        """
        return self._store.touch(to_stored(key), _ttl(expire))

    def incr(
        self,
        key: Hashable,
        delta: int = 1,
        default: int | None = 0,
        retry: bool = False,
    ) -> Any:
        """Add *delta* to the number at *key* in one step and return the sum.

        A key without a value counts as *default*; where that is None, this raises `KeyError`.
        *retry* has no effect.
        """
        return self._target.incr(to_stored(key), delta, default)

    def decr(
        self,
        key: Hashable,
        delta: int = 1,
        default: int | None = 0,
        retry: bool = False,
    ) -> Any:
        """Subtract *delta* from the number at *key*; *default* and *retry* are those of `incr`."""
        return self.incr(key, -delta, default, retry)

    def pop(
        self,
        key: Hashable,
        default: Any = None,
        expire_time: bool = False,
        tag: bool = False,
        retry: bool = False,
    ) -> Any:
        """Remove *key* and return its value, or *default*.

        *expire_time* and *tag* add the time of expiry and the tag, as tuples that `get` has too.
        *retry* has no effect.
        """
        if not expire_time and not tag:
            return self._target.pop(to_stored(key), default)
        with self.transact():
            found = self.get(key, default, expire_time=expire_time, tag=tag)
            self.delete(key)
        return found

    def delete(self, key: Hashable, retry: bool = False) -> bool:
        """Remove *key*; return False when there is no such key."""
        return bool(self._target.delete(to_stored(key)))

    def __getitem__(self, key: Hashable) -> Any:
        value = self.get(key, MISSING)
        if value is MISSING:
            raise KeyError(key)
        return value

    def __setitem__(self, key: Hashable, value: Any) -> None:
        self.set(key, value)

    def __delitem__(self, key: Hashable, retry: bool = True) -> None:
        if not self.delete(key):
            raise KeyError(key)

    def __contains__(self, key: Hashable) -> bool:
        return bool(self._target.contains(to_stored(key)))

    def __iter__(self) -> Iterator[Any]:
        """Yield the keys."""
        return map(from_stored, iter(self._target))

    def __reversed__(self) -> Iterator[Any]:
        return iter(list(self)[::-1])

    def iterkeys(self, reverse: bool = False) -> Iterator[Any]:
        """Yield the keys in their order."""
        return iter(sorted(self, key=_rank, reverse=reverse))

    def __len__(self) -> int:
        return len(self._target)

    def peekitem(
        self,
        last: bool = True,
        expire_time: bool = False,
        tag: bool = False,
        retry: bool = False,
    ) -> Any:
        """Return the *last*, or first, key and its value; raises `KeyError` when the cache is empty.

        *expire_time* and *tag* add the time of expiry and the tag. *retry* has no effect.
        """
        for key in reversed(self) if last else self:
            found = self.get(key, MISSING, expire_time=expire_time, tag=tag)
            value = found[0] if isinstance(found, tuple) and (expire_time or tag) else found
            if value is not MISSING:
                return (key, found) if not (expire_time or tag) else ((key, value), *found[1:])
        raise KeyError("dictionary is empty")

    # Queues: text keys "prefix-500000000000000" and up, integers without a prefix

    def push(
        self,
        value: Any,
        prefix: str | None = None,
        side: Side = "back",
        expire: float | None = None,
        read: bool = False,
        tag: Any = None,
        retry: bool = False,
    ) -> Any:
        """Add *value* to the queue of *prefix* and return its key.

        *side* is "back" or "front". *expire*, *read*, *tag* and *retry* are those of `set`.
        """
        with self.transact():
            numbers = self._numbers(prefix)
            if not numbers:
                number = _FIRST
            else:
                number = numbers[-1] + 1 if side == "back" else numbers[0] - 1
            key = _queue_key(prefix, number)
            self.set(key, value, expire, read, tag)
        return key

    def pull(
        self,
        prefix: str | None = None,
        default: Any = (None, None),
        side: Side = "front",
        expire_time: bool = False,
        tag: bool = False,
        retry: bool = False,
    ) -> Any:
        """Remove and return the key and value at the front, or back, of the queue of *prefix*.

        *side* is "front" or "back"; *default* stands for an empty queue. *expire_time* and *tag*
        add the time of expiry and the tag. *retry* has no effect.
        """
        with self.transact():
            found = self.peek(prefix, MISSING, side, expire_time, tag)
            if found is MISSING:
                return default
            self.delete(found[0][0] if expire_time or tag else found[0])
        return found

    def peek(
        self,
        prefix: str | None = None,
        default: Any = (None, None),
        side: Side = "front",
        expire_time: bool = False,
        tag: bool = False,
        retry: bool = False,
    ) -> Any:
        """Return what `pull` would, and leave it there.

        *prefix*, *default*, *side*, *expire_time*, *tag* and *retry* are those of `pull`.
        """
        numbers = self._numbers(prefix)
        for number in numbers if side == "front" else reversed(numbers):
            key = _queue_key(prefix, number)
            value, *more = self.get(key, MISSING, expire_time=True, tag=True)
            if value is not MISSING:
                wanted = [
                    part
                    for part, is_wanted in zip(more, (expire_time, tag), strict=True)
                    if is_wanted
                ]
                return ((key, value), *wanted) if wanted else (key, value)
        return default

    def _numbers(self, prefix: str | None) -> list[int]:
        if prefix is None:
            return sorted(key for key in self if type(key) is int and 0 < key < 2 * _FIRST)
        start, size = f"{prefix}-", 15
        texts = (
            key[len(start) :] for key in self if isinstance(key, str) and key.startswith(start)
        )
        return sorted(int(text) for text in texts if len(text) == size and text.isdecimal())

    # The whole

    @contextlib.contextmanager
    def transact(self, retry: bool = False) -> Generator[None]:
        """Make the changes of this thread in the block one: all are seen at its end, or none."""
        if getattr(self._transaction, "changes", None) is not None:  # within another
            yield
            return
        with self._store.transact() as changes:
            self._transaction.changes = changes
            try:
                yield
            finally:
                self._transaction.changes = None

    def memoize(
        self,
        name: str | None = None,
        typed: bool = False,
        expire: float | None = None,
        tag: Any = None,
        ignore: Any = (),
    ) -> Callable[[Callable[..., Any]], Any]:
        """Memoize results; keys are equal as those of `ops.cache.memoize`, code included.

        Args:
            name: taken for compatibility.
            typed: taken for compatibility; types always count.
            expire: seconds.
            tag: of the entries; no other than None.
            ignore: names of parameters that do not change the result.

        Raises `ValidationError` for a *tag*.
        """
        if tag is not None:
            raise ValidationError("memoize has no tags here; clear results with cache_clear().")
        if callable(name):
            raise TypeError("name cannot be callable: write @cache.memoize().")

        def decorate(func: Callable[..., Any]) -> Any:
            wrapper = memoize(cache=self._store, ttl=expire, ignore=ignore)(func)
            wrapper.__cache_key__ = wrapper.key  # type: ignore[attr-defined] # as diskcache calls it
            return wrapper

        return decorate

    def evict(self, tag: Any, retry: bool = False) -> int:
        """Remove the entries with *tag*; return how many."""
        return self._store.delete_tag(_tag(tag) or "")

    def expire(self, now: float | None = None, retry: bool = False) -> int:
        """Remove what has expired; return how many."""
        return self._store.expire()

    def cull(self, retry: bool = False) -> int:
        """Remove what has expired; what exceeds the limit goes by itself."""
        return self._store.expire()

    def clear(self, retry: bool = False) -> int:
        """Remove everything; return how many entries there were."""
        count = len(self._store)
        self._store.clear()
        return count

    def check(self, fix: bool = False, retry: bool = False) -> list[Any]:
        """Read everything; return what is damaged, as a list."""
        report = self._store.check(repair=fix)
        return [] if report.is_sound else [report]

    def volume(self) -> int:
        """Return the bytes on disk."""
        return self._store.get_stats().disk_bytes

    def stats(self, enable: bool = True, reset: bool = False) -> tuple[int, int]:
        """Return hits and misses of this object; *reset* is for those that come."""
        found = self._store.get_stats()
        if reset:
            self._store.log.hits = self._store.log.misses = 0
        return found.hits, found.misses

    def create_tag_index(self) -> None:
        """Do nothing: tags are always indexed."""

    def drop_tag_index(self) -> None:
        """Do nothing: tags are always indexed."""

    def reset(self, key: str, value: Any = ENOVAL, update: bool = True) -> Any:
        """Return the setting *key*, or set it to *value* for this object; `size_limit` counts when it is opened.

        *update* has no effect: settings are not kept in the folder.
        """
        if value is not ENOVAL:
            self._settings[key] = value
            setattr(self, key, value)
        return self._settings[key]

    def close(self) -> None:
        """Close the files."""
        self._store.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_exc: object) -> None:
        self.close()

    def __repr__(self) -> str:
        return f"{type(self).__name__}({self._directory!r})"

    def __reduce__(self) -> Any:
        return (functools.partial(_of, type(self)), (self._store,))


class FanoutCache(Cache):
    """`diskcache.FanoutCache`: here one `DiskCache`, whose writers do not wait for each other anyway.

    Args:
        directory: The folder; None is a new temporary one.
        shards: Taken for compatibility.
        timeout: Taken for compatibility.
        disk: Taken for compatibility.
        trust: As for `DiskCache`.
        settings: As for `Cache`.
    """

    def __init__(
        self,
        directory: StrPath | None = None,
        shards: int = 8,
        timeout: float = 0.010,
        disk: object = None,
        *,
        trust: Trust = "user",
        **settings: Any,
    ) -> None:
        super().__init__(directory, timeout, disk, trust=trust, **settings)

    def cache(self, name: str) -> Cache:
        """Return the cache called *name* within this one."""
        return Cache.of(self._store.namespace("cache").namespace(name))

    def deque(self, name: str, maxlen: int | None = None) -> Deque:
        """Return the deque called *name* within this one."""
        from ops.cache.diskcache.collections import Deque

        return Deque.of(self._store.namespace("deque").namespace(name), maxlen)

    def index(self, name: str) -> Index:
        """Return the index called *name* within this one."""
        from ops.cache.diskcache.collections import Index

        return Index.of(self._store.namespace("index").namespace(name))


def _of(kind: type[Cache], store: DiskCache) -> Cache:
    return kind.of(store)


def _ttl(expire: float | None) -> float | None:
    return None if expire is None else max(expire, 0)


def _tag(tag: Any) -> str | None:
    if isinstance(tag, bytes):
        tag = tag.decode("utf-8", "backslashreplace")
    return None if tag is None or tag == "" else str(tag)


def _queue_key(prefix: str | None, number: int) -> Any:
    return number if prefix is None else f"{prefix}-{number:015d}"


def _rank(key: Any) -> tuple[int, Any]:
    """Order keys as SQLite does: numbers, texts, bytes, and then the rest."""
    if isinstance(key, (int, float)) and not isinstance(key, bool):
        return (0, key)
    if isinstance(key, (str, bytes)):
        return (1 + isinstance(key, bytes), key)
    return (3, repr(key))
