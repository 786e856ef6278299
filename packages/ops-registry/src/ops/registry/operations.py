"""What surrounds every operation: hooks that may veto it, and events, counters and audit about it.

The registry and the tracker do their work between `before` and `after`. `before` runs the pre-hooks
and lets their error through unchanged, with nothing written yet. `after` is called when the work is
done and acknowledged: post-hooks and listeners that fail are logged, never undo it, never raise.
"""

from __future__ import annotations

import contextlib
import contextvars
import functools
import os
import sys
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any, TypeVar, cast

from ops.foundation.errors import LockTimeout, OpsError
from ops.foundation.logs import get_logger
from ops.observe.events import get_event_emitter
from ops.observe.hooks import get_hooks_manager
from ops.registry.errors import InvalidValueError, text_of
from ops.registry.events import EventType, HookType

if TYPE_CHECKING:
    import logging
    from collections.abc import Callable, Sequence

    from ops.observe.audit import AuditLogger
    from ops.observe.events import EventEmitter, EventEmitterProtocol
    from ops.observe.hooks import HooksManager
    from ops.observe.metrics import MetricsCollector

__all__ = ["Operations", "reported", "retried"]

logger: logging.Logger = get_logger("ops.registry")

_SOURCE = "ops.registry"
_COUNTERS = {event: f"ops_registry_{event}" for event in EventType}
_REPORTED = "_ops_registry_reported"
_CIRCUITS = {
    "open": EventType.CIRCUIT_OPENED,
    "half_open": EventType.CIRCUIT_HALF_OPENED,
    "closed": EventType.CIRCUIT_CLOSED,
}
#: The wiring of the operation that this thread, or this task, is in.
_current: contextvars.ContextVar[Operations | None] = contextvars.ContextVar(
    "ops_registry_operations", default=None
)
F = TypeVar("F", bound="Callable[..., Any]")


def reported(method: F) -> F:
    """Let the `_operations` of its object report errors and retries of a method."""

    @functools.wraps(method)
    def call(self: Any, *args: Any, **kwargs: Any) -> Any:
        token = _current.set(self._operations)
        try:
            return method(self, *args, **kwargs)
        except Exception as error:
            self._operations.failed(method.__name__, error)
            raise
        finally:
            _current.reset(token)

    return cast("F", call)


def retried(error: BaseException, attempt: int) -> None:
    """Report a retry after *error*, which attempt number *attempt* raised."""
    operations = _current.get() or Operations()
    data = {"error_type": type(error).__name__, "error": text_of(error), "attempt": attempt}
    operations.after(EventType.OPERATION_RETRIED, data, hook=HookType.ON_RETRY)


