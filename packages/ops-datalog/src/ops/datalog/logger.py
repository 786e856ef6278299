"""DataLogger: the owner of a log folder, from start to stop."""

from __future__ import annotations

import os
import threading
from contextlib import suppress
from math import inf
from pathlib import Path
from typing import TYPE_CHECKING, Literal, Self

from ops.datalog._liveness import HeldFile, open_regular
from ops.datalog._open_writers import writers_of
from ops.datalog._prelayout import adopt
from ops.datalog._shutdown import LOCK_SECONDS, PUT_SECONDS, close_log, exclusively
from ops.datalog._supervisor import Supervisor
from ops.datalog._writer_files import naming
from ops.datalog.archive import compress_npy_logs
from ops.datalog.checksums import checksum_of, number_of
from ops.datalog.errors import (
    DataLogError,
    LogExistsError,
    LogFormatError,
    LogInUseError,
    SaverError,
)
from ops.datalog.layout import finish_layout, lay_out_npy
from ops.datalog.reader import holds_log, open_log
from ops.datalog.schema import LogSource, write_sources
from ops.datalog.sink import LogSink
from ops.datalog.state import OWNER_NAME, LogState
from ops.datalog.writer import SEGMENT_BYTES
from ops.foundation.errors import ValidationError
from ops.foundation.paths import listed

if TYPE_CHECKING:
    from collections.abc import Mapping

    from ops.datalog.archive import ArchiveLayout, Progress
    from ops.datalog.checksums import ChecksumName
    from ops.datalog.reader import LogReader
    from ops.datalog.schema import LogSchema
    from ops.datalog.sink import OnFull

__all__ = ["DataLogger"]

Layout = Literal["npy", "segments"]
Sync = Literal["none", "interval", "each"]
_LOOK_SECONDS = 0.05


