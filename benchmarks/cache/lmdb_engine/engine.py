"""What the log is to `DiskCache`, on LMDB: finding, writing, removing and evicting entries.

An entry is `flags | tag length | key length | expires | age` and then the key, where it is longer than LMDB
allows, the tag and the value. Its age is the number of the transaction that wrote it, rounded down so that
overwriting a key soon again does not touch the index of ages. The entries of the lowest age go first, those
that have expired before them.
"""

from __future__ import annotations

import os
import pathlib
import struct
from collections.abc import Callable, Iterable, Iterator, Sequence
from hashlib import blake2b
from typing import Any, NamedTuple

from benchmarks.cache.lmdb_engine.environment import Environment, Failures
from ops.cache import CacheClosedError, CacheFullError, ReadOnlyCacheError
from ops.cache.disk.blobs import BlobFolder
from ops.cache.disk.cache_directory import open_folder
from ops.cache.disk.index import BlobRef
from ops.cache.disk.records import Flag

Item = tuple[int, bytes, bytes, float, bytes]  # flags, key, value, expires, tag
Found = tuple[int, float, bytes]  # flags, expires, value

_HEADER = struct.Struct("<HHIdQ")
_SIZE = _HEADER.size
_unpack = _HEADER.unpack_from
_pack = _HEADER.pack
_DUE = struct.Struct(">d")  # positive doubles sort as bytes
_AGE = struct.Struct(">Q")
_LONGEST, _PREFIX = 415, 400  # of keys in LMDB, and what a longer one keeps before its digest
_BLOBS = b"\0blob bytes"
_FIRST = b"a"  # keys of entries start with a letter, names of databases with a control character
_LEAST_LOOK = 16 << 10
_EVICTED_AT_ONCE = 64


class Entry(NamedTuple):
    """An entry as it is stored."""

    flags: int
    expires: float
    age: int
    key: bytes
    tag: bytes
    value: bytes


def name_of(key: bytes) -> bytes:
    """Return what LMDB finds *key* by."""
    if len(key) <= _LONGEST:
        return key
    return key[:_PREFIX] + blake2b(key, digest_size=16).digest()


def entry_of(name: bytes, data: bytes) -> Entry:
    """Return the parts of what is stored as *name*."""
    flags, tag_size, key_size, expires, age = _unpack(data)
    key_end = _SIZE + key_size
    key = data[_SIZE:key_end] if key_size else name
    tag_end = key_end + tag_size
    return Entry(flags, expires, age, key, data[key_end:tag_end], data[tag_end:])


