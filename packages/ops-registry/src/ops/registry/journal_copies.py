"""Runs that go from one store of local files to another: their journals as they are, and the files that these name.

A process may log to the run meanwhile, there or here. The journals are read before the files are copied: a file is there
before a journal names it, so a copy has all files that it names. What is here is not replaced: it is looked at
again when the files have come, and what is missing is appended. The main journal comes last and at once: a run that is there is whole.
"""

from __future__ import annotations

import contextlib
from typing import TYPE_CHECKING, Any

from ops.foundation.files import atomic_write
from ops.foundation.paths import is_there
from ops.registry.disk import artifacts
from ops.registry.disk.checked_paths import inside
from ops.registry.disk.journal import JournalReader, JournalWriter, encode, frame
from ops.registry.disk.store_addresses import below, local_path
from ops.registry.errors import StorageError, both_changed
from ops.registry.factories import contents_of
from ops.registry.local.run_journals import RunReader, journal_path
from ops.registry.local.tracking import local_runs
from ops.registry.run_rows import KeptArtifact
from ops.registry.tracking.run_records import to_run

if TYPE_CHECKING:
    import pathlib
    from collections.abc import Iterable, Mapping

    from ops.registry.context import MLOpsContext
    from ops.registry.disk.content_store import ContentStore
    from ops.registry.records import Experiment

__all__ = ["copy_run", "tail_of_artifacts"]

#: How often a folder is copied again in which a file was replaced meanwhile.
_ATTEMPTS = 5


def copy_run(
    source: MLOpsContext,
    target: MLOpsContext,
    experiment: Experiment,
    run_id: str,
    home: Experiment,
) -> bool:
    """Copy a run of *experiment* to the experiment *home* of the target, unless it is there; say whether anything was copied.

    Raises:
        AlreadyExistsError: both stores have added to the run since it was copied.
    """
    old = source.paths_of_runs(experiment.experiment_id)
    new = target.paths_of_runs(home.experiment_id)
    reader = RunReader(old, run_id, keep_history=False)
    reader.poll()
    there = {
        writer: JournalReader(journal_path(old, run_id, writer)).poll(size) if size else []
        for writer, size in reader.through.items()
    }
    if _has_all(run_id, _records(new, run_id, there), there):
        return False
    new.mkdir(parents=True, exist_ok=True)
    runs = local_runs(target.experiment_tracker)
    with contextlib.ExitStack() as staged:
        copies = [
            (_staged(files, folder.parent, contents, staged), folder)
            for files, folder, contents in _folders(source, target, experiment, run_id)
        ]
        with runs.files.deciding():
            if _has_all(run_id, _records(new, run_id, there), there):
                return False  # another process was faster
            for copy, folder in copies:
                artifacts.publish(copy, folder)
    run = to_run(reader.state.row, _homes_of_files(source, experiment, run_id)[-1].parent)
    addresses = runs.files.adopt_files(run_id, run.artifacts)
    with runs.files.deciding():
        here = _records(new, run_id, there)
        if _has_all(run_id, here, there):
            return False
        runs.store.expect(home.experiment_id, run_id)
        for writer, records in reversed(there.items()):
            missing = [_moved(one, home, addresses) for one in records[len(here[writer]) :]]
            _append(journal_path(new, run_id, writer), missing)
    runs.store.index_journals(home.experiment_id, run_id)
    return True


def _folders(
    source: MLOpsContext, target: MLOpsContext, experiment: Experiment, run_id: str
) -> Iterable[tuple[pathlib.Path, pathlib.Path, ContentStore | None]]:
    """Yield the folders of a run's files, where they go, and what they share there."""
    own, *set_by_experiment = _homes_of_files(source, experiment, run_id)
    if is_there(own):
        folder = target.experiment_tracker.artifact_folder(run_id)
        yield own, folder, contents_of(target.config)
    root = source.experiment_tracker.root.parent
    for files in filter(is_there, set_by_experiment):
        tail = files.relative_to(root).as_posix()
        folder = inside(target.experiment_tracker.root.parent, tail)
        folder.parent.mkdir(parents=True, exist_ok=True)
        yield files, folder, None


def _homes_of_files(
    source: MLOpsContext, experiment: Experiment, run_id: str
) -> list[pathlib.Path]:
    """Return where a run's files are: the folder that each run has, and that which its experiment sets, if any."""
    own = source.experiment_tracker.artifact_folder(run_id)
    tail = tail_of_artifacts(source, experiment)
    return (
        [own]
        if tail is None
        else [own, inside(source.experiment_tracker.root.parent, tail, run_id)]
    )


def _staged(
    files: pathlib.Path,
    folder: pathlib.Path,
    contents: ContentStore | None,
    staged: contextlib.ExitStack,
) -> pathlib.Path:
    """Copy *files* into *folder*, under a name that goes when *staged* is closed, if it is there then."""
    for attempt in range(_ATTEMPTS):
        try:
            copy, _, _ = artifacts.stage(files, folder, contents=contents)
        except StorageError as error:
            # One that was listed, and has its name in the store by now.
            if not isinstance(error.__cause__, FileNotFoundError) or attempt == _ATTEMPTS - 1:
                raise
        else:
            staged.callback(artifacts.remove, copy)
            return copy
    raise AssertionError(_ATTEMPTS)


def tail_of_artifacts(source: MLOpsContext, experiment: Experiment) -> str | None:
    """Return the subfolder of the source store that an experiment sets for its artifacts, if any."""
    path = local_path(experiment.artifact_uri) if experiment.artifact_uri else None
    return None if path is None else below(source.experiment_tracker.root.parent, path)


def _append(path: str, records: list[dict[str, Any]]) -> None:
    """Let a journal have *records* too; one that is not there yet appears with all of them."""
    data = b"".join(map(frame, records))
    try:
        with atomic_write(path, "xb") as file:
            file.write(data)
    except FileExistsError:
        with JournalWriter(path, durability="commit") as journal:
            if data:
                journal.append_frames(data)


def _records(
    folder: pathlib.Path, run_id: str, writers: Iterable[str]
) -> dict[str, list[dict[str, Any]]]:
    """Return the records of each journal of a run."""
    return {
        writer: JournalReader(journal_path(folder, run_id, writer)).poll() for writer in writers
    }


def _has_all(
    run_id: str, here: Mapping[str, list[dict[str, Any]]], there: Mapping[str, list[dict[str, Any]]]
) -> bool:
    """Whether *here* is all that is *there*; if each of both has something of its own they differ."""
    pairs = [(_plain(here[writer]), _plain(there[writer])) for writer in there]
    if all(h[: len(t)] == t for h, t in pairs):
        return True
    if not all(t[: len(h)] == h for h, t in pairs):
        raise both_changed(run_id)
    return False


def _plain(records: Iterable[dict[str, Any]]) -> list[bytes]:
    """Return records without what differs between stores."""
    return [encode(_without_location(record)) for record in records]


def _without_location(record: dict[str, Any]) -> dict[str, Any]:
    if "a" in record:
        return record | {"a": record["a"][:3]}
    return record | {"exp": ""} if record.get("e") == "start" else record


def _moved(
    record: dict[str, Any], home: Experiment, addresses: Mapping[str, str]
) -> dict[str, Any]:
    if "a" in record:
        path, size, checksum = record["a"][:3]
        moved = KeptArtifact(path, size, checksum, addresses.get(path))
        return record | {"a": moved.plain()}
    return record | {"exp": home.experiment_id} if record.get("e") == "start" else record
