"""`deprecated` of PEP 702 for Python 3.11 and 3.12, which lack `warnings.deprecated`."""

from __future__ import annotations

import functools
import inspect
import sys
import warnings
from typing import Any

__all__ = ["deprecated"]


class deprecated:  # noqa: N801 - the standard library's name
    """Mark a function or class as deprecated: calling, instantiating or subclassing it warns.

    *message* names what to use instead. *category* None only marks it (`__deprecated__`) and never
    warns. *stacklevel* is whose line the warning shows: 1 is the caller's.
    """

    def __init__(
        self,
        message: str,
        /,
        *,
        category: type[Warning] | None = DeprecationWarning,
        stacklevel: int = 1,
    ) -> None:
        if not isinstance(message, str):
            raise TypeError(f"The message must be text, not {type(message).__name__}.")
        self.message = message
        self.category = category
        self.stacklevel = stacklevel

    def __call__(self, target: Any, /) -> Any:
        """Return *target* marked, and warning unless the category is None."""
        if self.category is None:
            target.__deprecated__ = self.message
            return target
        return self._class(target) if isinstance(target, type) else self._function(target)

    def _warn(self) -> None:
        # Two frames between the caller and here.
        warnings.warn(self.message, self.category, stacklevel=self.stacklevel + 2)

    def _function(self, func: Any) -> Any:
        @functools.wraps(func)
        def wrapper(*args: Any, **kwargs: Any) -> Any:
            self._warn()
            return func(*args, **kwargs)

        if sys.version_info >= (3, 12) and inspect.iscoroutinefunction(func):
            wrapper = inspect.markcoroutinefunction(wrapper)
        func.__deprecated__ = wrapper.__deprecated__ = self.message  # type: ignore[attr-defined]  # PEP 702
        return wrapper

    def _class(self, cls: Any) -> Any:
        original_new = cls.__new__
        original_subclass = cls.__init_subclass__

        def new(kind: type, /, *args: Any, **kwargs: Any) -> Any:
            if kind is cls:
                self._warn()
            if original_new is not object.__new__:
                return original_new(kind, *args, **kwargs)
            if cls.__init__ is object.__init__ and (args or kwargs):
                raise TypeError(f"{kind.__name__}() takes no arguments")
            return original_new(kind)

        def init_subclass(*args: Any, **kwargs: Any) -> Any:
            self._warn()
            return original_subclass(*args, **kwargs)

        cls.__new__ = staticmethod(new)
        if hasattr(original_subclass, "__func__"):
            bound = original_subclass.__func__

            def init_subclass_bound(kind: type, /, *args: Any, **kwargs: Any) -> Any:
                self._warn()
                return bound(kind, *args, **kwargs)

            cls.__init_subclass__ = classmethod(init_subclass_bound)
        else:
            cls.__init_subclass__ = staticmethod(init_subclass)
        cls.__deprecated__ = new.__deprecated__ = self.message  # type: ignore[attr-defined]  # PEP 702
        return cls
