"""What tracking needs of a backend: a repository of runs, the experiments that they belong to, and their files.

The rules of tracking (validation, names, hooks, events, transitions, blocks) are in `ops.registry.tracking` and
nowhere else. A backend keeps what they decide: a run begins with a `RunStarted`, everything that happens to it is one
more frame, and what it comes to is the same fold of frames, or what a warehouse makes of them, for every backend. So
a backend has no rule of its own: it appends, finds and returns. `ops.registry.conformance` tests whether it does.
"""

from __future__ import annotations

import dataclasses
from typing import TYPE_CHECKING, Any, Protocol

if TYPE_CHECKING:
    import pathlib
    from collections.abc import Callable, Collection, Iterable, Mapping, Sequence

    from ops.registry.records import Artifact, Experiment, Metric, Run
    from ops.registry.run_copies import RunCopy
    from ops.registry.run_frames import Frame, RunEnded, RunStarted
    from ops.registry.run_rows import RunRow
    from ops.registry.search.query import Query
    from ops.registry.tracking.metric_encoding import KeyedPoint

__all__ = ["ExperimentStore", "Follower", "RunFiles", "RunRepository", "TrackingBackend"]


class ExperimentStore(Protocol):
    """The experiments; a name is taken by one of them, also among concurrent calls."""

    def create(self, name: str, description: str, tags: Mapping[str, str]) -> Experiment:
        """Add an experiment; a name that is taken is an `AlreadyExistsError`."""
        ...

    def adopt(self, experiment: Experiment) -> Experiment:
        """Return the experiment of that name, which is *experiment* itself if it is new here."""
        ...

    def change(self, experiment_id: str, **changes: Any) -> Experiment:
        """Change *name* (which must be free), *tags* (None removes one) or *deleted* (nanoseconds or None)."""
        ...

    def all(self) -> list[Experiment]:
        """Return all experiments, deleted ones too, in the order they were created."""
        ...

    def get(self, experiment_id: str) -> Experiment:
        """Return one by its id, or raise `ExperimentNotFoundError`."""
        ...

    def named(self, name: str) -> Experiment:
        """Return one by its name, or raise `ExperimentNotFoundError`."""
        ...


class Follower(Protocol):
    """Returns what is new in a run on each call."""

    @property
    def is_behind(self) -> bool:
        """Whether there is more already, so that waiting before the next `poll` is of no use."""
        ...

    @property
    def is_ending(self) -> bool:
        """Whether the run seems to be over: the next `poll` returns that for certain, with what was logged last."""
        ...

    def poll(self) -> tuple[list[Metric], bool]:
        """Return the points that are new, by time, and whether the run is over."""
        ...


