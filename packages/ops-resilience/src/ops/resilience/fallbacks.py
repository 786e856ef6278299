"""What to return when a call fails: a value, or the result of a function of its arguments and the error."""

from __future__ import annotations

import functools
import inspect
from typing import TYPE_CHECKING, Any, ParamSpec, TypeVar, cast

from ops.foundation.callables import drop_coroutine, is_awaited, refuse_coroutine_function
from ops.foundation.errors import ValidationError

if TYPE_CHECKING:
    from collections.abc import Callable

__all__ = ["fallback"]

P = ParamSpec("P")
R = TypeVar("R")
_MISSING: Any = object()


def fallback(
    value: Any = _MISSING,
    /,
    *,
    fallback_value: Any = _MISSING,
    fallback_func: Callable[..., Any] | None = None,
    on: type[Exception] | tuple[type[Exception], ...] = Exception,
    on_fallback: Callable[[Exception], object] | None = None,
) -> Callable[[Callable[P, R]], Callable[P, R]]:
    """Return *fallback_value* (None is a value) or the result of *fallback_func* on failure.

    Args:
        value: the same as *fallback_value*, unless it is callable, which would be ambiguous.
        fallback_value: what the call returns instead; it may be callable.
        fallback_func: called with the arguments of the call and `error=`; for a coroutine function it
            may be one too.
        on: the errors that count; others are raised.
        on_fallback: called with the error; for a coroutine function it may be one too.

    Put it above `retry`, never below. Raises ValidationError unless exactly one of value and function
    is given.

    >>> @fallback(fallback_value=[])
    ... def rows():
    ...     raise OSError("no network")
    >>> rows()
    []
    """
    if value is not _MISSING and callable(value):
        raise ValidationError(
            f"fallback({value!r}) is ambiguous: write fallback_func= to call it when a call fails, "
            "or fallback_value= to return it; the decorator needs one of them."
        )
    if value is not _MISSING and fallback_value is not _MISSING:
        raise ValidationError("Give either a positional value or fallback_value, not both.")
    if value is not _MISSING:
        fallback_value = value
    if (fallback_value is _MISSING) == (fallback_func is None):
        raise ValidationError("Give either fallback_value or fallback_func.")

    def answer(error: Exception, args: Any, kwargs: Any) -> Any:
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
                    if on_fallback is not None:
                        noticed = on_fallback(error)
                        if inspect.isawaitable(noticed):
                            await noticed
                    result = answer(error, args, kwargs)
                    return await result if inspect.isawaitable(result) else result

            saved_async.__ops_fallback__ = True  # type: ignore[attr-defined]
            return cast("Callable[P, R]", saved_async)

        refuse_coroutine_function(on_fallback, "on_fallback")
        refuse_coroutine_function(fallback_func, "fallback_func")

        @functools.wraps(function)
        def saved(*args: P.args, **kwargs: P.kwargs) -> Any:
            try:
                return function(*args, **kwargs)
            except on as error:
                if on_fallback is not None:
                    drop_coroutine(on_fallback(error), "on_fallback")
                return answer(error, args, kwargs)

        saved.__ops_fallback__ = True  # type: ignore[attr-defined]
        return saved

    return decorate
