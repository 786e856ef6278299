"""Errors, files, locks, hashing, formatting, concurrency, instants, validation: stdlib only.

Names load on first use, so `import ops.foundation` costs next to nothing.
"""

from typing import TYPE_CHECKING

from ops.foundation.lazy import lazy_exports

if TYPE_CHECKING:
    from ops.foundation.errors import (
        ConflictError,
        ErrorCode,
        ErrorContext,
        LockTimeout,
        MissingExtraError,
        OpsError,
        PathEscapesRootError,
        ResourceError,
        ValidationError,
        create_error_response,
        wrap_exception,
    )

__all__ = [
    "ConflictError",
    "ErrorCode",
    "ErrorContext",
    "LockTimeout",
    "MissingExtraError",
    "OpsError",
    "PathEscapesRootError",
    "ResourceError",
    "ValidationError",
    "create_error_response",
    "lazy_exports",
    "wrap_exception",
]

__getattr__, __dir__ = lazy_exports(
    __name__,
    {
        ".errors": (
            "ConflictError",
            "ErrorCode",
            "ErrorContext",
            "LockTimeout",
            "MissingExtraError",
            "OpsError",
            "PathEscapesRootError",
            "ResourceError",
            "ValidationError",
            "create_error_response",
            "wrap_exception",
        ),
    },
)
