"""Errors of ops.datalog.

OpsError
└── DataLogError
    ├── LoggerStopped         (RuntimeError)       a put after stop()
    ├── SaverError            (RuntimeError)       the saver could not sync; also raised by the next put
    ├── LogExistsError        (FileExistsError)    the folder holds a log and exist_ok was not given
    ├── LogNotFoundError      (FileNotFoundError)  the folder holds no log
    ├── LogFormatError        (ValueError)         a file is no segment, or one of a newer version
    └── InvalidPackageError   (ValueError)         source, time or data of a message is not acceptable
"""

from __future__ import annotations

from enum import StrEnum

from ops.foundation.errors import OpsError

__all__ = [
    "DataLogError",
    "DataLogErrorCode",
    "InvalidPackageError",
    "LogExistsError",
    "LogFormatError",
    "LogNotFoundError",
    "LoggerStopped",
    "SaverError",
]


class DataLogErrorCode(StrEnum):
    """Codes of the errors that this distribution raises."""

    DATA_LOG_ERROR = "DATA_LOG_ERROR"
    LOGGER_STOPPED = "LOGGER_STOPPED"
    SAVER_FAILED = "SAVER_FAILED"
    LOG_EXISTS = "LOG_EXISTS"
    LOG_NOT_FOUND = "LOG_NOT_FOUND"
    LOG_FORMAT = "LOG_FORMAT"
    INVALID_PACKAGE = "INVALID_PACKAGE"


class DataLogError(OpsError):
    """The base of all errors of ops.datalog."""

    default_code: StrEnum = DataLogErrorCode.DATA_LOG_ERROR


class LoggerStopped(DataLogError, RuntimeError):  # noqa: N818 - the field's name
    """The logger was stopped; nothing was logged."""

    default_code: StrEnum = DataLogErrorCode.LOGGER_STOPPED


class SaverError(DataLogError, RuntimeError):
    """The saver could not do its work: what was logged since may not survive a crash of the machine.

    Raised by `stop` when there were any, and once by the next put of each producer, which logged
    nothing; the put after that goes on.
    """

    default_code: StrEnum = DataLogErrorCode.SAVER_FAILED


class LogExistsError(DataLogError, FileExistsError):
    """The folder holds a log already."""

    default_code: StrEnum = DataLogErrorCode.LOG_EXISTS


class LogNotFoundError(DataLogError, FileNotFoundError):
    """The folder holds no log."""

    default_code: StrEnum = DataLogErrorCode.LOG_NOT_FOUND


class LogFormatError(DataLogError, ValueError):
    """A file is no segment of ops.datalog, or was written by a newer version."""

    default_code: StrEnum = DataLogErrorCode.LOG_FORMAT


class InvalidPackageError(DataLogError, ValueError):
    """Source, time or data of a message is not acceptable; nothing was logged."""

    default_code: StrEnum = DataLogErrorCode.INVALID_PACKAGE
