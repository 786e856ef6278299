"""The interface of diskcache on the store of this package: `from ops.cache import diskcache`."""

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from ops.cache.diskcache.collections import Deque as Deque
    from ops.cache.diskcache.collections import Index as Index
    from ops.cache.diskcache.recipes import Averager as Averager
    from ops.cache.diskcache.recipes import BoundedSemaphore as BoundedSemaphore
    from ops.cache.diskcache.recipes import Lock as Lock
    from ops.cache.diskcache.recipes import RLock as RLock
    from ops.cache.diskcache.recipes import barrier as barrier
    from ops.cache.diskcache.recipes import memoize_stampede as memoize_stampede
    from ops.cache.diskcache.recipes import throttle as throttle
    from ops.cache.diskcache.stores import ENOVAL as ENOVAL
    from ops.cache.diskcache.stores import UNKNOWN as UNKNOWN
    from ops.cache.diskcache.stores import Cache as Cache
    from ops.cache.diskcache.stores import FanoutCache as FanoutCache
    from ops.cache.diskcache.transfer import ImportReport as ImportReport
    from ops.cache.diskcache.transfer import import_diskcache as import_diskcache
else:  # Written by `nox -s lint -- --fix` from the imports above.
    from ops.foundation.lazy import lazy_exports

    __all__, __getattr__, __dir__ = lazy_exports(
        __name__,
        {
            ".collections": "Deque Index",
            ".recipes": "Averager BoundedSemaphore Lock RLock barrier memoize_stampede throttle",
            ".stores": "Cache ENOVAL FanoutCache UNKNOWN",
            ".transfer": "ImportReport import_diskcache",
        },
    )
