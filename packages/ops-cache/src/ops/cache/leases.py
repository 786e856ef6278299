"""Leases on a Redis server: locks that end with their holder, and numbers that expose a late one.

A lease is a key that expires unless its holder renews it, so a machine that dies blocks no caller for
longer than that. Its value is a number that only grows: a holder so slow that the lease went to
another can no longer store, because the server compares the number in the step that stores.
"""

from __future__ import annotations

import contextlib
import threading
from typing import TYPE_CHECKING, Any, Self

if TYPE_CHECKING:
    import redis
    from redis.commands.core import Script

__all__ = ["Lease", "Leases"]

# Also True for who holds it: the client asks again when the first answer was lost on its way.
_TAKE = """
if redis.call('SET', KEYS[1], ARGV[1], 'NX', 'PX', ARGV[2]) then return 1 end
if redis.call('GET', KEYS[1]) == ARGV[1] then return 1 end
return 0
"""
_STORE = """
if redis.call('GET', KEYS[2]) ~= ARGV[1] then return 0 end
if ARGV[3] == '' then redis.call('SET', KEYS[1], ARGV[2])
else redis.call('SET', KEYS[1], ARGV[2], 'PX', ARGV[3]) end
return 1
"""
_RENEW = """
if redis.call('GET', KEYS[1]) == ARGV[1] then return redis.call('PEXPIRE', KEYS[1], ARGV[2]) end
return 0
"""
_RELEASE = """
if redis.call('GET', KEYS[1]) == ARGV[1] then return redis.call('DEL', KEYS[1]) end
return 0
"""


class Leases:
    """The leases of one namespace; *counter* is the key of the number that grows."""

    def __init__(
        self,
        client: redis.Redis,
        counter: bytes,
        milliseconds: int,
        unreachable: type[Exception],
    ) -> None:
        self.client = client
        self.counter = counter
        self.milliseconds = milliseconds
        self.unreachable = unreachable
        self.set_once: Script = client.register_script(_TAKE)
        self.store: Script = client.register_script(_STORE)
        self.renew: Script = client.register_script(_RENEW)
        self.release: Script = client.register_script(_RELEASE)

    def take(self, key: bytes) -> Lease | None:
        """Return the lease on *key*, or None while another process holds it."""
        number: Any = self.client.incr(self.counter)
        token = b"%d" % number
        taken = self.set_once(keys=[key], args=[token, self.milliseconds])
        return Lease(self, key, token) if taken else None


class Lease:
    """One lease; in a `with` block a thread renews it, and at the end it is given back."""

    def __init__(self, leases: Leases, key: bytes, token: bytes) -> None:
        self._leases = leases
        self._key = key
        self._token = token
        self._done = threading.Event()
        self._renewer = threading.Thread(target=self._renew, name="ops-cache-lease", daemon=True)

    def store(self, key: bytes, value: bytes, milliseconds: int | None) -> bool:
        """Store *value*, unless the lease was lost; return whether it was stored."""
        ttl = b"" if milliseconds is None else b"%d" % milliseconds
        return bool(self._leases.store(keys=[key, self._key], args=[self._token, value, ttl]))

    def _renew(self) -> None:
        leases = self._leases
        while not self._done.wait(leases.milliseconds / 3000):
            try:
                held = leases.renew(keys=[self._key], args=[self._token, leases.milliseconds])
            except leases.unreachable:  # try until it is back
                continue
            if not held:
                return

    def __enter__(self) -> Self:
        self._renewer.start()
        return self

    def __exit__(self, *_exc: object) -> None:
        self._done.set()
        self._renewer.join()
        with contextlib.suppress(self._leases.unreachable):  # it expires
            self._leases.release(keys=[self._key], args=[self._token])
