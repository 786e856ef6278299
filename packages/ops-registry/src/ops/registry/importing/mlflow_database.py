"""MLflow's SQL store in SQLite, read without mlflow: ``mlflow.db`` and a folder of artifacts.

The tables are those of MLflow's ``dbmodels``. A NaN is a row with ``is_nan``; infinities are the largest float, as
MLflow has stored them. A deleted version is a row in the stage ``Deleted_Internal``. Names of a workspace other than
the default one get its name before them, as ours are unique in the whole store.
"""

from __future__ import annotations

import hashlib
import math
from typing import TYPE_CHECKING, Any

from ops.registry.disk.checked_paths import is_id
from ops.registry.importing.artifact_folders import ArtifactFolders
from ops.registry.importing.findings import ForeignDataError
from ops.registry.importing.meta_files import Meta, nanoseconds
from ops.registry.importing.mlflow_addresses import is_elsewhere
from ops.registry.importing.mlflow_models import DELETED, checked_stage
from ops.registry.importing.mlflow_values import (
    checked_points,
    checked_texts,
    dataset_record,
    experiment_of,
    run_copy,
    status_of,
)
from ops.registry.importing.records import (
    ForeignLoggedModel,
    ForeignModel,
    ForeignRun,
    ForeignVersion,
)
from ops.registry.importing.sqlite_files import ForeignDatabase

if TYPE_CHECKING:
    import pathlib
    from collections.abc import Iterable, Iterator, Mapping, Sequence
    from typing import TypeAlias

    from ops.registry.importing.findings import Findings
    from ops.registry.records import Experiment

    _Texts: TypeAlias = dict[str, str]

__all__ = ["MLflowDatabase"]

_DEFAULT_WORKSPACE = "default"
#: The types of a point's value, step, time and key, its longest key, and its last time (year 2286, milliseconds).
_USUAL, _USUAL_KEY, _USUAL_TIME = (float, int, int, str), 250, 10**13


