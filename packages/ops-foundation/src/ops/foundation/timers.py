"""How long a block, a function or a coroutine took, as a log record or for a callback."""

from __future__ import annotations

import contextvars
import functools
import logging
import time
from typing import TYPE_CHECKING, Any, ParamSpec, Self, TypeVar, overload

from ops.foundation.callables import is_awaited, refuse_coroutine_function
from ops.foundation.logs import get_logger

if TYPE_CHECKING:
    from collections.abc import Callable
    from types import TracebackType

__all__ = ["Timer", "timer"]

P = ParamSpec("P")
R = TypeVar("R")

_logger = get_logger("ops.foundation.timer")


# Blocks that are being measured: each task and each thread sees its own, so they may share a timer.
_running: contextvars.ContextVar[tuple[tuple[Timer, float], ...]] = contextvars.ContextVar(
    "ops_timers", default=()
)


class Timer:
    """A context manager that measures its block; a decorator that measures each call.

    Blocks of several threads or tasks, and nested ones, may share a timer; `elapsed_seconds` is
    that of the block that ended last. *name* stands in the record (None: the name of the function).
    *on_done* is called with name and seconds in place of logging at *level*. *clock* returns
    seconds. Raises `ValidationError` for an *on_done* that is a coroutine function.

    >>> ticks = iter([10.0, 12.5])
    >>> with Timer("load", on_done=print, clock=lambda: next(ticks)) as measured:
    ...     pass
    load 2.5
    >>> measured.elapsed_seconds
    2.5
    """

    def __init__(
        self,
        name: str | None = None,
        *,
        on_done: Callable[[str, float], object] | None = None,
        level: int = logging.INFO,
        clock: Callable[[], float] = time.perf_counter,
    ) -> None:
        refuse_coroutine_function(on_done, "on_done")
        self.name = name
        self.elapsed_seconds: float = 0.0
        self._on_done = on_done
        self._level = level
        self._clock = clock

    def __enter__(self) -> Self:
        _running.set((*_running.get(), (self, self._clock())))
        return self

    def __exit__(
        self,
        exc_type: type[BaseException] | None,
        exc: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self.elapsed_seconds = self._clock() - self._start_of_block()
        name = self.name or "block"
        if self._on_done is not None:
            self._on_done(name, self.elapsed_seconds)
        elif _logger.isEnabledFor(self._level):
            from ops.foundation.formatting import format_duration

            outcome = "failed after" if exc_type else "took"
            _logger.log(
                self._level, "%s %s %s", name, outcome, format_duration(self.elapsed_seconds)
            )

    def _start_of_block(self) -> float:
        """Return when the innermost block of this timer began, in this task or thread."""
        blocks = _running.get()
        for position in range(len(blocks) - 1, -1, -1):
            timer, start = blocks[position]
            if timer is self:
                _running.set(blocks[:position] + blocks[position + 1 :])
                return start
        raise RuntimeError("The block of this timer was entered in another task or thread.")

    def __call__(self, func: Callable[P, R]) -> Callable[P, R]:
        """Return *func* measured on each call. Raises `ValidationError` for generators."""

        # Each call has a timer of its own: calls overlap in threads and in recursion.
        def measure() -> Timer:
            name = self.name or getattr(func, "__qualname__", repr(func))
            return Timer(name, on_done=self._on_done, level=self._level, clock=self._clock)

        if is_awaited(func):

            @functools.wraps(func)
            async def timed_async(*args: Any, **kwargs: Any) -> Any:
                with measure():
                    return await func(*args, **kwargs)

            return timed_async  # type: ignore[return-value]  # R is the coroutine here

        @functools.wraps(func)
        def timed(*args: P.args, **kwargs: P.kwargs) -> R:
            with measure():
                return func(*args, **kwargs)

        return timed


@overload
def timer(func: Callable[P, R], /) -> Callable[P, R]: ...
@overload
def timer(
    func: None = None,
    /,
    *,
    name: str | None = None,
    on_done: Callable[[str, float], object] | None = None,
    level: int = logging.INFO,
    clock: Callable[[], float] = time.perf_counter,
) -> Timer: ...
def timer(func: Any = None, /, **options: Any) -> Any:
    """Measure calls of a function (`@timer`, `@timer(name="load")`), or a block in a `with`.

    The duration is logged to "ops.foundation.timer", or given to *on_done(name, seconds)*. A
    failing call is measured too. After a block it is in `elapsed_seconds`. Coroutine functions are
    awaited. *options* are those of `Timer`: *name*, *on_done*, *level* and *clock*. Raises
    `ValidationError` for generators, whose work is done after the call.
    """
    return Timer(**options) if func is None else Timer(**options)(func)
