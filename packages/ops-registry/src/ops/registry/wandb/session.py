"""`init` and what goes to the current run: one per process, as in W&B."""

from __future__ import annotations

import os
import pathlib
import threading
import warnings
from typing import TYPE_CHECKING, Any

from ops.foundation.files import temporary_directory
from ops.foundation.locks import FileLock
from ops.registry.configuration import MLOpsConfig
from ops.registry.context import MLOpsContext, get_mlops_context, is_mlops_initialized
from ops.registry.errors import AlreadyExistsError, InvalidValueError, RunNotFoundError
from ops.registry.wandb._arguments import arguments, check_reinit
from ops.registry.wandb._endings import watch_the_end
from ops.registry.wandb._records import find_run
from ops.registry.wandb._run import Run
from ops.registry.wandb.errors import NotInitializedError

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from ops.foundation.files import StrPath
    from ops.registry import records
    from ops.registry.wandb._arguments import Arguments
    from ops.registry.wandb._rules import Metric

__all__ = [
    "active_run",
    "current_run",
    "define_metric",
    "finish",
    "init",
    "log",
    "login",
    "save",
    "setup",
    "teardown",
]

#: How long a process waits for another one that starts a run of the same id.
_LOCK_SECONDS = 60
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
    config_exclude_keys: Sequence[str] | None = None,
    config_include_keys: Sequence[str] | None = None,
    allow_val_change: bool | None = None,  # noqa: FBT001 - W&B's signature
    group: str | None = None,
    job_type: str | None = None,
    mode: str | None = None,
    resume: bool | str | None = None,  # noqa: FBT001 - W&B's signature
    reinit: bool | str | None = None,  # noqa: FBT001 - W&B's signature
    **unknown: Any,
) -> Run:
    """Start a run of the experiment *project*, and make it the one that `log` and its kin mean.

    It goes into the folder *dir*, else into the current store (`ops.registry.init_mlops`, or ``OPS_MLOPS_PATH``), else
    into ``WANDB_DIR``. With an *id* and *resume* "allow" it goes on with the run that was started with it, which gets
    what is given here; with "must" that run must be there, and without *resume* (or with "never") it must not.

    While a run of this process goes on it is returned, unless *reinit* is True or "finish_previous" (all are finished)
    or "create_new" (they go on, and this one is the current one). *mode* "disabled" writes into a folder that is gone
    with the run; all others are the same here. *config* is what `Config.update` takes; what ``config-defaults.yaml``
    of the current folder has comes before it. *allow_val_change* changes nothing for a new run. Variables such as
    ``WANDB_PROJECT`` count where an argument is not given.

    Raises:
        InvalidValueError: an argument that is about W&B's service, or a value that is unknown.
        AlreadyExistsError: there is a run of that *id*, and *resume* does not allow to go on with it.
        RunNotFoundError: there is none, and *resume* is "must".
    """
    del allow_val_change
    check_reinit(reinit)
    requested = arguments(
        config,
        tags,
        config_include_keys,
        config_exclude_keys,
        unknown,
        project=project,
        name=name,
        id=id,
        group=group,
        job_type=job_type,
        notes=notes,
        entity=entity,
        resume=resume,
        mode=mode,
    )
    with _lock:
        here = _own_runs()
        if here and reinit not in {True, "finish_previous", "create_new"}:
            is_other = bool(requested.config or project or name or id or group or dir)
            return _returned(here[-1], requested, is_other=is_other)
        if reinit != "create_new":
            for run in here:
                run.finish()
        context, done = _store(dir, is_disabled=requested.is_disabled)
        run = _started(context, requested, done)
        _runs.append(run)
        watch_the_end(_own_runs)
    return run


def log(
    data: Mapping[str, Any],
    step: int | None = None,
    commit: bool | None = None,  # noqa: FBT001 - W&B's signature
) -> None:
    """Log to the current run; see `Run.log`."""
    active_run("log").log(data, step, commit)


def define_metric(
    name: str,
    step_metric: str | Metric | None = None,
    step_sync: bool | None = None,  # noqa: FBT001 - W&B's signature
    hidden: bool | None = None,  # noqa: FBT001 - W&B's signature
    summary: str | None = None,
    overwrite: bool | None = None,  # noqa: FBT001 - W&B's signature
    goal: str | None = None,
) -> Metric:
    """Define a metric of the current run; see `Run.define_metric`."""
    run = active_run("define_metric")
    return run.define_metric(name, step_metric, step_sync, hidden, summary, overwrite, goal)


