"""Timers: how long a block or a call takes, also while other threads use the same timer.

Blocks of one timer may overlap in several tasks and threads. The usual one, which no other overlaps, keeps
its start in the timer. Further ones keep theirs in a context variable, which belongs to the task or the
thread. Which of the two holds is decided by one atomic `pop`.
"""

from __future__ import annotations

import functools
import inspect
from contextvars import ContextVar
from time import perf_counter
from typing import TYPE_CHECKING, Any, ParamSpec, Self, TypeAlias, TypeVar, cast

from ops.foundation import tracing
from ops.foundation.callables import is_awaited
from ops.observe.errors import SignatureError

if TYPE_CHECKING:
    from collections.abc import Callable

    from ops.observe.metrics import MetricsCollector
    from ops.observe.shards import Tags

__all__ = ["Timer"]

P = ParamSpec("P")
R = TypeVar("R")

_Open: TypeAlias = "tuple[_Open | None, Timer, float]"
_open: ContextVar[_Open | None] = ContextVar("ops.observe.timing", default=None)


class Timer:
    """Records how long a block or a call takes, also when it raises. Made by `MetricsCollector.timer`.

    One object may be used by any number of threads and tasks at a time, and within itself.
    """

    __slots__ = ("_collector", "_free", "_name", "_span", "_start", "_tags")

    def __init__(self, collector: MetricsCollector, name: str, tags: Tags) -> None:
        self._collector, self._name, self._tags = collector, name, tags
        self._free = [True]
        self._start = 0.0
        self._span: Any = None

    def __enter__(self) -> Self:
        around = _open.get()
        if around is None or _block_of(self, around) is None:
            try:
                self._free.pop()
            except IndexError:
                pass
            else:
                if tracing.is_traced():
                    self._span = tracing.span("ops.observe", self._name)
                    self._span.__enter__()
                self._start = perf_counter()
                return self
        _open.set((around, self, perf_counter()))
        return self

    def __exit__(self, *error: object) -> None:
        end = perf_counter()
        around = _open.get()
        block = None if around is None else _block_of(self, around)
        if around is not None and block is not None:
            _open.set(_without(around, block))
            start = block[2]
        else:
            start, span, self._span = self._start, self._span, None
            self._free.append(True)
            if span is not None:
                span.__exit__(*error)
        self._collector.record_time(self._name, end - start, self._tags)

    def __call__(self, function: Callable[P, R]) -> Callable[P, R]:
        """Return *function*, its calls timed; a coroutine function stays one.

        Raises SignatureError for generators, whose work is done after the call.
        """
        if inspect.isgeneratorfunction(function) or inspect.isasyncgenfunction(function):
            raise SignatureError(f"{function!r} is a generator; time the loop that consumes it.")
        record, name, tags = self._collector.record_time, self._name, self._tags
        if is_awaited(function):

            @functools.wraps(function)
            async def timed_async(*args: P.args, **kwargs: P.kwargs) -> Any:
                start = perf_counter()
                try:
                    with tracing.span("ops.observe", name):
                        return await function(*args, **kwargs)
                finally:
                    record(name, perf_counter() - start, tags)

            return cast("Callable[P, R]", timed_async)

        @functools.wraps(function)
        def timed(*args: P.args, **kwargs: P.kwargs) -> R:
            start = perf_counter()
            try:
                if tracing.is_traced():
                    with tracing.span("ops.observe", name):
                        return function(*args, **kwargs)
                return function(*args, **kwargs)
            finally:
                record(name, perf_counter() - start, tags)

        return timed


def _block_of(timer: Timer, opened: _Open | None) -> _Open | None:
    """Return the innermost block of *timer* among those that are *opened* here."""
    while opened is not None and opened[1] is not timer:
        opened = opened[0]
    return opened


def _without(opened: _Open, block: _Open) -> _Open | None:
    if opened is block:
        return opened[0]
    rest = None if opened[0] is None else _without(opened[0], block)
    return (rest, opened[1], opened[2])
