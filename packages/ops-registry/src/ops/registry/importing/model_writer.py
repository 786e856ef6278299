"""Registered models of other programs: versions keep their numbers, and numbers that were deleted stay used.

Each frame that an import writes has the mark ``imported``. Those frames alone are what the source had last time, so
the difference to what it has now is what is written; a stage or an alias that was changed here stays as long as the
source has not changed it too.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from ops.registry.disk.store_addresses import kept
from ops.registry.importing.mlflow_addresses import artifact_path_of, is_elsewhere
from ops.registry.models.registration import new_model_id
from ops.registry.models.registry import ModelRegistry
from ops.registry.models.state import FORMAT, ModelState
from ops.registry.validators import check_key, check_name

if TYPE_CHECKING:
    import pathlib
    from collections.abc import Container, Mapping

    from ops.registry.importing.findings import Findings
    from ops.registry.importing.records import ForeignModel, ForeignVersion
    from ops.registry.models.state import Model

__all__ = ["ModelWriter"]

_MARK = "imported"


class ModelWriter(ModelRegistry):
    """A registry that takes the models of another program; *homes* are the folders of artifacts here by kind."""

    findings: Findings
    homes: Mapping[str, pathlib.Path]
    runs: Container[str]
    logged: Container[str]

    def write(self, model: ForeignModel) -> int:
        """Write a model, or what has changed; return how many versions are new."""
        check_name("a model", model.name)
        with self._mutex:
            self._events.refresh()
            before = self._imported(model.name)
            known = self._events.state.models.get(model.name)
            if known is None or known.created is None:
                self._create(model, known)
            elif before is None:
                before = None if known.versions else known
                if before is None:
                    self.findings.refuse(
                        f"model {model.name!r}", "there is another model of that name here"
                    )
                    return 0
            self._describe_model(model, before)
            made = sum(self._write_version(model, version, before) for version in model.versions)
            self._point(model, before)
            here = self._events.state.models[model.name]
            self._views.write(self._events.state.versions(here), tags=True)
        return made

    def _imported(self, name: str) -> Model | None:
        """Return the model as imports have written it, None when none has."""
        frames = [f for f in self._events.history(name) if f.get(_MARK)]
        state = ModelState("")
        for frame in frames:
            state.apply(frame | {"name": name})
        return state.models.get(name)

    def _create(self, model: ForeignModel, known: Model | None) -> None:
        model_id = new_model_id(model.name) if known is None else known.model_id
        self._put("create", model.name, 0, model.created, model_id=model_id, **_texts(model))

    def _describe_model(self, model: ForeignModel, before: Model | None) -> None:
        if before is None:
            return
        changes: dict[str, Any] = {}
        if before.description != model.description:
            changes["description"] = model.description
        tags: dict[str, str | None] = _changed(before.tags, model.tags)
        if tags:
            changes["tags"] = tags
        if changes:
            self._put("model", model.name, 0, model.updated, **changes)

    def _write_version(
        self, model: ForeignModel, version: ForeignVersion, before: Model | None
    ) -> bool:
        name, number = model.name, version.number
        registered = {
            f["version"]: bool(f.get(_MARK))
            for f in self._events.history(name)
            if f["op"] == "register"
        }
        if number not in registered:
            self._add_version(model, version)
            return True
        here = self._events.state.models[name].versions
        if not registered[number]:
            self.findings.refuse(f"model {name!r} version {number}", "there is another one here")
        elif number in here and before is not None and number in before.versions:
            self._change_version(model, version, before)
        return False

    def _add_version(self, model: ForeignModel, version: ForeignVersion) -> None:
        name, number = model.name, version.number
        model_id = self._events.state.models[name].model_id
        store = self.homes["none"].parents[1]
        location = kept(store, self._location(model, version, model_id))
        recorded = {
            "source": version.source if _is_open(version.source) else location,
            "run_link": version.run_link,
            "model_id": version.model_id,
        }
        metadata: dict[str, Any] = {
            "artifact_type": "mlflow",
            "framework": "mlflow",
            "description": version.description,
            "hyperparameters": {},
            "metrics": {},
            "tags": _checked(version.tags),
            "dependencies": [],
            "signature": None,
            "experiment_run_id": version.run_id,
            "flavor_metadata": {"mlflow": recorded},
        }
        origin = {"model_id": model_id, "source": location, "size": 0, "checksum": ""}
        self._put("register", name, number, version.created, **origin, metadata=metadata)
        if version.stage != "None":
            self._put("stage", name, number, version.updated, stage=version.stage, archived=[])
        elif version.updated != version.created and not version.is_deleted:
            self._put("annotate", name, number, version.updated, description=version.description)
        if version.is_deleted:
            self._put("delete", name, number, version.updated)

    def _change_version(self, model: ForeignModel, version: ForeignVersion, before: Model) -> None:
        name, number, when = model.name, version.number, version.updated
        known = before.versions[number]
        if version.is_deleted:
            self._put("delete", name, number, when)
            return
        if str(known.stage) != version.stage:
            self._put("stage", name, number, when, stage=version.stage, archived=[])
        if known.metadata.description != version.description:
            self._put("annotate", name, number, when, description=version.description)
        tags = _changed(known.metadata.tags, _checked(version.tags))
        if tags:
            self._put("tag", name, number, when, tags=tags)

    def _point(self, model: ForeignModel, before: Model | None) -> None:
        pointed = {} if before is None else before.aliases
        here = self._events.state.models[model.name]
        for alias, number in model.aliases.items():
            if pointed.get(alias) == number:
                continue
            if number in here.versions:
                self._put("alias", model.name, number, model.updated, alias=alias)
            else:
                self.findings.refuse(
                    f"alias {alias!r} of model {model.name!r}", f"there is no version {number}"
                )
        for alias, number in pointed.items():
            if alias not in model.aliases and here.aliases.get(alias) == number:
                self._put("unalias", model.name, number, model.updated, alias=alias)

    def _location(self, model: ForeignModel, version: ForeignVersion, model_id: str) -> str:
        """Return where the files of a version are here; what is in no run and no logged model stays unresolved."""
        for text in (version.location, version.source):
            found = artifact_path_of(text, self.runs, self.logged)
            if found is not None:
                return str(self.homes[found.kind] / found.owner / found.path)
            if text and is_elsewhere(text):
                return text
        if _is_prompt(model) or version.is_deleted:
            return version.location or version.source
        self.findings.refuse(
            f"model {model.name!r} version {version.number}",
            f"its files are in no run and no logged model: {version.location!r:.200}",
        )
        return str(self.homes["none"] / model_id / f"v{version.number}")

    def _put(self, operation: str, name: str, number: int, when: int, **more: Any) -> None:
        frame = {"op": operation, "name": name, "version": number, "t": when, _MARK: True, **more}
        self._events.commit(name, lambda _: {"v": FORMAT, **frame})


def _is_open(source: str) -> bool:
    """Whether the text of a source can be kept: it leads to nothing by itself, or to a service."""
    return source.startswith(("runs:/", "models:/")) or is_elsewhere(source)


def _texts(model: ForeignModel) -> dict[str, Any]:
    return {"description": model.description, "tags": _checked(model.tags)}


def _checked(tags: Mapping[str, str]) -> dict[str, str]:
    return {check_key(key): value for key, value in tags.items()}


def _changed(before: Mapping[str, str], now: Mapping[str, str]) -> dict[str, str | None]:
    """Return the tags that are not as they were; None for one that is gone."""
    changed: dict[str, str | None] = {k: v for k, v in now.items() if before.get(k) != v}
    return changed | {key: None for key in before if key not in now}


def _is_prompt(model: ForeignModel) -> bool:
    """Whether MLflow keeps a prompt as this model: its text is a tag, and it has no files."""
    return model.tags.get("mlflow.prompt.is_prompt", "").lower() == "true"
