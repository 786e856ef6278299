"""Reading models: versions by number, stage and alias, searches, downloads and loading.

What there is comes from the ledger, which is read on to the end of the journal before each answer.
"""

from __future__ import annotations

import contextlib
import pathlib
import threading
from typing import TYPE_CHECKING, Any

from ops.foundation.files import temporary_directory
from ops.foundation.forks import in_children
from ops.registry.disk.checked_paths import refuse_links
from ops.registry.disk.journal import JournalReader, canonical, decode, encode
from ops.registry.errors import ModelNotFoundError, ModelVersionNotFoundError
from ops.registry.events import EventType
from ops.registry.models.flavors import load_artifact
from ops.registry.models.ledger import Ledger, check_frame, version_record
from ops.registry.models.model import own_copy
from ops.registry.models.search import select_versions
from ops.registry.operations import reported
from ops.registry.remote.artifacts import RemoteArtifacts, is_remote, name_of
from ops.registry.validators import check_stage

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from ops.foundation.files import StrPath
    from ops.registry.events import HookType
    from ops.registry.models.model import Model
    from ops.registry.operations import Operations
    from ops.registry.records import ModelStage, ModelVersion
    from ops.serialize.trust import Trust

__all__ = ["ModelQueries"]

#: What a registry uses by name below its folder.
_PLACES = (
    *("models", "models/.lock", "models/journal.log", "artifacts", "metadata"),
    *("uploads.log", "uploads.log.lock"),
)


