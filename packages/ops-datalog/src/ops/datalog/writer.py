"""How a message gets from a producer to the disk: no queue, no other process, no system call.

Each producing process has one writer for each log. A message becomes a frame in a small file-backed map
(the tail); when that is full, one write(2) appends it to the writer's segment file. Large payloads go
straight to the segment. What `log` has returned for lies in the page cache and so survives the death of
any process; only a crash of the machine can take it, up to the last sync.

Space is allocated before it is used: the tail with posix_fallocate, a segment by write(2), so a full
disk is an OSError here and never a SIGBUS. A refused message leaves no trace.

Stopping must not lose a put that is under way. Each put sets BUSY, then compares the token of the log's
state; a process that stops the log sets the token to 0, passes a barrier through all threads, and waits until
no writer is BUSY. Either the put sees the new token, or the stopper sees BUSY (Dekker's pattern, see
ops.foundation.processes).

A signal handler runs in the middle of whatever its thread is doing, also of a put. The lock is re-entrant,
so the handler does not wait for its own thread; it finds `_inside` set and uses a spare writer, with files of
its own, which shares nothing with the one that was interrupted. A handler that stops the log revokes the
interrupted put, which then raises LoggerStopped; one that forks leaves the put to the parent.
"""

from __future__ import annotations

import contextlib
import mmap
import os
import platform
import secrets
import struct
import threading
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from ops.datalog import _writer_files
from ops.datalog._open_writers import keep, let_go, note, shared
from ops.datalog._writer_files import BUSY, TAIL_BYTES, ForkedError, Segment, Tail, refuse_scarce
from ops.datalog.checksums import checksum_of
from ops.datalog.errors import InvalidPackageError, LoggerStopped, SaverError
from ops.datalog.frames import (
    BLOCK,
    BLOCK_HEAD,
    FRAME,
    HEAD,
    HEADER_SIZE,
    SEALED_HEAD,
    VERSION,
    pack_file_header,
)
from ops.datalog.package import LONGEST, as_unsigned, checked
from ops.datalog.state import ERROR_COUNT, GENERATION, TOKEN, LogState
from ops.foundation.errors import LockTimeout

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from ops.foundation.locks import FileLock

SEGMENT_BYTES = 1 << 30
DIRECT_BYTES = 16 * 1024
#: What a writer is in the middle of: nothing; a put; one that a handler of its thread has given up since
#: the log was stopped; one that a forked child leaves to its parent.
FREE, INSIDE, REVOKED, FORKED = range(4)
#: What the fast path meets when source, time or data are not as it expects.
_UNFIT = (struct.error, TypeError, ValueError, IndexError, BufferError)

_pack_head, _pack_sealed = HEAD.pack, SEALED_HEAD.pack_into


