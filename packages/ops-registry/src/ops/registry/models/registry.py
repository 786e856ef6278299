"""The model registry: versions with their artifacts, stages, aliases; no server.

This module is what changes models that are there. Registering them is `registration`, reading and loading them
`queries`. Every change is one frame, decided on the model as it is and committed to the event store of the backend
(`ports`): which one that is makes no difference to the rules.
"""

from __future__ import annotations

import functools
from typing import TYPE_CHECKING, Any

from ops.registry.errors import AlreadyExistsError, ModelVersionNotFoundError, StorageError
from ops.registry.events import EventType, HookType
from ops.registry.json_values import canonical
from ops.registry.models.registration import ModelRegistering
from ops.registry.models.state import LOCATION_KEYS, check_frame
from ops.registry.operations import Operations, reported
from ops.registry.records import ModelStage
from ops.registry.validators import check_key, check_name, check_stage, check_version

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from ops.foundation.files import StrPath
    from ops.registry.disk.content_store import ContentStore
    from ops.registry.models.ports import ModelBackend
    from ops.registry.models.state import Model
    from ops.registry.records import ModelVersion

__all__ = ["ModelRegistry"]

_EXCLUSIVE = {ModelStage.PRODUCTION, ModelStage.STAGING}
#: How often a rollback is decided anew because others promoted meanwhile.
_ATTEMPTS = 50


