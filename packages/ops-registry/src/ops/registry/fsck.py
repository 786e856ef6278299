"""Checking a store: damaged lines, artifacts that changed, views that do not fit the journals.

`collect` removes what nothing refers to any more: copies that a killed process left half made,
artifacts of runs and of model versions that no journal knows, and shared files that no artifact shares.
"""

from __future__ import annotations

import contextlib
import os
import pathlib
import time
from typing import TYPE_CHECKING, Any

from ops.foundation.errors import OpsError
from ops.foundation.paths import is_there
from ops.foundation.removal import remove_as_seen
from ops.registry.check_report import Report
from ops.registry.disk.artifacts import is_copy, new_copy_name, remove
from ops.registry.disk.checked_paths import is_id, links_below, refuse_links_below
from ops.registry.disk.content_store import ContentStore
from ops.registry.disk.journal import damaged_lines
from ops.registry.errors import (
    InvalidValueError,
    ModelNotFoundError,
    ModelVersionNotFoundError,
    RunNotFoundError,
)
from ops.registry.events import EventType
from ops.registry.json_values import canonical
from ops.registry.local.logged_models import FOLDER, files_of
from ops.registry.local.run_journals import RunReader
from ops.registry.local.tracking import local_runs
from ops.registry.logged_model_copies import logged_models
from ops.registry.run_rows import MAIN
from ops.registry.trace_copies import (
    TRACE_ARTIFACTS,
    all_traces,
    check_traces,
    compact_traces,
    erase_traces,
    folders_of_traces,
    traces_of,
)
from ops.registry.tracking.run_records import to_run

if TYPE_CHECKING:
    from collections.abc import Callable, Collection, Iterable, Iterator, Mapping

    from ops.foundation.files import StrPath
    from ops.registry.context import MLOpsContext
    from ops.registry.models.registry import ModelRegistry
    from ops.registry.records import Experiment, ModelVersion, Run
    from ops.registry.tracking.tracker import ExperimentTracker

__all__ = ["Report", "check", "collect"]

_OLD_SECONDS = 24 * 3600


def check(
    context: MLOpsContext,
    *,
    repair: bool = False,
    now: Callable[[], float] = time.time,
    progress: Callable[[int, int], object] | None = None,
) -> Report:
    """Read everything once; with *repair* the indexes of runs are made again first.

    It also removes copies of artifacts that a killed process left half made; those are known by
    their names and by their age of more than a day, as a living process may still be copying. Shared
    files that are damaged are no longer given to new artifacts. On Databricks there is nothing to
    make again.
    """
    report = Report()
    if context.config.backend_type != "local":
        _check_another(context, report, progress)
        return report
    links = list(links_below(context.path))
    report.problems += [
        f"{link} is a link, which no store has; it is not followed." for link in links
    ]
    if links:
        return report  # what it leads to is not the store's: nothing is made again or removed
    if repair:
        context.experiment_tracker.rebuild()
        context.model_registry.rewrite_views()
        copies = _half_made(context, now())
        report.removed_copies = sum(_removed(copy, seen) for copy, seen in copies)
        for damaged in ContentStore(context.paths.contents).damaged():
            remove(damaged)
    experiments = context.experiment_tracker.list_experiments(include_deleted=True)
    for done, experiment in enumerate(experiments, 1):
        _check_runs(context, experiment.experiment_id, report)
        if progress is not None:
            progress(done, len(experiments))
    _check_logged_models(context, {e.experiment_id for e in experiments}, report)
    check_traces(context, {e.experiment_id for e in experiments}, report)
    _check_models(context.model_registry, report)
    return report


def _check_another(
    context: MLOpsContext, report: Report, progress: Callable[[int, int], object] | None
) -> None:
    """Check a backend that is not on local files: by its own check if it has one, else each file by its digest."""
    own = getattr(context.experiment_tracker, "check_store", None)
    if own is not None:
        own(context, report, progress)
        return
    tracker, registry = context.experiment_tracker, context.model_registry
    experiments = tracker.list_experiments(include_deleted=True)
    for done, experiment in enumerate(experiments, 1):
        for run in tracker.list_runs(experiment.experiment_id, include_deleted=True):
            report.runs += 1
            try:
                tracker.verify_artifacts(run)
            except OpsError as error:
                report.problems.append(f"Run {run.run_id}: {error}")
        if progress is not None:
            progress(done, len(experiments))
    for version in registry.search_models():
        report.versions += 1
        try:
            registry.verify(version)
        except OpsError as error:
            report.problems.append(f"{version.name}/{version.version}: {error}")


