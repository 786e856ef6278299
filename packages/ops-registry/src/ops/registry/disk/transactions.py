"""Transactions on the user's own files: several writes and deletes, all of them or none.

Below ``.transactions/{id}/`` of the storage, in this order:

1. what is written goes to ``new/N``, flushed, and changes nothing yet;
2. committing writes ``plan``, the list of what is about to change, flushed: the undo journal;
3. for each entry the old content is renamed to ``old/N`` and the new one to its path;
4. ``committed`` is written and flushed: the commit point. Then the folder is removed.

A kill before 2 leaves nothing but staged files. Between 2 and 4 the plan records how to go back: what
is in ``old/N`` returns to its path; what was put where nothing had been is removed. Both steps can
be repeated, so a kill while going back harms nothing either. After 4 only the clearing is left.
The next process that opens the storage, or takes its lock, does that for every transaction whose process is gone,
which the lock on its folder shows: the kernel releases it. All of 2 to 4, and going back, happens under
the storage's lock. Writing a file takes no lock, so what others have written to a path since then stays: the plan
records which files are the transaction's own.

A plan names paths relative to the storage, and each is checked before it is used (`checked_paths`): a storage that
was copied or moved after a kill is repaired where it lies now, and one of another person names nothing elsewhere.
In a copy no file has the identity that the plan noted; there, everything at the planned paths is the transaction's.

Others may see some of the new files before the last one is renamed: a transaction is atomic
against failures, not invisible while it commits. `SafeTransaction` also keeps other transactions of
that kind, and appends to tables, waiting from its beginning to its end.
"""

from __future__ import annotations

import contextlib
import errno
import os
import secrets
from typing import TYPE_CHECKING, Any, Literal, Self

from ops.foundation.errors import LockTimeout, OpsError, PathEscapesRootError
from ops.foundation.files import atomic_write, sync_directory
from ops.foundation.locks import FileLock
from ops.foundation.logs import get_logger
from ops.foundation.paths import is_there, listed
from ops.registry.disk import artifacts
from ops.registry.disk.checked_paths import inside
from ops.registry.disk.journal import decode, encode, writing
from ops.registry.disk.storage import refuse_other_kind
from ops.registry.disk.user_files import check_mode, put_table
from ops.registry.errors import StorageError, TransactionError
from ops.registry.events import EventType
from ops.registry.validators import check_path

if TYPE_CHECKING:
    import logging
    import pathlib
    from collections.abc import Iterator, Mapping

    import pandas as pd

    from ops.foundation.files import StrPath
    from ops.registry.disk.storage import LocalStorageBackend

__all__ = ["FOLDER", "SafeTransaction", "Transaction", "recover"]

FOLDER = ".transactions"
_PLAN, _COMMITTED = "plan", "committed"
_CLEARING_SECONDS = 60

logger: logging.Logger = get_logger("ops.registry")


