"""DataLogger: the owner of a log folder, from start to stop."""

from __future__ import annotations

import os
import time
from pathlib import Path
from typing import TYPE_CHECKING, Literal, Self

from ops.datalog.archive import compress_npy_logs, finish_layout, lay_out_npy
from ops.datalog.errors import DataLogError, LogExistsError
from ops.datalog.reader import LogReader, open_log
from ops.datalog.sink import LogSink
from ops.datalog.writer import BUSY, OWNER, StopFlag
from ops.foundation.errors import ValidationError
from ops.foundation.processes import full_memory_barrier, is_alive

if TYPE_CHECKING:
    from ops.datalog.sink import OnFull

__all__ = ["DataLogger"]

Layout = Literal["npy", "segments"]


class DataLogger:
    """Logs timestamped binary messages from any number of processes into one folder.

    Messages go to `<output_directory>/<instance_name>_data_log`. *layout* is what `stop` leaves:
    "npy", one file per message, or "segments", the files as they were written, for high rates (also
    by OPS_DATALOG_LAYOUT). *exist_ok* continues a log that is there. *on_full* says what a full disk
    does to a message: "raise" or "drop".
    """

    def __init__(
        self,
        output_directory: str | os.PathLike[str],
        instance_name: str = "data_logger",
        *,
        exist_ok: bool = False,
        layout: Layout | None = None,
        on_full: OnFull = "raise",
    ) -> None:
        if not instance_name or "/" in instance_name or "\0" in instance_name:
            raise ValidationError(f"{instance_name!r} cannot name a log.")
        chosen = layout or os.environ.get("OPS_DATALOG_LAYOUT", "npy")
        if chosen not in {"npy", "segments"}:
            raise ValidationError(f"layout must be 'npy' or 'segments', not {chosen!r}.")
        self._name, self._layout = instance_name, chosen
        self._folder = Path(output_directory).absolute() / f"{instance_name}_data_log"
        if not exist_ok and self._folder.is_dir() and LogReader(self._folder).files():
            raise LogExistsError(
                f"{str(self._folder)!r} holds a log already.",
                suggestions=("Pass exist_ok=True to continue it, or use another instance_name.",),
            )
        self._sink = LogSink(self._folder, on_full)
        self._flag: StopFlag | None = None

    @property
    def name(self) -> str:
        """The instance name."""
        return self._name

    @property
    def output_directory(self) -> Path:
        """The folder that holds the log."""
        return self._folder

    @property
    def input_queue(self) -> LogSink:
        """What producers put messages into; pass it to other processes."""
        return self._sink

    @property
    def started(self) -> bool:
        """Whether messages are accepted now."""
        return self._flag is not None

    @property
    def alive(self) -> bool:
        """The same as `started`: there is no process that could die."""
        return self.started

    def start(self) -> None:
        """Accept messages; does nothing when started. What a crash left of a layout is finished."""
        if self._flag is not None:
            return
        self._folder.mkdir(parents=True, exist_ok=True)
        finish_layout(self._folder)
        self._flag = StopFlag(self._folder, create=True)
        self._flag.set(False)

    def stop(self) -> None:
        """Accept no more messages, and lay out those that were accepted; does nothing when stopped.

        A put that is under way in any process either is accepted and laid out, or raises
        LoggerStopped.
        """
        if self._flag is None:
            return
        flag, self._flag = self._flag, None
        flag.set(True)
        full_memory_barrier()
        self._wait_for_puts()
        self._sink.close()
        if self._layout == "npy":
            lay_out_npy(self._folder)

    def compress_logs(
        self,
        remove_sources: bool = False,  # noqa: FBT001, FBT002 - the signature users know
        *,
        compress: bool = True,
        verify_integrity: bool = False,
    ) -> list[Path]:
        """Gather all messages into one .npz per source; the logger must be stopped."""
        if self.started:
            raise DataLogError("Stop the logger before its log is compressed.")
        lay_out_npy(self._folder)
        return compress_npy_logs(
            self._folder,
            remove_sources=remove_sources,
            compress=compress,
            verify_integrity=verify_integrity,
        )

    def read(self) -> LogReader:
        """Open the log for reading; also while it is written."""
        return open_log(self._folder)

    def _wait_for_puts(self) -> None:
        for path in self._folder.glob("*.tail"):
            while _is_busy(path):
                time.sleep(0.0002)

    def __enter__(self) -> Self:
        self.start()
        return self

    def __exit__(self, *_: object) -> None:
        self.stop()


def _is_busy(tail: Path) -> bool:
    """Tell whether the writer of *tail* is in the middle of a put, and alive."""
    try:
        with tail.open("rb") as file:
            header = file.read(64)
    except FileNotFoundError:
        return False
    if len(header) < 64 or not header[BUSY]:
        return False
    return is_alive(int.from_bytes(header[OWNER : OWNER + 8], "little"))
