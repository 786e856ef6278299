"""Errors, files, locks, hashing, formatting, concurrency, instants, validation: stdlib only.

Names load on first use, so `import ops.foundation` costs next to nothing.
"""

from typing import TYPE_CHECKING

from ops.foundation.lazy import lazy_exports

if TYPE_CHECKING:
    from ops.foundation.canonical import (
        calculate_content_hash,
    )
    from ops.foundation.collections import (
        chunk_list,
        ensure_list,
        first_not_none,
        flatten_dict,
        merge_dicts,
        safe_get,
    )
    from ops.foundation.colors import (
        Color,
        colorize_text,
    )
    from ops.foundation.concurrency import (
        parallel_map,
        run_async,
        run_in_thread,
        synchronized,
    )
    from ops.foundation.deadlines import (
        Deadline,
        timeout_context,
    )
    from ops.foundation.decorators import (
        deprecated,
        lazy_property,
        singleton,
    )
    from ops.foundation.errors import (
        ConflictError,
        DeadlineExceededError,
        ErrorCode,
        ErrorContext,
        LockTimeout,
        MissingExtraError,
        OpsError,
        PathEscapesRootError,
        ResourceError,
        SelfDeadlockError,
        ValidationError,
        create_error_response,
        wrap_exception,
    )
    from ops.foundation.files import (
        Durability,
        StrPath,
        atomic_write,
        ensure_directory,
        safe_file_write,
        safe_join,
        temporary_directory,
    )
    from ops.foundation.findings import (
        ValidationIssue,
        ValidationLevel,
        ValidationResult,
    )
    from ops.foundation.formatting import (
        create_progress_bar,
        format_bytes,
        format_diff,
        format_duration,
        format_timestamp,
        humanize_number,
        truncate_string,
    )
    from ops.foundation.hashing import (
        HashAlgorithm,
        calculate_file_hash,
        calculate_hash,
        create_signature,
        verify_checksum,
        verify_signature,
    )
    from ops.foundation.ids import (
        generate_api_key,
        generate_id,
        generate_short_id,
        generate_token,
        generate_uuid,
        generate_uuid7,
    )
    from ops.foundation.imports import (
        LazyImport,
    )
    from ops.foundation.instants import (
        days_ago,
        hours_ago,
        iso,
        last_day,
        last_hour,
        last_month,
        last_week,
        minutes_ago,
        months_ago,
        now,
        require_aware,
        this_day,
        this_hour,
        this_minute,
        this_month,
        this_week,
        weeks_ago,
    )
    from ops.foundation.listings import (
        FileInfo,
        cleanup_old_files,
        copy_with_progress,
        find_files,
        get_file_info,
    )
    from ops.foundation.locks import (
        FileLock,
        LockProtocol,
    )
    from ops.foundation.logs import (
        get_logger,
        setup_logging,
    )
    from ops.foundation.optimistic import (
        OptimisticLock,
    )
    from ops.foundation.passwords import (
        hash_password,
        needs_rehash,
        verify_password,
    )
    from ops.foundation.pools import (
        PoolStats,
        ThreadPoolManager,
    )
    from ops.foundation.readwrite import (
        ReadWriteLock,
    )
    from ops.foundation.schemas import (
        ConfigValidator,
        Field,
    )
    from ops.foundation.steps import (
        validate_step_function,
    )
    from ops.foundation.surroundings import (
        validate_cloud_credentials,
        validate_docker_environment,
    )
    from ops.foundation.tables import (
        Alignment,
        display_width,
        format_table,
    )
    from ops.foundation.timers import (
        Timer,
        timer,
    )
    from ops.foundation.validation import (
        PipelineValidator,
        validate_pipeline_config,
        validate_python_version,
        validate_resource_requirements,
    )
    from ops.foundation.watching import (
        ChangeKind,
        DirectoryWatch,
        FileChange,
        watch_directory,
    )

