"""Runs of other programs, written into a store: a new one at once, one that has grown by what is new.

The main journal of an imported run has what imports wrote and nothing else, since any process that logs to the run
later writes a journal of its own. So what was imported before is read from it, what has changed in the source is the
difference, and a tag or a status that was changed here stays as long as the source has the same as before.

A run's files come first and its journal in one step after them: a run that is there is whole. Which state of the
source it has is the last ``imported`` record in it; one in which nothing changed is not read again. New runs come into the
index some at a time; those that a kill keeps from it are put there when the import is started again.
"""

from __future__ import annotations

import contextlib
import dataclasses
import os
import pathlib
from time import time_ns
from typing import TYPE_CHECKING, Any

from ops.foundation.errors import OpsError
from ops.foundation.files import atomic_write, temporary_directory
from ops.registry.disk import artifacts
from ops.registry.disk.checked_paths import inside, is_id, refuse_link
from ops.registry.disk.derived_files import write_view
from ops.registry.disk.journal import JournalReader, JournalWriter, frame
from ops.registry.factories import contents_of
from ops.registry.importing.records import ForeignFile
from ops.registry.local.run_journals import IN_JSON, RunReader, journal_path
from ops.registry.local.tracking import local_runs
from ops.registry.run_copies import missing_points, points_in_frames
from ops.registry.run_frames import (
    ArtifactLogged,
    ExtraAdded,
    ParametersLogged,
    RunChanged,
    RunStarted,
    TagsSet,
)
from ops.registry.run_rows import MAIN, KeptArtifact
from ops.registry.tracking.run_records import to_run
from ops.registry.tracking.run_state import RunState

if TYPE_CHECKING:
    from collections.abc import Iterator

    from ops.registry.context import MLOpsContext
    from ops.registry.importing.findings import Findings
    from ops.registry.importing.records import ForeignRun
    from ops.registry.run_rows import RunRow

__all__ = ["RunWriter"]

#: The kind of the records with which state of its source a run has.
STAMP = "imported"
#: So many new runs come into the index with one write.
_TOGETHER = 100


