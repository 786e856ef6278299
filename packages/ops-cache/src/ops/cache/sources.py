"""Checks of functions that are to be cached."""

from __future__ import annotations

import inspect
from typing import TYPE_CHECKING, Any, TypeVar, cast

from ops.foundation.errors import ValidationError

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable

__all__ = ["as_names", "refuse_generators"]

T = TypeVar("T")


def as_names(names: Iterable[T]) -> tuple[T, ...]:
    """Return *names*, or what they stand for, as a tuple; a single string is one, not its letters."""
    return (cast("T", names),) if isinstance(names, str) else tuple(names)


def refuse_generators(func: Callable[..., Any], instead: str) -> None:
    """Raise `ValidationError` for a generator function, whose result can be read only once."""
    inner = inspect.unwrap(func)
    if inspect.isgeneratorfunction(inner) or inspect.isasyncgenfunction(inner):
        raise ValidationError(
            f"{getattr(func, '__qualname__', func)} is a generator function, whose result can be read only once.",
            suggestions=(f"{instead} a function that returns a list or tuple.",),
        )
