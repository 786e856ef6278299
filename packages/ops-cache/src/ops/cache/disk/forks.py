"""Logs over a fork: held still while it happens, with descriptors of its own in the child.

A fork copies memory as it is. So every log of this process is locked before, by which no thread is
in the middle of a change, and the child opens the current segment again, because the position of a
descriptor that parent and child share would not tell where a write ended.
"""

from __future__ import annotations

import os
import weakref
from typing import TYPE_CHECKING, Protocol

if TYPE_CHECKING:
    import threading

__all__ = ["keep_over_forks"]


class Forked(Protocol):
    """What is kept over a fork."""

    mutex: threading.RLock

    def reopen(self) -> None:
        """Open descriptors of one's own, in the child."""


_kept: weakref.WeakSet[Forked] = weakref.WeakSet()
_forking: list[Forked] = []


def keep_over_forks(log: Forked) -> None:
    """Hold *log* still while this process forks, as long as it lives."""
    _kept.add(log)


def _before() -> None:
    _forking[:] = list(_kept)
    for log in _forking:
        log.mutex.acquire()


def _after() -> None:
    while _forking:
        _forking.pop().mutex.release()


def _after_in_child() -> None:
    for log in _forking:
        log.reopen()
    _after()


if hasattr(os, "register_at_fork"):
    os.register_at_fork(before=_before, after_in_parent=_after, after_in_child=_after_in_child)
