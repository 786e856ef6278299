"""How runs begin and end, for every caller: the tracker, MLflow's client, an import that is resumed.

Validation, the names of runs, hooks, events and audit are here and nowhere else. A door to the store that has other
words for a run (`ops.registry.mlflow`) calls this, and writes nothing that was not requested here.
"""

from __future__ import annotations

import dataclasses
from time import time_ns
from typing import TYPE_CHECKING, Any, Protocol, TypeVar

from ops.registry.errors import InvalidValueError
from ops.registry.events import EventType, HookType
from ops.registry.plain_values import plain_parameters
from ops.registry.records import RunStatus
from ops.registry.run_frames import ExtraAdded, ParametersLogged, RunStarted
from ops.registry.tracking.run_ids import new_run_id
from ops.registry.validators import (
    check_mapping,
    check_name,
    check_status,
    check_text,
    text_tags,
)

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

    from ops.registry.operations import Operations
    from ops.registry.records import Experiment
    from ops.registry.run_frames import Frame
    from ops.registry.run_rows import RunRow

__all__ = ["NewRun", "RunLife", "final_status"]

T = TypeVar("T")
#: As long as those of experiments, and as MLflow's clients may give them.
_LONGEST_NAME = 500
#: Too many to audit.
_PER_POINT = {EventType.METRIC_LOGGED, EventType.PARAMETER_LOGGED}
#: What is reported besides RUN_ENDED.
_ENDS = {
    RunStatus.COMPLETED: EventType.RUN_COMPLETED,
    RunStatus.FAILED: EventType.RUN_FAILED,
    RunStatus.CANCELLED: EventType.RUN_CANCELLED,
}


@dataclasses.dataclass(frozen=True, slots=True)
class NewRun:
    """A requested run.

    An import from elsewhere gives *run_id* and *started_at* (nanoseconds); *extras* are kept for that
    program, by kind. *needs_parent* is False where the parent may be a run that is not here.
    """

    experiment_id: str
    name: str | None = None
    parent_run_id: str | None = None
    tags: Mapping[str, Any] | None = None
    parameters: Mapping[str, Any] | None = None
    run_id: str | None = None
    started_at: int | None = None
    extras: Sequence[tuple[str, Any]] = ()
    needs_parent: bool = True


class _Experiments(Protocol):
    def get(self, experiment_id: str) -> Experiment: ...


class _Runs(Protocol):
    def home(self, run_id: str) -> str: ...

    def begin(self, start: RunStarted, frames: Sequence[Frame]) -> RunRow: ...


class RunLife:
    """Starts and ends the runs of one store; *experiments* and *runs* are where that keeps them."""

    def __init__(self, experiments: _Experiments, runs: _Runs, operations: Operations) -> None:
        self._experiments = experiments
        self._runs = runs
        self._operations = operations

    def start(self, new: NewRun) -> RunRow:
        """Start a run, which others see at once, unless a hook refuses it; return its row."""
        self._check(new.experiment_id, new.parent_run_id, needs_parent=new.needs_parent)
        requested: dict[str, Any] = {
            "experiment_id": new.experiment_id,
            "name": new.name,
            "parent_run_id": new.parent_run_id,
            "tags": dict(check_mapping("tags", new.tags)),
            "parameters": plain_parameters("parameters", new.parameters),
        }
        requested = self._operations.before(HookType.PRE_RUN_START, requested)
        home, parent = requested["experiment_id"], requested["parent_run_id"]
        if (home, parent) != (new.experiment_id, new.parent_run_id):
            self._check(home, parent, needs_parent=new.needs_parent)
        start = _started(new, requested)
        given = plain_parameters("parameters", requested["parameters"])
        frames: list[Frame] = [ExtraAdded(kind, value, start.at) for kind, value in new.extras]
        if given:
            frames.append(ParametersLogged(given, start.at))
        row = self._runs.begin(start, frames)
        data = {"run_id": start.run_id, "experiment_id": home, "name": start.name}
        self.report(EventType.RUN_STARTED, data, HookType.POST_RUN_START)
        return row

    def end(
        self,
        run_id: str,
        status: object,
        error: str | None,
        write: Callable[[RunStatus, str | None], T],
    ) -> T:
        """Return what *write* gives, which ends a run with the status and error that the hooks leave."""
        requested: dict[str, Any] = {
            "run_id": run_id,
            "experiment_id": self._runs.home(run_id),
            "status": str(final_status(status)),
            "error": error,
        }
        requested = self._operations.before(
            HookType.PRE_RUN_END, requested, fixed=("run_id", "experiment_id")
        )
        final = final_status(requested["status"])
        if requested["error"] is not None:
            check_text("error", requested["error"])
        requested["status"] = str(final)
        ended = write(final, requested["error"])
        self.report(EventType.RUN_ENDED, requested, HookType.POST_RUN_END)
        self.report(_ENDS[final], requested)
        return ended

    def report(self, event: EventType, data: dict[str, Any], hook: HookType | None = None) -> None:
        """Report what was done to a run: event, counter, audit, and a post-hook."""
        run = None if event in _PER_POINT else data.get("run_id")
        self._operations.after(event, data, hook=hook, resource=run and f"run:{run}")

    def _check(self, experiment_id: str, parent_run_id: str | None, *, needs_parent: bool) -> None:
        """Refuse a run in an experiment that is not there, or was deleted, or below a run that is not there."""
        experiment = self._experiments.get(experiment_id)
        if experiment.deleted_at is not None:
            raise InvalidValueError(
                f"The experiment {experiment.name!r} was deleted, so no run can start in it.",
                suggestions=(f"restore_experiment({experiment_id!r}) takes it back.",),
            )
        if needs_parent and parent_run_id is not None:
            self._runs.home(parent_run_id)


def _started(new: NewRun, requested: Mapping[str, Any]) -> RunStarted:
    """Return the start of a run as the hooks have left what was *requested*."""
    home = requested["experiment_id"]
    run_id = new_run_id(home) if new.run_id is None else new.run_id
    name = f"run-{run_id[-8:]}" if requested["name"] is None else requested["name"]
    return RunStarted(
        run_id,
        home,
        check_name("a run", name, _LONGEST_NAME),
        time_ns(),
        requested["parent_run_id"],
        text_tags(requested["tags"]),
        started_at=new.started_at,
    )


def final_status(status: object) -> RunStatus:
    """Return the status that a run ends with, or refuse one that is not final."""
    known = check_status(status)
    if not known.is_final:
        raise InvalidValueError(f"A run cannot end as {known}.")
    return known
