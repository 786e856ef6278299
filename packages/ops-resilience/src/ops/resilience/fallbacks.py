"""What to answer when a call fails: a value, or a function of its arguments and the error."""

from __future__ import annotations

import functools
import inspect
from typing import TYPE_CHECKING, Any, ParamSpec, TypeVar, cast

from ops.foundation.errors import ValidationError
from ops.resilience.calls import is_awaited

if TYPE_CHECKING:
    from collections.abc import Callable

__all__ = ["fallback"]

P = ParamSpec("P")
R = TypeVar("R")
_MISSING: Any = object()


def fallback(
    fallback_value: Any = _MISSING,
    *,
    fallback_func: Callable[..., Any] | None = None,
    on: type[Exception] | tuple[type[Exception], ...] = Exception,
    on_fallback: Callable[[Exception], object] | None = None,
) -> Callable[[Callable[P, R]], Callable[P, R]]:
    """Return *fallback_value* (None is a value) or the result of *fallback_func* on failure.

    *fallback_func* gets the arguments of the call and `error=`; for a coroutine function it may be
    one too. *on_fallback* is told the error. Put it above `retry`, never below.

    Raises ValidationError unless exactly one of value and function is given.
    """
    if (fallback_value is _MISSING) == (fallback_func is None):
        raise ValidationError("Give either fallback_value or fallback_func.")

    def answer(error: Exception, args: Any, kwargs: Any) -> Any:
        if on_fallback is not None:
            on_fallback(error)
        if fallback_func is None:
            return fallback_value
        return fallback_func(*args, **kwargs, error=error)

    def decorate(function: Callable[P, R]) -> Callable[P, R]:
        if is_awaited(function):

            @functools.wraps(function)
            async def saved_async(*args: P.args, **kwargs: P.kwargs) -> Any:
                try:
                    return await function(*args, **kwargs)
                except on as error:
                    result = answer(error, args, kwargs)
                    return await result if inspect.isawaitable(result) else result

            saved_async.__ops_fallback__ = True  # type: ignore[attr-defined]
            return cast("Callable[P, R]", saved_async)

        @functools.wraps(function)
        def saved(*args: P.args, **kwargs: P.kwargs) -> Any:
            try:
                return function(*args, **kwargs)
            except on as error:
                return answer(error, args, kwargs)

        saved.__ops_fallback__ = True  # type: ignore[attr-defined]
        return saved

    return decorate
