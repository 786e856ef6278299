"""The model registry with what MLflow has beyond it: models without versions, sources, new names.

Everything is a frame in the journal of the same registry, appended under the same lock. So a version
that MLflow registered can be promoted here, and one that was registered here can get an alias from
MLflow. Versions of MLflow stay where they are: the registry keeps their address and no checksum.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from ops.foundation.ids import generate_short_id
from ops.registry.disk.store_addresses import kept
from ops.registry.errors import AlreadyExistsError, ModelNotFoundError
from ops.registry.events import EventType, HookType
from ops.registry.models.registration import checked_metadata
from ops.registry.models.registry import ModelRegistry

if TYPE_CHECKING:
    import pathlib
    from collections.abc import Mapping

    from ops.registry.models.state import Model
    from ops.registry.records import ModelVersion

__all__ = ["ModelBook"]


class ModelBook(ModelRegistry):
    """A `ModelRegistry` whose models can be there before their versions."""

    def models(self) -> list[Model]:
        """Return all models that were not deleted."""
        with self._mutex:
            self._events.refresh()
            found = self._events.state.models.values()
            return [model for model in found if model.created is not None]

    def model(self, name: str) -> Model:
        """Return one by its name, or raise `ModelNotFoundError`."""
        with self._mutex:
            self._events.refresh()
            return self._there(name)

    def _there(self, name: str) -> Model:
        found = self._events.state.models.get(name)
        if found is None or found.created is None:
            raise ModelNotFoundError(f"There is no model {name!r}.")
        return found

    def versions_of(self, model: Model) -> list[ModelVersion]:
        """Return the versions of a model with their aliases, oldest first."""
        with self._mutex:
            return self._events.state.versions(model)

    def create_model(self, name: str, description: str, tags: Mapping[str, str]) -> Model:
        """Add a model without versions; a name that is taken is an `AlreadyExistsError`."""

        def decide(known: Model | None) -> Mapping[str, Any]:
            if known is not None and known.created is not None:
                raise AlreadyExistsError(f"There is a model {name!r} already.")
            model_id = known.model_id if known else f"model-{generate_short_id(12)}"
            recorded = {"model_id": model_id, "description": description, "tags": dict(tags)}
            return self._frame("create", name, 0, **recorded)

        with self._mutex:
            self._events.commit(name, decide)
            return self._there(name)

    def describe_model(self, name: str, **changes: Any) -> Model:
        """Change *description* or *tags*, of which a None removes one."""

        def decide(_: Model | None) -> Mapping[str, Any]:
            self._there(name)
            return self._frame("model", name, 0, **changes)

        with self._mutex:
            self._events.commit(name, decide)
            return self._there(name)

    def rename_model(self, name: str, new_name: str) -> Model:
        """Give a model with all its versions another name, which must be free."""

        def decide(_: Model | None) -> Mapping[str, Any]:
            self._there(name)
            taken = self._events.state.models.get(new_name)
            if taken is not None and taken.created is not None:
                raise AlreadyExistsError(f"There is a model {new_name!r} already.")
            return self._frame("rename", name, 0, to=new_name)

        def show() -> None:
            self._views.write(self._events.state.versions(self._there(new_name)))

        with self._mutex:
            self._events.commit(name, decide, show)
            return self._there(new_name)

    def drop_model(self, name: str) -> None:
        """Delete a model, with or without versions."""

        def decide(_: Model | None) -> Mapping[str, Any]:
            if self._there(name).versions:
                raise _HasVersionsError
            return self._frame("drop", name, 0)

        with self._mutex:
            try:
                self._events.commit(name, decide)
            except _HasVersionsError:
                self.delete_model(name)

    def register_elsewhere(
        self, name: str, source: str, metadata: Mapping[str, Any], number: int | None = None
    ) -> int:
        """Add a version whose files stay at *source*, and return its number; hooks may refuse it.

        It gets *number*, if that was never given (else it is an `AlreadyExistsError`), or the next one.
        """
        requested: dict[str, Any] = {
            "name": name,
            "artifact_path": source,
            "description": "",
            **{key: {} for key in ("hyperparameters", "metrics", "tags", "flavor_metadata")},
            "dependencies": [],
            "signature": None,
            "experiment_run_id": None,
            **metadata,
        }
        requested = self._operations.before(HookType.PRE_MODEL_REGISTER, requested, fixed=("name",))
        source, metadata = str(requested["artifact_path"]), checked_metadata(requested)

        def decide(_: Model | None) -> Mapping[str, Any]:
            model = self._there(name)
            where = kept(self.root.parent, source)
            origin = {"model_id": model.model_id, "source": where, "size": 0, "checksum": ""}
            free = self._free_number(model, number)
            return self._frame("register", name, free, **origin, metadata=dict(metadata))

        _, made = self._commit(name, decide)
        data = requested | {"version": made.version, "model_id": made.model_id}
        self._done(EventType.MODEL_REGISTERED, made, data, HookType.POST_MODEL_REGISTER)
        return made.version

    def register_copy(
        self, name: str, path: pathlib.Path, metadata: Mapping[str, Any], number: int
    ) -> int:
        """Add a version with a copy of the file or folder at *path*, as `register_elsewhere` does."""
        checked = checked_metadata({**metadata, "name": name, "artifact_path": str(path)})
        staged = self._artifacts.stage(path, self.model(name).model_id)

        def decide(_: Model | None) -> Mapping[str, Any]:
            model = self._there(name)
            free = self._free_number(model, number)
            content = {"size": staged.size, "checksum": staged.checksum, "metadata": checked}
            placed = staged.placed(model.model_id, free)
            return self._frame("register", name, free, model_id=model.model_id, **placed, **content)

        try:
            return self._commit(name, decide)[1].version
        finally:
            staged.discard()

    def _free_number(self, model: Model, number: int | None) -> int:
        """Return the number of a new version: *number*, or the next one."""
        if number is None or number > model.highest:
            return number or model.highest + 1
        frames = self._events.history(model.name)
        if any(f["op"] == "register" and f["version"] == number for f in frames):
            raise AlreadyExistsError(f"Model {model.name!r} has given the number {number} already.")
        return number

    def untag(self, name: str, version: int, key: str) -> None:
        """Remove one tag of a version."""
        self.delete_tag(name, version, key)


class _HasVersionsError(Exception):
    """A model that was to be dropped has versions, whose files go too."""
