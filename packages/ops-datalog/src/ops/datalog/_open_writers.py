"""The writers of this process: one for each log and way of writing, what a forked child leaves to its parent, and their end."""

from __future__ import annotations

import atexit
import contextlib
import os
import sys
import threading
import weakref
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from ops.datalog.writer import Writer

__all__ = ["keep", "let_go", "note", "shared", "writers_of"]

_EXIT_SECONDS = 5.0

#: All of them; a child forgets what it inherits of them.
_writers: weakref.WeakSet[Writer] = weakref.WeakSet()
#: Those that have files: a task of a pool drops its sink, and the next one is to find the writer.
_with_files: set[Writer] = set()
#: The one for each log and way of writing, as long as it has files or users.
_by_key: weakref.WeakValueDictionary[tuple[object, ...], Writer] = weakref.WeakValueDictionary()
_opening = threading.RLock()
_closes_at_exit = 0


def note(writer: Writer) -> None:
    """Know a writer that is being made."""
    _writers.add(writer)


def keep(writer: Writer) -> None:
    """Keep a writer that has files until it has none, or this process ends."""
    _with_files.add(writer)
    _close_at_exit()


def let_go(writer: Writer) -> None:
    """Keep a writer only as long as it is used."""
    _with_files.discard(writer)


def shared(key: tuple[object, ...], make: Callable[[], Writer]) -> Writer:
    """Return the one writer of *key*, made now if there is none of the log that is there now."""
    with _opening:
        known = _by_key.get(key)
        if known is not None and known.is_current():
            return known
        made = make()
        if _by_key.get(key) is known:
            _by_key[key] = made
            return made
        made.close()  # a signal handler that came meanwhile was quicker
        return _by_key.get(key) or shared(key, make)


def writers_of(folder: Path) -> list[Writer]:
    """Return all writers that this process has for the log in *folder*."""
    path = folder.absolute()
    return [writer for writer in list(_writers) if writer.folder.absolute() == path]


def _disown_all() -> None:
    global _opening  # noqa: PLW0603 - a thread of the parent may have held it
    _opening = threading.RLock()
    for writer in list(_writers):
        writer.disown()


os.register_at_fork(after_in_child=_disown_all)


def _close_at_exit() -> None:
    """Give the space of the tails back when this process ends, also where atexit is not run."""
    global _closes_at_exit  # noqa: PLW0603 - once in each process
    util = sys.modules.get("multiprocessing.util")
    if util is not None and _closes_at_exit != os.getpid():
        _closes_at_exit = os.getpid()
        util.Finalize(None, _close_all, exitpriority=0)


def _close_all() -> None:
    for writer in list(_writers):
        # An error here would only hide the program's own; what is in the tail is found there.
        with contextlib.suppress(Exception):
            writer.close(timeout=_EXIT_SECONDS)


atexit.register(_close_all)
