"""The Databricks backend: tables and a volume of Unity Catalog behind the API of `ops.registry`.

Needs the extra: ``pip install 'ops-registry[databricks]'``. ``init_mlops(backend_type="databricks")`` uses it.
"""

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from ops.registry.databricks.config import WarehouseAccess as WarehouseAccess
    from ops.registry.databricks.models import DatabricksModelRegistry as DatabricksModelRegistry
    from ops.registry.databricks.storage import DatabricksStorageBackend as DatabricksStorageBackend
    from ops.registry.databricks.tracking import (
        DatabricksExperimentTracker as DatabricksExperimentTracker,
    )
    from ops.registry.databricks.warehouse import Warehouse as Warehouse
else:  # Written by `nox -s lint -- --fix` from the imports above.
    from ops.foundation.lazy import lazy_exports

    __all__, __getattr__, __dir__ = lazy_exports(
        __name__,
        {
            ".config": "WarehouseAccess",
            ".models": "DatabricksModelRegistry",
            ".storage": "DatabricksStorageBackend",
            ".tracking": "DatabricksExperimentTracker",
            ".warehouse": "Warehouse",
        },
    )