class MLflowDatabase:
    """The database at *path*; artifacts are looked for in *artifacts*."""

    def __init__(
        self, path: pathlib.Path, findings: Findings, artifacts: Sequence[pathlib.Path]
    ) -> None:
        self.findings: Findings = findings
        self._database = ForeignDatabase(path, findings)
        self._artifacts = ArtifactFolders(artifacts, findings)
        self._locations: dict[str, str | None] = {}
        #: Ids as the tables have them: a number, in a damaged database anything.
        self._keys: dict[str, Any] = {}
        self._runs: dict[str, Meta] = {}
        #: The tags, parameters and files of the run whose stamp was made last: it is read next.
        self._read: tuple[str, _Texts, _Texts, list[Any]] = ("", {}, {}, [])

    def experiments(self) -> list[Experiment]:
        """Return the experiments, deleted ones too."""
        found = []
        for row in self._metas("experiments", order="experiment_id"):
            experiment_id = row.text("experiment_id") or ""
            where = f"experiment {experiment_id}"
            with self.findings.refusing(where):
                if not is_id(experiment_id):
                    raise ForeignDataError("no id of an experiment")
                key = self._keys[experiment_id] = row.fields["experiment_id"]
                tags = self._texts("experiment_tags", "experiment_id", key)
                location = self._locations[experiment_id] = row.text("artifact_location")
                if location and is_elsewhere(location):
                    self.findings.leave_out(f"artifacts of {where}, which stay at {location:.200}")
                made = experiment_of(
                    experiment_id,
                    _scoped(row, "/"),
                    checked_texts(f"tags of {where}", tags, self.findings),
                    created=row.time("creation_time"),
                    updated=row.time("last_update_time"),
                    is_deleted=row.text("lifecycle_stage") == "deleted",
                    artifacts=location,
                    findings=self.findings,
                )
                found.append(made)
        return found

    def run_ids(self, experiment_id: str) -> list[str]:
        """Return the ids of an experiment's runs, by their start."""
        where = "experiment_id = ?"
        found = []
        for row in self._metas("runs", where, (self._keys[experiment_id],), "start_time"):
            run_id = row.text("run_uuid")
            if is_id(run_id):
                self._runs[str(run_id)] = row
                found.append(str(run_id))
            else:
                self.findings.refuse(f"run {run_id!r:.80}", "no id of a run")
        traces = self._database.summary("trace_info", where, (self._keys[experiment_id],))
        if traces and traces[0]:
            self.findings.leave_out(f"{traces[0]} traces of experiment {experiment_id}")
        return found

    def stamp(self, run_id: str) -> str:
        """Return a digest of a run's row, tags and parameters, and of how much else it has."""
        _, tags, params, files = self._read = self._kept(run_id)
        parts = [
            sorted(self._runs[run_id].fields.items()),
            sorted(tags.items()),
            sorted(params.items()),
            self._database.summary("metrics", "run_uuid = ?", (run_id,)),
            self._database.summary("inputs", "? IN (source_id, destination_id)", (run_id,)),
            [(file.name, file.size, file.modified_ns) for file in files],
        ]
        return hashlib.blake2b(repr(parts).encode(), digest_size=12).hexdigest()

    def run(self, run_id: str) -> ForeignRun:
        """Return a run with all that it has."""
        return self._run(run_id, self._runs[run_id])

    def logged_models(self, experiment_id: str) -> list[ForeignLoggedModel]:
        """Return the logged models of an experiment, deleted ones too."""
        found = []
        rows = self._metas(
            "logged_models",
            "experiment_id = ?",
            (self._keys[experiment_id],),
            "creation_timestamp_ms",
        )
        for row in rows:
            model_id = row.text("model_id")
            with self.findings.refusing(f"logged model {model_id!r:.80}"):
                if not is_id(model_id):
                    raise ForeignDataError("no id of a model")
                found.append(self._logged_model(experiment_id, str(model_id), row))
        return found

    def models(self) -> list[ForeignModel]:
        """Return the registered models, the oldest first."""
        found = []
        for row in self._metas("registered_models", order="creation_time"):
            with self.findings.refusing(f"model {row.text('name')!r:.200}"):
                found.append(self._model(row))
        return found

    def close(self) -> None:
        """Close the database."""
        self._database.close()

    def _run(self, run_id: str, row: Meta) -> ForeignRun:
        where = f"run {run_id}"
        _, tags, params, files = self._read if self._read[0] == run_id else self._kept(run_id)
        copy = run_copy(
            run_id,
            checked_texts(f"tags of {where}", tags, self.findings),
            name=row.text("name"),
            status=status_of(row.fields.get("status")),
            start=row.time("start_time"),
            end=row.time("end_time"),
        )
        if row.text("lifecycle_stage") == "deleted":
            copy.deleted = row.time("deleted_time", "end_time", "start_time") or 0
        copy.parameters = dict(checked_texts(f"parameters of {where}", params, self.findings))
        copy.points = list(self._points(run_id))
        extras = [*self._inputs(run_id)]
        user = row.text("user_id")
        if user and user != tags.get("mlflow.user"):
            extras.insert(0, ("user", user))
        return ForeignRun(copy, files, extras)

    def _kept(self, run_id: str) -> tuple[str, _Texts, _Texts, list[Any]]:
        """Return a run's id, tags, parameters and files."""
        tags, params = (self._texts(kind, "run_uuid", run_id) for kind in ("tags", "params"))
        return run_id, tags, params, self._files(run_id)

    def _points(self, run_id: str) -> Iterator[tuple[str, float, int, int]]:
        for row in self._metas("metrics", "run_uuid = ?", (run_id,), "timestamp, step"):
            usual = _usual_point(row.fields)
            if usual is not None:
                yield usual
                continue
            key = row.text("key") or ""
            where = f"metric {key!r:.200} of run {run_id}"
            with self.findings.refusing(where):
                point = (
                    _number(row),
                    row.whole("step") or 0,
                    nanoseconds(row.whole("timestamp") or 0),
                )
                yield from checked_points(where, key, [point], self.findings)

    def _inputs(self, run_id: str) -> Iterator[tuple[str, Any]]:
        """Yield the datasets and models that a run used, and the models that it made."""
        for row in self._metas("inputs", "destination_id = ?", (run_id,)):
            source = row.text("source_id") or ""
            with self.findings.refusing(f"inputs of run {run_id}"):
                if row.text("source_type") == "DATASET":
                    tags = self._texts("input_tags", "input_uuid", row.text("input_uuid"), "name")
                    for dataset in self._metas("datasets", "dataset_uuid = ?", (source,)):
                        yield "datasets", dataset_record(dataset.text) | {"tags": tags}
                elif row.text("source_type") in {"MODEL", "MODEL_INPUT"}:
                    yield "models_in", [source]
        for row in self._metas("inputs", "source_id = ?", (run_id,)):
            if row.text("source_type") == "RUN_OUTPUT":
                yield "models_out", [row.text("destination_id"), row.whole("step") or 0]
            elif row.text("destination_type") == "MODEL_INPUT":
                yield "models_in", [row.text("destination_id")]

    def _files(self, run_id: str) -> list[Any]:
        row = self._runs[run_id]
        experiment_id = row.text("experiment_id") or ""
        return self._artifacts.of_run(experiment_id, run_id, self._locations.get(experiment_id))

    def _logged_model(self, experiment_id: str, model_id: str, row: Meta) -> ForeignLoggedModel:
        model = ForeignLoggedModel(
            model_id,
            experiment_id,
            row.text("name") or model_id,
            row.time("creation_timestamp_ms") or 0,
            row.time("last_updated_timestamp_ms") or 0,
            row.whole("status") or 0,
            row.text("lifecycle_stage") == "deleted",
            row.text("model_type"),
            row.text("source_run_id"),
            self._texts("logged_model_params", "model_id", model_id, "param_key", "param_value"),
            self._texts("logged_model_tags", "model_id", model_id, "tag_key", "tag_value"),
        )
        for one in self._metas("logged_model_metrics", "model_id = ?", (model_id,)):
            point = _number(one, "metric_value"), one.whole("metric_timestamp_ms") or 0
            dataset = one.text("dataset_name"), one.text("dataset_digest")
            run_id, key = one.text("run_id") or "", one.text("metric_name") or ""
            model.metrics.append((key, *point, one.whole("metric_step") or 0, run_id, *dataset))
        location = self._locations.get(experiment_id)
        model.files = self._artifacts.of_model(experiment_id, model_id, location)
        return model

    def _model(self, row: Meta) -> ForeignModel:
        name, created = row.text("name"), row.time("creation_time") or 0
        where, values = _of_model(row)
        model = ForeignModel(
            _scoped(row, ".") or "",
            created,
            row.time("last_updated_time") or created,
            row.text("description") or "",
            _pairs(self._metas("registered_model_tags", where, values)),
        )
        for one in self._metas("registered_model_aliases", where, values):
            model.aliases[one.text("alias") or ""] = one.whole("version") or 0
        for one in self._metas("model_versions", where, values, "version"):
            number = one.whole("version") or 0
            with self.findings.refusing(f"model {name!r} version {number}"):
                tags = self._metas(
                    "model_version_tags", f"{where} AND version = ?", (*values, number)
                )
                model.versions.append(_version(number, one, _pairs(tags)))
        return model

    def _texts(
        self, table: str, column: str, value: Any, key: str = "key", text: str = "value"
    ) -> dict[str, str]:
        """Return the keys and values of the rows that have *value* in *column*."""
        return _pairs(self._metas(table, f"{column} = ?", (value,)), key, text)

    def _metas(
        self, table: str, where: str = "", values: tuple[Any, ...] = (), order: str = ""
    ) -> Iterator[Meta]:
        for row in self._database.rows(table, where, values, order):
            yield Meta(row)


