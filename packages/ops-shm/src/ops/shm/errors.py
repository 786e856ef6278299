"""Errors of ops.shm.

OpsError
└── ShmError
    ├── SegmentExistsError    (FileExistsError)    the name is taken and exist_ok was not given
    ├── SegmentNotFoundError  (FileNotFoundError)  no segment has this name
    ├── SegmentFormatError    (ValueError)         not a segment, or one of another version
    ├── StaleSegmentError     (OSError)            the segment was replaced or destroyed since
    ├── UnsupportedArrayError (TypeError)          a prototype whose bytes cannot be shared
    ├── NotConnectedError     (RuntimeError)       used before connect() or after disconnect()
    ├── ReadOnlyError         (PermissionError)    a write through an object that only reads
    ├── DeadlockError         (RuntimeError)       the thread already holds the lock it waits for
    ├── OwnerDiedError                             the last writer died in the middle of a write
    └── ViewChangedError                           a write happened while a view was being read
"""

from __future__ import annotations

from enum import StrEnum

from ops.foundation.errors import OpsError

__all__ = [
    "DeadlockError",
    "NotConnectedError",
    "OwnerDiedError",
    "ReadOnlyError",
    "SegmentExistsError",
    "SegmentFormatError",
    "SegmentNotFoundError",
    "ShmError",
    "ShmErrorCode",
    "StaleSegmentError",
    "UnsupportedArrayError",
    "ViewChangedError",
]


class ShmErrorCode(StrEnum):
    """Codes of the errors that this distribution raises."""

    SHM_ERROR = "SHM_ERROR"
    SEGMENT_EXISTS = "SEGMENT_EXISTS"
    SEGMENT_NOT_FOUND = "SEGMENT_NOT_FOUND"
    SEGMENT_FORMAT = "SEGMENT_FORMAT"
    STALE_SEGMENT = "STALE_SEGMENT"
    UNSUPPORTED_ARRAY = "UNSUPPORTED_ARRAY"
    NOT_CONNECTED = "NOT_CONNECTED"
    READ_ONLY = "READ_ONLY"
    DEADLOCK = "DEADLOCK"
    OWNER_DIED = "OWNER_DIED"
    VIEW_CHANGED = "VIEW_CHANGED"


class ShmError(OpsError):
    """The base of all errors of ops.shm."""

    default_code: StrEnum = ShmErrorCode.SHM_ERROR


class SegmentExistsError(ShmError, FileExistsError):
    """A segment of this name exists already."""

    default_code: StrEnum = ShmErrorCode.SEGMENT_EXISTS


class SegmentNotFoundError(ShmError, FileNotFoundError):
    """No segment of this name exists."""

    default_code: StrEnum = ShmErrorCode.SEGMENT_NOT_FOUND


class SegmentFormatError(ShmError, ValueError):
    """The file is no segment of ops.shm, or was made by another version."""

    default_code: StrEnum = ShmErrorCode.SEGMENT_FORMAT


class StaleSegmentError(ShmError, OSError):
    """The segment was replaced or destroyed after this object had connected to it."""

    default_code: StrEnum = ShmErrorCode.STALE_SEGMENT


class UnsupportedArrayError(ShmError, TypeError):
    """The prototype holds references or needs more header space than there is."""

    default_code: StrEnum = ShmErrorCode.UNSUPPORTED_ARRAY


class NotConnectedError(ShmError, RuntimeError):
    """The array is not connected to its segment in this process."""

    default_code: StrEnum = ShmErrorCode.NOT_CONNECTED


class ReadOnlyError(ShmError, PermissionError):
    """The array was attached for reading only."""

    default_code: StrEnum = ShmErrorCode.READ_ONLY


class DeadlockError(ShmError, RuntimeError):
    """This thread holds the lock already, through another object."""

    default_code: StrEnum = ShmErrorCode.DEADLOCK


class OwnerDiedError(ShmError):
    """A process died while it was writing; the array may hold part of that write."""

    default_code: StrEnum = ShmErrorCode.OWNER_DIED


class ViewChangedError(ShmError):
    """A write happened while a zero-copy view was open; what was computed from it must be dropped."""

    default_code: StrEnum = ShmErrorCode.VIEW_CHANGED
