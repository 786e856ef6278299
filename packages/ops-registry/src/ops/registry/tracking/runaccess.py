"""What the rooms of the tracker share: where the runs are, and how it is told what was done."""

from __future__ import annotations

import contextvars
from typing import TYPE_CHECKING, Any

from ops.registry.events import EventType
from ops.registry.tracking.artifactnames import ArtifactNames

if TYPE_CHECKING:
    import pathlib

    from ops.registry.disk.contents import ContentStore
    from ops.registry.events import HookType
    from ops.registry.operations import Operations
    from ops.registry.remote.artifacts import RemoteArtifacts
    from ops.registry.tracking.runstore import RunStore

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
_PER_POINT = {EventType.METRIC_LOGGED, EventType.PARAMETER_LOGGED}  # too many to audit


class RunAccess:
    """The runs of one tracker; `ExperimentTracker` is made of classes that build on this one."""

    def __init__(
        self,
        store: RunStore,
        operations: Operations,
        artifacts: pathlib.Path,
        remote: RemoteArtifacts,
        contents: ContentStore | None = None,
    ) -> None:
        self._store = store
        self._operations = operations
        self._artifacts = artifacts
        self._remote = remote
        self._contents = contents
        self._names = ArtifactNames(store, artifacts, remote)

    def _done(self, event: EventType, data: dict[str, Any], hook: HookType | None = None) -> None:
        run = None if event in _PER_POINT else data.get("run_id")
        self._operations.after(event, data, hook=hook, resource=run and f"run:{run}")


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