class Transaction:
    """Writes and deletes on a local *storage* that take effect together at the end of a ``with`` block.

    A block that raises changes nothing. Reading through the storage inside the block shows the old
    content.

    >>> import tempfile
    >>> from ops.registry import LocalStorageBackend
    >>> storage = LocalStorageBackend(tempfile.mkdtemp())
    >>> with Transaction(storage) as transaction:
    ...     transaction.write_json({"rows": 3}, "summary.json")
    ...     storage.exists("summary.json")
    False
    >>> storage.read_json("summary.json")
    {'rows': 3}
    """

    def __init__(self, storage: LocalStorageBackend) -> None:
        self._storage = storage
        self.transaction_id: str = secrets.token_hex(8)
        self._folder = storage.root / FOLDER / self.transaction_id
        self._alive = FileLock(self._folder / "lock", timeout=0)
        self._entries: list[dict[str, Any]] = []
        self._is_open = False

    def begin(self) -> Self:
        """Begin; a ``with`` block does that. Raises `TransactionError` when it has begun already."""
        if self._is_open:
            raise TransactionError("The transaction has begun already.")
        self._storage.recover()
        with writing(self._folder):
            inside(self._storage.root, FOLDER, self.transaction_id)
            # Another process may take the folder for one that was left, as long as it has no lock, and clear it away.
            self._alive.acquire(timeout=_CLEARING_SECONDS)
            (self._folder / "new").mkdir()
            (self._folder / "old").mkdir()
        self._entries = []
        self._is_open = True
        return self

    def write_json(self, data: Any, path: StrPath) -> None:
        """Write a JSON value when the transaction commits."""
        body = encode(data)
        with self._staging(path) as staged, atomic_write(staged, "wb", durable="file") as file:
            file.write(body)

    def write_dataframe(
        self, df: pd.DataFrame, path: StrPath, mode: Literal["overwrite", "append"] = "overwrite"
    ) -> None:
        """Write *df* to *path* when the transaction commits; *mode* "append" adds to it as it is now.

        Raises `InvalidValueError` for another mode, and `TransactionError` when the transaction has not
        begun or has ended.
        """
        table = self._storage.extended(df, path) if check_mode(mode) else df
        with self._staging(path) as staged, atomic_write(staged, "wb", durable="file") as file:
            put_table(table, file)

    def write_artifact(self, source: StrPath, path: StrPath) -> None:
        """Copy a file or folder in when the transaction commits; it is read now."""
        with self._staging(path) as staged:
            artifacts.copy_in(source, staged)

    def delete(self, path: StrPath) -> None:
        """Delete what is at *path* when the transaction commits.

        Raises `TransactionError` when the transaction has not begun or has ended.
        """
        self._require_open()
        name = check_path("path", path)
        self._storage.location(name)
        self._entries.append({"path": name, "new": False})

    def commit(self) -> None:
        """Let everything take effect; if anything fails, nothing does.

        Raises `TransactionError` when the transaction is not open, `StorageError` when the disk
        fails, and `LockTimeout` when the storage is locked for too long.
        """
        self._require_open()
        try:
            with self._storage.locked():
                try:
                    self._apply()
                except BaseException:
                    self.rollback()  # before others have the lock
                    raise
        except BaseException as error:
            if self._is_open:  # the lock was not free
                self.rollback()
            if isinstance(error, OSError) and not isinstance(error, OpsError):
                raise StorageError(f"The transaction was undone: {error}.") from error
            raise
        self._finish(EventType.TRANSACTION_COMMITTED)

    def rollback(self) -> None:
        """Go back to how everything was, and end.

        Raises `TransactionError` when the transaction is not open, or could not be undone now.
        """
        self._require_open()
        try:
            # Flushing it may have failed: without it, all that was done is undone, here or at the next start.
            artifacts.remove(self._folder / _COMMITTED)
            undo(self._storage.root, self._folder)
        except OSError as error:
            # The folder stays, and with the lock released the next start tries again.
            self._end()
            raise TransactionError(f"The transaction could not be undone: {error}.") from error
        self._finish(EventType.TRANSACTION_ROLLED_BACK)

    def __enter__(self) -> Self:
        return self.begin()

    def __exit__(self, kind: type[BaseException] | None, *exc: object) -> None:
        if self._is_open:
            if kind is None:
                self.commit()
            else:
                self.rollback()

    @contextlib.contextmanager
    def _staging(self, path: StrPath) -> Iterator[pathlib.Path]:
        """Yield the path to write what will be at *path*; it is part of the transaction when the block is over."""
        self._require_open()
        name = self._storage.announce_write(path)  # the pre-hooks may refuse it, or change it
        self._storage.location(name)
        staged = self._folder / "new" / str(len(self._entries))
        try:
            with writing(staged):
                yield staged
        except BaseException:
            artifacts.remove(staged)
            raise
        self._entries.append({"path": name, "new": True})

    def _apply(self) -> None:
        targets = [self._storage.location(entry["path"]) for entry in self._entries]
        home = _stamp(self._folder)[0]
        for number, (entry, target) in enumerate(zip(self._entries, targets, strict=True)):
            entry["existed"] = is_there(target, follow_links=False)
            if entry["new"]:
                staged = self._folder / "new" / str(number)
                refuse_other_kind(staged, target)
                entry |= {"stamp": _stamp(staged), "home": home}
        for folder in ("new", "."):
            sync_directory(self._folder / folder)
        _write(self._folder / _PLAN, self._entries)
        for number, (entry, target) in enumerate(zip(self._entries, targets, strict=True)):
            if is_there(target, follow_links=False):
                target.rename(self._folder / "old" / str(number))
            if entry["new"]:
                target.parent.mkdir(parents=True, exist_ok=True)
                (self._folder / "new" / str(number)).rename(target)
        for parent in {target.parent for target in targets}:
            if is_there(parent):
                sync_directory(parent)
        _write(self._folder / _COMMITTED, self.transaction_id)

    def _finish(self, event: EventType) -> None:
        clear(self._folder)
        self._end()
        if event is EventType.TRANSACTION_COMMITTED:
            for entry in self._entries:  # what a single write or deletion reports
                if entry["new"]:
                    self._storage.written(entry["path"])
                elif entry["existed"]:
                    self._storage.deleted(entry["path"])
        paths = [entry["path"] for entry in self._entries]
        self._storage.report(event, {"transaction_id": self.transaction_id, "paths": paths})

    def _end(self) -> None:
        self._is_open = False
        self._alive.release()

    def _require_open(self) -> None:
        if not self._is_open:
            raise TransactionError("The transaction is not open: use it in a with block.")


