"""Model registry and experiment tracking on local files, with no server.

Names load on first use. Events, hooks, metrics, audit and health are those of ops.observe, given here
for one import.
"""

from typing import TYPE_CHECKING

from ops.foundation.lazy import lazy_exports

if TYPE_CHECKING:
    from ops.cache.batches import (
        BatchOperation,
        BatchProcessor,
    )
    from ops.cache.layers import (
        CachedStorage,
        CacheKeyBuilder,
        TwoLevelCache,
    )
    from ops.cache.lru import (
        LRUCache,
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
    from ops.registry.context import (
        MLOpsConfig,
        MLOpsContext,
        get_mlops_context,
        init_mlops,
        is_mlops_initialized,
        reset_mlops_context,
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
    from ops.registry.flavors import (
        register_flavor,
    )
    from ops.registry.layout import (
        PathManager,
    )
    from ops.registry.model_registry import (
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
    from ops.registry.storage import (
        LocalStorageBackend,
    )
    from ops.registry.tracker import (
        ExperimentTracker,
    )
    from ops.registry.transactions import (
        SafeTransaction,
        Transaction,
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
    "BackendUnavailableError",
    "BaseMLOpsComponent",
    "BatchOperation",
    "BatchProcessor",
    "CacheKeyBuilder",
    "CachedStorage",
    "CallableHealthCheck",
    "CircuitBreaker",
    "ComponentHealthCheck",
    "ComponentState",
    "ComponentStateError",
    "ConfigurationError",
    "CorruptStoreError",
    "DiskHealthCheck",
    "ErrorCode",
    "ErrorContext",
    "Event",
    "EventEmitter",
    "EventEmitterProtocol",
    "EventType",
    "Experiment",
    "ExperimentNotFoundError",
    "ExperimentTracker",
    "ExperimentTrackerProtocol",
    "FileLock",
    "FilterError",
    "HealthMonitor",
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
    "ModelRegistryProtocol",
    "ModelStage",
    "ModelVersion",
    "ModelVersionNotFoundError",
    "NotFoundError",
    "Operations",
    "OptimisticLock",
    "PathManager",
    "ReadWriteLock",
    "RetryConfig",
    "Run",
    "RunNotFoundError",
    "RunStatus",
    "SafeTransaction",
    "StageChange",
    "StorageBackendProtocol",
    "StorageError",
    "StorageHealthCheck",
    "Transaction",
    "TransactionError",
    "TwoLevelCache",
    "ValidationMixin",
    "check_health",
    "create_error_response",
    "get_event_emitter",
    "get_health_monitor",
    "get_hooks_manager",
    "get_metrics_collector",
    "get_mlops_context",
    "init_mlops",
    "is_healthy",
    "is_mlops_initialized",
    "is_ready",
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
            "MLOpsConfig",
            "MLOpsContext",
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
        ".flavors": ("register_flavor",),
        ".model_registry": ("ModelRegistry",),
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
        ".storage": ("LocalStorageBackend",),
        ".tracker": ("ExperimentTracker",),
        ".transactions": ("SafeTransaction", "Transaction"),
        ".components": ("BaseMLOpsComponent", "ComponentState"),
        ".layout": ("PathManager",),
        ".validators": ("ValidationMixin",),
        "ops.cache.batches": (
            "BatchOperation",
            "BatchProcessor",
        ),
        "ops.cache.layers": (
            "CacheKeyBuilder",
            "CachedStorage",
            "TwoLevelCache",
        ),
        "ops.cache.lru": ("LRUCache",),
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
