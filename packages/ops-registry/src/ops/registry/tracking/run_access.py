"""What the modules of the tracker share: the backend, the rules of how runs begin and end, and the current block."""

from __future__ import annotations

import contextvars
from typing import TYPE_CHECKING

from ops.registry.tracking.run_life import RunLife

if TYPE_CHECKING:
    from ops.registry.operations import Operations
    from ops.registry.tracking.ports import TrackingBackend

__all__ = ["CURRENT_RUN", "RunAccess", "RunBlock", "current_block", "current_run_id"]


class RunBlock:
    """A `run_context` that was entered, and the one around it.

    A block may be left in another context of `contextvars` than it was entered in (async fixtures, generators in
    a pool of threads). Its variable cannot be reset there, so it is marked as over, and counts no more anywhere.
    """

    __slots__ = ("is_over", "outer", "run_id")

    def __init__(self, run_id: str, outer: RunBlock | None) -> None:
        self.run_id: str = run_id
        self.outer: RunBlock | None = outer
        self.is_over: bool = False


#: The innermost `run_context` that this thread, or this task, is in.
CURRENT_RUN: contextvars.ContextVar[RunBlock | None] = contextvars.ContextVar(
    "ops_registry_run", default=None
)


class RunAccess:
    """The runs of one tracker; `ExperimentTracker` is made of classes that build on this one."""

    def __init__(self, backend: TrackingBackend, operations: Operations) -> None:
        self.backend: TrackingBackend = backend
        self._experiments = backend.experiments
        self._runs = backend.runs
        self._files = backend.files
        self._operations = operations
        self._life = RunLife(backend.experiments, backend.runs, operations)
        self._done = self._life.report


def current_run_id() -> str | None:
    """Return the id of the run whose `run_context` this thread or task is in."""
    block = current_block()
    return None if block is None else block.run_id


def current_block() -> RunBlock | None:
    """Return the innermost block that is not over."""
    block = CURRENT_RUN.get()
    while block is not None and block.is_over:
        block = block.outer
    return block
