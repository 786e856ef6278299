"""One LMDB environment for each folder and process, as LMDB demands, and its write transaction.

LMDB must not be open twice in one process, and not be used in a forked child. So caches on one folder share
one environment, which a child opens again. The map is set ahead to several times the limit: a file that has
more pages than the map of a process cannot be read there.
"""

from __future__ import annotations

import contextlib
import errno
import os
import threading
from collections.abc import Callable, Iterator
from typing import Any, Self

import lmdb

from ops.cache import CacheClosedError, CacheFullError, ReadOnlyCacheError
from ops.foundation.forks import in_children, keep_over_forks

_SLACK = 64 << 20
# LMDB makes EIO of a write that ends in its middle, as it does when a disk becomes full.
_FULL_CODES = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG, errno.EIO)
_FULL = tuple(os.strerror(code) for code in _FULL_CODES)
_open: dict[tuple[int, int], Environment] = {}
_opening = threading.Lock()


class Environment:
    """The LMDB file of a folder. `ages`, `due` and `tags` index the entries, which are in the main database.

    The indexes are written only where they are needed: `due` for entries with a deadline, `tags` for
    those with a tag, `ages` when the age of an entry changes, in steps of many transactions.
    """

    def __init__(self, folder: str, most_bytes: int, *, read_only: bool, sync: bool) -> None:
        self._folder = folder
        self._options: dict[str, Any] = {
            "map_size": 4 * most_bytes + _SLACK,
            "readonly": read_only,
            "lock": not read_only,
            "sync": sync,
            "metasync": sync,
            "max_dbs": 3,
            "max_readers": 510,  # the lock file has 64 bytes for each
            "max_spare_txns": 16,
            "mode": 0o600,
        }
        self.read_only = read_only
        self.mutex: threading.RLock = threading.RLock()
        self.users = 0
        self.useless: list[str] = []  # files that go when the transaction has been committed
        self._running: Any = None
        self._connect()
        keep_over_forks(self)
        in_children(self, Environment._forget)

    @classmethod
    def of(cls, folder: str, most_bytes: int, *, read_only: bool, sync: bool) -> Environment:
        """Return the environment of *folder*, the same for all caches of this process."""
        with _opening:
            status = os.stat(folder)
            identity = (status.st_dev, status.st_ino)
            found = _open.get(identity)
            if found is None:
                found = _open[identity] = cls(folder, most_bytes, read_only=read_only, sync=sync)
            found.users += 1
            return found

    def release(self) -> None:
        """Close the environment when this was its last user."""
        with _opening, self.mutex:
            self.users -= 1
            if not self.users:
                self.begin: Callable[..., Any] = self._refuse
                self._lmdb.close()
                for identity in [i for i, e in _open.items() if e is self]:
                    del _open[identity]

    def _forget(self) -> None:
        """Open the file again at the next use, in a child that was forked."""
        self._running = None
        self.begin = self._begin_in_child

    def _begin_in_child(self, *arguments: Any, **options: Any) -> Any:
        with self.mutex:
            if self.begin == self._begin_in_child:
                self._lmdb.close()
                self._connect()
        return self.begin(*arguments, **options)

    def _connect(self) -> None:
        self._running = None
        self._lmdb = lmdb.open(self._folder, **self._options)
        self.begin = self._lmdb.begin
        if not self.read_only:
            self._lmdb.reader_check()  # slots of killed readers keep all that was freed since
        names = ((b"\1ages", True), (b"\1due", True), (b"\1tags", True))
        self.ages, self.due, self.tags = (
            self._lmdb.open_db(name, dupsort=dup, create=not self.read_only) for name, dup in names
        )
        self._main = self._lmdb.open_db(None)
        self.page = int(self._lmdb.stat()["psize"])

    def _refuse(self, *_arguments: Any, **_options: Any) -> Any:
        raise CacheClosedError(f"The cache in {self._folder} is closed.")

    def used_bytes(self, transaction: Any) -> int:
        """Return the bytes of the pages that hold something now."""
        pages = 0
        for database in (self._main, self.ages, self.due, self.tags):
            found = transaction.stat(database)
            pages += found["branch_pages"] + found["leaf_pages"] + found["overflow_pages"]
        return int(pages) * self.page

    def reading(self) -> Any:
        """Begin a transaction that reads, after what a change of the map by another process needs."""
        try:
            return self.begin()
        except lmdb.MapResizedError:
            with self.mutex:
                self._lmdb.set_mapsize(0)
        except lmdb.ReadersFullError:
            self._lmdb.reader_check()
        return self.begin()

    @contextlib.contextmanager
    def writing(self) -> Iterator[Any]:
        """Yield the write transaction of this thread; all of the outermost block counts or nothing.

        Raises `CacheFullError`, `ReadOnlyCacheError` or `CacheClosedError`.
        """
        with self.mutex:
            if self._running is not None:
                yield self._running
                return
            if self.read_only:
                raise ReadOnlyCacheError(f"The folder {self._folder} cannot be written to.")
            with Failures(self._folder), self.begin(write=True) as transaction:
                self._running = transaction
                self.useless.clear()
                try:
                    yield transaction
                finally:
                    self._running = None
            self.remove_useless()

    def remove_useless(self) -> None:
        """Remove the files of values that no entry names any more."""
        for path in self.useless:
            with contextlib.suppress(FileNotFoundError):
                os.unlink(path)
        self.useless.clear()

    @property
    def running(self) -> Any:
        """The write transaction of the thread that holds `mutex`, or None."""
        return self._running

    @running.setter
    def running(self, transaction: Any) -> None:
        self._running = transaction


class Failures:
    """Translates what LMDB raises when the disk or the map takes no more."""

    __slots__ = ("_folder",)

    def __init__(self, folder: str) -> None:
        self._folder = folder

    def __enter__(self) -> Self:
        return self

    def __exit__(self, _kind: object, error: BaseException | None, _trace: object) -> None:
        if (
            isinstance(error, lmdb.MapFullError)
            or (isinstance(error, lmdb.Error) and str(error).endswith(_FULL))
            or (isinstance(error, OSError) and error.errno in _FULL_CODES)
        ):
            raise CacheFullError(
                f"The disk of {self._folder} takes no more bytes.",
                suggestions=("Free space on the disk, or lower max_bytes.",),
            ) from error
