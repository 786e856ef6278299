"""Registering models: an artifact becomes the next version, and the frame that says so is appended.

Copying the artifact, or sending it to a bucket, is done without any lock. The lock is taken only to give the number, move
the copy to its place and append the frame, which is what makes the version exist. A process that is
killed before leaves a copy without a version, which the next registration or `fsck` clears away.
``metadata/{model_id}/vN.json`` is a view for people and tools.
"""

from __future__ import annotations

import functools
import re
from time import time_ns
from typing import TYPE_CHECKING, Any

from ops.foundation.ids import generate_short_id
from ops.foundation.locks import FileLock
from ops.foundation.logs import get_logger
from ops.registry.disk import artifacts
from ops.registry.disk.checked_paths import inside, is_part
from ops.registry.disk.journal import JournalWriter, encode, writing
from ops.registry.disk.views import write_view
from ops.registry.errors import InvalidValueError
from ops.registry.events import EventType, HookType
from ops.registry.models.ledger import FORMAT, Changing, version_record
from ops.registry.models.queries import ModelQueries
from ops.registry.operations import Operations, reported
from ops.registry.plain_values import plain_parameters
from ops.registry.remote.artifacts import is_remote
from ops.registry.validators import (
    check_key,
    check_mapping,
    check_name,
    check_text,
    check_values,
)

if TYPE_CHECKING:
    import pathlib
    from collections.abc import Collection, Iterable, Mapping, Sequence

    from ops.foundation.files import StrPath
    from ops.registry.disk.contents import ContentStore
    from ops.registry.records import ModelVersion

__all__ = ["ModelRegistering", "checked_metadata", "new_model_id"]

logger = get_logger("ops.registry")


class ModelRegistering(ModelQueries):
    """The models below one folder, to be read and added to; `ModelRegistry` changes them."""

    def __init__(
        self,
        root: StrPath,
        *,
        operations: Operations | None = None,
        durability: str = "process",
        artifact_uri: str | None = None,
        contents: ContentStore | None = None,
    ) -> None:
        super().__init__(root, operations or Operations(), artifact_uri)
        self._contents = contents
        self._durability = durability
        self._lock = FileLock(self.root / "models" / ".lock", timeout=60)

    def __reduce__(self) -> tuple[Any, ...]:
        """Be sent to another process as where it is, and opened anew there."""
        made = functools.partial(
            type(self),
            self.root,
            operations=self._operations,
            durability=self._durability,
            artifact_uri=self._remote.address,
            contents=self._contents,
        )
        return made, ()

    @reported
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
            "hyperparameters": plain_parameters("hyperparameters", hyperparameters),
            "metrics": dict(check_mapping("metrics", metrics)),
            "tags": dict(check_mapping("tags", tags)),
            "dependencies": _several(dependencies),
            "signature": signature,
            "experiment_run_id": experiment_run_id,
            "flavor_metadata": dict(check_mapping("flavor_metadata", flavor_metadata)),
        }
        asked = self._operations.before(HookType.PRE_MODEL_REGISTER, asked)
        metadata = checked_metadata(asked)
        made = self._register(asked["name"], artifacts.origin_of(asked["artifact_path"]), metadata)
        data = asked | {"version": made.version, "model_id": made.model_id}
        self._done(EventType.MODEL_REGISTERED, made, data, HookType.POST_MODEL_REGISTER)
        return made

    def left_over(self, before_seconds: float) -> list[str]:
        """Return what is in the bucket since before a time and belongs to no version."""

        @functools.cache
        def named() -> set[str]:  # asked after the notes were read
            return {version.artifact_uri for version in self.search_models()}

        return self._remote.left_over(lambda uri: uri in named(), before_seconds)

    def clear(self, uris: Collection[str]) -> None:
        """Remove what `left_over` returned."""
        self._remote.clear(uris)

    def _register(self, name: str, origin: pathlib.Path, metadata: dict[str, Any]) -> ModelVersion:
        if not is_part(origin.name):
            raise InvalidValueError(
                f"{origin.name!r:.80} is no name for an artifact on every system."
            )
        if self._remote.address is not None:
            return self._register_remote(name, origin, metadata)
        staged, size, checksum = artifacts.stage(
            origin,
            self._artifacts,
            flushed=self._durability != "process",
            contents=self._contents,
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
            return new_model_id(name), 1
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
        body = encode(record)
        with JournalWriter(self._journal, durability=self._durability) as journal:
            place = journal.append_body(body)
        self._ledger.advance(place, body)

    def _folder(self, model_id: str, version: int) -> pathlib.Path:
        """Return where the artifact of a version is; a link on the way there is refused."""
        return inside(self.root, "artifacts", model_id, f"v{version}")

    def _write_view(self, version: ModelVersion) -> None:
        path = self._view(version.model_id, version.version)
        # The change is in the journal already: a view that cannot be written must not deny it.
        try:
            write_view(path, encode(version_record(version)))
        except OSError:
            logger.warning("%s could not be written; fsck --repair does", path, exc_info=True)


def checked_metadata(asked: Mapping[str, Any]) -> dict[str, Any]:
    """Return what is kept of a registration besides its artifact, or refuse it."""
    metadata = {k: v for k, v in asked.items() if k not in {"name", "artifact_path"}}
    metadata["metrics"] = check_values(asked["metrics"])
    check_name("a model", asked["name"])
    for what in ("artifact_type", "framework", "description"):
        check_text(what, asked[what])
    if asked["experiment_run_id"] is not None:
        check_text("experiment_run_id", asked["experiment_run_id"])
    if asked["signature"] is not None:
        check_mapping("signature", asked["signature"])
    metadata["hyperparameters"] = plain_parameters("hyperparameters", asked["hyperparameters"])
    metadata["tags"] = {check_key(key): str(value) for key, value in asked["tags"].items()}
    encode(metadata)  # refuses what JSON cannot hold
    return metadata


def _several(dependencies: Sequence[str]) -> list[str]:
    """Return dependencies; a single text, whose letters would be taken for them, is refused."""
    if isinstance(dependencies, str):
        raise InvalidValueError(f"dependencies are several texts: [{dependencies!r}].")
    return [check_text("a dependency", one) for one in dependencies]


def _make_anew(folder: pathlib.Path) -> None:
    """Make an empty folder; what a registration that was killed left there goes."""
    try:
        folder.mkdir(parents=True)
    except FileExistsError:
        artifacts.remove(folder)
        folder.mkdir()


def new_model_id(name: str) -> str:
    """Return an id for a new model: what its name says in letters and digits, and what no other has."""
    slug = re.sub(r"[^a-z0-9]+", "-", name.lower()).strip("-")[:40] or "model"
    return f"{slug}-{generate_short_id(8)}"
