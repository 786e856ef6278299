"""A base for components with a life: made, started, stopped or failed, and counted on the way.

`BaseMLOpsComponent` holds the state and the counts; a subclass defines what starting and stopping do.
Whatever raises while the component works marks it FAILED, with the error kept; starting again is
allowed from there.
"""

from __future__ import annotations

import contextlib
import threading
import time
from enum import StrEnum
from typing import TYPE_CHECKING, Any, Self

from ops.registry.errors import ComponentStateError

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

__all__ = ["BaseMLOpsComponent", "ComponentState"]


class ComponentState(StrEnum):
    """Where a component is in its life."""

    CREATED = "created"
    RUNNING = "running"
    STOPPED = "stopped"
    FAILED = "failed"


class BaseMLOpsComponent:
    """A component with a name, a state and counts; its ``with`` block starts and stops it."""

    def __init__(self, name: str, *, clock: Callable[[], float] = time.monotonic) -> None:
        self.name = name
        self._clock = clock
        self._state = ComponentState.CREATED
        self._error: BaseException | None = None
        self._changing = threading.RLock()
        self._operations = 0
        self._errors = 0
        self._busy_seconds = 0.0

    @property
    def state(self) -> ComponentState:
        """Where the component is in its life."""
        return self._state

    @property
    def last_error(self) -> BaseException | None:
        """What it failed with, if it did."""
        return self._error

    def start(self) -> Self:
        """Start, unless it runs already."""
        with self._changing:
            if self._state is not ComponentState.RUNNING:
                self._run_step(self._on_start)
                self._state = ComponentState.RUNNING
                self._error = None
        return self

    def stop(self) -> None:
        """Stop, if it runs."""
        with self._changing:
            if self._state is ComponentState.RUNNING:
                self._run_step(self._on_stop)
                self._state = ComponentState.STOPPED

    @contextlib.contextmanager
    def operation(self) -> Iterator[None]:
        """Count a block as one operation; raises `ComponentStateError` unless the component runs."""
        if self._state is not ComponentState.RUNNING:
            raise ComponentStateError(f"{self.name} is {self._state}; it must be started first.")
        began = self._clock()
        failed = True
        try:
            yield
            failed = False
        finally:
            with self._changing:
                self._operations += 1
                self._errors += failed
                self._busy_seconds += self._clock() - began

    def get_stats(self) -> dict[str, Any]:
        """Return name, state, and how many operations there were, failed, and how long they took."""
        with self._changing:
            return {
                "name": self.name,
                "state": str(self._state),
                "operations": self._operations,
                "errors": self._errors,
                "busy_seconds": self._busy_seconds,
                "last_error": None if self._error is None else repr(self._error),
            }

    def health_check(self) -> bool:
        """Whether it has not failed; what `ComponentHealthCheck` asks."""
        return self._state is not ComponentState.FAILED

    def __enter__(self) -> Self:
        return self.start()

    def __exit__(self, *exc: object) -> None:
        self.stop()

    def _on_start(self) -> None:
        """Do what starting means; for subclasses."""

    def _on_stop(self) -> None:
        """Do what stopping means; for subclasses."""

    def _fail(self, error: BaseException) -> None:
        with self._changing:
            self._state, self._error = ComponentState.FAILED, error

    def _run_step(self, step: Callable[[], None]) -> None:
        try:
            step()
        except BaseException as error:
            self._fail(error)
            raise
