"""The model registry: versions with their artifacts, stages, aliases; no server.

This module is what changes models that are there. Registering them is `registering`, reading and loading
them `queries`. Every change is one frame in the journal, appended under the registry's lock (`ledger`);
``metadata/{model_id}/vN.json`` and ``models/index.parquet`` are views for people and tools.
"""

from __future__ import annotations

import pathlib
from typing import TYPE_CHECKING, Any

from ops.registry.disk import artifacts
from ops.registry.disk.checked_paths import inside
from ops.registry.disk.journal import canonical
from ops.registry.errors import (
    AlreadyExistsError,
    ArtifactNotFoundError,
    ModelVersionNotFoundError,
)
from ops.registry.events import EventType, HookType
from ops.registry.models.ledger import check_frame
from ops.registry.models.registering import ModelRegistering
from ops.registry.operations import reported
from ops.registry.records import ModelStage
from ops.registry.validators import check_key, check_name, check_stage, check_version

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from ops.registry.records import ModelVersion

__all__ = ["ModelRegistry"]


class ModelRegistry(ModelRegistering):
    """Models below one folder; threads and processes may share the folder.

    Artifacts go into the folder, or below *artifact_uri* (``s3://bucket/prefix``).
    """

    @reported
    def promote_model(
        self, name: str, version: int, stage: ModelStage, *, archive_existing: bool = True
    ) -> ModelVersion:
        """Move a version to *stage*; the versions that were there are archived in the same step."""
        stage, version = check_stage(stage), check_version(version)
        return self._move(name, version, stage, archive_existing=archive_existing)

    @reported
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

    def _asked_to_promote(
        self, name: str, version: int, stage: ModelStage, *, is_rollback: bool
    ) -> tuple[int, ModelStage]:
        """Return version and stage as the hooks leave them; a rollback is about the ones it has."""
        fixed = ("name", "version", "stage") if is_rollback else ("name",)
        asked = {"name": name, "version": version, "stage": str(stage)}
        asked = self._operations.before(HookType.PRE_MODEL_PROMOTE, asked, fixed=fixed)
        return check_version(asked["version"]), check_stage(asked["stage"])

    def _move(
        self, name: str, version: int, stage: ModelStage, *, archive_existing: bool, **more: Any
    ) -> ModelVersion:
        version, stage = self._asked_to_promote(name, version, stage, is_rollback=bool(more))
        asked = {"name": name, "version": version, "stage": str(stage)}
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

    @reported
    def set_alias(self, name: str, alias: str, version: int) -> ModelVersion:
        """Let *alias* point to a version, wherever it pointed before."""
        check_name("an alias", alias)
        version = check_version(version)
        with self._turn, self._changing():
            self._ledger.version(name, version)
            before = self._ledger.model(name).aliases.get(alias)
            self._append("alias", name, version, alias=alias)
            made = self._ledger.version(name, version)
            self._write_view(made)
            if before not in {None, version}:
                self._write_view(self._ledger.version(name, before))
        data = {"name": name, "version": version, "alias": alias}
        self._done(EventType.MODEL_ALIAS_SET, made, data)
        return made

    @reported
    def delete_alias(self, name: str, alias: str) -> None:
        """Remove an alias; the version stays."""
        with self._turn, self._changing():
            made = self.get_model_by_alias(name, alias)
            self._append("unalias", name, made.version, alias=alias)
            self._write_view(self._ledger.version(name, made.version))
        self._done(EventType.MODEL_ALIAS_DELETED, made, {"name": name, "alias": alias})

    @reported
    def set_tag(self, name: str, version: int, key: str, value: object) -> ModelVersion:
        """Set one tag of a version."""
        version = check_version(version)
        return self._describe("tag", name, version, tags={check_key(key): str(value)})

    @reported
    def annotate(self, name: str, version: int, description: str) -> ModelVersion:
        """Replace the description of a version."""
        return self._describe(
            "annotate", name, check_version(version), description=str(description)
        )

    def _describe(self, operation: str, name: str, version: int, **more: Any) -> ModelVersion:
        with self._turn, self._changing():
            self._ledger.version(name, version)
            self._append(operation, name, version, **more)
            made = self._ledger.version(name, version)
            self._write_view(made)
        self._done(EventType.MODEL_DESCRIBED, made, {"name": name, "version": version, **more})
        return made

    @reported
    def delete_model(self, name: str) -> None:
        """Delete a model with all versions; the numbers of its versions are not given again."""
        with self._turn, self._changing():
            gone = self._ledger.version(name, None)
            versions = list(self._ledger.model(name).versions.values())
            self._append("drop", name, gone.version)
            artifacts.remove(inside(self.root, "artifacts", gone.model_id))
            artifacts.remove(inside(self.root, "metadata", gone.model_id))
        self._discard(versions)
        self._done(EventType.MODEL_DELETED, gone, {"name": name})

    @reported
    def delete_model_version(self, name: str, version: int) -> None:
        """Delete a version and its artifact; its number is not given again."""
        version = check_version(version)
        with self._turn, self._changing():
            gone = self._ledger.version(name, version)
            self._append("delete", name, version)  # first: a listed version always has its files
            artifacts.remove(self._folder(gone.model_id, version))
            artifacts.remove(pathlib.Path(self._view(gone.model_id, version)))
        self._discard([gone])
        data = {"name": name, "version": version}
        self._done(EventType.MODEL_VERSION_DELETED, gone, data)

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
        for name in self.list_models():
            with self._turn, self._changing():  # or what is written is not what others change it to
                for version in self._known_versions(name):
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
                raise _another(name)
            new = records[len(known) :]
            for record in new:
                self._adopt_one(record, origin)
            if new:
                for version in self._known_versions(name):
                    self._write_view(version)
        return len(new)

    def _adopt_one(self, record: dict[str, Any], origin: pathlib.Path) -> None:
        check_frame(record)  # of another store, which may be anybody's
        version = record["version"]
        gone: list[ModelVersion] = []
        if record["op"] == "register" and "file" in record:
            record = self._adopt_artifact(record, origin)
        elif record["op"] == "rename":
            self._require_free(record["to"])
        elif record["op"] in {"delete", "drop"}:
            known = self._known_versions(record["name"])
            gone = [v for v in known if record["op"] == "drop" or v.version == version]
        self._append_record(record)  # first: a listed version always has its files
        for one in gone:
            artifacts.remove(self._folder(one.model_id, one.version))
            artifacts.remove(pathlib.Path(self._view(one.model_id, one.version)))
        self._discard(gone)

    def _require_free(self, name: str) -> None:
        taken = self._ledger.models.get(name)
        if taken is not None and taken.created is not None:
            raise _another(name)

    def _adopt_artifact(self, record: dict[str, Any], origin: pathlib.Path) -> dict[str, Any]:
        """Bring the artifact of a version here, wherever it is there; return the frame that says so."""
        stored = (record["model_id"], f"v{record['version']}", record["file"])
        there = record.get("uri") or str(inside(origin, *stored))
        here = {key: value for key, value in record.items() if key != "uri"}
        target = inside(self.root, "artifacts", *stored)
        try:
            if self._remote.address is None:
                self._remote.fetch_from(there, target, record["checksum"], self._contents)
            else:
                owner = f"models/{record['model_id']}"
                here["uri"] = self._remote.copy_from(there, owner, record["checksum"]).uri
        except ArtifactNotFoundError:
            pass  # it is deleted by a later frame
        return here


def _another(name: str) -> AlreadyExistsError:
    return AlreadyExistsError(
        f"There is another model {name!r} already.",
        suggestions=("Delete it here, or copy into another store.",),
    )


def _differ(one: Mapping[str, Any], other: Mapping[str, Any]) -> bool:
    """Whether two frames tell different things; each store has a place of its own for artifacts."""
    return canonical({**one, "uri": None}) != canonical({**other, "uri": None})