class ModelQueries:
    """The models below one folder, to be read; `ModelRegistry` changes them."""

    def __init__(
        self, root: StrPath, operations: Operations, artifact_uri: str | None = None
    ) -> None:
        self.root = pathlib.Path(root).absolute()
        refuse_links(self.root, *_PLACES)
        self._operations = operations
        self._journal = self.root / "models" / "journal.log"
        self._artifacts = self.root / "artifacts"
        self._remote = RemoteArtifacts(artifact_uri, self.root / "uploads.log")
        self._ledger = Ledger(self._journal, self._artifacts)
        self._turn = threading.RLock()
        in_children(self, ModelQueries.begin_in_child)

    def begin_in_child(self) -> None:
        """Begin anew in a forked child: another thread may have been in the middle of reading."""
        self._turn = threading.RLock()
        self._ledger.begin_anew()

    def get_model_version(self, name: str, version: int | None = None) -> ModelVersion:
        """Return a version, or the newest one."""
        with self._turn:
            self._ledger.refresh()
            return self._ledger.version(name, version)

    def get_model_by_stage(self, name: str, stage: ModelStage) -> ModelVersion:
        """Return the newest version of *name* that is in *stage*."""
        stage = check_stage(stage)
        with self._turn:
            self._ledger.refresh()
            for version in reversed(self._versions(self._ledger.model(name))):
                if version.stage == stage:
                    return own_copy(version)
        raise ModelVersionNotFoundError(f"Model {name!r} has no version in {stage}.")

    def get_model_by_alias(self, name: str, alias: str) -> ModelVersion:
        """Return the version that *alias* points to."""
        with self._turn:
            self._ledger.refresh()
            aliases = self._ledger.model(name).aliases
            if alias not in aliases:
                raise ModelVersionNotFoundError(f"Model {name!r} has no alias {alias!r}.")
            return self._ledger.version(name, aliases[alias])

    def list_models(self) -> list[str]:
        """Return the names of all models that have a version, sorted."""
        with self._turn:
            self._ledger.refresh()
            return sorted(m.name for m in self._ledger.models.values() if m.versions)

    def list_model_versions(self, name: str) -> list[ModelVersion]:
        """Return the versions of a model, oldest first."""
        with self._turn:
            self._ledger.refresh()
            return list(map(own_copy, self._versions(self._ledger.model(name))))

    def by_age(self) -> list[str]:
        """Return the names of all models that have a version, the oldest model first."""
        with self._turn:
            self._ledger.refresh()
            found = [model for model in self._ledger.models.values() if model.versions]
            return [m.name for m in sorted(found, key=lambda m: (m.created or 0, m.name))]

    def _known_versions(self, name: str) -> list[ModelVersion]:
        """Return the versions of a model, none if it is not there, as they were read last."""
        model = self._ledger.models.get(name)
        return [] if model is None else self._versions(model)

    def _versions(self, model: Model) -> list[ModelVersion]:
        return [self._ledger.with_aliases(model, v) for _, v in sorted(model.versions.items())]

    def search_models(
        self,
        filter: str | None = None,  # noqa: A002 - the published name
        order_by: str | Sequence[str] | None = None,
        limit: int | None = None,
    ) -> list[ModelVersion]:
        """Return the versions for which *filter* holds, by name and version unless ordered.

        *order_by* is one field and ASC or DESC, or several: a list, or a text with commas.
        """
        with self._turn:
            self._ledger.refresh()  # once: a model that goes meanwhile is there, or not
            models = sorted(self._ledger.models.values(), key=lambda model: model.name)
            found = [v for model in models for v in self._versions(model)]
        return list(map(own_copy, select_versions(found, filter, order_by, limit)))

    @reported
    def download_artifact(
        self, name: str, version: int | None, destination: StrPath, *, overwrite: bool = False
    ) -> pathlib.Path:
        """Copy the artifact to *destination*, or into it if it is a folder, and verify it.

        Other content that is there already is an `AlreadyExistsError` unless *overwrite*.
        """
        found = self.get_model_version(name, version)
        target = pathlib.Path(destination)
        target = target / self._file_name(found) if target.is_dir() else target
        path = self._fetch(found, target, overwrite=overwrite)
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
        """Verify the artifact and return the object in it; see `ops.registry.models.flavors` on trust."""
        if stage is not None:
            found = self.get_model_by_stage(name, stage)
        elif alias is not None:
            found = self.get_model_by_alias(name, alias)
        else:
            found = self.get_model_version(name, version)
        with self._at_hand(found) as path:
            model = load_artifact(path, found.metadata.artifact_type, trust)
        self._done(EventType.MODEL_LOADED, found, {"name": name, "version": found.version})
        return model

    def _file_name(self, version: ModelVersion) -> str:
        return name_of(version.artifact_uri)

    def _fetch(
        self, version: ModelVersion, target: pathlib.Path, *, overwrite: bool = True
    ) -> pathlib.Path:
        """Copy the artifact of a version to *target*, verified."""
        return self._remote.fetch_from(
            version.artifact_uri, target, version.checksum, overwrite=overwrite
        )

    @contextlib.contextmanager
    def _at_hand(self, version: ModelVersion) -> Iterator[pathlib.Path]:
        """Give a local path with the artifact of a version, verified; loaders go by its suffix."""
        if is_remote(version.artifact_uri):
            with temporary_directory() as folder:
                yield self._fetch(version, folder / self._file_name(version))
        else:
            self.verify(version)
            yield pathlib.Path(version.artifact_uri)

    def verify(self, version: ModelVersion) -> None:
        """Raise `CorruptStoreError` unless the artifact is what was registered.

        What is kept elsewhere (MLflow's versions) has no checksum, and nothing to compare with.
        """
        if version.checksum:
            self._remote.verify(version.artifact_uri, version.checksum)

    def close(self) -> None:
        """Close what is open; the registry can be used again afterwards."""
        self._ledger.close()
        self._remote.close()

    def health_check(self) -> bool:
        """Whether the registry can be read."""
        self.list_models()
        return True

    def history(self, name: str) -> list[dict[str, Any]]:
        """Return the frames of the journal about a model, oldest first."""
        found = self._histories().get(name)
        if not found:
            raise ModelNotFoundError(f"There is no model {name!r}.")
        return found

    def has_sound_ledger(self) -> bool:
        """Whether what was read with the help of a snapshot is what the whole journal says."""
        with self._turn:
            return self._ledger.is_as_read_anew()

    def has_current_view(self, version: ModelVersion) -> bool:
        """Whether the metadata file of a version says what its journal does."""
        try:
            found = pathlib.Path(self._view(version.model_id, version.version)).read_bytes()
        except FileNotFoundError:
            return False
        told = version_record(version)
        if found == encode(told):
            return True
        try:
            kept = decode(found)
            place = pathlib.PurePath(str(kept["artifact_uri"]))
        except (ValueError, KeyError, TypeError):
            return False
        # A store that was moved lies elsewhere, and the file says where it lay.
        moved = self._artifacts.joinpath(*place.parts[-3:])
        kept["artifact_uri"] = str(moved)
        return bool(canonical(kept) == canonical(decode(encode(told))))

    def _histories(self) -> dict[str, list[dict[str, Any]]]:
        """Return the frames of each model by its name now; a model keeps them when it is renamed."""
        found: dict[str, list[dict[str, Any]]] = {}
        for record in JournalReader(self._journal).poll():
            check_frame(record)
            found.setdefault(record["name"], []).append(record)
            if record["op"] == "rename":
                found[record["to"]] = found.pop(record["name"])
        return found

    def _done(
        self,
        event: EventType,
        version: ModelVersion,
        data: dict[str, Any],
        hook: HookType | None = None,
    ) -> None:
        resource = f"model:{version.name}/{version.version}"
        self._operations.after(event, data, hook=hook, resource=resource)

    def _view(self, model_id: str, version: int) -> str:
        return f"{self.root}/metadata/{model_id}/v{version}.json"
