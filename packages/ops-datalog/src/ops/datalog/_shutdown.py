"""Closing a log: what has to be true before its files are replaced by others.

A process that opens a log, closes it or replaces its files holds one lock from before its first look to after
its last change. So a logger that is started while another one still lays out waits for it, and finds its files
as they will be. The lock is on `log.state`; the kernel ends it with its holder, and since a holder may be
paused, every wait for it has a limit.

A closed log is one whose token is 0 and in whose tails no put is under way; see `writer` for why a put
either came before that or is refused. A producer that is paused in the middle of a put (SIGSTOP, a debugger,
a frozen container) keeps its tail BUSY: then nothing is replaced, and it is named.
"""

from __future__ import annotations

import contextlib
import os
import time
from typing import TYPE_CHECKING

from ops.datalog._liveness import is_held, open_regular
from ops.datalog._open_writers import writers_of
from ops.datalog._writer_files import BUSY, FRESH
from ops.datalog.errors import (
    LateProducer,
    LogFormatError,
    LogInUseError,
    ProducersLateError,
)
from ops.datalog.frames import HEADER_SIZE, parse_file_header
from ops.datalog.state import NAME, LogState
from ops.foundation.errors import LockTimeout
from ops.foundation.locks import FileLock
from ops.foundation.paths import listed
from ops.foundation.processes import full_memory_barrier

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

__all__ = [
    "close_abandoned",
    "close_log",
    "exclusively",
    "files_lock",
    "open_state",
    "refuse_if_written",
    "writer_is_alive",
]

_PAUSE_SECONDS = 0.005
#: How long puts that are under way may take when a log is closed.
PUT_SECONDS = 10.0
#: How long another process may take that opens, closes or replaces: it may have millions of files to make.
LOCK_SECONDS = 60.0


def files_lock(folder: Path) -> FileLock:
    """Return the lock to hold while opening, closing or replacing the files of *folder*, which exists."""
    return FileLock(folder / NAME)


@contextlib.contextmanager
def exclusively(folder: Path, timeout: float = LOCK_SECONDS) -> Iterator[None]:
    """Hold the `files_lock`; raises LogInUseError when another process holds it for *timeout* seconds."""
    lock = files_lock(folder)
    try:
        lock.acquire(timeout)
    except LockTimeout as error:
        raise LogInUseError(
            f"{str(folder)!r} is being opened, closed or archived by another process or by this thread; "
            f"{timeout:g} s were not enough.",
            suggestions=("Wait for that to end; if its process is paused, continue or kill it.",),
        ) from error
    try:
        yield
    finally:
        lock.release()


def close_log(
    folder: Path, state: LogState, pause: float = _PAUSE_SECONDS, timeout: float = PUT_SECONDS
) -> None:
    """Refuse puts from now on, and wait for those that are under way, looking every *pause* seconds.

    Raises ProducersLateError when one takes longer than *timeout* seconds.
    """
    state.close()
    for writer in writers_of(folder):
        writer.revoke()  # what this very thread is in the middle of cannot be waited for
    full_memory_barrier()
    deadline = time.monotonic() + timeout
    waiting = listed(folder, "*.tail")
    while waiting := [path for path in waiting if is_busy(path)]:
        if time.monotonic() >= deadline:
            late = [_named(path) for path in waiting]
            raise ProducersLateError(
                f"{len(late)} producers of {str(folder)!r} are in the middle of a put for more than "
                f"{timeout:g} s: {', '.join(map(str, late))}. Nothing was lost or laid out.",
                late=late,
            )
        time.sleep(pause)


def refuse_if_written(folder: Path) -> None:
    """Raise LogInUseError when a logger is started there and any process writes to it."""
    if open_state(folder) and any(writer_is_alive(path) for path in listed(folder, "*.tail")):
        raise _written(folder)


def close_abandoned(folder: Path) -> None:
    """Close what a logger that died has left open; raise LogInUseError when a process may write there."""
    refuse_if_written(folder)
    state = open_state(folder)
    if state is not None and state.has_living_owner:  # whose producers have put nothing yet
        raise _written(folder)
    with contextlib.suppress(FileNotFoundError):
        # Also one that is closed: the process that did it may not have waited for all puts.
        close_log(folder, LogState(folder))


def open_state(folder: Path) -> LogState | None:
    """Return the state of a log that is open, None when it is not."""
    try:
        state = LogState(folder)
    except FileNotFoundError:
        return None
    return state if state.is_open else None


def _written(folder: Path) -> LogInUseError:
    return LogInUseError(f"{str(folder)!r} is being written; stop its logger first.")


def writer_is_alive(tail: Path) -> bool:
    """Return whether the process that made a tail still writes it: it holds its lock."""
    return is_held(tail)


def is_busy(tail: Path) -> bool:
    """Return whether the writer of *tail* is in the middle of a put, and alive."""
    header = _header(tail)
    return len(header) > BUSY and bool(header[BUSY]) and writer_is_alive(tail)


def remove_unfinished(folder: Path) -> None:
    """Remove tails that were being made when their process died."""
    for path in listed(folder, f"*{FRESH}"):
        if not is_held(path):
            path.unlink(missing_ok=True)


def _named(tail: Path) -> LateProducer:
    try:
        header = parse_file_header(_header(tail), tail.name)
    except LogFormatError:
        return LateProducer(0, "", tail.name)
    return LateProducer(header.pid, header.host, tail.name)


def _header(tail: Path) -> bytes:
    """Return the first bytes of a tail, none when it is gone or cannot be read."""
    try:
        fd = open_regular(tail)
    except (OSError, LogFormatError):
        return b""
    try:
        return os.pread(fd, HEADER_SIZE, 0)
    finally:
        os.close(fd)
