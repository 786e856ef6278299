"""The connection to a Redis server, and what happens while it does not answer."""

from __future__ import annotations

import contextlib
import threading
import time
from typing import TYPE_CHECKING
from urllib.parse import urlsplit

from ops.cache.errors import CacheFullError, CacheUnavailableError
from ops.foundation.errors import MissingExtraError
from ops.foundation.logs import get_logger

if TYPE_CHECKING:
    from collections.abc import Generator

    import redis

__all__ = ["Counts", "Server"]

_log = get_logger("ops.cache")
_QUIET_SECONDS = 60.0
_NO_MEMORY = "used memory > 'maxmemory'"  # also where a script was stopped by it


class Server:
    """A client of one server. *degrades*: go on without the server while it is away."""

    def __init__(self, url: str, timeout: float, *, degrades: bool) -> None:
        try:
            import redis
            import redis.exceptions
            from redis.backoff import ExponentialBackoff
            from redis.retry import Retry
        except ModuleNotFoundError as error:
            raise MissingExtraError("redis", "ops-cache[redis]") from error
        self.unreachable: type[Exception] = redis.RedisError
        self.contested: type[Exception] = redis.WatchError
        errors = redis.exceptions  # MOVED is a kind of ASK
        self._of_a_cluster = (errors.AskError, errors.ClusterCrossSlotError, errors.ClusterError)
        self.client: redis.Redis = redis.Redis.from_url(
            url,
            socket_timeout=timeout,
            socket_connect_timeout=timeout,
            retry=Retry(ExponentialBackoff(0.5, 0.02), 1),
            retry_on_error=[redis.ConnectionError, redis.TimeoutError],
        )
        parts = urlsplit(url)  # without the password
        host = f"{parts.hostname or ''}:{parts.port or ''}".rstrip(":")
        self.address: str = f"{parts.scheme}://{host}{parts.path}"
        self._degrades = degrades
        self._is_down = False
        self._quiet_until = 0.0

    @contextlib.contextmanager
    def reached(self) -> Generator[None]:
        """Leave the block quietly when the server is away, or raise `CacheUnavailableError`."""
        try:
            yield
        except self.unreachable as error:
            if isinstance(error, self._of_a_cluster):
                raise CacheUnavailableError(
                    f"{self.address} is a node of a Redis Cluster, which RedisCache does not work with: {error}",
                    suggestions=("Use one server (with replicas), or one cache for each node.",),
                ) from error
            if _NO_MEMORY in str(error):
                self._report_full(error)
                return
            if not self._degrades:
                raise CacheUnavailableError(
                    f"{self.address} cannot be reached: {error}",
                    suggestions=('on_error="miss" goes on without it.',),
                ) from error
            if not self._is_down:
                self._is_down = True
                _log.warning("%s cannot be reached, going on without it: %s", self.address, error)
        else:
            if self._is_down:
                self._is_down = False
                _log.warning("%s answers again", self.address)

    def _report_full(self, error: Exception) -> None:
        if not self._degrades:
            raise CacheFullError(
                f"{self.address} has no memory left, so the value was not stored: {error}",
                suggestions=(
                    "Raise maxmemory of the server, or let it evict: maxmemory-policy allkeys-lru.",
                ),
            ) from error
        if time.monotonic() >= self._quiet_until:  # reads go on: there is no end to be noticed
            self._quiet_until = time.monotonic() + _QUIET_SECONDS
            _log.warning("%s has no memory left (maxmemory): values are not stored", self.address)


class Counts:
    """Counters that threads share, and the views of one cache."""

    hits: int
    misses: int

    def __init__(self) -> None:
        self._mutex = threading.Lock()
        self.hits = self.misses = self.rejected = 0

    def count(self, *, hit: bool) -> None:
        """Count one lookup."""
        with self._mutex:
            self.hits += hit
            self.misses += not hit
