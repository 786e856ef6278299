"""A backend in memory, as small as one can be: what another project has to write, and what the suites prove.

Models need an event store and artifacts, tracking a repository of runs, experiments and files, and neither needs
anything else: the rules come with `ModelRegistry` and `ExperimentTracker`.
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
    BackendUnavailableError,
    CorruptStoreError,
    Experiment,
    ExperimentNotFoundError,
    ExperimentTracker,
    ModelRegistry,
    RunNotFoundError,
    RunStatus,
)
from ops.registry.disk import artifacts as files
from ops.registry.disk.journal import decode, encode
from ops.registry.disk.user_files import UserFiles, table_of
from ops.registry.errors import no_artifact
from ops.registry.instants import from_ns
from ops.registry.models.ports import ModelBackend
from ops.registry.models.state import ModelState, plain_frames
from ops.registry.plain_values import copied
from ops.registry.run_copies import RunCopy
from ops.registry.run_frames import ArtifactLogged, RunChanged, RunStarted
from ops.registry.run_rows import KeptArtifact
from ops.registry.tracking.ports import TrackingBackend
from ops.registry.tracking.run_records import to_artifact, to_run
from ops.registry.tracking.run_state import RunState
from ops.registry.validators import check_name

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


class MemoryExperiments:
    """Experiments by id; nobody else takes a name meanwhile."""

    def __init__(self, memory):
        self._memory = memory

    def create(self, name, description, tags):
        check_name("experiment", name)
        number = f"e{next(self._memory.numbers)}"
        made = Experiment(number, name, dt.datetime.now(dt.UTC), description, dict(tags))
        if self.adopt(made) is not made:
            raise AlreadyExistsError(f"There is an experiment {name!r} already.")
        return made

    def adopt(self, experiment):
        for known in self.all():
            if known.name == experiment.name:
                return known
        return self._memory.experiments.setdefault(experiment.experiment_id, experiment)

    def change(self, experiment_id, *, name=None, tags=None, **deleted):
        known = self.get(experiment_id)
        if name is not None:
            check_name("experiment", name)
        if name not in {None, known.name} and any(one.name == name for one in self.all()):
            raise AlreadyExistsError(f"There is an experiment {name!r} already.")
        kept = {k: v for k, v in {**known.tags, **(tags or {})}.items() if v is not None}
        made = dataclasses.replace(known, name=name or known.name, tags=kept)
        if "deleted" in deleted:
            at = deleted["deleted"] and from_ns(deleted["deleted"])
            made = dataclasses.replace(made, deleted_at=at)
        self._memory.experiments[experiment_id] = made
        return made

    def all(self):
        return list(self._memory.experiments.values())

    def get(self, experiment_id):
        if experiment_id not in self._memory.experiments:
            raise ExperimentNotFoundError(f"There is no experiment {experiment_id!r}.")
        return self._memory.experiments[experiment_id]

    def named(self, name):
        for known in self.all():
            if known.name == name:
                return known
        raise ExperimentNotFoundError(f"There is no experiment {name!r}.")


class MemoryRuns:
    """Each run as the `RunState` that its frames come to."""

    def __init__(self, memory, experiments):
        self._memory, self._experiments = memory, experiments

    def begin(self, start, frames):
        state = RunState()
        for frame in (start, *frames):
            state.fold(frame, start.at)
        self._memory.runs[start.run_id] = state
        return state.row.copy()

    def _state(self, run_id):
        if run_id not in self._memory.runs:
            raise RunNotFoundError(f"There is no run {run_id!r}.")
        return self._memory.runs[run_id]

    def home(self, run_id):
        return self._state(run_id).row.experiment_id

    def is_open(self, run_id):
        return False

    def now(self, run_id):
        return max(time.time_ns(), self._state(run_id).latest_point + 1)

    def append(self, run_id, frame):
        self._state(run_id).apply(decode(encode(frame.plain())))  # nothing of the caller's is kept
        self._memory.dead.discard(run_id)

    def append_points(self, run_id, points, body):
        for point in points:
            self._state(run_id).point(*point)
        self._memory.dead.discard(run_id)

    def end(self, run_id, ended):
        self.append(run_id, ended)
        return self.run(run_id)

    def change(self, run_id, fields, at):
        self.append(run_id, RunChanged(fields, at))

    def erase(self, run_id):
        del self._memory.runs[run_id]

    def _row(self, run_id):
        row = self._state(run_id).row.copy()
        return row.with_status(RunStatus.STALE) if run_id in self._memory.dead else row

    def run(self, run_id):
        return to_run(self._row(run_id), pathlib.Path("memory"))

    def rows(self, experiment_id):
        self._experiments.get(experiment_id)
        rows = map(self._row, list(self._memory.runs))
        return [row for row in rows if row.experiment_id == experiment_id]

    def found(self, experiment_ids, query):
        rows = [row for one in experiment_ids for row in self.rows(one)]
        return [to_run(row, pathlib.Path("memory")) for row in query.selected(rows)]

    def count(self, experiment_ids, query):
        return sum(query.holds(row) for one in experiment_ids for row in self.rows(one))

    def history(self, run_id, key):
        return self._state(run_id).metric_history(key)

    def follower(self, run_id):
        self._state(run_id)
        return MemoryFollower(self, run_id)

    def export(self, run_id):
        row, history = self._state(run_id).row.copy(), self._state(run_id).history
        points = [(key, *one) for key, found in history.items() for one in found]
        named = (getattr(row, key) for key in ("name", "status", "start", "end", "parent", "error"))
        kept = [(one.path, one.size, one.checksum) for one in row.artifacts]
        points.sort(key=lambda one: one[3])
        return RunCopy(run_id, *named, row.params, row.tags, points, kept, row.deleted)

    def adopt(self, copy, experiment_id, artifacts):
        start = RunStarted(copy.run_id, experiment_id, copy.name, copy.start, copy.parent)
        end = {"status": copy.status, "end": copy.end, "error": copy.error, "deleted": copy.deleted}
        self.begin(start, artifacts)
        for record in (*copy.records(), RunChanged(end, time.time_ns()).plain()):
            self._state(copy.run_id).apply(record)

    def compact(self):
        return len(self._memory.runs)

    rebuild = compact

    def close(self):
        pass


class MemoryFollower:
    """Points are handed out in the order in which they are in memory."""

    is_behind = is_ending = False

    def __init__(self, runs, run_id):
        self._runs, self._run_id, self._given = runs, run_id, {}

    def poll(self):
        over = self._runs.run(self._run_id).status is not RunStatus.RUNNING
        new = []
        for key in self._runs.run(self._run_id).metrics:
            found = self._runs.history(self._run_id, key)
            new += found[self._given.get(key, 0) :]
            self._given[key] = len(found)
        return sorted(new, key=lambda metric: metric.timestamp), over


class MemoryRunFiles:
    """The artifacts of runs, by run and name."""

    def __init__(self, memory, runs):
        self._memory, self._runs = memory, runs

    def keep(self, run_id, source, name, *, overwrite):
        known = {one.path: one for one in self._runs.run(run_id).artifacts}
        files.check_apart(run_id, name, known)
        digest = files.checksum(files.origin_of(source), stored=False)
        same = files.same(run_id, known.get(name), digest, overwrite=overwrite)
        if same is not None:
            return same, False
        size, digest = self._memory.put(source, f"runs/{run_id}/{name}")
        kept = KeptArtifact(name, size, digest)
        self._runs.append(run_id, ArtifactLogged(kept, time.time_ns()))
        return to_artifact(kept, pathlib.Path("memory", run_id)), True

    def fetch(self, run_id, name, target, *, overwrite):
        kept = {one.path: one.checksum for one in self._runs.run(run_id).artifacts}
        if name not in kept:
            raise no_artifact(run_id, name)
        self._memory.get(f"runs/{run_id}/{name}", target, kept[name], overwrite=overwrite)

    def verify(self, run_id, found):
        with tempfile.TemporaryDirectory() as folder:
            for number, one in enumerate(found):
                self.fetch(run_id, one.path, pathlib.Path(folder, str(number)), overwrite=False)

    def remove(self, run_id, gone):
        for one in gone:
            self._memory.files.pop(f"runs/{run_id}/{one.path}", None)

    def adopt(self, copy, experiment_id, fetch):
        kept = [KeptArtifact(*one) for one in copy.artifacts]
        with tempfile.TemporaryDirectory() as folder:
            for number, one in enumerate(kept):
                got = fetch(one.path, pathlib.Path(folder, str(number)))
                self._memory.put(got, f"runs/{copy.run_id}/{one.path}")
        return [ArtifactLogged(one, copy.start) for one in kept]

    def folder(self, run_id):
        raise BackendUnavailableError("The artifacts of runs are in memory.")

    def left_over(self, before_seconds):
        return []

    def clear(self, uris):
        pass

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
    memory = Memory.at(config.storage_path)
    experiments = MemoryExperiments(memory)
    runs = MemoryRuns(memory, experiments)
    backend = TrackingBackend(
        pathlib.Path(config.storage_path), experiments, runs, MemoryRunFiles(memory, runs)
    )
    return ExperimentTracker(backend=backend, operations=operations)


def make_registry(config, operations):
    memory = Memory.at(config.storage_path)
    backend = ModelBackend(
        pathlib.Path(config.storage_path), MemoryEvents(memory), MemoryModelArtifacts(memory)
    )
    return ModelRegistry(backend=backend, operations=operations)


def make_storage(config, operations):
    return MemoryStorage(Memory.at(config.storage_path), operations)
