"""Errors, files, locks, hashing, formatting, concurrency, instants, validation: stdlib only.

Names load on first use, so `import ops.foundation` costs next to nothing.
"""

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from ops.foundation.async_locks import AsyncFileLock as AsyncFileLock
    from ops.foundation.atomic_files import Durability as Durability
    from ops.foundation.atomic_files import atomic_write as atomic_write
    from ops.foundation.atomic_files import safe_file_write as safe_file_write
    from ops.foundation.canonical import calculate_content_hash as calculate_content_hash
    from ops.foundation.checks.config_schema import ConfigValidator as ConfigValidator
    from ops.foundation.checks.config_schema import Field as Field
    from ops.foundation.checks.environment_checks import (
        validate_cloud_credentials as validate_cloud_credentials,
    )
    from ops.foundation.checks.environment_checks import (
        validate_docker_environment as validate_docker_environment,
    )
    from ops.foundation.checks.pipeline_checks import PipelineValidator as PipelineValidator
    from ops.foundation.checks.pipeline_checks import (
        validate_pipeline_config as validate_pipeline_config,
    )
    from ops.foundation.checks.pipeline_checks import (
        validate_python_version as validate_python_version,
    )
    from ops.foundation.checks.pipeline_checks import (
        validate_resource_requirements as validate_resource_requirements,
    )
    from ops.foundation.checks.step_checks import validate_step_function as validate_step_function
    from ops.foundation.checks.validation_result import ValidationIssue as ValidationIssue
    from ops.foundation.checks.validation_result import ValidationLevel as ValidationLevel
    from ops.foundation.checks.validation_result import ValidationResult as ValidationResult
    from ops.foundation.collections import chunk_list as chunk_list
    from ops.foundation.collections import ensure_list as ensure_list
    from ops.foundation.collections import first_not_none as first_not_none
    from ops.foundation.collections import flatten_dict as flatten_dict
    from ops.foundation.collections import merge_dicts as merge_dicts
    from ops.foundation.collections import safe_get as safe_get
    from ops.foundation.colors import Color as Color
    from ops.foundation.colors import colorize_text as colorize_text
    from ops.foundation.concurrency import run_async as run_async
    from ops.foundation.concurrency import run_in_thread as run_in_thread
    from ops.foundation.concurrency import synchronized as synchronized
    from ops.foundation.deadlines import Deadline as Deadline
    from ops.foundation.deadlines import DeadlineInterrupt as DeadlineInterrupt
    from ops.foundation.deadlines import current_deadline as current_deadline
    from ops.foundation.deadlines import timeout_context as timeout_context
    from ops.foundation.decorators import deprecated as deprecated
    from ops.foundation.decorators import lazy_property as lazy_property
    from ops.foundation.decorators import singleton as singleton
    from ops.foundation.directories import ensure_directory as ensure_directory
    from ops.foundation.directories import temporary_directory as temporary_directory
    from ops.foundation.errors import ConflictError as ConflictError
    from ops.foundation.errors import DeadlineExceededError as DeadlineExceededError
    from ops.foundation.errors import ErrorCode as ErrorCode
    from ops.foundation.errors import ErrorContext as ErrorContext
    from ops.foundation.errors import LockCancelled as LockCancelled
    from ops.foundation.errors import LockTimeout as LockTimeout
    from ops.foundation.errors import LockUnsupportedError as LockUnsupportedError
    from ops.foundation.errors import MissingExtraError as MissingExtraError
    from ops.foundation.errors import OpsError as OpsError
    from ops.foundation.errors import PathEscapesRootError as PathEscapesRootError
    from ops.foundation.errors import ResourceError as ResourceError
    from ops.foundation.errors import SelfDeadlockError as SelfDeadlockError
    from ops.foundation.errors import ValidationError as ValidationError
    from ops.foundation.errors import create_error_response as create_error_response
    from ops.foundation.errors import wrap_exception as wrap_exception
    from ops.foundation.file_listing import FileInfo as FileInfo
    from ops.foundation.file_listing import cleanup_old_files as cleanup_old_files
    from ops.foundation.file_listing import copy_with_progress as copy_with_progress
    from ops.foundation.file_listing import find_files as find_files
    from ops.foundation.file_listing import get_file_info as get_file_info
    from ops.foundation.file_lock import FileLock as FileLock
    from ops.foundation.file_lock import LockProtocol as LockProtocol
    from ops.foundation.formatting import create_progress_bar as create_progress_bar
    from ops.foundation.formatting import format_bytes as format_bytes
    from ops.foundation.formatting import format_diff as format_diff
    from ops.foundation.formatting import format_duration as format_duration
    from ops.foundation.formatting import format_timestamp as format_timestamp
    from ops.foundation.formatting import humanize_number as humanize_number
    from ops.foundation.formatting import truncate_string as truncate_string
    from ops.foundation.hashing import HashAlgorithm as HashAlgorithm
    from ops.foundation.hashing import calculate_file_hash as calculate_file_hash
    from ops.foundation.hashing import calculate_hash as calculate_hash
    from ops.foundation.hashing import create_signature as create_signature
    from ops.foundation.hashing import verify_checksum as verify_checksum
    from ops.foundation.hashing import verify_signature as verify_signature
    from ops.foundation.ids import generate_api_key as generate_api_key
    from ops.foundation.ids import generate_id as generate_id
    from ops.foundation.ids import generate_short_id as generate_short_id
    from ops.foundation.ids import generate_token as generate_token
    from ops.foundation.ids import generate_uuid as generate_uuid
    from ops.foundation.ids import generate_uuid7 as generate_uuid7
    from ops.foundation.imports import LazyImport as LazyImport
    from ops.foundation.instants import days_ago as days_ago
    from ops.foundation.instants import hours_ago as hours_ago
    from ops.foundation.instants import iso as iso
    from ops.foundation.instants import last_day as last_day
    from ops.foundation.instants import last_hour as last_hour
    from ops.foundation.instants import last_month as last_month
    from ops.foundation.instants import last_week as last_week
    from ops.foundation.instants import minutes_ago as minutes_ago
    from ops.foundation.instants import months_ago as months_ago
    from ops.foundation.instants import now as now
    from ops.foundation.instants import require_aware as require_aware
    from ops.foundation.instants import this_day as this_day
    from ops.foundation.instants import this_hour as this_hour
    from ops.foundation.instants import this_minute as this_minute
    from ops.foundation.instants import this_month as this_month
    from ops.foundation.instants import this_week as this_week
    from ops.foundation.instants import weeks_ago as weeks_ago
    from ops.foundation.lazy import lazy_exports as lazy_exports
    from ops.foundation.logs import get_logger as get_logger
    from ops.foundation.logs import setup_logging as setup_logging
    from ops.foundation.optimistic import OptimisticLock as OptimisticLock
    from ops.foundation.parallel import parallel_map as parallel_map
    from ops.foundation.passwords import hash_password as hash_password
    from ops.foundation.passwords import needs_rehash as needs_rehash
    from ops.foundation.passwords import verify_password as verify_password
    from ops.foundation.paths import RelativePath as RelativePath
    from ops.foundation.paths import StrPath as StrPath
    from ops.foundation.paths import safe_join as safe_join
    from ops.foundation.pools import PoolStats as PoolStats
    from ops.foundation.pools import ThreadPoolManager as ThreadPoolManager
    from ops.foundation.readwrite import ReadWriteLock as ReadWriteLock
    from ops.foundation.tables import Alignment as Alignment
    from ops.foundation.tables import display_width as display_width
    from ops.foundation.tables import format_table as format_table
    from ops.foundation.timers import Timer as Timer
    from ops.foundation.timers import timer as timer
    from ops.foundation.watching import ChangeKind as ChangeKind
    from ops.foundation.watching import DirectoryWatch as DirectoryWatch
    from ops.foundation.watching import FileChange as FileChange
    from ops.foundation.watching import watch_directory as watch_directory
