"""A cached method, bound to an instance."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Generic, ParamSpec, TypeVar

if TYPE_CHECKING:
    from ops.cache.explanation import Explanation
    from ops.cache.persistent import CacheWrapper

__all__ = ["BoundCacheWrapper"]

Q = ParamSpec("Q")
R = TypeVar("R")


class BoundCacheWrapper(Generic[Q, R]):
    """What `instance.method` gives for a method under `@cache`; the instance is part of the key."""

    def __init__(self, function: CacheWrapper[Any, R], instance: Any) -> None:
        self.__func__ = function
        self.__self__ = instance

    def __call__(self, *args: Q.args, **kwargs: Q.kwargs) -> R:
        """Return the stored result of this call, or compute and store it."""
        return self.__func__(self.__self__, *args, **kwargs)

    def __getattr__(self, name: str) -> Any:
        return getattr(self.__func__, name)

    def __reduce__(self) -> Any:
        return (type(self), (self.__func__, self.__self__))

    def make(self, *args: Any, force: bool = False, **kwargs: Any) -> R:
        """Call the method; with *force* compute and store also if there is a result."""
        return self.__func__.make(self.__self__, *args, force=force, **kwargs)

    def explain(self, *args: Q.args, **kwargs: Q.kwargs) -> Explanation:
        """Return what the key of a call is made of; see `CacheWrapper.explain`."""
        return self.__func__.explain(self.__self__, *args, **kwargs)

    def clear(self) -> int:
        """Remove the stored results of the method, of all instances; return how many."""
        return self.__func__.clear()
