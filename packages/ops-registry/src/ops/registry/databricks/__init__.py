"""The Databricks backend: tables and a volume of Unity Catalog behind the API of `ops.registry`.

Needs the extra: ``pip install 'ops-registry[databricks]'``. ``init_mlops(backend_type="databricks")`` uses it.
"""

from typing import TYPE_CHECKING

from ops.foundation.lazy import lazy_exports

if TYPE_CHECKING:
    from ops.registry.databricks.access import WarehouseAccess
    from ops.registry.databricks.models import DatabricksModelRegistry
    from ops.registry.databricks.storing import DatabricksStorageBackend
    from ops.registry.databricks.tracking import DatabricksExperimentTracker
    from ops.registry.databricks.warehouse import Warehouse

__all__ = [
    "DatabricksExperimentTracker",
    "DatabricksModelRegistry",
    "DatabricksStorageBackend",
    "Warehouse",
    "WarehouseAccess",
]

__getattr__, __dir__ = lazy_exports(
    __name__,
    {
        ".access": ("WarehouseAccess",),
        ".models": ("DatabricksModelRegistry",),
        ".storing": ("DatabricksStorageBackend",),
        ".tracking": ("DatabricksExperimentTracker",),
        ".warehouse": ("Warehouse",),
    },
)
