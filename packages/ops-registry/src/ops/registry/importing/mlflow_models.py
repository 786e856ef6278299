"""The models of MLflow's file store: logged ones of each experiment, and the registry in ``models``.

A registered model is a folder with ``meta.yaml``, a file per tag and per alias, and a folder ``version-N`` per version.
A deleted version stays as ``Deleted_Internal``. MLflow 3's logged models are in ``EXPERIMENT/models/m-…``; their
metrics have the run that measured them as a fourth word.
"""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

from ops.registry.disk.checked_paths import is_id
from ops.registry.importing.findings import ForeignDataError
from ops.registry.importing.meta_files import parse_meta
from ops.registry.importing.records import (
    ForeignFile,
    ForeignLoggedModel,
    ForeignModel,
    ForeignVersion,
)

if TYPE_CHECKING:
    from collections.abc import Iterable

    from ops.registry.importing.findings import Findings
    from ops.registry.importing.foreign_files import ForeignFolder
    from ops.registry.importing.meta_files import Meta

__all__ = ["DELETED", "STAGES", "FileModels", "checked_stage"]

META = "meta.yaml"
_ROOT = "models"
_VERSION = re.compile(r"version-([1-9][0-9]{0,17})")
#: The stage of versions that were deleted.
DELETED = "Deleted_Internal"
STAGES = ("None", "Staging", "Production", "Archived")


class FileModels:
    """The models in one file store."""

    def __init__(self, folder: ForeignFolder, findings: Findings) -> None:
        self._folder = folder
        self._findings = findings

    def logged_models(self, experiment_id: str, home: str) -> list[ForeignLoggedModel]:
        """Return the logged models of the experiment in the folder *home*."""
        found = []
        for name in self._folder.folders(f"{home}/models"):
            folder = f"{home}/models/{name}"
            with self._findings.refusing(folder):
                if not is_id(name) or self._meta(folder).text("model_id") != name:
                    raise ForeignDataError("its meta.yaml is of another model")
                found.append(self._logged_model(experiment_id, name, folder))
        return sorted(found, key=lambda model: model.created)

    def models(self) -> list[ForeignModel]:
        """Return the registered models, the oldest first."""
        found = []
        for name in self._folder.folders(_ROOT):
            folder = f"{_ROOT}/{name}"
            with self._findings.refusing(folder):
                meta = self._meta(folder)
                if meta.text("name") != name:
                    raise ForeignDataError(f"{META} is of {meta.text('name')!r:.80}")
                found.append(self._model(name, folder, meta))
        return sorted(found, key=lambda model: model.created)

    def _logged_model(self, experiment_id: str, model_id: str, folder: str) -> ForeignLoggedModel:
        meta = self._meta(folder)
        files = list(self._folder.files(folder))
        model = ForeignLoggedModel(
            model_id,
            experiment_id,
            meta.text("name") or model_id,
            meta.time("creation_timestamp") or 0,
            meta.time("last_updated_timestamp") or 0,
            meta.whole("status") or 0,
            meta.text("lifecycle_stage") == "deleted",
            meta.text("model_type"),
            meta.text("source_run_id"),
            self._folder.values(f"{folder}/params"),
            self._folder.values(f"{folder}/tags"),
        )
        for name in (file.name for file in files if file.name.startswith("metrics/")):
            model.metrics += self._metrics(f"{folder}/{name}", name.removeprefix("metrics/"))
        model.files = [
            ForeignFile(f.name.removeprefix("artifacts/"), f.path, f.size, f.modified_ns)
            for f in files
            if f.name.startswith("artifacts/")
        ]
        return model

    def _metrics(
        self, path: str, key: str
    ) -> Iterable[tuple[str, float, int, int, str, str | None, str | None]]:
        with self._findings.refusing(path):
            for number, line in self._folder.lines(path):
                if not line.endswith(b"\n"):  # it may be half of what is being written now
                    return
                with self._findings.refusing(f"{path} line {number}"):
                    words = line.decode().split()
                    if len(words) < 4 or len(words) == 5:
                        raise ForeignDataError(f"{len(words)} words, no metric of a model")
                    # A dataset's name may have spaces, its digest has none.
                    name, digest = (" ".join(words[4:-1]), words[-1]) if words[5:] else (None, None)
                    value, stamp, step = float(words[1]), int(words[0]), int(words[2])
                    yield key, value, stamp, step, words[3], name, digest

    def _model(self, name: str, folder: str, meta: Meta) -> ForeignModel:
        created = meta.time("creation_timestamp") or 0
        model = ForeignModel(
            name,
            created,
            meta.time("last_updated_timestamp") or created,
            meta.text("description") or "",
            self._folder.values(f"{folder}/tags"),
        )
        for alias, number in self._folder.values(f"{folder}/aliases").items():
            if number.strip().isdecimal():
                model.aliases[alias] = int(number)
            else:
                self._findings.refuse(f"{folder}/aliases/{alias}", "no number of a version")
        for child in self._folder.folders(folder):
            match = _VERSION.fullmatch(child)
            if match:
                with self._findings.refusing(f"{folder}/{child}"):
                    model.versions.append(self._version(int(match[1]), f"{folder}/{child}"))
            elif child not in {"tags", "aliases"}:
                self._findings.refuse(f"{folder}/{child}", "no version")
        model.versions.sort(key=lambda version: version.number)
        return model

    def _version(self, number: int, folder: str) -> ForeignVersion:
        meta = self._meta(folder)
        if meta.whole("version") != number:
            raise ForeignDataError(f"{META} is of version {meta.text('version')!r:.40}")
        created = meta.time("creation_timestamp") or 0
        stage = meta.text("current_stage") or "None"
        source = meta.text("source") or ""
        return ForeignVersion(
            number,
            created,
            meta.time("last_updated_timestamp") or created,
            source,
            meta.text("storage_location") or source,
            meta.text("description") or "",
            checked_stage(stage),
            meta.text("run_id"),
            meta.text("run_link"),
            meta.text("model_id"),
            self._folder.values(f"{folder}/tags"),
            stage == DELETED,
        )

    def _meta(self, folder: str) -> Meta:
        return parse_meta(self._folder.text(f"{folder}/{META}"))


def checked_stage(stage: str) -> str:
    """Return a stage as our registry has it; a deleted version is in none."""
    if stage == DELETED:
        return "None"
    for known in STAGES:
        if known.lower() == stage.lower():
            return known
    raise ForeignDataError(f"{stage!r:.40} is no stage")
