"""Objects over a fork: held still while it happens, and made fit for a process without other threads.

A fork copies memory as it is, and only the thread that forks. So every lock that guards the state of such
an object is taken before, by which no other thread is in the middle of a change, and given back on both
sides. What cannot be held still, because it lasts, such as a computation or a write to a server, is
given up in the child: see `in_children`.
"""

from __future__ import annotations

import contextlib
import os
import threading
import weakref
from typing import TYPE_CHECKING, Any, Protocol

if TYPE_CHECKING:
    from collections.abc import Callable

__all__ = ["in_children", "keep_over_forks"]


class Kept(Protocol):
    """What is kept over a fork; it can be referred to weakly."""

    @property
    def mutex(self) -> threading.Lock | threading.RLock:
        """The lock of its state; a holder takes no other one of these, and does not fork."""
        ...


_kept: weakref.WeakSet[Kept] = weakref.WeakSet()
_changed: weakref.WeakKeyDictionary[Any, Callable[[Any], None]] = weakref.WeakKeyDictionary()
_forking: list[Kept] = []  # of the thread that holds the gate: two may fork at once
_gate = threading.Lock()


def keep_over_forks(kept: Kept) -> None:
    """Hold *kept* still while this process forks, as long as it lives."""
    _kept.add(kept)


def in_children(subject: Any, change: Callable[[Any], None]) -> None:
    """Call *change* with *subject* in every forked child, as long as it lives."""
    _changed[subject] = change


def _before() -> None:
    _gate.acquire()
    _forking[:] = _all_kept()
    for kept in _forking:
        kept.mutex.acquire()


def _all_kept() -> list[Kept]:
    while True:
        with contextlib.suppress(RuntimeError):  # another thread has added one meanwhile
            return list(_kept)


def _after() -> None:
    while _forking:
        _forking.pop().mutex.release()
    _gate.release()


def _after_in_child() -> None:
    for subject, change in list(_changed.items()):
        change(subject)
    _after()


if hasattr(os, "register_at_fork"):
    os.register_at_fork(before=_before, after_in_parent=_after, after_in_child=_after_in_child)
