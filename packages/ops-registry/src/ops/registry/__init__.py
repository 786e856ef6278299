"""Model registry and experiment tracking on local files, with no server.

Names load on first use. Events, hooks, metrics, audit and health are those of ops.observe, given here
for one import.
"""

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from ops.cache import BatchOperation as BatchOperation
    from ops.cache import BatchProcessor as BatchProcessor
    from ops.cache import CachedStorage as CachedStorage
    from ops.cache import CacheKeyBuilder as CacheKeyBuilder
    from ops.cache import LRUCache as LRUCache
    from ops.cache import TwoLevelCache as TwoLevelCache
    from ops.foundation.errors import ErrorContext as ErrorContext
    from ops.foundation.errors import create_error_response as create_error_response
    from ops.foundation.locks import FileLock as FileLock
    from ops.foundation.locks import LockProtocol as LockProtocol
    from ops.foundation.locks import ReadWriteLock as ReadWriteLock
    from ops.foundation.optimistic import OptimisticLock as OptimisticLock
    from ops.observe.audit import AuditLogger as AuditLogger
    from ops.observe.checks import CallableHealthCheck as CallableHealthCheck
    from ops.observe.checks import ComponentHealthCheck as ComponentHealthCheck
    from ops.observe.checks import DiskHealthCheck as DiskHealthCheck
    from ops.observe.checks import MemoryHealthCheck as MemoryHealthCheck
    from ops.observe.checks import StorageHealthCheck as StorageHealthCheck
    from ops.observe.events import Event as Event
    from ops.observe.events import EventEmitter as EventEmitter
    from ops.observe.events import EventEmitterProtocol as EventEmitterProtocol
    from ops.observe.events import get_event_emitter as get_event_emitter
    from ops.observe.health import HealthMonitor as HealthMonitor
    from ops.observe.health import HealthStatus as HealthStatus
    from ops.observe.health import check_health as check_health
    from ops.observe.health import get_health_monitor as get_health_monitor
    from ops.observe.health import is_healthy as is_healthy
    from ops.observe.health import is_ready as is_ready
    from ops.observe.hooks import HooksManager as HooksManager
    from ops.observe.hooks import get_hooks_manager as get_hooks_manager
    from ops.observe.metrics import MetricsCollector as MetricsCollector
    from ops.observe.metrics import get_metrics_collector as get_metrics_collector
    from ops.registry.autologging import Autolog as Autolog
    from ops.registry.autologging import autolog as autolog
    from ops.registry.components import BaseMLOpsComponent as BaseMLOpsComponent
    from ops.registry.components import ComponentState as ComponentState
    from ops.registry.configuration import CacheOptions as CacheOptions
    from ops.registry.configuration import ExperimentOptions as ExperimentOptions
    from ops.registry.configuration import HealthOptions as HealthOptions
    from ops.registry.configuration import MLOpsConfig as MLOpsConfig
    from ops.registry.configuration import PlaceOptions as PlaceOptions
    from ops.registry.configuration import is_ml_pipeline as is_ml_pipeline
    from ops.registry.configuration import merge_options as merge_options
    from ops.registry.context import MLOpsContext as MLOpsContext
    from ops.registry.context import activate as activate
    from ops.registry.context import get_mlops_context as get_mlops_context
    from ops.registry.context import init_mlops as init_mlops
    from ops.registry.context import is_mlops_initialized as is_mlops_initialized
    from ops.registry.context import reset_mlops_context as reset_mlops_context
    from ops.registry.databricks.storage import DatabricksStorageBackend as DatabricksStorageBackend
    from ops.registry.disk.layout import PathManager as PathManager
    from ops.registry.disk.storage import LocalStorageBackend as LocalStorageBackend
    from ops.registry.disk.transactions import SafeTransaction as SafeTransaction
    from ops.registry.disk.transactions import Transaction as Transaction
    from ops.registry.errors import AlreadyExistsError as AlreadyExistsError
    from ops.registry.errors import ArtifactNotFoundError as ArtifactNotFoundError
    from ops.registry.errors import BackendUnavailableError as BackendUnavailableError
    from ops.registry.errors import ComponentStateError as ComponentStateError
    from ops.registry.errors import ConfigurationError as ConfigurationError
    from ops.registry.errors import CorruptStoreError as CorruptStoreError
    from ops.registry.errors import ErrorCode as ErrorCode
    from ops.registry.errors import ExperimentNotFoundError as ExperimentNotFoundError
    from ops.registry.errors import FilterError as FilterError
    from ops.registry.errors import InvalidValueError as InvalidValueError
    from ops.registry.errors import MLOpsException as MLOpsException
    from ops.registry.errors import ModelNotFoundError as ModelNotFoundError
    from ops.registry.errors import ModelVersionNotFoundError as ModelVersionNotFoundError
    from ops.registry.errors import NotFoundError as NotFoundError
    from ops.registry.errors import RunNotFoundError as RunNotFoundError
    from ops.registry.errors import StorageError as StorageError
    from ops.registry.errors import TransactionError as TransactionError
    from ops.registry.errors import wrap_exception as wrap_exception
    from ops.registry.events import EventType as EventType
    from ops.registry.events import HookType as HookType
    from ops.registry.factories import ExperimentTrackerFactory as ExperimentTrackerFactory
    from ops.registry.factories import ModelRegistryFactory as ModelRegistryFactory
    from ops.registry.factories import StorageBackendFactory as StorageBackendFactory
    from ops.registry.html_report import write_page as write_page
    from ops.registry.models.flavors import register_flavor as register_flavor
    from ops.registry.models.registry import ModelRegistry as ModelRegistry
    from ops.registry.operations import Operations as Operations
    from ops.registry.protocols import ExperimentTrackerProtocol as ExperimentTrackerProtocol
    from ops.registry.protocols import ModelRegistryProtocol as ModelRegistryProtocol
    from ops.registry.protocols import StorageBackendProtocol as StorageBackendProtocol
    from ops.registry.records import Artifact as Artifact
    from ops.registry.records import Experiment as Experiment
    from ops.registry.records import Metric as Metric
    from ops.registry.records import MetricSummary as MetricSummary
    from ops.registry.records import ModelMetadata as ModelMetadata
    from ops.registry.records import ModelStage as ModelStage
    from ops.registry.records import ModelVersion as ModelVersion
    from ops.registry.records import Run as Run
    from ops.registry.records import RunStatus as RunStatus
    from ops.registry.records import StageChange as StageChange
    from ops.registry.tracking.system_metrics import SystemMetrics as SystemMetrics
    from ops.registry.tracking.tracker import ExperimentTracker as ExperimentTracker
    from ops.registry.validators import ValidationMixin as ValidationMixin
    from ops.resilience.backoff import RetryConfig as RetryConfig
    from ops.resilience.breaker import CircuitBreaker as CircuitBreaker
    from ops.resilience.retrying import with_retry as with_retry
