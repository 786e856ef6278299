"""A backend in memory, as small as one can be: what another project has to write, and what the suites prove.

Models need an event store, artifacts and nothing else: the rules come with `ModelRegistry`. The tracker keeps each
run as the `RunState` that frames come to, and fits `ExperimentTrackerProtocol`.
"""

from __future__ import annotations

import contextlib
import dataclasses
import datetime as dt
import itertools
import pathlib
import tempfile
import time

from ops.foundation.paths import RelativePath
from ops.registry import (
    AlreadyExistsError,
    ArtifactNotFoundError,
    CorruptStoreError,
    Experiment,
    ExperimentNotFoundError,
    ModelRegistry,
    RunNotFoundError,
    RunStatus,
)
from ops.registry.disk import artifacts as files
from ops.registry.disk.userfiles import UserFiles, table_of
from ops.registry.models.ports import ModelBackend
from ops.registry.models.state import ModelState, plain_frames
from ops.registry.plain_values import copied, plain_parameters
from ops.registry.run_copies import RunCopy
from ops.registry.search.runsearch import KINDS, Query, lookup, to_table
from ops.registry.search.selection import select
from ops.registry.tracking.points import point
from ops.registry.tracking.run_records import to_run
from ops.registry.tracking.runlog import RunState
from ops.registry.validators import check_name, check_status

#: What processes that open the same path share.
STORES: dict[str, Memory] = {}


class Memory:
    """All that one store has: bytes of files by name, frames, experiments and runs."""

    def __init__(self):
        self.files, self.frames, self.experiments, self.runs = {}, [], {}, {}
        self.dead = set()
        self.numbers = itertools.count(1)

    @classmethod
    def at(cls, path):
        return STORES.setdefault(str(path), cls())

    def put(self, source, name):
        """Keep a file or folder; return its size and digest."""
        source = pathlib.Path(source)
        parts = files.names(source) if source.is_dir() else [""]
        kept = {part: (source / part if part else source).read_bytes() for part in parts}
        self.files[name] = kept if source.is_dir() else kept[""]
        return sum(map(len, kept.values())), files.checksum(source, stored=False)

    def get(self, name, target, digest=None, *, overwrite=False):
        """Write what was kept to *target*, verified."""
        if name not in self.files:
            raise ArtifactNotFoundError(f"There is nothing at {name!r}.")
        with tempfile.TemporaryDirectory() as folder:
            copy, kept = pathlib.Path(folder, "copy"), self.files[name]
            for part, data in kept.items() if isinstance(kept, dict) else [("", kept)]:
                place = copy / part if part else copy
                place.parent.mkdir(parents=True, exist_ok=True)
                place.write_bytes(data)
            found = files.checksum(copy, stored=False)
            if digest not in {None, found}:
                raise CorruptStoreError(f"{name!r} is not what was stored.")
            return files.fetch(copy, target, found, overwrite=overwrite)


class MemoryEvents:
    """An event store of models: frames in a list, which nobody else changes meanwhile."""

    def __init__(self, memory):
        self._memory, self._folded, self.state = memory, 0, ModelState("memory")

    def refresh(self):
        new = self._memory.frames[self._folded :]
        for frame in new:
            self.state.apply(copied(frame))
        self._folded += len(new)

    def commit(self, name, decide, then=None):
        self.refresh()
        frame = {"v": 1, **decide(self.state.models.get(name))}
        self._memory.frames.append(copied(frame))
        self.refresh()
        if then is not None:
            then()
        return frame

    def history(self, name):
        return [copied(frame) for frame in self._memory.frames if frame["name"] == name]

    def history_like(self, name, first):
        return plain_frames(self.history(name), name)

    def excluding(self):
        return contextlib.nullcontext()

    def is_sound(self):
        return True

    def reset(self):
        self._folded, self.state = 0, ModelState("memory")

    rebuild = reset

    def close(self):
        pass


@dataclasses.dataclass
class Staged:
    memory: Memory
    origin: pathlib.Path
    size: int = 0
    checksum: str = ""

    def placed(self, model_id, number):
        place = f"{model_id}/v{number}/{self.origin.name}"
        self.size, self.checksum = self.memory.put(self.origin, place)
        return {"file": self.origin.name}

    def discard(self):
        pass


