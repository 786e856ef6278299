"""Reading models: versions by number, stage and alias, searches, downloads and loading.

What there is comes from the event store, which is read on to the end before each answer. What is returned is the
caller's own: changing it changes nothing here.
"""

from __future__ import annotations

import pathlib
import threading
from typing import TYPE_CHECKING, Any

from ops.foundation.forks import in_children
from ops.registry.errors import ModelNotFoundError, ModelVersionNotFoundError
from ops.registry.events import EventType
from ops.registry.models.flavors import load_artifact
from ops.registry.models.model import own_copy
from ops.registry.models.search import select_versions
from ops.registry.operations import reported
from ops.registry.validators import check_stage, check_version

if TYPE_CHECKING:
    from collections.abc import Sequence

    from ops.foundation.files import StrPath
    from ops.registry.events import HookType
    from ops.registry.models.ports import ModelBackend
    from ops.registry.operations import Operations
    from ops.registry.records import ModelStage, ModelVersion
    from ops.serialize.trust import Trust

__all__ = ["ModelQueries"]


class ModelQueries:
    """The models of one backend, to be read; `ModelRegistry` changes them."""

    def __init__(self, backend: ModelBackend, operations: Operations) -> None:
        #: Where the artifacts and views are, if the backend has such a folder.
        self.root: Any = backend.root
        self._operations = operations
        self._events = backend.events
        self._artifacts = backend.artifacts
        self._views = backend.views
        self._mutex = threading.RLock()
        in_children(self, ModelQueries.begin_in_child)

    def begin_in_child(self) -> None:
        """Reset in a forked child: another thread may have been in the middle of reading."""
        self._mutex = threading.RLock()
        self._events.reset()

    def get_model_version(self, name: str, version: int | None = None) -> ModelVersion:
        """Return *version* of *name*, or the newest one.

        Raises `ModelNotFoundError`, `ModelVersionNotFoundError`, and `InvalidValueError` for a version
        that is not named by a number.
        """
        version = None if version is None else check_version(version)
        with self._mutex:
            self._events.refresh()
            return self._events.state.version(name, version)

    def get_model_by_stage(self, name: str, stage: ModelStage) -> ModelVersion:
        """Return the newest version of *name* that is in *stage*; raises `ModelVersionNotFoundError` without one."""
        stage = check_stage(stage)
        with self._mutex:
            self._events.refresh()
            state = self._events.state
            model = state.model(name)
            for number in sorted(model.versions, reverse=True):
                version = model.versions[number]
                if version.stage == stage:
                    return own_copy(state.with_aliases(model, version))
        raise ModelVersionNotFoundError(f"Model {name!r} has no version in {stage}.")

    def get_model_by_alias(self, name: str, alias: str) -> ModelVersion:
        """Return the version that *alias* points to."""
        with self._mutex:
            self._events.refresh()
            state = self._events.state
            return state.version(name, state.aliased(name, alias))

    def list_models(self) -> list[str]:
        """Return the names of all models that have a version, sorted."""
        with self._mutex:
            self._events.refresh()
            return sorted(m.name for m in self._events.state.models.values() if m.versions)

    def list_model_versions(self, name: str) -> list[ModelVersion]:
        """Return the versions of a model, oldest first."""
        with self._mutex:
            self._events.refresh()
            state = self._events.state
            return list(map(own_copy, state.versions(state.model(name))))

    def by_age(self, *, include_deleted: bool = False) -> list[str]:
        """Return the names of all models, the oldest first, those without a version too."""
        with self._mutex:
            self._events.refresh()
            found = [
                model
                for model in self._events.state.models.values()
                if include_deleted or model.created is not None
            ]
            return [m.name for m in sorted(found, key=lambda m: (m.created or 0, m.name))]

    def search_models(
        self,
        filter: str | None = None,  # noqa: A002 - the published name
        order_by: str | Sequence[str] | None = None,
        limit: int | None = None,
    ) -> list[ModelVersion]:
        """Return the versions for which *filter* holds, by name and version unless ordered.

        *order_by* is one field and ASC or DESC, or several: a list, or a text with commas. *limit*
        is the most that are returned (None: all). Raises `FilterError` for a wrong expression.
        """
        with self._mutex:
            self._events.refresh()  # once: a model that goes meanwhile is there, or not
            state = self._events.state
            models = sorted(state.models.values(), key=lambda model: model.name)
            found = [v for model in models for v in state.versions(model)]
        return list(map(own_copy, select_versions(found, filter, order_by, limit)))

    @reported
    def download_artifact(
        self, name: str, version: int | None, destination: StrPath, *, overwrite: bool = False
    ) -> pathlib.Path:
        """Copy the artifact of *version* (None: the newest) of *name* to *destination*, or into a folder; verify it.

        Other content that is there already raises `AlreadyExistsError` unless *overwrite*.
        """
        found = self.get_model_version(name, version)
        target = pathlib.Path(destination)
        target = target / self._artifacts.file_name(found) if target.is_dir() else target
        path = self._artifacts.fetch(found, target, overwrite=overwrite)
        data = {"name": name, "version": found.version, "path": str(path)}
        self._done(EventType.MODEL_DOWNLOADED, found, data)
        return path

    @reported
    def load_model(
        self,
        name: str,
        version: int | None = None,
        *,
        stage: ModelStage | None = None,
        alias: str | None = None,
        trust: Trust = "safe",
    ) -> Any:
        """Verify the artifact of a version of *name* and return the object in it.

        The version is *version* (None: the newest), or the one in *stage*, or that of *alias*.
        *trust* decides what may be read ("safe": no pickle runs); see
        `ops.registry.models.flavors`.
        """
        if stage is not None:
            found = self.get_model_by_stage(name, stage)
        elif alias is not None:
            found = self.get_model_by_alias(name, alias)
        else:
            found = self.get_model_version(name, version)
        with self._artifacts.at_hand(found) as path:
            model = load_artifact(path, found.metadata.artifact_type, trust)
        self._done(EventType.MODEL_LOADED, found, {"name": name, "version": found.version})
        return model

    def is_here(self, version: ModelVersion) -> bool:
        """Whether the registry keeps the files of a version, and not another program elsewhere (MLflow)."""
        return self._artifacts.is_here(version)

    def verify(self, version: ModelVersion) -> None:
        """Raise `CorruptStoreError` unless the artifact is what was registered."""
        self._artifacts.verify(version)

    def close(self) -> None:
        """Close what is open; the registry can be used again afterwards."""
        self._events.close()
        self._artifacts.close()

    def health_check(self) -> bool:
        """Whether the registry can be read."""
        self.list_models()
        return True

    def history(self, name: str) -> list[dict[str, Any]]:
        """Return the frames about a model, oldest first; raises `ModelNotFoundError` without a model *name*."""
        with self._mutex:
            self._events.refresh()
            found = self._events.history(name)
        if not found:
            raise ModelNotFoundError(f"There is no model {name!r}.")
        return found

    def has_sound_ledger(self) -> bool:
        """Whether what was read with the help of a snapshot matches the whole history."""
        with self._mutex:
            return self._events.is_sound()

    def has_current_view(self, version: ModelVersion) -> bool:
        """Whether what is shown of a version matches its history."""
        return self._views.is_current(version)

    def _done(
        self,
        event: EventType,
        version: ModelVersion,
        data: dict[str, Any],
        hook: HookType | None = None,
    ) -> None:
        resource = f"model:{version.name}/{version.version}"
        self._operations.after(event, data, hook=hook, resource=resource)
