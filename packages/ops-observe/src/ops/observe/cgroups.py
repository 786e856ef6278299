"""What a container may use: memory and CPU limits of cgroup v2 or v1, without any dependency.

In a container the host's numbers mislead: what counts is the limit of the control group. A process is in
one group (`/proc/self/cgroup`), and the limits of all groups above it count as well: a systemd service or
a Slurm job is not at the root. The files are `memory.max`, `memory.current`, `cpu.max` in v2 and
`memory.limit_in_bytes`, `memory.usage_in_bytes`, `cpu.cfs_quota_us`, `cpu.cfs_period_us` in v1 (kernel
documentation, admin-guide/cgroup-v2 and cgroup-v1). Page cache that can be dropped does not count as used.
Within a container the path of the group may be that of the host; where it does not exist, the root is used.
"""

from __future__ import annotations

import errno
import os
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterator

__all__ = ["cpu_limit", "memory_limit", "memory_usage"]

ROOT = Path("/sys/fs/cgroup")
MEMINFO = Path("/proc/meminfo")
OWN = Path("/proc/self/cgroup")
#: v1 writes "no limit" as a number near 2**63.
_UNLIMITED = 1 << 60


def memory_limit(root: Path = ROOT, own: Path = OWN) -> int | None:
    """Return the tightest memory limit of the process's groups in bytes, None when there is none."""
    found = _tightest(root, own)
    return None if found is None else found[0]


def memory_usage(root: Path = ROOT, meminfo: Path = MEMINFO, own: Path = OWN) -> tuple[int, int]:
    """Return (bytes in use, bytes that may be used): of the group if limited, else of the machine."""
    facts = _fields(meminfo)
    total = facts["MemTotal:"] * 1024
    found = _tightest(root, own)
    if found is not None and found[0] < total:
        limit, group, is_unified = found
        used = _number(group / ("memory.current" if is_unified else "memory.usage_in_bytes"))
        if used is not None:
            inactive = "inactive_file" if is_unified else "total_inactive_file"
            cache = _fields(group / "memory.stat").get(inactive, 0)
            return max(0, used - cache), limit
    return total - facts["MemAvailable:"] * 1024, total


def cpu_limit(root: Path = ROOT, own: Path = OWN) -> float:
    """Return how many CPUs this process may use, limits and affinity considered."""
    cpus = float(len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else 1)
    for group, is_unified in _groups(root, own, "cpu"):
        quota, period = _quota(group, is_unified=is_unified)
        if quota is not None and quota > 0 and period > 0:
            cpus = min(cpus, quota / period)
    return cpus


def _tightest(root: Path, own: Path) -> tuple[int, Path, bool] | None:
    """Return the lowest memory limit, its group, and whether that is of v2."""
    found = []
    for group, is_unified in _groups(root, own, "memory"):
        limit = _number(group / ("memory.max" if is_unified else "memory.limit_in_bytes"))
        if limit is not None and limit < _UNLIMITED:
            found.append((limit, group, is_unified))
    return min(found, default=None)


def _groups(root: Path, own: Path, controller: str) -> Iterator[tuple[Path, bool]]:
    """Yield the process's groups of *controller* up to the root, each with whether it is of v2."""
    paths = _paths(own)
    hierarchies = [
        (root, paths.get("", "/"), True),
        (root / controller, paths.get(controller, "/"), False),
    ]
    for top, path, is_unified in hierarchies:
        parts = [part for part in path.split("/") if part not in {"", ".", ".."}]
        for depth in range(len(parts), -1, -1):
            group = top.joinpath(*parts[:depth])
            if group.is_dir():
                yield group, is_unified


def _paths(own: Path) -> dict[str, str]:
    """Return the group's path by controller; of v2 by the empty name."""
    found = {}
    try:
        lines = own.read_text().splitlines()
    except OSError as error:
        _refuse_exhausted(error)
        return {}
    for line in lines:
        _, controllers, path = [*line.split(":", 2), "", ""][:3]
        for controller in controllers.split(","):
            found[controller] = path
    return found


def _quota(group: Path, *, is_unified: bool) -> tuple[int | None, int]:
    if not is_unified:
        period = _number(group / "cpu.cfs_period_us")
        return _number(group / "cpu.cfs_quota_us"), 100_000 if period is None else period
    try:
        quota, period_text = (group / "cpu.max").read_text().split()
        return (None if quota == "max" else int(quota)), int(period_text)
    except (OSError, ValueError) as error:
        _refuse_exhausted(error)
        return None, 0


def _number(path: Path) -> int | None:
    try:
        return int(path.read_text())
    except (OSError, ValueError) as error:
        _refuse_exhausted(error)
        return None


def _fields(path: Path) -> dict[str, int]:
    try:
        lines = path.read_text().splitlines()
    except OSError as error:
        _refuse_exhausted(error)
        return {}
    return {parts[0]: int(parts[1]) for parts in map(str.split, lines) if len(parts) >= 2}


def _refuse_exhausted(error: Exception) -> None:
    """Raise *error* when nothing could be read now: that is no container without limits."""
    if isinstance(error, OSError) and error.errno in {errno.EMFILE, errno.ENFILE, errno.ENOMEM}:
        raise error
