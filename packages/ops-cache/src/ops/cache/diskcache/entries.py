"""The entries of a `Cache`: a dictionary whose methods take and return what those of diskcache do."""

from __future__ import annotations

import contextlib
import io
from typing import TYPE_CHECKING, Any

from ops.cache.diskcache.conventions import Entry, tag_name, to_ttl, value_of
from ops.cache.diskcache.keys import from_stored, to_stored
from ops.cache.memory import MISSING
from ops.foundation.errors import ValidationError

if TYPE_CHECKING:
    import threading
    from collections.abc import Generator, Hashable, Iterator

    from ops.cache.disk.store import DiskCache

__all__ = ["Entries"]


class Entries:
    """Reading and writing, each call by itself or several in a transaction."""

    _store: DiskCache
    _transaction: threading.local

    @property
    def _target(self) -> Any:
        changes = getattr(self._transaction, "changes", None)
        return self._store if changes is None else changes  # an empty transaction is false

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
        found = self._entry(key, expire_time=expire_time, tag=tag, read=read)
        if found is None:
            found = Entry(default)
        return found.as_result(expire_time=expire_time, tag=tag)

    def _entry(
        self, key: Hashable, *, expire_time: bool, tag: bool, read: bool = False
    ) -> Entry | None:
        """Return what is stored under *key*, bytes as a file with *read*, with what is wanted beside it."""
        stored = to_stored(key)
        value = self._opened(stored) if read else self._target.get(stored, MISSING)
        if value is MISSING:
            return None
        return Entry(
            value,
            self._store.expires_at(stored) if expire_time else None,
            self._store.tag_of(stored) if tag else None,
        )

    def _opened(self, stored: Hashable) -> Any:
        """Return a file that reads a value, or the value itself where it is no bytes."""
        if self._target is self._store:
            with contextlib.suppress(ValidationError):
                return self._store.get_stream(stored) or MISSING
        value = self._target.get(stored, MISSING)
        return io.BytesIO(value) if isinstance(value, bytes) else value

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
        stored, ttl, name = to_stored(key), to_ttl(expire), tag_name(tag)
        if read and self._target is self._store:
            self._store.set_stream(stored, value, ttl, tag=name)
        else:
            self._target.set(stored, value_of(value, read=read), ttl, tag=name)
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
        value = value_of(value, read=read)
        return bool(self._target.add(to_stored(key), value, to_ttl(expire), tag=tag_name(tag)))

    def touch(self, key: Hashable, expire: float | None = None, retry: bool = False) -> bool:
        """Let *key* live for *expire* seconds from now (None: for ever); False when there is no such key.

        *retry* has no effect.
        """
        return self._store.touch(to_stored(key), to_ttl(expire))

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
            found = self._entry(key, expire_time=expire_time, tag=tag) or Entry(default)
            self.delete(key)
        return found.as_result(expire_time=expire_time, tag=tag)

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
            found = self._entry(key, expire_time=expire_time, tag=tag)
            if found is not None:
                return found.as_item(key, expire_time=expire_time, tag=tag)
        raise KeyError("dictionary is empty")


def _rank(key: Any) -> tuple[int, Any]:
    """Order keys as SQLite does: numbers, texts, bytes, and then the rest."""
    if isinstance(key, (int, float)) and not isinstance(key, bool):
        return (0, key)
    if isinstance(key, (str, bytes)):
        return (1 + isinstance(key, bytes), key)
    return (3, repr(key))
