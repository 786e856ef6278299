"""The errors of the caches.

    OpsError
    └── CacheError
        ├── ValueTooLargeError     (ValueError)  a value is larger than the whole cache may be
        ├── UncacheableCallError   (TypeError)   the arguments of a call have no content digest
        └── CacheClosedError       (ValueError)  the cache, or the processor of batches, is closed

A key that is not there is a plain `KeyError`. Damage on disk is no error: the entry counts as
missing, a `CorruptEntryWarning` says which file it was, and the counters of the cache show it.
"""

from __future__ import annotations

from enum import StrEnum

from ops.foundation.errors import OpsError

__all__ = [
    "CacheClosedError",
    "CacheError",
    "CacheErrorCode",
    "CorruptEntryWarning",
    "UncacheableCallError",
    "ValueTooLargeError",
]


class CacheErrorCode(StrEnum):
    """Codes of the errors of `ops.cache`."""

    CACHE_ERROR = "CACHE_ERROR"
    VALUE_TOO_LARGE = "CACHE_VALUE_TOO_LARGE"
    UNCACHEABLE_CALL = "CACHE_UNCACHEABLE_CALL"
    CLOSED = "CACHE_CLOSED"


class CacheError(OpsError):
    """A cache could not do what was asked."""

    default_code = CacheErrorCode.CACHE_ERROR


class ValueTooLargeError(CacheError, ValueError):
    """One value is larger than everything the cache may hold; nothing was stored or evicted."""

    default_code = CacheErrorCode.VALUE_TOO_LARGE


class UncacheableCallError(CacheError, TypeError):
    """An argument has no content digest, so a call with it cannot be recognised again."""

    default_code = CacheErrorCode.UNCACHEABLE_CALL


class CacheClosedError(CacheError, ValueError):
    """The object was closed; it takes nothing more."""

    default_code = CacheErrorCode.CLOSED


class CorruptEntryWarning(UserWarning):
    """A stored entry is damaged and was treated as missing."""
