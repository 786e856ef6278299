"""The names of what ops.registry tells (events) and of where others may take part (hooks).

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


class HookType(StrEnum):
    """Where hooks run: `PRE_` may change the data or veto by raising, `POST_` sees what was done."""

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
