"""Limits of time for a block: one concept for plain code, threads and coroutines.

`timeout_context` ends an overrun block from inside with `DeadlineInterrupt`, which is no `Exception`:
a retry, a fallback or a logging hook in the block takes it for no failure of theirs and lets it pass.
The block's own end then raises `DeadlineExceededError`, also when something inside did swallow the
interrupt, so a limit never passes silently. How the interrupt gets in depends on what runs:

- plain code in the main thread: SIGALRM, repeated as long as the interrupt is neither seen by the
  block's end nor being handled by a `finally` or `except` on its way there;
- an `await`: the task is cancelled by its loop, as `asyncio.timeout` does it;
- other threads: Python cannot interrupt them, so code asks `current_deadline()`.

One handler serves all limits, since blocks of several tasks do not end in the order they began. An
alarm that another library had set before is called when it is due, and restored afterwards.
"""

from __future__ import annotations

import contextlib
import contextvars
import functools
import os
import signal
import sys
import threading
import time
import weakref
from typing import TYPE_CHECKING, Any, ParamSpec, TypeVar

from ops.foundation.callables import is_awaited
from ops.foundation.errors import DeadlineExceededError

if TYPE_CHECKING:
    import asyncio
    from collections.abc import Callable
    from types import FrameType, TracebackType

__all__ = [
    "Deadline",
    "DeadlineInterrupt",
    "TimeLimit",
    "current_deadline",
    "timeout_context",
]

P = ParamSpec("P")
R = TypeVar("R")

# How long after an interrupt its fate is looked at, and after one that met our own bookkeeping.
_AGAIN_SECONDS = 0.1
_SOON_SECONDS = 0.001
_HAS_ALARM = hasattr(signal, "setitimer")


class Deadline:
    """A point in time, *seconds* from now on a monotonic clock, after which work should have ended."""

    def __init__(self, seconds: float, clock: Callable[[], float] = time.monotonic) -> None:
        self.seconds = seconds
        self._clock = clock
        self._end = clock() + seconds

    def remaining(self) -> float:
        """Return the seconds that are left, never less than zero."""
        return max(0.0, self._end - self._clock())

    def clamp(self, seconds: float | None) -> float:
        """Return how long a wait of *seconds* (None: without a limit) may last: never beyond the end."""
        left = self.remaining()
        return left if seconds is None else min(seconds, left)

    @property
    def expired(self) -> bool:
        """Whether the time is over."""
        return self._clock() >= self._end

    def check(self) -> None:
        """Raise `DeadlineExceededError` (a TimeoutError) if the time is over."""
        if self.expired:
            raise self.error()

    def error(self) -> DeadlineExceededError:
        """Return the error for work that did not end before this deadline."""
        return DeadlineExceededError(f"The work did not end within {self.seconds} s.")

    def __repr__(self) -> str:
        return f"<Deadline of {self.seconds} s, {self.remaining():.3f} s left>"


class DeadlineInterrupt(BaseException):
    """Ends a block whose time is over, from inside; the end of the block turns it into an error.

    It is no `Exception`, so that what repeats or reports failures lets it pass. Code that catches
    BaseException raises it again. Outside the block there is only `DeadlineExceededError`.
    """

    def __init__(self, block: _Block) -> None:
        super().__init__(f"the limit of {block.deadline.seconds} s is over")
        self._block = block
        self._raised_at = time.monotonic()

    @property
    def deadline(self) -> Deadline:
        """The deadline that has passed."""
        return self._block.deadline

    def _unwinds(self, block: _Block) -> bool:
        """Return whether it still ends a block that *block* is, or is inside of."""
        own = self._block
        return own.active and own.began <= block.began <= self._raised_at


def current_deadline() -> Deadline | None:
    """Return the earliest deadline of the `timeout_context` blocks around the caller, or None.

    Context variables carry it into tasks and into the threads of `run_in_thread`, `parallel_map` and
    `ThreadPoolManager`. Code that waits limits its wait with `deadline.clamp(seconds)`.
    """
    deadlines = [block.deadline for block in _around.get() if block.active]
    return min(deadlines, key=Deadline.remaining, default=None)


def timeout_context(seconds: float) -> TimeLimit:
    """Limit a block, or as a decorator each call, to *seconds*: `DeadlineExceededError` is raised.

    The error is a TimeoutError. Plain code is interrupted where it is in the main thread of a POSIX
    system (code that holds the interpreter, when it lets go), a coroutine wherever it awaits. In any
    other thread use the `Deadline` that the block gets; a block that ends too late raises then. An
    error that the block raises after its time is the `__cause__`. Blocks nest. Raises ValueError
    unless *seconds* is positive and a number that `threading` can wait for.
    """
    if not 0 < seconds <= threading.TIMEOUT_MAX:
        most = threading.TIMEOUT_MAX
        raise ValueError(f"seconds={seconds} must be positive and at most {most:.0f}.")
    return TimeLimit(seconds)


