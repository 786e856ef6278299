"""Runs that were read: what they came to, and how it is seen that this still holds."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING, TypeAlias

from ops.registry.run_rows import MAIN
from ops.registry.tracking.runlog import RunReader, journal_path

if TYPE_CHECKING:
    import pathlib
    from collections.abc import Iterable

    from ops.registry.run_rows import RunRow

__all__ = ["CachedRun", "Reading", "Signature", "signature"]

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


def signature(folder: pathlib.Path, run_id: str, writers: Iterable[str]) -> Signature:
    """Return what the journals of a run look like now."""
    return {writer: _status(folder, run_id, writer) for writer in writers}


def _status(folder: pathlib.Path, run_id: str, writer: str) -> tuple[int, int] | None:
    try:
        found = os.stat(journal_path(folder, run_id, writer))  # noqa: PTH116 - strings
    except FileNotFoundError:
        return None
    return found.st_size, found.st_ino
