"""What the model registry needs of a backend: a store of events, a store of artifacts, and views.

The rules of the registry (versions, stages, aliases, hooks, events) are in `ModelRegistry` and nowhere else. A backend
keeps what they decide. Its one compare-and-set is `ModelEventStore.commit`: a frame is appended if the model is still as
it was when the frame was decided. A frame records what happened to a model and is never changed; `ModelState` folds
frames into models, the same way for every backend.
"""

from __future__ import annotations

import dataclasses
from typing import TYPE_CHECKING, Any, Protocol, TypeAlias

if TYPE_CHECKING:
    import pathlib
    from collections.abc import Callable, Collection, Mapping, Sequence
    from contextlib import AbstractContextManager

    from ops.foundation.files import StrPath
    from ops.registry.models.state import Model, ModelState
    from ops.registry.records import ModelVersion

    Decide: TypeAlias = "Callable[[Model | None], Mapping[str, Any]]"

__all__ = ["ModelArtifacts", "ModelBackend", "ModelEventStore", "ModelViews", "NoViews", "Staged"]


class ModelEventStore(Protocol):
    """The frames of all models; the caller excludes other threads."""

    state: ModelState

    def refresh(self) -> None:
        """Fold in what was committed since the last time."""
        ...

    def commit(
        self, name: str, decide: Decide, then: Callable[[], object] | None = None
    ) -> Mapping[str, Any]:
        """Append the frame that *decide* makes of model *name* as it is now, fold it in, and return it.

        The model is None when there is none. When another process was faster *decide* is called again with what
        the model has become, so it changes nothing itself. What it raises leaves everything as it was. *then* is
        called when the frame is folded in, while others are still excluded where the store can exclude them.
        """
        ...

    def excluding(self) -> AbstractContextManager[None]:
        """Keep other processes from changing anything, where the store can; what they did before is folded in."""
        ...

    def history(self, name: str) -> list[dict[str, Any]]:
        """Return the frames of a model by its name now, oldest first; none of an unknown one."""
        ...

    def history_like(self, name: str, first: Mapping[str, Any]) -> list[dict[str, Any]]:
        """Return the history that begins with the frame *first*, under whatever name, else that of *name*."""
        ...

    def is_sound(self) -> bool:
        """Whether what is in memory matches the whole history."""
        ...

    def rebuild(self) -> None:
        """Read everything from its beginning."""
        ...

    def reset(self) -> None:
        """Clear what was read: it may be half done."""
        ...

    def close(self) -> None:
        """Wait for what is done in the background."""
        ...


class Staged(Protocol):
    """An artifact that was copied or uploaded, and belongs to no version yet; *size* in bytes."""

    size: int
    checksum: str

    def placed(self, model_id: str, number: int) -> Mapping[str, Any]:
        """Give it to a version, and return the fields of its frame that locate it; called within `commit`."""
        ...

    def discard(self) -> None:
        """Remove it unless it was placed, or may have been."""
        ...


class ModelArtifacts(Protocol):
    """Where the files of versions are."""

    def stage(self, origin: pathlib.Path, model_id: str) -> Staged:
        """Bring a file or folder in, without any lock."""
        ...

    def fetch(
        self, version: ModelVersion, target: pathlib.Path, *, overwrite: bool = True
    ) -> pathlib.Path:
        """Copy the artifact of a version to *target*, verified."""
        ...

    def at_hand(self, version: ModelVersion) -> AbstractContextManager[pathlib.Path]:
        """Give a local path with the artifact, verified; loaders go by its suffix."""
        ...

    def verify(self, version: ModelVersion) -> None:
        """Raise `CorruptStoreError` unless the artifact is what was registered."""
        ...

    def is_here(self, version: ModelVersion) -> bool:
        """Whether the artifact is kept here, and not elsewhere by another program."""
        ...

    def file_name(self, version: ModelVersion) -> str:
        """Return what the artifact is called."""
        ...

    def remove(self, versions: Sequence[ModelVersion]) -> None:
        """Remove the artifacts of versions that were deleted; what cannot be removed now is left over."""
        ...

    def adopted(self, record: Mapping[str, Any], origin: StrPath) -> dict[str, Any]:
        """Bring the artifact of another store's frame here from the folder *origin*; return the frame for here."""
        ...

    def left_over(
        self, before_seconds: float, versions: Callable[[], Sequence[ModelVersion]]
    ) -> list[str]:
        """Return what is kept elsewhere since before a time and belongs to no version."""
        ...

    def clear(self, uris: Collection[str]) -> None:
        """Remove what `left_over` returned."""
        ...

    def close(self) -> None:
        """Close connections."""
        ...


class ModelViews(Protocol):
    """What is written of versions for people and tools; it can be made again at any time."""

    def write(self, versions: Sequence[ModelVersion], *, tags: bool = False) -> None:
        """Write what is shown of versions that were changed; *tags*: their tags may have changed too."""
        ...

    def drop(self, versions: Sequence[ModelVersion]) -> None:
        """Remove what is shown of versions that were deleted."""
        ...

    def is_current(self, version: ModelVersion) -> bool:
        """Whether what is shown of a version is what it is."""
        ...

    def write_table(self, versions: Sequence[ModelVersion]) -> None:
        """Write the table of all versions."""
        ...


class NoViews:
    """For backends that show nothing besides their frames."""

    def write(self, versions: Sequence[ModelVersion], *, tags: bool = False) -> None:
        """Do nothing."""

    def drop(self, versions: Sequence[ModelVersion]) -> None:
        """Do nothing."""

    def is_current(self, version: ModelVersion) -> bool:  # noqa: ARG002 - the same call
        """Return True: there is nothing that could be old."""
        return True

    def write_table(self, versions: Sequence[ModelVersion]) -> None:
        """Do nothing."""


@dataclasses.dataclass(frozen=True, slots=True)
class ModelBackend:
    """The parts of a backend; *root* is where its files are, if it has files."""

    root: Any
    events: ModelEventStore
    artifacts: ModelArtifacts
    views: ModelViews = dataclasses.field(default_factory=NoViews)
