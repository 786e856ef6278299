"""`memoize_stampede`: results that are computed again a little before their time is over.

A call that finds a result computes it anew in the background with a probability that grows towards the end
of its time, the sooner the longer the computation takes: optimal probabilistic early expiration (Vattani,
Chierichetti, Lowenstein, VLDB 2015). So of many callers one computes, and none of them waits.
"""

from __future__ import annotations

import functools
import math
import random
import threading
import time
from typing import TYPE_CHECKING, Any, ParamSpec, TypeVar

from ops.cache.expiry import check_interval, check_ttl
from ops.cache.memoization import memoize
from ops.foundation.errors import ValidationError
from ops.foundation.logs import get_logger

if TYPE_CHECKING:
    import datetime as dt
    from collections.abc import Callable, Iterable

    from ops.cache.disk.store import DiskCache
    from ops.cache.memory import MemoryCache
    from ops.cache.remote import RedisCache

__all__ = ["memoize_stampede"]

P = ParamSpec("P")
R = TypeVar("R")
_log = get_logger("ops.cache")
_LONGEST_CLAIM = 60.0
_LEAST = 1e-300  # for a logarithm


def memoize_stampede(
    cache: MemoryCache[Any, Any] | DiskCache | RedisCache,
    ttl: float | dt.timedelta,
    *,
    beta: float = 1.0,
    ignore: Iterable[str] = (),
    chance: Callable[[], float] = random.random,
) -> Callable[[Callable[P, R]], Callable[P, R]]:
    """Remember results for *ttl* and compute them again in the background before that is over.

    The first call for a key computes, once of all processes; later ones never wait while they come more
    often than once in *ttl*.

    Args:
        cache: where results are stored, with what their computation took.
        ttl: seconds, or a timedelta, for which a result counts.
        beta: more than 1 computes earlier, less than 1 later.
        ignore: parameters that do not change the result.
        chance: numbers between 0 and 1.

    Raises:
        ValidationError: *ttl* or *beta* is not more than zero.
    """
    seconds = check_interval("ttl", check_ttl(ttl) or 0)
    if not beta > 0:
        raise ValidationError(f"beta is more than zero, not {beta!r}.")

    def decorate(func: Callable[P, R]) -> Callable[P, R]:
        store: Any = cache

        @functools.wraps(func)
        def timed(*args: P.args, **kwargs: P.kwargs) -> tuple[R, float]:
            start = time.perf_counter()
            return func(*args, **kwargs), time.perf_counter() - start

        keyed = memoize(cache=cache, ttl=seconds, ignore=ignore)(timed)

        refresh: Any = keyed.refresh

        def compute_early(claim: Any, args: Any, kwargs: Any) -> None:
            try:
                refresh(*args, **kwargs)
                store.delete(
                    claim
                )  # after a failure it ends by its own time: no computing in a loop
            except Exception:  # noqa: BLE001 - logged; callers have the result of before
                _log.exception("Computing %s early failed", getattr(func, "__qualname__", func))

        @functools.wraps(func)
        def wrapper(*args: P.args, **kwargs: P.kwargs) -> R:
            key = keyed.key(*args, **kwargs)
            found, left = store.get_with_ttl(key, None)
            if found is None:
                found = keyed(*args, **kwargs)
            elif left is not None and -found[1] * beta * math.log(chance() or _LEAST) >= left:
                # Of those that want to compute, one does; a claim whose holder dies ends by itself.
                claim = ("stampede", key)
                if store.add(claim, 1, max(_LONGEST_CLAIM, 2 * found[1])):
                    work = (claim, args, kwargs)
                    threading.Thread(target=compute_early, args=work, daemon=True).start()
            return found[0]  # type: ignore[no-any-return] # what this function returned

        return wrapper

    return decorate
