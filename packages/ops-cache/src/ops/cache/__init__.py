"""Memory caches and memoization that are right first and then fast.

Names load on first use, so `import ops.cache` loads no third-party module.
"""

from typing import TYPE_CHECKING

from ops.foundation.lazy import lazy_exports

if TYPE_CHECKING:
    from ops.cache.batches import BatchOperation, BatchProcessor, FailedBatch
    from ops.cache.configuration import configure
    from ops.cache.errors import (
        CacheClosedError,
        CacheError,
        CacheErrorCode,
        CorruptEntryWarning,
        UncacheableCallError,
        ValueTooLargeError,
    )
    from ops.cache.expiry import Ttl
    from ops.cache.fifo import FIFOCache, TTLCache
    from ops.cache.layers import CachedStorage, CacheKeyBuilder, TwoLevelCache
    from ops.cache.lfu import LFUCache
    from ops.cache.lru import LRUCache
    from ops.cache.memoization import Memoized, cache_decorator, memoize
    from ops.cache.memory import MemoryCache
    from ops.cache.persistent import CacheWrapper, cache
    from ops.cache.s3fifo import S3FIFOCache
    from ops.cache.sizes import approximate_size
    from ops.cache.stats import CacheStats, EvictionCause
    from ops.cache.strategies import CacheStrategy

__all__ = [
    "BatchOperation",
    "BatchProcessor",
    "CacheClosedError",
    "CacheError",
    "CacheErrorCode",
    "CacheKeyBuilder",
    "CacheStats",
    "CacheStrategy",
    "CacheWrapper",
    "CachedStorage",
    "CorruptEntryWarning",
    "EvictionCause",
    "FIFOCache",
    "FailedBatch",
    "LFUCache",
    "LRUCache",
    "Memoized",
    "MemoryCache",
    "S3FIFOCache",
    "TTLCache",
    "Ttl",
    "TwoLevelCache",
    "UncacheableCallError",
    "ValueTooLargeError",
    "approximate_size",
    "cache",
    "cache_decorator",
    "configure",
    "memoize",
]

__getattr__, __dir__ = lazy_exports(
    __name__,
    {
        ".batches": ("BatchOperation", "BatchProcessor", "FailedBatch"),
        ".configuration": ("configure",),
        ".errors": (
            "CacheClosedError",
            "CacheError",
            "CacheErrorCode",
            "CorruptEntryWarning",
            "UncacheableCallError",
            "ValueTooLargeError",
        ),
        ".expiry": ("Ttl",),
        ".fifo": ("FIFOCache", "TTLCache"),
        ".layers": ("CacheKeyBuilder", "CachedStorage", "TwoLevelCache"),
        ".lfu": ("LFUCache",),
        ".lru": ("LRUCache",),
        ".memoization": ("Memoized", "cache_decorator", "memoize"),
        ".memory": ("MemoryCache",),
        ".persistent": ("CacheWrapper", "cache"),
        ".s3fifo": ("S3FIFOCache",),
        ".sizes": ("approximate_size",),
        ".stats": ("CacheStats", "EvictionCause"),
        ".strategies": ("CacheStrategy",),
    },
)
