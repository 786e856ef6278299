"""The machine and this process: CPU, memory, disk, GPU (extra `system`, psutil).

In a container the limits of its control group count, not those of the host.
"""

from __future__ import annotations

import functools
import os
import platform
import socket
import sys
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from ops.foundation.helpers import LazyImport
from ops.observe import cgroups

__all__ = [
    "SystemInfo",
    "get_available_resources",
    "get_cpu_usage",
    "get_disk_usage",
    "get_environment_type",
    "get_gpu_info",
    "get_memory_usage",
    "get_process_info",
    "get_system_info",
    "is_docker_container",
    "is_kubernetes_pod",
]

psutil: Any = LazyImport("psutil", extra="ops-observe[system]")
_GIB = 1024**3


@dataclass(frozen=True, slots=True)
class SystemInfo:
    """What this program runs on; `cpu_limit` and `memory_limit_bytes` are what it may use.

    *platform* and *platform_version* are those of the operating system, *architecture* that of the
    machine, *hostname* its name; *python_version* is that of this process. *cpu_count* are cores
    and *memory_total_bytes* bytes of the machine; *environment* is that of `get_environment_type`.
    """

    platform: str
    platform_version: str
    architecture: str
    hostname: str
    python_version: str
    cpu_count: int
    cpu_limit: float
    memory_total_bytes: int
    memory_limit_bytes: int
    environment: str

    def to_dict(self) -> dict[str, Any]:
        """Return the fields as JSON-ready values."""
        return asdict(self)


def get_system_info() -> SystemInfo:
    """Return what this program runs on."""
    _, limit = cgroups.memory_usage()
    return SystemInfo(
        platform=platform.system(),
        platform_version=platform.release(),
        architecture=platform.machine(),
        hostname=socket.gethostname(),
        python_version=platform.python_version(),
        cpu_count=os.cpu_count() or 1,
        cpu_limit=cgroups.cpu_limit(),
        memory_total_bytes=psutil.virtual_memory().total,
        memory_limit_bytes=limit,
        environment=get_environment_type(),
    )


def get_memory_usage() -> dict[str, float]:
    """Return used, available and total bytes and percent, of the container's limit if it has one."""
    used, total = cgroups.memory_usage()
    return {
        "used_bytes": used,
        "available_bytes": total - used,
        "total_bytes": total,
        "percent": 100 * used / total,
    }


def get_cpu_usage(interval: float = 0.1) -> dict[str, Any]:
    """Return the machine's CPU use in percent over *interval* seconds, and its load averages."""
    return {
        "percent": psutil.cpu_percent(interval=interval),
        "count": os.cpu_count() or 1,
        "limit": cgroups.cpu_limit(),
        "load_average": list(psutil.getloadavg()),
    }


def get_disk_usage(path: str | os.PathLike[str] = "/") -> dict[str, float]:
    """Return used, free and total bytes and percent of the file system that holds *path*."""
    usage = psutil.disk_usage(os.fspath(path))
    return {
        "used_bytes": usage.used,
        "free_bytes": usage.free,
        "total_bytes": usage.total,
        "percent": usage.percent,
    }


def get_process_info(pid: int | None = None) -> dict[str, Any]:
    """Return memory, CPU time, threads and open files of a process (this one by default)."""
    process = psutil.Process(pid)
    with process.oneshot():
        times = process.cpu_times()
        return {
            "pid": process.pid,
            "name": process.name(),
            "memory_bytes": process.memory_info().rss,
            "cpu_seconds": times.user + times.system,
            "threads": process.num_threads(),
            "open_files": process.num_fds() if hasattr(process, "num_fds") else None,
            "started": process.create_time(),
        }


@functools.cache
def _nvml() -> Any:
    try:
        import pynvml
    except ImportError:
        return None
    try:
        pynvml.nvmlInit()
    except pynvml.NVMLError:
        return None
    return pynvml


def get_gpu_info() -> list[dict[str, Any]]:
    """Return name, memory and utilization of each NVIDIA GPU; empty without one (extra `gpu`)."""
    nvml = _nvml()
    if nvml is None:
        return []
    found = []
    for index in range(nvml.nvmlDeviceGetCount()):
        handle = nvml.nvmlDeviceGetHandleByIndex(index)
        memory = nvml.nvmlDeviceGetMemoryInfo(handle)
        found.append(
            {
                "index": index,
                "name": str(nvml.nvmlDeviceGetName(handle)),
                "memory_total_bytes": memory.total,
                "memory_used_bytes": memory.used,
                "utilization_percent": nvml.nvmlDeviceGetUtilizationRates(handle).gpu,
            }
        )
    return found


def get_available_resources(path: str | os.PathLike[str] = "/") -> dict[str, Any]:
    """Return what may still be used: CPUs, memory and disk in GiB, GPUs."""
    memory, disk = get_memory_usage(), get_disk_usage(path)
    return {
        "cpu": {"count": os.cpu_count() or 1, "available": cgroups.cpu_limit()},
        "memory": {
            "available_gb": memory["available_bytes"] / _GIB,
            "total_gb": memory["total_bytes"] / _GIB,
        },
        "disk": {
            "available_gb": disk["free_bytes"] / _GIB,
            "total_gb": disk["total_bytes"] / _GIB,
        },
        "gpu": get_gpu_info(),
    }


def is_docker_container(root: str | os.PathLike[str] = "/") -> bool:
    """Return whether this looks like a Docker or Podman container."""
    return any((Path(root) / name).exists() for name in (".dockerenv", "run/.containerenv"))


def is_kubernetes_pod() -> bool:
    """Return whether Kubernetes has set its service variables."""
    # Environment KUBERNETES_SERVICE_HOST: set in pods: `is_kubernetes_pod` is true, and
    # `get_environment_type` is "kubernetes".
    return "KUBERNETES_SERVICE_HOST" in os.environ


def get_environment_type() -> str:
    """Return "kubernetes", "docker", "ci", "notebook" or "host"."""
    if is_kubernetes_pod():
        return "kubernetes"
    if is_docker_container():
        return "docker"
    # Environment CI: set by services of continuous integration: `get_environment_type` is "ci".
    if os.environ.get("CI"):
        return "ci"
    return "notebook" if "ipykernel" in sys.modules else "host"
