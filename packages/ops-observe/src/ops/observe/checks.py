"""The health checks that every service needs: memory, disk, a component, a storage, any function."""

from __future__ import annotations

import contextlib
import secrets
import shutil
from typing import TYPE_CHECKING, Any, TypeAlias

from ops.foundation.errors import ValidationError
from ops.foundation.formatting import format_bytes
from ops.observe.health import HealthStatus

if TYPE_CHECKING:
    import os
    from collections.abc import Callable, Mapping

__all__ = [
    "CallableHealthCheck",
    "ComponentHealthCheck",
    "DiskHealthCheck",
    "MemoryHealthCheck",
    "StorageHealthCheck",
]

Finding: TypeAlias = "tuple[HealthStatus, str, Mapping[str, Any]]"


class _Thresholds:
    """A share of something that may be used: healthy below *warning*, unhealthy from *critical*."""

    def __init__(self, warning: float, critical: float) -> None:
        if not 0 < warning <= critical <= 1:
            raise ValidationError(
                f"thresholds are shares, 0 < warning <= critical <= 1, not {warning}, {critical}."
            )
        self.warning, self.critical = warning, critical

    def judge(self, what: str, used: int, total: int) -> Finding:
        share = used / total
        status = (
            HealthStatus.UNHEALTHY
            if share >= self.critical
            else HealthStatus.DEGRADED
            if share >= self.warning
            else HealthStatus.HEALTHY
        )
        message = f"{what} {share:.0%} used ({format_bytes(used)} of {format_bytes(total)})"
        return status, message, {"used_bytes": used, "total_bytes": total, "used_share": share}


class MemoryHealthCheck:
    """Memory in use, of the container's limit where there is one, else of the machine."""

    def __init__(
        self,
        name: str = "memory",
        warning_threshold: float = 0.8,
        critical_threshold: float = 0.95,
        *,
        critical: bool = True,
        usage: Callable[[], tuple[int, int]] | None = None,
    ) -> None:
        self.name: str = name
        self.critical: bool = critical
        self._thresholds = _Thresholds(warning_threshold, critical_threshold)
        self._usage = usage

    def run(self) -> Finding:
        """Compare the bytes in use with the limit."""
        if self._usage is None:
            from ops.observe.cgroups import memory_usage

            self._usage = memory_usage
        return self._thresholds.judge("memory", *self._usage())


class DiskHealthCheck:
    """Space in use on the file system that holds *path*."""

    def __init__(
        self,
        name: str = "disk",
        path: str | os.PathLike[str] = "/",
        warning_threshold: float = 0.8,
        critical_threshold: float = 0.95,
        *,
        critical: bool = True,
    ) -> None:
        self.name: str = name
        self.critical: bool = critical
        self._path = path
        self._thresholds = _Thresholds(warning_threshold, critical_threshold)

    def run(self) -> Finding:
        """Compare the space that is used with what unprivileged users may use."""
        usage = shutil.disk_usage(self._path)
        status, message, details = self._thresholds.judge(
            "disk", usage.used, usage.used + usage.free
        )
        return status, message, {**details, "path": str(self._path)}


class ComponentHealthCheck:
    """Asks a component that has `health_check()` or `is_healthy` (a value or a method)."""

    def __init__(self, name: str, component: object, *, critical: bool = True) -> None:
        self.name: str = name
        self.critical: bool = critical
        if not (hasattr(component, "health_check") or hasattr(component, "is_healthy")):
            raise ValidationError(
                f"{type(component).__name__} has neither health_check() nor is_healthy."
            )
        self._component: Any = component

    def run(self) -> Finding:
        """Take the component's word: a bool, a HealthStatus, or a dict with a status."""
        component = self._component
        if hasattr(component, "health_check"):
            answer = component.health_check()
        else:
            answer = component.is_healthy
            answer = answer() if callable(answer) else answer
        return _interpreted(answer)


class CallableHealthCheck:
    """Asks a function that returns a bool, a HealthStatus, or a dict with a status."""

    def __init__(self, name: str, function: Callable[[], object], *, critical: bool = True) -> None:
        self.name: str = name
        self.critical: bool = critical
        self._function = function

    def run(self) -> Finding:
        """Call the function."""
        return _interpreted(self._function())


class StorageHealthCheck:
    """Writes a small probe into a storage, reads it back and deletes it.

    The storage has `write_json(data, path)`, `read_json(path)` and `delete(path)`.
    """

    def __init__(
        self, name: str, storage: Any, *, critical: bool = True, prefix: str = ".health"
    ) -> None:
        self.name: str = name
        self.critical: bool = critical
        self._storage, self._prefix = storage, prefix

    def run(self) -> Finding:
        """Fail when what comes back is not what was written."""
        path = f"{self._prefix}/{secrets.token_hex(8)}.json"
        probe = {"probe": secrets.token_hex(8)}
        try:
            self._storage.write_json(probe, path)
            if self._storage.read_json(path) != probe:
                return HealthStatus.UNHEALTHY, "the probe came back changed", {}
        finally:
            with contextlib.suppress(Exception):  # the error that matters is on its way
                self._storage.delete(path)
        return HealthStatus.HEALTHY, "a probe was written and read back", {}


def _interpreted(answer: object) -> Finding:
    if isinstance(answer, HealthStatus):
        return answer, "", {}
    if isinstance(answer, dict):
        details = {k: v for k, v in answer.items() if k not in {"status", "message"}}
        status = answer.get("status", answer.get("healthy", HealthStatus.UNKNOWN))
        return _interpreted(status)[0], str(answer.get("message", "")), details
    if isinstance(answer, str):
        known = answer.lower() in list(HealthStatus)
        return HealthStatus(answer.lower()) if known else HealthStatus.UNKNOWN, "", {}
    return (HealthStatus.HEALTHY if answer else HealthStatus.UNHEALTHY), "", {}
