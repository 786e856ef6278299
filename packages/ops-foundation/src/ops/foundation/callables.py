"""What kind of function it is: one that returns, one that is awaited, or one that runs while it is consumed.

What wraps, times or guards a call, or calls back, must know that: the call of a coroutine function
returns at once, whatever it will do, and its coroutine is true, whatever it would find.
"""

from __future__ import annotations

import functools
import inspect
from typing import TYPE_CHECKING, Any, ParamSpec, TypeGuard

from ops.foundation.errors import ValidationError
from ops.foundation.logs import get_logger

if TYPE_CHECKING:
    from collections.abc import Callable, Coroutine

__all__ = ["drop_coroutine", "is_awaited", "refuse_coroutine_function", "runs_later"]

P = ParamSpec("P")
_logger = get_logger("ops.foundation")


def is_awaited(function: Callable[P, Any]) -> TypeGuard[Callable[P, Coroutine[Any, Any, Any]]]:
    """Return whether calling *function* gives a coroutine, also where an object's `__call__` does.

    Raises ValidationError for generators: they run while they are consumed, after the call.
    """
    code = getattr(function, "__code__", None)
    if code is not None and not code.co_flags & _RUNS_LATER and not function.__dict__:
        return False  # a plain function that nothing has marked as another kind: the quick way
    behind: Any = function
    while isinstance(behind, functools.partial):
        behind = behind.func
    if not inspect.isroutine(behind) and not isinstance(behind, type):
        behind = type(behind).__call__
    if any(is_one(f) for is_one in _GENERATORS for f in (function, behind)):
        raise ValidationError(
            f"{function!r} is a generator: it runs while it is consumed, where nothing guards it. "
            "Decorate a function that returns a list, or the one that makes each item."
        )
    return inspect.iscoroutinefunction(function) or inspect.iscoroutinefunction(behind)


def runs_later(function: Callable[..., object]) -> bool:
    """Return whether calling *function* only makes a coroutine or a generator, which runs later."""
    try:
        return is_awaited(function)
    except ValidationError:
        return True


def refuse_coroutine_function(
    callback: Callable[..., object] | None, name: str, instead: str = "give a plain function"
) -> None:
    """Raise ValidationError if *callback* is asynchronous where nothing can await it, or cannot be called.

    *name* is the parameter's, for the message; *instead* is the remedy. None is no callback.
    """
    if callback is None:
        return
    if not callable(callback):
        raise ValidationError(f"{name}={callback!r} is not callable.")
    if is_awaited(callback):
        raise ValidationError(
            f"{name}={callback!r} is a coroutine function, and nothing here can await it; {instead}."
        )


def drop_coroutine(outcome: object, name: str) -> None:
    """Close the coroutine that a plain callback has returned, and log that it did not run.

    A lambda that returns a coroutine cannot be recognized when it is registered. *outcome* is what
    the callback returned, *name* that of the callback.
    """
    if inspect.iscoroutine(outcome):
        outcome.close()
        _logger.error("%s returned a coroutine, which nothing here can await; it did not run", name)


_GENERATORS = (inspect.isgeneratorfunction, inspect.isasyncgenfunction)
_RUNS_LATER = (
    inspect.CO_GENERATOR
    | inspect.CO_COROUTINE
    | inspect.CO_ITERABLE_COROUTINE
    | inspect.CO_ASYNC_GENERATOR
)
