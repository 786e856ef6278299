"""The state of the model registry: one journal, folded into memory, read on from where it was.

Every change is one frame that is appended under the registry's lock, so a promotion and the
archiving of the version before it are visible together or not at all. A version number is given in
the frame that registers it; numbers of deleted versions are not given again.
"""

from __future__ import annotations

import dataclasses
from typing import TYPE_CHECKING, Any

from ops.registry.disk.journal import JournalReader, writing
from ops.registry.errors import (
    CorruptStoreError,
    ModelNotFoundError,
    ModelVersionNotFoundError,
)
from ops.registry.instants import from_ns
from ops.registry.records import ModelMetadata, ModelStage, ModelVersion, StageChange

if TYPE_CHECKING:
    import pathlib
    from collections.abc import Mapping

    from ops.foundation.locks import FileLock

__all__ = ["FORMAT", "Changing", "Ledger", "Model", "version_record"]

FORMAT = 1


@dataclasses.dataclass(slots=True)
class Model:
    """A model as the journal tells it; *highest* is the last number given, also if deleted.

    *created* and *updated* are nanoseconds; a model that was deleted has no *created*. *changed* has
    when each version was changed last.
    """

    model_id: str
    name: str
    highest: int = 0
    created: int | None = None
    updated: int = 0
    description: str = ""
    tags: dict[str, str] = dataclasses.field(default_factory=dict)
    changed: dict[int, int] = dataclasses.field(default_factory=dict)
    versions: dict[int, ModelVersion] = dataclasses.field(default_factory=dict)
    aliases: dict[str, int] = dataclasses.field(default_factory=dict)
    #: Per stage, the versions that entered it and were not rolled back, the last one at the end.
    holders: dict[str, list[int]] = dataclasses.field(default_factory=dict)


class Ledger:
    """The models in one journal; the caller excludes other threads."""

    def __init__(self, journal: pathlib.Path, artifacts: pathlib.Path) -> None:
        self._reader = JournalReader(journal)
        self._artifacts = artifacts
        self.models: dict[str, Model] = {}

    @property
    def torn(self) -> int:
        """How many lines were damaged."""
        return self._reader.torn

    def refresh(self) -> None:
        """Fold in what was appended since the last time."""
        for record in self._reader.poll():
            if record["v"] > FORMAT:
                raise CorruptStoreError(
                    f"The registry was written in format {record['v']}; this version of "
                    f"ops-registry reads up to {FORMAT}.",
                    suggestions=("Upgrade ops-registry.",),
                )
            self._apply(record)

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
        return self.with_aliases(model, model.versions[number])

    @staticmethod
    def with_aliases(model: Model, version: ModelVersion) -> ModelVersion:
        """Return *version* with the aliases that point to it."""
        names = tuple(sorted(a for a, n in model.aliases.items() if n == version.version))
        return dataclasses.replace(version, aliases=names)

    def _apply(self, record: Mapping[str, Any]) -> None:
        name, number = record["name"], record["version"]
        if record["op"] in {"create", "register"}:
            model = self.models.setdefault(name, Model(record["model_id"], name))
            if model.created is None:
                model.created = record["t"]
            if record["op"] == "register":
                model.highest = number
                model.versions[number] = self._registered(record)
            else:
                model.description, model.tags = record["description"], dict(record["tags"])
        model = self.models[name]
        model.updated = model.changed[number] = record["t"]
        match record["op"]:
            case "create" | "register":
                pass
            case "model":
                model.description = record.get("description", model.description)
                tags = {**model.tags, **record.get("tags", {})}
                model.tags = {key: value for key, value in tags.items() if value is not None}
            case "rename":
                self._rename(model, record["to"])
            case "stage":
                for archived in record["archived"]:
                    self._enter(model, archived, ModelStage.ARCHIVED, record["t"])
                    model.changed[archived] = record["t"]
                self._enter(model, number, ModelStage(record["stage"]), record["t"])
                holders = model.holders.setdefault(record["stage"], [])
                if record.get("rollback"):
                    holders.pop()
                elif holders[-1:] != [number]:
                    holders.append(number)
            case "alias":
                model.aliases[record["alias"]] = number
            case "unalias":
                model.aliases.pop(record["alias"], None)
            case "tag":
                tags = {**model.versions[number].metadata.tags, **record["tags"]}
                tags = {key: value for key, value in tags.items() if value is not None}
                self._describe(model, number, tags=tags)
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

    @staticmethod
    def _enter(model: Model, number: int, stage: ModelStage, when: int) -> None:
        old = model.versions[number]
        history = (*old.stage_history, StageChange(stage, from_ns(when)))
        model.versions[number] = dataclasses.replace(old, stage=stage, stage_history=history)

    def _rename(self, model: Model, name: str) -> None:
        # A deleted model of the new name leaves nothing but its numbers, which stay used.
        before = self.models.get(name)
        gone = Model(f"{model.model_id}-renamed", model.name)
        model.highest = max(model.highest, before.highest if before else 0)
        model.name = name
        model.versions = {n: dataclasses.replace(v, name=name) for n, v in model.versions.items()}
        self.models[name], self.models[gone.name] = model, gone

    @staticmethod
    def _describe(model: Model, number: int, **changed: Any) -> None:
        old = model.versions[number]
        metadata = dataclasses.replace(old.metadata, **changed)
        model.versions[number] = dataclasses.replace(old, metadata=metadata)

    def _registered(self, record: Mapping[str, Any]) -> ModelVersion:
        # In a bucket of ours, or kept elsewhere and not by the registry.
        place = record.get("uri") or record.get("source")
        if place is None:
            place = f"{self._artifacts}/{record['model_id']}/v{record['version']}/{record['file']}"
        when = from_ns(record["t"])
        metadata = dict(record["metadata"])
        metadata["dependencies"] = tuple(metadata["dependencies"])
        return ModelVersion(
            model_id=record["model_id"],
            name=record["name"],
            version=record["version"],
            stage=ModelStage.NONE,
            created_at=when,
            artifact_uri=place,
            checksum=record["checksum"],
            size=record["size"],
            metadata=ModelMetadata(**metadata),
            stage_history=(StageChange(ModelStage.NONE, when),),
        )


class Changing:
    """Holds the lock between processes and has read what others appended before it was taken."""

    def __init__(self, lock: FileLock, ledger: Ledger) -> None:
        self._lock = lock
        self._ledger = ledger

    def __enter__(self) -> None:
        with writing(self._lock.path):
            self._lock.acquire()
        try:
            self._ledger.refresh()
        except BaseException:
            self._lock.release()
            raise

    def __exit__(self, *exc: object) -> None:
        self._lock.release()


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
