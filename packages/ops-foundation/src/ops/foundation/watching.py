"""Watching a folder: listings are compared, and watchfiles (when installed) signals when to look.

Operating systems report changes differently, merge them, and drop them when a queue is full. So what
changed is always found by comparing two listings, and system events only wake the comparison; a
lost event delays a change and cannot lose it. The first listing is made before the call returns, so
whatever happens afterwards is seen. What is created and removed between two listings is not.
"""

from __future__ import annotations

import contextlib
import dataclasses
import importlib.util
import os
import pathlib
import threading
from enum import StrEnum
from typing import TYPE_CHECKING, Any, Self, TypeAlias

from ops.foundation.callables import refuse_coroutine_function
from ops.foundation.errors import described
from ops.foundation.forks import in_children
from ops.foundation.logs import get_logger
from ops.foundation.temporary_names import is_temporary_name

if TYPE_CHECKING:
    from collections.abc import Callable, Collection, Iterable, Iterator
    from types import TracebackType

    from ops.foundation.paths import StrPath

__all__ = ["ChangeKind", "DirectoryWatch", "FileChange", "watch_directory"]

_logger = get_logger("ops.foundation.watching")
_POLL_SECONDS = 1.0
_WAKE_MS = 500

Mark: TypeAlias = "tuple[int, ...]"
Listing: TypeAlias = "dict[str, Mark]"


class ChangeKind(StrEnum):
    """What happened to a file."""

    CREATED = "created"
    MODIFIED = "modified"
    DELETED = "deleted"


@dataclasses.dataclass(frozen=True, slots=True)
class FileChange:
    """One file, and what happened to it."""

    kind: ChangeKind
    path: pathlib.Path


def watch_directory(
    path: StrPath,
    callback: Callable[[FileChange], object],
    *,
    recursive: bool = True,
    events: Collection[ChangeKind | str] = tuple(ChangeKind),
    poll: float | None = None,
) -> DirectoryWatch:
    """Call *callback* in a thread for each file below *path* that changes; stop it, or use `with`.

    *recursive* includes the folders below; *events* are the kinds that are reported (default: all).
    System events are used when watchfiles is installed; *poll*, a number of seconds, has listings
    compared every so often instead, which is also what works on network file systems. A link to a
    file changes with the file, also when it is swapped by a folder behind it, as in the mounts of
    Kubernetes. Folders, links to folders and the temporary files of `atomic_write` are not
    reported. Raises NotADirectoryError when *path* is no folder, ValueError for a *poll* that is
    not positive, `ValidationError` for a coroutine function.
    """
    refuse_coroutine_function(callback, "callback")
    if poll is not None and poll <= 0:
        raise ValueError(f"poll={poll} must be a positive number of seconds.")
    kinds = frozenset(ChangeKind(e) for e in events)
    folder = os.path.realpath(path)
    if not os.path.isdir(folder):  # noqa: PTH112 - a str below, for cheap listings
        raise NotADirectoryError(f"{os.fspath(path)!r} is no folder.")
    if poll is None and importlib.util.find_spec("watchfiles") is None:
        poll = _POLL_SECONDS
    return DirectoryWatch(folder, callback, recursive, kinds, poll)


