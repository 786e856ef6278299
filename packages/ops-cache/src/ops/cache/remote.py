"""`RedisCache`: one cache for many machines, on a Redis server (or Valkey, which speaks the same).

<namespace>:v:<key>     flags u8 | tag length u16 | tag | value        (`disk.keys`, `disk.values`)
<namespace>:t:<tag>     the set of the keys that were stored with a tag (`tags`)
<namespace>:l:<key>     who computes the key now (`leases`)
<namespace>:n           the number of the last lease
"""

from __future__ import annotations

import itertools
import random
import re
import struct
import time
import warnings
from typing import TYPE_CHECKING, Any, Literal, Self

from ops.cache.disk.keys import decode_key, encode_key, encode_tag, namespace_prefix
from ops.cache.disk.values import ValueCodec
from ops.cache.errors import CorruptEntryWarning, ValueTooLargeError
from ops.cache.expiry import Ttl, check_ttl
from ops.cache.leases import Leases
from ops.cache.memory import MISSING
from ops.cache.servers import Counts, Server
from ops.cache.single_flight import SingleFlight
from ops.cache.stats import CacheStats
from ops.cache.tags import Tags, tag_of
from ops.cache.updates import KEEP, KEPT_TTL, REMOVE, Updates
from ops.foundation.errors import ValidationError
from ops.foundation.logs import get_logger
from ops.serialize.errors import CorruptDataError

if TYPE_CHECKING:
    from collections.abc import Callable, Hashable, Iterable, Iterator, Mapping

    from ops.cache.expiry import TtlLike
    from ops.cache.leases import Lease
    from ops.serialize.formats import Serializer
    from ops.serialize.trust import Trust

__all__ = ["RedisCache"]

_log = get_logger("ops.cache")
_FRONT = struct.Struct("<BH")
_LARGEST = 512 << 20  # what Redis takes as one value
_LONGEST_PAUSE = 0.1
_LONGEST_TTL = 1e12  # seconds; beyond it, which is 30 000 years, the server refuses
_DELETED_AT_ONCE = 500


