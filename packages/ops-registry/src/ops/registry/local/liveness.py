"""Which runs are STALE: RUNNING by their journals, while every process that logged to them is gone.

A process that starts a run, or logs to one, leaves in its main journal who it is: boot, PID namespace,
process with its start time. On the same machine that shows at once whether it is alive. What cannot
be judged that way (another machine or container, no /proc) is judged by its heartbeat: it touches
its journals every so many seconds, and a run whose journals were all left alone for several of
those is given up. A process without heartbeats counts as alive.

This is worked out at reading and never written: a process that logs again makes the run RUNNING.
The clocks of machines that share a store must agree within a few heartbeats.
"""

from __future__ import annotations

import contextlib
import functools
import os
import pathlib
import time
from typing import TYPE_CHECKING, Any

from ops.foundation.processes import is_alive, pid_namespace, this_process
from ops.registry.local.run_journals import journal_path
from ops.registry.records import RunStatus
from ops.registry.tracking.heartbeat import MISSED_HEARTBEATS

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable

    from ops.registry.run_rows import RunRow

__all__ = ["owner", "touch", "with_liveness"]


def touch(paths: Iterable[str]) -> None:
    """Send a heartbeat: touch the journals that still exist."""
    for path in paths:
        with contextlib.suppress(OSError):  # removed meanwhile, or a disk that is full
            os.utime(path)


@functools.cache
def owner() -> list[Any] | None:
    """Return the identity of this process, or None where it has none."""
    identity = this_process()
    boot = _boot()
    if boot is None or not identity & 0xFFFFFFFF:  # no /proc: no start time
        return None
    return [boot, pid_namespace(), identity]


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=owner.cache_clear)


def with_liveness(
    row: RunRow,
    folder: pathlib.Path,
    alive: Callable[[int], bool] = is_alive,
    now: Callable[[], float] = time.time,
) -> RunRow:
    """Return *row*, as STALE when it is RUNNING and none of its processes is there any more."""
    if row.status is not RunStatus.RUNNING or not _is_dead(row, folder, alive, now):
        return row
    return row.with_status(RunStatus.STALE)


def _is_dead(
    row: RunRow,
    folder: pathlib.Path,
    alive: Callable[[int], bool],
    now: Callable[[], float],
) -> bool:
    here = [_boot(), pid_namespace()] if _boot() else None
    far = [who for who in row.owners if who is None or who[:2] != here]
    if any(alive(who[2]) for who in row.owners if who not in far):
        return False
    return not far or _is_silent(row, folder, now())


def _is_silent(row: RunRow, folder: pathlib.Path, now_seconds: float) -> bool:
    interval = row.heartbeat_seconds
    if interval <= 0:
        return False
    try:
        last = max(
            os.stat(journal_path(folder, row.run_id, writer)).st_mtime  # noqa: PTH116 - strings
            for writer in row.writers
        )
    except OSError:
        return False
    return now_seconds - last > interval * MISSED_HEARTBEATS


@functools.cache
def _boot() -> str | None:
    try:
        return pathlib.Path("/proc/sys/kernel/random/boot_id").read_text("ascii").strip()
    except OSError:
        return None
