"""The backend of a model registry on local files."""

from __future__ import annotations

import pathlib
from typing import TYPE_CHECKING

from ops.registry.disk.checked_paths import refuse_links
from ops.registry.local.model_artifacts import LocalModelArtifacts
from ops.registry.local.model_event_store import JournalModelEvents
from ops.registry.local.model_views import LocalModelViews
from ops.registry.models.ports import ModelBackend
from ops.registry.remote.artifacts import RemoteArtifacts

if TYPE_CHECKING:
    from ops.foundation.files import StrPath
    from ops.registry.disk.content_store import ContentStore

__all__ = ["local_models"]

#: What a registry uses by name below its folder.
_NAMES = (
    *("models", "models/.lock", "models/journal.log", "artifacts", "metadata"),
    *("uploads.log", "uploads.log.lock"),
)


def local_models(
    root: StrPath,
    *,
    durability: str = "process",
    artifact_uri: str | None = None,
    contents: ContentStore | None = None,
) -> ModelBackend:
    """Return the backend below one folder, which appears with the first model.

    Artifacts go into the folder, or below *artifact_uri* (``s3://bucket/prefix``); files that *contents* has are
    not copied.
    """
    folder = pathlib.Path(root).absolute()
    refuse_links(folder, *_NAMES)
    journal = folder / "models" / "journal.log"
    remote = RemoteArtifacts(artifact_uri, folder / "uploads.log")
    return ModelBackend(
        folder,
        JournalModelEvents(journal, folder / "artifacts", durability=durability),
        LocalModelArtifacts(folder, remote, flushed=durability != "process", contents=contents),
        LocalModelViews(folder),
    )