else:  # Written by `nox -s lint -- --fix` from the imports above.
    from ops.foundation.lazy import lazy_exports

    __all__, __getattr__, __dir__ = lazy_exports(
        __name__,
        {
            ".async_locks": "AsyncFileLock",
            ".atomic_files": "Durability atomic_write safe_file_write",
            ".canonical": "calculate_content_hash",
            ".checks.config_schema": "ConfigValidator Field",
            ".checks.environment_checks": "validate_cloud_credentials validate_docker_environment",
            ".checks.pipeline_checks": (
                "PipelineValidator validate_pipeline_config validate_python_version "
                "validate_resource_requirements"
            ),
            ".checks.step_checks": "validate_step_function",
            ".checks.validation_result": "ValidationIssue ValidationLevel ValidationResult",
            ".collections": (
                "chunk_list ensure_list first_not_none flatten_dict merge_dicts safe_get"
            ),
            ".colors": "Color colorize_text",
            ".concurrency": "run_async run_in_thread synchronized",
            ".deadlines": "Deadline DeadlineInterrupt current_deadline timeout_context",
            ".decorators": "deprecated lazy_property singleton",
            ".directories": "ensure_directory temporary_directory",
            ".errors": (
                "ConflictError DeadlineExceededError ErrorCode ErrorContext LockCancelled "
                "LockTimeout LockUnsupportedError MissingExtraError OpsError PathEscapesRootError "
                "ResourceError SelfDeadlockError ValidationError create_error_response "
                "wrap_exception"
            ),
            ".file_listing": (
                "FileInfo cleanup_old_files copy_with_progress find_files get_file_info"
            ),
            ".file_lock": "FileLock LockProtocol",
            ".formatting": (
                "create_progress_bar format_bytes format_diff format_duration format_timestamp "
                "humanize_number truncate_string"
            ),
            ".hashing": (
                "HashAlgorithm calculate_file_hash calculate_hash create_signature verify_checksum "
                "verify_signature"
            ),
            ".ids": (
                "generate_api_key generate_id generate_short_id generate_token generate_uuid "
                "generate_uuid7"
            ),
            ".imports": "LazyImport",
            ".instants": (
                "days_ago hours_ago iso last_day last_hour last_month last_week minutes_ago "
                "months_ago now require_aware this_day this_hour this_minute this_month this_week "
                "weeks_ago"
            ),
            ".lazy": "lazy_exports",
            ".logs": "get_logger setup_logging",
            ".optimistic": "OptimisticLock",
            ".parallel": "parallel_map",
            ".passwords": "hash_password needs_rehash verify_password",
            ".paths": "RelativePath StrPath safe_join",
            ".pools": "PoolStats ThreadPoolManager",
            ".readwrite": "ReadWriteLock",
            ".tables": "Alignment display_width format_table",
            ".timers": "Timer timer",
            ".watching": "ChangeKind DirectoryWatch FileChange watch_directory",
        },
    )