class TimeLimit:
    """What `timeout_context` returns: a context manager that gives a `Deadline`, and a decorator."""

    def __init__(self, seconds: float) -> None:
        self.seconds = seconds
        self._blocks: list[_Block] = []  # several when it is shared by threads, tasks or recursion
        self._guard: weakref.ref[TimeLimit] | None = None

    def __enter__(self) -> Deadline:
        block = _Block(Deadline(self.seconds))
        # A block whose end was itself interrupted, by Ctrl-C, must not be interrupted later.
        self._guard = weakref.ref(self, functools.partial(_deactivate, self._blocks))
        try:
            self._blocks.append(block)
            _around.set((*_around.get(), block))
            block.begin()
        except BaseException:
            self._leave(block)
            raise
        return block.deadline

    def __exit__(
        self,
        exc_type: type[BaseException] | None,
        exc: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        block = self._own_block()
        over = block.interrupted or block.deadline.expired
        self._leave(block)
        cancelled = block.end_cancellation()
        if over and _is_replaced(exc, block, cancelled=cancelled):
            raise block.deadline.error() from exc

    def _own_block(self) -> _Block:
        thread, task = threading.get_ident(), _current_task()
        for block in reversed(self._blocks):
            if block.thread == thread and block.task is task:
                return block
        return self._blocks[-1]  # a fixture that begins and ends in different tasks

    def _leave(self, block: _Block) -> None:
        block.active = False
        if block in self._blocks:
            self._blocks.remove(block)
        if not self._blocks:
            self._guard = None  # so that no Python code runs when this object ends
        _around.set(tuple(other for other in _around.get() if other.active))
        _alarm.discard(block)

    def __call__(self, func: Callable[P, R]) -> Callable[P, R]:
        """Return *func*, a plain or a coroutine function, with each of its calls limited.

        Raises `ValidationError` for generators, which run after the call.
        """
        if is_awaited(func):

            @functools.wraps(func)
            async def limited_async(*args: P.args, **kwargs: P.kwargs) -> Any:
                with TimeLimit(self.seconds):
                    return await func(*args, **kwargs)

            return limited_async  # type: ignore[return-value]  # R is the coroutine here

        @functools.wraps(func)
        def limited(*args: P.args, **kwargs: P.kwargs) -> R:
            with TimeLimit(self.seconds):
                return func(*args, **kwargs)

        return limited


def _deactivate(blocks: list[_Block], _guard: object) -> None:
    for block in blocks:
        block.active = False


def _is_replaced(exc: BaseException | None, block: _Block, *, cancelled: bool) -> bool:
    """Return whether the error of the limit is raised for *exc*, with which an overrun block ended."""
    if exc is None:
        return True
    if isinstance(exc, DeadlineInterrupt):
        return exc.deadline is block.deadline  # that of a block around passes
    if isinstance(exc, Exception):
        return not isinstance(exc, DeadlineExceededError)  # raised by a check of the block
    # A cancellation that is not this limit's goes first, and so do requests to end the program.
    return cancelled and not isinstance(exc, KeyboardInterrupt | SystemExit | GeneratorExit)


class _Block:
    """A block that runs under a limit, in a task or outside of any."""

    def __init__(self, deadline: Deadline) -> None:
        self.deadline = deadline
        self.began = time.monotonic()
        self.thread = threading.get_ident()
        self.task = _current_task()
        self.active = True
        self.interrupted = False
        self.cancelled = False
        self._timer: asyncio.TimerHandle | None = None
        self._cancelling = 0

    def begin(self) -> None:
        if self.task is not None:
            self._cancelling = self.task.cancelling()
            loop = self.task.get_loop()
            self._timer = loop.call_later(self.deadline.seconds, self._cancel, self.task)
        if _HAS_ALARM and threading.current_thread() is threading.main_thread():
            _alarm.add(self)

    def _cancel(self, task: asyncio.Task[Any]) -> None:
        if self.active and not self.interrupted:
            self.interrupted = self.cancelled = True
            task.cancel()

    def end_cancellation(self) -> bool:
        """Take back this limit's cancellation; return whether it was the only one of the task."""
        if self._timer is not None:
            self._timer.cancel()
        if self.task is None or not self.cancelled:
            return False
        return self.task.uncancel() <= self._cancelling


def _current_task() -> asyncio.Task[Any] | None:
    module = sys.modules.get("asyncio")  # without it no loop runs
    if module is None or module._get_running_loop() is None:  # noqa: SLF001 - raises no error
        return None
    task: asyncio.Task[Any] | None = module.current_task()
    return task


class _Alarm:
    """SIGALRM, shared by the limits of the main thread and by an alarm that was there before them."""

    def __init__(self) -> None:
        self._blocks: list[_Block] = []
        self._previous: Any = None
        self._previous_end: float | None = None
        self._previous_interval = 0.0

    def add(self, block: _Block) -> None:
        self._blocks.append(block)
        if signal.getsignal(signal.SIGALRM) is not _on_alarm:
            left, self._previous_interval = signal.getitimer(signal.ITIMER_REAL)
            self._previous_end = time.monotonic() + left if left else None
            self._previous = signal.getsignal(signal.SIGALRM)
            signal.signal(signal.SIGALRM, _on_alarm)
        self.arm()

    def discard(self, block: _Block) -> None:
        if block in self._blocks:
            self._blocks.remove(block)
            self.arm()

    def arm(self, again: float = 0.0) -> None:
        """Set the timer for what is due first; put back what was there when nothing is left."""
        self._blocks = [block for block in self._blocks if block.active]
        if signal.getsignal(signal.SIGALRM) is not _on_alarm:
            return  # the block has set an alarm of its own, which stays; its end looks at the clock
        waits = [max(block.deadline.remaining(), again) for block in self._blocks]
        if self._previous_end is not None:
            waits.append(max(self._previous_end - time.monotonic(), again))
        if not self._blocks:
            signal.setitimer(signal.ITIMER_REAL, 0)
            signal.signal(signal.SIGALRM, self._previous)
        # At least a microsecond: zero would switch the timer off.
        first = max(min(waits), 1e-6) if waits else 0.0
        interval = 0.0 if self._blocks else self._previous_interval
        signal.setitimer(signal.ITIMER_REAL, first, interval)

    def ring(self, frame: FrameType | None) -> None:
        """Raise the interrupt of the outermost limit that is over where *frame* runs."""
        if _is_bookkeeping(frame):
            # Without a limit left the timer is being put back, perhaps to a handler that kills.
            if any(block.active for block in self._blocks):
                signal.setitimer(signal.ITIMER_REAL, _SOON_SECONDS)
            return
        over = self._over()
        self.arm(_AGAIN_SECONDS)
        self._ring_previous(frame)
        for block in over:
            if not block.cancelled and not _is_unwinding(block):
                block.interrupted = True
                raise DeadlineInterrupt(block)

    def _over(self) -> list[_Block]:
        """Return the limits that are over: those of this task or thread, the outermost first."""
        around = _around.get()
        return [
            block
            for block in (*(b for b in self._blocks if b.task is None), *around)
            if block.active and block.deadline.expired
        ]

    def _ring_previous(self, frame: FrameType | None) -> None:
        end = self._previous_end
        if end is None or time.monotonic() < end:
            return
        interval = self._previous_interval
        self._previous_end = time.monotonic() + interval if interval else None
        self.arm(_AGAIN_SECONDS)
        if callable(self._previous):
            self._previous(signal.SIGALRM, frame)
        elif self._previous is signal.SIG_DFL:  # which ends the process
            signal.signal(signal.SIGALRM, signal.SIG_DFL)
            signal.raise_signal(signal.SIGALRM)


_around: contextvars.ContextVar[tuple[_Block, ...]] = contextvars.ContextVar(
    "ops_time_limits", default=()
)
_alarm = _Alarm()
# Functions that change what limits there are: an interrupt in them waits until they have ended.
_BOOKKEEPING = frozenset(
    function.__code__ for function in (TimeLimit.__enter__, TimeLimit.__exit__, _Alarm.ring)
)


def _on_alarm(_signal: int, frame: FrameType | None) -> None:
    _alarm.ring(frame)


def _is_bookkeeping(frame: FrameType | None) -> bool:
    while frame is not None:
        if frame.f_code in _BOOKKEEPING:
            return True
        frame = frame.f_back
    return False


def _is_unwinding(block: _Block) -> bool:
    """Return whether a `finally` or `except` is being run by an interrupt that ends *block*."""
    exc = sys.exception()
    while exc is not None:
        if isinstance(exc, DeadlineInterrupt) and exc._unwinds(block):  # noqa: SLF001 - same module
            return True
        exc = exc.__context__
    return False


def _arm_in_child() -> None:
    # The timer is not inherited, its handler is.
    with contextlib.suppress(ValueError):  # forked by another thread, which is the main one now
        _alarm.arm()


if _HAS_ALARM and hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_arm_in_child)
