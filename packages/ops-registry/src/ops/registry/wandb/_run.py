"""A run with W&B's methods, written to a store of ours call by call: a kill loses nothing that was logged.

Where W&B holds a step back until it is committed, each call is on disk here when it returns; a value that is logged
again at its step is the one that counts. A step before the current one is kept, where W&B drops it.
"""

from __future__ import annotations

import fnmatch
import glob
import os
import pathlib
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any, Self

from ops.foundation.files import temporary_directory
from ops.registry.errors import InvalidValueError, NotFoundError
from ops.registry.logged_values import flattened, safe_name
from ops.registry.records import RunStatus
from ops.registry.wandb.errors import not_offered
from ops.registry.wandb.fields import Config, Summary
from ops.registry.wandb.media import Media, Plain

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable
    from types import TracebackType

    from ops.foundation.files import StrPath
    from ops.registry import records
    from ops.registry.context import MLOpsContext

__all__ = ["Run"]

_SUMMARIES = ("last", "min", "max", "first", "none", "copy", "best")
_POLICIES = ("live", "now", "end")


class Run:
    """A run that goes on; `ops.registry.wandb.init` makes it."""

    def __init__(
        self,
        context: MLOpsContext,
        run: records.Run,
        project: str,
        *,
        done: Callable[[Run], object] = lambda _: None,
    ) -> None:
        self._context = context
        self._tracker = context.experiment_tracker
        self._run_id = run.run_id
        self._done = done
        self.project: str = project
        self.config: Config = Config(self)
        self.summary: Summary = Summary(self)
        self.is_finished: bool = False
        #: The process that started it, which ends it.
        self.process: int = os.getpid()
        steps = [summary.last_step for summary in run.metric_summaries.values()]
        self._step = max(steps) + 1 if steps else 0
        self._rules: list[tuple[str, str | None, str | None]] = []
        self._last: dict[str, float] = {}
        self._saved: dict[tuple[str, str], None] = {}

    @property
    def id(self) -> str:
        """The id that the run was started with, else that of the store."""
        return self.record().tags.get("wandb_id", self._run_id)

    @property
    def run_id(self) -> str:
        """The id that ops.registry has for it."""
        return self._run_id

    @property
    def name(self) -> str:
        """What the run is called."""
        return self.record().name

    @property
    def group(self) -> str | None:
        """The group of runs that it belongs to."""
        return self.record().tags.get("group")

    @property
    def job_type(self) -> str | None:
        """What kind of run of its group it is."""
        return self.record().tags.get("job_type")

    @property
    def notes(self) -> str | None:
        """The notes on it."""
        return self.record().tags.get("mlflow.note.content")

    @property
    def tags(self) -> tuple[str, ...]:
        """Its labels."""
        labels = self.record().tags.get("labels")
        return tuple(labels.split(", ")) if labels else ()

    @property
    def step(self) -> int:
        """The step that the next `log` without one gets."""
        return self._step

    def log(
        self,
        data: Mapping[str, Any],
        step: int | None = None,
        commit: bool | None = None,  # noqa: FBT001 - W&B's signature
    ) -> None:
        """Log values of one step: numbers, nested mappings (joined by "."), tables, images, histograms, texts.

        Without *step* it is the current one, which is over then unless *commit* is False. With a *step* the next call
        stays at it unless *commit* is True.
        """
        self._require_open()
        if not isinstance(data, Mapping):
            raise InvalidValueError(
                f"log takes a mapping such as {{'loss': 0.5}}, not {data!r:.80}."
            )
        if step is not None and (isinstance(step, bool) or not hasattr(step, "__index__")):
            raise InvalidValueError(f"step is a whole number, not {step!r:.80}.")
        at = self._step if step is None else int(step)
        numbers, others = _parted(flattened(dict(data)))
        self._last |= numbers
        self._tracker.log_batch(
            self._run_id, [(key, value, self._axis(key, at)) for key, value in numbers.items()]
        )
        for key, value in others.items():
            self._keep(key, value, at)
        is_over = step is None if commit is None else commit
        self._step = max(self._step, at + 1 if is_over else at)

    def define_metric(
        self,
        name: str,
        step_metric: str | None = None,
        step_sync: bool | None = None,  # noqa: FBT001 - W&B's signature
        hidden: bool | None = None,  # noqa: FBT001 - W&B's signature
        summary: str | None = None,
        goal: str | None = None,
        overwrite: bool | None = None,  # noqa: FBT001 - W&B's signature
    ) -> None:
        """Let *name*, which may end in "*", go over *step_metric* instead of the step, and choose its summary.

        *summary* is "last", "min", "max" or "none"; with "best" it is the *goal*, "minimize" or "maximize". Points of
        such a metric are at the value of *step_metric*, as far as that is a whole number.
        """
        del step_sync, hidden, overwrite
        if summary is not None and summary not in _SUMMARIES:
            raise InvalidValueError(
                f"summary={summary!r:.40} is not kept; use one of {list(_SUMMARIES)}.",
                suggestions=("Compute a mean yourself and set it in summary.",),
            )
        if summary == "best":
            summary = "max" if goal == "maximize" else "min"
        self._rules.append((name, step_metric, summary))

    def save(
        self, glob_str: StrPath, base_path: StrPath | None = None, policy: str = "live"
    ) -> list[str]:
        """Keep files with the run; return their names there.

        *glob_str* is a path or a pattern. Names are relative to *base_path*, without it those of a relative path stay
        as they are, and of an absolute one the file's own is left. With *policy* "live" or "end" they are kept again
        when the run finishes, as they are then.
        """
        self._require_open()
        if policy not in _POLICIES:
            raise InvalidValueError(
                f"policy={policy!r:.40} is unknown; use one of {list(_POLICIES)}."
            )
        kept = []
        for path in sorted(glob.glob(os.fspath(glob_str))):  # noqa: PTH207 - a pattern with its folder
            name = _name_of(path, base_path)
            kept.append(name)
            self._save(path, name)
            if policy != "now":
                self._saved[os.path.abspath(path), name] = None  # noqa: PTH100 - not through links
        if not kept and not glob.has_magic(os.fspath(glob_str)):
            raise InvalidValueError(f"There is no file {os.fspath(glob_str)!r:.200} to save.")
        return kept

    def finish(self, exit_code: int | None = None, quiet: bool | None = None) -> None:  # noqa: FBT001 - W&B's
        """End the run: COMPLETED, or FAILED with an *exit_code* other than 0. Called again, it does nothing."""
        del quiet
        if self.is_finished:
            return
        for path, name in self._saved:
            if os.path.exists(path):  # noqa: PTH110 - a string
                self._save(path, name)
        self.is_finished = True
        failed = exit_code not in {None, 0}
        error = f"exit code {exit_code}" if failed else None
        status = RunStatus.FAILED if failed else RunStatus.COMPLETED
        self._tracker.end_run(self._run_id, status, error)
        self._done(self)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.finish(0 if kind is None else 1)

    def __getattr__(self, name: str) -> Any:
        raise not_offered("Run", name)

    # What config and summary are made of

    def record(self) -> records.Run:
        """Return the run as ops.registry has it now."""
        return self._tracker.get_run(self._run_id)

    def log_parameters(self, values: Mapping[str, Any]) -> None:
        """Log parameters, as `Config` checked them."""
        self._require_open()
        if values:
            self._tracker.log_parameters(self._run_id, values)

    def summarize(self, values: Mapping[str, Any]) -> None:
        """Set values of the summary: numbers as last values, all else as tags."""
        self._require_open()
        numbers, others = _parted(flattened(dict(values)))
        at = self._step
        self._tracker.log_batch(self._run_id, [(k, v, at) for k, v in numbers.items()])
        if others:
            self._tracker.set_tags(self._run_id, {f"summary.{k}": v for k, v in others.items()})

    def summary_values(self) -> dict[str, Any]:
        """Return the summary: a value per metric, and what was set beside them."""
        run = self.record()
        found: dict[str, Any] = {}
        for key, one in run.metric_summaries.items():
            chosen = self._rule(key, 2) or "last"
            if chosen != "none":
                values = {"min": one.minimum, "max": one.maximum}
                found[key] = values.get(chosen, one.last)
        marked = {k: v for k, v in run.tags.items() if k.startswith("summary.")}
        return found | {key.removeprefix("summary."): value for key, value in marked.items()}

    def _axis(self, key: str, at: int) -> int:
        """Return the step of a point: the value of its own metric for that, if it has one."""
        metric = self._rule(key, 1)
        value = None if metric is None or metric == key else self._last.get(metric)
        return at if value is None or not value.is_integer() else int(value)

    def _rule(self, key: str, field: int) -> str | None:
        """Return what the last rule about a metric gives that has something; one of its own name comes first."""
        matching = [
            r for r in self._rules if r[field] is not None and fnmatch.fnmatchcase(key, r[0])
        ]
        exact = [rule for rule in matching if rule[0] == key]
        found = (exact or matching)[-1:]
        return found[0][field] if found else None

    def _keep(self, key: str, value: Any, at: int) -> None:
        """Keep what is no number as a file of its name and step; a list of media as one file each."""
        several = value if isinstance(value, (list, tuple)) else None
        if several and all(isinstance(one, Media) for one in several):
            named = [(f"{at}-{number}", one) for number, one in enumerate(several)]
        else:
            named = [(str(at), value if isinstance(value, Media) else Plain(value))]
        with temporary_directory() as folder:
            for stem, one in named:
                path = one.write(folder, stem)
                below = f"logged/{safe_name(key)}"
                self._tracker.log_artifact(self._run_id, path, below, overwrite=True)

    def _save(self, path: str, name: str) -> None:
        above = str(pathlib.PurePosixPath(name).parent)
        below = None if above == "." else above
        self._tracker.log_artifact(self._run_id, path, below, overwrite=True)

    def _require_open(self) -> None:
        if self.is_finished:
            raise InvalidValueError(
                f"Run {self._run_id} is finished.",
                suggestions=("init(id=..., resume='allow') goes on with it.",),
            )


