"""A lock between processes that survives its holder, at the price of a plain semaphore.

Taking the lock is one `sem_trywait` and one store; the holder writes its identity into the OWNER
word. When a waiter does not get the semaphore in time it looks who holds it, and if that process is
dead it *recovers*: it does not repair the semaphore but puts a new one in force, numbered by EPOCH.

Why exclusion holds. A taker stores OWNER, then loads EPOCH; it enters only if EPOCH is still the
number of the semaphore it took. A recoverer stores the new EPOCH, then loads OWNER of the old one.
These are a store and a load of different words on both sides (Dekker's pattern), which x86-64 and
ARM may reorder; the recoverer's membarrier(2) makes every running thread pass a full barrier, so
either the taker sees the new EPOCH and backs off, or the recoverer sees the taker's OWNER and waits
until it has left. OWNER is kept per epoch (modulo 32), so a taker that was stopped between its two
steps and wakes up epochs later cannot overwrite the word of the present holder. The recoverer waits for
a living owner of any epoch, not only of the one before: the recoverer that should have waited for it
may have died after it moved EPOCH.

`tests/shm/test_lock_model.py` holds these steps as a model and goes through all their interleavings,
store buffers and a death at every step included.

What a SIGKILL can leave, and why it ends well:

- semaphore taken, OWNER not written yet, or OWNER cleared, semaphore not posted: OWNER is 0 while
  the semaphore stays 0. After several looks a waiter recovers; were the taker alive after all, it
  backs off because EPOCH has moved.
- OWNER written: the owner is dead, a waiter recovers; an odd SEQ says that a write was cut short.
- the names of old semaphores: the next recovery removes them, or the segment's end does.
- a recoverer dies: recoveries are serialized by flock on the segment, which the kernel releases. The
  new semaphore is made locked; if it was in force already, the next waiter finds it with OWNER 0 and
  recovers once more.
"""

from __future__ import annotations

import contextlib
import os
import threading
import time
from importlib import import_module
from typing import Any

from ops.foundation.errors import LockTimeout, ResourceError
from ops.foundation.processes import (
    full_memory_barrier,
    is_alive,
    pid_namespace,
    this_process,
)
from ops.shm import mapping
from ops.shm.errors import DeadlockError
from ops.shm.layout import (
    EPOCH,
    INTERRUPTED,
    LAST_DEAD,
    OWNER,
    OWNER_SLOTS,
    PID_NAMESPACE,
    RECOVERIES,
    SEQ,
    THREAD,
)

# Imported by name: the C half of multiprocessing has no type information.
_multiprocessing: Any = import_module("_multiprocessing")
#: Seconds between two looks at the holder; with _LOOKS looks the bound on a recovery.
_PATIENCE = 0.015
_LOOKS = 3
_SEMAPHORE = 1  # SEMAPHORE of _multiprocessing: not owned, so that any process may post it


