"""Is this program healthy? Checks that run apart from each other, each for so long and no longer.

Every check runs in a thread of its own and its result is kept for a short time, so probes may come as
often as they like. A check that is a coroutine function runs in an event loop of that thread. A check that does not answer in time counts as unhealthy; its thread is left
alone, and no second one is started while it hangs, so a hung check costs one thread, not one a probe.

Liveness and readiness are different questions: `is_healthy` asks whether this process can answer at
all and consults nothing outside; `is_ready` asks whether all critical checks pass.
"""

from __future__ import annotations

import asyncio
import datetime as dt
import inspect
import os
import threading
from dataclasses import dataclass, field
from enum import StrEnum
from time import monotonic
from typing import TYPE_CHECKING, Any, Protocol, TypeAlias, runtime_checkable

from ops.foundation.errors import ValidationError
from ops.foundation.forks import keep_over_forks

if TYPE_CHECKING:
    from collections.abc import Mapping

    _Finding: TypeAlias = "tuple[HealthStatus, str, Mapping[str, Any]]"

__all__ = [
    "CheckResult",
    "HealthCheck",
    "HealthMonitor",
    "HealthReport",
    "HealthStatus",
    "check_health",
    "get_health_monitor",
    "is_healthy",
    "is_ready",
]


class HealthStatus(StrEnum):
    """The states of health, best first."""

    HEALTHY = "healthy"
    DEGRADED = "degraded"
    UNHEALTHY = "unhealthy"
    UNKNOWN = "unknown"


@dataclass(frozen=True, slots=True)
class CheckResult:
    """What one check found; `duration` is in seconds.

    *name*, *status* and *message* are those of the check, *details* what it adds; *critical* checks
    decide about readiness.
    """

    name: str
    status: HealthStatus
    message: str = ""
    duration: float = 0.0
    details: Mapping[str, Any] = field(default_factory=dict)
    critical: bool = True

    def to_dict(self) -> dict[str, Any]:
        """Return the result as JSON-ready values."""
        return {
            "name": self.name,
            "status": str(self.status),
            "message": self.message,
            "duration": self.duration,
            "details": dict(self.details),
            "critical": self.critical,
        }


@runtime_checkable
class HealthCheck(Protocol):
    """A check: a name, and `run` (it may be a coroutine function)."""

    name: str
    critical: bool

    def run(self) -> tuple[HealthStatus, str, Mapping[str, Any]]:
        """Return status, message and details; an exception counts as unhealthy."""
        ...


@dataclass(frozen=True, slots=True)
class HealthReport:
    """All results of one round; the worst of the critical checks decides."""

    checks: tuple[CheckResult, ...]
    timestamp: dt.datetime

    @property
    def overall_status(self) -> HealthStatus:
        """UNHEALTHY when a critical check is, DEGRADED when any other is not healthy."""
        if any(c.critical and c.status is HealthStatus.UNHEALTHY for c in self.checks):
            return HealthStatus.UNHEALTHY
        if any(c.status is not HealthStatus.HEALTHY for c in self.checks):
            return HealthStatus.DEGRADED
        return HealthStatus.HEALTHY

    @property
    def is_healthy(self) -> bool:
        """Whether no critical check is unhealthy."""
        return self.overall_status is not HealthStatus.UNHEALTHY

    @property
    def is_ready(self) -> bool:
        """Whether every critical check passes or is merely degraded."""
        return all(
            not check.critical or check.status in {HealthStatus.HEALTHY, HealthStatus.DEGRADED}
            for check in self.checks
        )

    def to_dict(self) -> dict[str, Any]:
        """Return the report as JSON-ready values."""
        return {
            "status": str(self.overall_status),
            "timestamp": self.timestamp.isoformat(),
            "checks": [check.to_dict() for check in self.checks],
        }


