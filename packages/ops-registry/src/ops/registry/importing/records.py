"""What other programs have recorded, in one form: each reader makes it, and one writer takes it.

Times are whole nanoseconds since the epoch, as in journals. A run is a `RunCopy`, which every backend knows, with
what only MLflow keeps beside it.
"""

from __future__ import annotations

import dataclasses
from typing import TYPE_CHECKING, Any, Protocol

if TYPE_CHECKING:
    from collections.abc import Sequence

    from ops.registry.importing.findings import Findings
    from ops.registry.records import Experiment
    from ops.registry.run_copies import RunCopy

__all__ = [
    "ForeignFile",
    "ForeignLoggedModel",
    "ForeignModel",
    "ForeignRun",
    "ForeignStore",
    "ForeignVersion",
]


@dataclasses.dataclass(frozen=True, slots=True)
class ForeignFile:
    """A regular file; *name* is what it is called in the store, with "/" between its parts."""

    name: str
    path: str
    size: int
    modified_ns: int


@dataclasses.dataclass(slots=True)
class ForeignRun:
    """A run; *extras* are (kind, value) of what MLflow keeps with it: datasets, models in and out, user.

    Its artifacts are *files*, or *made*, by name, of what was read.
    """

    copy: RunCopy
    files: list[ForeignFile] = dataclasses.field(default_factory=list)
    extras: list[tuple[str, Any]] = dataclasses.field(default_factory=list)
    made: dict[str, bytes] = dataclasses.field(default_factory=dict)


@dataclasses.dataclass(slots=True)
class ForeignLoggedModel:
    """A logged model of MLflow 3; *metrics* are (name, value, milliseconds, step, run, dataset, digest)."""

    model_id: str
    experiment_id: str
    name: str
    created: int
    updated: int
    status: int
    is_deleted: bool = False
    model_type: str | None = None
    source_run_id: str | None = None
    params: dict[str, str] = dataclasses.field(default_factory=dict)
    tags: dict[str, str] = dataclasses.field(default_factory=dict)
    metrics: list[tuple[str, float, int, int, str, str | None, str | None]] = dataclasses.field(
        default_factory=list
    )
    files: list[ForeignFile] = dataclasses.field(default_factory=list)


@dataclasses.dataclass(slots=True)
class ForeignVersion:
    """A version of a registered model; *source* is what was registered, *location* where its files were."""

    number: int
    created: int
    updated: int
    source: str = ""
    location: str = ""
    description: str = ""
    stage: str = "None"
    run_id: str | None = None
    run_link: str | None = None
    model_id: str | None = None
    tags: dict[str, str] = dataclasses.field(default_factory=dict)
    is_deleted: bool = False


@dataclasses.dataclass(slots=True)
class ForeignModel:
    """A registered model; *versions* by number, those deleted too where the program still has them."""

    name: str
    created: int
    updated: int
    description: str = ""
    tags: dict[str, str] = dataclasses.field(default_factory=dict)
    aliases: dict[str, int] = dataclasses.field(default_factory=dict)
    versions: list[ForeignVersion] = dataclasses.field(default_factory=list)


class ForeignStore(Protocol):
    """What a reader of another program's files gives; it never writes there.

    What it finds wrong goes into *findings* and is left out; no content of a file makes it raise, but for `run`.
    """

    findings: Findings

    def experiments(self) -> Sequence[Experiment]:
        """Return all experiments, deleted ones too."""
        ...

    def run_ids(self, experiment_id: str) -> Sequence[str]:
        """Return the ids of an experiment's runs."""
        ...

    def stamp(self, run_id: str) -> str:
        """Return a text that is another one whenever anything of the run is."""
        ...

    def run(self, run_id: str) -> ForeignRun:
        """Return a run; one that cannot be read is a `ForeignDataError`."""
        ...

    def logged_models(self, experiment_id: str) -> Sequence[ForeignLoggedModel]:
        """Return the logged models of an experiment, deleted ones too."""
        ...

    def models(self) -> Sequence[ForeignModel]:
        """Return the registered models."""
        ...

    def close(self) -> None:
        """Close what is open."""
        ...
