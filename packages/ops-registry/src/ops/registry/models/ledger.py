"""The state of the model registry: one journal, folded into memory, read on from where it was.

Every change is one frame that is appended under the registry's lock, so a promotion and the
archiving of the version before it are visible together or not at all. A version number is given in
the frame that registers it; numbers of deleted versions are not given again. A process that begins
takes what the first frames came to from a snapshot (`snapshots`), if there is one.
"""

from __future__ import annotations

import contextlib
import dataclasses
import pathlib
import threading
from typing import TYPE_CHECKING, Any

from ops.foundation.logs import get_logger
from ops.registry.disk.checked_paths import is_part, is_relative
from ops.registry.disk.journal import JournalReader, decode, writing
from ops.registry.errors import (
    CorruptStoreError,
    ModelNotFoundError,
    ModelVersionNotFoundError,
)
from ops.registry.instants import from_ns
from ops.registry.models.model import Model, own_copy
from ops.registry.models.snapshots import Models, load, save
from ops.registry.records import ModelMetadata, ModelStage, ModelVersion, StageChange
from ops.registry.remote.artifacts import is_remote

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Mapping

    from ops.foundation.locks import FileLock

__all__ = ["FORMAT", "Changing", "Ledger", "Model", "version_record"]

logger = get_logger("ops.registry")

FORMAT = 1


#: After so many frames that are in no snapshot one is written: reading them takes about 20 ms.
SNAPSHOT_FRAMES = 1_000


class Ledger:
    """The models in one journal; the caller excludes other threads."""

    def __init__(self, journal: pathlib.Path, artifacts: pathlib.Path) -> None:
        self._reader = JournalReader(journal)
        self._artifacts = artifacts
        self._snapshot = f"{journal}.snapshot"
        self._has_begun = False
        self._since_snapshot = 0
        self._background: threading.Thread | None = None
        self.models = Models(str(artifacts))

    @property
    def torn(self) -> int:
        """How many lines were damaged."""
        return self._reader.torn

    def refresh(self) -> None:
        """Fold in what was appended since the last time."""
        with self._in_whole():
            if not self._has_begun:
                self._begin()
            self._fold(self._reader.poll())
        if self._since_snapshot >= SNAPSHOT_FRAMES:
            self._save_in_background()

    def advance(self, place: tuple[int, int], body: bytes) -> None:
        """Fold in the frame that was just appended at *place*, without reading it, if it is the next one."""
        with self._in_whole():
            if self._reader.skip(*place):
                self._fold([decode(body)])
        self.refresh()

    def is_as_read_anew(self) -> bool:
        """Whether the journal, read from its beginning, says the same."""
        self.refresh()
        if not self._has_begun:  # it does not come from the journal
            return True
        return dict(self._read_anew().models.lines()) == dict(self.models.lines())

    def rebuild(self) -> None:
        """Read the journal from its beginning, and write the snapshot again if there was one."""
        anew = self._read_anew()
        self._reader, self.models = anew._reader, anew.models  # noqa: SLF001 - the same class
        if pathlib.Path(self._snapshot).exists():
            self._save_in_background()

    def close(self) -> None:
        """Wait for a snapshot that is being written."""
        if self._background is not None:
            self._background.join()

    def begin_anew(self) -> None:
        """Forget what was read, and a snapshot that is being written: both may be half done."""
        self._has_begun = False
        self._background = None

    @contextlib.contextmanager
    def _in_whole(self) -> Iterator[None]:
        """Begin anew after an error or an interrupt amid folding: what was read is not read again."""
        try:
            yield
        except BaseException:
            self._has_begun = False
            raise

    def _begin(self) -> None:
        self._reader, self.models = JournalReader(self._reader.path), Models(str(self._artifacts))
        self._since_snapshot = 0
        found = load(self._snapshot, self._reader.path)
        if found is not None and self._reader.skip(0, found.offset):
            self._reader.torn = found.torn
            self.models.restore(found.lines)
        self._has_begun = True

    def _read_anew(self) -> Ledger:
        anew = Ledger(pathlib.Path(self._reader.path), self._artifacts)
        anew._has_begun = True
        anew._fold(anew._reader.poll())
        return anew

    def _save_in_background(self) -> None:
        if self._background is not None and self._background.is_alive():
            return
        self._since_snapshot = 0
        told = self._reader.offset, self._reader.torn, self.models.copy()
        # Not a daemon: an interpreter that ends waits for it, some tenths of a second at most.
        self._background = threading.Thread(
            target=self._save, args=told, name="ops-registry-snapshot"
        )
        self._background.start()

    def _save(self, offset: int, torn: int, models: Models) -> None:
        try:
            save(self._snapshot, self._reader.path, offset, torn, models)
        except (OSError, ValueError):
            # It is a view, and perhaps one who may not write reads: the journal has everything.
            logger.debug("%s could not be written", self._snapshot, exc_info=True)

    def _fold(self, records: Iterable[Mapping[str, Any]]) -> None:
        for record in records:
            self._since_snapshot += 1
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
                    f"it has no {error}; {self.torn} of its lines are damaged.",
                    suggestions=("Bring the journal back from a copy.",),
                ) from error
            except (TypeError, ValueError, AttributeError) as error:
                raise CorruptStoreError(
                    f"The registry's journal has what this package does not write: {error}."
                ) from error

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

    @staticmethod
    def with_aliases(model: Model, version: ModelVersion) -> ModelVersion:
        """Return *version* with the aliases that point to it."""
        names = tuple(sorted(a for a, n in model.aliases.items() if n == version.version))
        return dataclasses.replace(version, aliases=names)

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
                model.highest = number
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


def check_frame(record: Any) -> None:
    """Refuse a frame whose names could lead out of the folder of artifacts: anybody can write one."""
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
    if wrong:
        told = {key: record[key] for key in wrong}
        raise CorruptStoreError(
            f"The registry's journal has a frame that this package never writes: {told!r:.200}.",
            suggestions=("Use nothing of this store unless you know who wrote it.",),
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
