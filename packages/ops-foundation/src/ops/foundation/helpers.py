"""Small things that every package uses, gathered from the modules that define them."""

from ops.foundation.collections import (
    chunk_list,
    ensure_list,
    first_not_none,
    flatten_dict,
    merge_dicts,
    safe_get,
)
from ops.foundation.decorators import deprecated, lazy_property, singleton
from ops.foundation.imports import LazyImport
from ops.foundation.logs import get_logger, setup_logging
from ops.foundation.timers import timer

__all__ = [
    "LazyImport",
    "chunk_list",
    "deprecated",
    "ensure_list",
    "first_not_none",
    "flatten_dict",
    "get_logger",
    "lazy_property",
    "merge_dicts",
    "safe_get",
    "setup_logging",
    "singleton",
    "timer",
]
