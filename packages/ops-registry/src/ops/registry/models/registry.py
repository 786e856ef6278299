"""The model registry: versions with their artifacts, stages, aliases; no server.

Registering copies the artifact without any lock and takes the lock only to give the number, move
the copy to its place and append the frame, which is what makes the version exist. A process that is
killed before leaves a copy without a version, which the next registration or `fsck` clears away.
``metadata/{model_id}/vN.json`` and ``models/index.parquet`` are views for people and tools. This module
is what changes models; reading and loading them is `queries`.
"""

from __future__ import annotations

import logging
import pathlib
import re
from time import time_ns
from typing import TYPE_CHECKING, Any

from ops.foundation.ids import generate_short_id
from ops.foundation.locks import FileLock
from ops.registry.disk import artifacts
from ops.registry.disk.journal import JournalWriter, encode, writing
from ops.registry.disk.views import write_view
from ops.registry.errors import (
    AlreadyExistsError,
    ArtifactNotFoundError,
    ModelVersionNotFoundError,
)
from ops.registry.events import EventType, HookType
from ops.registry.models.ledger import FORMAT, Changing, version_record
from ops.registry.models.queries import ModelQueries
from ops.registry.operations import Operations
from ops.registry.records import ModelStage
from ops.registry.remote.artifacts import is_remote
from ops.registry.validators import check_key, check_name, check_stage, check_values

if TYPE_CHECKING:
    from collections.abc import Collection, Iterable, Mapping, Sequence

    from ops.foundation.files import StrPath
    from ops.registry.records import ModelVersion

__all__ = ["ModelRegistry"]


logger = logging.getLogger("ops.registry")


