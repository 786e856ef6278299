"""Registering models: an artifact becomes the next version, and the frame that records it is committed.

Copying the artifact, or sending it elsewhere, comes first and needs no lock; the frame is what makes the version exist.
"""

from __future__ import annotations

import re
from collections.abc import Iterable
from time import time_ns
from typing import TYPE_CHECKING, Any

from ops.foundation.files import temporary_directory
from ops.foundation.ids import generate_short_id
from ops.registry.disk import artifacts
from ops.registry.disk.checked_paths import is_part
from ops.registry.errors import InvalidValueError
from ops.registry.events import EventType, HookType
from ops.registry.json_values import encode
from ops.registry.models.queries import ModelQueries
from ops.registry.operations import reported
from ops.registry.plain_values import plain_parameters
from ops.registry.validators import (
    check_mapping,
    check_name,
    check_text,
    check_values,
    text_tags,
)

if TYPE_CHECKING:
    import pathlib
    from collections.abc import Collection, Mapping, Sequence

    from ops.foundation.files import StrPath
    from ops.registry.models.ports import Decide
    from ops.registry.models.state import Model
    from ops.registry.records import ModelVersion
    from ops.serialize.trust import Trust

__all__ = ["ModelRegistering", "checked_metadata", "new_model_id"]


class ModelRegistering(ModelQueries):
    """The models of one backend, to be read and added to; `ModelRegistry` changes them."""

    @reported
    def register_model(
        self,
        name: str,
        artifact_path: StrPath | None = None,
        artifact_type: str | None = None,
        framework: str | None = None,
        *,
        model: Any = None,
        input_example: Any = None,
        trust: Trust = "user",
        description: str = "",
        hyperparameters: Mapping[str, Any] | None = None,
        metrics: Mapping[str, float] | None = None,
        tags: Mapping[str, str] | None = None,
        dependencies: Sequence[str] | None = (),
        signature: Mapping[str, Any] | None = None,
        experiment_run_id: str | None = None,
        flavor_metadata: Mapping[str, Any] | None = None,
    ) -> ModelVersion:
        """Copy an artifact in as the next version of *name*, or save *model*; any *framework* text is allowed.

        Args:
            name: What the model is called.
            artifact_path: A file or folder; not with *model*.
            artifact_type: What `load_model` goes by: "xgboost", "lightgbm", "onnx", "torch", "joblib", "pickle", or
                what `register_flavor` was given. Files of `ops.serialize` are known by themselves.
            framework: What the model was made with.
            model: The object itself: its file, type, framework, version and class are worked out; see
                `ops.registry.models.objects`.
            input_example: Some rows for *model*: its signature, unless one is given, and an example in
                ``flavor_metadata``.
            trust: Who signs what has to be pickled; `load_model` takes the same.
            description: A text for readers.
            hyperparameters: JSON values.
            metrics: Numbers.
            tags: Texts.
            dependencies: Requirements, such as "xgboost==3.2.0".
            signature: What goes in and comes out.
            experiment_run_id: The run that made it.
            flavor_metadata: What else a loader needs.

        Raises:
            InvalidValueError: neither a path with type and framework is given nor a model, or both.
        """
        requested: dict[str, Any] = {
            "name": name,
            "artifact_path": None if artifact_path is None else str(artifact_path),
            "artifact_type": artifact_type,
            "framework": framework,
            "description": description,
            "hyperparameters": plain_parameters("hyperparameters", hyperparameters),
            "metrics": dict(check_mapping("metrics", metrics)),
            "tags": dict(check_mapping("tags", tags)),
            "dependencies": _several(dependencies),
            "signature": signature,
            "experiment_run_id": experiment_run_id,
            "flavor_metadata": dict(check_mapping("flavor_metadata", flavor_metadata)),
        }
        if model is None:
            if artifact_path is None:
                raise InvalidValueError(
                    "register_model needs artifact_path, artifact_type and framework, or model=."
                )
            return self._register_requested(requested)
        if artifact_path is not None:
            raise InvalidValueError(
                "register_model takes artifact_path or model=, not both; it was given "
                f"{str(artifact_path)!r:.80}."
            )
        from ops.registry.models.objects import save_object

        with temporary_directory() as folder:
            saved = save_object(model, folder, input_example=input_example, trust=trust)
            requested["artifact_path"] = str(saved.path)
            requested["artifact_type"] = artifact_type or saved.artifact_type
            requested["framework"] = framework or saved.framework
            requested["dependencies"] = requested["dependencies"] or list(saved.dependencies)
            requested["signature"] = saved.signature if signature is None else signature
            requested["flavor_metadata"] = {**saved.flavor_metadata, **requested["flavor_metadata"]}
            return self._register_requested(requested)

    def _register_requested(self, requested: dict[str, Any]) -> ModelVersion:
        requested = self._operations.before(HookType.PRE_MODEL_REGISTER, requested)
        metadata = checked_metadata(requested)
        made = self._register(
            requested["name"], artifacts.origin_of(requested["artifact_path"]), metadata
        )
        data = requested | {"version": made.version, "model_id": made.model_id}
        self._done(EventType.MODEL_REGISTERED, made, data, HookType.POST_MODEL_REGISTER)
        return made

    def left_over(self, before_seconds: float) -> list[str]:
        """Return what is kept elsewhere since before a time and belongs to no version."""
        return self._artifacts.left_over(before_seconds, self.search_models)

    def clear(self, uris: Collection[str]) -> None:
        """Remove what `left_over` returned."""
        self._artifacts.clear(uris)

    def _register(self, name: str, origin: pathlib.Path, metadata: dict[str, Any]) -> ModelVersion:
        if not is_part(origin.name):
            raise InvalidValueError(
                f"{origin.name!r:.80} is no name for an artifact on every system."
            )
        with self._mutex:
            known = self._events.state.models.get(name)
            if known is None:  # else its id is known, and the commit reads on anyhow
                self._events.refresh()
                known = self._events.state.models.get(name)
            model_id, _ = _next(name, known)
        staged = self._artifacts.stage(origin, model_id)

        def decide(model: Model | None) -> Mapping[str, Any]:
            known_id, number = _next(name, model, model_id)
            location = staged.placed(known_id, number)
            content = {"size": staged.size, "checksum": staged.checksum, "metadata": metadata}
            return self._frame("register", name, number, model_id=known_id, **location, **content)

        try:
            _, made = self._commit(name, decide, tags=bool(metadata["tags"]))
            return made
        finally:
            staged.discard()

    def _commit(
        self, name: str, decide: Decide, *, tags: bool = False
    ) -> tuple[Mapping[str, Any], ModelVersion]:
        """Commit what *decide* makes, write what is shown of the version, and return frame and version."""
        with self._mutex:
            made: list[ModelVersion] = []

            def show() -> None:
                state = self._events.state
                frame = frames[-1]
                made.append(state.version(frame.get("to", name), frame["version"]))
                numbers = {frame["version"], *frame.get("archived", ()), *before}
                model = state.model(made[0].name)
                known = (model.versions.get(number) for number in sorted(numbers))
                shown = [state.with_aliases(model, one) for one in known if one is not None]
                self._views.write(shown, tags=tags)

            frames: list[Mapping[str, Any]] = []
            before: set[int] = set()

            def noted(model: Model | None) -> Mapping[str, Any]:
                frame = decide(model)
                frames[:] = [frame]
                # A version that loses its alias to another one is shown without it.
                moved = model.aliases.get(frame["alias"]) if model and "alias" in frame else None
                before.clear()
                before.update(set() if moved is None else {moved})
                return frame

            self._events.commit(name, noted, show)
            return frames[-1], made[0]

    @staticmethod
    def _frame(operation: str, name: str, version: int, **more: Any) -> dict[str, Any]:
        return {"op": operation, "name": name, "version": version, "t": time_ns(), **more}


