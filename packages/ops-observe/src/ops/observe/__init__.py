"""What is going on inside a program: events, hooks, metrics, audit, health, system."""

from typing import TYPE_CHECKING

from ops.foundation.lazy import lazy_exports

if TYPE_CHECKING:
    from ops.observe.audit import (
        AuditEntry,
        AuditLogger,
    )
    from ops.observe.checks import (
        CallableHealthCheck,
        ComponentHealthCheck,
        DiskHealthCheck,
        MemoryHealthCheck,
        StorageHealthCheck,
    )
    from ops.observe.errors import (
        AuditChainError,
        MetricValueError,
        ObserveError,
        ObserveErrorCode,
        SignatureError,
    )
    from ops.observe.eventlog import (
        EventLog,
    )
    from ops.observe.events import (
        Event,
        EventEmitter,
        EventEmitterProtocol,
        Subscription,
        get_event_emitter,
    )
    from ops.observe.exporters import (
        PrometheusCollector,
        observe_with_opentelemetry,
        prometheus_text,
    )
    from ops.observe.health import (
        CheckResult,
        HealthCheck,
        HealthMonitor,
        HealthReport,
        HealthStatus,
        check_health,
        get_health_monitor,
        is_healthy,
        is_ready,
    )
    from ops.observe.hooks import (
        HooksManager,
        get_hooks_manager,
    )
    from ops.observe.journal import (
        Journal,
        Line,
    )
    from ops.observe.metrics import (
        Counter,
        MetricsCollector,
        MetricsSnapshot,
        Timer,
        get_metrics_collector,
    )
    from ops.observe.probes import (
        ProbeServer,
        serve_probes,
    )
    from ops.observe.resources import (
        ResourceMonitor,
    )
    from ops.observe.sketch import (
        RELATIVE_ERROR,
        Sketch,
        Stats,
    )
    from ops.observe.system import (
        SystemInfo,
        get_available_resources,
        get_cpu_usage,
        get_disk_usage,
        get_environment_type,
        get_gpu_info,
        get_memory_usage,
        get_process_info,
        get_system_info,
        is_docker_container,
        is_kubernetes_pod,
    )

__all__ = [
    "RELATIVE_ERROR",
    "AuditChainError",
    "AuditEntry",
    "AuditLogger",
    "CallableHealthCheck",
    "CheckResult",
    "ComponentHealthCheck",
    "Counter",
    "DiskHealthCheck",
    "Event",
    "EventEmitter",
    "EventEmitterProtocol",
    "EventLog",
    "HealthCheck",
    "HealthMonitor",
    "HealthReport",
    "HealthStatus",
    "HooksManager",
    "Journal",
    "Line",
    "MemoryHealthCheck",
    "MetricValueError",
    "MetricsCollector",
    "MetricsSnapshot",
    "ObserveError",
    "ObserveErrorCode",
    "ProbeServer",
    "PrometheusCollector",
    "ResourceMonitor",
    "SignatureError",
    "Sketch",
    "Stats",
    "StorageHealthCheck",
    "Subscription",
    "SystemInfo",
    "Timer",
    "check_health",
    "get_available_resources",
    "get_cpu_usage",
    "get_disk_usage",
    "get_environment_type",
    "get_event_emitter",
    "get_gpu_info",
    "get_health_monitor",
    "get_hooks_manager",
    "get_memory_usage",
    "get_metrics_collector",
    "get_process_info",
    "get_system_info",
    "is_docker_container",
    "is_healthy",
    "is_kubernetes_pod",
    "is_ready",
    "observe_with_opentelemetry",
    "prometheus_text",
    "serve_probes",
]

__getattr__, __dir__ = lazy_exports(
    __name__,
    {
        ".audit": (
            "AuditEntry",
            "AuditLogger",
        ),
        ".checks": (
            "CallableHealthCheck",
            "ComponentHealthCheck",
            "DiskHealthCheck",
            "MemoryHealthCheck",
            "StorageHealthCheck",
        ),
        ".errors": (
            "AuditChainError",
            "MetricValueError",
            "ObserveError",
            "ObserveErrorCode",
            "SignatureError",
        ),
        ".eventlog": ("EventLog",),
        ".events": (
            "Event",
            "EventEmitter",
            "EventEmitterProtocol",
            "Subscription",
            "get_event_emitter",
        ),
        ".exporters": (
            "PrometheusCollector",
            "observe_with_opentelemetry",
            "prometheus_text",
        ),
        ".health": (
            "CheckResult",
            "HealthCheck",
            "HealthMonitor",
            "HealthReport",
            "HealthStatus",
            "check_health",
            "get_health_monitor",
            "is_healthy",
            "is_ready",
        ),
        ".hooks": (
            "HooksManager",
            "get_hooks_manager",
        ),
        ".journal": (
            "Journal",
            "Line",
        ),
        ".metrics": (
            "Counter",
            "MetricsCollector",
            "MetricsSnapshot",
            "Timer",
            "get_metrics_collector",
        ),
        ".probes": (
            "ProbeServer",
            "serve_probes",
        ),
        ".resources": ("ResourceMonitor",),
        ".sketch": (
            "RELATIVE_ERROR",
            "Sketch",
            "Stats",
        ),
        ".system": (
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
        ),
    },
)