__all__ = [
    "Alignment",
    "ChangeKind",
    "Color",
    "ConfigValidator",
    "ConflictError",
    "Deadline",
    "DeadlineExceededError",
    "DirectoryWatch",
    "Durability",
    "ErrorCode",
    "ErrorContext",
    "Field",
    "FileChange",
    "FileInfo",
    "FileLock",
    "HashAlgorithm",
    "LazyImport",
    "LockProtocol",
    "LockTimeout",
    "MissingExtraError",
    "OpsError",
    "OptimisticLock",
    "PathEscapesRootError",
    "PipelineValidator",
    "PoolStats",
    "ReadWriteLock",
    "ResourceError",
    "SelfDeadlockError",
    "StrPath",
    "ThreadPoolManager",
    "Timer",
    "ValidationError",
    "ValidationIssue",
    "ValidationLevel",
    "ValidationResult",
    "atomic_write",
    "calculate_content_hash",
    "calculate_file_hash",
    "calculate_hash",
    "chunk_list",
    "cleanup_old_files",
    "colorize_text",
    "copy_with_progress",
    "create_error_response",
    "create_progress_bar",
    "create_signature",
    "days_ago",
    "deprecated",
    "display_width",
    "ensure_directory",
    "ensure_list",
    "find_files",
    "first_not_none",
    "flatten_dict",
    "format_bytes",
    "format_diff",
    "format_duration",
    "format_table",
    "format_timestamp",
    "generate_api_key",
    "generate_id",
    "generate_short_id",
    "generate_token",
    "generate_uuid",
    "generate_uuid7",
    "get_file_info",
    "get_logger",
    "hash_password",
    "hours_ago",
    "humanize_number",
    "iso",
    "last_day",
    "last_hour",
    "last_month",
    "last_week",
    "lazy_exports",
    "lazy_property",
    "merge_dicts",
    "minutes_ago",
    "months_ago",
    "needs_rehash",
    "now",
    "parallel_map",
    "require_aware",
    "run_async",
    "run_in_thread",
    "safe_file_write",
    "safe_get",
    "safe_join",
    "setup_logging",
    "singleton",
    "synchronized",
    "temporary_directory",
    "this_day",
    "this_hour",
    "this_minute",
    "this_month",
    "this_week",
    "timeout_context",
    "timer",
    "truncate_string",
    "validate_cloud_credentials",
    "validate_docker_environment",
    "validate_pipeline_config",
    "validate_python_version",
    "validate_resource_requirements",
    "validate_step_function",
    "verify_checksum",
    "verify_password",
    "verify_signature",
    "watch_directory",
    "weeks_ago",
    "wrap_exception",
]

__getattr__, __dir__ = lazy_exports(
    __name__,
    {
        ".canonical": ("calculate_content_hash",),
        ".collections": (
            "chunk_list",
            "ensure_list",
            "first_not_none",
            "flatten_dict",
            "merge_dicts",
            "safe_get",
        ),
        ".colors": (
            "Color",
            "colorize_text",
        ),
        ".concurrency": (
            "parallel_map",
            "run_async",
            "run_in_thread",
            "synchronized",
        ),
        ".deadlines": (
            "Deadline",
            "timeout_context",
        ),
        ".decorators": (
            "deprecated",
            "lazy_property",
            "singleton",
        ),
        ".errors": (
            "ConflictError",
            "DeadlineExceededError",
            "ErrorCode",
            "ErrorContext",
            "LockTimeout",
            "MissingExtraError",
            "OpsError",
            "PathEscapesRootError",
            "ResourceError",
            "SelfDeadlockError",
            "ValidationError",
            "create_error_response",
            "wrap_exception",
        ),
        ".files": (
            "Durability",
            "StrPath",
            "atomic_write",
            "ensure_directory",
            "safe_file_write",
            "safe_join",
            "temporary_directory",
        ),
        ".findings": (
            "ValidationIssue",
            "ValidationLevel",
            "ValidationResult",
        ),
        ".formatting": (
            "create_progress_bar",
            "format_bytes",
            "format_diff",
            "format_duration",
            "format_timestamp",
            "humanize_number",
            "truncate_string",
        ),
        ".hashing": (
            "HashAlgorithm",
            "calculate_file_hash",
            "calculate_hash",
            "create_signature",
            "verify_checksum",
            "verify_signature",
        ),
        ".ids": (
            "generate_api_key",
            "generate_id",
            "generate_short_id",
            "generate_token",
            "generate_uuid",
            "generate_uuid7",
        ),
        ".imports": ("LazyImport",),
        ".instants": (
            "days_ago",
            "hours_ago",
            "iso",
            "last_day",
            "last_hour",
            "last_month",
            "last_week",
            "minutes_ago",
            "months_ago",
            "now",
            "require_aware",
            "this_day",
            "this_hour",
            "this_minute",
            "this_month",
            "this_week",
            "weeks_ago",
        ),
        ".listings": (
            "FileInfo",
            "cleanup_old_files",
            "copy_with_progress",
            "find_files",
            "get_file_info",
        ),
        ".locks": (
            "FileLock",
            "LockProtocol",
        ),
        ".logs": (
            "get_logger",
            "setup_logging",
        ),
        ".optimistic": ("OptimisticLock",),
        ".passwords": (
            "hash_password",
            "needs_rehash",
            "verify_password",
        ),
        ".pools": (
            "PoolStats",
            "ThreadPoolManager",
        ),
        ".readwrite": ("ReadWriteLock",),
        ".schemas": (
            "ConfigValidator",
            "Field",
        ),
        ".steps": ("validate_step_function",),
        ".surroundings": (
            "validate_cloud_credentials",
            "validate_docker_environment",
        ),
        ".tables": (
            "Alignment",
            "display_width",
            "format_table",
        ),
        ".timers": (
            "Timer",
            "timer",
        ),
        ".validation": (
            "PipelineValidator",
            "validate_pipeline_config",
            "validate_python_version",
            "validate_resource_requirements",
        ),
        ".watching": (
            "ChangeKind",
            "DirectoryWatch",
            "FileChange",
            "watch_directory",
        ),
    },
)
