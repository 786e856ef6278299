"""How users call ops.observe."""

from __future__ import annotations

from typing import assert_type

from ops.observe import (
    AuditLogger,
    Event,
    EventEmitter,
    HealthReport,
    MetricsCollector,
    ResourceMonitor,
    check_health,
)


def listen(event: Event) -> None:
    print(event.data)


emitter = EventEmitter()
emitter.subscribe("x", listen)
emitter.emit("x", {"a": 1}, source="here")
metrics = MetricsCollector()


@metrics.timer("work")
def work(x: int) -> str:
    return str(x)


assert_type(work(1), str)
assert_type(check_health(), HealthReport)
assert_type(metrics.get_counter("c"), float)
for entry in AuditLogger("x").query(user="me"):
    assert_type(entry.action, str)
with ResourceMonitor(interval=0.5) as monitor:
    monitor.get_stats()
