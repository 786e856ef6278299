"""Changes in one step: what reads a value and then writes, with nothing of others in between.

Each cache has one method for this, `_change`: it reads the value of a key, hands it to a small function that
decides, and writes what that returns, again from the start if another thread or process came between. All
that a dictionary has beyond reading and writing follows from it.
"""

from __future__ import annotations

from enum import Enum
from typing import TYPE_CHECKING, Any, Final

from ops.cache.expiry import Ttl

if TYPE_CHECKING:
    from collections.abc import Callable, Hashable, Iterable, Iterator, Mapping

    from ops.cache.expiry import TtlLike

__all__ = ["KEEP", "KEPT_TTL", "REMOVE", "Numbers", "Updates"]


class _Outcome(Enum):
    KEEP = "keep"
    REMOVE = "remove"
    KEPT_TTL = "kept ttl"


#: What a deciding function returns to leave the entry as it is, or to remove it.
KEEP: Final = _Outcome.KEEP
REMOVE: Final = _Outcome.REMOVE
#: Stands for the time that the entry has left.
KEPT_TTL: Final = _Outcome.KEPT_TTL
_MISSING: Final[Any] = object()


class Numbers:
    """`add`, `incr` and `decr`: what several threads and processes count and claim with."""

    def _change(
        self,
        key: Any,
        decide: Callable[[Any, Any], Any],
        ttl: Any = KEPT_TTL,
        tag: str | None = None,
    ) -> None:
        """Write what *decide* returns for the value of *key* and for what stands for no value.

        It may be called several times, and holds up others while it runs.
        """
        raise NotImplementedError

    def add(
        self, key: Any, value: Any, ttl: TtlLike = Ttl.DEFAULT, *, tag: str | None = None
    ) -> bool:
        """Store *value* if *key* has none; return whether it was stored. One of many callers gets True.

        *ttl* and *tag* are those of `set`.
        """
        stored = False

        def decide(found: Any, missing: Any) -> Any:
            nonlocal stored
            stored = found is missing
            return value if stored else KEEP

        self._change(key, decide, ttl, tag)
        return stored

    def incr(self, key: Any, delta: float = 1, default: float | None = 0) -> Any:
        """Add *delta* to the number at *key* and return the sum; no call of others gets lost.

        A key without a value counts as *default*; where that is None, `KeyError` is raised. The time that
        the entry has left stays. Raises `TypeError` when the value is no number.
        """
        total: float = 0

        def decide(found: Any, missing: Any) -> Any:
            nonlocal total
            if found is missing:
                if default is None:
                    raise KeyError(key)
                found = default
            if isinstance(found, bool) or not isinstance(found, (int, float)):
                raise TypeError(f"The value of {key!r} is no number: {type(found).__qualname__}.")
            total = found + delta
            return total

        self._change(key, decide)
        return total

    def decr(self, key: Any, delta: float = 1, default: float | None = 0) -> Any:
        """Subtract *delta* from the number at *key* and return the difference.

        A key without a value counts as *default*; see `incr`.
        """
        return self.incr(key, -delta, default)


class Updates(Numbers):
    """What a dictionary has beyond reading and writing, each in one step."""

    def set_many(self, values: Mapping[Any, Any]) -> None:
        """Store all *values*."""
        raise NotImplementedError

    def __iter__(self) -> Iterator[Any]:
        raise NotImplementedError

    def pop(self, key: Hashable, default: Any = _MISSING) -> Any:
        """Remove *key* and return its value, which no other caller gets; or *default*, or raise `KeyError`."""
        value: Any = None

        def decide(found: Any, missing: Any) -> Any:
            nonlocal value
            value = _MISSING if found is missing else found
            return KEEP if found is missing else REMOVE

        self._change(key, decide)
        if value is not _MISSING:
            return value
        if default is _MISSING:
            raise KeyError(key)
        return default

    def setdefault(self, key: Hashable, default: Any = None) -> Any:
        """Return the value of *key*, storing *default* first if there is none."""
        value: Any = None

        def decide(found: Any, missing: Any) -> Any:
            nonlocal value
            value = default if found is missing else found
            return default if found is missing else KEEP

        self._change(key, decide, Ttl.DEFAULT)
        return value

    def update(
        self, other: Mapping[Any, Any] | Iterable[tuple[Any, Any]] = (), /, **values: Any
    ) -> None:
        """Store what *other* holds, and *values*, as a dict does."""
        self.set_many({**dict(other), **values})

    def popitem(self) -> tuple[Any, Any]:
        """Remove some entry and return its key and value; raises `KeyError` when there is none."""
        for key in self:
            value = self.pop(key, _MISSING)
            if value is not _MISSING:
                return key, value
        raise KeyError("The cache is empty.")
