"""`Index` and `Deque`: the ordered dictionary and the deque of diskcache, on a `DiskCache`.

Both keep the order in a small entry beside each value, written with it as one.
"""

from __future__ import annotations

import contextlib
import tempfile
from collections.abc import MutableMapping, Sequence
from typing import TYPE_CHECKING, Any, Self

from ops.cache.disk.store import DiskCache
from ops.cache.diskcache.keys import from_stored, to_stored
from ops.cache.memory import MISSING

if TYPE_CHECKING:
    from collections.abc import Callable, Generator, Hashable, Iterable, Iterator

    from ops.cache.disk.transactions import Transaction
    from ops.foundation.files import StrPath

__all__ = ["Deque", "Index"]

_LARGEST = 1 << 40  # diskcache does not limit them
_ORDER = ("ops.order",)


class Index(MutableMapping[Any, Any]):
    """A dictionary on disk that keeps the order in which keys came, as `diskcache.Index` does.

    Args:
        args: A folder, if the first is a str or None; then what a dict takes.
        kwargs: Further entries.
    """

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        folder, rest = _folder_of(args)
        self._store = DiskCache(folder, max_bytes=_LARGEST)
        self.update(*rest, **kwargs)

    @classmethod
    def of(cls, store: DiskCache) -> Self:
        """Return the index in a `DiskCache`, or in one of its namespaces."""
        made = cls.__new__(cls)
        made._store = store
        return made

    @property
    def directory(self) -> str:
        """The folder."""
        return str(self._store.directory)

    def __getitem__(self, key: Hashable) -> Any:
        return self._store[("v", to_stored(key))]

    def __setitem__(self, key: Hashable, value: Any) -> None:
        with self._store.exclusively(b"index") as changes:
            self._put(changes, key, value)

    def _put(self, changes: Transaction, key: Hashable, value: Any) -> None:
        stored = to_stored(key)
        if ("v", stored) not in changes:  # assigning again keeps the position in the order
            changes.set(("n", stored), changes.incr(_ORDER))
        changes.set(("v", stored), value)

    def __delitem__(self, key: Hashable) -> None:
        self.pop(key)

    def pop(self, key: Hashable, default: Any = MISSING) -> Any:
        """Remove *key* and return its value, or *default*; without one a missing key raises."""
        stored = to_stored(key)
        with self._store.exclusively(b"index") as changes:
            value = changes.pop(("v", stored), MISSING)
            changes.delete(("n", stored))
        if value is not MISSING:
            return value
        if default is MISSING:
            raise KeyError(key)
        return default

    def setdefault(self, key: Hashable, default: Any = None) -> Any:
        """Return the value of *key*, storing *default* first if there is none."""
        with self._store.exclusively(b"index") as changes:
            value = changes.get(("v", to_stored(key)), MISSING)
            if value is MISSING:
                self._put(changes, key, default)
                value = default
        return value

    def popitem(self, last: bool = True) -> tuple[Any, Any]:
        """Remove and return the last, or first, entry; raises `KeyError` when there is none."""
        with self._store.exclusively(b"index") as changes:
            keys = self._stored_keys()
            if not keys:
                raise KeyError("dictionary is empty")
            stored = keys[-1 if last else 0]
            value = changes.pop(("v", stored))
            changes.delete(("n", stored))
        return from_stored(stored), value

    def peekitem(self, last: bool = True) -> tuple[Any, Any]:
        """Return the last, or first, entry; raises `KeyError` when there is none."""
        for stored in reversed(self._stored_keys()) if last else self._stored_keys():
            value = self._store.get(("v", stored), MISSING)
            if value is not MISSING:
                return from_stored(stored), value
        raise KeyError("dictionary is empty")

    def _stored_keys(self) -> list[Any]:
        numbers = [key for key in self._store if isinstance(key, tuple) and key[0] == "n"]
        order = self._store.get_many(numbers)
        return [key[1] for key in sorted(order, key=order.__getitem__)]

    def __iter__(self) -> Iterator[Any]:
        return map(from_stored, self._stored_keys())

    def __reversed__(self) -> Iterator[Any]:
        return iter(list(self)[::-1])

    def __len__(self) -> int:
        return sum(1 for key in self._store if isinstance(key, tuple) and key[0] == "v")

    def clear(self) -> None:
        """Remove all entries."""
        self._store.clear()

    def push(self, value: Any, prefix: str | None = None, side: Any = "back") -> Any:
        """Add *value* at the *side* "back" or "front" of the queue of *prefix*; return its number."""
        return self._store.queue(prefix or "").push(value, side)

    def pull(
        self, prefix: str | None = None, default: Any = (None, None), side: Any = "front"
    ) -> Any:
        """Remove and return what is at the front, or back, of the queue of *prefix*, with None as key.

        *side* is "front" or "back"; *default* stands for an empty queue.
        """
        value = self._store.queue(prefix or "").pull(MISSING, side)
        return default if value is MISSING else (None, value)

    @contextlib.contextmanager
    def transact(self) -> Generator[Transaction]:
        """Yield a transaction of the `DiskCache` behind; see there."""
        with self._store.transact() as changes:
            yield changes

    def memoize(
        self,
        name: str | None = None,
        typed: bool = False,
        ignore: Any = (),
    ) -> Callable[[Callable[..., Any]], Any]:
        """Remember results of a function.

        *name* and *typed* are taken for compatibility; *ignore* names parameters that do not change
        the result. See `Cache.memoize`.
        """
        from ops.cache.memoization import memoize

        return memoize(cache=self._store.namespace("memoize"), ignore=ignore)

    def __eq__(self, other: object) -> bool:
        """Compare as a dict, and with another `Index` or an `OrderedDict` in order."""
        from collections import OrderedDict

        if isinstance(other, (Index, OrderedDict)):
            return list(self.items()) == list(other.items())
        return dict(self.items()) == other

    __hash__ = None  # type: ignore[assignment] # as a dict

    def __repr__(self) -> str:
        return f"Index({self.directory!r})"

    def __reduce__(self) -> Any:
        return (type(self).of, (self._store,))


