"""Holding the lock for the time of a with block, re-entrant in one thread.

The outermost block of a thread has the take; blocks within it, a signal handler's too, count on it.
What a block has taken lies in a suspended generator: however the block is left, and also when a
handler raises on the way into `__exit__`, the generator's `finally` gives it back.
"""

from __future__ import annotations

import os
import threading
from typing import TYPE_CHECKING, Any

from ops.shm.errors import DeadlockError, OwnerDiedError
from ops.shm.layout import ACKNOWLEDGED, HOLDS, INTERRUPTED, SEQ
from ops.shm.lock import HAVE_TAKES

if TYPE_CHECKING:
    from collections.abc import Iterator

    import numpy as np

    from ops.shm.lock import RobustLock, Take

_get_ident = threading.get_ident


class Hold:
    """A with block that holds *lock* and gives *array*.

    *timeout* is in seconds. *write* keeps SEQ odd meanwhile, so that no reader sees half a change.
    *check_owner* raises OwnerDiedError on entry when a cut write was not acknowledged.
    """

    __slots__ = ("_block",)

    def __init__(
        self,
        lock: RobustLock,
        array: np.ndarray,
        timeout: float | None = None,
        *,
        write: bool = False,
        check_owner: bool = False,
    ) -> None:
        self._block = _block(lock, array, timeout, write, check_owner)

    def __enter__(self) -> Any:
        # Iterating resumes the generator by a C call, behind which no handler can raise.
        for array in self._block:
            return array
        raise DeadlockError("This block has ended; make another one.")

    def __exit__(self, *_: object) -> None:
        for _array in self._block:
            pass


class _Outermost:
    """The outermost block of one thread: its lock, how many blocks are open, whether one writes."""

    __slots__ = ("depth", "lock", "opened", "take")

    def __init__(self, lock: RobustLock) -> None:
        self.lock, self.depth, self.opened = lock, 0, False
        self.take: Take | None = None


#: By the segment's instance and the thread.
_outermost: dict[tuple[int, int], _Outermost] = {}


def _block(
    lock: RobustLock,
    array: np.ndarray,
    timeout: float | None,
    write: bool,  # noqa: FBT001
    check_owner: bool,  # noqa: FBT001
) -> Iterator[np.ndarray]:
    words, key = lock.words, (lock.instance, _get_ident())
    root = _outermost.get(key)
    outermost = root is None
    if root is not None and root.lock is not lock:
        raise DeadlockError(
            f"This thread holds the lock of {lock.name!r} through another object already.",
            suggestions=("Use one SharedMemoryArray object inside a `with array(write=True)`.",),
        )
    take, opened, entered = None, False, False
    try:
        # No function is called between the end of `acquire` and the block.
        if root is None:
            root = _Outermost(lock)
            root.take = lock.acquire(timeout)
            _outermost[key] = root
        root.depth += 1
        entered = True
        if not write:
            words[HOLDS] += 1
        elif not words[SEQ] & 1:
            words[SEQ] += 1
            opened = True
        if check_owner and words[INTERRUPTED] != words[ACKNOWLEDGED]:
            raise OwnerDiedError(
                f"A process died while it was writing {lock.name!r}.",
                suggestions=("Repair the data, then call acknowledge_interruption().",),
            )
        yield array
    finally:
        # A child forked inside the block runs this too, and holds nothing.
        if entered and root is not None and not lock.forked:
            root.depth -= 1
            if opened and root.depth and outermost:
                root.opened = (
                    True  # blocks within go on, against the order; the last ends the write
                )
            elif opened or (root.opened and not root.depth):
                words[SEQ] += 1
            if not root.depth:
                take = root.take
                # Not `pop`, which is a call: behind it a handler may raise, and the take be lost.
                del _outermost[key]
        if take is not None:
            try:
                take.give_back()
            except BaseException:
                take.give_back()  # a handler raised on the way into the first; once is enough
                raise


HAVE_TAKES.add(_block.__code__)
if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_outermost.clear)