class HealthMonitor:
    """Runs registered checks side by side.

    *timeout* is how many seconds a check may take, *ttl* how many its result is kept. Raises
    `ValidationError` for a timeout that is not positive or a negative *ttl*.

    >>> from ops.observe import CallableHealthCheck
    >>> monitor = HealthMonitor()
    >>> monitor.register(CallableHealthCheck("queue", lambda: True))
    >>> monitor.check_all().is_ready
    True
    """

    def __init__(self, *, timeout: float = 5.0, ttl: float = 1.0) -> None:
        if not 0 < timeout <= threading.TIMEOUT_MAX or not ttl >= 0:
            raise ValidationError(f"timeout must be positive, ttl not negative: {timeout}, {ttl}.")
        self._timeout, self._ttl = timeout, ttl
        self._runners: dict[str, _Runner] = {}
        self._lock = threading.RLock()
        keep_over_forks(self)

    @property
    def mutex(self) -> threading.RLock:
        """The lock of the registrations; see `ops.foundation.forks`."""
        return self._lock

    def register(self, check: HealthCheck) -> None:
        """Add *check*; one of the same name is replaced.

        Raises `ValidationError` when it lacks `name`, `critical` or `run()`.
        """
        if not isinstance(check, HealthCheck):
            raise ValidationError(
                f"{check!r} is no health check: it needs name, critical and run()."
            )
        with self._lock:
            self._runners[check.name] = _Runner(check)

    def unregister(self, name: str) -> bool:
        """Remove the check called *name*; return whether there was one."""
        with self._lock:
            return self._runners.pop(name, None) is not None

    def check_all(self) -> HealthReport:
        """Run what has no fresh result, all at once, and return within the timeout."""
        with self._lock:
            runners = list(self._runners.values())
        deadline = monotonic() + self._timeout
        waits = [runner.start(self._ttl) for runner in runners]
        results = [
            runner.result(wait, max(0.0, deadline - monotonic()), self._timeout)
            for runner, wait in zip(runners, waits, strict=True)
        ]
        return HealthReport(tuple(results), dt.datetime.now(dt.UTC))

    def is_healthy(self) -> bool:
        """Liveness: this process answers. Nothing outside is consulted."""
        return True

    def is_ready(self) -> bool:
        """Readiness: every critical check passes or is merely degraded."""
        return self.check_all().is_ready


class _Runner:
    """One check and its last result; at most one run is under way."""

    def __init__(self, check: HealthCheck) -> None:
        self.check = check
        self._lock = threading.RLock()
        keep_over_forks(self)
        self._running: threading.Event | None = None
        self._process = os.getpid()
        self._last: CheckResult | None = None
        self._fresh_until = 0.0

    @property
    def mutex(self) -> threading.RLock:
        """The lock of the result; see `ops.foundation.forks`."""
        return self._lock

    def start(self, ttl: float) -> threading.Event | None:
        """Begin a run unless one is under way or the last is fresh; return what to wait for."""
        with self._lock:
            # A forked child has no thread that would end what was under way in its parent.
            if self._running is not None and self._process == os.getpid():
                return self._running
            if self._last is not None and monotonic() < self._fresh_until:
                return None
            done = self._running = threading.Event()
            self._process = os.getpid()
        thread = threading.Thread(
            target=self._run, args=(done, ttl), name=f"health-{self.check.name}", daemon=True
        )
        try:
            thread.start()
        except RuntimeError as error:  # no more threads: unhealthy, and to be tried again
            self._keep(done, _failed(error), monotonic(), 0.0)
        return done

    def result(self, wait: threading.Event | None, seconds: float, timeout: float) -> CheckResult:
        if wait is None or wait.wait(seconds):
            assert self._last is not None  # noqa: S101 - set before the event
            return self._last
        message = f"no answer within {timeout:g} s"
        name, critical = self.check.name, self.check.critical
        return CheckResult(name, HealthStatus.UNHEALTHY, message, timeout, critical=critical)

    def _run(self, done: threading.Event, ttl: float) -> None:
        start = monotonic()
        try:
            status, message, details = settled(self.check.run())
            finding: _Finding = HealthStatus(status), str(message), dict(details)
        except BaseException as error:  # noqa: BLE001 - a check may fail in any way, also by sys.exit
            finding = _failed(error)
        self._keep(done, finding, start, ttl)

    def _keep(self, done: threading.Event, finding: _Finding, start: float, ttl: float) -> None:
        end = monotonic()
        status, message, details = finding
        result = CheckResult(
            self.check.name, status, message, end - start, details, self.check.critical
        )
        with self._lock:
            self._last, self._fresh_until, self._running = result, end + ttl, None
        done.set()


def settled(outcome: Any) -> Any:
    """Return *outcome*, awaited if it is awaitable: a coroutine is true whatever it would find."""
    if not inspect.isawaitable(outcome):
        return outcome

    async def wait() -> Any:
        return await outcome

    return asyncio.run(wait())


def _failed(error: BaseException) -> _Finding:
    # Only the type: the text of a third-party error may hold a secret.
    return HealthStatus.UNHEALTHY, type(error).__name__, {}


_monitor = HealthMonitor()


def get_health_monitor() -> HealthMonitor:
    """Return the monitor of this process."""
    return _monitor


def check_health() -> HealthReport:
    """Run all checks of this process's monitor."""
    return _monitor.check_all()


def is_healthy() -> bool:
    """Liveness of this process."""
    return _monitor.is_healthy()


def is_ready() -> bool:
    """Readiness of this process: all its critical checks pass."""
    return _monitor.is_ready()
