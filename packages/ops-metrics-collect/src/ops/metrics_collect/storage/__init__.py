"""Storages: one interface to keep and fetch objects by name.

`ops.metrics_collect.conformance` holds the behaviour that every one of them shows.
"""

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from ops.metrics_collect.storage._base import BaseStorage as BaseStorage
    from ops.metrics_collect.storage._base import Storage as Storage
    from ops.metrics_collect.storage._base import checked_name as checked_name
    from ops.metrics_collect.storage._base import private_path as private_path
    from ops.metrics_collect.storage._crc import StorageCRC as StorageCRC
    from ops.metrics_collect.storage._crc import StorageCRCMutual as StorageCRCMutual
    from ops.metrics_collect.storage._directory import StorageDirectory as StorageDirectory
    from ops.metrics_collect.storage._postgres import StoragePostgres as StoragePostgres
    from ops.metrics_collect.storage._s3 import StorageS3 as StorageS3
    from ops.metrics_collect.storage._segment import StorageSegment as StorageSegment
else:  # Written by `nox -s lint -- --fix` from the imports above.
    from ops.foundation.lazy import lazy_exports

    __all__, __getattr__, __dir__ = lazy_exports(
        __name__,
        {
            "._base": "BaseStorage Storage checked_name private_path",
            "._crc": "StorageCRC StorageCRCMutual",
            "._directory": "StorageDirectory",
            "._postgres": "StoragePostgres",
            "._s3": "StorageS3",
            "._segment": "StorageSegment",
        },
    )
