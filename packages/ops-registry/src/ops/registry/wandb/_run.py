"""A run with W&B's methods, written to a store of ours call by call: a kill loses nothing that was logged.

Where W&B holds a step back until it is committed, each call is on disk here when it returns; a value that is logged
again at its step is the one that counts. A step before the current one is kept, where W&B drops it.
"""

from __future__ import annotations

import contextlib
import functools
import json
import os
import threading
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any, Self

from ops.foundation.files import temporary_directory
from ops.registry.errors import InvalidValueError, described
from ops.registry.logged_values import safe_name
from ops.registry.records import RunStatus
from ops.registry.wandb._records import (
    LABELS,
    NOTES,
    SUMMARY,
    labels_of,
    labels_text,
    summary_tags,
)
from ops.registry.wandb._rules import LARGEST_STEP, Rules, summarized
from ops.registry.wandb._saving import files_below, files_to_save
from ops.registry.wandb._values import media_of, parted
from ops.registry.wandb.errors import not_offered
from ops.registry.wandb.fields import Config, Summary
from ops.registry.wandb.media import Plain

if TYPE_CHECKING:
    import pathlib
    from collections.abc import Callable, Iterable, Sequence
    from types import TracebackType

    from ops.foundation.files import StrPath
    from ops.registry import records
    from ops.registry.context import MLOpsContext
    from ops.registry.wandb._rules import Metric

__all__ = ["Run"]

_POLICIES = ("live", "now", "end")


