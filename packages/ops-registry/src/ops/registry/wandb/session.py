"""`init` and what goes to the current run: one per process, as in W&B."""

from __future__ import annotations

import atexit
import os
import sys
import threading
from typing import TYPE_CHECKING, Any

from ops.foundation.files import temporary_directory
from ops.registry.configuration import MLOpsConfig
from ops.registry.context import MLOpsContext, get_mlops_context
from ops.registry.errors import AlreadyExistsError, InvalidValueError, RunNotFoundError
from ops.registry.validators import check_text
from ops.registry.wandb._run import Run, find_run
from ops.registry.wandb.errors import NotInitializedError
from ops.registry.wandb.fields import mapping_of

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence
    from types import TracebackType

    from ops.foundation.files import StrPath
    from ops.registry import records

__all__ = ["active_run", "current_run", "define_metric", "finish", "init", "log", "login", "save"]

_DEFAULT_PROJECT = "uncategorized"
_RESUME = {"allow", "must", "never", True, False, None}
_MODES = {"online", "offline", "disabled", "shared", None}
_lock = threading.RLock()
_runs: list[Run] = []


def init(
    entity: str | None = None,
    project: str | None = None,
    dir: StrPath | None = None,  # noqa: A002 - W&B's signature
    id: str | None = None,  # noqa: A002 - W&B's signature
    name: str | None = None,
    notes: str | None = None,
    tags: Sequence[str] | None = None,
    config: Any = None,
    group: str | None = None,
    job_type: str | None = None,
    mode: str | None = None,
    resume: bool | str | None = None,  # noqa: FBT001 - W&B's signature
    reinit: bool | str | None = None,  # noqa: FBT001 - W&B's signature
    **unknown: Any,
) -> Run:
    """Start a run of the experiment *project*, and make it the one that `log` and its kin mean.

    It goes into the current store (`ops.registry.init_mlops`, or ``OPS_MLOPS_PATH``), or into the folder *dir*. With an
    *id* and *resume* "allow" it goes on with the run that was started with it, with "must" that run must be there, and
    without *resume* (or with "never") it must not. While a run goes on it is returned, unless *reinit* is True or
    "finish_previous" (that one is finished) or "create_new" (both go on, and this one is the current one). *mode*
    "disabled", also by ``WANDB_MODE``, writes into a folder that is gone with the run; all others are the same here.

    Raises:
        InvalidValueError: an argument that is about W&B's service, or a value that is unknown.
        AlreadyExistsError: there is a run of that *id*, and *resume* does not allow to go on with it.
        RunNotFoundError: there is none, and *resume* is "must".
    """
    _check(unknown, mode, resume, id)
    with _lock:
        here = current_run()
        if here is not None and reinit not in {True, "finish_previous", "create_new"}:
            return here
        if here is not None and reinit != "create_new":
            here.finish()
        # Environment WANDB_MODE: "disabled": `init` without a *mode* records nothing.
        is_disabled = (mode or os.environ.get("WANDB_MODE")) == "disabled"
        context, done = _store(dir, is_disabled=is_disabled)
        title = project or _DEFAULT_PROJECT
        experiment = context.experiment_tracker.get_or_create_experiment(title)
        known = None if id is None else find_run(context, experiment.experiment_id, id)
        if known is None:
            if resume == "must":
                raise RunNotFoundError(f"Project {title!r} has no run {id!r} to go on with.")
            labels = {"group": group, "job_type": job_type, "entity": entity, "wandb_id": id}
            labels |= {"mlflow.note.content": notes, "labels": ", ".join(tags or ()) or None}
            given = {key: value for key, value in labels.items() if value is not None}
            started = context.experiment_tracker.start_run(
                experiment.experiment_id, name, tags=given
            )
        else:
            started = _resumed(context, known, resume)
        run = Run(context, started, title, done=done)
        _runs.append(run)
        _watch_the_end()
    if config is not None:
        # A resumed run gets the same again from the same script, or what has changed since.
        run.config.update(mapping_of(config), allow_val_change=known is not None)
    return run


