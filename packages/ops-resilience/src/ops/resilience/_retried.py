"""The type of a function that retries: called as before, with the counters of its attempts."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Concatenate, ParamSpec, Protocol, TypeVar, overload

if TYPE_CHECKING:
    from collections.abc import Callable

    from ops.resilience._retry_policy import RetryStats

P = ParamSpec("P")
Q = ParamSpec("Q")
R_co = TypeVar("R_co", covariant=True)


class Retried(Protocol[P, R_co]):
    """A function or method whose failed calls are repeated. Made by `retry` and its relatives."""

    __name__: str
    __wrapped__: Callable[..., Any]

    @overload
    def __get__(self, owner: None, kind: type, /) -> Retried[P, R_co]: ...
    @overload
    def __get__(
        self: Retried[Concatenate[Any, Q], R_co], owner: object, kind: type | None = None, /
    ) -> Callable[Q, R_co]: ...
    def __get__(self, owner: Any, kind: type | None = None, /) -> Any:
        """Bind to an instance, as functions do."""
        ...

    def __call__(self, *args: P.args, **kwargs: P.kwargs) -> R_co:
        """Call the function, again when it fails."""
        ...

    def get_stats(self) -> RetryStats:
        """Return a copy of the counters of this function, over all its callers."""
        ...