else:  # Written by `nox -s lint -- --fix` from the imports above.
    from ops.foundation.lazy import lazy_exports

    __all__, __getattr__, __dir__ = lazy_exports(
        __name__,
        {
            ".autologging": "Autolog autolog",
            ".components": "BaseMLOpsComponent ComponentState",
            ".configuration": (
                "CacheOptions ExperimentOptions HealthOptions MLOpsConfig PlaceOptions "
                "is_ml_pipeline merge_options"
            ),
            ".context": (
                "MLOpsContext activate get_mlops_context init_mlops is_mlops_initialized "
                "reset_mlops_context"
            ),
            ".databricks.storage": "DatabricksStorageBackend",
            ".disk.layout": "PathManager",
            ".disk.storage": "LocalStorageBackend",
            ".disk.transactions": "SafeTransaction Transaction",
            ".errors": (
                "AlreadyExistsError ArtifactNotFoundError BackendUnavailableError "
                "ComponentStateError ConfigurationError CorruptStoreError ErrorCode "
                "ExperimentNotFoundError FilterError InvalidValueError MLOpsException "
                "ModelNotFoundError ModelVersionNotFoundError NotFoundError RunNotFoundError "
                "StorageError TransactionError wrap_exception"
            ),
            ".events": "EventType HookType",
            ".factories": "ExperimentTrackerFactory ModelRegistryFactory StorageBackendFactory",
            ".html_report": "write_page",
            ".models.flavors": "register_flavor",
            ".models.registry": "ModelRegistry",
            ".operations": "Operations",
            ".protocols": "ExperimentTrackerProtocol ModelRegistryProtocol StorageBackendProtocol",
            ".records": (
                "Artifact Experiment Metric MetricSummary ModelMetadata ModelStage ModelVersion Run "
                "RunStatus StageChange"
            ),
            ".tracking.system_metrics": "SystemMetrics",
            ".tracking.tracker": "ExperimentTracker",
            ".validators": "ValidationMixin",
            "ops.cache": (
                "BatchOperation BatchProcessor CacheKeyBuilder CachedStorage LRUCache TwoLevelCache"
            ),
            "ops.foundation.errors": "ErrorContext create_error_response",
            "ops.foundation.locks": "FileLock LockProtocol ReadWriteLock",
            "ops.foundation.optimistic": "OptimisticLock",
            "ops.observe.audit": "AuditLogger",
            "ops.observe.checks": (
                "CallableHealthCheck ComponentHealthCheck DiskHealthCheck MemoryHealthCheck "
                "StorageHealthCheck"
            ),
            "ops.observe.events": "Event EventEmitter EventEmitterProtocol get_event_emitter",
            "ops.observe.health": (
                "HealthMonitor HealthStatus check_health get_health_monitor is_healthy is_ready"
            ),
            "ops.observe.hooks": "HooksManager get_hooks_manager",
            "ops.observe.metrics": "MetricsCollector get_metrics_collector",
            "ops.resilience.backoff": "RetryConfig",
            "ops.resilience.breaker": "CircuitBreaker",
            "ops.resilience.retrying": "with_retry",
        },
    )