class LmdbLog:
    """The entries of one folder in LMDB. Methods that write join the transaction of their thread."""

    def __init__(
        self, folder: pathlib.Path, max_bytes: int, clock: Callable[[], float], *, sync: bool
    ) -> None:
        self.clock = clock
        self.max_bytes = max_bytes
        self.transactions: set[tuple[int, bytes]] = set()
        self.blobs: BlobFolder = BlobFolder(folder / "blobs")
        self.seen_blobs: set[str] = set()
        self.hits = self.misses = self.damaged = self.evicted = self.damaged_bytes = 0
        self.salt, read_only, self.was_moved = open_folder(folder)
        self.folder = folder
        self.environment = Environment.of(
            os.fspath(folder), max_bytes, read_only=read_only, sync=sync
        )
        self.mutex = self.environment.mutex
        self._ages_mask = ~((1 << max(min(max_bytes >> 14, 256).bit_length() - 1, 0)) - 1)
        self._rescue_below = self._unlooked = 0
        self._look_after = max(max_bytes // 64, _LEAST_LOOK)
        self._is_closed = False

    def seal(self) -> None:
        """Do nothing: there are no segments. Tests close one in between."""
        self._check_open()

    def close(self) -> None:
        """Leave the environment to the other caches of this process."""
        if not self._is_closed:
            self._is_closed = True
            self.environment.release()

    def _check_open(self) -> None:
        if self._is_closed:
            raise CacheClosedError(f"The cache in {self.folder} is closed.")

    # Reading

    def find(self, key: bytes, *, keep: bool = True) -> Found | None:
        """Return flags, expiry and value of *key*, or None; with *keep* it will not be evicted soon."""
        with self._begin() as transaction:
            data = transaction.get(key if len(key) <= _LONGEST else name_of(key))
        if data is None:
            self.misses += 1
            return None
        self.hits += 1
        flags, tag_size, key_size, expires, age = _unpack(data)
        if keep and age < self._rescue_below:
            self._rescue(key)
        return flags, expires, data[_SIZE + key_size + tag_size :]

    def _begin(self) -> Any:
        if self._is_closed:
            self._check_open()
        return self.environment.reading()

    def peek(self, key: bytes) -> Found | None:
        """Do as `find` does, without counting it as a use."""
        hits, misses = self.hits, self.misses
        found = self.find(key, keep=False)
        self.hits, self.misses = hits, misses
        return found

    def record(self, key: bytes) -> Entry | None:
        """Return all that is stored of *key*."""
        name = name_of(key)
        with self._begin() as transaction:
            data = transaction.get(name)
        return None if data is None else entry_of(name, data)

    def _rescue(self, key: bytes) -> None:
        if self.environment.read_only:
            return
        with self.environment.writing():
            entry = self.record(key)
            if entry is not None:
                self.append((entry.flags, key, entry.value, entry.expires, entry.tag))

    def entries(self, prefix: bytes) -> Iterator[Entry]:
        """Yield the entries whose key starts with *prefix*, of one moment."""
        with self._begin() as transaction:
            yield from self._below(transaction, prefix)

    def _below(self, transaction: Any, prefix: bytes) -> Iterator[Entry]:
        start = prefix[:_PREFIX] or _FIRST
        with transaction.cursor() as cursor:
            if not cursor.set_range(start):
                return
            for name, data in cursor:
                if not name.startswith(prefix[:_PREFIX]):
                    return
                entry = entry_of(name, data)
                if entry.key.startswith(prefix):
                    yield entry

    def keys(self, prefix: bytes) -> list[bytes]:
        """Return the keys that start with *prefix*; most without reading their values."""
        start = prefix[:_PREFIX] or _FIRST
        found = []
        with self._begin() as transaction, transaction.cursor() as cursor:
            if cursor.set_range(start):
                for name in cursor.iternext(values=False):
                    if not name.startswith(prefix[:_PREFIX]):
                        break
                    found.append(name)
            return [
                key
                for name in found
                if (
                    key := name
                    if len(name) <= _LONGEST
                    else entry_of(name, transaction.get(name)).key
                ).startswith(prefix)
            ]

    # Writing

    def append(self, item: Item) -> None:
        """Store one entry, or delete one; joins the transaction that this thread is in.

        Raises `CacheFullError`, `ReadOnlyCacheError` or `CacheClosedError`.
        """
        environment = self.environment
        with self.mutex:
            if environment.running is not None or environment.read_only or self._is_closed:
                self._append_within([item])
                return
            try:
                with environment.begin(write=True) as transaction:
                    self._put(transaction, item)
            except Exception as error:
                self._remove_unnamed([item])
                with Failures(str(self.folder)):
                    raise error from None
            if environment.useless:
                environment.remove_useless()

    def append_many(self, items: Sequence[Item], *, as_one: bool = False) -> None:
        """Store and delete entries in one transaction."""
        del as_one  # they always are
        self._append_within(items)

    def _append_within(self, items: Sequence[Item]) -> None:
        self._check_open()
        try:
            with self.environment.writing() as transaction:
                for item in items:
                    self._put(transaction, item)
        except CacheFullError:
            self._remove_unnamed(items)
            raise

    def _put(self, transaction: Any, item: Item) -> None:
        flags, key, value, expires, tag = item
        long = b"" if len(key) <= _LONGEST else key
        name = name_of(key) if long else key
        age = transaction.id() & (-1 if flags & Flag.BLOB else self._ages_mask)
        old = transaction.get(name)
        if old is not None:
            o_flags, o_tag, _, o_expires, o_age = _unpack(old)
            if o_tag or o_expires or o_flags & Flag.BLOB or o_age != age or flags == Flag.DELETE:
                self._unlist(transaction, name, old, keeps=value)
                if flags == Flag.DELETE:
                    transaction.delete(name)
                    return
                old = None
        elif flags == Flag.DELETE:
            return
        header = _pack(flags, len(tag), len(long), expires, age)
        data = b"".join((header, long, tag, value)) if long or tag else header + value
        transaction.put(name, data)
        if old is None:
            self._list(transaction, name, flags, value, expires, tag, age)
        self._unlooked += len(data) + 64
        if self._unlooked > self._look_after or flags & Flag.BLOB:
            self._look_at_space(transaction, name)

    def _list(
        self,
        transaction: Any,
        name: bytes,
        flags: int,
        value: bytes,
        expires: float,
        tag: bytes,
        age: int,
    ) -> None:
        environment = self.environment
        transaction.put(_AGE.pack(age), name, db=environment.ages)
        if expires:
            transaction.put(_DUE.pack(expires), name, db=environment.due)
        if tag:
            transaction.put(_tag_name(tag), name, db=environment.tags)
        if flags & Flag.BLOB:
            self._count_blobs(transaction, BlobRef.unpack(value).size)

    def _unlist(self, transaction: Any, name: bytes, data: bytes, keeps: bytes = b"") -> None:
        environment, entry = self.environment, entry_of(name, data)
        transaction.delete(_AGE.pack(entry.age), name, db=environment.ages)
        if entry.expires:
            transaction.delete(_DUE.pack(entry.expires), name, db=environment.due)
        if entry.tag:
            transaction.delete(_tag_name(entry.tag), name, db=environment.tags)
        if entry.flags & Flag.BLOB:
            blob = BlobRef.unpack(entry.value)
            self._count_blobs(transaction, -blob.size)
            if entry.value != keeps:
                environment.useless.append(self.blobs.path(blob.name))
                self.seen_blobs.discard(blob.name)

    def _count_blobs(self, transaction: Any, more: int) -> None:
        transaction.put(_BLOBS, _AGE.pack(self._blob_bytes(transaction) + more))

    def _blob_bytes(self, transaction: Any) -> int:
        found = transaction.get(_BLOBS)
        return 0 if found is None else int(_AGE.unpack(found)[0])

    # Removing

    def remove_names(self, transaction: Any, names: Iterable[bytes]) -> int:
        """Remove the entries that LMDB finds by *names*; return how many there were."""
        removed = 0
        for name in names:
            data = transaction.get(name)
            if data is not None:
                self._unlist(transaction, name, data)
                transaction.delete(name)
                removed += 1
        return removed

    def delete_tag(self, tag: bytes) -> int:
        """Remove the entries with *tag*."""
        self._check_open()
        with self.environment.writing() as transaction:
            names = self._listed(transaction, self.environment.tags, _tag_name(tag))
            wanted = [n for n in names if entry_of(n, transaction.get(n)).tag == tag]
            return self.remove_names(transaction, wanted)

    def delete_below(self, prefix: bytes) -> int:
        """Remove the entries whose key starts with *prefix*."""
        self._check_open()
        with self.environment.writing() as transaction:
            names = [name_of(entry.key) for entry in self._below(transaction, prefix)]
            return self.remove_names(transaction, names)

    def expired(self) -> list[bytes]:
        """Return by what names LMDB finds the entries whose time has come."""
        with self._begin() as transaction:
            return self._due(transaction)

    def _due(self, transaction: Any) -> list[bytes]:
        end = _DUE.pack(self.clock())
        names: list[bytes] = []
        with transaction.cursor(self.environment.due) as cursor:
            for at, name in cursor:
                if at > end:
                    break
                names.append(name)
        return names

    def remove_expired(self) -> int:
        """Remove the entries whose time has come; return how many."""
        self._check_open()
        with self.environment.writing() as transaction:
            return self.remove_names(transaction, self._due(transaction))

    @staticmethod
    def _listed(transaction: Any, database: Any, key: bytes) -> list[bytes]:
        with transaction.cursor(database) as cursor:
            return list(cursor.iternext_dup()) if cursor.set_key(key) else []

    # Space

    def bytes_on_disk(self) -> int:
        """Return the bytes of the files of the folder, which LMDB never makes shorter, and of large values."""
        with self._begin() as transaction:
            blobs = self._blob_bytes(transaction)
        with os.scandir(self.folder) as files:
            return blobs + sum(f.stat().st_size for f in files if f.is_file(follow_symlinks=False))

    def _look_at_space(self, transaction: Any, kept: bytes) -> None:
        self._unlooked = 0
        limit = self.max_bytes * 9 // 10
        used = self._used(transaction)
        if used > limit:
            self.remove_names(transaction, self._due(transaction))
        while self._used(transaction) > limit:
            if not self._evict_oldest(transaction, kept):
                break
        with transaction.cursor(self.environment.ages) as cursor:
            oldest = _AGE.unpack(cursor.key())[0] if cursor.first() else 0
        evicts_soon = used > self.max_bytes * 5 // 8
        self._rescue_below = oldest + (transaction.id() - oldest) // 4 if evicts_soon else 0

    def _used(self, transaction: Any) -> int:
        return self.environment.used_bytes(transaction) + self._blob_bytes(transaction)

    def _evict_oldest(self, transaction: Any, kept: bytes) -> bool:
        """Remove entries of the lowest age, all but *kept*; False when there are no others."""
        with transaction.cursor(self.environment.ages) as cursor:
            if not cursor.first():
                return False
            names = [name for name in cursor.iternext_dup() if name != kept][:_EVICTED_AT_ONCE]
        removed = self.remove_names(transaction, names)
        self.evicted += removed
        return removed > 0

    def write_blob(self, packed: Any, key: bytes) -> BlobRef:
        """Write a large value to a file of its own; raises `CacheFullError`."""
        del key
        if self.environment.read_only:
            raise ReadOnlyCacheError(f"The folder {self.folder} cannot be written to.")
        with Failures(str(self.folder)):
            blob = self.blobs.write(packed)
        self.seen_blobs.add(blob.name)
        return blob

    def remove(self, *blobs: BlobRef) -> None:
        """Remove the files of values that got no entry."""
        for blob in blobs:
            self.blobs.remove(blob)

    def _remove_unnamed(self, items: Iterable[Item]) -> None:
        for flags, _, value, _, _ in items:
            if flags & Flag.BLOB:
                self.remove(BlobRef.unpack(value))


def _tag_name(tag: bytes) -> bytes:
    return blake2b(tag, digest_size=16).digest()
