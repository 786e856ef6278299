"""Errors of ops.shm.

OpsError
└── ShmError
    ├── SegmentExistsError    (FileExistsError)    the name is taken and exist_ok was not given
    ├── SegmentNotFoundError  (FileNotFoundError)  no segment has this name
    ├── SegmentFormatError    (ValueError)         not a segment, or one of a newer version
    ├── UnsupportedArrayError (TypeError)          a prototype whose bytes cannot be shared
    ├── NotConnectedError     (RuntimeError)       used before connect() or after disconnect()
    ├── DeadlockError         (RuntimeError)       the thread already holds the lock it asks for
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
    "SegmentExistsError",
    "SegmentFormatError",
    "SegmentNotFoundError",
    "ShmError",
    "ShmErrorCode",
    "UnsupportedArrayError",
    "ViewChangedError",
]


class ShmErrorCode(StrEnum):
    """Codes of the errors that this distribution raises."""

    SHM_ERROR = "SHM_ERROR"
    SEGMENT_EXISTS = "SEGMENT_EXISTS"
    SEGMENT_NOT_FOUND = "SEGMENT_NOT_FOUND"
    SEGMENT_FORMAT = "SEGMENT_FORMAT"
    UNSUPPORTED_ARRAY = "UNSUPPORTED_ARRAY"
    NOT_CONNECTED = "NOT_CONNECTED"
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
    """The file is no segment of ops.shm, or was made by a newer version."""

    default_code: StrEnum = ShmErrorCode.SEGMENT_FORMAT


class UnsupportedArrayError(ShmError, TypeError):
    """The prototype holds references or needs more header space than there is."""

    default_code: StrEnum = ShmErrorCode.UNSUPPORTED_ARRAY


class NotConnectedError(ShmError, RuntimeError):
    """The array is not connected to its segment in this process."""

    default_code: StrEnum = ShmErrorCode.NOT_CONNECTED


class DeadlockError(ShmError, RuntimeError):
    """This thread holds the lock already, through another object."""

    default_code: StrEnum = ShmErrorCode.DEADLOCK


class OwnerDiedError(ShmError):
    """A process died while it was writing; the array may hold part of that write."""

    default_code: StrEnum = ShmErrorCode.OWNER_DIED


class ViewChangedError(ShmError):
    """Somebody wrote while a zero-copy view was open; what was computed from it must be dropped."""

    default_code: StrEnum = ShmErrorCode.VIEW_CHANGED
