"""The errors of the caches.

    OpsError
    └── CacheError
        ├── ValueTooLargeError     (ValueError)  a value is larger than the whole cache may be
        ├── UncacheableCallError   (TypeError)   the arguments of a call have no content digest
        ├── CacheClosedError       (ValueError)  the cache, or the processor of batches, is closed
        ├── InvalidKeyError        (TypeError)   a key that cannot be stored outside this process
        ├── CacheFullError         (OSError)     the disk takes no more
        ├── ReadOnlyCacheError     (OSError)     the folder cannot be written to
        ├── UnsuitableFolderError  (OSError)     a disk cache cannot be in this folder
        └── CacheUnavailableError  (ConnectionError)  the server of a cache cannot be reached

A key that is not there is a plain `KeyError`. Damage on disk is no error: the entry counts as
missing, a `CorruptEntryWarning` names the file, and the counters of the cache show it.
"""

from __future__ import annotations

from enum import StrEnum

from ops.foundation.errors import OpsError

__all__ = [
    "CacheClosedError",
    "CacheError",
    "CacheErrorCode",
    "CacheFullError",
    "CacheUnavailableError",
    "CorruptEntryWarning",
    "InvalidKeyError",
    "ReadOnlyCacheError",
    "UncacheableCallError",
    "UnsuitableFolderError",
    "ValueTooLargeError",
]


class CacheErrorCode(StrEnum):
    """Codes of the errors of `ops.cache`."""

    CACHE_ERROR = "CACHE_ERROR"
    VALUE_TOO_LARGE = "CACHE_VALUE_TOO_LARGE"
    UNCACHEABLE_CALL = "CACHE_UNCACHEABLE_CALL"
    CLOSED = "CACHE_CLOSED"
    INVALID_KEY = "CACHE_INVALID_KEY"
    FULL = "CACHE_FULL"
    READ_ONLY = "CACHE_READ_ONLY"
    UNSUITABLE_FOLDER = "CACHE_UNSUITABLE_FOLDER"
    UNAVAILABLE = "CACHE_UNAVAILABLE"


class CacheError(OpsError):
    """A cache could not do what was requested."""

    default_code: StrEnum = CacheErrorCode.CACHE_ERROR


class ValueTooLargeError(CacheError, ValueError):
    """One value is larger than everything the cache may hold; nothing was stored or evicted."""

    default_code: StrEnum = CacheErrorCode.VALUE_TOO_LARGE


class UncacheableCallError(CacheError, TypeError):
    """An argument has no content digest, so a call with it cannot be recognised again."""

    default_code: StrEnum = CacheErrorCode.UNCACHEABLE_CALL


class CacheClosedError(CacheError, ValueError):
    """The object was closed; it takes nothing more."""

    default_code: StrEnum = CacheErrorCode.CLOSED


class InvalidKeyError(CacheError, TypeError):
    """A key is no plain value, so it cannot be recognised in another process."""

    default_code: StrEnum = CacheErrorCode.INVALID_KEY


class CacheFullError(CacheError, OSError):
    """The disk, or the memory of a server, takes no more; the value was not stored."""

    default_code: StrEnum = CacheErrorCode.FULL


class ReadOnlyCacheError(CacheError, OSError):
    """The folder of the cache cannot be written to; reading works."""

    default_code: StrEnum = CacheErrorCode.READ_ONLY


class UnsuitableFolderError(CacheError, OSError):
    """A disk cache cannot work in this folder or on this system."""

    default_code: StrEnum = CacheErrorCode.UNSUITABLE_FOLDER


class CacheUnavailableError(CacheError, ConnectionError):
    """The server of a cache cannot be reached, or refuses to serve."""

    default_code: StrEnum = CacheErrorCode.UNAVAILABLE


class CorruptEntryWarning(UserWarning):
    """A stored entry is damaged and was treated as missing."""