class Writer:
    """Writes the frames of one process into *folder*; safe for threads and for signal handlers.

    *sync_each* brings each message to the disk before `log` returns; *checksum* is a number of
    `checksums`. A segment that reaches *segment_bytes*, or is older than *segment_seconds* when it is
    appended to, is followed by another. What would leave less than *min_free_bytes* of the disk free is
    refused as on a full disk. Raises LoggerStopped when the log is not open.
    """

    __slots__ = (
        "__weakref__",
        "_at",
        "_checksum",
        "_checksum_number",
        "_each",
        "_errors",
        "_folder",
        "_generation",
        "_header",
        "_inside",
        "_limit",
        "_lock",
        "_map",
        "_min_free",
        "_number",
        "_pid",
        "_segment",
        "_segment_bytes",
        "_segment_seconds",
        "_sequence",
        "_spare",
        "_state",
        "_stem",
        "_tail",
        "_token",
        "_words",
    )  # fmt: skip

    _at: int
    _limit: int
    _sequence: int
    _number: int
    _pid: int
    _generation: int
    _token: int
    _errors: int
    _stem: str
    _header: bytes

    def __init__(
        self,
        folder: Path,
        *,
        sync_each: bool = False,
        checksum: int = 0,
        segment_bytes: int = SEGMENT_BYTES,
        segment_seconds: float | None = None,
        min_free_bytes: int = 0,
    ) -> None:
        self._folder, self._each = folder, sync_each
        self._min_free = min_free_bytes
        self._segment_bytes, self._segment_seconds = segment_bytes, segment_seconds
        self._checksum_number = checksum
        self._checksum = checksum_of(checksum, str(folder))
        self._lock = threading.RLock()
        self._inside: int = FREE
        self._spare: Writer | None = None
        self._tail: Tail | None = None
        self._segment: Segment | None = None
        self._map: mmap.mmap
        self._reset()
        self._state: LogState
        self._words: memoryview
        self._find_state()
        if not self._state.is_open:
            raise self._stopped()
        note(self)  # first: a handler that forks from here on must reach it
        self._begin()

    @property
    def folder(self) -> Path:
        """The folder of the log."""
        return self._folder

    def is_current(self) -> bool:
        """Return whether the log is still the one that this writer knows, and not another of that path."""
        return self._state.is_current()

    def log(self, source: Any, timestamp: Any, data: Any) -> None:
        """Log one message. Raises InvalidPackageError, LoggerStopped, SaverError, OSError."""
        # Not acquire() and release(), which cost half as much: a KeyboardInterrupt behind the call of
        # acquire would leave the lock held for ever.
        with self._lock:
            if not self._inside:
                self._inside = INSIDE
                try:
                    tail = self._map
                    tail[BUSY] = 1
                    if self._words[TOKEN] == self._token:
                        length = len(data)
                        at = self._at
                        start = at + FRAME
                        end = start + length
                        if end <= self._limit and length < DIRECT_BYTES:
                            sequence = self._sequence
                            head = _pack_head(
                                timestamp, sequence, source, 0, VERSION, self._pid, length
                            )
                            # A slice of a map takes any buffer, and only one of exactly this many bytes.
                            tail[start:end] = data
                            checksum = self._checksum
                            _pack_sealed(tail, at, head, checksum(data, checksum(head)))
                            # No call from here on, behind which a handler could come.
                            if self._inside == INSIDE:
                                self._sequence = sequence + 1
                                self._at = end
                                return
                except _UNFIT:
                    pass  # the long way reports the fault, or makes it fit
                finally:
                    self._map[BUSY] = 0
                    before, self._inside = self._inside, FREE
                if before != INSIDE:
                    self._end_of_interrupted(before)
                    return
        source, timestamp, payload = checked(source, timestamp, data)
        self._append(timestamp, source, 0, payload)

    def log_many(self, source: Any, times: Any, data: Any) -> None:
        """Log row i of the uint8 array *data* (n, size) at *times*[i], as one frame: all or none."""
        rows = as_unsigned("data", data, np.dtype(np.uint8))
        stamps = as_unsigned("times", times, np.dtype(np.uint64))
        if rows.ndim != 2 or stamps.shape != rows.shape[:1] or not len(rows):
            raise InvalidPackageError(
                f"times of shape {stamps.shape} and data of shape {rows.shape} are not n and (n, size)."
            )
        if BLOCK_HEAD.size + stamps.nbytes + rows.nbytes > LONGEST:
            raise InvalidPackageError(f"{rows.nbytes} bytes do not fit one block; split them.")
        source, first, _ = checked(source, int(stamps[0]), b"")
        head = BLOCK_HEAD.pack(*rows.shape)
        self._append(first, source, BLOCK, memoryview(head + stamps.tobytes() + rows.tobytes()))

    def _append(self, timestamp: int, source: int, flags: int, payload: memoryview) -> None:
        """Log one frame the long way round: whatever its size is, and whatever has happened."""
        if not self._alone(lambda: self._put(timestamp, source, flags, payload)):
            self._spare_writer()._append(timestamp, source, flags, payload)  # noqa: SLF001 - the same class

    def _alone(self, work: Callable[[], None]) -> bool:
        """Do *work* on the files; return False when this thread is in the middle of that already."""
        with self._lock:
            if self._inside:
                return False
            self._inside = INSIDE
            try:
                self._map[BUSY] = 1
                work()
            except Exception:
                if self._inside == INSIDE:
                    raise
            finally:
                self._map[BUSY] = 0
                before, self._inside = self._inside, FREE
            if before != INSIDE:
                self._end_of_interrupted(before)
            return True

    def _put(self, timestamp: int, source: int, flags: int, payload: memoryview) -> None:
        if self._words[TOKEN] != self._token:
            self._heed()
        length = len(payload)
        direct = length >= DIRECT_BYTES
        if direct or self._at + FRAME + length > self._limit:
            if self._min_free:
                refuse_scarce(self._folder, self._at + FRAME + length, self._min_free)
            self._flush()
        head = HEAD.pack(timestamp, self._sequence, source, flags, VERSION, self._pid, length)
        crc = self._checksum(payload, self._checksum(head))
        if direct:
            self._append_to_segment([head + crc.to_bytes(4, "little"), payload])
        else:
            at = self._at
            self._map[at + FRAME : at + FRAME + length] = payload
            SEALED_HEAD.pack_into(self._map, at, head, crc)
            self._at = at + FRAME + length
        self._sequence += 1
        if self._each:
            self._sync()

    def _spare_writer(self) -> Writer:
        """Return the writer for what a handler logs while it interrupts this one."""
        if self._spare is None:
            spare = Writer(
                self._folder,
                sync_each=self._each,
                checksum=self._checksum_number,
                segment_bytes=self._segment_bytes,
                segment_seconds=self._segment_seconds,
                min_free_bytes=self._min_free,
            )
            other: Writer | None = self._spare
            if other is not None:  # of a handler that came meanwhile
                spare.close()
                return other
            self._spare = spare
        return self._spare

    def _heed(self) -> None:
        """Find out why the token changed: stopped, restarted, or an error of the saver."""
        if not self._words[TOKEN] and not self._state.is_current():
            self._find_state()  # the folder was removed, and the log made again
        words = self._words
        token = int(words[TOKEN])
        if token == 0:
            self._close(holds_lock=False)  # gives descriptors and space back
            raise self._stopped()
        if words[GENERATION] != self._generation:
            # The process that stopped it took over what the files held, and may have removed them.
            self._map[BUSY] = 0
            self._begin()
            self._map[BUSY] = 1
            if words[TOKEN] != self._token:
                # Since it was read the log may have been stopped, and the new files removed with the old ones.
                self._heed()
            return
        self._token = token
        errors = int(words[ERROR_COUNT])
        if errors > self._errors:
            self._errors = errors
            raise SaverError(f"The saver of the log met trouble: {self._state.errors()[-1]}")

    def _find_state(self) -> None:
        try:
            state = LogState(self._folder)
        except FileNotFoundError:
            raise LoggerStopped(f"The log {str(self._folder)!r} was never started.") from None
        self._state, self._words, self._generation = state, state.words, -1

    def _stopped(self) -> LoggerStopped:
        return LoggerStopped(f"The log {str(self._folder)!r} was stopped.")

    def _begin(self) -> None:
        """Begin files of a new name."""
        before, pid, now = _writer_files.forks(), os.getpid(), time.time_ns()
        stem = f"{pid}-{now:x}-{secrets.token_hex(2)}"
        # In this order: a token of an earlier start than the generation is noticed by the next put.
        token, generation = int(self._words[TOKEN]), int(self._words[GENERATION])
        errors = int(self._words[ERROR_COUNT])
        if token == 0:  # since the caller looked
            raise self._stopped()
        header = pack_file_header(self._checksum_number, pid, now, platform.node(), _boot_id())
        try:
            tail = Tail(self._folder, stem, header)
        except (ForkedError, FileExistsError):  # in either process, when a handler forked meanwhile
            self._begin()
            return
        except FileNotFoundError:
            # A process that stops or tidies the log removes what is being made: it looks forgotten.
            if not self._words[TOKEN]:
                raise self._stopped() from None
            if not self._state.is_current():
                raise
            self._begin()
            return
        old_tail, old_segment = self._tail, self._segment
        # No call in between, behind which a handler could see one half of it, or fork.
        if _writer_files._forks != before:  # noqa: SLF001 - a call would be one
            tail.leave_to_parent()
            self._begin()
            return
        self._tail, self._segment, self._map = tail, None, tail.map
        self._pid, self._stem, self._header = pid, stem, header
        self._at, self._sequence, self._number = HEADER_SIZE, 1, 0
        self._generation, self._token, self._errors = generation, token, errors
        # With a sync for each message nothing fits the fast path.
        self._limit = 0 if self._each else TAIL_BYTES
        if old_tail is not None:
            old_tail.release()
        if old_segment is not None:
            old_segment.close()
        keep(self)

    def disown(self) -> None:
        """Leave the files to the parent, in a forked child; the next message begins others.

        A bound `log` may have been kept across the fork, so it is the writer that has to know.
        """
        # Free for this thread: else another one held it, which does not exist here.
        interrupted = self._lock.acquire(blocking=False) and self._inside == INSIDE
        self._lock = threading.RLock()
        self._inside = FORKED if interrupted else FREE
        tail, segment = self._tail, self._segment
        self._reset()
        if segment is not None:
            segment.silence(take_back=False) if interrupted else segment.close()
        if tail is not None:
            tail.leave_to_parent()

    def revoke(self) -> None:
        """Give up the put that this thread is in the middle of, if there is one: the log is stopped.

        What was accepted stays in the files as that of a process that was killed. A put of another
        thread is left alone; it ends by itself.
        """
        if not self._lock.acquire(blocking=False):
            return
        try:
            if self._inside == INSIDE:
                self._inside = REVOKED
                if self._at + FRAME <= len(self._map):
                    self._map[self._at : self._at + FRAME] = bytes(FRAME)
                self._map[BUSY] = 0
                tail, segment = self._tail, self._segment
                self._reset()
                if segment is not None:
                    segment.silence(take_back=True)
                if tail is not None:
                    tail.release()
        finally:
            self._lock.release()

    def _end_of_interrupted(self, before: int) -> None:
        tail, segment = self._tail, self._segment
        self._reset()
        if segment is not None:
            segment.close()
        if tail is not None:
            tail.release()
        if before == REVOKED:
            raise self._stopped()

    def _reset(self) -> None:
        """Have no files; the next message begins some."""
        self._tail, self._segment, self._map = None, None, mmap.mmap(-1, HEADER_SIZE)
        self._at, self._limit = HEADER_SIZE, 0
        self._sequence, self._number, self._pid = 1, 0, 0
        self._generation, self._token, self._errors, self._stem = -1, -1, 0, ""
        let_go(self)

    def flush(self) -> None:
        """Append what is in the tail to the segment."""
        with contextlib.suppress(LoggerStopped):  # then the process that stopped it took them over
            self._alone(lambda: self._flush() if self._is_ours() else None)

    def sync(self) -> None:
        """Bring everything to the disk itself, so that it survives a crash of the machine."""
        if not self._alone(lambda: self._sync() if self._is_ours() else self._sync_in_place()):
            self._sync_in_place()  # in a handler: what was accepted is there, flushed or not

    def close(self, *, holds_lock: bool = False, timeout: float = -1) -> None:
        """Flush, and remove the tail, which is empty now; the next message begins other files.

        When the log was stopped meanwhile, this is done only if no process has taken over the tail, or is
        about to: while its file is there, and with the `files_lock`, which the caller may have. In a handler
        that interrupts a put nothing is done. *timeout* bounds the wait for other threads, in seconds.
        """
        if self._spare is not None:
            self._spare.close(holds_lock=holds_lock, timeout=timeout)
        if not self._lock.acquire(timeout=timeout):
            return
        try:
            with contextlib.suppress(LoggerStopped):
                self._alone(lambda: self._close(holds_lock=holds_lock))
        finally:
            self._lock.release()

    def _close(self, *, holds_lock: bool) -> None:
        if self._is_ours() or (holds_lock and self._has_tail()):
            self._end_tail()
        self._map[BUSY] = 0
        if self._has_tail() and not holds_lock:
            from ops.datalog._shutdown import files_lock

            with contextlib.suppress(LockTimeout), _tried(files_lock(self._folder)):
                if self._has_tail():
                    self._end_tail()
        tail, segment = self._tail, self._segment
        self._reset()
        if tail is not None:
            tail.release()
        if segment is not None:
            segment.close()

    def _is_ours(self) -> bool:
        """Return whether the files are this writer's to change; BUSY makes the process that stops wait."""
        return bool(self._words[TOKEN]) and self._words[GENERATION] == self._generation

    def _has_tail(self) -> bool:
        return self._tail is not None and self._tail.exists()

    def _end_tail(self) -> None:
        self._flush()
        if self._tail is not None:
            self._tail.remove()

    def _sync(self) -> None:
        self._flush()
        if self._segment is not None:
            self._segment.sync()

    def _sync_in_place(self) -> None:
        segment = self._segment
        self._map.flush()
        if segment is not None:
            segment.sync()

    def _flush(self) -> None:
        if self._at > HEADER_SIZE:
            with memoryview(self._map) as view, view[HEADER_SIZE : self._at] as part:
                self._append_to_segment([part])
                # With no call in between, behind which an interrupt may come.
                self._at = HEADER_SIZE

    def _append_to_segment(self, parts: list[Any]) -> None:
        segment = self._segment
        if segment is None or self._is_full(segment, sum(map(len, parts))):
            segment = self._next_segment()
        segment.append(parts)

    def _is_full(self, segment: Segment, size: int) -> bool:
        age = time.monotonic() - segment.made_at
        is_old = self._segment_seconds is not None and age >= self._segment_seconds
        return segment.written > 0 and (is_old or segment.written + size > self._segment_bytes)

    def _next_segment(self) -> Segment:
        # The number is used up in any case: an interrupt may come when the file is there.
        number, self._number = self._number, self._number + 1
        segment = Segment(self._folder / f"{self._stem}.{number:05d}.seg")
        old, self._segment = self._segment, segment
        if old is not None:
            old.close()
        try:
            segment.create(self._header, lambda: self._inside == INSIDE)
        except BaseException:
            self._segment = None
            raise
        return segment


def writer_of(folder: Path, **options: Any) -> Writer:
    """Return the writer of this process for the log in *folder*; *options* are those of Writer."""
    key = (str(folder.absolute()), *sorted(options.items()))
    return shared(key, lambda: Writer(folder, **options))


@contextlib.contextmanager
def _tried(lock: FileLock) -> Iterator[None]:
    lock.acquire(timeout=0)
    try:
        yield
    finally:
        lock.release()


def _boot_id() -> bytes:
    try:
        return bytes.fromhex(Path("/proc/sys/kernel/random/boot_id").read_text().replace("-", ""))
    except OSError:
        return b""
