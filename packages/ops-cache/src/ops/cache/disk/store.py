"""`DiskCache`: a dictionary on disk for many processes, bounded, that survives being killed."""

from __future__ import annotations

import contextlib
import os
import pathlib
import threading
import time
from typing import TYPE_CHECKING, Any, Self

from ops.cache.disk.entries import StoredEntries
from ops.cache.disk.index import BlobRef
from ops.cache.disk.keys import encode_key, encode_tag, namespace_prefix
from ops.cache.disk.log import Log
from ops.cache.disk.records import Flag
from ops.cache.disk.segments import FULL
from ops.cache.disk.space import bytes_on_disk, look_at_space
from ops.cache.disk.stats import DiskCacheStats
from ops.cache.disk.streams import spooled
from ops.cache.disk.transactions import TRANSACTIONS, Queue, Transaction
from ops.cache.disk.values import ValueCodec
from ops.cache.errors import (
    CacheFullError,
    ReadOnlyCacheError,
    ValueTooLargeError,
)
from ops.cache.expiry import Ttl, check_ttl
from ops.cache.key_locks import KeyLocks
from ops.cache.memory import MISSING
from ops.cache.own_files import refuse_key_inside
from ops.cache.single_flight import SingleFlight
from ops.cache.updates import KEEP, KEPT_TTL, REMOVE
from ops.foundation.errors import ValidationError
from ops.foundation.logs import get_logger

if TYPE_CHECKING:
    from collections.abc import Callable, Generator, Hashable, Mapping
    from typing import IO

    from ops.cache.disk.checks import CheckReport
    from ops.cache.disk.log import Item
    from ops.cache.expiry import TtlLike
    from ops.foundation.files import StrPath
    from ops.serialize.formats import Serializer
    from ops.serialize.trust import Trust

__all__ = ["DiskCache"]

_log = get_logger("ops.cache")
_BLOB_FROM = 256 << 10
_LEAST_BYTES = 64 << 10
_USUAL_SEGMENT, _LARGEST_SEGMENT = 16 << 20, 64 << 20
_BATCH_BYTES = 1 << 20


