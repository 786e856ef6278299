"""Closing a log: what has to be true before its files are replaced by others.

Whoever opens a log, closes it or replaces its files holds one lock from before his first look to after his
last change. So a logger that is started while another one still lays out waits for it, and finds its files
as they will be. The lock is on `log.state`; the kernel ends it with its holder.

A closed log is one whose token is 0 and in whose tails no put is under way; see `writer` for why a put
either came before that or is refused.
"""

from __future__ import annotations

import time
from typing import TYPE_CHECKING

from ops.datalog.errors import DataLogError
from ops.datalog.state import NAME, LogState
from ops.datalog.writer import BUSY, OWNER
from ops.foundation.locks import FileLock
from ops.foundation.processes import full_memory_barrier, is_alive

if TYPE_CHECKING:
    from pathlib import Path

__all__ = [
    "close_abandoned",
    "close_log",
    "open_state",
    "owner_is_alive",
    "refuse_if_written",
    "turn",
]

_PAUSE_SECONDS = 0.005


def turn(folder: Path) -> FileLock:
    """Return the lock of those who open, close or replace the files of *folder*, which is there."""
    return FileLock(folder / NAME)


def close_log(folder: Path, state: LogState, pause: float = _PAUSE_SECONDS) -> None:
    """Refuse puts from now on, and wait for those that are under way, looking every *pause* seconds."""
    state.close()
    full_memory_barrier()
    for path in folder.glob("*.tail"):
        while _is_busy(path):
            time.sleep(pause)


def refuse_if_written(folder: Path) -> None:
    """Raise DataLogError when a logger is started there and any process writes to it."""
    if open_state(folder) and any(owner_is_alive(path) for path in folder.glob("*.tail")):
        raise _written(folder)


def close_abandoned(folder: Path) -> None:
    """Close what a logger that died has left open; raise DataLogError when somebody may write there."""
    refuse_if_written(folder)
    state = open_state(folder)
    if state is None:
        return
    if state.has_living_owner:  # nobody has put anything yet
        raise _written(folder)
    close_log(folder, state)


def open_state(folder: Path) -> LogState | None:
    """Return the state of a log that is open, None when it is not."""
    try:
        state = LogState(folder)
    except FileNotFoundError:
        return None
    return state if state.is_open else None


def _written(folder: Path) -> DataLogError:
    return DataLogError(f"{str(folder)!r} is being written; stop its logger first.")


def owner_is_alive(tail: Path) -> bool:
    """Tell whether the process that made a tail still runs."""
    return is_alive(_header(tail)[1])


def _is_busy(tail: Path) -> bool:
    """Tell whether the writer of *tail* is in the middle of a put, and alive."""
    busy, owner = _header(tail)
    return busy and is_alive(owner)


def _header(tail: Path) -> tuple[bool, int]:
    """Return the words of a tail, 0 where there are none."""
    try:
        with tail.open("rb") as file:
            header = file.read(64).ljust(64, b"\0")
    except FileNotFoundError:
        return False, 0
    return bool(header[BUSY]), int.from_bytes(header[OWNER : OWNER + 8], "little")
