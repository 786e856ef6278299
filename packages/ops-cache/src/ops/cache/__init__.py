"""Memory caches and memoization that are right first and then fast.

Names load on first use, so `import ops.cache` loads no third-party module.
"""

from typing import TYPE_CHECKING

from ops.foundation.lazy import lazy_exports

if TYPE_CHECKING:
    from ops.cache.batches import BatchOperation, BatchProcessor, FailedBatch
    from ops.cache.configuration import configure, parameter
    from ops.cache.disk.checks import CheckReport
    from ops.cache.disk.stats import DiskCacheStats
    from ops.cache.disk.store import DiskCache
    from ops.cache.errors import (
        CacheClosedError,
        CacheError,
        CacheErrorCode,
        CacheFullError,
        CacheUnavailableError,
        CorruptEntryWarning,
        InvalidKeyError,
        ReadOnlyCacheError,
        UncacheableCallError,
        UnsuitableFolderError,
        ValueTooLargeError,
    )
    from ops.cache.expiry import Ttl
    from ops.cache.fifo import FIFOCache, TTLCache
    from ops.cache.layers import CachedStorage, CacheKeyBuilder
    from ops.cache.lfu import LFUCache
    from ops.cache.lru import LRUCache
    from ops.cache.memoization import Memoized, cache_decorator, memoize
    from ops.cache.memory import MemoryCache
    from ops.cache.persistent import CacheWrapper, cache
    from ops.cache.remote import RedisCache
    from ops.cache.s3fifo import S3FIFOCache
    from ops.cache.sizes import approximate_size
    from ops.cache.stats import CacheStats, EvictionCause
    from ops.cache.strategies import CacheStrategy
    from ops.cache.two_level import TwoLevelCache

__all__ = [
    "BatchOperation",
    "BatchProcessor",
    "CacheClosedError",
    "CacheError",
    "CacheErrorCode",
    "CacheFullError",
    "CacheKeyBuilder",
    "CacheStats",
    "CacheStrategy",
    "CacheUnavailableError",
    "CacheWrapper",
    "CachedStorage",
    "CheckReport",
    "CorruptEntryWarning",
    "DiskCache",
    "DiskCacheStats",
    "EvictionCause",
    "FIFOCache",
    "FailedBatch",
    "InvalidKeyError",
    "LFUCache",
    "LRUCache",
    "Memoized",
    "MemoryCache",
    "ReadOnlyCacheError",
    "RedisCache",
    "S3FIFOCache",
    "TTLCache",
    "Ttl",
    "TwoLevelCache",
    "UncacheableCallError",
    "UnsuitableFolderError",
    "ValueTooLargeError",
    "approximate_size",
    "cache",
    "cache_decorator",
    "configure",
    "memoize",
    "parameter",
]

__getattr__, __dir__ = lazy_exports(
    __name__,
    {
        ".batches": ("BatchOperation", "BatchProcessor", "FailedBatch"),
        ".configuration": ("configure", "parameter"),
        ".disk.checks": ("CheckReport",),
        ".disk.stats": ("DiskCacheStats",),
        ".disk.store": ("DiskCache",),
        ".errors": (
            "CacheClosedError",
            "CacheError",
            "CacheErrorCode",
            "CacheFullError",
            "CacheUnavailableError",
            "CorruptEntryWarning",
            "InvalidKeyError",
            "ReadOnlyCacheError",
            "UncacheableCallError",
            "UnsuitableFolderError",
            "ValueTooLargeError",
        ),
        ".expiry": ("Ttl",),
        ".fifo": ("FIFOCache", "TTLCache"),
        ".layers": ("CacheKeyBuilder", "CachedStorage"),
        ".lfu": ("LFUCache",),
        ".lru": ("LRUCache",),
        ".memoization": ("Memoized", "cache_decorator", "memoize"),
        ".memory": ("MemoryCache",),
        ".persistent": ("CacheWrapper", "cache"),
        ".remote": ("RedisCache",),
        ".s3fifo": ("S3FIFOCache",),
        ".sizes": ("approximate_size",),
        ".stats": ("CacheStats", "EvictionCause"),
        ".strategies": ("CacheStrategy",),
        ".two_level": ("TwoLevelCache",),
    },
)
