"""What an eviction policy adds to a memory cache: where entries are kept, and which one goes next."""

from __future__ import annotations

from collections.abc import Hashable
from typing import Any, Generic, TypeVar

__all__ = ["Policy"]

K = TypeVar("K", bound=Hashable)
V = TypeVar("V")


class Policy(Generic[K, V]):
    """Seven small methods and a notification of deadlines, all called under the lock of the cache."""

    def _find(self, key: K) -> Any:
        """Return the value without counting this as a use, or MISSING."""
        raise NotImplementedError

    def _use(self, key: K) -> Any:
        """Return the value and note the use, or return MISSING."""
        raise NotImplementedError

    def _store(self, key: K, value: V) -> None:
        """Add an entry, or replace the value of one."""
        raise NotImplementedError

    def _remove(self, key: K) -> Any:
        """Remove an entry and return its value, or return MISSING."""
        raise NotImplementedError

    def _victim(self) -> K:
        """Return the key to give up; there is at least one entry."""
        raise NotImplementedError

    def _keys(self) -> list[K]:
        """Return all keys."""
        raise NotImplementedError

    def _count(self) -> int:
        """Return the number of entries."""
        raise NotImplementedError

    def _become_timed(self) -> None:
        """Called when entries of this cache can expire from now on."""
