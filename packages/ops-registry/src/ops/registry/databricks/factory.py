"""The parts of a context on Databricks, made from its configuration and the environment.

Nothing is contacted here: missing credentials are reported at once, all else at the first statement.
"""

from __future__ import annotations

import functools
import threading
import weakref
from typing import TYPE_CHECKING, Any

from ops.registry.databricks.config import WarehouseAccess
from ops.registry.databricks.models import DatabricksModelRegistry
from ops.registry.databricks.storage import DatabricksStorageBackend
from ops.registry.databricks.tracking import DatabricksExperimentTracker
from ops.registry.databricks.warehouse import Warehouse
from ops.registry.disk.layout import paths_of
from ops.registry.errors import ConfigurationError

if TYPE_CHECKING:
    from ops.registry.configuration import MLOpsConfig, PlaceOptions
    from ops.registry.operations import Operations

__all__ = ["make_registry", "make_storage", "make_tracker"]

#: The parts of a context share a connection.
_shared: weakref.WeakValueDictionary[tuple[object, ...], Warehouse] = weakref.WeakValueDictionary()
_mutex = threading.Lock()


def make_tracker(config: MLOpsConfig, operations: Operations) -> DatabricksExperimentTracker:
    """Return the tracker of a context."""
    made = DatabricksExperimentTracker(
        _warehouse(config, config.tracking, operations),
        paths_of(config, config.tracking).experiment_tracking,
        operations=operations,
        durability=config.durability,
        catalog_tags=config.catalog_tags,
        heartbeat_seconds=config.heartbeat_seconds,
    )
    made.made_again = functools.partial(make_tracker, config, operations)
    return made


def make_registry(config: MLOpsConfig, operations: Operations) -> DatabricksModelRegistry:
    """Return the model registry of a context."""
    made = DatabricksModelRegistry(
        _warehouse(config, config.model_registry, operations),
        operations=operations,
        catalog_tags=config.catalog_tags,
    )
    made.made_again = functools.partial(make_registry, config, operations)
    return made


def make_storage(config: MLOpsConfig, operations: Operations) -> DatabricksStorageBackend:
    """Return the storage of a context."""
    made = DatabricksStorageBackend(_warehouse(config, None, operations), operations=operations)
    made.made_again = functools.partial(make_storage, config, operations)
    return made


def sent(part: object, made_again: functools.partial[Any] | None) -> tuple[Any, ...]:
    """Return how a part is made in the process that it is sent to: from its configuration.

    Credentials are not sent: they come from the environment there, as they did here.
    """
    if made_again is None:
        raise TypeError(
            f"{type(part).__name__} that was made from a warehouse cannot be pickled; "
            "make a context from a configuration, which can."
        )
    return made_again, ()


def _warehouse(config: MLOpsConfig, own: PlaceOptions | None, operations: Operations) -> Warehouse:
    access = WarehouseAccess.from_env()
    catalog = (own and own.catalog) or config.catalog
    schema = (own and own.schema) or config.schema
    if not catalog or not schema:
        raise ConfigurationError(
            "The Databricks backend needs a catalog and a schema.",
            suggestions=("Pass catalog= and schema=, or set OPS_MLOPS_CATALOG and _SCHEMA.",),
        )
    staging = paths_of(config, own).root / "staging"
    key = (access, catalog, schema, staging, id(operations))
    with _mutex:
        found = _shared.get(key)
        if found is None:
            found = _shared[key] = Warehouse(
                access, catalog, schema, staging, start_seconds=config.warehouse_start_seconds
            )
        return found
