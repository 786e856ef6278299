"""Hooks: callbacks that may change what an operation works on, or forbid it.

The hooks of one type form a pipeline: each gets the data that the one before returned (None keeps
it). A hook that raises vetoes the operation, and its error reaches the caller unchanged, which is
the difference to an event: events report, hooks take part. The chains are immutable tuples that
registering replaces, so executing takes no lock.
"""

from __future__ import annotations

import inspect
import threading
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Literal, TypeAlias, TypeVar, overload

from ops.foundation.callables import is_awaited
from ops.foundation.errors import described
from ops.foundation.forks import keep_over_forks
from ops.foundation.logs import get_logger
from ops.observe.errors import SignatureError

if TYPE_CHECKING:
    import logging
    from collections.abc import Callable, Mapping

__all__ = ["HooksManager", "get_hooks_manager"]

logger: logging.Logger = get_logger("ops.observe")

Callback: TypeAlias = "Callable[..., Any]"
_C = TypeVar("_C", bound="Callable[..., Any]")


@dataclass(frozen=True, slots=True)
class _Hook:
    callback: Callback
    priority: int
    takes_type: bool


class HooksManager:
    """Registers hooks by type (any string or `StrEnum` member) and executes them in order.

    A higher *priority* runs earlier; equal ones run in the order of registration. A callback takes
    `(data)` or `(hook_type, data)`: its required positional parameters decide.

    >>> hooks = HooksManager()
    >>> @hooks.register("before_save", priority=10)
    ... def rounded(data):
    ...     return {name: round(value, 2) for name, value in data.items()}
    >>> hooks.execute("before_save", {"loss": 0.12345})
    {'loss': 0.12}
    """

    def __init__(self) -> None:
        self._chains: Mapping[str, tuple[_Hook, ...]] = {}
        # Re-entrant: a signal handler may register while it interrupts a registration.
        self._lock = threading.RLock()
        keep_over_forks(self)
        self._hook_errors = 0

    @overload
    def register(self, hook_type: str, *, priority: int = 0) -> Callable[[_C], _C]: ...
    @overload
    def register(self, hook_type: str, callback: _C, *, priority: int = 0) -> _C: ...
    def register(
        self, hook_type: str, callback: Callback | None = None, *, priority: int = 0
    ) -> Callback:
        """Add a hook to *hook_type*: as a decorator, or directly with *callback*. Return the callback.

        A higher *priority* runs earlier. Raises `SignatureError` for a coroutine function and for
        one that takes neither `(data)` nor `(hook_type, data)`.
        """
        if callback is None:
            return lambda decorated: self.register(hook_type, decorated, priority=priority)
        hook = _Hook(callback, priority, _takes_type(callback))
        with self._lock:
            chain = [*self._chains.get(hook_type, ()), hook]
            chain.sort(key=lambda h: -h.priority)  # stable: registration order within a priority
            self._chains = {**self._chains, hook_type: tuple(chain)}
        return callback

    def unregister(self, hook_type: str, callback: Callback) -> bool:
        """Remove *callback* from *hook_type*; False when it is not there."""
        with self._lock:
            chain = self._chains.get(hook_type, ())
            rest = tuple(h for h in chain if h.callback != callback)
            self._chains = {**self._chains, hook_type: rest}
        return len(rest) < len(chain)

    def clear(self, hook_type: str | None = None) -> None:
        """Remove the hooks of one type, or all of them."""
        with self._lock:
            self._chains = (
                {}
                if hook_type is None
                else {k: v for k, v in self._chains.items() if k != hook_type}
            )

    def hook_count(self, hook_type: str | None = None) -> int:
        """Return how many hooks are registered for *hook_type*; without it, for all."""
        if hook_type is None:
            return sum(map(len, self._chains.values()))
        return len(self._chains.get(hook_type, ()))

    @property
    def hook_errors(self) -> int:
        """How many errors ``execute(..., on_error="log")`` kept from its caller."""
        return self._hook_errors

    def execute(
        self, hook_type: str, data: Any = None, *, on_error: Literal["raise", "log"] = "raise"
    ) -> Any:
        """Run the hooks of *hook_type* on *data* and return what the last one left.

        With ``on_error="log"``, meant for hooks after the fact, a failing hook is logged and
        counted and the others go on with the data it was given.

        Raises what a hook raises (with "raise"), and `SignatureError` when one returns a coroutine.
        """
        for hook in self._chains.get(hook_type, ()):
            try:
                result = hook.callback(hook_type, data) if hook.takes_type else hook.callback(data)
            except Exception as error:
                if on_error == "raise":
                    raise
                self._failed(hook_type, hook, error)
                continue
            if result is not None:
                data = _settled(hook, result)
        return data

    @property
    def mutex(self) -> threading.RLock:
        """The lock of the registrations; see `ops.foundation.forks`."""
        return self._lock

    def _failed(self, hook_type: str, hook: _Hook, error: Exception) -> None:
        with self._lock:
            self._hook_errors += 1
        name = getattr(hook.callback, "__qualname__", type(hook.callback).__name__)
        # The error by its type only: its text may hold a secret.
        logger.error("hook %s of %r failed with %s", name, str.__str__(hook_type), described(error))


def _settled(hook: _Hook, result: Any) -> Any:
    """Return *result*; raises SignatureError for a coroutine, which nothing here can await."""
    if inspect.iscoroutine(result):
        result.close()
        raise SignatureError(f"Hook {hook.callback!r} returned a coroutine; hooks run and wait.")
    return result


def _takes_type(callback: Callback) -> bool:
    """Say whether *callback* wants `(hook_type, data)`; refuse what neither form could call."""
    if is_awaited(callback):
        raise SignatureError(
            f"Hook {callback!r} is asynchronous; hooks run inside a call and wait."
        )
    try:
        parameters = inspect.signature(callback).parameters.values()
    except ValueError:  # some builtins have no signature
        return False
    positional = [p for p in parameters if p.kind <= p.POSITIONAL_OR_KEYWORD]
    required = sum(p.default is p.empty for p in positional)
    takes_any = any(p.kind is p.VAR_POSITIONAL for p in parameters)
    keywords = [p for p in parameters if p.kind is p.KEYWORD_ONLY and p.default is p.empty]
    if required > 2 or keywords or not (positional or takes_any):
        raise SignatureError(
            f"Hook {callback!r} must accept (data) or (hook_type, data), and takes "
            f"{inspect.signature(callback)}."
        )
    return required == 2


_hooks = HooksManager()


def get_hooks_manager() -> HooksManager:
    """Return the hooks that the whole process shares."""
    return _hooks
