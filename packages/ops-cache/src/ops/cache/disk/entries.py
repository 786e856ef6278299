"""What a folder holds, as one namespace of it sees it: reading entries and removing them.

`DiskCache` adds how values come into it. Both halves work on one `Log`, whose mutex guards its index and its counters.
"""

from __future__ import annotations

import warnings
from typing import TYPE_CHECKING, Any

from ops.cache.disk.cache_directory import mark_moved_here
from ops.cache.disk.index import BlobRef
from ops.cache.disk.keys import decode_key, encode_key, encode_tag
from ops.cache.disk.records import MOVED_FROM, Flag
from ops.cache.disk.space import expired_keys, reclaim, remove_expired
from ops.cache.disk.streams import opened
from ops.cache.errors import CorruptEntryWarning
from ops.cache.memory import MISSING
from ops.cache.updates import Updates
from ops.foundation.errors import ValidationError
from ops.serialize.errors import CorruptDataError

if TYPE_CHECKING:
    import pathlib
    from collections.abc import Callable, Hashable, Iterable, Iterator
    from typing import BinaryIO

    from ops.cache.disk.log import Item, Log
    from ops.cache.disk.segments import Found
    from ops.cache.disk.values import ValueCodec

__all__ = ["StoredEntries"]


class StoredEntries(Updates):
    """The entries of one namespace of a folder."""

    directory: pathlib.Path
    _log: Log
    _codec: ValueCodec
    _as_stored: int
    _clock: Callable[[], float]
    _prefix: bytes

    # Reading

    def get(self, key: Hashable, default: Any = None) -> Any:
        """Return the value of *key*, or *default*. A stored None is a hit.

        Raises `UntrustedDataError` or `SignatureError` when *trust* does not read the value; under
        "user" such a value counts as missing.
        """
        name = encode_key(self._prefix, key)
        found = self._log.find(name)
        if found is None:
            return default
        if found[0] == self._as_stored and not found[1]:  # as most are, and for ever
            return found[2]
        return self._value_or(name, found, default)

    def get_stream(self, key: Hashable) -> BinaryIO | None:
        """Return a binary file that reads the value of *key*, which is bytes; None when there is none.

        What it reads stays the same when the entry is replaced or removed meanwhile. A large value is read
        from its file on the disk and is not in memory, but for a cache with a `Signed` trust. Raises
        `ValidationError` for a value that is no bytes, and what `get` raises.
        """
        name = encode_key(self._prefix, key)
        found = self._log.find(name)
        value = None if found is None else self._value_or(name, found, None, as_view=True)
        if value is None or isinstance(value, (bytes, memoryview)):
            return None if value is None else opened(value)
        raise ValidationError(f"The value of {key!r} is a {type(value).__qualname__} and no bytes.")

    def _value_or(self, name: bytes, found: Found, default: Any, *, as_view: bool = False) -> Any:
        log = self._log
        while not 0 < found[1] <= self._clock():
            try:
                return self._value_of(name, found, as_view=as_view)
            except FileNotFoundError:  # another process has replaced or dropped it meanwhile
                again = log.find(name)
                if again is None or again == found:
                    break
                found = again
            except CorruptDataError as error:
                self._report_damage(error)
                break
        with log.mutex:
            log.hits -= 1
            log.misses += 1
        return default

    def decoded(self, item: Item) -> Any:
        """Return the value of a record."""
        return self._value_of(item[1], (item[0], item[3], item[2]))

    def expires_at(self, key: Hashable) -> float | None:
        """Return the time of the cache's clock at which *key* expires; None: never, or it is not there.

        By default these are seconds since the epoch. The value is not read.
        """
        return self.expiry_of(encode_key(self._prefix, key))[0] or None

    def expiry_of(self, name: bytes) -> tuple[float, bytes]:
        """Return when an entry expires, 0 for never, and its tag."""
        record = self._log.record(name)
        if record is None:
            return 0.0, b""
        return record.expires, record.tag

    def _value_of(self, key: bytes, found: Found, *, as_view: bool = False) -> Any:
        flags, _, data = found
        if flags & Flag.MOVED:
            data = data[MOVED_FROM:]
        if not flags & Flag.BLOB:
            return self._codec.decode(key, flags, data)
        name, _ = BlobRef.unpack(data)
        seen = self._log.seen_blobs
        path = self._log.blobs.path(name)
        value = self._codec.load(key, flags, path, verify=name not in seen, as_view=as_view)
        seen.add(name)
        return value

    def _report_damage(self, error: CorruptDataError) -> None:
        # The index keeps the entry: it matches the log, also in the hint that is made of it,
        # and another object, with another serializer, may be able to read what this one cannot.
        with self._log.mutex:
            self._log.damaged += 1
        warnings.warn(
            f"An entry of the cache in {self.directory} is damaged and counts as missing: {error}",
            CorruptEntryWarning,
            stacklevel=4,
        )

    def get_with_ttl(self, key: Hashable, default: Any = None) -> tuple[Any, float | None]:
        """Return the value as `get` does, and the seconds it has left (None: it never expires)."""
        name = encode_key(self._prefix, key)
        log = self._log
        with log.mutex:
            while True:
                found = log.find(name)
                position = log.index.positions.get(name)
                value = default if found is None else self._value_or(name, found, default)
                if position == log.index.positions.get(name):  # not replaced while it was read
                    break
        if found is None or not found[1]:
            return value, None
        return value, max(found[1] - self._clock(), 0.0)

    def __getitem__(self, key: Hashable) -> Any:
        value = self.get(key, MISSING)
        if value is MISSING:
            raise KeyError(key)
        return value

    def get_many(self, keys: Iterable[Hashable]) -> dict[Any, Any]:
        """Return the values of those *keys* that have one."""
        found = {key: self.get(key, MISSING) for key in keys}
        return {key: value for key, value in found.items() if value is not MISSING}

    def peek(self, key: Hashable, default: Any = None) -> Any:
        """Return the value as `get` does, without any effect on counters or on what is kept."""
        name = encode_key(self._prefix, key)
        with self._log.mutex:
            hits, misses = self._log.hits, self._log.misses
            found = self._log.peek(name)
            value = default if found is None else self._value_or(name, found, default)
            self._log.hits, self._log.misses = hits, misses
        return value

    def contains(self, key: Hashable) -> bool:
        """Say whether *key* has a value that has not expired."""
        return self._is_alive(encode_key(self._prefix, key))

    def _is_alive(self, key: bytes) -> bool:
        found = self._log.peek(key)
        return found is not None and not 0 < found[1] <= self._clock()

    def __contains__(self, key: Hashable) -> bool:
        return self.contains(key)

    def __iter__(self) -> Iterator[Any]:
        """Yield the keys of this namespace that have a value, as of the start."""
        for key in self._own_keys():
            if self._is_alive(key):
                try:
                    decoded = decode_key(key[len(self._prefix) :])
                except ValueError as error:
                    self._report_damage(CorruptDataError(f"A key cannot be read: {error}"))
                    continue
                yield decoded

    def keys(self) -> Iterator[Any]:
        """Yield the keys, as iterating over the cache does."""
        return iter(self)

    def items(self) -> Iterator[tuple[Any, Any]]:
        """Yield keys and values."""
        for key in self:
            value = self.get(key, MISSING)
            if value is not MISSING:
                yield key, value

    def __len__(self) -> int:
        """Count the entries, also those that have expired and were not removed yet."""
        return len(self._own_keys())

    def _own_keys(self) -> list[bytes]:
        start = len(self._prefix)
        with self._log.mutex:
            self._log.refresh()
            positions = self._log.index.positions
            return [
                k for k in positions if k.startswith(self._prefix) and k[start : start + 1] in b"sp"
            ]

    # Removing

    def delete(self, key: Hashable) -> bool:
        """Remove *key*; return False when there is no such key."""
        return self._delete(encode_key(self._prefix, key))

    def _delete(self, name: bytes) -> bool:
        with self._log.mutex:
            alive = self._is_alive(name)
            if name in self._log.index.positions:
                self._log.append_deletion(Flag.DELETE, name)
                self._log.reclaim_if_mostly_dead()
        return alive

    def __delitem__(self, key: Hashable) -> None:
        if not self.delete(key):
            raise KeyError(key)

    def delete_many(self, keys: Iterable[Hashable]) -> int:
        """Remove *keys*; return how many there were."""
        removed = sum(self.delete(key) for key in keys)
        with self._log.mutex:
            reclaim(self._log)
        return removed

    def delete_tag(self, tag: str) -> int:
        """Remove the entries of all namespaces that were set with *tag*; return how many."""
        return self._delete_bulk(Flag.DELETE_TAG, encode_tag(tag))

    def clear(self) -> None:
        """Remove all entries of this namespace and of those below it, and give the disk back."""
        self._delete_bulk(Flag.CLEAR, self._prefix)
        if self._codec.was_moved and not self._prefix:
            mark_moved_here(self.directory, self._log.segments.salt)
            self._codec.was_moved = False

    def _delete_bulk(self, flag: int, name: bytes) -> int:
        log = self._log
        with log.mutex:
            log.refresh()
            before = len(log.index.positions)
            log.append_deletion(flag, name)
            removed = before - len(log.index.positions)
            reclaim(log)
            return removed

    def expire(self, *, dry_run: bool = False) -> int:
        """Remove the entries of all namespaces whose time has come; return how many.

        The disk that they took is given back. With *dry_run* they are counted only.
        """
        log = self._log
        with log.mutex:
            log.refresh()
            if dry_run:
                return len(expired_keys(log, log.clock()))
            removed = remove_expired(log)
            reclaim(log)
        return removed