def _of_model(row: Meta) -> tuple[str, tuple[Any, ...]]:
    """Return what finds the rows of a model in the other tables."""
    workspace = row.fields.get("workspace")
    if workspace is None:
        return "name = ?", (row.fields["name"],)
    return "name = ? AND workspace = ?", (row.fields["name"], workspace)


def _version(number: int, row: Meta, tags: dict[str, str]) -> ForeignVersion:
    created = row.time("creation_time") or 0
    stage = row.text("current_stage") or "None"
    source = row.text("source") or ""
    logged = source.removeprefix("models:/") if source.startswith("models:/m-") else None
    is_deleted = stage == DELETED
    return ForeignVersion(
        number,
        created,
        row.time("last_updated_time") or created,
        source,
        row.text("storage_location") or source,
        row.text("description") or "",
        checked_stage(stage),
        None if is_deleted else row.text("run_id") or None,
        row.text("run_link") or None,
        logged,
        tags,
        is_deleted,
    )


def _scoped(row: Meta, separator: str) -> str | None:
    """Return a name, with that of its workspace before it if that is not the default one."""
    workspace = row.text("workspace")
    name = row.text("name")
    if name is None or workspace in {None, "", _DEFAULT_WORKSPACE}:
        return name
    return f"{workspace}{separator}{name}"


def _usual_point(fields: Mapping[str, Any]) -> tuple[str, float, int, int] | None:
    """Return the point of a row that MLflow has written as it nearly always does; None for one that must be checked."""
    found: tuple[Any, ...] = tuple(map(fields.get, ("key", "value", "step", "timestamp")))
    key, value, step, when = found
    if (
        (type(value), type(step), type(when), type(key)) != _USUAL
        or fields.get("is_nan")
        or not key.isascii()
        or not 0 < len(key) <= _USUAL_KEY
        or key.isspace()
        or not 0 <= when <= _USUAL_TIME
    ):
        return None
    return key, value, step, when * 1_000_000


def _number(row: Meta, column: str = "value") -> float:
    value = row.fields.get(column)
    if value is None or row.fields.get("is_nan"):
        return math.nan
    if isinstance(value, bool) or not isinstance(value, (int, float)):
        raise ForeignDataError(f"{column} is {value!r:.40}, no number")
    return float(value)


def _pairs(rows: Iterable[Meta], key: str = "key", text: str = "value") -> dict[str, str]:
    return {row.text(key) or "": row.text(text) or "" for row in rows}
