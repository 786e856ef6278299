"""What kind of call a decorator guards: one that is awaited, one that returns, or one it cannot guard."""

from __future__ import annotations

import inspect
from typing import TYPE_CHECKING, Any, ParamSpec, TypeGuard

from ops.foundation.errors import ValidationError

if TYPE_CHECKING:
    from collections.abc import Callable, Coroutine

__all__ = ["is_awaited"]

P = ParamSpec("P")


def is_awaited(function: Callable[P, Any]) -> TypeGuard[Callable[P, Coroutine[Any, Any, Any]]]:
    """Tell whether calling *function* gives a coroutine, also where an object's `__call__` does.

    Raises ValidationError for generators: they run while they are consumed, after the call.
    """
    code = getattr(function, "__code__", None)
    if code is not None and not code.co_flags & _RUNS_LATER and not function.__dict__:
        return False  # a plain function, which nothing marked as another kind: told in no time
    behind: Any = function if code is not None else getattr(function, "func", function)
    if not inspect.isroutine(behind) and not isinstance(behind, type):
        behind = type(behind).__call__
    if any(is_one(f) for is_one in _GENERATORS for f in (function, behind)):
        raise ValidationError(
            f"{function!r} is a generator: it runs while it is consumed, where nothing guards it. "
            "Decorate a function that returns a list, or the one that makes each item."
        )
    return inspect.iscoroutinefunction(function) or inspect.iscoroutinefunction(behind)


_GENERATORS = (inspect.isgeneratorfunction, inspect.isasyncgenfunction)
_RUNS_LATER = (
    inspect.CO_GENERATOR
    | inspect.CO_COROUTINE
    | inspect.CO_ITERABLE_COROUTINE
    | inspect.CO_ASYNC_GENERATOR
)
