"""Traces and evaluation datasets of local stores beyond their own experiments: copied, checked, collected.

A copy takes the frames that the target lacks, byte by byte, those of unknown kinds too. What the target has of a trace or a
dataset must be the beginning of the source's history of it, or be ahead of it; otherwise both have changed it since it was
copied, and nothing is copied.
"""

from __future__ import annotations

import collections
import json
from typing import TYPE_CHECKING, Any
from zlib import crc32

from ops.foundation.errors import OpsError
from ops.foundation.paths import is_there
from ops.registry.disk import artifacts
from ops.registry.disk.checked_paths import inside, is_part
from ops.registry.disk.store_addresses import below, local_path
from ops.registry.errors import AlreadyExistsError
from ops.registry.json_values import canonical
from ops.registry.traces import book, datasets
from ops.registry.traces.book import TraceBook
from ops.registry.traces.datasets import DatasetBook

if TYPE_CHECKING:
    import pathlib
    from collections.abc import Collection, Iterator, Mapping

    from ops.foundation.files import StrPath
    from ops.registry.check_report import Report
    from ops.registry.context import MLOpsContext
    from ops.registry.records import Experiment
    from ops.registry.traces.journal import TraceJournal
    from ops.registry.traces.state import Trace

__all__ = [
    "TRACE_ARTIFACTS",
    "all_traces",
    "check_traces",
    "compact_traces",
    "copy_datasets",
    "copy_traces",
    "datasets_of",
    "erase_traces",
    "folders_of_traces",
    "traces_of",
]

#: In the folder of an experiment's artifacts, where MLflow keeps those of traces.
TRACE_ARTIFACTS = "traces"
#: So many bytes are written at once.
_BYTES = 1 << 22


def traces_of(context: MLOpsContext) -> TraceBook:
    """Return the traces in the store of *context*, which is one of local files."""
    root: pathlib.Path = context.experiment_tracker.root
    return TraceBook(root / book.FOLDER, context.config.durability)


def datasets_of(context: MLOpsContext) -> DatasetBook:
    """Return the evaluation datasets in the store of *context*, which is one of local files."""
    root: pathlib.Path = context.experiment_tracker.root
    return DatasetBook(root / datasets.FOLDER, context.config.durability)


def copy_traces(source: MLOpsContext, target: MLOpsContext, homes: Mapping[str, str]) -> int:
    """Copy the traces of the experiments that *homes* maps to those of the target; return how many were new.

    Raises:
        AlreadyExistsError: both stores have changed a trace since it was copied.
    """
    there, here = traces_of(source), traces_of(target)
    copied = 0
    for experiment_id in there.experiments():
        home = homes.get(experiment_id)
        if home is None:
            continue
        experiment = source.experiment_tracker.get_experiment(experiment_id)
        old, new = there.journal(experiment_id), here.journal(home)
        for trace in old.traces():
            _copy_artifacts(source, target, experiment, trace.trace_id)
        before = {trace.trace_id for trace in new.traces()}
        _copy_frames(old, new)
        copied += sum(trace.trace_id not in before for trace in new.traces())
    here.close()
    return copied


def _copy_frames(old: TraceJournal, new: TraceJournal) -> None:
    known: dict[str | None, list[int]] = collections.defaultdict(list)
    for trace_id, body in new.raw():
        known[trace_id].append(crc32(body))
    for is_writing in (False, True):  # nothing is written before all was compared
        seen: collections.Counter[str | None] = collections.Counter()
        waiting: list[bytes] = []
        size = 0
        for trace_id, body in old.raw():
            number, checksums = seen[trace_id], known[trace_id]
            seen[trace_id] += 1
            if number < len(checksums):
                if checksums[number] != crc32(body):
                    raise AlreadyExistsError(
                        f"Both stores have changed the trace {trace_id} since it was copied.",
                        suggestions=("Copy into another store.",),
                    )
            elif is_writing:
                waiting.append(body)
                size += len(body)
                if size > _BYTES:
                    new.append_raw(waiting)
                    waiting, size = [], 0
        new.append_raw(waiting)


def copy_datasets(
    source: MLOpsContext, target: MLOpsContext, homes: Mapping[str, str], *, everything: bool
) -> int:
    """Copy datasets that belong to the experiments of *homes*, or *everything*; return how many were new."""
    there, here = datasets_of(source), datasets_of(target)
    copied = 0
    for dataset_id in there.ids():
        known = there.get(dataset_id)
        if known is None or not (everything or homes.keys() & set(known.experiments)):
            continue
        frames = [_rehomed(frame, homes) for frame in there.frames(dataset_id)]
        already = here.frames(dataset_id)
        if any(canonical(a) != canonical(b) for a, b in zip(already, frames, strict=False)):
            raise AlreadyExistsError(
                f"Both stores have changed the dataset {dataset_id} since it was copied.",
                suggestions=("Copy into another store.",),
            )
        if len(frames) > len(already):
            here.extend(dataset_id, frames[len(already) :])
        copied += not already
    return copied


