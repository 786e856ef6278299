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
        SaverError,
    )
    from ops.datalog.logger import (
        DataLogger,
    )
    from ops.datalog.messages import (
        Columns,
        LogReport,
        Message,
    )
    from ops.datalog.package import (
        LogPackage,
    )
    from ops.datalog.reader import (
        LogReader,
        open_log,
    )
    from ops.datalog.recovery import (
        Recovery,
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
    "Recovery",
    "SaverError",
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
            "SaverError",
        ),
        ".logger": ("DataLogger",),
        ".messages": (
            "Columns",
            "LogReport",
            "Message",
        ),
        ".package": ("LogPackage",),
        ".reader": (
            "LogReader",
            "open_log",
        ),
        ".recovery": ("Recovery",),
        ".sink": ("LogSink",),
    },
)