def log(
    data: Mapping[str, Any],
    step: int | None = None,
    commit: bool | None = None,  # noqa: FBT001 - W&B's signature
) -> None:
    """Log to the current run; see `Run.log`."""
    active_run("log").log(data, step, commit)


def define_metric(name: str, step_metric: str | None = None, **options: Any) -> None:
    """Define a metric of the current run; see `Run.define_metric`."""
    active_run("define_metric").define_metric(name, step_metric, **options)


def save(glob_str: StrPath, base_path: StrPath | None = None, policy: str = "live") -> list[str]:
    """Keep files with the current run; see `Run.save`."""
    return active_run("save").save(glob_str, base_path, policy)


def finish(exit_code: int | None = None, quiet: bool | None = None) -> None:  # noqa: FBT001 - W&B's signature
    """End the current run, if there is one; see `Run.finish`."""
    run = current_run()
    if run is not None:
        run.finish(exit_code, quiet)


def login(*_: Any, **__: Any) -> bool:
    """Do nothing, and return True: a store in a folder needs no account."""
    return True


def current_run() -> Run | None:
    """Return the run that was started last and goes on, None when there is none."""
    return _runs[-1] if _runs else None


def active_run(what: str) -> Run:
    """Return the current run, or raise that *what* needs one."""
    run = current_run()
    if run is None:
        raise NotInitializedError(f"wandb.{what} needs a run: call wandb.init() first.")
    return run


def _check(unknown: Mapping[str, Any], mode: str | None, resume: Any, own_id: str | None) -> None:
    if unknown:
        raise InvalidValueError(
            f"init takes no {', '.join(map(repr, sorted(unknown)))} here.",
            suggestions=("Leave out what is about W&B's service and its syncing.",),
        )
    if mode not in _MODES:
        raise InvalidValueError(f"mode={mode!r:.40} is unknown; use 'online' or 'disabled'.")
    if resume not in _RESUME:
        raise InvalidValueError(
            f"resume={resume!r:.40} is not offered; use 'allow', 'must' or 'never' with an id."
        )
    if resume in {True, "must"} and own_id is None:
        raise InvalidValueError(f"resume={resume!r} needs the id of the run: init(id=...).")
    if own_id is not None:
        check_text("id", own_id)


def _store(folder: StrPath | None, *, is_disabled: bool) -> tuple[MLOpsContext, Any]:
    """Return the store of a run, and what is called when the run has finished."""
    if not is_disabled and folder is None:
        return get_mlops_context(), _forget
    scratch = temporary_directory() if is_disabled else None
    path = os.fspath(folder) if scratch is None else str(scratch.__enter__())  # type: ignore[arg-type]
    context = MLOpsContext(MLOpsConfig(storage_path=path))

    def done(run: Run) -> None:
        _forget(run)
        context.cleanup()
        if scratch is not None:
            scratch.__exit__(None, None, None)

    return context, done


def _forget(run: Run) -> None:
    with _lock:
        if run in _runs:
            _runs.remove(run)


def _resumed(context: MLOpsContext, known: records.Run, resume: Any) -> records.Run:
    if resume not in {"allow", "must", True}:
        raise AlreadyExistsError(
            f"There is a run {known.run_id} of that id already.",
            suggestions=("Pass resume='allow' to go on with it, or another id.",),
        )
    return context.experiment_tracker.reopen_run(known.run_id)


_watching = threading.Event()


def _watch_the_end() -> None:
    """End runs with the process: FAILED when an exception ends it, COMPLETED when nothing does."""
    if _watching.is_set():
        return
    _watching.set()
    before = sys.excepthook

    def failed(
        kind: type[BaseException], error: BaseException, trace: TracebackType | None
    ) -> None:
        _finish_all(1)
        before(kind, error, trace)

    sys.excepthook = failed
    atexit.register(_finish_all, 0)


def _finish_all(exit_code: int) -> None:
    for run in tuple(_runs):
        if run.process == os.getpid():  # a forked child does not end the runs of its parent
            run.finish(exit_code)
