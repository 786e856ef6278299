"""Storages: one interface to keep and fetch objects by name.

`tests/metrics_collect/storage_suite.py` holds the behaviour that every one of them shows.
"""

from ops.metrics_collect.storage._base import Storage
from ops.metrics_collect.storage._directory import StorageDirectory

__all__ = ["Storage", "StorageDirectory"]
