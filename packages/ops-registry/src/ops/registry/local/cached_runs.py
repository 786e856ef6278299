"""Runs that were read: what they came to, and how it is seen that this still holds."""

from __future__ import annotations

import os
import threading
from typing import TYPE_CHECKING, TypeAlias

from ops.registry.local.run_journals import RunReader, current_state, journal_path, load_state
from ops.registry.run_rows import MAIN

if TYPE_CHECKING:
    import pathlib
    from collections.abc import Iterable

    from ops.cache.lru import LRUCache
    from ops.registry.run_rows import RunRow

__all__ = ["CachedRun", "CachedRuns", "Reading", "Signature", "signature"]

#: Per journal its size and inode when it was read, and what the run came to; or what reads it on. Journals only
#: grow, and a heartbeat changes nothing but their time.
Signature: TypeAlias = "dict[str, tuple[int, int] | None]"
CachedRun: TypeAlias = "tuple[Signature, RunRow] | Reading"


class Reading:
    """A run that is read on from where it was, unless its journal was replaced, as copies of stores do."""

    def __init__(self, folder: pathlib.Path, run_id: str) -> None:
        self._folder = folder
        self._run_id = run_id
        self._main = journal_path(folder, run_id, MAIN)
        self._reader = RunReader(folder, run_id, keep_history=False)
        self._inode = -1

    def poll(self) -> RunRow:
        """Return the row as of now."""
        try:
            inode = os.stat(self._main).st_ino  # noqa: PTH116 - strings
        except FileNotFoundError:
            inode = -1
        if inode != self._inode:
            self._reader = RunReader(self._folder, self._run_id, keep_history=False)
            self._inode = inode
        return self._reader.poll().row


class CachedRuns:
    """The runs that were read last, in *cache* if there is one."""

    def __init__(self, cache: LRUCache[str, CachedRun] | None) -> None:
        self.cache: LRUCache[str, CachedRun] | None = cache
        self.begin_in_child()

    def begin_in_child(self) -> None:
        """Reset in a forked child: another thread may have been in the middle of reading."""
        self._reading = threading.RLock()  # a signal handler may read amid a read of its thread
        if self.cache is not None:
            self.cache.clear()

    def row(self, folder: pathlib.Path, run_id: str) -> RunRow:
        """Return what a run comes to now; from memory while none of its journals has changed."""
        if self.cache is None:
            return load_state(folder, run_id).row
        kept = self.cache.get(run_id)
        if isinstance(kept, Reading):
            return self._live_row(run_id, kept)
        if kept is None or kept[0] != signature(folder, run_id, kept[0]):
            # Taken before reading: what is appended meanwhile changes it.
            before = signature(folder, run_id, kept[0] if kept else (MAIN,))
            state = current_state(folder, run_id)
            if state is None:
                return self._live_row(run_id, Reading(folder, run_id))
            if before.keys() != set(state.writers):
                # Kept so that the next one looks at all of them, and never found to fit.
                before = dict.fromkeys(state.writers)
            kept = before, state.row
            self.cache.set(run_id, kept)
        return kept[1]

    def _live_row(self, run_id: str, reading: Reading) -> RunRow:
        """Return the row of a run without a view: only what was appended since the last time is read."""
        with self._reading:  # a reader is for one thread at a time
            row = reading.poll().copy()
        if self.cache is not None:
            self.cache.set(run_id, reading)
        return row


def signature(folder: pathlib.Path, run_id: str, writers: Iterable[str]) -> Signature:
    """Return what the journals of a run look like now."""
    return {writer: _status(folder, run_id, writer) for writer in writers}


def _status(folder: pathlib.Path, run_id: str, writer: str) -> tuple[int, int] | None:
    try:
        found = os.stat(journal_path(folder, run_id, writer))  # noqa: PTH116 - strings
    except FileNotFoundError:
        return None
    return found.st_size, found.st_ino
