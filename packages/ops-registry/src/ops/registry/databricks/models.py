"""The model registry on Databricks: histories in tables, artifacts in a volume.

An artifact is uploaded before its version exists, to a place that nothing else has; what a process
that died has uploaded is reached by no version. Checks and hooks are those of the local registry.
"""

from __future__ import annotations

import contextlib
import pathlib
import secrets
from time import time_ns
from typing import TYPE_CHECKING, Any

from ops.foundation.logs import get_logger
from ops.registry.databricks.catalogtags import CatalogTags
from ops.registry.databricks.modellog import ModelLog, plain_frames
from ops.registry.databricks.tables import VOLUME
from ops.registry.databricks.volumes import Volume, VolumePath, encoded
from ops.registry.disk import artifacts
from ops.registry.disk.journal import canonical
from ops.registry.errors import (
    AlreadyExistsError,
    MLOpsException,
    ModelNotFoundError,
    ModelVersionNotFoundError,
)
from ops.registry.events import EventType, HookType
from ops.registry.models.ledger import Model
from ops.registry.models.registering import new_model_id
from ops.registry.models.registry import ModelRegistry
from ops.registry.operations import reported
from ops.registry.plain_values import copied
from ops.registry.records import ModelStage
from ops.registry.validators import check_name, check_stage, check_version

if TYPE_CHECKING:
    import functools
    from collections.abc import Callable, Collection, Iterator, Mapping, Sequence

    from ops.registry.databricks.volumes import Stored
    from ops.registry.databricks.warehouse import Warehouse
    from ops.registry.operations import Operations
    from ops.registry.records import ModelVersion

__all__ = ["DatabricksModelRegistry"]

logger = get_logger("ops.registry")

_EXCLUSIVE = {ModelStage.PRODUCTION, ModelStage.STAGING}


