"""Who a process is, whether it still lives, and a memory barrier that reaches all of them.

What data shared between processes needs in order to survive the death of one of them. A PID alone is
reused; with the start time (clock ticks since boot, field 22 of /proc/PID/stat, see proc(5)) it is
unique within one boot. Both fit one 64-bit word: the PID in the upper half, the ticks in the lower.
PIDs mean something only within a PID namespace, which has an inode. Linux only.

What is decided on a dead process cannot be taken back. So a process counts as dead only when the kernel
has none of that PID, or another one: not when this process has no descriptor left to look. One that could
not look at itself (a fork of a process without descriptors) has an identity without a start time: its PID.
"""

from __future__ import annotations

import ctypes
import functools
import os
import platform
import time
from pathlib import Path

__all__ = ["full_memory_barrier", "is_alive", "pid_namespace", "this_process"]

_MEMBARRIER = {"x86_64": 324, "aarch64": 283}.get(platform.machine())
_MEMBARRIER_CMD_GLOBAL = 1
_UNKNOWN = 0  # in place of a start time
_self = 0


def this_process() -> int:
    """Return the identity of this process; cheap, and right after a fork."""
    return _self


def is_alive(identity: int) -> bool:
    """Return whether the process of *identity* still runs (a zombie does not); True when that cannot be found out now."""
    try:
        ticks = _start_ticks(identity >> 32)
    except OSError:  # no descriptor or memory left, or no right to see it
        return True
    return ticks is not None and identity & 0xFFFFFFFF in {ticks, _UNKNOWN}


def pid_namespace() -> int:
    """Return the inode of this process's PID namespace."""
    return Path("/proc/self/ns/pid").stat().st_ino


def full_memory_barrier() -> None:
    """Make every running thread of the machine pass a full memory barrier (membarrier(2)).

    After it, a store that another thread made before its barrier is visible here, and a load that it
    makes afterwards sees what was stored here: the missing half of Dekker's pattern for a peer
    whose own path has no barrier.
    """
    if _MEMBARRIER is None or _libc().syscall(_MEMBARRIER, _MEMBARRIER_CMD_GLOBAL, 0, 0) != 0:
        # Store buffers drain within microseconds; without the system call, wait far longer.
        time.sleep(0.01)


@functools.cache
def _libc() -> ctypes.CDLL:
    return ctypes.CDLL(None, use_errno=True)


def _start_ticks(pid: int) -> int | None:
    """Return when the process began, None when there is none, or its parent has only not noticed yet that it ended."""
    try:
        line = Path(f"/proc/{pid}/stat").read_bytes()
    except (FileNotFoundError, ProcessLookupError):  # ESRCH: it ended while it was read
        return None
    # The command name, in parentheses, may itself hold spaces and parentheses.
    fields = line[line.rindex(b")") + 2 :].split()
    return None if fields[0] in {b"Z", b"X"} else int(fields[19]) & 0xFFFFFFFF


def _remember() -> None:
    global _self  # noqa: PLW0603 - one word per process, renewed after a fork
    pid = os.getpid()
    try:
        ticks = _start_ticks(pid)
    except OSError:
        ticks = None
    _self = pid << 32 | (ticks or _UNKNOWN)


_remember()
if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_remember)