def _next(name: str, model: Model | None, new_id: str | None = None) -> tuple[str, int]:
    """Return the id of a model, a new one if need be, and the number of its next version."""
    if model is None:
        return new_id or new_model_id(name), 1
    return model.model_id, model.highest + 1


def checked_metadata(requested: Mapping[str, Any]) -> dict[str, Any]:
    """Return what is kept of a registration besides its artifact, or refuse it."""
    metadata = {k: v for k, v in requested.items() if k not in {"name", "artifact_path"}}
    metadata["metrics"] = check_values(requested["metrics"])
    check_name("a model", requested["name"])
    for what in ("artifact_type", "framework", "description"):
        check_text(what, requested[what])
    if requested["experiment_run_id"] is not None:
        check_text("experiment_run_id", requested["experiment_run_id"])
    if requested["signature"] is not None:
        check_mapping("signature", requested["signature"])
    metadata["hyperparameters"] = plain_parameters("hyperparameters", requested["hyperparameters"])
    metadata["tags"] = text_tags(requested["tags"])
    encode(metadata)  # refuses what JSON cannot hold
    return metadata


def _several(dependencies: Sequence[str] | None) -> list[str]:
    """Return dependencies; a single text, whose letters would be taken for them, is refused."""
    if dependencies is None:
        return []
    if isinstance(dependencies, str) or not isinstance(dependencies, Iterable):
        raise InvalidValueError(f"dependencies are several texts: [{dependencies!r:.80}].")
    return [check_text("a dependency", one) for one in dependencies]


def new_model_id(name: str) -> str:
    """Return an id for a new model: the letters and digits of its name, and a unique part."""
    slug = re.sub(r"[^a-z0-9]+", "-", name.lower()).strip("-")[:40] or "model"
    return f"{slug}-{generate_short_id(8)}"
