"""The health checks that every service needs: memory, disk, a component, a storage, any function."""

from __future__ import annotations

import contextlib
import math
import re
import secrets
import shutil
from concurrent.futures import Future
from enum import Enum
from http import HTTPStatus
from types import AsyncGeneratorType, GeneratorType, NoneType
from typing import TYPE_CHECKING, Any, TypeAlias

from ops.foundation.errors import ValidationError
from ops.foundation.formatting import format_bytes
from ops.observe.health import HealthStatus, settled

if TYPE_CHECKING:
    import os
    from collections.abc import Callable, Mapping, Sequence

__all__ = [
    "CallableHealthCheck",
    "ComponentHealthCheck",
    "DiskHealthCheck",
    "MemoryHealthCheck",
    "StorageHealthCheck",
]

Finding: TypeAlias = "tuple[HealthStatus, str, Mapping[str, Any]]"


_WARNING, _CRITICAL = 0.8, 0.95


class _Thresholds:
    """A share of something that may be used: healthy below *warning*, unhealthy from *critical*."""

    def __init__(self, warning: float | None, critical: float | None) -> None:
        # A default gives way to what is given.
        if critical is None:
            critical = _CRITICAL if warning is None or warning < _CRITICAL else (1 + warning) / 2
        if warning is None:
            warning = min(_WARNING, critical * _WARNING / _CRITICAL)
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
    """Memory in use, of the container's limit where there is one, else of the machine.

    Degraded from *warning_threshold* (default 0.8), unhealthy from *critical_threshold* (default
    0.95), both shares; a default gives way to the other threshold that is given. *name* stands in
    the report and *critical* decides about readiness. *usage* returns bytes used and bytes in all
    (default: measured).
    """

    def __init__(
        self,
        name: str = "memory",
        warning_threshold: float | None = None,
        critical_threshold: float | None = None,
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
    """Space in use on the file system that holds *path*.

    *name* stands in the report and *critical* decides about readiness. *warning_threshold* (default
    0.8) and *critical_threshold* (default 0.95) are shares, as in `MemoryHealthCheck`.
    """

    def __init__(
        self,
        name: str = "disk",
        path: str | os.PathLike[str] = "/",
        warning_threshold: float | None = None,
        critical_threshold: float | None = None,
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
    """Calls a component's `health_check()`, or reads its `is_healthy` (a value or a method); sync or async.

    *name* stands in the report, *component* is the object, *critical* decides about readiness.
    Raises `ValidationError` when it has neither of the two.
    """

    def __init__(self, name: str, component: object, *, critical: bool = True) -> None:
        self.name: str = name
        self.critical: bool = critical
        if not (hasattr(component, "health_check") or hasattr(component, "is_healthy")):
            raise ValidationError(
                f"{type(component).__name__} has neither health_check() nor is_healthy."
            )
        self._component: Any = component

    def run(self) -> Finding:
        """Return what the component answers: a bool, a status word, or a dict with one."""
        component = self._component
        if hasattr(component, "health_check"):
            answer = component.health_check()
        else:
            answer = component.is_healthy
            answer = answer() if callable(answer) else answer
        return _interpreted(answer)


class CallableHealthCheck:
    """Calls a function (sync or async) that returns a bool, a status word, or a dict with one.

    A tuple is (status, message, details), of a list the worst member counts; an HTTP status, a
    response and a finished process are understood, an exception that is returned is unhealthy.

    *name* stands in the report and *function* takes no argument. *critical* decides about
    readiness: only critical checks take the program out of service.
    """

    def __init__(self, name: str, function: Callable[[], object], *, critical: bool = True) -> None:
        self.name: str = name
        self.critical: bool = critical
        self._function = function

    def run(self) -> Finding:
        """Call the function."""
        return _interpreted(self._function())


class StorageHealthCheck:
    """Writes a small probe into a storage, reads it back and deletes it.

    *storage* has `write_json(data, path)`, `read_json(path)` and `delete(path)`. *name* stands in
    the report, *critical* decides about readiness, and the paths of probes begin with *prefix*.
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
            settled(self._storage.write_json(probe, path))
            if settled(self._storage.read_json(path)) != probe:
                return HealthStatus.UNHEALTHY, "the probe came back changed", {}
        finally:
            with contextlib.suppress(Exception):  # the error that matters is on its way
                settled(self._storage.delete(path))
        return HealthStatus.HEALTHY, "a probe was written and read back", {}


_BESIDE = (str, dict, NoneType)  # what may stand beside a status: a message, and details
_WORDS = {
    HealthStatus.HEALTHY: (
        "healthy ok okay up pass passing passed good green alive available online ready running "
        "serving success"
    ),
    HealthStatus.DEGRADED: "degraded warn warning yellow impaired partial",
    HealthStatus.UNHEALTHY: (
        "unhealthy down fail failed failing error critical bad red dead unavailable offline "
        "out_of_service not_serving not_ready"
    ),
    HealthStatus.UNKNOWN: "unknown",
}
"""What others call a state: Spring Boot, the health+json draft, gRPC, Kubernetes, Consul, load balancers."""
_STATUS_OF = {word: status for status, words in _WORDS.items() for word in words.split()}


def _interpreted(answer: object) -> Finding:
    """Return what *answer* means: a bool, a word, a dict, (status, message), an HTTP status, an object with one."""
    answer = settled(answer)
    if isinstance(answer, HealthStatus):
        return answer, "", {}
    if isinstance(answer, HTTPStatus):
        answer = int(answer)
    if isinstance(answer, Enum):
        return _interpreted(answer.value if isinstance(answer.value, str) else answer.name)
    if isinstance(answer, str):
        word = re.sub(r"[\s-]+", "_", answer.strip().lower())
        if word in _STATUS_OF:
            return _STATUS_OF[word], "", {}
        return HealthStatus.UNKNOWN, f"the status {answer!r} is none that is known", {}
    if isinstance(answer, dict):
        return _of_fields(answer)
    if isinstance(answer, bytes):
        return _interpreted(answer.decode(errors="replace"))
    if isinstance(answer, tuple | list):
        return _of_several(answer)
    if isinstance(answer, int) and not isinstance(answer, bool) and 100 <= answer < 600:
        healthy = answer < 400
        return (HealthStatus.HEALTHY if healthy else HealthStatus.UNHEALTHY), f"HTTP {answer}", {}
    if isinstance(answer, BaseException):
        return HealthStatus.UNHEALTHY, type(answer).__name__, {}  # its text may hold a secret
    return _of_object(answer)


def _of_several(answer: Sequence[Any]) -> Finding:
    """Return what (status, message, details) means, else the worst of the members that say something.

    A sequence is true whatever is in it.
    """
    rest = answer[1:]
    if isinstance(answer, tuple) and rest and all(isinstance(r, _BESIDE) for r in rest[:2]):
        status, why, more = _interpreted(answer[0])
        message = next((r for r in rest if isinstance(r, str)), "")
        details = next((r for r in rest if isinstance(r, dict)), more)
        return status, message or why, details
    found = [_interpreted(each) for each in answer if _is_verdict(each)]
    if not found:  # such as the rows of a query
        return (HealthStatus.HEALTHY if answer else HealthStatus.UNHEALTHY), "", {}
    return max(found, key=lambda finding: list(HealthStatus).index(finding[0]))


def _is_verdict(answer: object) -> bool:
    kinds = (bool, BaseException, HealthStatus, HTTPStatus)
    return isinstance(answer, kinds) or (isinstance(answer, str) and answer.lower() in _STATUS_OF)


def _of_object(answer: Any) -> Finding:
    """Return what a report, a response, a finished process or anything else means."""
    if isinstance(answer, GeneratorType | AsyncGeneratorType | Future):
        return HealthStatus.UNKNOWN, f"a {type(answer).__name__} that has not ended", {}
    code = getattr(answer, "returncode", None)
    if isinstance(code, int):
        return (HealthStatus.UNHEALTHY if code else HealthStatus.HEALTHY), f"exit code {code}", {}
    for name in (*_STATUS_FIELDS, "status_code"):
        status = getattr(answer, name, None)
        if isinstance(status, str | bool | Enum) or (type(status) is int and 100 <= status < 600):
            message = getattr(answer, "message", "")
            found, why, _ = _interpreted(status)
            return found, message if message and isinstance(message, str) else why, {}
    if isinstance(answer, float) and math.isnan(answer):  # which is true
        return HealthStatus.UNHEALTHY, "NaN", {}
    return (HealthStatus.HEALTHY if answer else HealthStatus.UNHEALTHY), "", {}


def _of_fields(answer: dict[Any, Any]) -> Finding:
    named = next((name for name in _STATUS_FIELDS if name in answer), None)
    details = {k: v for k, v in answer.items() if k not in {named, "message"}}
    message = str(answer.get("message", ""))
    if named is None:
        return HealthStatus.UNKNOWN, message or "the answer names no status", details
    status, why, _ = _interpreted(answer[named])
    return status, message or why, details


_STATUS_FIELDS = ("status", "healthy", "is_healthy", "health", "state", "ok")