class DataLogger:
    """Logs timestamped binary messages from any number of processes into one folder.

    Messages go to `<output_directory>/<instance_name>_data_log`: *output_directory* is any folder,
    *instance_name* a name without a slash. *exist_ok* continues a log that is there. *layout* is
    what `stop` leaves: "npy", one file per message, or "segments", the files as they were written,
    for high rates (also by OPS_DATALOG_LAYOUT).

    *sync* is when messages are brought to the disk itself, which matters only when the whole
    machine crashes: "interval", every *sync_interval* seconds by a saver process; "each", before
    each put returns; "none", when the system likes. *on_full* is what a full disk does to a
    message: "raise" the OSError, "drop" and count it, or "block" until space is free. *checksum*
    "crc32c" is faster for large messages and needs the extra `crc` for writing and reading (also by
    OPS_DATALOG_CHECKSUM).

    *lay_out_ahead* lets the saver make the `.npy` files while messages are logged, so that `stop`
    has little left to do after a long time; until then they need disk space beside the segments.

    *process_count* is how many processes `compress_logs` uses; *thread_count* how many files the
    saver syncs at a time; *sleep_timer* how many microseconds pass between two polls while
    waiting: for disk space, or for puts that are under way in `stop`.

    Each producer begins another segment when one has *split_bytes*, or is older than
    *split_seconds* when it is written to. A message that would leave less than *min_free_bytes* of
    the disk free meets a full disk, see *on_full*; what the operating system and others need stays.

    *sources* describes sources, as `describe` does.

    Raises LogExistsError, ValidationError.

    >>> import tempfile
    >>> with DataLogger(tempfile.mkdtemp(), "camera", layout="segments", sync="none") as logger:
    ...     logger.input_queue.log(1, 1_000, b"frame")
    ...     logger.read().counts()
    {1: 1}
    """

    def __init__(
        self,
        output_directory: str | os.PathLike[str],
        instance_name: str = "data_logger",
        *,
        process_count: int = 1,
        thread_count: int = 4,
        sleep_timer: int = 5000,
        exist_ok: bool = False,
        layout: Layout | None = None,
        sync: Sync = "interval",
        sync_interval: float = 0.25,
        on_full: OnFull = "raise",
        checksum: ChecksumName | None = None,
        lay_out_ahead: bool = False,
        split_bytes: int = SEGMENT_BYTES,
        split_seconds: float | None = None,
        min_free_bytes: int = 0,
        sources: Mapping[int, LogSource] | None = None,
    ) -> None:
        if not instance_name or "/" in instance_name or "\0" in instance_name:
            raise ValidationError(f"{instance_name!r} cannot name a log.")
        # Environment OPS_DATALOG_LAYOUT: what `DataLogger.stop` leaves, where the program gives
        # no *layout*: "npy" or "segments" (default "npy").
        # Environment OPS_DATALOG_CHECKSUM: the checksum of messages, where the program gives
        # none: "crc32" or "crc32c" (default "crc32"; the other needs the extra `crc`).
        self._layout = _one_of(
            "layout", layout or os.environ.get("OPS_DATALOG_LAYOUT", "npy"), ("npy", "segments")
        )
        self._sync = _one_of("sync", sync, ("none", "interval", "each"))
        _one_of("on_full", on_full, ("raise", "drop", "block"))
        number = number_of(checksum or os.environ.get("OPS_DATALOG_CHECKSUM", "crc32"))
        counts = process_count >= 1 and thread_count >= 1
        if not (counts and 0 <= sleep_timer < inf and 0 < sync_interval < inf):  # NaN fails too
            raise ValidationError(
                "process_count and thread_count must be at least 1, sleep_timer at least 0 and "
                "sync_interval positive."
            )
        if lay_out_ahead and (self._layout, self._sync) != ("npy", "interval"):
            raise ValidationError(
                "lay_out_ahead is work of the saver for .npy files: it needs layout='npy' and "
                f"sync='interval', not {self._layout!r} and {self._sync!r}."
            )
        if not (split_bytes > 0 and min_free_bytes >= 0 and 0 < (split_seconds or 1) < inf):
            raise ValidationError(
                "split_bytes and split_seconds must be positive and min_free_bytes at least 0, "
                f"not {split_bytes}, {split_seconds} and {min_free_bytes}."
            )
        self._ahead = lay_out_ahead
        self._name, self._interval = instance_name, sync_interval
        self._processes, self._threads = process_count, thread_count
        self._pause = sleep_timer / 1e6
        self._folder = Path(output_directory).absolute() / f"{instance_name}_data_log"
        checksum_of(number, str(self._folder))  # fails at once when its package is missing
        self._is_new = not exist_ok
        self._refuse_existing()
        self._sink = LogSink(
            self._folder,
            on_full,
            sync_each=sync == "each",
            checksum=number,
            pause=self._pause,
            segment_bytes=split_bytes,
            segment_seconds=split_seconds,
            min_free_bytes=min_free_bytes,
        )
        self._described: dict[int, LogSource] = dict(sources or {})
        self._state: LogState | None = None
        self._stopping: LogState | None = None
        self._supervisor: Supervisor | None = None
        self._owner: HeldFile | None = None
        self._pid = os.getpid()
        self._stop_lock = threading.Lock()
        self._stopper = 0
        self._errors: list[str] = []

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
        return self._state is not None

    @property
    def alive(self) -> bool:
        """Whether messages are accepted and, with sync="interval", a saver syncs them."""
        return self.started and (self._supervisor is None or self._supervisor.pid is not None)

    @property
    def errors(self) -> list[str]:
        """What the saver could not do since the last start, oldest first; empty when healthy."""
        return list(self._errors) if self._state is None else self._state.errors()

    @property
    def saver_restarts(self) -> int:
        """How often a saver that died was replaced since the last start."""
        return 0 if self._supervisor is None else self._supervisor.restarts

    def start(self, timeout: float = LOCK_SECONDS) -> None:
        """Accept messages; does nothing when started. What a crash left of a layout is finished.

        *timeout* is how many seconds to wait for another process that stops, archives or recovers the
        log. Raises LogInUseError when that takes longer, and at once when another logger
        has the log started, here or in any process that shares the folder; LogExistsError when, without
        *exist_ok*, another logger has made a log there since this one was made.
        """
        if self._state is not None:
            return
        if self._stopping is not None:
            raise LogInUseError(
                f"stop() has not finished the log {str(self._folder)!r}.",
                suggestions=("Call stop() again, then start().",),
            )
        self._folder.mkdir(parents=True, exist_ok=True)
        with exclusively(self._folder, timeout):
            owner = HeldFile(self._folder / OWNER_NAME)
            if not owner.take():
                raise LogInUseError(
                    f"Another logger has the log {str(self._folder)!r} started.",
                    suggestions=("Use another instance_name, or stop that logger first.",),
                )
            try:
                self._refuse_existing()
                self._open()
            except BaseException:
                owner.release()
                raise
            self._owner, self._pid, self._is_new = owner, os.getpid(), False

    def _refuse_existing(self) -> None:
        if self._is_new and self._folder.is_dir() and holds_log(self._folder):
            raise LogExistsError(
                f"{str(self._folder)!r} holds a log already.",
                suggestions=("Pass exist_ok=True to continue it, or use another instance_name.",),
            )

    def _open(self) -> None:
        finish_layout(self._folder)
        if self._described:
            write_sources(self._folder, self._described)
        state = LogState(self._folder, create=True)
        state.forget_errors()
        state.open(npy=self._layout == "npy")
        try:
            if self._sync == "interval":
                self._supervisor = Supervisor(
                    self._folder,
                    self._interval,
                    self._threads,
                    state.add_error,
                    lay_out=self._ahead,
                )
        except BaseException:
            state.close()
            raise
        self._state, self._stopping = state, None

    def stop(self, timeout: float = PUT_SECONDS) -> None:
        """Accept no more messages, and lay out those that were accepted; does nothing when stopped.

        A put that is under way in any process either is accepted and laid out, or raises
        LoggerStopped. *timeout* is how many seconds such puts may take, and another process that has
        the log's lock; what `stop` itself has to write takes what it takes (see docs/datalog.md).

        It can be called by a signal handler: a put that the handler interrupts raises LoggerStopped
        when the handler has returned. In a handler that interrupts `stop` itself it does nothing.

        Raises ProducersLateError when a put takes longer, as of a producer that is paused: then
        nothing is laid out, and it can be called again. Raises SaverError, after everything else is
        done, when there were errors. After another error, as of a full disk, it can be called again to do
        what is left.
        """
        if self._state is None and self._stopping is None:
            return
        if self._pid != os.getpid():  # a forked child owns its own files only
            self._sink.close()
            return
        this_thread = threading.get_ident()
        if self._stopper == this_thread:
            return
        while not self._stop_lock.acquire(timeout=_LOOK_SECONDS):
            self._revoke()  # the thread that stops it may wait for what this one interrupts
        try:
            self._stopper = this_thread
            self._stop(timeout)
        finally:
            self._stopper = 0
            self._stop_lock.release()

    def _stop(self, timeout: float) -> None:
        if self._state is not None:
            self._stopping, self._state = self._state, None
        if self._stopping is None:
            return
        state = self._stopping
        # Before the lock is waited for, which a saver that is paused may hold.
        if self._supervisor is not None:
            self._supervisor.end()
        state.close()
        self._revoke()
        with exclusively(self._folder, timeout):
            self._finish(state, timeout)
            # Only now: another logger's log must not be what a second call of stop finishes.
            if self._owner is not None:
                self._owner.release()
        self._stopping = None
        self._errors = state.errors()
        if self._errors:
            raise SaverError(f"The saver met trouble: {'; '.join(self._errors)}")

    def _revoke(self) -> None:
        """Give up puts that this thread is in the middle of, if the log takes no more messages."""
        if self._stopping is not None and not self._stopping.is_open:
            for writer in writers_of(self._folder):
                writer.revoke()

    def _finish(self, state: LogState, timeout: float) -> None:
        # Again: an error that was being announced opens what was closed.
        close_log(self._folder, state, self._pause, timeout)
        self._sink._close(holds_lock=True)  # noqa: SLF001 - its owner
        if self._layout == "npy":
            lay_out_npy(self._folder, after=adopt(self._folder), durable=self._sync != "none")
        else:
            self._finish_segments()

    def compress_logs(
        self,
        remove_sources: bool = False,  # noqa: FBT001, FBT002 - the signature users know
        memory_mapping: bool = True,  # noqa: FBT001, FBT002
        verbose: bool = False,  # noqa: FBT001, FBT002
        *,
        compress: bool = True,
        verify_integrity: bool = False,
        max_workers: int | None = None,
        layout: ArchiveLayout = "entries",
        progress: Progress | None = None,
    ) -> list[Path]:
        """Gather all messages into one .npz per source and return the archives.

        *remove_sources*, *memory_mapping*, *verbose*, *compress*, *verify_integrity*, *layout* and
        *progress* are those of `compress_npy_logs`. *max_workers* is the number of processes,
        `process_count` when left out. Raises `DataLogError` while the logger runs, and what
        `compress_npy_logs` raises.
        """
        if self.started:
            raise DataLogError("Stop the logger before its log is compressed.")
        return compress_npy_logs(
            self._folder,
            remove_sources,
            memory_mapping,
            verbose,
            compress=compress,
            verify_integrity=verify_integrity,
            max_workers=self._processes if max_workers is None else max_workers,
            layout=layout,
            progress=progress,
        )

    def describe(
        self,
        source_id: int,
        name: str = "",
        *,
        schema: LogSchema | None = None,
        metadata: Mapping[str, str] | None = None,
    ) -> None:
        """Keep in the log what the source *source_id* is: a *name*, what its payloads hold, and *metadata* of your own.

        *schema* is a `LogSchema`, and *metadata* is text by name. Can be called before and after
        `start`; a second call for a source replaces the first. The messages are the same with and
        without. Raises ValidationError.
        """
        described = {source_id: LogSource(name, schema, metadata or {})}
        if self._folder.is_dir():
            with exclusively(self._folder):
                write_sources(self._folder, described)
        self._described |= described

    def read(self) -> LogReader:
        """Open the log for reading; also while it is written."""
        return open_log(self._folder)

    def _finish_segments(self) -> None:
        from ops.datalog.recovery import finish_segments

        finish_segments(self._folder)
        if self._sync != "none":
            for path in [*listed(self._folder, "*.seg"), *listed(self._folder, "*.tail")]:
                with suppress(FileNotFoundError, LogFormatError):
                    fd = open_regular(path)
                    try:
                        with naming(path):
                            os.fdatasync(fd)
                    finally:
                        os.close(fd)

    def __enter__(self) -> Self:
        self.start()
        return self

    def __exit__(self, *_: object) -> None:
        self.stop()


def _one_of(what: str, value: str, choices: tuple[str, ...]) -> str:
    if value not in choices:
        raise ValidationError(f"{what} must be one of {', '.join(choices)}, not {value!r}.")
    return value
