"""What a container may use: memory and CPU limits of cgroup v2 or v1, without any dependency.

In a container the host's figures mislead: what counts is the limit of the control group. The files
are `memory.max`, `memory.current`, `cpu.max` in v2 and `memory.limit_in_bytes`,
`memory.usage_in_bytes`, `cpu.cfs_quota_us`, `cpu.cfs_period_us` in v1 (kernel documentation,
admin-guide/cgroup-v2 and cgroup-v1). Page cache that can be dropped does not count as used.
"""

from __future__ import annotations

import os
from pathlib import Path

__all__ = ["cpu_limit", "memory_limit", "memory_usage"]

ROOT = Path("/sys/fs/cgroup")
MEMINFO = Path("/proc/meminfo")
#: v1 says "no limit" with a number near 2**63.
_UNLIMITED = 1 << 60


def memory_limit(root: Path = ROOT) -> int | None:
    """Return the group's memory limit in bytes, None when it has none."""
    for name in ("memory.max", "memory/memory.limit_in_bytes"):
        value = _number(root / name)
        if value is not None:
            return value if value < _UNLIMITED else None
    return None


def memory_usage(root: Path = ROOT, meminfo: Path = MEMINFO) -> tuple[int, int]:
    """Return (bytes in use, bytes that may be used): of the group if limited, else of the machine."""
    facts = _fields(meminfo)
    total = facts["MemTotal:"] * 1024
    limit = memory_limit(root)
    for current, stat, inactive in (
        ("memory.current", "memory.stat", "inactive_file"),
        ("memory/memory.usage_in_bytes", "memory/memory.stat", "total_inactive_file"),
    ):
        used = _number(root / current)
        if limit is not None and used is not None and limit < total:
            cache = _fields(root / stat).get(inactive, 0)
            return max(0, used - cache), limit
    return total - facts["MemAvailable:"] * 1024, total


def cpu_limit(root: Path = ROOT) -> float:
    """Return how many CPUs this process may use, limits and affinity considered."""
    cpus = float(len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else 1)
    try:
        quota, period = (root / "cpu.max").read_text().split()
    except (OSError, ValueError):
        quota, period = (
            str(_number(root / "cpu/cpu.cfs_quota_us") or "max"),
            str(_number(root / "cpu/cpu.cfs_period_us") or 100_000),
        )
    if quota == "max" or int(quota) <= 0:
        return cpus
    return min(cpus, int(quota) / int(period))


def _number(path: Path) -> int | None:
    try:
        return int(path.read_text())
    except (OSError, ValueError):
        return None


def _fields(path: Path) -> dict[str, int]:
    try:
        lines = path.read_text().splitlines()
    except OSError:
        return {}
    return {parts[0]: int(parts[1]) for parts in map(str.split, lines) if len(parts) >= 2}