class DatabricksModelRegistry(ModelRegistry):
    """Models in the tables of a schema and its volume; threads and processes may share them."""

    root: VolumePath  # type: ignore[assignment]  # a place in the volume, with / and exists()
    made_again: functools.partial[Any] | None = None

    def __reduce__(self) -> tuple[Any, ...]:
        """Be sent to another process as the configuration; see `ops.registry.databricks.parts.sent`."""
        from ops.registry.databricks.parts import sent

        return sent(self, self.made_again)

    def __init__(
        self,
        warehouse: Warehouse,
        *,
        operations: Operations | None = None,
        catalog_tags: bool = True,
    ) -> None:
        super().__init__(warehouse.staging, operations=operations)
        self._tags = CatalogTags(warehouse, "VOLUME", VOLUME, enabled=catalog_tags)
        self.warehouse = warehouse
        self._volume = Volume(warehouse)
        self._artifacts = warehouse.staging
        self._ledger: ModelLog = ModelLog(warehouse, self._volume)
        self.root = VolumePath(self._volume, "")

    # Changing

    @reported
    def rollback(self, name: str, stage: ModelStage = ModelStage.PRODUCTION) -> ModelVersion:
        """Give *stage* back to the version that had it before the last one that entered it."""
        stage = check_stage(stage)
        with self._turn:
            self._ledger.refresh()
            number = self._holder_before(name, stage)
        # The hooks once, with what is known now; the frame is decided anew at every attempt.
        self._asked_to_promote(name, number, stage, is_rollback=True)

        def decide(_: Model | None) -> Mapping[str, Any]:
            return self._entering(name, self._holder_before(name, stage), stage) | {
                "rollback": True
            }

        return self._moved(name, stage, decide, EventType.MODEL_ROLLED_BACK)

    def _move(
        self,
        name: str,
        version: int,
        stage: ModelStage,
        *,
        archive_existing: bool,
        **_: Any,
    ) -> ModelVersion:
        version, stage = self._asked_to_promote(name, version, stage, is_rollback=False)

        def decide(_: Model | None) -> Mapping[str, Any]:
            return self._entering(name, version, stage, archives=archive_existing)

        return self._moved(name, stage, decide, EventType.MODEL_PROMOTED)

    def _moved(
        self,
        name: str,
        stage: ModelStage,
        decide: Callable[[Model | None], Mapping[str, Any]],
        event: EventType,
    ) -> ModelVersion:
        frame, made = self._committed(name, decide)
        data = {"name": name, "version": made.version, "stage": str(stage)}
        data |= {"archived": frame["archived"]}
        self._done(event, made, data, HookType.POST_MODEL_PROMOTE)
        for number in frame["archived"]:
            self._done(EventType.MODEL_ARCHIVED, made, {"name": name, "version": number})
        return made

    @reported
    def set_alias(self, name: str, alias: str, version: int) -> ModelVersion:
        """Let *alias* point to a version, wherever it pointed before."""
        check_name("an alias", alias)
        version = check_version(version)
        _, made = self._committed(name, lambda _: self._frame("alias", name, version, alias=alias))
        data = {"name": name, "version": version, "alias": alias}
        self._done(EventType.MODEL_ALIAS_SET, made, data)
        return made

    @reported
    def delete_alias(self, name: str, alias: str) -> None:
        """Remove an alias; the version stays."""

        def decide(_: Model | None) -> Mapping[str, Any]:
            aliases = self._ledger.model(name).aliases
            if alias not in aliases:
                raise ModelVersionNotFoundError(f"Model {name!r} has no alias {alias!r}.")
            return self._frame("unalias", name, aliases[alias], alias=alias)

        _, made = self._committed(name, decide)
        self._done(EventType.MODEL_ALIAS_DELETED, made, {"name": name, "alias": alias})

    def _describe(self, operation: str, name: str, version: int, **more: Any) -> ModelVersion:
        _, made = self._committed(name, lambda _: self._frame(operation, name, version, **more))
        if "tags" in more:
            self._mirror_tags()
        self._done(EventType.MODEL_DESCRIBED, made, {"name": name, "version": version, **more})
        return made

    @reported
    def delete_model(self, name: str) -> None:
        """Delete a model with all versions; the numbers of its versions are not given again."""
        gone: list[ModelVersion] = []

        def decide(_: Model | None) -> Mapping[str, Any]:
            gone[:] = [self._ledger.version(name, n) for n in self._ledger.model(name).versions]
            return self._frame("drop", name, max(v.version for v in gone))

        with self._turn:
            self._ledger.commit(name, decide)
            files = [f for v in gone for f in self._ledger.files(name, v.version)]
        self._clear(files)
        self._mirror_tags()
        self._done(EventType.MODEL_DELETED, gone[-1], {"name": name})

    @reported
    def delete_model_version(self, name: str, version: int) -> None:
        """Delete a version and its artifact; its number is not given again."""
        version = check_version(version)
        gone: list[ModelVersion] = []

        def decide(_: Model | None) -> Mapping[str, Any]:
            gone[:] = [self._ledger.version(name, version)]
            return self._frame("delete", name, version)

        with self._turn:
            self._ledger.commit(name, decide)
            files = self._ledger.files(name, version)
        self._clear(files)
        self._mirror_tags()
        data = {"name": name, "version": version}
        self._done(EventType.MODEL_VERSION_DELETED, gone[0], data)

    def _publish(
        self,
        name: str,
        origin: pathlib.Path,
        staged: pathlib.Path,
        size: int,
        checksum: str,
        metadata: dict[str, Any],
    ) -> ModelVersion:
        with self._turn:
            self._ledger.refresh()
            known = self._ledger.models.get(name)
        model_id = known.model_id if known else new_model_id(name)
        upload = secrets.token_hex(4)
        place = f"artifacts/{model_id}/{upload}/{encoded(origin.name)}"
        try:
            files = self._volume.upload(staged, place)
        finally:
            artifacts.remove(staged)
        numbers: list[int] = []

        def decide(model: Model | None) -> Mapping[str, Any]:
            numbers[:] = [(model or Model(model_id, name)).highest + 1]
            return {
                "op": "register",
                "name": name,
                "version": numbers[0],
                "t": time_ns(),
                "model_id": model.model_id if model else model_id,
                "file": origin.name,
                "source": self._volume.uri(place),
                "files": files,
                "size": size,
                "checksum": checksum,
                "metadata": metadata,
            }

        try:
            with self._turn:
                self._ledger.commit(name, decide)
                made = self._ledger.version(name, numbers[0])
        except MLOpsException:
            # Whether it was committed is not known here: what was uploaded stays.
            logger.warning("%s may be reached by no version", self._volume.uri(place))
            raise
        if metadata["tags"]:
            self._mirror_tags()
        return made

    def _mirror_tags(self) -> None:
        with self._turn:
            found = list(self._ledger.models.values())
            tags: list[Mapping[str, str]] = [model.tags for model in found if model.versions]
            tags += [v.metadata.tags for model in found for v in model.versions.values()]
        self._tags.mirror(tags)

    def _committed(
        self, name: str, decide: Callable[[Model | None], Mapping[str, Any]]
    ) -> tuple[Mapping[str, Any], ModelVersion]:
        frames: list[Mapping[str, Any]] = []

        def noted(model: Model | None) -> Mapping[str, Any]:
            frames[:] = [decide(model)]
            return frames[0]

        with self._turn:
            self._ledger.commit(name, noted)
            return frames[0], self._ledger.version(name, frames[0]["version"])

    def _frame(self, operation: str, name: str, version: int, **more: Any) -> dict[str, Any]:
        self._ledger.version(name, version)  # raises when it is not there
        return {"op": operation, "name": name, "version": version, "t": time_ns(), **more}

    def _entering(
        self, name: str, version: int, stage: ModelStage, *, archives: bool = True
    ) -> dict[str, Any]:
        frame = self._frame("stage", name, version, stage=str(stage), archived=[])
        if archives and stage in _EXCLUSIVE:
            others = self._ledger.model(name).versions.values()
            numbers = [v.version for v in others if v.stage == stage and v.version != version]
            frame["archived"] = numbers
        return frame

    def _holder_before(self, name: str, stage: ModelStage) -> int:
        holders = self._ledger.model(name).holders.get(str(stage), [])
        if len(holders) < 2:
            raise ModelVersionNotFoundError(
                f"Model {name!r} has no earlier version in {stage} to go back to."
            )
        return holders[-2]

    def _clear(self, files: Sequence[Stored]) -> None:
        try:
            self._volume.remove(files)
        except MLOpsException:
            # The change is committed already: a file that stays must not deny it.
            logger.warning("%d files stay in the volume", len(files), exc_info=True)

    # Reading

    def _fetch(
        self, version: ModelVersion, target: pathlib.Path, *, overwrite: bool = True
    ) -> pathlib.Path:
        files = self._files(version)
        self._volume.download(files, target, version.checksum, overwrite=overwrite)
        return target

    @contextlib.contextmanager
    def _at_hand(self, version: ModelVersion) -> Iterator[pathlib.Path]:
        folder = self._volume.temporary()
        try:
            folder.mkdir()
            yield self._fetch(version, folder / self._file_name(version))
        finally:
            artifacts.remove(folder)

    def verify(self, version: ModelVersion) -> None:
        """Raise `CorruptStoreError` unless the artifact is what was registered."""
        with self._volume.fetched(self._files(version)):
            pass

    def history(self, name: str) -> list[dict[str, Any]]:
        """Return the frames about a model, oldest first."""
        with self._turn:
            self._ledger.refresh()
            found = self._ledger.history(name)
        if not found:
            raise ModelNotFoundError(f"There is no model {name!r}.")
        return [copied(frame) for frame in found]

    def left_over(self, before_seconds: float) -> list[str]:
        """Return the files of models in the volume that no version has, older than a time."""

        def named() -> set[str]:
            return {f.place for version in self.search_models() for f in self._files(version)}

        return self._volume.left_over("artifacts", before_seconds, named)

    def clear(self, uris: Collection[str]) -> None:
        """Remove what `left_over` returned."""
        self._volume.clear(uris)

    def compact(self) -> int:
        """Return the number of versions; Delta compacts its tables itself."""
        return len(self.search_models())

    def rewrite_views(self) -> None:
        """There are no views."""

    def has_current_view(self, version: ModelVersion) -> bool:  # noqa: ARG002 - the same call
        """Return True: there are no views."""
        return True

    def adopt(self, name: str, records: Sequence[dict[str, Any]], origin: pathlib.Path) -> int:
        """Take over the history of a model of another registry; return how many frames were new.

        *origin* is a folder with its artifacts. A model of the same name must be the beginning of the
        same history. Where artifacts are does not count, nor under which names the frames were written.
        """
        with self._turn:
            self._ledger.refresh()
            count = len(self._ledger.history(name))
            for place in range(count, len(records)):
                self._take(name, records, place, origin)
            self._require_beginning(name, records)
        if len(records) > count:
            self._mirror_tags()
        return max(0, len(records) - count)

    def _take(
        self, name: str, records: Sequence[dict[str, Any]], place: int, origin: pathlib.Path
    ) -> None:
        record, version = records[place], records[place]["version"]
        self._require_beginning(name, records[:place])
        gone: list[Stored] = []
        if record["op"] in {"delete", "drop"}:
            numbers = [version] if record["op"] == "delete" else self._ledger.model(name).versions
            gone = [file for number in numbers for file in self._ledger.files(name, number)]
        elif record["op"] == "register" and "file" in record:
            record = self._take_artifact(record, origin)

        def decide(_: Model | None) -> Mapping[str, Any]:
            self._require_beginning(name, records[:place])
            return record

        self._ledger.commit(name, decide)
        self._clear(gone)

    def _take_artifact(self, record: dict[str, Any], origin: pathlib.Path) -> dict[str, Any]:
        model_id, version, file = record["model_id"], record["version"], record["file"]
        place = f"artifacts/{model_id}/{secrets.token_hex(4)}/{encoded(file)}"
        path = origin / model_id / f"v{version}" / file
        files: list[Stored] = []
        if path.exists():  # else it is deleted by a later frame
            artifacts.verify(path, record["checksum"])
            files = self._volume.upload(path, place)
        return record | {"source": self._volume.uri(place), "files": files}

    def _require_beginning(self, name: str, records: Sequence[dict[str, Any]]) -> None:
        here = plain_frames(self._ledger.history(name), name)
        shared = min(len(here), len(records))
        if canonical(here[:shared]) != canonical(list(records[:shared])):
            raise AlreadyExistsError(
                f"There is another model {name!r} already.",
                suggestions=("Delete it here, or copy into another store.",),
            )

    def _files(self, version: ModelVersion) -> list[Stored]:
        with self._turn:
            return self._ledger.files(version.name, version.version)

    def _file_name(self, version: ModelVersion) -> str:
        for frame in self.history(version.name):
            if frame["op"] == "register" and frame["version"] == version.version:
                return pathlib.PurePosixPath(frame["file"]).name
        return version.name
