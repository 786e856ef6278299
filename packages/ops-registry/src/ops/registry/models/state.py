"""The models that frames come to: folding is the same whichever backend keeps the frames."""

from __future__ import annotations

import dataclasses
from typing import TYPE_CHECKING, Any

from ops.registry.disk.checked_paths import is_part, is_relative
from ops.registry.disk.store_addresses import is_sound, local_path, resolved
from ops.registry.errors import (
    CorruptStoreError,
    ModelNotFoundError,
    ModelVersionNotFoundError,
)
from ops.registry.instants import from_ns
from ops.registry.models.model import Model, own_copy
from ops.registry.models.snapshots import Models
from ops.registry.records import ModelMetadata, ModelStage, ModelVersion, StageChange
from ops.registry.remote.artifacts import is_remote

if TYPE_CHECKING:
    import pathlib
    from collections.abc import Mapping, Sequence

__all__ = ["FORMAT", "Model", "ModelState", "check_frame", "plain_frames", "version_record"]

FORMAT = 1
#: The keys of a frame that locate an artifact, which each store decides for itself.
LOCATION_KEYS = ("files", "source", "uri")


class ModelState:
    """Models by name, folded from frames; *artifacts* is the folder, or the address, that files are below.

    *store* is the folder that addresses kept elsewhere than there are relative to, if there is one.
    """

    def __init__(self, artifacts: str, store: pathlib.Path | None = None) -> None:
        self._artifacts = artifacts
        self._store = store
        self.models: Models = Models(artifacts)

    def apply(self, record: Mapping[str, Any]) -> None:
        """Fold one frame in, or refuse one that this package never writes.

        Raises:
            CorruptStoreError: its format is newer, its names lead elsewhere, or it changes what is not there.
        """
        check_frame(record)
        if record["v"] > FORMAT:
            raise CorruptStoreError(
                f"The registry was written in format {record['v']}; this version of "
                f"ops-registry reads up to {FORMAT}.",
                suggestions=("Upgrade ops-registry.",),
            )
        try:
            self._apply(record)
        except KeyError as error:
            raise CorruptStoreError(
                f"The registry's journal changes {record['name']!r}/{record['version']}, of which "
                f"it has no {error}: lines of it are missing or damaged.",
                suggestions=("Bring the journal back from a copy.",),
            ) from error
        except (TypeError, ValueError, AttributeError) as error:
            raise CorruptStoreError(
                f"The registry's journal has what this package does not write: {error}."
            ) from error

    def versions(self, model: Model) -> list[ModelVersion]:
        """Return the versions of a model with their aliases, oldest first; they are the state's own."""
        return [self.with_aliases(model, v) for _, v in sorted(model.versions.items())]

    def model(self, name: str) -> Model:
        """Return a model that has versions, or raise `ModelNotFoundError`."""
        found = self.models.get(name)
        if found is None or not found.versions:
            raise ModelNotFoundError(f"There is no model {name!r}.").with_context(
                resource_type="model", resource_id=name
            )
        return found

    def version(self, name: str, version: int | None) -> ModelVersion:
        """Return a version, the newest without a number."""
        model = self.model(name)
        number = max(model.versions) if version is None else version
        if number not in model.versions:
            raise ModelVersionNotFoundError(
                f"Model {name!r} has no version {number!r}; it has {sorted(model.versions)}."
            ).with_context(resource_type="model_version", resource_id=f"{name}/{number}")
        return own_copy(self.with_aliases(model, model.versions[number]))

    def aliased(self, name: str, alias: str) -> int:
        """Return the number of the version that *alias* points to."""
        aliases = self.model(name).aliases
        if alias not in aliases:
            raise ModelVersionNotFoundError(f"Model {name!r} has no alias {alias!r}.")
        return aliases[alias]

    def with_aliases(self, model: Model, version: ModelVersion) -> ModelVersion:
        """Return *version* with the aliases that point to it, and with where its files are now."""
        names = tuple(sorted(a for a, n in model.aliases.items() if n == version.version))
        where = self._whereabouts(version.artifact_uri)
        return dataclasses.replace(version, aliases=names, artifact_uri=where)

    def _whereabouts(self, address: str) -> str:
        if self._store is None or address.startswith(f"{self._artifacts}/"):
            return address
        found = resolved(self._store, address)
        return local_path(found) or found

    def _apply(self, record: Mapping[str, Any]) -> None:
        name, number = record["name"], record["version"]
        if record["op"] in {"create", "register"}:
            model = self.models.setdefault(name, Model(record["model_id"], name))
            model.created = record["t"] if model.created is None else model.created
        model = self.models[name]
        model.updated = model.changed[number] = record["t"]
        match record["op"]:
            case "create":
                model.description, model.tags = record["description"], dict(record["tags"])
            case "register":
                # An import may bring a version that was missing before.
                model.highest = max(model.highest, number)
                model.versions[number] = self._registered(record)
            case "model":
                model.description = record.get("description", model.description)
                model.tags = _merged(model.tags, record.get("tags", {}))
            case "rename":
                self._rename(model, record["to"])
            case "stage":
                self._promote(model, record)
            case "alias":
                model.aliases[record["alias"]] = number
            case "unalias":
                model.aliases.pop(record["alias"], None)
            case "tag":
                tags = model.versions[number].metadata.tags
                self._describe(model, number, tags=_merged(tags, record["tags"]))
            case "annotate":
                self._describe(model, number, description=record["description"])
            case "delete":
                model.versions.pop(number, None)
                model.aliases = {a: n for a, n in model.aliases.items() if n != number}
                model.holders = {s: _without(v, number) for s, v in model.holders.items()}
            case "drop":
                # The numbers stay used: an old link never shows another artifact.
                self.models[name] = Model(model.model_id, name, model.highest)
            case unknown:
                raise CorruptStoreError(f"The registry's journal has an unknown {unknown!r}.")

    def _promote(self, model: Model, record: Mapping[str, Any]) -> None:
        number, when = record["version"], record["t"]
        for archived in record["archived"]:
            self._enter(model, archived, ModelStage.ARCHIVED, when)
            model.changed[archived] = when
        self._enter(model, number, ModelStage(record["stage"]), when)
        holders = model.holders.setdefault(record["stage"], [])
        if record.get("rollback"):
            holders.pop()
        elif holders[-1:] != [number]:
            holders.append(number)

    @staticmethod
    def _enter(model: Model, number: int, stage: ModelStage, when: int) -> None:
        old = model.versions[number]
        history = (*old.stage_history, StageChange(stage, from_ns(when)))
        model.versions[number] = dataclasses.replace(old, stage=stage, stage_history=history)

    def _rename(self, model: Model, name: str) -> None:
        # A deleted model of the new name leaves nothing but its numbers, which stay used. The old name
        # is as if it had never been: a model that takes it gets an id, and so a folder, of its own.
        before = self.models.get(name)
        model.highest = max(model.highest, before.highest if before else 0)
        del self.models[model.name]
        model.name = name
        model.versions = {n: dataclasses.replace(v, name=name) for n, v in model.versions.items()}
        self.models[name] = model

    @staticmethod
    def _describe(model: Model, number: int, **changed: Any) -> None:
        old = model.versions[number]
        metadata = dataclasses.replace(old.metadata, **changed)
        model.versions[number] = dataclasses.replace(old, metadata=metadata)

    def _registered(self, record: Mapping[str, Any]) -> ModelVersion:
        # In a bucket of ours, or kept elsewhere and not by the registry.
        uri = record.get("uri") or record.get("source")
        if uri is None:
            uri = f"{self._artifacts}/{record['model_id']}/v{record['version']}/{record['file']}"
        when = from_ns(record["t"])
        metadata = dict(record["metadata"])
        metadata["dependencies"] = tuple(metadata["dependencies"])
        return ModelVersion(
            model_id=record["model_id"],
            name=record["name"],
            version=record["version"],
            stage=ModelStage.NONE,
            created_at=when,
            artifact_uri=uri,
            checksum=record["checksum"],
            size=record["size"],
            metadata=ModelMetadata(**metadata),
            stage_history=(StageChange(ModelStage.NONE, when),),
        )


