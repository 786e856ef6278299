"""`input_queue`: what producers get. Looks like a queue, and is a way straight to the disk.

A process has one writer for a log, however many sinks arrive in it, with every task of a pool say. It is
opened with the first message; from then on `log` *is* the method of that writer, so that nothing stands
between a producer and its data. After a fork the writer begins files of its own.

What a full disk does is a policy around the writer: "raise" needs none, "drop" counts what is lost,
"block" tries again until there is space.
"""

from __future__ import annotations

import errno
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

import numpy as np

from ops.datalog._open_writers import writers_of
from ops.datalog.writer import SEGMENT_BYTES, writer_of

if TYPE_CHECKING:
    import os
    from collections.abc import Callable

    from ops.datalog.package import LogPackage
    from ops.datalog.writer import Writer

__all__ = ["LogSink"]

OnFull = Literal["raise", "drop", "block"]
_FULL = frozenset({errno.ENOSPC, errno.EDQUOT, errno.EFBIG})


class LogSink:
    """Takes messages for the log in *folder* from any process and thread; pickles as its folder.

    *on_full* is what a full disk does to a message: "raise" the OSError, "drop" it and count it in
    `dropped`, or "block" until space is free, polling every *pause* seconds, counted in `blocked`.
    Other errors of the disk are raised in any case. *sync_each* returns from each put when the
    message is on the disk itself. *checksum* is a number of `checksums`; *segment_bytes* and
    *segment_seconds* say when a segment is followed by another. Less than *min_free_bytes* of free
    space counts as a full disk.

    `log(source_id, timestamp, data)` logs one message without a LogPackage around it.
    """

    log: Callable[[Any, Any, Any], None]

    def __init__(
        self,
        folder: str | os.PathLike[str],
        on_full: OnFull = "raise",
        *,
        sync_each: bool = False,
        checksum: int = 0,
        pause: float = 0.005,
        segment_bytes: int = SEGMENT_BYTES,
        segment_seconds: float | None = None,
        min_free_bytes: int = 0,
    ) -> None:
        self._folder = Path(folder)
        self._on_full = on_full
        self._pause = pause
        self._options: dict[str, Any] = {
            "sync_each": sync_each, "checksum": checksum,
            "segment_bytes": segment_bytes, "segment_seconds": segment_seconds,
            "min_free_bytes": min_free_bytes,
        }  # fmt: skip
        self._writer: Writer | None = None
        #: Messages that were lost to a full disk in this process (on_full="drop").
        self.dropped: int = 0
        #: Puts that had to wait for free space in this process (on_full="block"), and for how long.
        self.blocked: int = 0
        self.blocked_seconds: float = 0.0
        self.log = self._log_first

    def put(self, item: LogPackage, block: bool = True, timeout: float | None = None) -> None:  # noqa: FBT001, FBT002 - the signature of a queue
        """Log the message *item*; it survives the death of this process from then on.

        *block* and *timeout* (seconds) matter only with on_full="block": how long to wait for free space
        before the OSError is raised after all.

        Raises InvalidPackageError, LoggerStopped, SaverError, OSError.
        """
        if block and timeout is None:
            self.log(item.source_id, item.timestamp, item.data)
        else:
            self._guarded(
                lambda writer: writer.log(item.source_id, item.timestamp, item.data),
                1,
                timeout if block else 0.0,
            )

    def put_nowait(self, item: LogPackage) -> None:
        """Log one message without ever waiting for free space."""
        self.put(item, block=False)

    def put_many(self, source_id: int, times: Any, data: Any) -> None:
        """Log row i of the uint8 array *data* (n, size) at the i-th of *times*: the fastest way for many.

        *source_id* is 0 to 255, *times* are n unsigned 64-bit integers. Raises as `put` does.
        """
        self._guarded(lambda writer: writer.log_many(source_id, times, data), np.size(times))

    def qsize(self) -> int:
        """Always 0: what was put is not waiting anywhere."""
        return 0

    def empty(self) -> bool:
        """Always true, as `qsize` is 0."""
        return True

    def full(self) -> bool:
        """Always false."""
        return False

    def close(self) -> None:
        """Close this process's writers of the log; the next message begins other files."""
        self._close()

    def _close(self, *, holds_lock: bool = False) -> None:
        for writer in writers_of(self._folder):
            writer.close(holds_lock=holds_lock)

    def sync(self) -> None:
        """Bring this process's messages to the disk itself."""
        if self._writer is not None:
            self._writer.sync()

    def _log_first(self, source_id: Any, timestamp: Any, data: Any) -> None:
        """Log a message while there is no writer yet, and make `log` what it will be."""
        self._guarded(lambda writer: writer.log(source_id, timestamp, data), 1)
        writer = self._writer or self._open_writer()
        self.log = writer.log if self._on_full == "raise" else self._log_guarded

    def _log_guarded(self, source_id: Any, timestamp: Any, data: Any) -> None:
        self._guarded(lambda writer: writer.log(source_id, timestamp, data), 1)

    def _guarded(
        self, write: Callable[[Writer], None], messages: int, timeout: float | None = None
    ) -> None:
        """Do *write*, and with a full disk apply the policy."""
        waiting_since: float | None = None
        while True:
            try:
                write(self._writer or self._open_writer())
            except OSError as error:
                if self._on_full == "raise" or error.errno not in _FULL:
                    raise
                if self._on_full == "drop":
                    self.dropped += messages
                    return
                now = time.monotonic()
                waiting_since = now if waiting_since is None else waiting_since
                if timeout is not None and now - waiting_since >= timeout:
                    raise
                time.sleep(self._pause)
            else:
                break
        if waiting_since is not None:
            self.blocked += 1
            self.blocked_seconds += time.monotonic() - waiting_since

    def _open_writer(self) -> Writer:
        self._writer = writer = writer_of(self._folder, **self._options)
        return writer

    def __reduce__(self) -> tuple[Any, ...]:
        return _arrived, (str(self._folder), self._on_full, self._pause, self._options)


def _arrived(folder: str, on_full: OnFull, pause: float, options: dict[str, Any]) -> LogSink:
    return LogSink(folder, on_full, pause=pause, **options)
