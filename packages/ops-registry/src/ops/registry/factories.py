"""Backends by name: who makes the storage, the tracker and the registry of a context.

A backend registers a maker for each of the three; `MLOpsContext` asks for them by the name in its
configuration. A maker gets the configuration and the wiring, and returns what fits the protocol.
The local backend and Databricks are registered here; another package registers its own before a
context is made.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, ClassVar, Generic, TypeVar

from ops.registry.disk.layout import paths_of
from ops.registry.errors import ConfigurationError
from ops.registry.protocols import (
    ExperimentTrackerProtocol,
    ModelRegistryProtocol,
    StorageBackendProtocol,
)

if TYPE_CHECKING:
    from collections.abc import Callable

    from ops.registry.configuration import MLOpsConfig
    from ops.registry.disk.content_store import ContentStore
    from ops.registry.disk.storage import LocalStorageBackend
    from ops.registry.models.registry import ModelRegistry
    from ops.registry.operations import Operations
    from ops.registry.tracking.tracker import ExperimentTracker

__all__ = [
    "ExperimentTrackerFactory",
    "ModelRegistryFactory",
    "StorageBackendFactory",
    "paths_of",
    "require_backend",
]

T = TypeVar("T")


class _Factory(Generic[T]):
    """Makers by the name of their backend; each subclass has its own."""

    _makers: ClassVar[dict[str, Any]]

    def __init_subclass__(cls) -> None:
        cls._makers = {}

    @classmethod
    def register(cls, name: str, maker: Callable[[MLOpsConfig, Operations], T]) -> None:
        """Make parts of the backend *name* with *maker* from now on."""
        cls._makers[name] = maker

    @classmethod
    def names(cls) -> list[str]:
        """Return the names of the backends that are known."""
        return sorted(cls._makers)

    @classmethod
    def create(cls, config: MLOpsConfig, operations: Operations) -> T:
        """Make the part that the backend in *config* has."""
        require_backend(config.backend_type)
        maker: Callable[[MLOpsConfig, Operations], T] = cls._makers[config.backend_type]
        return maker(config, operations)


class StorageBackendFactory(_Factory[StorageBackendProtocol]):
    """Makes the storage of a context."""


class ExperimentTrackerFactory(_Factory[ExperimentTrackerProtocol]):
    """Makes the tracker of a context."""


class ModelRegistryFactory(_Factory[ModelRegistryProtocol]):
    """Makes the model registry of a context."""


_PARTS = (StorageBackendFactory, ExperimentTrackerFactory, ModelRegistryFactory)


def require_backend(name: str) -> None:
    """Raise unless there is a backend *name*, with all of its parts."""
    if all(name in part.names() for part in _PARTS):
        return
    known = [n for n in StorageBackendFactory.names() if all(n in p.names() for p in _PARTS)]
    raise ConfigurationError(f"backend_type={name!r} is unknown; use one of {known}.")


def contents_of(config: MLOpsConfig) -> ContentStore | None:
    """Return the files that artifacts of a local store share, if the configuration asks for it."""
    from ops.registry.disk.content_store import ContentStore

    return ContentStore(paths_of(config).contents) if config.deduplicate_artifacts else None


def _local_storage(config: MLOpsConfig, operations: Operations) -> LocalStorageBackend:
    from ops.registry.disk.storage import LocalStorageBackend

    folder = paths_of(config).storage
    return LocalStorageBackend(folder, operations=operations, durability=config.durability)


def _local_tracker(config: MLOpsConfig, operations: Operations) -> ExperimentTracker:
    from ops.cache.lru import LRUCache
    from ops.registry.tracking.tracker import ExperimentTracker

    options = config.cache
    return ExperimentTracker(
        paths_of(config, config.tracking).experiment_tracking,
        operations=operations,
        durability=config.durability,
        artifact_uri=config.tracking.artifact_uri or config.artifact_uri,
        contents=contents_of(config),
        cache=LRUCache(options.max_size, options.default_ttl) if options.enabled else None,
        heartbeat_seconds=config.heartbeat_seconds,
    )


def _local_registry(config: MLOpsConfig, operations: Operations) -> ModelRegistry:
    from ops.registry.models.registry import ModelRegistry

    folder = paths_of(config, config.model_registry).model_registry
    return ModelRegistry(
        folder,
        operations=operations,
        durability=config.durability,
        artifact_uri=config.model_registry.artifact_uri or config.artifact_uri,
        contents=contents_of(config),
    )


def _databricks_storage(config: MLOpsConfig, operations: Operations) -> StorageBackendProtocol:
    from ops.registry.databricks.factory import make_storage

    return make_storage(config, operations)


def _databricks_tracker(config: MLOpsConfig, operations: Operations) -> ExperimentTrackerProtocol:
    from ops.registry.databricks.factory import make_tracker

    return make_tracker(config, operations)


def _databricks_registry(config: MLOpsConfig, operations: Operations) -> ModelRegistryProtocol:
    from ops.registry.databricks.factory import make_registry

    return make_registry(config, operations)


StorageBackendFactory.register("local", _local_storage)
ExperimentTrackerFactory.register("local", _local_tracker)
ModelRegistryFactory.register("local", _local_registry)

StorageBackendFactory.register("databricks", _databricks_storage)
ExperimentTrackerFactory.register("databricks", _databricks_tracker)
ModelRegistryFactory.register("databricks", _databricks_registry)