class MemoryModelArtifacts:
    """The files of versions, by the path that their frames come to."""

    def __init__(self, memory):
        self._memory = memory

    def stage(self, origin, model_id):
        if not origin.exists():
            raise ArtifactNotFoundError(f"There is no file or folder {str(origin)!r} to store.")
        size, checksum = self._memory.put(origin, f".staged/{next(self._memory.numbers)}")
        return Staged(self._memory, origin, size, checksum)

    def _name(self, version):
        return version.artifact_uri.removeprefix("memory/")

    def fetch(self, version, target, *, overwrite=True):
        return self._memory.get(self._name(version), target, version.checksum, overwrite=overwrite)

    @contextlib.contextmanager
    def at_hand(self, version):
        with tempfile.TemporaryDirectory() as folder:
            yield self.fetch(version, pathlib.Path(folder, self.file_name(version)))

    def verify(self, version):
        with self.at_hand(version):
            pass

    def file_name(self, version):
        return version.artifact_uri.rpartition("/")[2]

    def remove(self, versions):
        for version in versions:
            self._memory.files.pop(self._name(version), None)

    def adopted(self, record, origin):
        place = f"{record['model_id']}/v{record['version']}/{record['file']}"
        if pathlib.Path(origin, place).exists():
            self._memory.put(pathlib.Path(origin, place), place)
        return dict(record)

    def left_over(self, before_seconds, versions):
        return []

    def clear(self, uris):
        pass

    def close(self):
        pass