class RobustLock:
    """The lock of one attached segment; `words` is its header as unsigned 64-bit words."""

    __slots__ = ("_fd", "_instance", "epoch", "name", "owner", "post", "semaphore", "try_", "words")
    epoch: int
    name: str
    owner: int
    post: Any
    semaphore: Any
    try_: Any
    words: memoryview

    def __init__(self, name: str, instance: int, words: memoryview, fd: int) -> None:
        if words[PID_NAMESPACE] != pid_namespace():
            raise ResourceError(
                f"The shared array {name!r} belongs to another PID namespace, so its lock could not "
                "tell whether a holder is alive.",
                suggestions=("Run both containers in one PID namespace (--pid=container:…).",),
            )
        self.name, self._instance, self.words, self._fd = name, instance, words, fd
        self._use(words[EPOCH])

    @staticmethod
    def make(instance: int, epoch: int, value: int) -> object:
        """Create the semaphore of *epoch*, free (1) or taken (0); one that exists is left alone.

        Returns what keeps it mapped, None when it existed.
        """
        name = mapping.semaphore_name(instance, epoch)
        with contextlib.suppress(FileExistsError):
            return _multiprocessing.SemLock(_SEMAPHORE, value, 1, name, False)  # noqa: FBT003
        return None

    def acquire(self, timeout: float | None = None) -> None:
        """Take the lock; raises LockTimeout after *timeout* seconds, DeadlockError when hopeless."""
        deadline = None if timeout is None else time.monotonic() + timeout
        words = self.words
        while True:
            if not self.try_(False):  # noqa: FBT003
                self._wait(deadline)
            words[self.owner] = this_process()
            if words[EPOCH] == self.epoch:
                return
            self.leave_old_epoch()

    def release(self) -> None:
        """Give the lock back."""
        self.words[self.owner] = 0
        self.post()

    def leave_old_epoch(self) -> None:
        """Undo the taking of a semaphore that is no longer in force, and turn to the one that is."""
        self.release()
        self._use(self.words[EPOCH])

    def _use(self, epoch: int) -> None:
        while True:
            name = mapping.semaphore_name(self._instance, epoch)
            try:
                semaphore = _multiprocessing.SemLock._rebuild(0, _SEMAPHORE, 1, name)  # noqa: SLF001
                break
            except FileNotFoundError:
                # A recoverer sets EPOCH only after its semaphore exists, so a missing one means that
                # there is a newer epoch by now, or no segment any more.
                if self.words[EPOCH] == epoch:
                    raise
                epoch = self.words[EPOCH]
        self.semaphore = semaphore
        self.try_, self.post = semaphore.acquire, semaphore.release
        self.epoch, self.owner = epoch, OWNER + epoch % OWNER_SLOTS

    def _wait(self, deadline: float | None) -> None:
        """Block until the semaphore in force was taken; recover it when its holder is dead."""
        words, ownerless, progress = self.words, 0, self.words[SEQ]
        while True:
            if words[EPOCH] != self.epoch:
                self._use(words[EPOCH])
            if self.try_(True, _PATIENCE):  # noqa: FBT003
                return
            if words[EPOCH] != self.epoch:
                continue
            if deadline is not None and time.monotonic() > deadline:
                raise LockTimeout(f"The lock of {self.name!r} was not free in time.")
            holder = words[self.owner]
            if words[SEQ] != progress:  # others get their turns: busy, not broken
                ownerless, progress = 0, words[SEQ]
            elif holder == 0:
                ownerless += 1
                if ownerless < _LOOKS:
                    continue
            elif is_alive(holder):
                ownerless = 0
                self._refuse_deadlock(holder)
                continue
            self._recover(holder)
            ownerless = 0

    def _refuse_deadlock(self, holder: int) -> None:
        if holder == this_process() and self.words[THREAD] == threading.get_ident():
            raise DeadlockError(
                f"This thread holds the lock of {self.name!r} through another object already.",
                suggestions=(
                    "Use one SharedMemoryArray object inside a `with array(write=True)`.",
                ),
            )

    def _recover(self, seen: int) -> None:
        import fcntl  # here, so that other systems get to the sentence of `mapping.directory`

        words, old = self.words, self.epoch
        # Opened anew: flock belongs to the open file, which a fork would share.
        fd = os.open(f"/proc/self/fd/{self._fd}", os.O_RDWR | os.O_CLOEXEC)
        try:
            fcntl.flock(fd, fcntl.LOCK_EX)
            if words[EPOCH] != old or words[self.owner] != seen:
                return
            new = old + 1
            words[OWNER + new % OWNER_SLOTS] = 0
            self.make(self._instance, new, 0)
            words[EPOCH] = new
            full_memory_barrier()
            while self._somebody_is_late():
                time.sleep(0.001)  # it entered just before the epoch moved, and may finish
            words[LAST_DEAD] = words[self.owner] or seen
            words[RECOVERIES] += 1
            words[THREAD] = 0
            if words[SEQ] & 1:
                words[SEQ] += 1
                words[INTERRUPTED] += 1
            self._use(new)
            self.post()
            mapping.remove_semaphores(self._instance, before=new)
        finally:
            os.close(fd)

    def _somebody_is_late(self) -> bool:
        """Tell whether a living process holds the lock by an epoch that is over."""
        owners = self.words[OWNER : OWNER + OWNER_SLOTS].tolist()
        return any(owner and is_alive(owner) for owner in owners)
