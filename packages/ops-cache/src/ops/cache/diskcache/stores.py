"""`Cache` and `FanoutCache`: the interface of diskcache on a `DiskCache`.

A user changes one import line. docs/howto/come-from-diskcache.md has the table of what differs.
"""

from __future__ import annotations

import functools
import os
import tempfile
import threading
from typing import TYPE_CHECKING, Any, Self

from ops.cache.disk.store import DiskCache
from ops.cache.diskcache.conventions import tag_name
from ops.cache.diskcache.folders import refuse_folder_of_diskcache
from ops.cache.diskcache.queues import Queues
from ops.cache.memoization import memoize
from ops.foundation.errors import ValidationError

if TYPE_CHECKING:
    from collections.abc import Callable

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


class Cache(Queues):
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
        return self._store.delete_tag(tag_name(tag) or "")

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
