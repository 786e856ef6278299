"""Model registry and experiment tracking on local files, with no server.

Names load on first use. Events, hooks, metrics, audit and health are those of ops.observe, given here
for one import.
"""

from typing import TYPE_CHECKING

from ops.foundation.lazy import lazy_exports

if TYPE_CHECKING:
    from ops.cache import (
        BatchOperation,
        BatchProcessor,
        CachedStorage,
        CacheKeyBuilder,
        LRUCache,
        TwoLevelCache,
    )
    from ops.foundation.errors import (
        ErrorContext,
        create_error_response,
        wrap_exception,
    )
    from ops.foundation.locks import (
        FileLock,
        LockProtocol,
        ReadWriteLock,
    )
    from ops.foundation.optimistic import (
        OptimisticLock,
    )
    from ops.observe.audit import (
        AuditLogger,
    )
    from ops.observe.checks import (
        CallableHealthCheck,
        ComponentHealthCheck,
        DiskHealthCheck,
        MemoryHealthCheck,
        StorageHealthCheck,
    )
    from ops.observe.events import (
        Event,
        EventEmitter,
        EventEmitterProtocol,
        get_event_emitter,
    )
    from ops.observe.health import (
        HealthMonitor,
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
    from ops.observe.metrics import (
        MetricsCollector,
        get_metrics_collector,
    )
    from ops.registry.components import (
        BaseMLOpsComponent,
        ComponentState,
    )
    from ops.registry.configuration import (
        CacheOptions,
        ExperimentOptions,
        HealthOptions,
        MLOpsConfig,
        PlaceOptions,
        is_ml_pipeline,
        merge_options,
    )
    from ops.registry.context import (
        MLOpsContext,
        activate,
        get_mlops_context,
        init_mlops,
        is_mlops_initialized,
        reset_mlops_context,
    )
    from ops.registry.databricks.storing import (
        DatabricksStorageBackend,
    )
    from ops.registry.disk.layout import (
        PathManager,
    )
    from ops.registry.disk.storage import (
        LocalStorageBackend,
    )
    from ops.registry.disk.transactions import (
        SafeTransaction,
        Transaction,
    )
    from ops.registry.errors import (
        AlreadyExistsError,
        ArtifactNotFoundError,
        BackendUnavailableError,
        ComponentStateError,
        ConfigurationError,
        CorruptStoreError,
        ErrorCode,
        ExperimentNotFoundError,
        FilterError,
        InvalidValueError,
        MLOpsException,
        ModelNotFoundError,
        ModelVersionNotFoundError,
        NotFoundError,
        RunNotFoundError,
        StorageError,
        TransactionError,
    )
    from ops.registry.events import (
        EventType,
        HookType,
    )
    from ops.registry.factories import (
        ExperimentTrackerFactory,
        ModelRegistryFactory,
        StorageBackendFactory,
    )
    from ops.registry.models.flavors import (
        register_flavor,
    )
    from ops.registry.models.registry import (
        ModelRegistry,
    )
    from ops.registry.operations import (
        Operations,
    )
    from ops.registry.page import (
        write_page,
    )
    from ops.registry.protocols import (
        ExperimentTrackerProtocol,
        ModelRegistryProtocol,
        StorageBackendProtocol,
    )
    from ops.registry.records import (
        Artifact,
        Experiment,
        Metric,
        MetricSummary,
        ModelMetadata,
        ModelStage,
        ModelVersion,
        Run,
        RunStatus,
        StageChange,
    )
    from ops.registry.tracking.autologging import (
        Autolog,
        autolog,
    )
    from ops.registry.tracking.sysmetrics import (
        SystemMetrics,
    )
    from ops.registry.tracking.tracker import (
        ExperimentTracker,
    )
    from ops.registry.validators import (
        ValidationMixin,
    )
    from ops.resilience.backoff import (
        RetryConfig,
    )
    from ops.resilience.breaker import (
        CircuitBreaker,
    )
    from ops.resilience.retrying import (
        with_retry,
    )

__all__ = [
    "AlreadyExistsError",
    "Artifact",
    "ArtifactNotFoundError",
    "AuditLogger",
    "Autolog",
    "BackendUnavailableError",
    "BaseMLOpsComponent",
    "BatchOperation",
    "BatchProcessor",
    "CacheKeyBuilder",
    "CacheOptions",
    "CachedStorage",
    "CallableHealthCheck",
    "CircuitBreaker",
    "ComponentHealthCheck",
    "ComponentState",
    "ComponentStateError",
    "ConfigurationError",
    "CorruptStoreError",
    "DatabricksStorageBackend",
    "DiskHealthCheck",
    "ErrorCode",
    "ErrorContext",
    "Event",
    "EventEmitter",
    "EventEmitterProtocol",
    "EventType",
    "Experiment",
    "ExperimentNotFoundError",
    "ExperimentOptions",
    "ExperimentTracker",
    "ExperimentTrackerFactory",
    "ExperimentTrackerProtocol",
    "FileLock",
    "FilterError",
    "HealthMonitor",
    "HealthOptions",
    "HealthStatus",
    "HookType",
    "HooksManager",
    "InvalidValueError",
    "LRUCache",
    "LocalStorageBackend",
    "LockProtocol",
    "MLOpsConfig",
    "MLOpsContext",
    "MLOpsException",
    "MemoryHealthCheck",
    "Metric",
    "MetricSummary",
    "MetricsCollector",
    "ModelMetadata",
    "ModelNotFoundError",
    "ModelRegistry",
    "ModelRegistryFactory",
    "ModelRegistryProtocol",
    "ModelStage",
    "ModelVersion",
    "ModelVersionNotFoundError",
    "NotFoundError",
    "Operations",
    "OptimisticLock",
    "PathManager",
    "PlaceOptions",
    "ReadWriteLock",
    "RetryConfig",
    "Run",
    "RunNotFoundError",
    "RunStatus",
    "SafeTransaction",
    "StageChange",
    "StorageBackendFactory",
    "StorageBackendProtocol",
    "StorageError",
    "StorageHealthCheck",
    "SystemMetrics",
    "Transaction",
    "TransactionError",
    "TwoLevelCache",
    "ValidationMixin",
    "activate",
    "autolog",
    "check_health",
    "create_error_response",
    "get_event_emitter",
    "get_health_monitor",
    "get_hooks_manager",
    "get_metrics_collector",
    "get_mlops_context",
    "init_mlops",
    "is_healthy",
    "is_ml_pipeline",
    "is_mlops_initialized",
    "is_ready",
    "merge_options",
    "register_flavor",
    "reset_mlops_context",
    "with_retry",
    "wrap_exception",
    "write_page",
]

__getattr__, __dir__ = lazy_exports(
    __name__,
    {
        ".context": (
            "MLOpsContext",
            "activate",
            "get_mlops_context",
            "init_mlops",
            "is_mlops_initialized",
            "reset_mlops_context",
        ),
        ".errors": (
            "AlreadyExistsError",
            "ArtifactNotFoundError",
            "BackendUnavailableError",
            "ComponentStateError",
            "ConfigurationError",
            "CorruptStoreError",
            "ErrorCode",
            "ExperimentNotFoundError",
            "FilterError",
            "InvalidValueError",
            "MLOpsException",
            "ModelNotFoundError",
            "ModelVersionNotFoundError",
            "NotFoundError",
            "RunNotFoundError",
            "StorageError",
            "TransactionError",
        ),
        ".events": (
            "EventType",
            "HookType",
        ),
        ".models.flavors": ("register_flavor",),
        ".models.registry": ("ModelRegistry",),
        ".operations": ("Operations",),
        ".page": ("write_page",),
        ".protocols": (
            "ExperimentTrackerProtocol",
            "ModelRegistryProtocol",
            "StorageBackendProtocol",
        ),
        ".records": (
            "Artifact",
            "Experiment",
            "Metric",
            "MetricSummary",
            "ModelMetadata",
            "ModelStage",
            "ModelVersion",
            "Run",
            "RunStatus",
            "StageChange",
        ),
        ".databricks.storing": ("DatabricksStorageBackend",),
        ".disk.storage": ("LocalStorageBackend",),
        ".tracking.tracker": ("ExperimentTracker",),
        ".disk.transactions": ("SafeTransaction", "Transaction"),
        ".components": ("BaseMLOpsComponent", "ComponentState"),
        ".disk.layout": ("PathManager",),
        ".validators": ("ValidationMixin",),
        ".configuration": (
            "CacheOptions",
            "ExperimentOptions",
            "HealthOptions",
            "MLOpsConfig",
            "PlaceOptions",
            "is_ml_pipeline",
            "merge_options",
        ),
        ".factories": ("ExperimentTrackerFactory", "ModelRegistryFactory", "StorageBackendFactory"),
        ".tracking.autologging": ("Autolog", "autolog"),
        ".tracking.sysmetrics": ("SystemMetrics",),
        "ops.cache": (
            "BatchOperation",
            "BatchProcessor",
            "CacheKeyBuilder",
            "CachedStorage",
            "LRUCache",
            "TwoLevelCache",
        ),
        "ops.foundation.errors": (
            "ErrorContext",
            "create_error_response",
            "wrap_exception",
        ),
        "ops.foundation.locks": (
            "FileLock",
            "LockProtocol",
            "ReadWriteLock",
        ),
        "ops.foundation.optimistic": ("OptimisticLock",),
        "ops.observe.audit": ("AuditLogger",),
        "ops.observe.checks": (
            "CallableHealthCheck",
            "ComponentHealthCheck",
            "DiskHealthCheck",
            "MemoryHealthCheck",
            "StorageHealthCheck",
        ),
        "ops.observe.events": (
            "Event",
            "EventEmitter",
            "EventEmitterProtocol",
            "get_event_emitter",
        ),
        "ops.observe.health": (
            "HealthMonitor",
            "HealthStatus",
            "check_health",
            "get_health_monitor",
            "is_healthy",
            "is_ready",
        ),
        "ops.observe.hooks": (
            "HooksManager",
            "get_hooks_manager",
        ),
        "ops.observe.metrics": (
            "MetricsCollector",
            "get_metrics_collector",
        ),
        "ops.resilience.backoff": ("RetryConfig",),
        "ops.resilience.breaker": ("CircuitBreaker",),
        "ops.resilience.retrying": ("with_retry",),
    },
)