class RedisCache(Updates):
    """A dictionary on a Redis server, under one namespace.

    Keys and values are as in `DiskCache`: plain keys that count by type, values under *trust*.

    Args:
        url: `redis://`, `rediss://` (TLS) or `unix://`, as redis-py reads it.
        namespace: What stands before every key; caches with other namespaces are separate.
        default_ttl: Seconds that entries live unless `set` overrides it; None for ever.
        serializer: Encodes every value, instead of the built-in way.
        trust: What is stored and read, as in `DiskCache`. Under "user" an object that is no plain data is
            read only by this user on this machine, and counts as missing elsewhere: programs that share
            such objects share a key, with `Signed(key)`.
        on_error: With "miss" a server that cannot be reached counts as a miss, writes are dropped,
            and one warning is logged per outage; with "raise" it is a `CacheUnavailableError`.
        timeout: Seconds for one call to the server, which is tried again once.
        lock_timeout: Seconds after which the lease of a computing process that died is free.

    Raises `ValidationError` for another *on_error*, and for a *namespace* with other characters
    than letters, digits, '_', '.' and '-'.
    """

    def __init__(
        self,
        url: str,
        namespace: str = "ops",
        *,
        default_ttl: float | None = None,
        serializer: Serializer | None = None,
        trust: Trust = "user",
        on_error: Literal["miss", "raise"] = "miss",
        timeout: float = 5.0,
        lock_timeout: float = 30.0,
    ) -> None:
        if on_error not in {"miss", "raise"}:
            raise ValidationError(f"on_error is 'miss' or 'raise', not {on_error!r}.")
        if not re.fullmatch(r"[\w.-]+", namespace):
            raise ValidationError(
                f"A namespace has letters, digits, '_', '.' and '-', unlike {namespace!r}."
            )
        self._server = Server(url, timeout, degrades=on_error == "miss")
        self._client = self._server.client
        self._options = {
            "default_ttl": check_ttl(default_ttl),
            "serializer": serializer,
            "trust": trust,
            "on_error": on_error,
            "timeout": timeout,
            "lock_timeout": lock_timeout,
        }
        self._url, self._root = url, namespace
        self._prefix = b""
        self._default_ttl = check_ttl(default_ttl)
        self._codec = ValueCodec(trust, serializer, _LARGEST, ("ops.cache.redis", namespace))
        milliseconds = max(int(lock_timeout * 1000), 1)
        self._leases = Leases(
            self._client, self._name(b"n", b""), milliseconds, self._server.unreachable
        )
        self._tags = Tags(self._client, self._name(b"t", b""))
        self._flights: SingleFlight[bytes] = SingleFlight()
        self._counts = Counts()

    def namespace(self, name: str) -> RedisCache:
        """Return a view of this cache whose keys are its own; `clear` on it clears them alone."""
        view = object.__new__(RedisCache)
        view.__dict__.update(self.__dict__)
        view._prefix = self._prefix + namespace_prefix(name)
        return view

    def _name(self, kind: bytes, key: bytes) -> bytes:
        return b":".join((self._root.encode(), kind, key))

    # Reading

    def get(self, key: Hashable, default: Any = None) -> Any:
        """Return the value of *key*, or *default*. A stored None is a hit.

        Raises `UntrustedDataError` or `SignatureError` when *trust* does not read the value; under
        "user" such a value counts as missing.
        """
        value = self.peek(key, MISSING)
        self._counts.count(hit=value is not MISSING)
        return default if value is MISSING else value

    def peek(self, key: Hashable, default: Any = None) -> Any:
        """Return the value as `get` does, without counting."""
        name = encode_key(self._prefix, key)
        data: Any = None
        with self._server.reached():
            data = self._client.get(self._name(b"v", name))
        return self._value_or(name, data, default)

    def _value_or(self, name: bytes, data: bytes | None, default: Any) -> Any:
        if data is None:
            return default
        try:
            return self._decode(name, data)
        except CorruptDataError as error:
            message = f"An entry of {self!r} is damaged and counts as missing: {error}"
            warnings.warn(message, CorruptEntryWarning, stacklevel=4)
            return default

    def get_with_ttl(self, key: Hashable, default: Any = None) -> tuple[Any, float | None]:
        """Return the value as `get` does, and the seconds it has left (None: it never expires)."""
        name = encode_key(self._prefix, key)
        data, left = None, -1
        with self._server.reached():
            pipeline = self._client.pipeline()  # in one step: the seconds are those of the value
            pipeline.get(self._name(b"v", name))
            pipeline.pttl(self._name(b"v", name))
            data, left = pipeline.execute()
        value = self._value_or(name, data, MISSING)
        self._counts.count(hit=value is not MISSING)
        return default if value is MISSING else value, None if left < 0 else left / 1000

    @property
    def default_ttl(self) -> float | None:
        """The seconds that entries live by default; None for ever."""
        return self._default_ttl

    def _decode(self, name: bytes, data: bytes) -> Any:
        if len(data) < _FRONT.size:
            raise CorruptDataError(f"{len(data)} bytes are too few for an entry.")
        flags, tag_size = _FRONT.unpack_from(data)
        return self._codec.decode(name, flags, data[_FRONT.size + tag_size :])

    def __getitem__(self, key: Hashable) -> Any:
        value = self.get(key, MISSING)
        if value is MISSING:
            raise KeyError(key)
        return value

    def get_many(self, keys: Iterable[Hashable]) -> dict[Any, Any]:
        """Return the values of those *keys* that have one, in one call to the server."""
        names = {key: encode_key(self._prefix, key) for key in keys}
        data: Any = []
        with self._server.reached():
            data = (
                self._client.mget([self._name(b"v", name) for name in names.values()])
                if names
                else []
            )
        values: dict[Any, Any] = {}
        for (key, name), stored in zip(names.items(), data or [None] * len(names), strict=True):
            value = self._value_or(name, stored, MISSING)
            self._counts.count(hit=value is not MISSING)
            if value is not MISSING:
                values[key] = value
        return values

    def contains(self, key: Hashable) -> bool:
        """Say whether *key* has a value."""
        found: Any = 0
        with self._server.reached():
            found = self._client.exists(self._name(b"v", encode_key(self._prefix, key)))
        return bool(found)

    def __contains__(self, key: Hashable) -> bool:
        return self.contains(key)

    def __iter__(self) -> Iterator[Any]:
        """Yield the keys of this namespace, asking the server for some at a time."""
        start = len(self._name(b"v", self._prefix))
        with self._server.reached():
            for name in self._scan(b"v"):
                if name[start : start + 1] in {b"s", b"p"}:
                    yield decode_key(name[start:])

    def _scan(self, kind: bytes) -> Iterator[bytes]:
        pattern = re.sub(rb"([][*?\\])", rb"\\\1", self._name(kind, self._prefix)) + b"*"
        yield from self._client.scan_iter(match=pattern, count=1000)

    # Writing

    def set(
        self, key: Hashable, value: Any, ttl: TtlLike = Ttl.DEFAULT, *, tag: str | None = None
    ) -> None:
        """Store *value* under *key*.

        *ttl* is in seconds or a timedelta: zero stores nothing, None never expires, `Ttl.DEFAULT`
        is the cache's. *tag* groups entries for `delete_tag`. Raises `ValueTooLargeError`, and with
        `on_error="raise"` `CacheUnavailableError`.
        """
        milliseconds = self._milliseconds(ttl)
        if milliseconds == 0:
            self.delete(key)
            return
        name, data = self._encode(key, value, tag)
        entry = self._name(b"v", name)
        with self._server.reached():
            if tag is None:
                self._client.set(entry, data, px=milliseconds)
            else:
                self._tags.set(entry, data, milliseconds, encode_tag(tag))

    def _encode(self, key: Hashable, value: Any, tag: str | None) -> tuple[bytes, bytes]:
        name = encode_key(self._prefix, key)
        flags, data = self._codec.encode(name, value)
        label = encode_tag(tag)
        if not isinstance(data, bytes) or len(data) + len(label) + _FRONT.size > _LARGEST:
            self._counts.rejected += 1
            raise ValueTooLargeError(f"The value of {key!r} exceeds the {_LARGEST} bytes of Redis.")
        return name, _FRONT.pack(flags, len(label)) + label + data

    def _milliseconds(self, ttl: TtlLike) -> int | None:
        seconds = self._default_ttl if isinstance(ttl, Ttl) else check_ttl(ttl)
        if seconds is None or seconds > _LONGEST_TTL:
            return None
        return max(int(seconds * 1000), 1 if seconds else 0)

    def __setitem__(self, key: Hashable, value: Any) -> None:
        self.set(key, value)

    def set_many(
        self,
        values: Mapping[Any, Any],
        ttl: TtlLike = Ttl.DEFAULT,
        *,
        tag: str | None = None,
    ) -> None:
        """Store all *values*; *ttl* and *tag* are those of `set`, which names the errors."""
        for key, value in values.items():
            self.set(key, value, ttl, tag=tag)

    def _change(
        self,
        key: Hashable,
        decide: Callable[[Any, Any], Any],
        ttl: Any = KEPT_TTL,
        tag: str | None = None,
    ) -> None:
        name = encode_key(self._prefix, key)
        entry = self._name(b"v", name)
        with self._server.reached():
            while not self._changed(key, name, entry, decide, ttl, tag):
                pass

    def _changed(
        self,
        key: Hashable,
        name: bytes,
        entry: bytes,
        decide: Callable[[Any, Any], Any],
        ttl: Any,
        tag: str | None,
    ) -> bool:
        """Try one change; False when another client came between."""
        with self._client.pipeline() as pipeline:
            pipeline.watch(entry)  # type: ignore[no-untyped-call]
            data: Any = pipeline.get(entry)
            left: Any = pipeline.pttl(entry)
            wanted = decide(self._value_or(name, data, MISSING), MISSING)
            if wanted is KEEP:
                return True
            milliseconds = self._milliseconds(Ttl.DEFAULT if ttl is KEPT_TTL else ttl)
            if ttl is KEPT_TTL and data is not None:
                milliseconds = None if left < 0 else max(left, 1)
                tag = tag_of(data)
            pipeline.multi()
            if wanted is REMOVE or milliseconds == 0:
                self._tags.delete([entry], pipeline)
            else:
                _, encoded = self._encode(key, wanted, tag)
                self._tags.set(entry, encoded, milliseconds, encode_tag(tag), pipeline)
            try:
                pipeline.execute()
            except self._server.contested:
                return False
        return True

    def touch(self, key: Hashable, ttl: TtlLike = Ttl.DEFAULT) -> bool:
        """Let *key* live for *ttl* seconds from now; return False when there is no such key."""
        milliseconds = self._milliseconds(ttl)
        entry = self._name(b"v", encode_key(self._prefix, key))
        found: Any = 0
        with self._server.reached():
            found = self._tags.touch(entry, milliseconds)
        return bool(found)

    def delete(self, key: Hashable) -> bool:
        """Remove *key*; return False when there is no such key."""
        found: Any = 0
        with self._server.reached():
            found = self._tags.delete([self._name(b"v", encode_key(self._prefix, key))])
        return bool(found)

    def __delitem__(self, key: Hashable) -> None:
        if not self.delete(key):
            raise KeyError(key)

    def delete_tag(self, tag: str) -> int:
        """Remove the entries that were set with *tag*; return how many."""
        count: Any = 0
        label = encode_tag(tag)
        with self._server.reached():
            count = self._tags.delete_tag(label)
        return int(count)

    def clear(self) -> None:
        """Remove all entries of this namespace and of those below it."""
        with self._server.reached():
            names = self._scan(b"v")
            while batch := list(itertools.islice(names, _DELETED_AT_ONCE)):
                self._tags.delete(batch)
            if not self._prefix:  # what is left of tags leads to nothing
                names = self._scan(b"t")
                while batch := list(itertools.islice(names, _DELETED_AT_ONCE)):
                    self._client.unlink(*batch)

    # Computing once

    def get_or_compute(
        self, key: Hashable, fn: Callable[[], Any], ttl: TtlLike = Ttl.DEFAULT
    ) -> Any:
        """Return the value of *key*, computing and storing it if there is none.

        *fn* takes no argument; *ttl* is that of `set`. Threads, processes and machines that ask at
        the same time compute once. If *fn* raises, the next one computes; if its process dies,
        after `lock_timeout` seconds. Without a server (and with `on_error="miss"`) each process
        computes for itself.
        """
        value = self.get(key, MISSING)
        if value is not MISSING:
            return value
        return self._flights.do(
            encode_key(self._prefix, key),
            lambda: self._compute(key, fn, ttl),
            alone=fn,
            own=lambda theirs: self.peek(key, theirs),
        )

    def _compute(self, key: Hashable, fn: Callable[[], Any], ttl: TtlLike) -> Any:
        name = encode_key(self._prefix, key)
        pause = 0.005
        while True:
            lease, answered = None, False
            with self._server.reached():
                lease = self._leases.take(self._name(b"l", name))
                answered = True
            if not answered:
                return fn()
            if lease is not None:
                break
            time.sleep(pause * random.uniform(0.5, 1.0))
            pause = min(pause * 2, _LONGEST_PAUSE)
            value = self.peek(key, MISSING)
            if value is not MISSING:
                return value
        with lease:
            value = self.peek(key, MISSING)  # the holder before us may have just stored it
            if value is MISSING:
                value = fn()
                self._store(lease, key, value, ttl)
        return value

    def _store(self, lease: Lease, key: Hashable, value: Any, ttl: TtlLike) -> None:
        milliseconds = self._milliseconds(ttl)
        if milliseconds == 0:
            return
        try:
            name, data = self._encode(key, value, None)
        except ValueTooLargeError as error:
            _log.warning("Returned, not cached: %s", error)
            return
        with self._server.reached():
            lease.store(self._name(b"v", name), data, milliseconds)

    # The rest

    def get_stats(self) -> CacheStats:
        """Return the counters of this object. The size is counted by the server, key by key."""
        return CacheStats(
            hits=self._counts.hits,
            misses=self._counts.misses,
            evictions={},
            rejected=self._counts.rejected,
            size=sum(1 for _ in self),
            max_size=None,
        )

    def ping(self) -> bool:
        """Say whether the server answers."""
        try:
            return bool(self._client.ping())
        except self._server.unreachable:
            return False

    def close(self) -> None:
        """Close the connections; a later call opens new ones."""
        self._client.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_exc: object) -> None:
        self.close()

    def __repr__(self) -> str:
        return f"RedisCache({self._server.address!r}, {self._root!r})"

    def __reduce__(self) -> Any:
        """Pickle as the address and the options; the copy opens connections of its own."""
        return _reconnect, (self._url, self._root, self._options, self._prefix)


def _reconnect(url: str, namespace: str, options: dict[str, Any], prefix: bytes) -> RedisCache:
    cache = RedisCache(url, namespace, **options)
    cache._prefix = prefix  # noqa: SLF001 - the same module
    return cache
