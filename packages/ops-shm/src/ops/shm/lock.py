"""A lock between threads and processes that survives its holder, at the price of a plain semaphore.

A take is a value. Each caller that wants the lock gets a *slot*, one byte of the header that is its own until
it gives it back, sets it, and tries the semaphore:

    flag = 1;  sem_trywait;  … inside …;  sem_post;  flag = 0

A process that does not get the semaphore clears the flag, sleeps and tries again, so a flag is set
only while its owner holds the lock or is within a try. Slots lie in blocks, one for each connection,
and the kernel knows which blocks belong to living connections (see `members`).

Why exclusion holds. As long as every holder posts, the semaphore alone excludes. A holder that died
leaves it at 0, and a waiter then *recovers*: it does not repair the semaphore, but finds out that
no process has it and goes inside, as if its own try had succeeded. It may do so only if there was a point
in time at which the semaphore was 0 and no living slot but its own was set. Then there is no living
holder, and none can come, since none is left that would post. It is found so, under a kernel lock
that one connection at a time can have, and with the flag of the recovering one set:

    (1) load SEQ and HOLDS        (2) no flag of a living one is set       (3) the semaphore is 0
    (4) no flag of a living one is set                 (5) SEQ and HOLDS are as they were at (1)

Suppose a living process had the semaphore at (3). Its flag was set before its sem_trywait, a locked
instruction that makes the flag visible, and is cleared after its sem_post; it was seen cleared at (2)
and at (4), so the process came after (2) and left before (4). Everyone inside changes SEQ (a write) or
HOLDS (anything else) before it posts, and x86-64 shows stores in order, so (5) sees a difference.
Hence no holder that is alive is ever overtaken, however slow or long stopped: its flag is set.

What death, signals and exceptions can leave, and why it ends well:

- semaphore taken, its holder dead: a waiter recovers. An odd SEQ means that a write was cut short.
- a recovering process dies: the kernel gives back its locks, its flag is that of a dead one.
- a handler that runs within a take of its own thread, and takes: its own try fails for ever if the
  frame below it has the semaphore, so it looks for the takes of frames below it. What a try gave is
  known as soon as it ended (see `tries`), and there are three cases. One of them has the semaphore: the
  handler goes in as well, for that frame cannot go on before the handler ends, and does not post when it
  leaves. One has not: its flag is cleared, or two handlers in two processes would wait for each other's
  frames for ever; it is set again before it matters again. One is in the middle of a recovery, when it
  may have found already that the lock is its own: it is left out of (2) and (4), then either it has
  the lock or no process has. All this is looked for only when a try has failed, so the way without
  contention does not pay for it.

`tests/shm/lock_machine.py` runs this code itself, not a copy of its steps, in every interleaving, with
the store buffers of the processor, deaths, signals and interrupts at every step.
"""

from __future__ import annotations

import contextlib
import itertools
import re
import sys
import threading
import time
from importlib import import_module
from typing import TYPE_CHECKING, Any, Final

from ops.foundation.errors import LockTimeout
from ops.shm import mapping
from ops.shm.errors import SegmentNotFoundError, StaleSegmentError
from ops.shm.layout import BLOCK, HOLDS, INTERRUPTED, RECOVERIES, RETIRED, SEQ

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from types import CodeType, FrameType

    from ops.shm.members import Member

# Imported by name: the C half of multiprocessing has no type information.
_multiprocessing: Any = import_module("_multiprocessing")
_SEMAPHORE: Final = 1  # SEMAPHORE of _multiprocessing: not owned, so that any process may post it
#: Seconds without progress after which a waiter looks whether the holder is dead.
_PATIENCE: Final = 0.01
_SHORTEST_PAUSE: Final = 20e-6
_LONGEST_PAUSE: Final = 1e-3
#: How long the end of a segment waits for the lock of one that is in use.
_RETIRING_SECONDS: Final = 0.1
_SET = re.compile(rb"[^\0]")


class Take:
    """One take of a lock: its slot, whether it posts the semaphore at the end, whether it recovers."""

    __slots__ = ("lock", "posts", "recovers", "slot")
    lock: RobustLock
    posts: bool
    recovers: bool
    slot: int

    def __init__(self, lock: RobustLock) -> None:
        self.lock = lock
        self.slot, self.posts, self.recovers = -1, False, False

    def give_back(self) -> None:
        """Release what was taken, if it was; once. A forked child has taken nothing."""
        take = self  # by this name `_slots_below` finds it
        lock, slot = take.lock, take.slot
        if slot < 0 or lock.forked:
            return
        try:
            if take.posts:
                take.posts = False
                if lock.words[RETIRED]:
                    lock.words[SEQ] |= 1  # no process comes in any more, and readers look closer
                else:
                    lock.post()
        finally:
            # The slot is no longer this one's before another thread can get it.
            lock.flags[slot] = 0
            take.slot = -1
            lock.free.append(slot)


