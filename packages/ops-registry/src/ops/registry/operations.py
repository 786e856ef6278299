"""What surrounds every operation: hooks that may veto it, and events, counters and audit about it.

The registry and the tracker do their work between `before` and `after`. `before` runs the pre-hooks
and lets their error through unchanged, with nothing written yet. `after` is called when the work is
done and acknowledged: post-hooks and listeners that fail are logged, never undo it, never raise.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from ops.foundation.logs import get_logger
from ops.observe.events import get_event_emitter
from ops.observe.hooks import get_hooks_manager
from ops.registry.events import EventType

if TYPE_CHECKING:
    from ops.observe.audit import AuditLogger
    from ops.observe.events import EventEmitterProtocol
    from ops.observe.hooks import HooksManager
    from ops.observe.metrics import MetricsCollector
    from ops.registry.events import HookType

__all__ = ["Operations"]

logger = get_logger("ops.registry")

_SOURCE = "ops.registry"
_COUNTERS = {event: f"ops_registry_{event}" for event in EventType}


class Operations:
    """The emitter, hooks, metrics collector and audit log that one context uses.

    What is not given is the one the process shares; without *audit* nothing is audited.
    """

    def __init__(
        self,
        *,
        emitter: EventEmitterProtocol | None = None,
        hooks: HooksManager | None = None,
        metrics: MetricsCollector | None = None,
        audit: AuditLogger | None = None,
    ) -> None:
        self.emitter = get_event_emitter() if emitter is None else emitter
        self.hooks = get_hooks_manager() if hooks is None else hooks
        self._metrics = metrics
        self.audit = audit

    @property
    def metrics(self) -> MetricsCollector:
        """The collector that counts operations."""
        if self._metrics is None:
            from ops.observe.metrics import get_metrics_collector

            self._metrics = get_metrics_collector()
        return self._metrics

    def before(self, hook: HookType, data: dict[str, Any]) -> dict[str, Any]:
        """Return *data* as the pre-hooks leave it; what one of them raises is the veto."""
        changed: dict[str, Any] = self.hooks.execute(hook, data)
        return changed

    def before_each(self, hook: HookType, many: list[dict[str, Any]]) -> list[dict[str, Any]]:
        """Do as `before` for each of *many*."""
        if not self.hooks.hook_count(hook):
            return many
        return [self.before(hook, data) for data in many]

    def after_each(self, event: EventType, many: list[dict[str, Any]], *, hook: HookType) -> None:
        """Do as `after`, without audit, for each of *many*."""
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
        """Tell that an operation is done: counter, event, audit (with *resource*), post-hooks."""
        self.metrics.increment(_COUNTERS[event])
        self.emitter.emit(event, data, source=_SOURCE)
        if self.audit is not None and resource is not None:
            try:
                self.audit.log(event.value, resource=resource, status="success", details=data)
            except OSError:
                logger.exception("%s of %s could not be audited", event.value, resource)
        if hook is not None:
            self.hooks.execute(hook, data, on_error="log")
