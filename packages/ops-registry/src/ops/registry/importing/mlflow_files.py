"""MLflow's file store: what ``./mlruns`` of MLflow 1, 2 and 3 has, read without mlflow.

The layout is that of MLflow's ``FileStore``. An experiment is a folder with ``meta.yaml``, deleted ones are below
``.trash``; a run is a folder in it with ``meta.yaml``, a file per parameter and per tag, a file per metric with a
line per point (``milliseconds value step``, of MLflow before 1.0 without the step, with a dataset two words more),
``inputs``, ``outputs`` and ``artifacts``. Names with "/" are folders. ``models`` has the registered models.

A last line without its end is being written, or torn: it is left for the next import.
"""

from __future__ import annotations

import hashlib
from typing import TYPE_CHECKING, Any

from ops.registry.disk.checked_paths import is_id
from ops.registry.importing.artifact_folders import ArtifactFolders
from ops.registry.importing.findings import ForeignDataError
from ops.registry.importing.foreign_files import ForeignFolder
from ops.registry.importing.meta_files import nanoseconds, parse_meta
from ops.registry.importing.mlflow_addresses import is_elsewhere
from ops.registry.importing.mlflow_models import FileModels
from ops.registry.importing.mlflow_values import (
    checked_points,
    checked_texts,
    dataset_record,
    experiment_of,
    run_copy,
    status_of,
)
from ops.registry.importing.records import ForeignFile, ForeignRun
from ops.registry.records import RunStatus

if TYPE_CHECKING:
    import pathlib
    from collections.abc import Iterable, Sequence

    from ops.registry.importing.findings import Findings
    from ops.registry.importing.meta_files import Meta
    from ops.registry.importing.records import ForeignLoggedModel, ForeignModel
    from ops.registry.records import Experiment

__all__ = ["MLflowFiles"]

META = "meta.yaml"
_TRASH, _MODELS = ".trash", "models"
#: Folders of an experiment that are no runs.
_RESERVED = {"tags", "datasets", "traces", "models"}
#: A dataset's profile may have 16 MiB.
_DATASET_BYTES = 32 << 20