class RunWriter:
    """Writes the runs of one import into a local store; what cannot be kept goes into *findings*."""

    def __init__(self, context: MLOpsContext, findings: Findings) -> None:
        self._context = context
        self._tracker = context.experiment_tracker
        self._local = local_runs(context.experiment_tracker)
        self._findings = findings
        self._homes = [
            e.experiment_id for e in self._tracker.list_experiments(include_deleted=True)
        ]
        self._folders: dict[str, pathlib.Path] = {}
        self._contents = contents_of(self._context.config)
        self._is_flushed = self._context.config.durability != "process"
        #: The runs of each experiment: those with a journal, and those that the index has.
        self._there: dict[str, set[str]] = {}
        self._listed: dict[str, set[str]] = {}
        #: New runs that are not in the index yet, by experiment.
        self._waiting: dict[str, list[RunReader]] = {}
        #: How many points and files the runs got that were written.
        self.points: int = 0
        self.files: int = 0

    def __contains__(self, run_id: object) -> bool:
        """Whether the store has a run."""
        return is_id(run_id) and any(self.is_there(str(run_id), home) for home in self._homes)

    def home_of(self, run_id: str, home: str) -> str:
        """Return the experiment in which a run is here, *home* when it is in none."""
        for experiment_id in (home, *self._homes):
            if self.is_there(run_id, experiment_id):
                return experiment_id
        return home

    def is_there(self, run_id: str, home: str) -> bool:
        """Whether an experiment has a run here; no one else imports meanwhile."""
        there = self._there.get(home)
        if there is None:
            there = self._there[home] = _runs_in(self._folder(home))
        return run_id in there

    def is_current(self, run_id: str, home: str, stamp: str) -> bool:
        """Whether a run is here as the source has it now; one that a kill kept from the index is put there."""
        if not self.is_there(run_id, home):
            return False
        row = RunReader(self._folder(home), run_id, keep_history=False).poll().row
        if row.extra.get(STAMP, [None])[-1] != stamp:
            return False
        if home not in self._listed:
            self._listed[home] = {one.run_id for one in self._tracker.index_rows(home)}
        if run_id not in self._listed[home]:
            self._local.store.index_journals(home, run_id)
        return True

    def write(self, run: ForeignRun, home: str, stamp: str) -> None:
        """Write a run, or what has been added to it since it was imported last."""
        if self.is_there(run.copy.run_id, home):
            self._update(run, home, stamp)
            self._local.store.index_journals(home, run.copy.run_id)
            return
        self._waiting.setdefault(home, []).append(self._create(run, home, stamp))
        if sum(map(len, self._waiting.values())) >= _TOGETHER:
            self.finish()

    def finish(self) -> None:
        """Bring the new runs into the index that are not there yet."""
        waiting, self._waiting = self._waiting, {}
        self._local.store.index_written(waiting)

    def _create(self, run: ForeignRun, home: str, stamp: str) -> RunReader:
        """Write a run with its files, and return what has read it."""
        copy = run.copy
        folder = self._tracker.artifact_folder(copy.run_id)
        kept = self._copy_in(run, folder)
        # Whose processes cannot be seen from here: it is RUNNING as long as the source has it so.
        start = RunStarted(copy.run_id, home, copy.name, copy.start, copy.parent)
        row = start.row()
        ended = list(_end(run, row, copy.start))
        row.artifacts = kept
        found = to_run(row, folder.parent).artifacts
        addresses = self._local.files.adopt_files(copy.run_id, found)
        records: list[dict[str, Any]] = [start.plain(), *_extras(run.extras, copy.start)]
        records += copy.records()
        for one in kept:
            recorded = dataclasses.replace(one, address=addresses.get(one.path))
            records.append(ArtifactLogged(recorded).plain())
        records += ended
        records.append(_stamp(stamp))
        path = self._journal(home, copy.run_id)
        data = b"".join(map(frame, records))
        refuse_link(path)
        if self._is_flushed:
            self._folder(home).mkdir(parents=True, exist_ok=True)
            with atomic_write(path, "wb", durable="full") as file:
                file.write(data)
        else:
            write_view(path, data)
        self._there[home].add(copy.run_id)
        self.points += len(copy.points)
        # What was written is not read again.
        reader = RunReader(self._folder(home), copy.run_id, keep_history=IN_JSON)
        reader.advance(path, (0, len(data)), records)
        return reader

    def _update(self, run: ForeignRun, home: str, stamp: str) -> None:
        copy = run.copy
        path = self._journal(home, copy.run_id)
        imported = RunState()
        for record in JournalReader(path).poll():
            imported.apply(record)
        row = imported.row
        now = max(time_ns(), imported.latest + 1)
        records = [_stamp(stamp)]
        params = {k: v for k, v in copy.parameters.items() if row.params.get(k) != v}
        tags: dict[str, str | None] = {k: v for k, v in copy.tags.items() if row.tags.get(k) != v}
        tags |= {k: None for k in row.tags if k not in copy.tags and not k.startswith("ops.")}
        if params:
            records.insert(0, ParametersLogged(params, now).plain())
        if tags:
            records.insert(0, TagsSet(tags, now).plain())
        known = [(key, *point) for key, history in imported.history.items() for point in history]
        points = missing_points(run.copy.points, known)
        records[:0] = points_in_frames(points)
        extras = [(kind, x) for kind, x in run.extras if x not in row.extra.get(kind, [])]
        records[:0] = [*_extras(extras, now), *_end(run, row, now)]
        self._replace_files(run, home)
        # Until the index is up to date, the journal counts.
        self._local.store.expect(home, copy.run_id)
        with JournalWriter(path, durability=self._context.config.durability) as journal:
            journal.append_frames(b"".join(map(frame, records)))
        self.points += len(points)

    def _copy_in(self, run: ForeignRun, folder: pathlib.Path) -> list[KeptArtifact]:
        """Copy the files of a new run, and return them."""
        kept = []
        with _written(run.made) as made:
            for file in [*run.files, *made]:
                try:
                    kept.append(KeptArtifact(file.name, *self.copy_file(file, folder)))
                except (OpsError, OSError, ValueError) as error:
                    self._findings.refuse(f"artifact {file.name} of run {run.copy.run_id}", error)
        self.files += len(kept)
        return kept

    def copy_file(self, file: ForeignFile, folder: pathlib.Path) -> tuple[int, str]:
        """Copy a file below *folder* with its time, by which it is known again; return size and digest."""
        name = artifacts.name_below(folder, file.name)
        staged, size, digest = artifacts.stage(
            file.path, folder, flushed=self._is_flushed, contents=self._contents
        )
        try:
            target = inside(folder, name)
            os.utime(staged, ns=(file.modified_ns, file.modified_ns))
            target.parent.mkdir(parents=True, exist_ok=True)
            artifacts.publish(staged, target)
        finally:
            artifacts.remove(staged)
        return size, digest

    def _replace_files(self, run: ForeignRun, home: str) -> None:
        """Bring the files of a run that are new, or not as they were."""
        run_id = run.copy.run_id
        folder = self._tracker.artifact_folder(run_id)
        reader = RunReader(self._folder(home), run_id, keep_history=False)
        known = {recorded.path for recorded in reader.poll().row.artifacts}
        with _written(run.made) as made:
            for file in [*run.files, *made]:
                if file.name in known and is_same_file(file, folder):
                    continue
                above = str(pathlib.PurePosixPath(file.name).parent)
                below = None if above == "." else above
                try:
                    kept = self._tracker.log_artifact(run_id, file.path, below, overwrite=True)
                    if pathlib.Path(kept.uri).is_file():
                        os.utime(kept.uri, ns=(file.modified_ns, file.modified_ns))
                    self.files += 1
                except (OpsError, OSError, ValueError) as error:
                    self._findings.refuse(f"artifact {file.name} of run {run_id}", error)

    def _journal(self, home: str, run_id: str) -> str:
        return journal_path(self._folder(home), run_id, MAIN)

    def _folder(self, home: str) -> pathlib.Path:
        """Return the folder of an experiment's runs, whose way is checked once."""
        if home not in self._folders:
            self._folders[home] = self._context.paths_of_runs(home)
        return self._folders[home]