class Deque(Sequence[Any]):
    """A deque on disk, as `diskcache.Deque` is.

    Args:
        iterable: Values to append.
        directory: The folder; None is a new temporary one.
        maxlen: Beyond it the values at the other end go.
    """

    def __init__(
        self,
        iterable: Iterable[Any] = (),
        directory: StrPath | None = None,
        maxlen: int | None = None,
    ) -> None:
        folder = tempfile.mkdtemp(prefix="ops-diskcache-") if directory is None else directory
        self._store = DiskCache(folder, max_bytes=_LARGEST)
        self._queue = self._store.queue("deque")
        self.maxlen: int | None = maxlen
        self.extend(iterable)

    @classmethod
    def of(cls, store: DiskCache, maxlen: int | None = None) -> Self:
        """Return the deque in a `DiskCache`, or in one of its namespaces."""
        made = cls.__new__(cls)
        made._store, made._queue, made.maxlen = store, store.queue("deque"), maxlen
        return made

    @property
    def directory(self) -> str:
        """The folder."""
        return str(self._store.directory)

    def append(self, value: Any) -> None:
        """Add *value* at the back."""
        self._queue.push(value)
        self._shorten("front")

    def appendleft(self, value: Any) -> None:
        """Add *value* at the front."""
        self._queue.push(value, "front")
        self._shorten("back")

    def _shorten(self, side: Any) -> None:
        while self.maxlen is not None and len(self._queue) > self.maxlen:
            self._queue.pull(side=side)

    def extend(self, values: Iterable[Any]) -> None:
        """Add *values* at the back."""
        for value in values:
            self.append(value)

    def extendleft(self, values: Iterable[Any]) -> None:
        """Add *values* at the front, one after the other."""
        for value in values:
            self.appendleft(value)

    def __iadd__(self, values: Iterable[Any]) -> Self:
        self.extend(values)
        return self

    def pop(self) -> Any:
        """Remove and return the value at the back; raises `IndexError` when there is none."""
        return self._taken("back")

    def popleft(self) -> Any:
        """Remove and return the value at the front; raises `IndexError` when there is none."""
        return self._taken("front")

    def _taken(self, side: Any) -> Any:
        value = self._queue.pull(MISSING, side)
        if value is MISSING:
            raise IndexError("pop from an empty deque")
        return value

    def peek(self) -> Any:
        """Return the value at the back; raises `IndexError` when there is none."""
        return self[-1]

    def peekleft(self) -> Any:
        """Return the value at the front; raises `IndexError` when there is none."""
        return self[0]

    def __getitem__(self, index: Any) -> Any:
        if isinstance(index, slice):
            return list(self)[index]
        return self._queue.at(index)

    def __setitem__(self, index: int, value: Any) -> None:
        self._queue.replace(index, value)

    def __delitem__(self, index: int) -> None:
        self._queue.remove(index)

    def remove(self, value: Any) -> None:
        """Remove the first value that equals *value*; raises `ValueError` when there is none."""
        for index, found in enumerate(self):
            if found == value:
                del self[index]
                return
        raise ValueError("deque.remove(value): value not in deque")

    def rotate(self, steps: int = 1) -> None:
        """Move *steps* values from the back to the front, or the other way where it is negative."""
        if not isinstance(steps, int):
            raise TypeError(f"type {type(steps).__name__} found where int expected: {steps!r}.")
        size = len(self)
        for _ in range(abs(steps) % size if size else 0):
            if steps > 0:
                self._queue.push(self.pop(), "front")
            else:
                self._queue.push(self.popleft())

    def reverse(self) -> None:
        """Turn the order round."""
        values = list(self)
        self.clear()
        self.extend(reversed(values))

    def copy(self) -> Deque:
        """Return another object for the same folder."""
        return Deque.of(self._store, self.maxlen)

    def clear(self) -> None:
        """Remove all values."""
        self._queue.clear()

    def __iter__(self) -> Iterator[Any]:
        return iter(self._queue)

    def __reversed__(self) -> Iterator[Any]:
        return iter(list(self)[::-1])

    def __len__(self) -> int:
        return len(self._queue)

    def _compared(self, other: object) -> list[Any] | None:
        return list(other) if isinstance(other, Sequence) else None

    def __eq__(self, other: object) -> bool:
        return list(self) == self._compared(other)

    def __lt__(self, other: Any) -> bool:
        return list(self) < list(other)

    def __le__(self, other: Any) -> bool:
        return list(self) <= list(other)

    def __gt__(self, other: Any) -> bool:
        return list(self) > list(other)

    def __ge__(self, other: Any) -> bool:
        return list(self) >= list(other)

    __hash__ = None  # type: ignore[assignment] # as a list

    @contextlib.contextmanager
    def transact(self) -> Generator[Transaction]:
        """Yield a transaction of the `DiskCache` behind; see there."""
        with self._store.transact() as changes:
            yield changes

    def __repr__(self) -> str:
        return f"Deque(directory={self.directory!r})"

    def __reduce__(self) -> Any:
        return (type(self).of, (self._store, self.maxlen))


def _folder_of(args: tuple[Any, ...]) -> tuple[Any, tuple[Any, ...]]:
    if args and (isinstance(args[0], str) or args[0] is None):
        folder, args = args[0], args[1:]
    else:
        folder = None
    return (tempfile.mkdtemp(prefix="ops-diskcache-") if folder is None else folder), args