class MemoryTracker:
    """Experiments and runs in memory; no hooks and no events, which are a tracker's own affair."""

    def __init__(self, memory):
        self._memory = memory

    # Experiments

    def create_experiment(self, name, description="", tags=None):
        check_name("experiment", name)
        made = Experiment(
            f"e{next(self._memory.numbers)}", name, dt.datetime.now(dt.UTC), description, tags or {}
        )
        if self.adopt_experiment(made) is not made:
            raise AlreadyExistsError(f"There is an experiment {name!r} already.")
        return made

    def adopt_experiment(self, experiment):
        for known in self._memory.experiments.values():
            if known.name == experiment.name:
                return known
        return self._memory.experiments.setdefault(experiment.experiment_id, experiment)

    def get_or_create_experiment(self, name, description="", tags=None):
        with contextlib.suppress(AlreadyExistsError):
            return self.create_experiment(name, description, tags)
        return self.get_experiment_by_name(name)

    def get_experiment(self, experiment_id):
        if experiment_id not in self._memory.experiments:
            raise ExperimentNotFoundError(f"There is no experiment {experiment_id!r}.")
        return self._memory.experiments[experiment_id]

    def get_experiment_by_name(self, name):
        for known in self._memory.experiments.values():
            if known.name == name:
                return known
        raise ExperimentNotFoundError(f"There is no experiment {name!r}.")

    def list_experiments(self, *, include_deleted=False):
        found = self._memory.experiments.values()
        return [one for one in found if include_deleted or one.deleted_at is None]

    def search_experiments(self, filter=None, order_by=None, limit=None):  # noqa: A002 - the published name
        return self.list_experiments()[:limit]

    def _changed(self, experiment_id, **fields):
        made = dataclasses.replace(self.get_experiment(experiment_id), **fields)
        self._memory.experiments[experiment_id] = made
        return made

    def rename_experiment(self, experiment_id, name):
        return self._changed(experiment_id, name=name)

    def delete_experiment(self, experiment_id):
        self._changed(experiment_id, deleted_at=dt.datetime.now(dt.UTC))

    def restore_experiment(self, experiment_id):
        return self._changed(experiment_id, deleted_at=None)

    # Runs

    def _state(self, run_id):
        if run_id not in self._memory.runs:
            raise RunNotFoundError(f"There is no run {run_id!r}.")
        return self._memory.runs[run_id]

    def _apply(self, run_id, record):
        self._state(run_id).apply({**copied(record), "t": time.time_ns()})
        self._memory.dead.discard(run_id)

    def _row(self, run_id):
        row = self._state(run_id).row.copy()
        return row.with_status(RunStatus.STALE) if run_id in self._memory.dead else row

    def start_run(self, experiment_id, name=None, parent_run_id=None, tags=None, parameters=None):
        self.get_experiment(experiment_id)
        run_id = f"r{next(self._memory.numbers)}"
        state = RunState()
        start = {"e": "start", "v": 1, "run": run_id, "exp": experiment_id, "name": name or run_id}
        state.apply(start | {"t": time.time_ns(), "parent": parent_run_id, "tags": tags or {}})
        self._memory.runs[run_id] = state
        self.log_parameters(run_id, parameters or {})
        return self.get_run(run_id)

    def end_run(self, run_id, status=RunStatus.COMPLETED, error=None):
        ended = {"e": "end", "status": str(check_status(status)), "error": error}
        self._apply(run_id, ended)
        return self.get_run(run_id)

    @contextlib.contextmanager
    def run_context(self, experiment_id, name=None, parent_run_id=None, tags=None, parameters=None):
        run = self.start_run(experiment_id, name, parent_run_id, tags, parameters)
        try:
            yield run
        except BaseException as error:
            self.end_run(run.run_id, RunStatus.FAILED, f"{type(error).__name__}: {error}")
            raise
        if not self.get_run(run.run_id).status.is_final:
            self.end_run(run.run_id)

    def delete_run(self, run_id):
        self._apply(run_id, {"e": "change", "c": {"deleted": time.time_ns()}})

    def restore_run(self, run_id):
        self._apply(run_id, {"e": "change", "c": {"deleted": None}})
        return self.get_run(run_id)

    def log_metric(self, run_id, key, value, step=0):
        self.log_batch(run_id, [(key, value, step)])

    def log_metrics(self, run_id, metrics, step=0):
        self.log_batch(run_id, [(key, value, step) for key, value in metrics.items()])

    def log_batch(self, run_id, metrics=(), parameters=None, tags=None):
        for key, value, step in metrics:
            point(key, value, step, 0)  # refuses what is no point
            self._apply(run_id, {"m": [[key, float(value), int(step), time.time_ns()]]})
        self.log_parameters(run_id, parameters or {})
        for key, value in (tags or {}).items():
            self.set_tag(run_id, key, value)

    def log_parameter(self, run_id, key, value):
        self.log_parameters(run_id, {key: value})

    def log_parameters(self, run_id, parameters):
        self._apply(run_id, {"p": plain_parameters("parameters", parameters)})

    def set_tag(self, run_id, key, value):
        self._apply(run_id, {"g": {key: str(value)}})

    # Artifacts

    def log_artifact(self, run_id, path, artifact_path=None, *, overwrite=False):
        name = "/".join(filter(None, [artifact_path, pathlib.Path(path).name]))
        known = {one.path: one for one in self.get_run(run_id).artifacts}
        files.check_apart(run_id, name, known)
        digest = files.checksum(pathlib.Path(path), stored=False)
        same = files.same(run_id, known.get(name), digest, overwrite=overwrite)
        if same is not None:
            return same
        size, digest = self._memory.put(path, f"runs/{run_id}/{name}")
        self._apply(run_id, {"a": [name, size, digest]})
        return next(one for one in self.get_run(run_id).artifacts if one.path == name)

    def log_text(self, run_id, text, artifact_path, *, overwrite=False):
        with tempfile.TemporaryDirectory() as folder:
            above, _, name = artifact_path.rpartition("/")
            pathlib.Path(folder, name).write_text(text, encoding="utf-8")
            return self.log_artifact(
                run_id, pathlib.Path(folder, name), above or None, overwrite=overwrite
            )

    def download_run_artifact(self, run_id, path, destination, *, overwrite=False):
        target = pathlib.Path(destination)
        target = target / pathlib.PurePosixPath(path).name if target.is_dir() else target
        return self._memory.get(f"runs/{run_id}/{path}", target, overwrite=overwrite)

    def verify_artifacts(self, run):
        with tempfile.TemporaryDirectory() as folder:
            for number, one in enumerate(run.artifacts):
                target = pathlib.Path(folder, str(number))
                self._memory.get(f"runs/{run.run_id}/{one.path}", target, one.checksum)

    # Reading

    def get_run(self, run_id):
        return to_run(self._row(run_id), pathlib.Path("memory"))

    def get_metric_history(self, run_id, key):
        return self._state(run_id).metric_history(key)

    def follow(self, run_id):
        for key in list(self._state(run_id).history):
            yield from self.get_metric_history(run_id, key)

    def _rows(self, experiment_id):
        wanted = [experiment_id] if isinstance(experiment_id, str) else experiment_id
        homes = {self.get_experiment(one).experiment_id for one in wanted}
        rows = map(self._row, list(self._memory.runs))
        return [row for row in rows if row.experiment_id in homes]

    def list_runs(self, experiment_id, status=None, *, include_deleted=False):
        return [
            run
            for run in (to_run(row, pathlib.Path("memory")) for row in self._rows(experiment_id))
            if (status is None or run.status == status) and (include_deleted or not run.deleted_at)
        ]

    def list_child_runs(self, run_id):
        home = self.get_run(run_id).experiment_id
        return [run for run in self.list_runs(home) if run.parent_run_id == run_id]

    def search_runs(
        self,
        experiment_id,
        metric_filter=None,
        filter=None,  # noqa: A002 - the published name
        order_by=None,
        limit=None,
        offset=0,
        *,
        include_deleted=False,
    ):
        query = Query(
            filter, metric_filter, order_by, limit, offset, include_deleted=include_deleted
        )
        found = [row for row in self._rows(experiment_id) if query.holds(row)]
        found = select(found, KINDS, lookup, order_by=order_by)[offset:]
        return [to_run(row, pathlib.Path("memory")) for row in found[:limit]]

    def count_runs(
        self,
        experiment_id,
        metric_filter=None,
        filter=None,  # noqa: A002 - the published name
        *,
        include_deleted=False,
    ):
        return len(
            self.search_runs(experiment_id, metric_filter, filter, include_deleted=include_deleted)
        )

    def compare_runs(self, run_ids):
        return to_table([self.get_run(run_id) for run_id in run_ids])

    # Copies and care

    def export_run(self, run_id):
        row, history = self._state(run_id).row, self._state(run_id).history
        points = [(key, *one) for key, found in history.items() for one in found]
        named = (getattr(row, key) for key in ("name", "status", "start", "end", "parent", "error"))
        kept = [(one.path, one.size, one.checksum) for one in row.artifacts]
        points.sort(key=lambda one: one[3])
        return RunCopy(run_id, *named, row.params, row.tags, points, kept, row.deleted)

    def import_run(self, copy, experiment_id, fetch):
        state = self._memory.runs[copy.run_id] = RunState()
        start = {"e": "start", "v": 1, "run": copy.run_id, "exp": experiment_id, "tags": {}}
        state.apply(start | {"name": copy.name, "t": copy.start, "parent": copy.parent})
        for record in copy.records():
            state.apply(record)
        with tempfile.TemporaryDirectory() as folder:
            for number, (name, size, digest) in enumerate(copy.artifacts):
                got = fetch(name, pathlib.Path(folder, str(number)))
                self._memory.put(got, f"runs/{copy.run_id}/{name}")
                state.apply({"a": [name, size, digest], "t": copy.start})
        end = {"status": copy.status, "end": copy.end, "error": copy.error, "deleted": copy.deleted}
        state.apply({"e": "change", "c": end, "t": time.time_ns()})

    def left_over(self, before_seconds):
        return []

    def clear(self, uris):
        pass

    def compact(self):
        return len(self._memory.runs)

    def close(self):
        pass