def _check_models(registry: ModelRegistry, report: Report) -> None:
    try:
        if not registry.has_sound_ledger():
            report.problems.append("The snapshot of the registry's journal differs from it.")
    except OpsError as error:
        report.problems.append(str(error))
    for version in registry.search_models():
        report.versions += 1
        if not registry.is_here(version):
            report.elsewhere.append(f"{version.name}/{version.version}: {version.artifact_uri}")
        try:
            registry.verify(version)
        except OpsError as error:
            if _as_it_is_now(registry, version) is not None:
                report.problems.append(f"{version.name}/{version.version}: {error}")
        if registry.has_current_view(version):
            continue
        now = _as_it_is_now(registry, version)  # it may have been changed since all were read
        if now is not None and not registry.has_current_view(now):
            report.problems.append(
                f"{version.name}/{version.version}: its metadata file is not as the journal has it."
            )


def _as_it_is_now(registry: ModelRegistry, version: ModelVersion) -> ModelVersion | None:
    try:
        return registry.get_model_version(version.name, version.version)
    except (ModelNotFoundError, ModelVersionNotFoundError):
        return None


def collect(
    context: MLOpsContext,
    *,
    dry_run: bool = False,
    now: Callable[[], float] = time.time,
    deleted_days: float | None = None,
) -> list[StrPath]:
    """Remove what nothing refers to, older than a day, and return it; with *dry_run* only list it.

    Deleted traces are taken out of their journals then.

    Those are local paths, and addresses in a bucket or a volume. With *deleted_days* runs that were deleted at least
    so many days ago are erased for ever first, those of deleted experiments too. Raises `InvalidValueError` for a
    negative number of days.
    """
    found: list[StrPath] = []
    if deleted_days is not None:
        if not deleted_days >= 0:
            raise InvalidValueError(f"deleted_days is 0 or more, not {deleted_days!r:.80}.")
        found += _erase_deleted(context, now() - deleted_days * 24 * 3600, dry_run=dry_run)
    parts: list[Any] = [context.experiment_tracker, context.model_registry]
    if context.config.backend_type != "local":
        parts += [context.storage] if hasattr(context.storage, "left_over") else []
    else:
        refuse_links_below(context.path, itself=False)  # what is behind one is not the store's
        found += _collect_files(context, now(), dry_run=dry_run)
    for part in parts:
        uris = list(part.left_over(now() - _OLD_SECONDS))
        if not dry_run:
            part.clear(uris)
        found += uris
    if not dry_run:
        recorded = {"paths": [str(path) for path in found]}
        context.operations.after(
            EventType.STORE_COLLECTED, recorded, resource=f"store:{context.path}"
        )
    return found


def _erase_deleted(context: MLOpsContext, before_seconds: float, *, dry_run: bool) -> list[StrPath]:
    """Erase runs that were deleted before a time, and return which; not those whose files a version needs."""
    tracker = context.experiment_tracker
    used = _used(context.model_registry.search_models())
    found: list[StrPath] = []
    for experiment in tracker.list_experiments(include_deleted=True):
        for run in tracker.list_runs(experiment.experiment_id, include_deleted=True):
            if run.run_id in used or not _is_deleted(run, experiment, before_seconds):
                continue
            if not dry_run:
                with contextlib.suppress(RunNotFoundError):
                    # Erasing all those before it took its time: it may have been restored meanwhile.
                    run = tracker.get_run(run.run_id)  # noqa: PLW2901
                    experiment = tracker.get_experiment(experiment.experiment_id)  # noqa: PLW2901
                    if not _is_deleted(run, experiment, before_seconds):
                        continue
                    tracker.erase_run(run.run_id)
            found.append(f"run {run.run_id}")
    if context.config.backend_type == "local":
        found += _erase_logged_models(context, before_seconds, dry_run=dry_run)
        found += erase_traces(context, before_seconds, dry_run=dry_run)
    return found


def _is_deleted(run: Run, experiment: Experiment, before_seconds: float) -> bool:
    since = [at for at in (run.deleted_at, experiment.deleted_at) if at is not None]
    return bool(since) and min(since).timestamp() <= before_seconds


