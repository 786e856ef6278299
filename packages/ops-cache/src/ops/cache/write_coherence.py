"""The first of two levels, kept from holding what the level behind it no longer has.

A caller that reads or writes the level behind and then the first one changes a key in two steps. Two such
changes that overlap may reach the levels in different orders, so neither leaves anything in front: the
next read fetches it from behind. While they last, the front is not read for the key. No lock is held
while a level is called, so changes wait neither for each other nor for what a level calls back.
"""

from __future__ import annotations

import contextlib
import threading
from typing import TYPE_CHECKING, Any

from ops.foundation.forks import in_children

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

__all__ = ["Change", "Front"]


class Change:
    """What happens to one key now: how many do it, and whether any two of them overlap."""

    __slots__ = ("overlaps", "users")

    def __init__(self) -> None:
        self.users: int = 0
        self.overlaps: bool = False


class Front:
    """The changes of the keys of a first level, which *delete* takes keys out of."""

    def __init__(self, delete: Callable[[Any], object]) -> None:
        self._delete = delete
        self._mutex = threading.Lock()
        self._changes: dict[Any, Change] = {}
        in_children(self, Front.reset_after_fork)

    def is_contested(self, key: Any) -> bool:
        """Say whether what is in front may be older than what is behind."""
        change = self._changes.get(key)
        return change is not None and change.overlaps

    @contextlib.contextmanager
    def changing(self, key: Any) -> Iterator[Change]:
        """Change *key* in the block, which stores in front only while the change has no overlap."""
        with self._mutex:
            change = self._changes.setdefault(key, Change())
            change.users += 1
            change.overlaps = change.users > 1 or change.overlaps
        try:
            yield change
        finally:
            if not self._has_left(key, change, emptied=False):
                try:
                    self._delete(key)
                finally:
                    self._has_left(key, change, emptied=True)

    def contest_all(self) -> None:
        """Let no caller that is changing a key now store it in front."""
        with self._mutex:
            for change in self._changes.values():
                change.overlaps = True

    def reset_after_fork(self) -> None:
        """Start over in a forked child, where what others were changing is never finished."""
        self._mutex = threading.Lock()
        self._changes = {}

    def _has_left(self, key: Any, change: Change, *, emptied: bool) -> bool:
        """Leave, unless the change has overlapped and the front still has to be *emptied*."""
        with self._mutex:
            if change.overlaps and not emptied:
                return False
            change.users -= 1
            if not change.users and self._changes.get(key) is change:
                del self._changes[key]
            return True
