"""`input_queue`: what producers get. Looks like a queue, and is a way straight to the disk."""

from __future__ import annotations

import os
import threading
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from ops.datalog.writer import Writer

if TYPE_CHECKING:
    from ops.datalog.package import LogPackage

__all__ = ["LogSink"]

OnFull = Literal["raise", "drop"]
#: Held while a writer is made; a thread may hold it at the moment of a fork, so a child renews it.
_making = threading.Lock()


def _renew_lock() -> None:
    global _making  # noqa: PLW0603 - see above
    _making = threading.Lock()


os.register_at_fork(after_in_child=_renew_lock)


class LogSink:
    """Takes messages from any process and thread; pickles as its folder.

    A process (also a forked one) opens a writer of its own with its first message. *on_full* says
    what a full disk does: "raise" the OSError, or "drop" the message and count it in `dropped`.
    """

    def __init__(self, folder: str | os.PathLike[str], on_full: OnFull = "raise") -> None:
        self._folder = Path(folder)
        self._on_full = on_full
        self._writer: Writer | None = None
        self.dropped = 0

    def put(self, item: LogPackage, block: bool = True, timeout: float | None = None) -> None:  # noqa: ARG002, FBT001, FBT002 - the signature of a queue; a put never waits
        """Log one message; it survives the death of this process from then on.

        Raises InvalidPackageError, LoggerStopped, OSError.
        """
        self.log(item.source_id, item.timestamp, item.data)

    put_nowait = put

    def log(self, source_id: int, timestamp: int, data: Any) -> None:
        """Log one message without a LogPackage around it."""
        try:
            self._own_writer().put(source_id, timestamp, data)
        except OSError:
            if self._on_full == "raise":
                raise
            self.dropped += 1

    def put_many(self, source_id: int, times: Any, data: Any) -> None:
        """Log row i of the uint8 array *data* (n, size) at *times*[i]: the fastest way for many."""
        try:
            self._own_writer().put_many(source_id, times, data)
        except OSError:
            if self._on_full == "raise":
                raise
            self.dropped += len(times)

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
        """Close this process's writer; the next message opens another."""
        writer, self._writer = self._writer, None
        if writer is not None and writer.pid == os.getpid():
            writer.close()

    def sync(self) -> None:
        """Bring this process's messages to the disk itself."""
        if self._writer is not None and self._writer.pid == os.getpid():
            self._writer.sync()

    def _own_writer(self) -> Writer:
        writer = self._writer
        if writer is not None and writer.pid == os.getpid():
            return writer
        with _making:
            if self._writer is None or self._writer.pid != os.getpid():
                self._writer = Writer(self._folder)
            return self._writer

    def __reduce__(self) -> tuple[Any, ...]:
        return LogSink, (str(self._folder), self._on_full)