def _runs_in(folder: pathlib.Path) -> set[str]:
    """Return the ids of the runs that have a journal in the folder of an experiment's runs."""
    end = f".{MAIN}.log"
    try:
        names = os.listdir(folder)  # noqa: PTH208 - names are all that is needed
    except (FileNotFoundError, NotADirectoryError):
        return set()
    return {name.removesuffix(end) for name in names if name.endswith(end)}


def is_same_file(file: ForeignFile, folder: pathlib.Path) -> bool:
    """Whether the copy of a file below *folder* has its size and time."""
    try:
        there = os.lstat(folder / file.name)
    except OSError:
        return False
    return (there.st_size, there.st_mtime_ns) == (file.size, file.modified_ns)


class _written:  # noqa: N801 - used as a block
    """Artifacts made of what was read, as files for as long as the block runs."""

    def __init__(self, made: dict[str, bytes]) -> None:
        self._made = made
        self._stack = contextlib.ExitStack()

    def __enter__(self) -> list[ForeignFile]:
        if not self._made:  # as for nearly all runs
            return []
        return list(self._write(self._stack.enter_context(temporary_directory())))

    def __exit__(self, *exc: object) -> None:
        self._stack.close()

    def _write(self, folder: pathlib.Path) -> Iterator[ForeignFile]:
        for name, content in self._made.items():
            path = inside(folder, name)
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_bytes(content)
            found = path.stat()
            yield ForeignFile(name, str(path), found.st_size, found.st_mtime_ns)


def _extras(extras: list[tuple[str, Any]], when: int) -> list[dict[str, Any]]:
    return [ExtraAdded(kind, value, when).plain() for kind, value in extras]


def _end(run: ForeignRun, row: RunRow, when: int) -> Iterator[dict[str, Any]]:
    """Yield the record of what the source has of a run otherwise than *row*, the state that imports have written."""
    copy = run.copy
    fields = ("name", "status", "end", "parent", "deleted", "error")
    changed = {f: getattr(copy, f) for f in fields if getattr(row, f) != getattr(copy, f)}
    if changed:
        yield RunChanged(changed, when).plain()


def _stamp(stamp: str) -> dict[str, Any]:
    return ExtraAdded(STAMP, stamp, time_ns()).plain()