def _erase_logged_models(
    context: MLOpsContext, before_seconds: float, *, dry_run: bool
) -> list[StrPath]:
    """Erase logged models that were deleted before a time, and return which; `_unknown` finds their files."""
    book = logged_models(context)

    def is_deleted(model: Mapping[str, Any] | None) -> bool:
        return bool(model and model["deleted"] and model["updated"] <= before_seconds * 1000)

    found: list[StrPath] = []
    for model_id in [model["id"] for model in book.all() if is_deleted(model)]:
        if not dry_run:
            if not is_deleted(book.get(model_id)):  # restored meanwhile
                continue
            book.erase(model_id)
        found.append(f"logged model {model_id}")
    return found


def _collect_files(
    context: MLOpsContext, now_seconds: float, *, dry_run: bool
) -> list[pathlib.Path]:
    old = [*_half_made(context, now_seconds), *_unknown(context, now_seconds)]
    found = [path for path, _ in old]
    if not dry_run:
        found = [path for path, seen in old if _removed(path, seen)]
        compact_traces(context)
    unshared = ContentStore(context.paths.contents).unused()  # some of them only since just now
    if not dry_run:
        for path in unshared:
            remove(path)
    return found + unshared


def _check_runs(context: MLOpsContext, experiment_id: str, report: Report) -> None:
    tracker = context.experiment_tracker
    folder = tracker.root / "runs" / experiment_id
    try:
        indexed = {row.run_id: row for row in tracker.index_rows(experiment_id)}
    except OpsError as error:
        report.problems.append(str(error))
        return
    if not is_there(folder):
        return
    suffix = f".{MAIN}.log"
    differing = []
    for name in sorted(os.listdir(folder)):  # noqa: PTH208 - names are all that is needed
        if not name.endswith(suffix):
            continue
        run_id = name.removesuffix(suffix)
        if not is_id(run_id):
            report.problems.append(f"{name!r:.80} is no journal that this package writes.")
            continue
        reader = RunReader(folder, run_id)
        try:
            row = reader.poll().row
        except OpsError as error:
            _note_unreadable(folder / name, error, report)
            continue
        finally:
            report.torn_lines += reader.torn
            if reader.refused:
                report.problems.append(
                    f"Run {run_id}: {reader.refused} of its lines are not what this package writes."
                )
        report.runs += 1
        report.unknown_frames += reader.state.unknown
        try:
            tracker.verify_artifacts(to_run(row, tracker.root / "artifacts"))
        except OpsError as error:
            report.problems.append(f"Run {run_id}: {error}")
        known = indexed.get(run_id)
        if known is None or canonical(known.plain()) != canonical(row.plain()):
            differing.append(run_id)
    report.problems += [
        f"Run {run_id} is not in the index as its journal has it."
        for run_id in _still_differing(tracker, experiment_id, differing)
    ]


def _check_logged_models(
    context: MLOpsContext, experiments: Collection[str], report: Report
) -> None:
    """Check MLflow's logged models: each belongs to an experiment. Versions name those with files."""
    book = logged_models(context)
    for model in book.all():
        report.logged_models += 1
        name = f"Logged model {model['id']}"
        if model["experiment_id"] not in experiments:
            report.problems.append(f"{name}: there is no experiment {model['experiment_id']!r}.")
        files = files_of(model, book.folder.parents[1])
        if files is None:
            report.elsewhere.append(f"{name}: {model['artifact_location']}")
    report.unknown_frames += book.unknown
    report.torn_lines += book.torn


def _note_unreadable(main: pathlib.Path, error: OpsError, report: Report) -> None:
    try:
        has_line = b"\n" in main.read_bytes()
    except FileNotFoundError:
        return  # erased just now
    if has_line:
        report.problems.append(f"{main.name}: {error}")
    else:
        report.unstarted += 1


def _still_differing(
    tracker: ExperimentTracker, experiment_id: str, suspects: list[str]
) -> list[str]:
    """Return the runs that the index has otherwise than their journals, and not because they were logged to."""
    if not suspects:
        return []
    folder = tracker.root / "runs" / experiment_id
    before = {run_id: _recorded(folder, run_id) for run_id in suspects}
    indexed = {row.run_id: canonical(row.plain()) for row in tracker.index_rows(experiment_id)}
    return [
        run_id
        for run_id, recorded in before.items()
        if indexed.get(run_id) != recorded and _recorded(folder, run_id) == recorded
    ]


def _recorded(folder: pathlib.Path, run_id: str) -> str | None:
    try:
        return canonical(RunReader(folder, run_id, keep_history=False).poll().row.plain())
    except RunNotFoundError:
        return None