class DiskCache(StoredEntries):
    """A bounded dictionary in a folder, for any number of threads and processes at once.

    Keys are str, bytes, int, float, bool, None and tuples of these, and count by type. Each `get`
    builds a new object, so callers share no mutable; large arrays are private maps of their file.

    Args:
        directory: A folder of this cache alone, on a local disk. Created with mode 0700.
        max_bytes: The most bytes that the folder may take, with all of its files, within 10 %. Replaced and
            deleted entries go first, then expired ones; then the oldest go, except those read lately.
        default_ttl: Seconds that entries live unless `set` overrides it; None for ever.
        serializer: Encodes every value, instead of the built-in way.
        trust: What is stored and read (see `ops.serialize`). "user": plain data as it is, other objects
            as pickles that are signed with the key of this user, and not read when they are not;
            `Signed(key)`: everything is signed, so that a value can be changed only with the key;
            "safe" or `Safe`: plain data only; "all": anything that lies in the folder is run.
        clock: Seconds since the epoch.

    Raises `ValidationError` for a *max_bytes* below 64 KiB, and where the key of this user lies
    inside *directory*.

    >>> import tempfile
    >>> with DiskCache(tempfile.mkdtemp(), max_bytes=1 << 24) as store:
    ...     store.set("user:1", {"name": "ann"}, ttl=60)
    ...     store.get("user:1"), store.get("user:2", "none")
    ({'name': 'ann'}, 'none')
    """

    def __init__(
        self,
        directory: StrPath,
        *,
        max_bytes: int = 1 << 30,
        default_ttl: float | None = None,
        serializer: Serializer | None = None,
        trust: Trust = "user",
        clock: Callable[[], float] = time.time,
    ) -> None:
        if not max_bytes >= _LEAST_BYTES:  # NaN too
            raise ValidationError(f"max_bytes is at least {_LEAST_BYTES}, not {max_bytes!r}.")
        self.directory: pathlib.Path = pathlib.Path(directory).absolute()
        self._options: dict[str, Any] = {
            "max_bytes": max_bytes,
            "default_ttl": check_ttl(default_ttl),
            "serializer": serializer,
            "trust": trust,
            "clock": clock,
        }
        if trust == "user":
            refuse_key_inside(self.directory)
        segment_bytes = min(max_bytes // 16, max(max_bytes // 64, _USUAL_SEGMENT), _LARGEST_SEGMENT)
        self._log = Log(self.directory, max_bytes, segment_bytes, clock)
        self._codec = ValueCodec(
            trust,
            serializer,
            min(_BLOB_FROM, segment_bytes // 2),
            # The salt lies in the folder and can be copied with it; where the folder is, cannot.
            ("ops.cache.disk", self._log.segments.salt, os.fsencode(self.directory.resolve())),
            was_moved=self._log.was_moved,
        )
        self._as_stored = self._codec.as_stored
        self._largest = max_bytes * 7 // 8
        self._default_ttl = check_ttl(default_ttl)
        self._clock = clock
        self._prefix = b""
        self._locks = KeyLocks(self.directory / "keys.lock")
        self._flights: SingleFlight[bytes] = SingleFlight()

    def namespace(self, name: str) -> DiskCache:
        """Return a view of this cache whose keys are its own; `clear` on it clears them alone."""
        view = object.__new__(DiskCache)
        view.__dict__.update(self.__dict__)
        view._prefix = self._prefix + namespace_prefix(name)
        return view

    @property
    def max_value_bytes(self) -> int:
        """The bytes that one value may take; a larger one is refused with `ValueTooLargeError`."""
        return self._largest

    @property
    def default_ttl(self) -> float | None:
        """The seconds that entries live by default; None for ever."""
        return self._default_ttl

    # Writing

    def set(
        self, key: Hashable, value: Any, ttl: TtlLike = Ttl.DEFAULT, *, tag: str | None = None
    ) -> None:
        """Store *value* under *key*.

        *ttl* is in seconds or a timedelta: zero stores nothing, None never expires, `Ttl.DEFAULT`
        is the cache's. *tag* groups entries for `delete_tag`. When this returns, the entry survives
        the end of this process, however it ends. Raises `ValueTooLargeError`, `CacheFullError` when
        the disk takes no more, or `ReadOnlyCacheError`; the older value, if there was one, then
        stays.
        """
        self._put(key, self.encoded(key, value, ttl, tag))

    def set_stream(
        self,
        key: Hashable,
        stream: IO[bytes],
        ttl: TtlLike = Ttl.DEFAULT,
        *,
        tag: str | None = None,
    ) -> None:
        """Store under *key* what is left to read in *stream*, a binary file, as bytes.

        It goes by way of a nameless file in the folder, and a large value is never in memory: `get`
        returns it as bytes, `get_stream` as a file. *ttl* and *tag* are those of `set`.
        Raises what `set` raises (`ValueTooLargeError`, `CacheFullError`, `ReadOnlyCacheError`), and
        `ValidationError` for a stream of text.
        """
        with self._spooled(stream) as data:
            item = self.encoded(key, data, ttl, tag, is_stream=True)
        self._put(key, item)

    def _put(self, key: Hashable, item: Item | None) -> None:
        if item is None:
            self.delete(key)
        else:
            self._log.append(item)

    @contextlib.contextmanager
    def _spooled(self, stream: IO[bytes]) -> Generator[memoryview]:
        if self._log.segments.read_only:
            raise ReadOnlyCacheError(f"The folder {self.directory} cannot be written to.")
        try:
            data = spooled(stream, self.directory)
        except OSError as error:
            if error.errno not in FULL:
                raise
            raise CacheFullError(
                f"The disk of {self.directory} is full.", suggestions=("Free space on the disk.",)
            ) from error
        with data:
            yield data

    def encoded(
        self,
        key: Hashable,
        value: Any,
        ttl: TtlLike,
        tag: str | None,
        *,
        is_stream: bool = False,
    ) -> Item | None:
        """Return the record of an entry, whose file, if it has one, is written; None when it is not to be.

        *key*, *value*, *ttl* and *tag* are those of `set`; with *is_stream* the value is a memoryview, and
        stored as bytes. Raises `ValueTooLargeError`.
        """
        seconds = self._default_ttl if isinstance(ttl, Ttl) else check_ttl(ttl)
        if seconds == 0:
            return None
        expires = 0.0 if seconds is None else self._clock() + seconds
        name, label = encode_key(self._prefix, key), encode_tag(tag)
        encode = self._codec.encode_stream if is_stream else self._codec.encode
        flags, data = encode(name, value)
        size = len(data) if isinstance(data, bytes) else data.size
        if size > self._largest:
            raise ValueTooLargeError(
                f"The value of {key!r} takes {size} bytes and the cache may take "
                f"{self._options['max_bytes']}.",
                suggestions=("Raise max_bytes, or store less.",),
            )
        if not isinstance(data, bytes):
            data = self._log.write_blob(data, name).pack()
        return flags, name, data, expires, label

    def __setitem__(self, key: Hashable, value: Any) -> None:
        self.set(key, value)

    def set_many(
        self,
        values: Mapping[Any, Any],
        ttl: TtlLike = Ttl.DEFAULT,
        *,
        tag: str | None = None,
    ) -> None:
        """Store all *values*, about 1 MB in one write; an error leaves those before it stored.

        *ttl* and *tag* are those of `set`, which names the errors.
        """
        batch: list[Item] = []
        size = 0
        try:
            for key, value in values.items():
                item = self.encoded(key, value, ttl, tag)
                if item is None:
                    self.delete(key)
                    continue
                batch.append(item)
                size += len(item[1]) + len(item[2])
                size += BlobRef.unpack(item[2]).size if item[0] & Flag.BLOB else 0
                if size >= _BATCH_BYTES:
                    full, batch, size = batch, [], 0
                    self._log.append_many(full)
        finally:
            if batch:
                self._log.append_many(batch)

    def _change(
        self,
        key: Hashable,
        decide: Callable[[Any, Any], Any],
        ttl: Any = KEPT_TTL,
        tag: str | None = None,
    ) -> None:
        log, name = self._log, encode_key(self._prefix, key)
        with log.mutex:  # threads wait here; another process that comes between shows at the write
            while True:
                found = log.peek(name)
                value = MISSING if found is None else self._value_or(name, found, MISSING)
                wanted = decide(value, MISSING)
                if wanted is KEEP:
                    return
                item = self._changed(key, wanted, ttl, tag, name)
                if log.append_if_unchanged([item])[0]:
                    return
                if item[0] & Flag.BLOB:
                    log.remove(BlobRef.unpack(item[2]))

    def _changed(self, key: Hashable, wanted: Any, ttl: Any, tag: str | None, name: bytes) -> Item:
        deletion = (Flag.DELETE, name, b"", 0.0, b"")
        if wanted is REMOVE:
            return deletion
        kept = self._log.record(name) if ttl is KEPT_TTL else None
        if kept is not None and not 0 < kept.expires <= self._clock():
            item = self.encoded(key, wanted, None, None)
            return deletion if item is None else (*item[:3], kept.expires, kept.tag)
        return self.encoded(key, wanted, Ttl.DEFAULT if ttl is KEPT_TTL else ttl, tag) or deletion

    # Several changes as one

    @contextlib.contextmanager
    def transact(self) -> Generator[Transaction]:
        """Yield the cache as a transaction sees it; what is changed on that is written at the end, as one.

        All changes count or none, also when this process is killed; an exception in the block discards
        them. Transactions of all threads and processes on this folder exclude each other. Plain writes of others
        do not wait: the transaction sees them, and of two writes to one key the later one wins.

        Raises `ValidationError` within another transaction of the same thread, and at the end as `set` does.
        """
        with self.exclusively(b"") as changes:
            yield changes

    @contextlib.contextmanager
    def exclusively(self, lock: bytes) -> Generator[Transaction]:
        """Yield a transaction that excludes those with the same *lock*, "" being that of the folder.

        Raises `ValidationError` when this thread is in a transaction on this cache already.
        """
        me, held = threading.get_ident(), self._log.transactions
        name = b"transaction:" + (self._prefix + lock if lock else b"")
        if (me, name) in held:
            raise ValidationError("This thread is in a transaction on this cache already.")
        with self._locks.hold(name, among=TRANSACTIONS):
            held.add((me, name))
            changes = Transaction(self)
            try:
                yield changes
            except BaseException:
                changes.discard()
                raise
            else:
                changes.commit()
            finally:
                held.discard((me, name))

    @contextlib.contextmanager
    def lock(self, key: Hashable) -> Generator[None]:
        """Hold a lock at *key*, which no value needs to have, between all threads and processes.

        It ends with its holder, also when that is killed. Not re-entrant. In a folder that cannot be
        written to, the block runs without.
        """
        with self._locks.hold(b"lock:" + encode_key(self._prefix, key)):
            yield

    def tag_of(self, key: Hashable) -> str | None:
        """Return the tag of *key*, None when it has none, or is not there."""
        with self._log.mutex:
            self._log.refresh()
            tag = self._log.index.tag_of.get(encode_key(self._prefix, key))
        return None if tag is None else tag.decode("utf-8", "surrogatepass")

    def queue(self, name: str) -> Queue:
        """Return the queue called *name*, which all processes share."""
        return Queue(self, name)

    @property
    def log(self) -> Log:
        """What this cache writes to; for the parts of this package."""
        return self._log

    @property
    def prefix(self) -> bytes:
        """What stands before each key; for the parts of this package."""
        return self._prefix

    def get_or_compute(
        self, key: Hashable, fn: Callable[[], Any], ttl: TtlLike = Ttl.DEFAULT
    ) -> Any:
        """Return the value of *key*, computing and storing it if there is none.

        *fn* takes no argument; *ttl* is that of `set`. Threads and processes that ask at the same
        time compute once; other keys do not wait. If *fn* raises, or its process is killed, the
        next one computes. A result that cannot be stored is returned all the same, with a warning
        in the log.
        """
        value = self.get(key, MISSING)
        if value is not MISSING:
            return value
        name = encode_key(self._prefix, key)

        def lead() -> Any:
            with self._locks.hold(name):
                return self._compute(key, fn, ttl)

        def alone() -> Any:
            return self._compute(key, fn, ttl)

        return self._flights.do(name, lead, alone, own=lambda theirs: self.peek(key, theirs))

    def _compute(self, key: Hashable, fn: Callable[[], Any], ttl: TtlLike) -> Any:
        value = self.peek(key, MISSING)  # the leader before us may have just landed
        if value is MISSING:
            value = fn()
            try:
                self.set(key, value, ttl)
            except (ValueTooLargeError, CacheFullError, ReadOnlyCacheError) as error:
                _log.warning("Returned, not cached: %s", error)
        return value

    def touch(self, key: Hashable, ttl: TtlLike = Ttl.DEFAULT) -> bool:
        """Let *key* live for *ttl* seconds from now; return False when there is no such key."""
        seconds = self._default_ttl if isinstance(ttl, Ttl) else check_ttl(ttl)
        if seconds == 0:
            return self.delete(key)
        name = encode_key(self._prefix, key)
        with self._log.mutex:
            while self._is_alive(name):
                until = 0.0 if seconds is None else self._clock() + seconds
                moved = self._log.move(name, until)
                if moved is not False:
                    return moved is True
        return False

    # The rest

    def get_stats(self) -> DiskCacheStats:
        """Return the counters of this object and the sizes on disk."""
        log = self._log
        with log.mutex:
            log.refresh()
            look_at_space(log)
            return DiskCacheStats(
                hits=log.hits,
                misses=log.misses,
                evicted=log.evicted,
                damaged=log.damaged,
                damaged_bytes=log.damaged_bytes,
                size=len(self),
                disk_bytes=bytes_on_disk(log),
                max_bytes=log.max_bytes,
            )

    def check(self, *, repair: bool = False) -> CheckReport:
        """Read every record and every file, and report what is damaged or unreferenced.

        With *repair* damaged entries are deleted and files that no record names are removed.
        """
        from ops.cache.disk.checks import check_cache

        return check_cache(self._log, self._locks, repair=repair)

    def close(self) -> None:
        """Close the files. Any use after this raises `CacheClosedError`."""
        self._log.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_exc: object) -> None:
        self.close()

    def __repr__(self) -> str:
        return f"DiskCache({str(self.directory)!r})"

    def __reduce__(self) -> Any:
        """Pickle as the folder and the options; the copy opens files of its own."""
        return _reopen, (self.directory, self._options, self._prefix)


def _reopen(directory: pathlib.Path, options: dict[str, Any], prefix: bytes) -> DiskCache:
    cache = DiskCache(directory, **options)
    cache._prefix = prefix  # noqa: SLF001 - the same module
    return cache