class MLflowFiles:
    """The file store in *root*; artifacts that are not beside their runs are looked for in *artifacts*."""

    def __init__(
        self, root: pathlib.Path, findings: Findings, artifacts: Sequence[pathlib.Path] = ()
    ) -> None:
        self.findings: Findings = findings
        self._folder = ForeignFolder(root, findings)
        self._elsewhere = ArtifactFolders(artifacts, findings)
        self._models = FileModels(self._folder, findings)
        #: The folder of each experiment and run that is not refused.
        self._experiments: dict[str, str] = {}
        self._runs: dict[str, str] = {}
        self._locations: dict[str, str | None] = {}
        #: The files of the run whose stamp was made last: it is read next.
        self._listed: tuple[str, list[ForeignFile]] = ("", [])
        self._datasets: dict[tuple[str, str], dict[str, Any] | None] = {}

    def experiments(self) -> list[Experiment]:
        """Return the experiments, those in ``.trash`` as deleted."""
        found = []
        for folder in self._experiment_folders():
            with self.findings.refusing(folder):
                experiment = self._experiment(folder)
                if experiment.experiment_id in self._experiments:
                    raise ForeignDataError(f"a second experiment {experiment.experiment_id}")
                self._experiments[experiment.experiment_id] = folder
                found.append(experiment)
        return sorted(found, key=lambda one: one.created_at)

    def run_ids(self, experiment_id: str) -> list[str]:
        """Return the ids of an experiment's runs: its folders that have a ``meta.yaml``."""
        home = self._experiments[experiment_id]
        found = []
        for name in self._folder.folders(home):
            folder = f"{home}/{name}"
            if name in _RESERVED:
                continue
            if not is_id(name) or name in self._runs:
                self.findings.refuse(folder, "no run of its own")
            elif self._folder.has(f"{folder}/{META}"):
                self._runs[name] = folder
                found.append(name)
            else:
                self.findings.refuse(folder, f"no run: it has no {META}")
        traces = len(self._folder.folders(f"{home}/traces"))
        if traces:
            self.findings.leave_out(f"{traces} traces of experiment {experiment_id}")
        return found

    def stamp(self, run_id: str) -> str:
        """Return a digest of the names, sizes and times of all files of a run."""
        files = list(self._folder.files(self._runs[run_id]))
        self._listed = run_id, files
        every = [*files, *self._artifacts_elsewhere(run_id)]
        lines = (f"{file.name} {file.size} {file.modified_ns}\n" for file in every)
        return hashlib.blake2b("".join(lines).encode(), digest_size=12).hexdigest()

    def run(self, run_id: str) -> ForeignRun:
        """Return a run with all that it has; what of it is damaged is left out."""
        folder = self._runs[run_id]
        meta = self._meta(f"{folder}/{META}")
        named = meta.text("run_id", "run_uuid")
        home = meta.text("experiment_id")
        if named != run_id or self._experiments.get(home or "") != folder.rpartition("/")[0]:
            raise ForeignDataError(f"{META} is of run {named!r:.80} of experiment {home!r:.80}")
        return self._run(run_id, folder, meta)

    def logged_models(self, experiment_id: str) -> list[ForeignLoggedModel]:
        """Return the logged models of an experiment."""
        return self._models.logged_models(experiment_id, self._experiments[experiment_id])

    def models(self) -> list[ForeignModel]:
        """Return the registered models."""
        return self._models.models()

    def close(self) -> None:
        """Do nothing: no file stays open."""

    def _experiment_folders(self) -> Iterable[str]:
        for name in self._folder.folders():
            if name == _TRASH:
                yield from (f"{_TRASH}/{one}" for one in self._folder.folders(_TRASH))
            elif name != _MODELS:
                yield name

    def _experiment(self, folder: str) -> Experiment:
        name = folder.rpartition("/")[2]
        if not self._folder.has(f"{folder}/{META}"):
            raise ForeignDataError(f"no experiment: it has no {META}")
        meta = self._meta(f"{folder}/{META}")
        if not is_id(name) or meta.text("experiment_id") != name:
            raise ForeignDataError(f"{META} is of experiment {meta.text('experiment_id')!r:.80}")
        tags = checked_texts(f"{folder}/tags", self._folder.values(f"{folder}/tags"), self.findings)
        location = self._locations[name] = meta.text("artifact_location")
        if location and is_elsewhere(location):
            self.findings.leave_out(
                f"artifacts of experiment {name}, which stay at {location:.200}"
            )
        in_trash = folder.startswith(f"{_TRASH}/")
        return experiment_of(
            name,
            meta.text("name"),
            tags,
            created=meta.time("creation_time"),
            updated=meta.time("last_update_time"),
            is_deleted=in_trash or meta.text("lifecycle_stage") == "deleted",
            artifacts=location,
            findings=self.findings,
        )

    def _run(self, run_id: str, folder: str, meta: Meta) -> ForeignRun:
        listed, files = self._listed
        if listed != run_id:
            files = list(self._folder.files(folder))
        names = [file.name for file in files]
        tags = self._texts(folder, "tags", names)
        copy = run_copy(
            run_id,
            tags,
            name=meta.text("run_name", "name"),
            status=status_of(meta.fields.get("status")),
            start=meta.time("start_time"),
            end=meta.time("end_time"),
        )
        if meta.text("lifecycle_stage") == "deleted":
            copy.deleted = meta.time("deleted_time", "end_time", "start_time") or 0
        copy.parameters = dict(self._texts(folder, "params", names))
        is_over = RunStatus(copy.status).is_final
        copy.points = list(self._points(folder, names, is_over=is_over))
        extras = self._extras(folder, names)
        user = meta.text("user_id")
        if user and user != tags.get("mlflow.user"):
            extras.insert(0, ("user", user))
        kept = [*_below("artifacts", files), *self._artifacts_elsewhere(run_id)]
        return ForeignRun(copy, kept, extras)

    def _texts(self, folder: str, kind: str, names: Iterable[str]) -> dict[str, str]:
        below = [name.removeprefix(f"{kind}/") for name in names if name.startswith(f"{kind}/")]
        where = f"{folder}/{kind}"
        return checked_texts(where, self._folder.values(where, below), self.findings)

    def _points(
        self, folder: str, names: Iterable[str], *, is_over: bool
    ) -> Iterable[tuple[str, float, int, int]]:
        for name in names:
            if name.startswith("metrics/"):
                where = f"{folder}/{name}"
                with self.findings.refusing(where):
                    key = name.removeprefix("metrics/")
                    points = list(self._lines(where, is_over=is_over))
                    yield from checked_points(where, key, points, self.findings)

    def _lines(self, path: str, *, is_over: bool) -> Iterable[tuple[float, int, int]]:
        """Yield value, step and nanoseconds of each line of a metric; damaged ones are noted by number."""
        for number, line in self._folder.lines(path):
            try:
                if line.endswith(b"\n"):
                    yield point_of(line)
                elif is_over:  # else it may be half of what is being written now
                    self.findings.refuse(f"{path} line {number}", "torn")
            except (ForeignDataError, ValueError) as error:
                self.findings.refuse(f"{path} line {number}", error)

    def _extras(self, folder: str, names: Sequence[str]) -> list[tuple[str, Any]]:
        """Return the datasets and models that a run used, and the models that it made."""
        found: list[tuple[str, Any]] = []
        for name in _folders("inputs", names):
            with self.findings.refusing(f"{folder}/inputs/{name}"):
                meta = self._meta(f"{folder}/inputs/{name}/{META}")
                found += self._input(folder.rpartition("/")[0], meta)
        for name in _folders("outputs", names):
            with self.findings.refusing(f"{folder}/outputs/{name}"):
                meta = self._meta(f"{folder}/outputs/{name}/{META}")
                model_id = meta.text("source_id", "destination_id")
                if not is_id(model_id):
                    raise ForeignDataError(f"{model_id!r:.80} is no id of a model")
                found.append(("models_out", [model_id, meta.whole("step") or 0]))
        return found

    def _input(self, home: str, meta: Meta) -> list[tuple[str, Any]]:
        source = meta.text("source_id") or ""
        if not is_id(source):
            raise ForeignDataError(f"{source!r:.80} is no id")
        if meta.text("source_type") == "MODEL":
            return [("models_in", [source])]
        if (home, source) not in self._datasets:
            self._datasets[home, source] = None
            path = f"{home}/datasets/{source}/{META}"
            text = self._folder.text(path, _DATASET_BYTES)
            self._datasets[home, source] = dataset_record(parse_meta(text).text)
        known = self._datasets[home, source]
        return [] if known is None else [("datasets", known | {"tags": meta.texts("tags")})]

    def _artifacts_elsewhere(self, run_id: str) -> list[ForeignFile]:
        home = self._runs[run_id].rpartition("/")[0].rpartition("/")[2]
        return self._elsewhere.of_run(home, run_id, self._locations.get(home))

    def _meta(self, path: str) -> Meta:
        return parse_meta(self._folder.text(path))


def _folders(kind: str, names: Iterable[str]) -> list[str]:
    """Return the folders in *kind* that have a ``meta.yaml``."""
    parts = [name.split("/") for name in names]
    return [one[1] for one in parts if len(one) == 3 and (one[0], one[2]) == (kind, META)]


def point_of(line: bytes) -> tuple[float, int, int]:
    """Return value, step and nanoseconds of a line of a metric; what follows them is its dataset."""
    words = line.split()
    if len(words) == 3:  # as nearly all are
        return float(words[1]), int(words[2]), nanoseconds(int(words[0]))
    if len(words) < 2 or len(words) == 4:
        raise ForeignDataError(f"{len(words)} words, no point of a metric")
    step = int(words[2]) if len(words) > 2 else 0
    return float(words[1]), step, nanoseconds(int(words[0]))


def _below(kind: str, files: Iterable[ForeignFile]) -> list[ForeignFile]:
    """Return the files of a run that are in its folder *kind*, by their names there."""
    return [
        ForeignFile(file.name.removeprefix(f"{kind}/"), file.path, file.size, file.modified_ns)
        for file in files
        if file.name.startswith(f"{kind}/")
    ]
