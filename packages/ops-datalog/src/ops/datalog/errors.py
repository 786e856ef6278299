"""Errors of ops.datalog.

OpsError
└── DataLogError
    ├── LoggerStopped         (RuntimeError)       a put after stop()
    ├── SaverError            (RuntimeError)       the saver could not sync; also raised by the next put
    ├── ProducersLateError    (TimeoutError)       producers that stop() waited for are still in a put
    ├── LogInUseError         (RuntimeError)       another logger or process has the log
    ├── LogExistsError        (FileExistsError)    the folder holds a log and exist_ok was not given
    ├── LogNotFoundError      (FileNotFoundError)  the folder holds no log
    ├── LogFormatError        (ValueError)         a file is no segment, or one of a newer version
    └── InvalidPackageError   (ValueError)         source, time or data of a message is not acceptable
"""

from __future__ import annotations

from enum import StrEnum
from typing import TYPE_CHECKING, Any, NamedTuple

from ops.foundation.errors import OpsError

if TYPE_CHECKING:
    from collections.abc import Sequence

__all__ = [
    "DataLogError",
    "DataLogErrorCode",
    "InvalidPackageError",
    "LateProducer",
    "LogExistsError",
    "LogFormatError",
    "LogInUseError",
    "LogNotFoundError",
    "LoggerStopped",
    "ProducersLateError",
    "SaverError",
]


class DataLogErrorCode(StrEnum):
    """Codes of the errors that this distribution raises."""

    DATA_LOG_ERROR = "DATA_LOG_ERROR"
    LOGGER_STOPPED = "LOGGER_STOPPED"
    SAVER_FAILED = "SAVER_FAILED"
    PRODUCERS_LATE = "PRODUCERS_LATE"
    LOG_IN_USE = "LOG_IN_USE"
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


class LateProducer(NamedTuple):
    """A producer that is in the middle of a put: its process, as its own container numbers it."""

    pid: int
    host: str
    tail: str

    def __str__(self) -> str:
        return f"process {self.pid} on {self.host or 'an unknown host'} ({self.tail})"


class ProducersLateError(DataLogError, TimeoutError):
    """Producers are in the middle of a put for longer than `stop(timeout=…)` waits; `late` names them.

    They are paused (SIGSTOP, a debugger, a frozen container) or their disk hangs. The log takes no
    more messages, nothing was lost or laid out, and all of it can be read. Call `stop` again when
    they have gone on or ended. *message* is the sentence, *late* the producers; other *details* are
    those of `OpsError`.
    """

    default_code: StrEnum = DataLogErrorCode.PRODUCERS_LATE

    def __init__(self, message: str, *, late: Sequence[LateProducer] = (), **details: Any) -> None:
        super().__init__(message, **details)
        self.late: tuple[LateProducer, ...] = tuple(late)


class LogInUseError(DataLogError, RuntimeError):
    """Another logger has the log started, or another process writes, closes or archives it."""

    default_code: StrEnum = DataLogErrorCode.LOG_IN_USE


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
