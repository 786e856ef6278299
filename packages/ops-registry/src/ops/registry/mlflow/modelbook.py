"""The model registry with what MLflow has beyond it: models without versions, sources, new names.

Everything is a frame in the journal of the same registry, appended under the same lock. So a version
that MLflow registered can be promoted here, and one that was registered here can get an alias from
MLflow. Versions of MLflow stay where they are: the registry keeps their address and no checksum.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from ops.foundation.ids import generate_short_id
from ops.registry.errors import AlreadyExistsError, ModelNotFoundError
from ops.registry.events import EventType, HookType
from ops.registry.models.registering import checked_metadata
from ops.registry.models.registry import ModelRegistry

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

    from ops.registry.models.ledger import Model
    from ops.registry.records import ModelVersion

__all__ = ["ModelBook"]


class ModelBook(ModelRegistry):
    """A `ModelRegistry` whose models can be there before their versions."""

    def models(self) -> list[Model]:
        """Return all models that were not deleted."""
        with self._turn:
            self._ledger.refresh()
            return [model for model in self._ledger.models.values() if model.created is not None]

    def model(self, name: str) -> Model:
        """Return one by its name, or raise `ModelNotFoundError`."""
        with self._turn:
            self._ledger.refresh()
            found = self._ledger.models.get(name)
        if found is None or found.created is None:
            raise ModelNotFoundError(f"There is no model {name!r}.")
        return found

    def versions_of(self, model: Model) -> list[ModelVersion]:
        """Return the versions of a model with their aliases, oldest first."""
        with self._turn:
            return self._versions(model)

    def create_model(self, name: str, description: str, tags: Mapping[str, str]) -> Model:
        """Add a model without versions; a name that is taken is an `AlreadyExistsError`."""
        with self._turn, self._changing():
            known = self._ledger.models.get(name)
            if known is not None and known.created is not None:
                raise AlreadyExistsError(f"There is a model {name!r} already.")
            model_id = known.model_id if known else f"model-{generate_short_id(12)}"
            told = {"model_id": model_id, "description": description, "tags": dict(tags)}
            self._append("create", name, 0, **told)
            return self.model(name)

    def describe_model(self, name: str, **changes: Any) -> Model:
        """Change *description* or *tags*, of which a None removes one."""
        with self._turn, self._changing():
            self.model(name)
            self._append("model", name, 0, **changes)
            return self.model(name)

    def rename_model(self, name: str, new_name: str) -> Model:
        """Give a model with all its versions another name, which must be free."""
        with self._turn, self._changing():
            model = self.model(name)
            taken = self._ledger.models.get(new_name)
            if taken is not None and taken.created is not None:
                raise AlreadyExistsError(f"There is a model {new_name!r} already.")
            self._append("rename", name, 0, to=new_name)
            self._write_views(self.versions_of(model))
            return self.model(new_name)

    def drop_model(self, name: str) -> None:
        """Delete a model, with or without versions."""
        with self._turn, self._changing():
            if not self.model(name).versions:
                self._append("drop", name, 0)
                return
        self.delete_model(name)

    def register_elsewhere(self, name: str, source: str, metadata: Mapping[str, Any]) -> int:
        """Add a version whose files stay at *source*, and return its number; hooks may refuse it."""
        asked: dict[str, Any] = {
            "name": name,
            "artifact_path": source,
            "description": "",
            **{key: {} for key in ("hyperparameters", "metrics", "tags", "flavor_metadata")},
            "dependencies": [],
            "signature": None,
            "experiment_run_id": None,
            **metadata,
        }
        asked = self._operations.before(HookType.PRE_MODEL_REGISTER, asked, fixed=("name",))
        source, metadata = str(asked["artifact_path"]), checked_metadata(asked)
        with self._turn, self._changing():
            model = self.model(name)
            number = model.highest + 1
            place = {"model_id": model.model_id, "source": source, "size": 0, "checksum": ""}
            self._append("register", name, number, **place, metadata=dict(metadata))
            made = self.get_model_version(name, number)
            self._write_views([made])
        data = asked | {"version": number, "model_id": made.model_id}
        self._done(EventType.MODEL_REGISTERED, made, data, HookType.POST_MODEL_REGISTER)
        return number

    def untag(self, name: str, version: int, key: str) -> None:
        """Remove one tag of a version."""
        self._describe("tag", name, version, tags={key: None})

    def _write_views(self, versions: Iterable[ModelVersion]) -> None:
        for version in versions:
            self._write_view(version)