class Operations:
    """The emitter, hooks, metrics collector and audit log that one context uses.

    *emitter*, *hooks* and *metrics* that are not given are those that the process shares; without
    *audit* nothing is audited. *audit_path* is the file of *audit*, which another process opens too
    when this is sent there (pickle). *user* is who does it in audit entries, by default the account that
    the process runs as.
    """

    def __init__(
        self,
        *,
        emitter: EventEmitterProtocol | None = None,
        hooks: HooksManager | None = None,
        metrics: MetricsCollector | None = None,
        audit: AuditLogger | None = None,
        audit_path: str | None = None,
        user: str | None = None,
    ) -> None:
        self.emitter: EventEmitter | EventEmitterProtocol = (
            get_event_emitter() if emitter is None else emitter
        )
        self.hooks: HooksManager = get_hooks_manager() if hooks is None else hooks
        self._metrics = metrics
        self.audit = audit
        self.audit_path = audit_path
        self.user: str = account() if user is None else user

    def __reduce__(self) -> tuple[Any, ...]:
        """Arrive in another process with what that shares; hooks and subscribers are functions of this one."""
        return _arrived, (None if self.audit is None else self.audit_path, self.user)

    def audit_into(self, path: str) -> None:
        """Audit into the file *path* from now on."""
        from ops.observe.audit import AuditLogger

        self.audit, self.audit_path = AuditLogger(path), path

    @property
    def metrics(self) -> MetricsCollector:
        """The collector that counts operations."""
        if self._metrics is None:
            from ops.observe.metrics import get_metrics_collector

            self._metrics = get_metrics_collector()
        return self._metrics

    def before(
        self, hook: HookType, data: dict[str, Any], *, fixed: Sequence[str] = ()
    ) -> dict[str, Any]:
        """Return *data* as the pre-hooks of *hook* leave it; what one of them raises is the veto.

        What comes back is what is done and reported: the caller uses it and nothing else. A hook
        that leaves a key out has not changed it. *fixed* keys name what the operation is about.

        Raises:
            InvalidValueError: a hook returned no mapping, or changed a fixed key.
        """
        if not self.hooks.hook_count(hook):
            return data
        before = dict(data)
        changed = self.hooks.execute(hook, data)
        if not isinstance(changed, Mapping):
            raise InvalidValueError(
                f"A hook of {hook} returned {changed!r:.80}; it must be a mapping or nothing."
            )
        found = {**before, **changed}
        for key in fixed:
            if found[key] != before[key]:
                raise InvalidValueError(
                    f"A hook of {hook} changed {key!r} from {before[key]!r:.80} to {found[key]!r:.80}, "
                    "which it may not: refuse the operation by raising instead."
                )
        return found

    def before_each(
        self, hook: HookType, many: list[dict[str, Any]], *, fixed: Sequence[str] = ()
    ) -> list[dict[str, Any]]:
        """Do as `before` for each of *many*; *hook* and *fixed* are the same for all."""
        if not self.hooks.hook_count(hook):
            return many
        return [self.before(hook, data, fixed=fixed) for data in many]

    def failed(self, operation: str, error: BaseException) -> None:
        """Report that an operation raises: hooks, event; also a lock that it waited for in vain."""
        if getattr(error, _REPORTED, False):  # by an operation inside of this one
            return
        with contextlib.suppress(AttributeError):  # some errors take no attributes
            setattr(error, _REPORTED, True)
        data = {
            "operation": operation,
            "error_type": type(error).__name__,
            "error": text_of(error),
            "code": str(getattr(error, "error_code", "")) or None,
        }
        if isinstance(error, LockTimeout):
            self.after(EventType.LOCK_TIMEOUT, data)
        self.after(EventType.OPERATION_FAILED, data, hook=HookType.ON_ERROR)

    def circuit_observer(self, name: str) -> Callable[[Any, Any], None]:
        """Return what a `CircuitBreaker` takes as *on_state_change*, so that its changes are events here."""

        def observe(before: Any, after: Any) -> None:
            event = _CIRCUITS.get(str(after).lower().replace("-", "_"))
            if event is not None:
                self.after(event, {"circuit": name, "before": str(before), "after": str(after)})

        return observe

    def after_each(self, event: EventType, many: list[dict[str, Any]], *, hook: HookType) -> None:
        """Do as `after`, without audit, for each of *many*; *event* and *hook* are the same for all."""
        self.metrics.increment(_COUNTERS[event], len(many))
        emit = self.emitter.emit
        for data in many:
            emit(event, data, source=_SOURCE)
        if self.hooks.hook_count(hook):
            for data in many:
                self.hooks.execute(hook, data, on_error="log")

    def after(
        self,
        event: EventType,
        data: dict[str, Any],
        *,
        hook: HookType | None = None,
        resource: str | None = None,
    ) -> None:
        """Report that an operation is done: counter, *event* with *data*, audit (with *resource*), post-hooks of *hook*."""
        self.metrics.increment(_COUNTERS[event])
        self.emitter.emit(event, data, source=_SOURCE)
        if self.audit is not None and resource is not None:
            try:
                self.audit.log(event.value, user=self.user, resource=resource, details=data)
            except (OSError, OpsError):
                logger.exception("%s of %s could not be audited", event.value, resource)
        if hook is not None:
            self.hooks.execute(hook, data, on_error="log")


def account() -> str:
    """Return the name of the account that this process runs as, or its number where it has no name.

    The kernel knows it: `USER` and the like are what a caller claims.
    """
    if sys.platform == "win32":
        import getpass

        return getpass.getuser()
    import pwd

    number = os.geteuid()
    try:
        return pwd.getpwuid(number).pw_name
    except KeyError:
        return f"uid {number}"


def _arrived(audit_path: str | None, user: str) -> Operations:
    """Return the wiring of this process, with the audit log that the other one had."""
    operations = Operations(user=user)
    if audit_path is not None:
        operations.audit_into(audit_path)
    return operations
