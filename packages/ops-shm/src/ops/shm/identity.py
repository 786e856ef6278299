"""Who a process is, so that a dead one is never taken for a living one.

A PID alone is reused; with the start time (clock ticks since boot, field 22 of /proc/PID/stat, see
proc(5)) it is unique within one boot. Both fit one 64-bit word: 32 bits of PID, 32 of ticks.
PIDs mean something only within a PID namespace, so a segment remembers the inode of its creator's.
"""

from __future__ import annotations

import os
from pathlib import Path

_self = 0


def this_process() -> int:
    """Return the identity of this process; cheap, and right after a fork."""
    return _self


def is_alive(identity: int) -> bool:
    """Tell whether the process of *identity* still runs (a zombie does not)."""
    ticks = _start_ticks(identity >> 32)
    return ticks is not None and ticks == identity & 0xFFFFFFFF


def pid_namespace() -> int:
    """Return the inode of this process's PID namespace."""
    return Path("/proc/self/ns/pid").stat().st_ino


def _start_ticks(pid: int) -> int | None:
    try:
        line = Path(f"/proc/{pid}/stat").read_bytes()
    except OSError:
        return None
    # The command name, in parentheses, may itself hold spaces and parentheses.
    fields = line[line.rindex(b")") + 2 :].split()
    return None if fields[0] in {b"Z", b"X"} else int(fields[19]) & 0xFFFFFFFF


def _remember() -> None:
    global _self  # noqa: PLW0603 - one word per process, renewed after a fork
    pid = os.getpid()
    _self = pid << 32 | (_start_ticks(pid) or 0)


_remember()
if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_remember)