def find_run(context: MLOpsContext, experiment_id: str, own_id: str) -> records.Run | None:
    """Return the run of an experiment that was started with *own_id*, or has it in the store."""
    tracker = context.experiment_tracker
    try:
        run = tracker.get_run(own_id)
    except (NotFoundError, InvalidValueError):
        runs: Iterable[records.Run] = tracker.list_runs(experiment_id)
        return next((one for one in runs if one.tags.get("wandb_id") == own_id), None)
    return run if run.experiment_id == experiment_id else None


def _parted(values: dict[str, Any]) -> tuple[dict[str, float], dict[str, Any]]:
    """Return the numbers, and everything else but None, of which W&B makes nothing either."""
    numbers, others = {}, {}
    for key, value in values.items():
        number = _number(value)
        if number is not None:
            numbers[key] = number
        elif value is not None:
            others[key] = value
    return numbers, others


def _number(value: Any) -> float | None:
    """Return a number of Python, NumPy or a tensor with one element; None for anything else."""
    if isinstance(value, (bool, int, float)):
        return float(value)
    if (hasattr(value, "item") and getattr(value, "size", 1) in {1, ()}) or _has_one(value):
        try:
            return float(value.item())
        except (TypeError, ValueError, RuntimeError):
            return None
    return None


def _has_one(value: Any) -> bool:
    count = getattr(value, "numel", None)
    return callable(count) and count() == 1


def _name_of(path: str, base_path: StrPath | None) -> str:
    if base_path is not None:
        relative = os.path.relpath(path, base_path)
        if relative.startswith(".."):
            raise InvalidValueError(
                f"{path!r:.200} is not below base_path={os.fspath(base_path)!r}."
            )
        return relative.replace(os.sep, "/")
    if os.path.isabs(path) or os.path.normpath(path).startswith(".."):  # noqa: PTH117 - a string
        return os.path.basename(path)  # noqa: PTH119 - a string
    return os.path.normpath(path).replace(os.sep, "/")