def save(
    glob_str: StrPath | bytes,
    base_path: StrPath | None = None,
    policy: str = "live",
    glob: bool = True,  # noqa: FBT001, FBT002 - W&B's signature
) -> list[str]:
    """Keep files with the current run; see `Run.save`."""
    return active_run("save").save(glob_str, base_path, policy, glob)


def finish(exit_code: int | None = None, quiet: bool | None = None) -> None:  # noqa: FBT001 - W&B's signature
    """End the current run, if there is one; see `Run.finish`."""
    run = current_run()
    if run is not None:
        run.finish(exit_code, quiet)


def setup(*_: Any, **__: Any) -> None:
    """Do nothing: there is no service to start."""


def teardown(exit_code: int | None = None) -> None:
    """End all runs that this process has started; see `Run.finish`."""
    for run in _own_runs():
        run.finish(exit_code)


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


def _own_runs() -> list[Run]:
    """Return the runs that this process started; a forked child logs to those of its parent, and has not started them."""
    return [run for run in _runs if run.process == os.getpid()]


def _returned(run: Run, requested: Arguments, *, is_other: bool) -> Run:
    """Return the run that goes on, instead of one with these arguments."""
    if requested.resume == "must":
        raise InvalidValueError(
            "A run cannot go on while another one of this process does.",
            suggestions=("Finish it, or pass reinit='create_new'.",),
        )
    if is_other:
        warnings.warn(
            f"init returns the run {run.run_id}, which goes on, and what it was given is not used; "
            "reinit='create_new' or 'finish_previous' starts another one.",
            stacklevel=3,
        )
    return run


def _started(context: MLOpsContext, requested: Arguments, done: Any) -> Run:
    """Start a run, or go on with the one that was started with this id."""
    home = context.experiment_tracker.get_or_create_experiment(requested.project).experiment_id
    started = None
    if requested.id is None:
        started = _begun(context, home, requested)
    elif find_run(context, home, requested.id) is None:
        if requested.resume == "must":
            raise RunNotFoundError(
                f"Project {requested.project!r} has no run {requested.id!r} to go on with."
            )
        # The processes of one training may all begin with the same id: the first one to be here starts the run.
        lock = pathlib.Path(context.config.storage_path, "experiment_tracking", ".wandb.lock")
        with FileLock(lock, timeout=_LOCK_SECONDS):
            if find_run(context, home, requested.id) is None:
                started = _begun(context, home, requested)
    return Run(
        context,
        started or _resumed(context, home, requested),
        requested.project,
        is_resumed=started is None,
        is_disabled=requested.is_disabled,
        done=done,
    )


def _begun(context: MLOpsContext, home: str, requested: Arguments) -> records.Run:
    own = {} if requested.id is None else {"wandb_id": requested.id}
    return context.experiment_tracker.start_run(
        home,
        requested.name,
        tags=requested.labels | own,
        parameters=requested.defaults | requested.config,
    )


def _resumed(context: MLOpsContext, home: str, requested: Arguments) -> records.Run:
    """Let a run go on, with what is given for it now: another name, other labels, other parameters."""
    known = find_run(context, home, str(requested.id))
    if known is None:
        raise RunNotFoundError(f"The run {requested.id!r} was deleted meanwhile.")
    if requested.resume not in {"allow", "must", True}:
        raise AlreadyExistsError(
            f"There is a run {known.run_id} of that id already.",
            suggestions=("Pass resume='allow' to go on with it, or another id.",),
        )
    tracker = context.experiment_tracker
    run = tracker.reopen_run(known.run_id)
    if requested.name is not None and requested.name != run.name:
        tracker.rename_run(run.run_id, requested.name)
    if requested.labels:
        tracker.set_tags(run.run_id, requested.labels)
    missing = {k: v for k, v in requested.defaults.items() if k not in run.parameters}
    if missing or requested.config:
        tracker.log_parameters(run.run_id, missing | requested.config)
    return tracker.get_run(run.run_id)


def _store(folder: StrPath | None, *, is_disabled: bool) -> tuple[MLOpsContext, Any]:
    """Return the store of a run, and what is called when the run has finished."""
    # Environment WANDB_DIR: the folder of the store, when neither `init` is given one nor there is a current store.
    if folder is None and not is_mlops_initialized() and "OPS_MLOPS_PATH" not in os.environ:
        folder = os.environ.get("WANDB_DIR") or None
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


def _renew_the_lock() -> None:
    global _lock  # noqa: PLW0603 - one per process: another thread may have held it while this one forked
    _lock = threading.RLock()


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_renew_the_lock)
