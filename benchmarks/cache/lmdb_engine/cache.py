"""`DiskCache` on LMDB: what of it depends on the engine."""

from __future__ import annotations

import os
import pathlib
import time
from collections.abc import Callable, Hashable, Iterable
from typing import Any

from benchmarks.cache.lmdb_engine.engine import LmdbLog
from ops.cache import DiskCache
from ops.cache.disk.cache_directory import mark_moved_here
from ops.cache.disk.checks import CheckReport
from ops.cache.disk.index import BlobRef, is_blob_name
from ops.cache.disk.keys import encode_key, encode_tag, namespace_prefix
from ops.cache.disk.records import Flag
from ops.cache.disk.stats import DiskCacheStats
from ops.cache.disk.values import ValueCodec
from ops.cache.expiry import Ttl, check_ttl
from ops.cache.key_locks import KeyLocks
from ops.cache.memory import MISSING
from ops.cache.own_files import refuse_key_inside, refuse_link
from ops.cache.single_flight import SingleFlight
from ops.cache.updates import KEEP, KEPT_TTL
from ops.foundation import ValidationError
from ops.serialize import CorruptDataError, SerializeError

_BLOB_FROM = 256 << 10
_WRITING_SECONDS = 3600.0


class LmdbCache(DiskCache):
    """A `DiskCache` whose entries are in LMDB; *sync* flushes each transaction to the disk."""

    _log: LmdbLog

    def __init__(
        self,
        directory: Any,
        *,
        max_bytes: int = 1 << 30,
        default_ttl: float | None = None,
        serializer: Any = None,
        trust: Any = "user",
        clock: Callable[[], float] = time.time,
        sync: bool = False,
    ) -> None:
        if not max_bytes >= 64 << 10:
            raise ValidationError(f"max_bytes is at least {64 << 10}, not {max_bytes!r}.")
        self.directory = pathlib.Path(directory).absolute()
        self._options = {
            "max_bytes": max_bytes,
            "default_ttl": check_ttl(default_ttl),
            "serializer": serializer,
            "trust": trust,
            "clock": clock,
            "sync": sync,
        }
        if trust == "user":
            refuse_key_inside(self.directory)
        self._log = LmdbLog(self.directory, max_bytes, clock, sync=sync)
        for name in ("data.mdb", "lock.mdb", "keys.lock", "blobs"):
            refuse_link(self.directory / name)
        purpose = ("ops.cache.disk", self._log.salt, os.fsencode(self.directory.resolve()))
        self._codec = ValueCodec(
            trust,
            serializer,
            min(_BLOB_FROM, max_bytes // 32),
            purpose,
            was_moved=self._log.was_moved,
        )
        self._as_stored = self._codec.as_stored
        self._largest = max_bytes * 7 // 8
        self._default_ttl = check_ttl(default_ttl)
        self._clock = clock
        self._prefix = b""
        self._locks = KeyLocks(self.directory / "keys.lock")
        self._flights: SingleFlight[bytes] = SingleFlight()

    def namespace(self, name: str) -> LmdbCache:
        view = object.__new__(LmdbCache)
        view.__dict__.update(self.__dict__)
        view._prefix = self._prefix + namespace_prefix(name)
        return view

    # Reading

    def get_with_ttl(self, key: Hashable, default: Any = None) -> tuple[Any, float | None]:
        name = encode_key(self._prefix, key)
        found = self._log.find(name)
        value = default if found is None else self._value_or(name, found, default)
        if found is None or not found[1]:
            return value, None
        return value, max(found[1] - self._clock(), 0.0)

    def peek(self, key: Hashable, default: Any = None) -> Any:
        name, log = encode_key(self._prefix, key), self._log
        hits, misses = log.hits, log.misses
        found = log.peek(name)
        value = default if found is None else self._value_or(name, found, default)
        log.hits, log.misses = hits, misses
        return value

    def tag_of(self, key: Hashable) -> str | None:
        entry = self._log.record(encode_key(self._prefix, key))
        return entry.tag.decode("utf-8", "surrogatepass") if entry and entry.tag else None

    def _own_keys(self) -> list[bytes]:
        start = len(self._prefix)
        return [k for k in self._log.keys(self._prefix) if k[start : start + 1] in b"sp"]

    # Changing

    def _change(
        self,
        key: Hashable,
        decide: Callable[[Any, Any], Any],
        ttl: Any = KEPT_TTL,
        tag: str | None = None,
    ) -> None:
        name = encode_key(self._prefix, key)
        with self._log.environment.writing():
            found = self._log.peek(name)
            value = MISSING if found is None else self._value_or(name, found, MISSING)
            wanted = decide(value, MISSING)
            if wanted is not KEEP:
                self._log.append(self._changed(key, wanted, ttl, tag, name))

    def touch(self, key: Hashable, ttl: Any = Ttl.DEFAULT) -> bool:
        seconds = self._default_ttl if isinstance(ttl, Ttl) else check_ttl(ttl)
        if seconds == 0:
            return self.delete(key)
        name = encode_key(self._prefix, key)
        with self._log.environment.writing():
            entry = self._log.record(name)
            if entry is None or 0 < entry.expires <= self._clock():
                return False
            until = 0.0 if seconds is None else self._clock() + seconds
            self._log.append((entry.flags, name, entry.value, until, entry.tag))
        return True

    def _delete(self, name: bytes) -> bool:
        alive = self._is_alive(name)
        with self._log.environment.writing():
            alive = self._is_alive(name)
            self._log.append((Flag.DELETE, name, b"", 0.0, b""))
        return alive

    def delete_many(self, keys: Iterable[Hashable]) -> int:
        with self._log.environment.writing():
            return sum(self.delete(key) for key in keys)

    def delete_tag(self, tag: str) -> int:
        return self._log.delete_tag(encode_tag(tag))

    def clear(self) -> None:
        self._log.delete_below(self._prefix)
        if self._codec.was_moved and not self._prefix:
            mark_moved_here(self.directory, self._log.salt)
            self._codec.was_moved = False

    def expire(self, *, dry_run: bool = False) -> int:
        return len(self._log.expired()) if dry_run else self._log.remove_expired()

    # The rest

    def get_stats(self) -> DiskCacheStats:
        log = self._log
        return DiskCacheStats(
            hits=log.hits,
            misses=log.misses,
            evicted=log.evicted,
            damaged=log.damaged,
            damaged_bytes=0,
            size=len(self),
            disk_bytes=log.bytes_on_disk(),
            max_bytes=log.max_bytes,
        )

    def check(self, *, repair: bool = False) -> CheckReport:
        readable, damaged, named = 0, [], set()
        for entry in self._log.entries(b""):
            if entry.flags & Flag.BLOB:
                named.add(BlobRef.unpack(entry.value).name)
            try:
                self._value_of(entry.key, (entry.flags, entry.expires, entry.value))
                readable += 1
            except (OSError, CorruptDataError, SerializeError):
                damaged.append(entry.key)
        orphans = [
            path
            for path in self._log.blobs.files()
            if not (is_blob_name(path.name) and path.name in named)
            and time.time() - path.lstat().st_mtime > _WRITING_SECONDS
        ]
        size = sum(path.lstat().st_size for path in orphans)
        if repair:
            for key in damaged:
                self._log.append((Flag.DELETE, key, b"", 0.0, b""))
            for path in orphans:
                path.unlink(missing_ok=True)
        return CheckReport(
            entries=readable,
            damaged_bytes=0,
            damaged_entries=len(damaged),
            orphaned_files=len(orphans),
            orphaned_bytes=size,
            repaired=repair,
        )

    def close(self) -> None:
        self._log.close()

    def __reduce__(self) -> Any:
        return _reopen, (self.directory, self._options, self._prefix)


def _reopen(directory: pathlib.Path, options: dict[str, Any], prefix: bytes) -> LmdbCache:
    cache = LmdbCache(directory, **options)
    cache._prefix = prefix
    return cache