class ModelRegistry(ModelQueries):
    """Models below one folder; threads and processes may share the folder.

    Artifacts go into the folder, or below *artifact_uri* (``s3://bucket/prefix``).
    """

    def __init__(
        self,
        root: StrPath,
        *,
        operations: Operations | None = None,
        durability: str = "process",
        artifact_uri: str | None = None,
    ) -> None:
        super().__init__(root, operations or Operations(), artifact_uri)
        self._durability = durability
        self._lock = FileLock(self.root / "models" / ".lock", timeout=60)

    def register_model(
        self,
        name: str,
        artifact_path: StrPath,
        artifact_type: str,
        framework: str,
        *,
        description: str = "",
        hyperparameters: Mapping[str, Any] | None = None,
        metrics: Mapping[str, float] | None = None,
        tags: Mapping[str, str] | None = None,
        dependencies: Sequence[str] = (),
        signature: Mapping[str, Any] | None = None,
        experiment_run_id: str | None = None,
        flavor_metadata: Mapping[str, Any] | None = None,
    ) -> ModelVersion:
        """Copy an artifact in as the next version of *name*; any *framework* text is allowed."""
        asked: dict[str, Any] = {
            "name": name,
            "artifact_path": str(artifact_path),
            "artifact_type": artifact_type,
            "framework": framework,
            "description": description,
            "hyperparameters": dict(hyperparameters or {}),
            "metrics": dict(metrics or {}),
            "tags": dict(tags or {}),
            "dependencies": list(dependencies),
            "signature": signature,
            "experiment_run_id": experiment_run_id,
            "flavor_metadata": dict(flavor_metadata or {}),
        }
        asked = self._operations.before(HookType.PRE_MODEL_REGISTER, asked)
        metadata = _checked_metadata(asked)
        made = self._register(asked["name"], pathlib.Path(asked["artifact_path"]), metadata)
        data = asked | {"version": made.version, "model_id": made.model_id}
        self._done(EventType.MODEL_REGISTERED, made, data, HookType.POST_MODEL_REGISTER)
        return made

    def promote_model(
        self, name: str, version: int, stage: ModelStage, *, archive_existing: bool = True
    ) -> ModelVersion:
        """Move a version to *stage*; the versions that were there are archived in the same step."""
        stage = check_stage(stage)
        return self._move(name, version, stage, archive_existing=archive_existing)

    def rollback(self, name: str, stage: ModelStage = ModelStage.PRODUCTION) -> ModelVersion:
        """Give *stage* back to the version that had it before the last one that entered it.

        Called again, it goes one further back. The hooks of a promotion run, under the lock.
        """
        stage = check_stage(stage)
        with self._turn, self._changing():
            holders = self._ledger.model(name).holders.get(str(stage), [])
            if len(holders) < 2:
                raise ModelVersionNotFoundError(
                    f"Model {name!r} has no earlier version in {stage} to go back to."
                )
            return self._move(name, holders[-2], stage, archive_existing=True, rollback=True)

    def _move(
        self, name: str, version: int, stage: ModelStage, *, archive_existing: bool, **more: Any
    ) -> ModelVersion:
        asked = {"name": name, "version": version, "stage": str(stage)}
        self._operations.before(HookType.PRE_MODEL_PROMOTE, asked)
        with self._turn, self._changing():
            self._ledger.version(name, version)
            others = self._ledger.model(name).versions.values()
            archived = [v.version for v in others if v.stage == stage and v.version != version]
            exclusive = archive_existing and stage in {ModelStage.PRODUCTION, ModelStage.STAGING}
            archived = archived if exclusive else []
            self._append("stage", name, version, stage=str(stage), archived=archived, **more)
            made = self._ledger.version(name, version)
            for number in (*archived, version):
                self._write_view(self._ledger.version(name, number))
        data = asked | {"archived": archived}
        event = EventType.MODEL_ROLLED_BACK if more else EventType.MODEL_PROMOTED
        self._done(event, made, data, HookType.POST_MODEL_PROMOTE)
        for number in archived:
            self._done(EventType.MODEL_ARCHIVED, made, {"name": name, "version": number})
        return made

    def set_alias(self, name: str, alias: str, version: int) -> ModelVersion:
        """Let *alias* point to a version, wherever it pointed before."""
        check_name("an alias", alias)
        with self._turn, self._changing():
            self._ledger.version(name, version)
            self._append("alias", name, version, alias=alias)
            made = self._ledger.version(name, version)
            self._write_view(made)
        data = {"name": name, "version": version, "alias": alias}
        self._done(EventType.MODEL_ALIAS_SET, made, data)
        return made

    def delete_alias(self, name: str, alias: str) -> None:
        """Remove an alias; the version stays."""
        with self._turn, self._changing():
            made = self.get_model_by_alias(name, alias)
            self._append("unalias", name, made.version, alias=alias)
            self._write_view(self._ledger.version(name, made.version))
        self._done(EventType.MODEL_ALIAS_DELETED, made, {"name": name, "alias": alias})

    def set_tag(self, name: str, version: int, key: str, value: object) -> ModelVersion:
        """Set one tag of a version."""
        return self._describe("tag", name, version, tags={check_key(key): str(value)})

    def annotate(self, name: str, version: int, description: str) -> ModelVersion:
        """Replace the description of a version."""
        return self._describe("annotate", name, version, description=str(description))

    def _describe(self, operation: str, name: str, version: int, **more: Any) -> ModelVersion:
        with self._turn, self._changing():
            self._ledger.version(name, version)
            self._append(operation, name, version, **more)
            made = self._ledger.version(name, version)
            self._write_view(made)
        self._done(EventType.MODEL_DESCRIBED, made, {"name": name, "version": version, **more})
        return made

    def delete_model(self, name: str) -> None:
        """Delete a model with all versions; the numbers of its versions are not given again."""
        with self._turn, self._changing():
            gone = self._ledger.version(name, None)
            versions = list(self._ledger.model(name).versions.values())
            self._append("drop", name, gone.version)
            artifacts.remove(self._artifacts / gone.model_id)
            artifacts.remove(self.root / "metadata" / gone.model_id)
        self._discard(versions)
        self._done(EventType.MODEL_DELETED, gone, {"name": name})

    def delete_model_version(self, name: str, version: int) -> None:
        """Delete a version and its artifact; its number is not given again."""
        with self._turn, self._changing():
            gone = self._ledger.version(name, version)
            self._append("delete", name, version)  # first: a listed version always has its files
            artifacts.remove(self._folder(gone.model_id, version))
            artifacts.remove(pathlib.Path(self._view(gone.model_id, version)))
        self._discard([gone])
        data = {"name": name, "version": version}
        self._done(EventType.MODEL_VERSION_DELETED, gone, data)

    def left_over(self, before_seconds: float) -> list[str]:
        """Return what is in the bucket since before a time and belongs to no version."""
        named = {version.artifact_uri for version in self.search_models()}
        return self._remote.left_over(lambda uri: uri in named, before_seconds)

    def clear(self, uris: Collection[str]) -> None:
        """Remove what `left_over` returned."""
        self._remote.clear(uris)

    def compact(self) -> int:
        """Write ``models/index.parquet`` and return the number of versions in it."""
        versions = self.search_models()
        if versions:
            from ops.registry.models.search import write_table

            write_table(self.root / "models" / "index.parquet", versions)
        return len(versions)

    def rewrite_views(self) -> None:
        """Write the metadata files of all versions, and the snapshot of the journal, again."""
        with self._turn:
            self._ledger.rebuild()
        for version in self.search_models():
            self._write_view(version)

    def adopt(self, name: str, records: Sequence[dict[str, Any]], origin: pathlib.Path) -> int:
        """Take over the history of a model of another registry; return how many frames were new.

        *origin* is that registry's folder of artifacts. A model of the same name must be the
        beginning of the same history.
        """
        with self._turn, self._changing():
            here = self._histories()
            # It may have another name here, if it was renamed since the last copy.
            same = [found for found in here.values() if not _differ(found[0], records[0])]
            known = same[0] if same else here.get(name, [])
            if any(map(_differ, known, records)):
                raise AlreadyExistsError(
                    f"There is another model {name!r} already.",
                    suggestions=("Delete it here, or copy into another store.",),
                )
            new = records[len(known) :]
            for record in new:
                self._adopt_one(record, origin)
            if new:
                for version in self.list_model_versions(name):
                    self._write_view(version)
        return len(new)

    def _adopt_one(self, record: dict[str, Any], origin: pathlib.Path) -> None:
        version = record["version"]
        gone: list[ModelVersion] = []
        if record["op"] == "register" and "file" in record:
            record = self._adopt_artifact(record, origin)
        elif record["op"] == "delete":
            gone = [self._ledger.version(record["name"], version)]
            artifacts.remove(self._folder(gone[0].model_id, version))
        self._append_record(record)
        self._discard(gone)

    def _adopt_artifact(self, record: dict[str, Any], origin: pathlib.Path) -> dict[str, Any]:
        """Bring the artifact of a version here, wherever it is there; return the frame that says so."""
        stored = pathlib.Path(record["model_id"], f"v{record['version']}", record["file"])
        there = record.get("uri") or str(origin / stored)
        here = {key: value for key, value in record.items() if key != "uri"}
        target = self._artifacts / stored
        try:
            if self._remote.address is None:
                self._remote.fetch_from(there, target, record["checksum"])
            else:
                owner = f"models/{record['model_id']}"
                here["uri"] = self._remote.copy_from(there, owner, record["checksum"]).uri
        except ArtifactNotFoundError:
            pass  # it is deleted by a later frame
        return here

    def _register(self, name: str, origin: pathlib.Path, metadata: dict[str, Any]) -> ModelVersion:
        if self._remote.address is not None:
            return self._register_remote(name, origin, metadata)
        staged, size, checksum = artifacts.stage(
            origin, self._artifacts, flushed=self._durability != "process"
        )
        try:
            return self._publish(name, origin, staged, size, checksum, metadata)
        finally:
            artifacts.remove(staged)

    def _register_remote(
        self, name: str, origin: pathlib.Path, metadata: dict[str, Any]
    ) -> ModelVersion:
        """Send the artifact, without any lock, and then name its address in the journal.

        What was sent stays if that fails, as the frame may be in the file; `fsck.collect` can tell.
        """
        with self._turn:
            self._ledger.refresh()
            model_id, _ = self._next(name)
        sent = self._remote.send(origin, f"models/{model_id}")
        with self._turn, self._changing():
            model_id, number = self._next(name)
            place = {"model_id": model_id, "file": origin.name, "uri": sent.uri}
            return self._add(name, number, place, sent.size, sent.checksum, metadata)

    def _publish(
        self,
        name: str,
        origin: pathlib.Path,
        staged: pathlib.Path,
        size: int,
        checksum: str,
        metadata: dict[str, Any],
    ) -> ModelVersion:
        with self._turn, self._changing():
            model_id, number = self._next(name)
            folder = self._folder(model_id, number)
            with writing(folder):
                _make_anew(folder)
                staged.replace(folder / origin.name)
            place = {"model_id": model_id, "file": origin.name}
            return self._add(name, number, place, size, checksum, metadata)

    def _next(self, name: str) -> tuple[str, int]:
        """Return the id of a model, a new one if need be, and the number of its next version."""
        model = self._ledger.models.get(name)
        if model is None:
            return f"{_slug(name)}-{generate_short_id(8)}", 1
        return model.model_id, model.highest + 1

    def _add(
        self,
        name: str,
        number: int,
        place: Mapping[str, str],
        size: int,
        checksum: str,
        metadata: Mapping[str, Any],
    ) -> ModelVersion:
        content = {"size": size, "checksum": checksum, "metadata": metadata}
        self._append("register", name, number, **place, **content)
        made = self._ledger.version(name, number)
        self._write_view(made)
        return made

    def _discard(self, versions: Iterable[ModelVersion]) -> None:
        """Remove artifacts in a bucket, after and outside the change that made them needless."""
        for version in versions:
            if version.checksum and is_remote(version.artifact_uri):  # else it is not ours
                self._remote.discard(version.artifact_uri)

    def _changing(self) -> Changing:
        """Return the lock under which the journal may be appended to; the ledger is up to date."""
        return Changing(self._lock, self._ledger)

    def _append(self, operation: str, name: str, version: int, **more: Any) -> None:
        record = {"v": FORMAT, "op": operation, "name": name, "version": version, "t": time_ns()}
        self._append_record(record | more)

    def _append_record(self, record: dict[str, Any]) -> None:
        writer = JournalWriter(self._journal, durability=self._durability)
        try:
            writer.append(record)
        finally:
            writer.close()
        self._ledger.refresh()

    def _folder(self, model_id: str, version: int) -> pathlib.Path:
        return self._artifacts / model_id / f"v{version}"

    def _write_view(self, version: ModelVersion) -> None:
        path = self._view(version.model_id, version.version)
        # The change is in the journal already: a view that cannot be written must not deny it.
        try:
            write_view(path, encode(version_record(version)))
        except OSError:
            logger.warning("%s could not be written; fsck --repair does", path, exc_info=True)


def _differ(one: Mapping[str, Any], other: Mapping[str, Any]) -> bool:
    """Whether two frames tell different things; each store has a place of its own for artifacts."""
    return {**one, "uri": None} != {**other, "uri": None}


def _checked_metadata(asked: Mapping[str, Any]) -> dict[str, Any]:
    """Return what is kept of a registration besides its artifact, or refuse it."""
    metadata = {k: v for k, v in asked.items() if k not in {"name", "artifact_path"}}
    metadata["metrics"] = check_values(asked["metrics"])
    check_name("a model", asked["name"])
    for key in (*asked["hyperparameters"], *asked["tags"]):
        check_key(key)
    encode(metadata)  # refuses what JSON cannot hold
    return metadata


def _make_anew(folder: pathlib.Path) -> None:
    """Make an empty folder; what a registration that was killed left there goes."""
    try:
        folder.mkdir(parents=True)
    except FileExistsError:
        artifacts.remove(folder)
        folder.mkdir()


def _slug(name: str) -> str:
    return re.sub(r"[^a-z0-9]+", "-", name.lower()).strip("-")[:40] or "model"