def _rehomed(frame: dict[str, Any], homes: Mapping[str, str]) -> dict[str, Any]:
    """Return a frame with the experiments as they are in the target; those that did not come along are left out."""

    def moved(ids: Collection[str]) -> list[str]:
        return [homes[one] for one in ids if one in homes]

    if frame.get("op") == "create":
        fields = frame["fields"]
        return {**frame, "fields": {**fields, "experiments": moved(fields["experiments"])}}
    if frame.get("op") == "experiments":
        return {**frame, "add": moved(frame["add"]), "drop": moved(frame["drop"])}
    return frame


def _copy_artifacts(
    source: MLOpsContext, target: MLOpsContext, experiment: Experiment, trace_id: str
) -> None:
    """Copy what MLflow keeps of a trace besides its spans, if that is in the store."""
    root = source.experiment_tracker.root.parent
    tail = _tail_of_artifacts(root, experiment)
    if tail is None or not is_part(trace_id):
        return
    files = inside(root, tail, TRACE_ARTIFACTS, trace_id)
    if is_there(files):
        folder = inside(target.experiment_tracker.root.parent, tail, TRACE_ARTIFACTS, trace_id)
        folder.parent.mkdir(parents=True, exist_ok=True)
        artifacts.copy_in(files, folder)


def _tail_of_artifacts(root: pathlib.Path, experiment: Experiment) -> str | None:
    if not experiment.artifact_uri:
        return "experiment_tracking/artifacts"
    path = local_path(experiment.artifact_uri)
    return None if path is None else below(root, path)


def check_traces(context: MLOpsContext, experiments: Collection[str], report: Report) -> None:
    """Check that each journal of traces belongs to an experiment and that all spans can be read; datasets alike."""
    known = traces_of(context)
    for experiment_id in known.experiments():
        if experiment_id not in experiments:
            report.problems.append(f"Traces: there is no experiment {experiment_id!r}.")
            continue
        journal = known.journal(experiment_id)
        try:
            for trace in journal.traces():
                report.traces += 1
                _check_spans(journal, trace.trace_id, report)
        except OpsError as error:
            report.problems.append(f"Traces of experiment {experiment_id}: {error}")
        report.unknown_frames += journal.unknown
        report.torn_lines += journal.torn
    sets = datasets_of(context)
    for dataset in sets.all():
        report.datasets += 1
        for experiment_id in dataset.experiments:
            if experiment_id not in experiments:
                report.problems.append(
                    f"Dataset {dataset.dataset_id}: there is no experiment {experiment_id!r}."
                )
    report.unknown_frames += sets.unknown
    report.torn_lines += sets.torn


def _check_spans(journal: TraceJournal, trace_id: str, report: Report) -> None:
    trace = journal.get(trace_id)
    if trace is None:
        return  # deleted just now
    try:
        for span in journal.spans(trace):
            json.loads(span.content)
    except (ValueError, TypeError, KeyError) as error:
        report.problems.append(f"Trace {trace_id}: its spans cannot be read: {error}")


def folders_of_traces(context: MLOpsContext) -> Iterator[pathlib.Path]:
    """Yield the folders of artifacts in the store that are, or were, those of traces."""
    folder: pathlib.Path = context.experiment_tracker.root / "artifacts" / TRACE_ARTIFACTS
    return folder.glob("[!.]*")


def all_traces(context: MLOpsContext) -> list[Trace]:
    """Return the traces of all experiments."""
    known = traces_of(context)
    return known.of(known.experiments())


def erase_traces(context: MLOpsContext, before_seconds: float, *, dry_run: bool) -> list[StrPath]:
    """Delete the traces of experiments that were deleted before a time for ever, and return which those are."""
    known, tracker = traces_of(context), context.experiment_tracker

    def is_deleted(experiment: Experiment) -> bool:
        at = experiment.deleted_at
        return at is not None and at.timestamp() <= before_seconds

    found: list[StrPath] = []
    there = set(known.experiments())
    for experiment in filter(is_deleted, tracker.list_experiments(include_deleted=True)):
        experiment_id = experiment.experiment_id
        if experiment_id not in there:
            continue
        if not dry_run:
            if not is_deleted(tracker.get_experiment(experiment_id)):  # restored meanwhile
                continue
            known.erase(experiment_id)
        found.append(f"traces of experiment {experiment_id}")
    return found


def compact_traces(context: MLOpsContext) -> int:
    """Take what was deleted out of all journals of traces, and return how many bytes less there are."""
    known = traces_of(context)
    return sum(known.journal(one).compact() for one in known.experiments())
