"""What is going on inside a program: events, hooks, metrics, audit, health, system."""

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from ops.observe.audit import AuditEntry as AuditEntry
    from ops.observe.audit import AuditLogger as AuditLogger
    from ops.observe.checks import CallableHealthCheck as CallableHealthCheck
    from ops.observe.checks import ComponentHealthCheck as ComponentHealthCheck
    from ops.observe.checks import DiskHealthCheck as DiskHealthCheck
    from ops.observe.checks import MemoryHealthCheck as MemoryHealthCheck
    from ops.observe.checks import StorageHealthCheck as StorageHealthCheck
    from ops.observe.errors import AuditChainError as AuditChainError
    from ops.observe.errors import MetricValueError as MetricValueError
    from ops.observe.errors import ObserveError as ObserveError
    from ops.observe.errors import ObserveErrorCode as ObserveErrorCode
    from ops.observe.errors import SignatureError as SignatureError
    from ops.observe.eventlog import EventLog as EventLog
    from ops.observe.events import Event as Event
    from ops.observe.events import EventEmitter as EventEmitter
    from ops.observe.events import EventEmitterProtocol as EventEmitterProtocol
    from ops.observe.events import Subscription as Subscription
    from ops.observe.events import get_event_emitter as get_event_emitter
    from ops.observe.exporters import PrometheusCollector as PrometheusCollector
    from ops.observe.exporters import openmetrics_text as openmetrics_text
    from ops.observe.exporters import prometheus_text as prometheus_text
    from ops.observe.health import CheckResult as CheckResult
    from ops.observe.health import HealthCheck as HealthCheck
    from ops.observe.health import HealthMonitor as HealthMonitor
    from ops.observe.health import HealthReport as HealthReport
    from ops.observe.health import HealthStatus as HealthStatus
    from ops.observe.health import check_health as check_health
    from ops.observe.health import get_health_monitor as get_health_monitor
    from ops.observe.health import is_healthy as is_healthy
    from ops.observe.health import is_ready as is_ready
    from ops.observe.hooks import HooksManager as HooksManager
    from ops.observe.hooks import get_hooks_manager as get_hooks_manager
    from ops.observe.journal import Journal as Journal
    from ops.observe.journal import Line as Line
    from ops.observe.metrics import Counter as Counter
    from ops.observe.metrics import MetricDescription as MetricDescription
    from ops.observe.metrics import MetricsCollector as MetricsCollector
    from ops.observe.metrics import MetricsSnapshot as MetricsSnapshot
    from ops.observe.metrics import get_metrics_collector as get_metrics_collector
    from ops.observe.multiprocess import MultiprocessMetrics as MultiprocessMetrics
    from ops.observe.otel import observe_with_opentelemetry as observe_with_opentelemetry
    from ops.observe.probes import ProbeServer as ProbeServer
    from ops.observe.probes import serve_probes as serve_probes
    from ops.observe.resources import ResourceMonitor as ResourceMonitor
    from ops.observe.sketch import RELATIVE_ERROR as RELATIVE_ERROR
    from ops.observe.sketch import WINDOW_SECONDS as WINDOW_SECONDS
    from ops.observe.sketch import Sketch as Sketch
    from ops.observe.sketch import Stats as Stats
    from ops.observe.system import SystemInfo as SystemInfo
    from ops.observe.system import get_available_resources as get_available_resources
    from ops.observe.system import get_cpu_usage as get_cpu_usage
    from ops.observe.system import get_disk_usage as get_disk_usage
    from ops.observe.system import get_environment_type as get_environment_type
    from ops.observe.system import get_gpu_info as get_gpu_info
    from ops.observe.system import get_memory_usage as get_memory_usage
    from ops.observe.system import get_process_info as get_process_info
    from ops.observe.system import get_system_info as get_system_info
    from ops.observe.system import is_docker_container as is_docker_container
    from ops.observe.system import is_kubernetes_pod as is_kubernetes_pod
    from ops.observe.timing import Timer as Timer
else:  # Written by `nox -s lint -- --fix` from the imports above.
    from ops.foundation.lazy import lazy_exports

    __all__, __getattr__, __dir__ = lazy_exports(
        __name__,
        {
            ".audit": "AuditEntry AuditLogger",
            ".checks": (
                "CallableHealthCheck ComponentHealthCheck DiskHealthCheck MemoryHealthCheck "
                "StorageHealthCheck"
            ),
            ".errors": (
                "AuditChainError MetricValueError ObserveError ObserveErrorCode SignatureError"
            ),
            ".eventlog": "EventLog",
            ".events": "Event EventEmitter EventEmitterProtocol Subscription get_event_emitter",
            ".exporters": "PrometheusCollector openmetrics_text prometheus_text",
            ".health": (
                "CheckResult HealthCheck HealthMonitor HealthReport HealthStatus check_health "
                "get_health_monitor is_healthy is_ready"
            ),
            ".hooks": "HooksManager get_hooks_manager",
            ".journal": "Journal Line",
            ".metrics": (
                "Counter MetricDescription MetricsCollector MetricsSnapshot get_metrics_collector"
            ),
            ".multiprocess": "MultiprocessMetrics",
            ".otel": "observe_with_opentelemetry",
            ".probes": "ProbeServer serve_probes",
            ".resources": "ResourceMonitor",
            ".sketch": "RELATIVE_ERROR Sketch Stats WINDOW_SECONDS",
            ".system": (
                "SystemInfo get_available_resources get_cpu_usage get_disk_usage "
                "get_environment_type get_gpu_info get_memory_usage get_process_info "
                "get_system_info is_docker_container is_kubernetes_pod"
            ),
            ".timing": "Timer",
        },
    )