class RunRepository(Protocol):
    """The runs. An unknown run is a `RunNotFoundError` in each method; the rules have checked all else."""

    def begin(self, start: RunStarted, frames: Sequence[Frame]) -> RunRow:
        """Add a run, with the *frames* that come right after its start: all of it is there, or nothing.

        Returns what it comes to, which is not used here any more (`ops.registry.tracking.run_state.folded`).
        """
        ...

    def home(self, run_id: str) -> str:
        """Return the id of the experiment of a run."""
        ...

    def is_open(self, run_id: str) -> bool:
        """Whether this process has logged to a run and has not ended it: then no other store has to be read."""
        ...

    def now(self, run_id: str) -> int:
        """Return the time for what is logged now, in nanoseconds: later than all that this process has logged."""
        ...

    def append(self, run_id: str, event: Frame) -> None:
        """Keep what happened to a run; when this returns, a kill of the process cannot lose it."""
        ...

    def append_points(self, run_id: str, points: Iterable[KeyedPoint], body: bytes) -> None:
        """Do as `append` with points of metrics, of which `points_body` made *body*: training loops wait for it."""
        ...

    def end(self, run_id: str, ended: RunEnded) -> Run:
        """Append the end of a run, of which nothing more is expected here, and return the run."""
        ...

    def change(self, run_id: str, fields: Mapping[str, Any], at: int) -> None:
        """Change fields of a run's row, such as its status or since when it is deleted."""
        ...

    def erase(self, run_id: str) -> None:
        """Delete a run for ever; its artifacts stay."""
        ...

    def run(self, run_id: str) -> Run:
        """Return a run as it is now; nothing in it is used here any more."""
        ...

    def found(self, experiment_ids: Sequence[str], query: Query) -> list[Run]:
        """Return the runs of experiments, which must exist, that a query is about, in its order."""
        ...

    def count(self, experiment_ids: Sequence[str], query: Query) -> int:
        """Return how many runs a query is about, whatever its limit."""
        ...

    def history(self, run_id: str, key: str) -> list[Metric]:
        """Return all points of one metric by step, then time; none when it was never logged."""
        ...

    def follower(self, run_id: str) -> Follower:
        """Return what reports the points of a run as they arrive, from whatever process."""
        ...

    def export(self, run_id: str) -> RunCopy:
        """Return all that a run comes to, for another store."""
        ...

    def adopt(self, copy: RunCopy, experiment_id: str, artifacts: Sequence[Frame]) -> None:
        """Add, or replace, a run of another store, at once; *artifacts* are the frames that `RunFiles.adopt` gave."""
        ...

    def rows(self, experiment_id: str) -> list[RunRow]:
        """Return the rows of an experiment's runs, oldest first, as the store has them."""
        ...

    def compact(self) -> int:
        """Tidy up what makes reading fast, and return the number of runs."""
        ...

    def rebuild(self) -> int:
        """Make again what can be made from the frames, and return the number of runs."""
        ...

    def close(self) -> None:
        """Close what is open; runs that were not ended stay RUNNING."""
        ...


class RunFiles(Protocol):
    """The artifacts of runs."""

    def keep(
        self, run_id: str, source: pathlib.Path, name: str, *, overwrite: bool
    ) -> tuple[Artifact, bool]:
        """Keep a copy of a file or folder as the artifact *name*; return it, and whether it is new.

        The same content under the same name changes nothing. Other content, or a name inside or around that of
        another artifact, is an `AlreadyExistsError`; *overwrite* replaces the artifact of that very name.
        """
        ...

    def fetch(self, run_id: str, name: str, target: pathlib.Path, *, overwrite: bool) -> None:
        """Copy the artifact *name* to *target* and verify it; other content that is there is an `AlreadyExistsError`.

        A run without an artifact of that name is an `ArtifactNotFoundError` (`ops.registry.errors.no_artifact`).
        """
        ...

    def verify(self, run_id: str, found: Sequence[Artifact]) -> None:
        """Raise `CorruptStoreError` unless each of the artifacts is what was logged."""
        ...

    def remove(self, run_id: str, gone: Sequence[Artifact]) -> None:
        """Remove the artifacts of a run that was erased."""
        ...

    def adopt(
        self,
        copy: RunCopy,
        experiment_id: str,
        fetch: Callable[[str, pathlib.Path], pathlib.Path],
    ) -> Sequence[Frame]:
        """Bring the artifacts of a run of another store here; *fetch* copies one of them, by name, to a path.

        Returns the frames that say where they are.
        """
        ...

    def folder(self, run_id: str) -> pathlib.Path:
        """Return the local folder with the artifacts of a run; a `BackendUnavailableError` where there is none."""
        ...

    def left_over(self, before_seconds: float) -> list[str]:
        """Return addresses of what was kept elsewhere since before a time and belongs to no run."""
        ...

    def clear(self, uris: Collection[str]) -> None:
        """Remove what `left_over` returned."""
        ...

    def close(self) -> None:
        """Close connections."""
        ...


@dataclasses.dataclass(frozen=True, slots=True)
class TrackingBackend:
    """The parts of a backend; *root* is where its files are on this machine, if it has files there."""

    root: Any
    experiments: ExperimentStore
    runs: RunRepository
    files: RunFiles