class MemoryStorage(UserFiles[str]):
    """The user's own files, by path."""

    def __init__(self, memory, operations):
        super().__init__(operations)
        self._memory = memory

    def location(self, path):
        return f"storage/{RelativePath(path)}"

    def _below(self, place):
        kept = self._memory.files
        return [name for name in kept if name == place or name.startswith(f"{place}/")]

    def list_paths(self, prefix=""):
        found = []
        for name in self._below("storage"):
            kept = self._memory.files[name]
            path = name.removeprefix("storage/")
            found += [f"{path}/{part}" for part in kept] if isinstance(kept, dict) else [path]
        return sorted(path for path in found if path.startswith(prefix))

    def _is_there(self, place):
        return bool(self._below(place))

    def _write(self, place, write):
        with tempfile.TemporaryDirectory() as folder:
            copy = pathlib.Path(folder, "copy")
            with copy.open("wb") as file:
                write(file)
            self._memory.put(copy, place)

    def _append(self, df, place):
        import pandas as pd

        if self._is_there(place):
            with self._local(place) as copy:
                df = pd.concat([table_of(copy, place), df], ignore_index=True)
        self._write(place, df.to_parquet)

    def _copy_in(self, source, place):
        self._memory.put(source, place)

    @contextlib.contextmanager
    def _local(self, place):
        with tempfile.TemporaryDirectory() as folder:
            yield self._memory.get(place, pathlib.Path(folder, "copy"))

    def _remove(self, place):
        gone = self._below(place)
        for name in gone:
            del self._memory.files[name]
        return bool(gone)


def make_tracker(config, operations):
    return MemoryTracker(Memory.at(config.storage_path))


def make_registry(config, operations):
    memory = Memory.at(config.storage_path)
    backend = ModelBackend(
        pathlib.Path(config.storage_path), MemoryEvents(memory), MemoryModelArtifacts(memory)
    )
    return ModelRegistry(backend=backend, operations=operations)


def make_storage(config, operations):
    return MemoryStorage(Memory.at(config.storage_path), operations)
