"""Lossless, high-rate logging of timestamped binary packages from many processes."""

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from ops.datalog.archive import compress_npy_logs as compress_npy_logs
    from ops.datalog.errors import DataLogError as DataLogError
    from ops.datalog.errors import DataLogErrorCode as DataLogErrorCode
    from ops.datalog.errors import InvalidPackageError as InvalidPackageError
    from ops.datalog.errors import LateProducer as LateProducer
    from ops.datalog.errors import LogExistsError as LogExistsError
    from ops.datalog.errors import LogFormatError as LogFormatError
    from ops.datalog.errors import LoggerStopped as LoggerStopped
    from ops.datalog.errors import LogInUseError as LogInUseError
    from ops.datalog.errors import LogNotFoundError as LogNotFoundError
    from ops.datalog.errors import ProducersLateError as ProducersLateError
    from ops.datalog.errors import SaverError as SaverError
    from ops.datalog.logger import DataLogger as DataLogger
    from ops.datalog.mcap_files import import_mcap as import_mcap
    from ops.datalog.messages import Columns as Columns
    from ops.datalog.messages import LogReport as LogReport
    from ops.datalog.messages import Message as Message
    from ops.datalog.package import LogPackage as LogPackage
    from ops.datalog.reader import LogReader as LogReader
    from ops.datalog.reader import open_log as open_log
    from ops.datalog.recovery import Recovery as Recovery
    from ops.datalog.schema import LogSchema as LogSchema
    from ops.datalog.schema import LogSource as LogSource
    from ops.datalog.sink import LogSink as LogSink
else:  # Written by `nox -s lint -- --fix` from the imports above.
    from ops.foundation.lazy import lazy_exports

    __all__, __getattr__, __dir__ = lazy_exports(
        __name__,
        {
            ".archive": "compress_npy_logs",
            ".errors": (
                "DataLogError DataLogErrorCode InvalidPackageError LateProducer LogExistsError "
                "LogFormatError LogInUseError LogNotFoundError LoggerStopped ProducersLateError "
                "SaverError"
            ),
            ".logger": "DataLogger",
            ".mcap_files": "import_mcap",
            ".messages": "Columns LogReport Message",
            ".package": "LogPackage",
            ".reader": "LogReader open_log",
            ".recovery": "Recovery",
            ".schema": "LogSchema LogSource",
            ".sink": "LogSink",
        },
    )