class SafeTransaction(Transaction):
    """A `Transaction` that has the storage's lock from its beginning to its end."""

    def begin(self) -> Self:
        """Wait for the lock and begin."""
        self._storage.lock.acquire()
        recorded = {"lock": str(self._storage.lock.path), "transaction_id": self.transaction_id}
        self._storage.report(EventType.LOCK_ACQUIRED, recorded)
        try:
            return super().begin()
        except BaseException:
            self._storage.lock.release()
            raise

    def _end(self) -> None:
        try:
            super()._end()
        finally:
            self._storage.lock.release()
        recorded = {"lock": str(self._storage.lock.path), "transaction_id": self.transaction_id}
        self._storage.report(EventType.LOCK_RELEASED, recorded)


def recover(root: pathlib.Path) -> int:
    """Undo or clear the transactions of processes that are gone; return how many were undone."""
    undone = 0
    above = inside(root, FOLDER)
    for folder in listed(above):
        if next(_links(folder), None) is not None:
            logger.error("%s has links, as no transaction has, and is left alone", folder)
            continue
        lock = FileLock(folder / "lock", timeout=0)
        try:
            lock.acquire()
        except (LockTimeout, NotADirectoryError):
            continue  # its process is at work
        try:
            if is_there(folder / _PLAN) and not is_there(folder / _COMMITTED):
                undone += 1
                logger.warning("transaction %s was not finished and is undone", folder.name)
            undo(root, folder)
            clear(folder)
        except (PathEscapesRootError, ValueError, KeyError, TypeError) as error:
            undone -= 1
            logger.warning(
                "the plan of %s is not of this package and is left alone: %s", folder, error
            )
        finally:
            lock.release()
    return undone


def _links(folder: pathlib.Path) -> Iterator[str]:
    """Yield the links at the paths in a transaction's folder that are used by name."""
    for name in ("", "lock", _PLAN, _COMMITTED, "new", "old"):
        path = f"{folder}/{name}".rstrip("/")
        if os.path.islink(path):  # noqa: PTH114 - strings
            yield path


def undo(root: pathlib.Path, folder: pathlib.Path) -> None:
    """Go back to before the plan of a transaction, however far it or an earlier undoing came."""
    if is_there(folder / _COMMITTED) or not is_there(folder / _PLAN):
        return
    entries = decode((folder / _PLAN).read_bytes())
    targets = [
        _checked(root, entry["path"]) for entry in entries
    ]  # all of them, before anything is changed
    stamps = [entry.get("stamp") for entry in entries if entry["new"]]
    was_moved = any(
        _was_moved(entry, target, folder) for entry, target in zip(entries, targets, strict=True)
    )
    for number, entry in reversed(list(enumerate(entries))):
        target, old = targets[number], folder / "old" / str(number)
        if not was_moved and not _is_own(target, stamps):
            continue
        if is_there(old, follow_links=False):
            artifacts.remove(target)
            target.parent.mkdir(parents=True, exist_ok=True)
            old.rename(target)
        elif entry["new"] and not entry["existed"]:
            was_published = not is_there(folder / "new" / str(number), follow_links=False)
            if was_published:
                artifacts.remove(target)


def _checked(root: pathlib.Path, path: object) -> pathlib.Path:
    """Return the absolute form of a path in a plan, or raise `PathEscapesRootError`."""
    target = inside(root, str(path))
    first = target.relative_to(root).parts[0]
    if first in {FOLDER, ".lock"}:
        raise PathEscapesRootError(f"{path!r:.80} is a path of the storage's own.")
    return target


def _was_moved(entry: Mapping[str, Any], target: pathlib.Path, folder: pathlib.Path) -> bool:
    """Whether the storage lies elsewhere than it did when the plan was written, by what that noted."""
    if "target" in entry:  # of an older version: where the file was to be
        return bool(entry["target"] != str(target))
    return "home" in entry and bool(entry["home"] != _stamp(folder)[0])


def _is_own(target: pathlib.Path, stamps: list[list[int] | None]) -> bool:
    """Whether no other process has written a file at *target*; plans of older versions do not record it."""
    if not is_there(target, follow_links=False) or target.is_dir() or None in stamps:
        return True
    return _stamp(target) in stamps


def _stamp(path: pathlib.Path) -> list[int]:
    """Return what a file keeps when it is renamed, and no other has."""
    found = path.lstat()
    return [found.st_ino, found.st_mtime_ns]


def clear(folder: pathlib.Path) -> None:
    """Remove the folder of a transaction: the plan first, without which nothing can be undone."""
    artifacts.remove(folder / _PLAN)
    for path in sorted(folder.iterdir(), key=lambda p: p.name in {_COMMITTED, "lock"}):
        artifacts.remove(path)  # half-written files of a kill too
    with contextlib.suppress(FileNotFoundError):
        try:
            folder.rmdir()
        except OSError as error:
            if error.errno != errno.ENOTEMPTY:  # it belongs to a transaction that has just begun
                raise


def _write(path: pathlib.Path, data: Any) -> None:
    with atomic_write(path, "wb", durable="full") as file:
        file.write(encode(data))
