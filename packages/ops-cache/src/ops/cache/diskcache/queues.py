"""The queues of a `Cache`: entries with the keys "prefix-500000000000000" and up, or numbers without a prefix."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from ops.cache.diskcache.entries import Entries
from ops.cache.memory import MISSING

if TYPE_CHECKING:
    from ops.cache.diskcache.conventions import Side

__all__ = ["Queues"]

_FIRST = 500_000_000_000_000  # where diskcache begins to number a queue


class Queues(Entries):
    """Entries that come and go at two ends."""

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
            found = self._entry(key, expire_time=expire_time, tag=tag)
            if found is not None:
                return found.as_item(key, expire_time=expire_time, tag=tag)
        return default

    def _numbers(self, prefix: str | None) -> list[int]:
        if prefix is None:
            return sorted(key for key in self if type(key) is int and 0 < key < 2 * _FIRST)
        start, size = f"{prefix}-", 15
        texts = (
            key[len(start) :] for key in self if isinstance(key, str) and key.startswith(start)
        )
        return sorted(int(text) for text in texts if len(text) == size and text.isdecimal())


def _queue_key(prefix: str | None, number: int) -> Any:
    return number if prefix is None else f"{prefix}-{number:015d}"