def check_frame(record: Any) -> None:
    """Refuse a frame whose names could lead out of the folder of artifacts: any program can write one."""
    if not isinstance(record, dict) or not {"v", "op", "name", "version"} <= record.keys():
        raise CorruptStoreError(
            f"The registry's journal has a line that is no frame: {record!r:.80}."
        )
    wrong = []
    if not isinstance(record["name"], str):
        wrong.append("name")
    if type(record["version"]) is not int or record["version"] < 0:
        wrong.append("version")
    if "file" in record and not is_part(record["file"]):
        wrong.append("file")
    # Ids of older versions on Databricks may have a slash.
    if "model_id" in record and not is_relative(record["model_id"]):
        wrong.append("model_id")
    if record.get("uri") is not None and not is_remote(str(record["uri"])):
        wrong.append("uri")
    if record.get("source") is not None and not is_sound(record["source"]):
        wrong.append("source")
    if wrong:
        recorded = {key: record[key] for key in wrong}
        raise CorruptStoreError(
            f"The registry's journal has a frame that this package never writes: {recorded!r:.200}.",
            suggestions=("Use nothing of this store unless you know who wrote it.",),
        )


def _merged(old: Mapping[str, str], new: Mapping[str, str | None]) -> dict[str, str]:
    """Return tags with the *new* ones over the *old*; None removes one."""
    return {key: value for key, value in {**old, **new}.items() if value is not None}


def _without(numbers: list[int], number: int) -> list[int]:
    """Return *numbers* without *number*, and without the repetitions that leaves side by side."""
    kept = [n for n in numbers if n != number]
    return [n for i, n in enumerate(kept) if kept[i - 1 : i] != [n]]


def version_record(version: ModelVersion) -> dict[str, Any]:
    """Return a version as plain values for JSON."""
    return {
        **_fields(version),
        "created_at": version.created_at.isoformat(),
        "metadata": _fields(version.metadata),
        "stage_history": [
            {"stage": str(c.stage), "timestamp": c.timestamp.isoformat()}
            for c in version.stage_history
        ],
    }


def _fields(record: ModelVersion | ModelMetadata) -> dict[str, Any]:
    """Return the fields as they are: `dataclasses.asdict` copies all that is in them too."""
    return {name: getattr(record, name) for name in record.__slots__}


def plain_frames(records: Sequence[Mapping[str, Any]], name: str) -> list[dict[str, Any]]:
    """Return the frames of a model under its name now, without where its artifacts are."""
    return [
        {
            k: v
            for k, v in record.items()
            if k not in LOCATION_KEYS or (k == "source" and "file" not in record)
        }
        | {"name": name}
        for record in records
        if record["op"] != "rename"
    ]