class RobustLock:
    """The lock of one connection; nothing in it changes from one take to another but `free`."""

    __slots__ = (
        "__weakref__",
        "_mutex",
        "_recovering",
        "_try",
        "flags",
        "forked",
        "free",
        "instance",
        "is_zero",
        "member",
        "name",
        "post",
        "semaphore",
        "slots",
        "tries",
        "words",
    )

    flags: memoryview
    forked: bool
    free: list[int]
    instance: int
    is_zero: Any
    member: Member
    name: str
    post: Any
    semaphore: Any
    slots: Iterator[int]
    tries: Iterator[bool]
    words: memoryview

    def __init__(
        self,
        name: str,
        instance: int,
        words: memoryview,
        flags: memoryview,
        semaphore: Any,
        member: Member,
    ) -> None:
        """Take part in the lock of the segment *instance* with the block of *member*.

        *words* and *flags* are its header, *semaphore* is what `opened` returned.
        """
        self.name, self.instance = name, instance
        self.words, self.flags, self.member = words, flags, member
        self.semaphore = semaphore
        self.post = semaphore.release
        self.is_zero = semaphore._is_zero  # noqa: SLF001 - sem_getvalue has no public way
        first = member.block * BLOCK
        self.free = list(range(first + BLOCK - 1, first - 1, -1))
        # Iterating takes a slot, or tries the semaphore, by a C call between whose end and the line that
        # keeps the result no handler can run.
        self.slots = iter(self.free.pop, -1)
        self.try_ = semaphore.acquire
        self._mutex, self._recovering, self.forked = threading.RLock(), False, False

    @property
    def try_(self) -> Callable[[bool], bool]:
        """What `tries` calls with False; tests put what stalls in its way."""
        return self._try

    @try_.setter
    def try_(self, function: Callable[[bool], bool]) -> None:
        self._try = function
        self.tries = map(function, itertools.repeat(False))  # noqa: FBT003

    def acquire(self, timeout: float | None = None) -> Take:
        """Take the lock, which the result's `give_back` releases.

        Raises LockTimeout after *timeout* seconds (None: never), StaleSegmentError.
        """
        words, take, below = self.words, Take(self), None
        start = since = time.monotonic()
        deadline = None if timeout is None else start + timeout
        pause, progress = _SHORTEST_PAUSE, (-1, -1)
        try:
            while True:
                with contextlib.suppress(IndexError):  # as many threads as there are slots try now
                    for take.slot in self.slots:
                        break
                if take.slot >= 0:
                    self.flags[take.slot] = 1
                    for take.posts in self.tries:
                        break
                    if take.posts:
                        return take
                if below is None:
                    below = _Below(self, sys._getframe(1))  # noqa: SLF001
                    if below.holds:
                        return take
                if words[RETIRED]:
                    raise stale(self.name, words[RETIRED])  # noqa: TRY301 - as all that ends this
                now, here = time.monotonic(), (words[SEQ], words[HOLDS])
                due = now - since >= _PATIENCE and here == progress
                if here != progress or due:
                    progress, since = here, now
                if take.slot >= 0:
                    if (due or below.slots) and self._recover(take, below.slots):
                        return take
                    take.give_back()  # not kept over the pause: a handler may need it
                self._pause(pause, deadline)
                pause = min(pause * 2, _LONGEST_PAUSE)
        except BaseException:
            try:
                take.give_back()
            finally:
                take.give_back()  # a handler may raise on the way into the first; once is enough
            raise

    def _pause(self, seconds: float, deadline: float | None) -> None:
        if deadline is not None:
            left = deadline - time.monotonic()
            if left <= 0:
                raise LockTimeout(f"The lock of {self.name!r} was not free in time.")
            seconds = min(seconds, left)
        time.sleep(seconds)

    def _recover(self, take: Take, below: frozenset[int]) -> bool:
        """Find out whether no living process has the lock, and let *take* have it then."""
        with self._mutex:
            again = self._recovering  # a handler within the recovery of its own thread
            try:
                self._recovering = True
                if not self.member.begin_recovery():
                    return False
                take.recovers = True
                self.flags[take.slot] = 1  # a handler may have cleared it
                mine = below | {take.slot}
                if not self._is_abandoned(mine):
                    return False
                self._note_death(mine, again=again)
                take.posts = not below
                return True
            finally:
                take.recovers = False
                if not again:
                    self._recovering = False
                    try:
                        self.member.end_recovery()
                    except BaseException:  # a handler, on the way in
                        self.member.end_recovery()
                        raise

    def _is_abandoned(self, mine: frozenset[int]) -> bool:
        words = self.words
        before = words[SEQ], words[HOLDS]
        if another_lives(self.flags, self.member, mine) or not self.is_zero():
            return False
        if another_lives(self.flags, self.member, mine):
            return False
        return (words[SEQ], words[HOLDS]) == before

    def _note_death(self, mine: frozenset[int], *, again: bool) -> None:
        """Record, inside the lock, what its dead holder left; a death within ends as well."""
        words, flags, dead = self.words, self.flags, []
        if not again:  # else a frame below counts
            others = [slot for slot in _set_slots(flags) if slot not in mine]
            # Living ones try meanwhile, in vain.
            dead = [slot for slot in others if not self.member.is_alive(slot // BLOCK)]
        # No call from here to the count: a handler would do the same once more.
        cut_short = words[SEQ] & 1
        if cut_short:
            words[INTERRUPTED] += 1
            words[SEQ] += 1
        if (cut_short or dead) and not again:
            words[RECOVERIES] += 1
        for slot in dead:
            flags[slot] = 0

    def retire(self, kind: int) -> None:
        """Notify all connections that the segment is DESTROYED or REPLACED.

        The lock is taken and never given back, so every access comes by the check in `_wait`. One
        that is held for longer than that is left to its holder, whose release does the same.
        """
        take = None
        try:
            take = self.acquire(_RETIRING_SECONDS)
        except StaleSegmentError:
            return
        except LockTimeout:
            pass
        self.words[RETIRED] = kind
        if take is not None:
            take.give_back()

    def forget(self) -> None:
        """Give up, in a forked child, what belongs to the parent; what is under way here fails."""
        self.forked = True
        self.words.release()
        self.flags.release()
        self.member.close()


def stale(name: str, kind: int) -> StaleSegmentError:
    """Return the error of an access to the segment *name*, retired as *kind*."""
    destroyed = f"The shared array {name!r} was destroyed after this object had connected to it."
    if kind == 1:
        return StaleSegmentError(destroyed, suggestions=("Call disconnect().",))
    return StaleSegmentError(
        f"The shared array {name!r} was replaced after this object had connected to it.",
        suggestions=("Call connect() to use the one that has its name now.",),
    )


def make_semaphore(instance: int, mode: int) -> object:
    """Create the free semaphore of a segment with permission bits *mode*; it lives while kept."""
    name = mapping.semaphore_name(instance)
    made = _multiprocessing.SemLock(_SEMAPHORE, 1, 1, name, False)  # noqa: FBT003
    mapping.semaphore_file(instance).chmod(mode)
    return made


def open_semaphore(name: str, instance: int) -> Any:
    """Open the semaphore of the segment *instance*, called *name*; raises SegmentNotFoundError."""
    try:
        return _multiprocessing.SemLock._rebuild(  # noqa: SLF001
            0, _SEMAPHORE, 1, mapping.semaphore_name(instance)
        )
    except FileNotFoundError:
        raise SegmentNotFoundError(
            f"The shared array {name!r} has lost its semaphore.",
            suggestions=("It was destroyed just now, or a file of /dev/shm was removed by hand.",),
        ) from None


def another_lives(flags: memoryview, member: Member, mine: frozenset[int]) -> bool:
    """Return whether a living connection holds or tries, by a slot that is not of *mine*."""
    return any(slot not in mine and member.is_alive(slot // BLOCK) for slot in _set_slots(flags))


def _set_slots(flags: memoryview) -> list[int]:
    return [match.start() for match in _SET.finditer(bytes(flags))]


#: The code of functions that have a take in a local `take`, or in line in `lock`, `slot` and `odd`.
HAVE_TAKES: set[CodeType] = {RobustLock.acquire.__code__, Take.give_back.__code__}


class _Below:
    """What the frames have taken of a lock that a handler's frame has interrupted.

    `holds` is whether one of them has the semaphore. `slots` are those of the ones that may be about
    to have it, since they recover; the flags of the others, which have not, are cleared.
    """

    __slots__ = ("holds", "slots")

    def __init__(self, lock: RobustLock, frame: FrameType | None) -> None:
        found, self.holds = set(), False
        while frame is not None:
            if frame.f_code in HAVE_TAKES:
                local = frame.f_locals
                take = local.get("take")
                other = local.get("lock") if take is None else take.lock
                slot = local.get("slot", -1) if take is None else take.slot
                if slot >= 0 and other is not None and other.instance == lock.instance:
                    if local.get("odd") if take is None else take.posts:
                        self.holds = True
                    elif take is not None and take.recovers:
                        found.add(slot)
                    else:
                        lock.flags[slot] = 0
            frame = frame.f_back
        self.slots = frozenset(found)