def _half_made(
    context: MLOpsContext, now_seconds: float
) -> list[tuple[pathlib.Path, os.stat_result]]:
    """Return the copies that killed processes have left, and how they were seen."""
    found = []
    for root in (context.experiment_tracker.root, context.model_registry.root):
        for copy in [*root.glob("artifacts/.*.tmp"), *root.glob("artifacts/*/.*.tmp")]:
            seen = _seen_old(copy, now_seconds) if is_copy(copy.name) else None
            if seen is not None and not _is_wanted(context, copy):
                found.append((copy, seen))
    return found


def _is_wanted(context: MLOpsContext, copy: pathlib.Path) -> bool:
    """Whether a copy is what its journal has, and a kill kept it from its path: a read moves it there."""
    return copy in local_runs(context.experiment_tracker).files.waiting_copies(copy.parent.name)


def _unknown(
    context: MLOpsContext, now_seconds: float
) -> list[tuple[pathlib.Path, os.stat_result]]:
    """Return the artifacts that belong to no run and no version, as the journals say: an index is a view.

    They are looked at before the journals are read: what comes from now on is known, or not what was seen.
    """

    def old(paths: Iterable[pathlib.Path]) -> list[tuple[pathlib.Path, os.stat_result]]:
        found = ((path, _seen_old(path, now_seconds)) for path in paths)
        return [(path, seen) for path, seen in found if seen is not None]

    tracker, registry = context.experiment_tracker, context.model_registry
    of_runs = old(tracker.root.glob("artifacts/[!.]*"))
    of_traces = old(folders_of_traces(context))
    of_models = old(f for f in tracker.root.glob(f"{FOLDER}/[!.]*") if f.is_dir())
    of_versions = old(registry.root.glob("artifacts/[!.]*/v*"))
    runs = local_runs(tracker).store.all_ids()
    versions = registry.search_models()
    used = _used(versions)
    models = {model["id"] for model in logged_models(context).all()}
    traces = {trace.trace_id for trace in all_traces(context)} if of_traces else set()
    known = {pathlib.Path(v.artifact_uri).parent for v in versions}
    unknown = [
        *(one for one in of_runs if one[0].name not in runs | used | {TRACE_ARTIFACTS}),
        *(one for one in of_traces if one[0].name not in traces),
        *(one for one in of_models if one[0].name not in models | used),
        *(one for one in of_versions if one[0] not in known),
    ]
    if not unknown:
        return []
    # What a damaged line is about is not known to be gone; versions are in the folder of their model.
    damaged = b"\n".join(
        map(damaged_lines, _damaged_journals(context, with_traces=bool(of_traces)))
    )
    return [
        (path, seen)
        for path, seen in unknown
        if not any(name.encode() in damaged for name in (path.name, path.parent.name))
    ]


def _damaged_journals(context: MLOpsContext, *, with_traces: bool) -> Iterator[StrPath]:
    """Yield the journals that say what is known, those of traces only when they have damaged lines: they are large."""
    yield context.model_registry.root / "models" / "journal.log"
    yield context.experiment_tracker.root / FOLDER / "journal.log"
    if with_traces:
        book = traces_of(context)
        for journal in map(book.journal, book.experiments()):
            journal.traces()
            if journal.torn:
                yield journal.path


def _used(versions: Iterable[ModelVersion]) -> set[str]:
    """Return the ids of runs and logged models from whose files MLflow registered a version that is there."""
    without = (v.artifact_uri for v in versions if not v.checksum)
    return {part for uri in without for part in pathlib.PurePath(uri).parts}


def _seen_old(path: pathlib.Path, now_seconds: float) -> os.stat_result | None:
    """Return what is at *path* if nothing was done to it for a day, None if something was, or it is gone.

    A copy that shares its content with others, or was imported with its time, may say that it was written long ago:
    since when it has its name, the time of its inode shows.
    """
    try:
        seen = path.lstat()
    except FileNotFoundError:  # it got its name, or was removed, just now
        return None
    return seen if now_seconds - max(seen.st_mtime, seen.st_ctime) > _OLD_SECONDS else None


def _removed(path: pathlib.Path, seen: os.stat_result) -> bool:
    """Remove what was judged; a version or run that has come since under this name keeps its files."""
    return remove_as_seen(path, seen, aside=path.with_name(new_copy_name()))