class Run:
    """A run that goes on; `ops.registry.wandb.init` makes it."""

    def __init__(
        self,
        context: MLOpsContext,
        run: records.Run,
        project: str,
        *,
        is_resumed: bool = False,
        is_disabled: bool = False,
        done: Callable[[Run], object],
    ) -> None:
        self._context = context
        self._tracker = context.experiment_tracker
        self._run_id = run.run_id
        self._done = done
        self._project = project
        self._config = Config(self)
        self._summary = Summary(self)
        self._is_finished = False
        self._is_resumed = is_resumed
        self._is_disabled = is_disabled
        self._process = os.getpid()
        steps = [summary.last_step for summary in run.metric_summaries.values()]
        self._step = self._first_step = max(steps) + 1 if steps else 0
        self._rules = Rules()
        self._last: dict[str, float] = {}
        self._others = summary_tags(run)
        self._saved: dict[str, str] = {}
        self._folder: contextlib.ExitStack | None = None
        self._folder_path: pathlib.Path | None = None
        self._final: records.Run | None = None

    @property
    def id(self) -> str:
        """The id that the run was started with, else that of the store."""
        return self.record().tags.get("wandb_id", self._run_id)

    @property
    def run_id(self) -> str:
        """The id that ops.registry has for it."""
        return self._run_id

    @property
    def project(self) -> str:
        """The experiment that it belongs to."""
        return self._project

    @property
    def config(self) -> Config:
        """Its parameters."""
        return self._config

    @property
    def summary(self) -> Summary:
        """What stands for each of its metrics, and other values that were set there."""
        return self._summary

    @property
    def is_finished(self) -> bool:
        """Whether it has been finished here."""
        return self._is_finished

    @property
    def process(self) -> int:
        """The process that started it, which ends it."""
        return self._process

    @property
    def name(self) -> str:
        """What the run is called; another name can be set."""
        return self.record().name

    @name.setter
    def name(self, name: str) -> None:
        self._tracker.rename_run(self._run_id, name)

    @property
    def group(self) -> str:
        """The group of runs that it belongs to, "" without one."""
        return self.record().tags.get("group", "")

    @property
    def job_type(self) -> str:
        """What kind of run of its group it is, "" without one."""
        return self.record().tags.get("job_type", "")

    @property
    def entity(self) -> str:
        """Whose it is in W&B, "" when `init` was not given it."""
        return self.record().tags.get("entity", "")

    @property
    def path(self) -> str:
        """Entity, project and id with "/" between, as far as there are."""
        return "/".join(one for one in (self.entity, self.project, self.id) if one)

    @property
    def notes(self) -> str | None:
        """The notes on it; others can be set."""
        return self.record().tags.get(NOTES)

    @notes.setter
    def notes(self, notes: str) -> None:
        self._tracker.set_tag(self._run_id, NOTES, notes)

    @property
    def tags(self) -> tuple[str, ...]:
        """Its labels; others can be set."""
        return labels_of(self.record().tags.get(LABELS, ""))

    @tags.setter
    def tags(self, tags: Sequence[str]) -> None:
        self._tracker.set_tag(self._run_id, LABELS, labels_text(tags))

    @property
    def start_time(self) -> float:
        """When it was started, in seconds since the epoch."""
        return self.record().start_time.timestamp()

    @property
    def step(self) -> int:
        """The step that the next `log` without one gets."""
        return self._step

    @property
    def starting_step(self) -> int:
        """The first step here: 0, or that after the last one of a run that goes on."""
        return self._first_step

    @property
    def resumed(self) -> bool:
        """Whether it was there before."""
        return self._is_resumed

    @property
    def offline(self) -> bool:
        """True: nothing is sent anywhere."""
        return True

    @property
    def disabled(self) -> bool:
        """Whether nothing of it is left when it has finished."""
        return self._is_disabled

    @property
    def sweep_id(self) -> None:
        """None: there are no sweeps here."""
        return

    @property
    def dir(self) -> str:
        """A folder of its own; what is put into it is kept with the run when that finishes, by the path below it."""
        if self._folder_path is None:
            self._require_open()
            self._folder = contextlib.ExitStack()
            self._folder_path = self._folder.enter_context(temporary_directory())
        return str(self._folder_path)

    def log(
        self,
        data: Mapping[str, Any],
        step: int | None = None,
        commit: bool | None = None,  # noqa: FBT001 - W&B's signature
    ) -> None:
        """Log values of one step: numbers, nested mappings (joined by "."), texts, tables, images, plots, DataFrames.

        Without *step* it is the current one, which is over then unless *commit* is False. With a *step* the next call
        stays at it unless *commit* is True.
        """
        self._require_open()
        if not isinstance(data, Mapping):
            raise InvalidValueError(
                f"log takes a mapping such as {{'loss': 0.5}}, not {data!r:.80}."
            )
        for key in data:
            if not isinstance(key, str):
                raise InvalidValueError(f"log takes names that are texts, not {key!r:.80}.")
        if step is not None and (isinstance(step, bool) or not hasattr(step, "__index__")):
            raise InvalidValueError(f"step is a whole number, not {step!r:.80}.")
        if step is not None and abs(int(step)) > LARGEST_STEP:
            raise InvalidValueError(f"step is a whole number of 64 bits, not {step!r:.80}.")
        numbers, others = parted(dict(data))
        media = {key: media_of(value) for key, value in others.items()}
        is_over = step is None if commit is None else commit
        with _steps:  # two threads have a step each
            at = self._step if step is None else int(step)
            self._step = max(self._step, at + 1 if is_over else at)
            last = self._last = self._last | numbers
        step_of = self._rules.step_of
        points = [(key, value, step_of(key, at, last)) for key, value in numbers.items()]
        self._tracker.log_batch(self._run_id, points)
        self._forget_others(numbers)
        for key, found in media.items():
            self._keep(key, found, str(at))
            if isinstance(found[0], Plain):
                self._others[key] = found[0].value

    def define_metric(
        self,
        name: str,
        step_metric: str | Metric | None = None,
        step_sync: bool | None = None,  # noqa: FBT001 - W&B's signature
        hidden: bool | None = None,  # noqa: FBT001 - W&B's signature
        summary: str | None = None,
        overwrite: bool | None = None,  # noqa: FBT001 - W&B's signature
        goal: str | None = None,
    ) -> Metric:
        """Let *name*, which may end in "*", go over *step_metric* instead of the step, and choose its summary.

        *summary* is some of "min", "max", "mean", "first", "last", with "," between, or "none"; with "best" it is the
        *goal*, "minimize" or "maximize". Each is read as ``summary[name][operation]``. Points of such a metric are at
        the last value of *step_metric*, as far as that is a whole number. *step_sync* and *hidden* are about W&B's
        charts and do nothing. With *overwrite* earlier definitions of *name* go.
        """
        del step_sync, hidden
        return self._rules.add(name, step_metric, summary, goal, overwrite=bool(overwrite))

    def save(
        self,
        glob_str: StrPath | bytes,
        base_path: StrPath | None = None,
        policy: str = "live",
        glob: bool = True,  # noqa: FBT001, FBT002 - W&B's signature
    ) -> list[str]:
        """Keep files with the run; return their names there.

        *glob_str* is a path or, unless *glob* is False, a pattern; a folder stands for all files in it. Names are
        relative to *base_path*; without it those of a relative path stay as they are, and of an absolute one the
        file's and its folder's are left. With *policy* "live" or "end" they are kept again when the run finishes, as
        they are then.
        """
        self._require_open()
        if policy not in _POLICIES:
            raise InvalidValueError(
                f"policy={policy!r:.40} is unknown; use one of {list(_POLICIES)}."
            )
        found = files_to_save(glob_str, base_path, self._folder_path, glob=glob)
        for name, path in found.items():
            self._save(path, name)
            if policy != "now":
                self._saved[name] = path
        return list(found)

    def finish(
        self,
        exit_code: int | None = None,
        quiet: bool | None = None,  # noqa: FBT001 - W&B's signature
        *,
        error: str | None = None,
    ) -> None:
        """End the run: COMPLETED, or FAILED with an *exit_code* other than 0. Called again, it does nothing.

        *error* is what the run shows as the reason, instead of the code.
        """
        del quiet
        if self._is_finished:
            return
        failed = exit_code not in {None, 0}
        reason = (error or f"exit code {exit_code}") if failed else None
        status = RunStatus.FAILED if failed else RunStatus.COMPLETED
        with contextlib.ExitStack() as ends:  # whatever fails before, the run ends
            ends.callback(self._close)
            ends.callback(self._end, status, reason)
            for name, path in self._saved.items():
                if os.path.isfile(path):  # noqa: PTH113 - a string
                    ends.callback(self._save, path, name)
            if self._folder_path is not None:
                below = str(self._folder_path)
                for path in files_below(below):
                    name = os.path.relpath(path, below).replace(os.sep, "/")
                    ends.callback(self._save, path, name)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.finish(0 if kind is None else 1, error=None if error is None else described(error))

    def __getstate__(self) -> dict[str, Any]:
        """Return what another process logs with; the run stays this process's to finish."""
        apart = {"_done": _nothing, "_folder": None, "_folder_path": None}
        return self.__dict__ | apart

    def __getattr__(self, name: str) -> Any:
        raise not_offered("Run", name)

    def __setattr__(self, name: str, value: Any) -> None:
        if (
            not name.startswith("_")
            and getattr(getattr(type(self), name, None), "fset", None) is None
        ):
            raise InvalidValueError(
                f"run.{name} cannot be set.",
                suggestions=(f"run.{name}.update({{...}}) sets values.",)
                if name in {"config", "summary"}
                else (),
            )
        super().__setattr__(name, value)

    # What config and summary are made of

    def record(self) -> records.Run:
        """Return the run as ops.registry has it now; when it has finished, as it was then."""
        return self._final or self._tracker.get_run(self._run_id)

    def log_parameters(self, values: Mapping[str, Any]) -> None:
        """Log parameters, as `Config` checked them."""
        self._require_open()
        if values:
            self._tracker.log_parameters(self._run_id, values)

    def summarize(self, values: Mapping[str, Any]) -> None:
        """Set values of the summary: numbers as last values, all else as tags, pictures and the like as files."""
        self._require_open()
        numbers, others = parted(dict(values))
        media = {key: media_of(value) for key, value in others.items()}
        if numbers:
            known = self.record().metric_summaries
            # The last value is that of the highest step, which need not be the current one.
            steps = {k: max(self._step, known[k].last_step if k in known else 0) for k in numbers}
            self._tracker.log_batch(self._run_id, [(k, v, steps[k]) for k, v in numbers.items()])
            self._forget_others(numbers)
        for key, found in media.items():
            if isinstance(found[0], Plain):
                value = found[0].value
            else:
                value = self._keep(key, found, "summary")[0]
            text = value if isinstance(value, str) else json.dumps(value)
            self._tracker.set_tag(self._run_id, f"{SUMMARY}{key}", text)
            self._others[key] = value

    def summary_values(self) -> dict[str, Any]:
        """Return the summary: what stands for each metric, and what was logged or set beside them."""
        found: dict[str, Any] = {}
        for key, one in self.record().metric_summaries.items():
            history = functools.partial(self._tracker.get_metric_history, self._run_id, key)
            found |= summarized(key, one, self._rules.summary_of(key), history)
        return found | self._others

    def update_labels(self, labels: Mapping[str, str]) -> None:
        """Set tags of the run."""
        if labels:
            self._tracker.set_tags(self._run_id, labels)

    def _forget_others(self, numbers: Iterable[str]) -> None:
        """Drop what was no number under these names from the summary."""
        for key in self._others.keys() & set(numbers) if self._others else ():
            del self._others[key]
            self._tracker.delete_tag(self._run_id, f"{SUMMARY}{key}")

    def _keep(self, key: str, media: Sequence[Any], stem: str) -> list[str]:
        """Keep what is no number as a file of its name and step, several as one file each; return their names."""
        named = [(f"{stem}-{n}", one) for n, one in enumerate(media)]
        if len(media) == 1:
            named = [(stem, media[0])]
        below = f"logged/{safe_name(key)}"
        kept = []
        with temporary_directory() as folder:
            for own, one in named:
                kept.append(f"{below}/{one.write_with_caption(folder, own).name}")
            for path in sorted(folder.iterdir()):
                self._tracker.log_artifact(self._run_id, path, below, overwrite=True)
        return kept

    def _save(self, path: str, name: str) -> None:
        above = name.rpartition("/")[0]
        self._tracker.log_artifact(self._run_id, path, above or None, overwrite=True)

    def _end(self, status: RunStatus, reason: str | None) -> None:
        self._is_finished = True
        self._tracker.end_run(self._run_id, status, reason)
        # A run of a store of its own is requested for its name and summary after that is closed.
        self._final = self._tracker.get_run(self._run_id)

    def _close(self) -> None:
        self._done(self)
        if self._folder is not None:
            self._folder.close()

    def _require_open(self) -> None:
        if self._is_finished:
            raise InvalidValueError(
                f"Run {self._run_id} is finished.",
                suggestions=("init(id=..., resume='allow') goes on with it.",),
            )


def _nothing(_: Run) -> None:
    """Do nothing when a run has finished that another process has started."""


_steps = threading.RLock()


def _renew_the_lock() -> None:
    global _steps  # noqa: PLW0603 - one per process: another thread may have held it while this one forked
    _steps = threading.RLock()


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_renew_the_lock)
