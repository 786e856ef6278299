"""Lossless, high-rate logging of timestamped binary packages from many processes."""

from typing import TYPE_CHECKING

from ops.foundation.lazy import lazy_exports

if TYPE_CHECKING:
    from ops.datalog.archive import (
        compress_npy_logs,
    )
    from ops.datalog.errors import (
        DataLogError,
        DataLogErrorCode,
        InvalidPackageError,
        LogExistsError,
        LogFormatError,
        LoggerStopped,
        LogNotFoundError,
    )
    from ops.datalog.logger import (
        DataLogger,
    )
    from ops.datalog.package import (
        LogPackage,
    )
    from ops.datalog.reader import (
        Columns,
        LogReader,
        LogReport,
        Message,
        open_log,
    )
    from ops.datalog.sink import (
        LogSink,
    )

__all__ = [
    "Columns",
    "DataLogError",
    "DataLogErrorCode",
    "DataLogger",
    "InvalidPackageError",
    "LogExistsError",
    "LogFormatError",
    "LogNotFoundError",
    "LogPackage",
    "LogReader",
    "LogReport",
    "LogSink",
    "LoggerStopped",
    "Message",
    "compress_npy_logs",
    "open_log",
]

__getattr__, __dir__ = lazy_exports(
    __name__,
    {
        ".archive": ("compress_npy_logs",),
        ".errors": (
            "DataLogError",
            "DataLogErrorCode",
            "InvalidPackageError",
            "LogExistsError",
            "LogFormatError",
            "LogNotFoundError",
            "LoggerStopped",
        ),
        ".logger": ("DataLogger",),
        ".package": ("LogPackage",),
        ".reader": (
            "Columns",
            "LogReader",
            "LogReport",
            "Message",
            "open_log",
        ),
        ".sink": ("LogSink",),
    },
)
