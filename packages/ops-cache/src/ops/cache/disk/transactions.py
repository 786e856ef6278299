"""Several changes of a disk cache as one, and queues, which are made of such changes.

A transaction collects what is to be written, and writes it as one record when it ends, so all of it counts or
none, wherever its process is killed. Transactions of one cache exclude each other by a lock that ends with its
holder. Others can write meanwhile: a transaction sees what they have written, and where both write one
key, the later write wins, which is that of the transaction if it ends later.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Literal

from ops.cache.disk.index import BlobRef
from ops.cache.disk.keys import encode_key
from ops.cache.disk.records import Flag
from ops.cache.errors import ValueTooLargeError
from ops.cache.expiry import Ttl
from ops.cache.memory import MISSING
from ops.cache.updates import KEEP, KEPT_TTL, REMOVE, Updates
from ops.foundation.errors import ValidationError

if TYPE_CHECKING:
    from collections.abc import Callable, Hashable, Iterator, Mapping

    from ops.cache.disk.log import Item
    from ops.cache.disk.store import DiskCache
    from ops.cache.expiry import TtlLike

__all__ = ["Queue", "Transaction"]

_LARGEST = 64 << 20
#: What all transactions of a folder hold, besides what excludes others.
TRANSACTIONS = b"transactions"
Side = Literal["front", "back"]


class Transaction(Updates):
    """The cache as a transaction sees it: with its own changes, which others see when it has ended.

    Made by `DiskCache.transact`. After its end it raises `ValidationError`.
    """

    def __init__(self, cache: DiskCache) -> None:
        self._cache = cache
        self._items: dict[bytes, tuple[Any, Item]] = {}
        self._size = 0
        self._is_over = False

    def get(self, key: Hashable, default: Any = None) -> Any:
        """Return the value of *key*, or *default*; raises `ValidationError` after the end of the transaction."""
        self._check_running()
        name = self._name(key)
        if name not in self._items:
            return self._cache.get(key, default)
        item = self._items[name][1]
        return default if item[0] == Flag.DELETE else self._cache.decoded(item)

    def set(
        self, key: Hashable, value: Any, ttl: TtlLike = Ttl.DEFAULT, *, tag: str | None = None
    ) -> None:
        """Store *value* under *key* when the transaction ends.

        *ttl* and *tag* are those of `DiskCache.set`. Raises `ValueTooLargeError` for the value, or
        for what the transaction holds in all, and `ValidationError` after its end.
        """
        self._check_running()
        item = self._cache.encoded(key, value, ttl, tag)
        if item is None:
            self.delete(key)
        else:
            self._put(key, item)

    def _put(self, key: Hashable, item: Item) -> None:
        self._size += len(item[1]) + len(item[2])
        if self._size > _LARGEST:
            raise ValueTooLargeError(
                f"A transaction writes {_LARGEST >> 20} MiB at most, beside large values.",
                suggestions=("Write it in several transactions.",),
            )
        self._drop_file(item[1])
        self._items[item[1]] = (key, item)

    def include(self, item: Item) -> None:
        """Write *item*, a record of another view of this cache, with the changes.

        Raises `ValueTooLargeError` and `ValidationError` as `set` does.
        """
        self._check_running()
        self._put(None, item)

    def delete(self, key: Hashable) -> bool:
        """Remove *key* when the transaction ends; return False when there is no such key.

        Raises `ValueTooLargeError` and `ValidationError` as `set` does.
        """
        alive = self.contains(key)
        if alive:
            self._put(key, (Flag.DELETE, self._name(key), b"", 0.0, b""))
        return alive

    def contains(self, key: Hashable) -> bool:
        """Return whether *key* has a value; raises `ValidationError` after the end of the transaction."""
        self._check_running()
        name = self._name(key)
        if name in self._items:
            return self._items[name][1][0] != Flag.DELETE
        return self._cache.contains(key)

    def set_many(
        self, values: Mapping[Any, Any], ttl: TtlLike = Ttl.DEFAULT, *, tag: str | None = None
    ) -> None:
        """Store all *values* when the transaction ends; *ttl*, *tag* and the errors are those of `set`."""
        for key, value in values.items():
            self.set(key, value, ttl, tag=tag)

    def __iter__(self) -> Iterator[Any]:
        self._check_running()
        changed = dict(self._items)
        yield from [key for key in self._cache if self._name(key) not in changed]
        for name, (key, item) in changed.items():
            if item[0] != Flag.DELETE and name == self._name(key):
                yield key

    def __len__(self) -> int:
        return sum(1 for _ in self)

    def __contains__(self, key: Hashable) -> bool:
        return self.contains(key)

    def __getitem__(self, key: Hashable) -> Any:
        value = self.get(key, MISSING)
        if value is MISSING:
            raise KeyError(key)
        return value

    def __setitem__(self, key: Hashable, value: Any) -> None:
        self.set(key, value)

    def __delitem__(self, key: Hashable) -> None:
        if not self.delete(key):
            raise KeyError(key)

    def _change(
        self,
        key: Hashable,
        decide: Callable[[Any, Any], Any],
        ttl: Any = KEPT_TTL,
        tag: str | None = None,
    ) -> None:
        wanted = decide(self.get(key, MISSING), MISSING)
        if wanted is REMOVE:
            self.delete(key)
        elif wanted is not KEEP:
            if ttl is KEPT_TTL and self.contains(key):
                name = self._name(key)
                kept = (
                    self._items[name][1][3:] if name in self._items else self._cache.expiry_of(name)
                )
                item = self._cache.encoded(key, wanted, None, None)
                if item is not None:
                    self._put(key, (*item[:3], *kept))
            else:
                self.set(key, wanted, Ttl.DEFAULT if ttl is KEPT_TTL else ttl, tag=tag)

    def _name(self, key: Hashable) -> bytes:
        return encode_key(self._cache.prefix, key)

    def _check_running(self) -> None:
        if self._is_over:
            raise ValidationError("This transaction has ended; begin another one with transact().")

    def _drop_file(self, name: bytes) -> None:
        _, item = self._items.pop(name, (None, None))
        if item is not None and item[0] & Flag.BLOB:
            self._cache.log.remove(BlobRef.unpack(item[2]))

    def commit(self) -> None:
        """Write all changes as one; called by the cache."""
        self._is_over = True
        if self._items:
            self._cache.log.append_many([item for _, item in self._items.values()], as_one=True)

    def discard(self) -> None:
        """Forget all changes; called by the cache when the block raised."""
        self._is_over = True
        for name in list(self._items):
            self._drop_file(name)


class Queue:
    """A queue in a disk cache, for any number of threads and processes. Made by `DiskCache.queue`.

    Each value goes to one caller of `pull`. A process that is killed loses no value that it pushed, and
    takes none with it that `pull` has not returned. Entries of a queue are entries of the cache: where that is
    full, those of long ago go.
    """

    def __init__(self, cache: DiskCache, name: str) -> None:
        self._name = name
        self._cache = cache.namespace("ops.queue").namespace(name)

    def push(self, value: Any, side: Side = "back", ttl: TtlLike = Ttl.DEFAULT) -> int:
        """Add *value* at the *side* "back" or "front"; return its number.

        *ttl* is that of `DiskCache.set`, which names the errors. Raises `ValidationError` for
        another side.
        """
        with self._cache.exclusively(b"queue") as changes:
            first, end = self._ends(changes)
            number = end if _is_back(side) else first - 1
            changes.set(number, value, ttl)
            changes.set("ends", [min(first, number), max(end, number + 1)], None)
        return number

    def pull(self, default: Any = None, side: Side = "front") -> Any:
        """Remove and return the value at the *side* "front" or "back"; *default* when there is none.

        Raises `ValidationError` for another side.
        """
        with self._cache.exclusively(b"queue") as changes:
            first, end = known = self._ends(changes)
            value = MISSING
            while value is MISSING and first < end:
                number = end - 1 if _is_back(side) else first
                value = changes.pop(number, MISSING)  # it may have expired
                first, end = (first, number) if _is_back(side) else (number + 1, end)
            if (first, end) != known:
                changes.set("ends", [first, end], None)
        return default if value is MISSING else value

    def peek(self, default: Any = None, side: Side = "front") -> Any:
        """Return the value that `pull` would, and leave it there.

        Raises `ValidationError` for a *side* other than "front" and "back".
        """
        numbers = self._numbers()
        for number in reversed(numbers) if _is_back(side) else numbers:
            value = self._cache.peek(number, MISSING)
            if value is not MISSING:
                return value
        return default

    def at(self, index: int) -> Any:
        """Return the value at *index* from the front, or from the back where it is negative.

        Raises `IndexError` when there is none.
        """
        return list(self)[index]

    def replace(self, index: int, value: Any) -> None:
        """Put *value* where the one at *index* is; raises `IndexError` when there is none."""
        with self._cache.exclusively(b"queue") as changes:
            changes.set(self._numbers()[index], value)

    def remove(self, index: int) -> None:
        """Remove the value at *index*; raises `IndexError` when there is none."""
        with self._cache.exclusively(b"queue") as changes:
            changes.delete(self._numbers()[index])

    def clear(self) -> None:
        """Remove all values."""
        with self._cache.exclusively(b"queue"):
            self._cache.clear()

    def __len__(self) -> int:
        return len(self._numbers())

    def __iter__(self) -> Iterator[Any]:
        """Yield the values from the front to the back, as of the start, without removing them."""
        for number in self._numbers():
            value = self._cache.peek(number, MISSING)
            if value is not MISSING:
                yield value

    def __repr__(self) -> str:
        return f"<Queue {self._name!r} of {str(self._cache.directory)!r}>"

    def _numbers(self) -> list[int]:
        return sorted(key for key in self._cache if key != "ends")

    def _ends(self, changes: Transaction) -> tuple[int, int]:
        ends = changes.get("ends")
        if ends is None:  # none yet, or evicted
            numbers = self._numbers()
            return (numbers[0], numbers[-1] + 1) if numbers else (0, 0)
        return (ends[0], ends[1])


def _is_back(side: Side) -> bool:
    if side not in {"front", "back"}:
        raise ValidationError(f"side is 'front' or 'back', not {side!r}.")
    return side == "back"
