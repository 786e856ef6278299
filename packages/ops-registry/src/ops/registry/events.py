"""The names of what ops.registry reports (events) and of where callers may take part (hooks).

Emitters and hooks themselves are `ops.observe`'s. Every name here is emitted or executed by some
operation of this package; names of what does not exist yet are added with it.
"""

from __future__ import annotations

from enum import StrEnum

__all__ = ["EventType", "HookType"]


class EventType(StrEnum):
    """What happened; the data of an event is a dict with the ids and names involved."""

    EXPERIMENT_CREATED = "experiment_created"
    RUN_STARTED = "run_started"
    RUN_ENDED = "run_ended"
    RUN_COMPLETED = "run_completed"
    RUN_FAILED = "run_failed"
    RUN_CANCELLED = "run_cancelled"
    METRIC_LOGGED = "metric_logged"
    PARAMETER_LOGGED = "parameter_logged"
    TAG_SET = "tag_set"
    ARTIFACT_LOGGED = "artifact_logged"
    MODEL_REGISTERED = "model_registered"
    MODEL_PROMOTED = "model_promoted"
    MODEL_ARCHIVED = "model_archived"
    MODEL_VERSION_DELETED = "model_version_deleted"
    MODEL_DESCRIBED = "model_described"
    MODEL_DELETED = "model_deleted"
    MODEL_ALIAS_SET = "model_alias_set"
    MODEL_ALIAS_DELETED = "model_alias_deleted"
    MODEL_DOWNLOADED = "model_downloaded"
    INDEX_COMPACTED = "index_compacted"
    STORAGE_WRITTEN = "storage_written"
    STORAGE_READ = "storage_read"
    STORAGE_DELETED = "storage_deleted"
    TRANSACTION_COMMITTED = "transaction_committed"
    TRANSACTION_ROLLED_BACK = "transaction_rolled_back"
    TRANSACTION_RECOVERED = "transaction_recovered"
    MODEL_LOADED = "model_loaded"
    MODEL_ROLLED_BACK = "model_rolled_back"
    INDEX_REBUILT = "index_rebuilt"
    STORE_EXPORTED = "store_exported"
    STORE_IMPORTED = "store_imported"
    STORE_COLLECTED = "store_collected"
    RUN_DELETED = "run_deleted"
    RUN_RESTORED = "run_restored"
    RUN_CHANGED = "run_changed"
    TAG_DELETED = "tag_deleted"
    EXPERIMENT_CHANGED = "experiment_changed"
    EXPERIMENT_DELETED = "experiment_deleted"
    EXPERIMENT_RESTORED = "experiment_restored"
    OPERATION_FAILED = "operation_failed"
    OPERATION_RETRIED = "operation_retried"
    #: A `SafeTransaction` has the lock of its storage, and has released it.
    LOCK_ACQUIRED = "lock_acquired"
    LOCK_RELEASED = "lock_released"
    #: An operation has waited for a lock in vain.
    LOCK_TIMEOUT = "lock_timeout"
    #: A circuit breaker that reports to `Operations.circuit_observer` has changed its state.
    CIRCUIT_OPENED = "circuit_opened"
    CIRCUIT_HALF_OPENED = "circuit_half_opened"
    CIRCUIT_CLOSED = "circuit_closed"


class HookType(StrEnum):
    """Where hooks run: `PRE_` may change the data or veto by raising, `POST_` sees what was done.

    What a `PRE_` hook returns is what is written and reported. What an operation is about (the run of a metric, the
    model of a promotion) cannot be changed: that is refused.
    """

    PRE_RUN_START = "pre_run_start"
    POST_RUN_START = "post_run_start"
    PRE_RUN_END = "pre_run_end"
    POST_RUN_END = "post_run_end"
    PRE_METRIC_LOG = "pre_metric_log"
    POST_METRIC_LOG = "post_metric_log"
    PRE_MODEL_REGISTER = "pre_model_register"
    POST_MODEL_REGISTER = "post_model_register"
    PRE_MODEL_PROMOTE = "pre_model_promote"
    POST_MODEL_PROMOTE = "post_model_promote"
    PRE_STORAGE_WRITE = "pre_storage_write"
    POST_STORAGE_WRITE = "post_storage_write"
    PRE_STORAGE_READ = "pre_storage_read"
    POST_STORAGE_READ = "post_storage_read"
    #: An operation of a tracker, registry or storage raises: its name, and the type and text of the error.
    ON_ERROR = "on_error"
    #: What may pass is tried again: which operation, after which error, and how often it was tried.
    ON_RETRY = "on_retry"