class DirectoryWatch:
    """A running watch. `stop` ends it, waits for the callback, and raises the callback's error.

    Made by `watch_directory`.
    """

    def __init__(
        self,
        folder: str,
        callback: Callable[[FileChange], object],
        recursive: bool,  # noqa: FBT001 - made by watch_directory only
        kinds: frozenset[ChangeKind],
        poll: float | None,
    ) -> None:
        self.path: pathlib.Path = pathlib.Path(folder)
        self._callback = callback
        self._recursive = recursive
        self._kinds = kinds
        self._poll = poll
        self._stopping = threading.Event()
        self._error: BaseException | None = None
        self._known = _listing(folder, recursive=recursive)
        in_children(self, DirectoryWatch._end_in_child)
        self._thread = threading.Thread(target=self._run, name="ops-watch", daemon=True)
        self._thread.start()

    def _end_in_child(self) -> None:
        """Be stopped: the thread that watches stays with the parent."""
        self._stopping, self._error = threading.Event(), None
        self._stopping.set()

    @property
    def is_running(self) -> bool:
        """Whether changes are still being reported."""
        return self._thread.is_alive() and not self._stopping.is_set()

    def stop(self) -> None:
        """End the watch; calling again does nothing. Raises what the callback raised."""
        self._stopping.set()
        if threading.current_thread() is not self._thread:
            self._thread.join()
        error, self._error = self._error, None
        if error is not None:
            raise error

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        exc_type: type[BaseException] | None,
        exc: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        try:
            self.stop()
        except BaseException:
            # The block's own error is the one to see.
            if exc is None:
                raise

    def _run(self) -> None:
        try:
            for _ in self._wakes():
                self._report()
        except BaseException as error:  # noqa: BLE001 - raised by `stop`
            self._error = error
            # Which may be never: a watch must not end without a word. By type and origin only, as
            # the text may hold a secret.
            _logger.error("the watch of %a has ended with %s", self.path, described(error))  # noqa: TRY400

    def _wakes(self) -> Iterable[object]:
        return self._polls(self._poll) if self._poll is not None else self._system_wakes()

    def _polls(self, seconds: float) -> Iterator[object]:
        while not self._stopping.wait(seconds):
            yield None

    def _system_wakes(self) -> Iterator[object]:
        """Yield when the system has reported something; compare by time when it cannot go on."""
        wakes = self._watchfiles()
        while True:
            try:
                wake = next(wakes)
            except StopIteration:
                return
            except Exception as error:  # noqa: BLE001 - such as for a name that is no UTF-8
                _logger.warning(
                    "system events of %a have ended (%s); comparing every %s s",
                    self.path,
                    type(error).__name__,
                    _POLL_SECONDS,
                )
                yield from self._polls(_POLL_SECONDS)
                return
            if wake:
                yield wake

    def _watchfiles(self) -> Iterator[set[Any]]:
        import watchfiles

        first = True
        for changes in watchfiles.watch(
            self.path,
            watch_filter=None,
            stop_event=self._stopping,
            rust_timeout=_WAKE_MS,
            yield_on_timeout=True,
            raise_interrupt=False,
            recursive=self._recursive,
        ):
            # Once without a reason: what changed before the system was listening.
            yield changes or ({"started"} if first else set())
            first = False

    def _report(self) -> None:
        before, self._known = self._known, _listing(str(self.path), recursive=self._recursive)
        for change in _differences(before, self._known):
            if self._stopping.is_set():
                return
            if change.kind in self._kinds:
                self._callback(change)


def _differences(before: Listing, after: Listing) -> Iterator[FileChange]:
    for path, mark in after.items():
        if path not in before:
            yield FileChange(ChangeKind.CREATED, pathlib.Path(path))
        elif before[path] != mark:
            yield FileChange(ChangeKind.MODIFIED, pathlib.Path(path))
    for path in before:
        if path not in after:
            yield FileChange(ChangeKind.DELETED, pathlib.Path(path))


def _listing(folder: str, *, recursive: bool) -> Listing:
    """Return each file with what identifies its version: time in ns, size, inode."""
    found: Listing = {}
    folders = [folder]
    while folders:
        current = folders.pop()
        # A folder or file may go while it is being read, and one below may belong to another user.
        forbidden = () if current == folder else (PermissionError,)
        with (
            contextlib.suppress(FileNotFoundError, NotADirectoryError, *forbidden),
            os.scandir(current) as entries,
        ):
            for entry in entries:
                if entry.is_dir(follow_symlinks=False):
                    if recursive:
                        folders.append(entry.path)
                elif not is_temporary_name(entry.name):
                    mark = _mark(entry)
                    if mark is not None:
                        found[entry.path] = mark
    return found


def _mark(entry: os.DirEntry[str]) -> Mark | None:
    """Return what identifies a version of a file; None for a link to a folder, and for what is gone."""
    try:
        status = entry.stat(follow_symlinks=False)
    except FileNotFoundError:
        return None
    own = status.st_mtime_ns, status.st_size, status.st_ino
    if not entry.is_symlink():
        return own
    try:
        if entry.is_dir():
            return None
        # What the link leads to as well: Kubernetes swaps a folder behind links that stay as they are.
        behind = entry.stat()
    except OSError:
        return own  # it leads nowhere, in a circle, or where this user may not look
    return *own, behind.st_mtime_ns, behind.st_size, behind.st_ino