class ModelRegistry(ModelRegistering):
    """Models below the folder *root*, or in another *backend*; threads and processes may share them.

    On local files artifacts go into the folder, or below *artifact_uri* (``s3://bucket/prefix``).
    *operations* and *durability* are as in `ExperimentTracker`; files that *contents* has are not
    copied into the folder.
    """

    def __init__(
        self,
        root: StrPath | None = None,
        *,
        operations: Operations | None = None,
        durability: str = "process",
        artifact_uri: str | None = None,
        contents: ContentStore | None = None,
        backend: ModelBackend | None = None,
    ) -> None:
        #: How another process makes the same registry; None where it cannot.
        self.made_again: functools.partial[Any] | None = None
        if backend is None:
            from ops.registry.local.models import local_models

            options: dict[str, Any] = {
                "durability": durability,
                "artifact_uri": artifact_uri,
                "contents": contents,
            }
            backend = local_models("." if root is None else root, **options)
            self.made_again = functools.partial(
                type(self), backend.root, operations=operations, **options
            )
        super().__init__(backend, operations or Operations())

    def __reduce__(self) -> tuple[Any, ...]:
        """Be sent to another process as where it is, and opened anew there."""
        if self.made_again is None:
            raise TypeError(
                "This registry was made over a backend that does not say how another process makes it; "
                "send a context, or the configuration of one."
            )
        return self.made_again, ()

    @reported
    def promote_model(
        self, name: str, version: int, stage: ModelStage, *, archive_existing: bool = True
    ) -> ModelVersion:
        """Move *version* of *name* to *stage*; with *archive_existing* the versions that were there are archived.

        All in the same step. Raises `ModelVersionNotFoundError` and `InvalidValueError`.
        """
        number, wanted = self._promotion_by_hooks(name, check_version(version), check_stage(stage))

        def decide(model: Model | None) -> Mapping[str, Any]:
            return self._entering(name, model, number, wanted, archives=archive_existing)

        frame, made = self._commit(name, decide)
        return self._promoted(EventType.MODEL_PROMOTED, frame, made)

    @reported
    def rollback(self, name: str, stage: ModelStage = ModelStage.PRODUCTION) -> ModelVersion:
        """Roll *stage* back to the version that had it before the last one that entered it.

        Called again, it goes one further back. The hooks of a promotion run, with the version that
        gets the stage. Raises `ModelVersionNotFoundError` when there is none to go back to,
        `StorageError` when others change the model without end.
        """
        stage = check_stage(stage)
        for _ in range(_ATTEMPTS):
            with self._mutex:
                self._events.refresh()
                number = _holder_before(name, self._events.state.model(name), stage)
            self._promotion_by_hooks(name, number, stage, is_rollback=True)

            def decide(model: Model | None, number: int = number) -> Mapping[str, Any]:
                if model is None or _holder_before(name, model, stage) != number:
                    raise _ChangedError
                return self._entering(name, model, number, stage) | {"rollback": True}

            try:
                frame, made = self._commit(name, decide)
            except _ChangedError:
                continue  # others have promoted meanwhile: the hooks are to see what is done
            return self._promoted(EventType.MODEL_ROLLED_BACK, frame, made)
        raise StorageError(f"Model {name!r} was changed by others {_ATTEMPTS} times in a row.")

    def rollback_target(self, name: str, stage: ModelStage = ModelStage.PRODUCTION) -> ModelVersion:
        """Return the version that `rollback` would give *stage* to now.

        Raises:
            ModelVersionNotFoundError: there is none to go back to.
        """
        stage = check_stage(stage)
        with self._mutex:
            self._events.refresh()
            number = _holder_before(name, self._events.state.model(name), stage)
            return self._events.state.version(name, number)

    def _promotion_by_hooks(
        self, name: str, version: int, stage: ModelStage, *, is_rollback: bool = False
    ) -> tuple[int, ModelStage]:
        """Return version and stage as the hooks leave them; a rollback is about the ones it has."""
        fixed = ("name", "version", "stage") if is_rollback else ("name",)
        requested = {"name": name, "version": version, "stage": str(stage)}
        requested = self._operations.before(HookType.PRE_MODEL_PROMOTE, requested, fixed=fixed)
        return check_version(requested["version"]), check_stage(requested["stage"])

    def _entering(
        self,
        name: str,
        model: Model | None,
        version: int,
        stage: ModelStage,
        *,
        archives: bool = True,
    ) -> dict[str, Any]:
        self._events.state.version(name, version)  # raises when it is not there
        archived: list[int] = []
        if model is not None and archives and stage in _EXCLUSIVE:
            others = model.versions.values()
            archived = [v.version for v in others if v.stage == stage and v.version != version]
        return self._frame("stage", name, version, stage=str(stage), archived=archived)

    def _promoted(
        self, event: EventType, frame: Mapping[str, Any], made: ModelVersion
    ) -> ModelVersion:
        data = {key: frame[key] for key in ("name", "version", "stage", "archived")}
        self._done(event, made, data, HookType.POST_MODEL_PROMOTE)
        for number in frame["archived"]:
            archived = {"name": frame["name"], "version": number}
            self._done(EventType.MODEL_ARCHIVED, made, archived)
        return made

    @reported
    def set_alias(self, name: str, alias: str, version: int) -> ModelVersion:
        """Let *alias* point to *version* of *name*, wherever it pointed before."""
        check_name("an alias", alias)
        version = check_version(version)
        made = self._change("alias", name, version, alias=alias)
        data = {"name": name, "version": version, "alias": alias}
        self._done(EventType.MODEL_ALIAS_SET, made, data)
        return made

    @reported
    def delete_alias(self, name: str, alias: str) -> None:
        """Remove an alias; the version stays."""

        def decide(_: Model | None) -> Mapping[str, Any]:
            return self._frame(
                "unalias", name, self._events.state.aliased(name, alias), alias=alias
            )

        _, made = self._commit(name, decide)
        self._done(EventType.MODEL_ALIAS_DELETED, made, {"name": name, "alias": alias})

    @reported
    def set_tag(self, name: str, version: int, key: str, value: object) -> ModelVersion:
        """Set the tag *key* of *version* of *name* to the text of *value*."""
        version = check_version(version)
        return self._describe("tag", name, version, tags={check_key(key): str(value)})

    @reported
    def delete_tag(self, name: str, version: int, key: str) -> ModelVersion:
        """Remove the tag *key* of *version* of *name*; one that is not there is no error."""
        return self._describe("tag", name, check_version(version), tags={check_key(key): None})

    @reported
    def annotate(self, name: str, version: int, description: str) -> ModelVersion:
        """Replace the *description* of *version* of *name*."""
        return self._describe(
            "annotate", name, check_version(version), description=str(description)
        )

    def _describe(self, operation: str, name: str, version: int, **more: Any) -> ModelVersion:
        made = self._change(operation, name, version, **more)
        self._done(EventType.MODEL_DESCRIBED, made, {"name": name, "version": version, **more})
        return made

    def _change(self, operation: str, name: str, version: int, **more: Any) -> ModelVersion:
        def decide(_: Model | None) -> Mapping[str, Any]:
            self._events.state.version(name, version)  # raises when it is not there
            return self._frame(operation, name, version, **more)

        return self._commit(name, decide, tags="tags" in more)[1]

    @reported
    def delete_model(self, name: str) -> None:
        """Delete a model with all versions; the numbers of its versions are not given again."""

        def decide(_: Model | None) -> Mapping[str, Any]:
            state = self._events.state
            gone[:] = state.versions(state.model(name))
            return self._frame("drop", name, gone[-1].version)

        gone: list[ModelVersion] = []
        self._delete(name, decide, gone)
        self._done(EventType.MODEL_DELETED, gone[-1], {"name": name})

    @reported
    def delete_model_version(self, name: str, version: int) -> None:
        """Delete a version and its artifact; its number is not given again."""
        version = check_version(version)

        def decide(_: Model | None) -> Mapping[str, Any]:
            gone[:] = [self._events.state.version(name, version)]
            return self._frame("delete", name, version)

        gone: list[ModelVersion] = []
        self._delete(name, decide, gone)
        data = {"name": name, "version": version}
        self._done(EventType.MODEL_VERSION_DELETED, gone[0], data)

    def _delete(self, name: str, decide: Any, gone: list[ModelVersion]) -> None:
        """Commit a deletion first, so that a listed version always has its files; then remove those."""
        with self._mutex:
            self._events.commit(name, decide, lambda: self._views.drop(gone))
        self._artifacts.remove(gone)

    def compact(self) -> int:
        """Write the table of all versions, where the backend has one, and return their number."""
        versions = self.search_models()
        if versions:
            self._views.write_table(versions)
        return len(versions)

    def rewrite_views(self) -> None:
        """Write what is shown of all versions, and the snapshot of the history, again."""
        with self._mutex:
            self._events.rebuild()
        for name in self.list_models():
            # Or what is written is not what others change it to.
            with self._mutex, self._events.excluding():
                model = self._events.state.models.get(name)
                if model is not None:
                    self._views.write(self._events.state.versions(model))

    def adopt(self, name: str, records: Sequence[dict[str, Any]], origin: StrPath) -> int:
        """Take over the history of the model *name* of another registry; return how many frames were new.

        *records* are all its frames, oldest first; *origin* is that registry's folder of artifacts.
        A model of the same name must be the beginning of the same history, else this raises
        `AlreadyExistsError`. Where artifacts are does not count.
        """
        for record in records:
            check_frame(record)  # of another store, which is not trusted
        with self._mutex:
            self._events.refresh()
            count = len(self._known(name, records, len(records)))
            for position in range(count, len(records)):
                self._adopt_one(name, records, position, origin)
        return max(0, len(records) - count)

    def _known(
        self, name: str, records: Sequence[Mapping[str, Any]], most: int
    ) -> list[dict[str, Any]]:
        """Return the history that is here, or refuse one that is not the beginning of *records*."""
        # It may have another name here, if it was renamed since the last copy.
        here = self._events.history_like(name, records[0])
        shared = min(len(here), most)
        if any(map(_differ, here[:shared], records[:shared])):
            raise _another(name)
        return here

    def _adopt_one(
        self, name: str, records: Sequence[dict[str, Any]], position: int, origin: StrPath
    ) -> None:
        record = records[position]
        state = self._events.state
        gone: list[ModelVersion] = []
        if record["op"] == "register":
            record = self._artifacts.adopted(record, origin)
        elif record["op"] in {"delete", "drop"}:
            model = state.models.get(record["name"])
            known = [] if model is None else state.versions(model)
            gone = [v for v in known if record["op"] == "drop" or v.version == record["version"]]

        def decide(_: Model | None) -> Mapping[str, Any]:
            if len(self._known(name, records, position)) > position:
                raise _another(name)  # another process has added to it meanwhile
            if record["op"] == "rename":
                self._require_free(record["to"])
            return {key: value for key, value in record.items() if key != "v"}

        def show() -> None:
            self._views.drop(gone)
            now = self._events.state.models.get(record.get("to", record["name"]))
            if now is not None:
                self._views.write(self._events.state.versions(now), tags=True)

        self._events.commit(record["name"], decide, show)
        self._artifacts.remove(gone)

    def _require_free(self, name: str) -> None:
        taken = self._events.state.models.get(name)
        if taken is not None and taken.created is not None:
            raise _another(name)


class _ChangedError(Exception):
    """Others have changed what a decision was about."""


def _holder_before(name: str, model: Model, stage: ModelStage) -> int:
    holders = model.holders.get(str(stage), [])
    if len(holders) < 2:
        raise ModelVersionNotFoundError(
            f"Model {name!r} has no earlier version in {stage} to go back to."
        )
    return holders[-2]


def _another(name: str) -> AlreadyExistsError:
    return AlreadyExistsError(
        f"There is another model {name!r} already.",
        suggestions=("Delete it here, or copy into another store.",),
    )


def _differ(one: Mapping[str, Any], other: Mapping[str, Any]) -> bool:
    """Whether two frames differ, apart from where each store keeps artifacts."""
    return canonical(_without_location(one)) != canonical(_without_location(other))


def _without_location(frame: Mapping[str, Any]) -> dict[str, Any]:
    return {key: value for key, value in frame.items() if key not in LOCATION_KEYS}
