"""Memory caches and memoization that are right first and then fast.

Names load on first use, so `import ops.cache` loads no third-party module.
"""

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from ops.cache.async_cache import AsyncCache as AsyncCache
    from ops.cache.batches import BatchOperation as BatchOperation
    from ops.cache.batches import BatchProcessor as BatchProcessor
    from ops.cache.batches import FailedBatch as FailedBatch
    from ops.cache.configuration import configure as configure
    from ops.cache.configuration import parameter as parameter
    from ops.cache.configuration import reduce_size as reduce_size
    from ops.cache.disk.checks import CheckReport as CheckReport
    from ops.cache.disk.stats import DiskCacheStats as DiskCacheStats
    from ops.cache.disk.store import DiskCache as DiskCache
    from ops.cache.disk.transactions import Queue as Queue
    from ops.cache.disk.transactions import Transaction as Transaction
    from ops.cache.errors import CacheClosedError as CacheClosedError
    from ops.cache.errors import CacheError as CacheError
    from ops.cache.errors import CacheErrorCode as CacheErrorCode
    from ops.cache.errors import CacheFullError as CacheFullError
    from ops.cache.errors import CacheUnavailableError as CacheUnavailableError
    from ops.cache.errors import CorruptEntryWarning as CorruptEntryWarning
    from ops.cache.errors import InvalidKeyError as InvalidKeyError
    from ops.cache.errors import ReadOnlyCacheError as ReadOnlyCacheError
    from ops.cache.errors import UncacheableCallError as UncacheableCallError
    from ops.cache.errors import UnsuitableFolderError as UnsuitableFolderError
    from ops.cache.errors import ValueTooLargeError as ValueTooLargeError
    from ops.cache.expiry import Ttl as Ttl
    from ops.cache.explanation import Explanation as Explanation
    from ops.cache.fifo import FIFOCache as FIFOCache
    from ops.cache.fifo import TTLCache as TTLCache
    from ops.cache.joblib_memory import Memory as Memory
    from ops.cache.layers import CachedStorage as CachedStorage
    from ops.cache.layers import CacheKeyBuilder as CacheKeyBuilder
    from ops.cache.lfu import LFUCache as LFUCache
    from ops.cache.limits import CacheLimits as CacheLimits
    from ops.cache.lru import LRUCache as LRUCache
    from ops.cache.memoization import Memoized as Memoized
    from ops.cache.memoization import cache_decorator as cache_decorator
    from ops.cache.memoization import memoize as memoize
    from ops.cache.memory import MemoryCache as MemoryCache
    from ops.cache.persistent import CacheWrapper as CacheWrapper
    from ops.cache.persistent import cache as cache
    from ops.cache.remote import RedisCache as RedisCache
    from ops.cache.s3fifo import S3FIFOCache as S3FIFOCache
    from ops.cache.sizes import approximate_size as approximate_size
    from ops.cache.stampede import memoize_stampede as memoize_stampede
    from ops.cache.stats import CacheStats as CacheStats
    from ops.cache.stats import EvictionCause as EvictionCause
    from ops.cache.strategies import CacheStrategy as CacheStrategy
    from ops.cache.two_level import TwoLevelCache as TwoLevelCache
else:  # Written by `nox -s lint -- --fix` from the imports above.
    from ops.foundation.lazy import lazy_exports

    __all__, __getattr__, __dir__ = lazy_exports(
        __name__,
        {
            ".async_cache": "AsyncCache",
            ".batches": "BatchOperation BatchProcessor FailedBatch",
            ".configuration": "configure parameter reduce_size",
            ".disk.checks": "CheckReport",
            ".disk.stats": "DiskCacheStats",
            ".disk.store": "DiskCache",
            ".disk.transactions": "Queue Transaction",
            ".errors": (
                "CacheClosedError CacheError CacheErrorCode CacheFullError CacheUnavailableError "
                "CorruptEntryWarning InvalidKeyError ReadOnlyCacheError UncacheableCallError "
                "UnsuitableFolderError ValueTooLargeError"
            ),
            ".expiry": "Ttl",
            ".explanation": "Explanation",
            ".fifo": "FIFOCache TTLCache",
            ".joblib_memory": "Memory",
            ".layers": "CacheKeyBuilder CachedStorage",
            ".lfu": "LFUCache",
            ".limits": "CacheLimits",
            ".lru": "LRUCache",
            ".memoization": "Memoized cache_decorator memoize",
            ".memory": "MemoryCache",
            ".persistent": "CacheWrapper cache",
            ".remote": "RedisCache",
            ".s3fifo": "S3FIFOCache",
            ".sizes": "approximate_size",
            ".stampede": "memoize_stampede",
            ".stats": "CacheStats EvictionCause",
            ".strategies": "CacheStrategy",
            ".two_level": "TwoLevelCache",
        },
    )
