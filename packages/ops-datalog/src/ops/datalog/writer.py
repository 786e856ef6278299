"""How a message gets from a producer to the disk: no queue, no other process, no system call.

Each producing process has a writer of its own. A message becomes a frame in a small file-backed map
(the tail); when that is full, one write(2) appends it to the writer's segment file. Large payloads go
straight to the segment. What `log` has returned for lies in the page cache and so survives the death of
any process; only a crash of the machine can take it, up to the last sync.

Space is allocated before it is used: the tail with posix_fallocate, a segment by write(2), so a full
disk is an OSError here and never a SIGBUS. A refused message leaves no trace.

Stopping must not lose a put that is under way. Each put sets BUSY, then compares the token of the log's
state; whoever stops sets the token to 0, passes a barrier through all threads, and waits until nobody
is BUSY. Either the put sees the new token, or the stopper sees BUSY (Dekker's pattern, see
ops.foundation.processes).
"""

from __future__ import annotations

import contextlib
import errno
import mmap
import os
import platform
import secrets
import struct
import threading
import time
import weakref
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

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
from ops.foundation.processes import this_process

if TYPE_CHECKING:
    from collections.abc import Iterator

    from ops.foundation.locks import FileLock

TAIL_BYTES = 256 * 1024
SEGMENT_BYTES = 1 << 30
DIRECT_BYTES = 16 * 1024
#: Offsets in the tail's header: an eighth word each for BUSY and the owner's identity.
BUSY, OWNER = 56, 48
#: What the fast path meets when source, time or data are not as it expects.
_UNFIT = (struct.error, TypeError, ValueError, IndexError, BufferError)

#: The writers of this process; a child forgets what it inherits of them.
_writers: weakref.WeakSet[Writer] = weakref.WeakSet()
_pack_head, _pack_sealed = HEAD.pack, SEALED_HEAD.pack_into


class Writer:
    """Writes the frames of one process into *folder*; thread-safe.

    Raises LoggerStopped when the log is not open.
    """

    __slots__ = (
        "__weakref__",
        "_at", "_checksum", "_checksum_number", "_each", "_errors", "_folder",
        "_generation", "_header", "_limit", "_lock", "_map", "_number", "_pid", "_segment",
        "_segment_bytes", "_sequence", "_state", "_stem", "_token", "_words", "_written",
    )  # fmt: skip

    def __init__(
        self,
        folder: Path,
        *,
        sync_each: bool = False,
        checksum: int = 0,
        segment_bytes: int = SEGMENT_BYTES,
    ) -> None:
        self._folder, self._segment_bytes, self._each = folder, segment_bytes, sync_each
        self._checksum_number = checksum
        self._checksum = checksum_of(checksum, str(folder))
        self._lock = threading.Lock()
        try:
            self._state = LogState(folder)
        except FileNotFoundError:
            raise LoggerStopped(f"The log {str(folder)!r} was never started.") from None
        self._words = self._state.words
        self._map: mmap.mmap
        self._segment, self._sequence, self._written, self._number = -1, 1, 0, 0
        self._at, self._limit = HEADER_SIZE, 0
        self._generation, self._token, self._errors = 0, 0, 0
        if not self._state.is_open:
            raise self._stopped()
        self._begin()
        _writers.add(self)

    def log(self, source: Any, timestamp: Any, data: Any) -> None:
        """Log one message. Raises InvalidPackageError, LoggerStopped, SaverError, OSError."""
        # Not acquire() and release(), which cost half as much: a KeyboardInterrupt behind the call of
        # acquire would leave the lock held for ever.
        with self._lock:
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
                        self._sequence = sequence + 1
                        self._at = end
                        return
            except _UNFIT:
                pass  # the long way says what is wrong with it, or makes it fit
            finally:
                self._map[BUSY] = 0
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
        with self._lock:
            self._map[BUSY] = 1
            try:
                if self._words[TOKEN] != self._token:
                    self._heed()
                length = len(payload)
                direct = length >= DIRECT_BYTES
                if direct or self._at + FRAME + length > self._limit:
                    self._flush()
                head = HEAD.pack(
                    timestamp, self._sequence, source, flags, VERSION, self._pid, length
                )
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
            finally:
                self._map[BUSY] = 0

    def _heed(self) -> None:
        """Find out why the token changed: stopped, started anew, or an error of the saver."""
        words = self._words
        token = int(words[TOKEN])
        if token == 0:
            raise self._stopped()
        if words[GENERATION] != self._generation:
            # Whoever stopped it took over what the files held, and may have removed them.
            self._map[BUSY] = 0
            self._begin()
            self._map[BUSY] = 1
            token = int(words[TOKEN])
            if token == 0:
                raise self._stopped()
        self._token = token
        errors = int(words[ERROR_COUNT])
        if errors > self._errors:
            self._errors = errors
            raise SaverError(f"The saver of the log met trouble: {self._state.errors()[-1]}")

    def _stopped(self) -> LoggerStopped:
        return LoggerStopped(f"The log {str(self._folder)!r} was stopped.")

    def _begin(self) -> None:
        """Begin files of a new name."""
        self._pid = os.getpid()
        self._stem = f"{self._pid}-{time.time_ns():x}-{secrets.token_hex(2)}"
        generation, token = int(self._words[GENERATION]), int(self._words[TOKEN])
        if token == 0:  # since the caller looked
            raise self._stopped()
        self._header = pack_file_header(
            self._checksum_number, self._pid, time.time_ns(), platform.node(), _boot_id()
        )
        tail = self._make_tail()
        if self._segment >= 0:
            os.close(self._segment)
        self._map, self._segment, self._at = tail, -1, HEADER_SIZE
        self._sequence, self._written, self._number = 1, 0, 0
        self._generation, self._token = generation, token
        self._errors = int(self._words[ERROR_COUNT])
        # With a sync for each message nothing fits the fast path.
        self._limit = 0 if self._each else TAIL_BYTES

    def disown(self) -> None:
        """Let go of files that belong to the parent, in a child; the next message begins others.

        A bound `log` may have been kept across the fork, so it is the writer that has to know.
        """
        self._lock = threading.Lock()  # a thread of the parent may have held it
        self._let_go()

    def _let_go(self) -> None:
        self._map = mmap.mmap(-1, HEADER_SIZE)
        if self._segment >= 0:
            os.close(self._segment)
            self._segment = -1
        self._at, self._limit = HEADER_SIZE, 0
        self._generation, self._token, self._stem = -1, -1, ""

    def flush(self) -> None:
        """Append what is in the tail to the segment."""
        with self._lock, self._busy() as ours:
            if ours:
                self._flush()

    def sync(self) -> None:
        """Bring everything to the disk itself, so that it survives a crash of the machine."""
        with self._lock, self._busy() as ours:
            if ours:
                self._sync()
            else:
                self._map.flush()
                if self._segment >= 0:
                    os.fdatasync(self._segment)

    def close(self, *, has_turn: bool = False) -> None:
        """Flush, and remove the tail, which is empty now; the next message begins other files.

        When the log was stopped meanwhile, this is done only if nobody has taken over the tail, or is
        about to: while its place is there, and with the `turn`, which the caller may have.
        """
        with self._lock:
            with self._busy() as ours:
                if ours or (has_turn and self._has_tail()):
                    self._end_tail()
            if self._has_tail() and not has_turn:
                from ops.datalog.closing import turn

                with contextlib.suppress(LockTimeout), _tried(turn(self._folder)):
                    if self._has_tail():
                        self._end_tail()
            self._let_go()

    @contextlib.contextmanager
    def _busy(self) -> Iterator[bool]:
        """Give whether the files are this writer's to change; whoever stops the log waits meanwhile."""
        self._map[BUSY] = 1
        try:
            yield bool(self._words[TOKEN]) and self._words[GENERATION] == self._generation
        finally:
            self._map[BUSY] = 0

    def _has_tail(self) -> bool:
        return bool(self._stem) and self._tail_path().exists()

    def _end_tail(self) -> None:
        self._flush()
        self._tail_path().unlink()

    def _sync(self) -> None:
        self._flush()
        if self._segment >= 0:
            os.fdatasync(self._segment)

    def _flush(self) -> None:
        if self._at > HEADER_SIZE:
            with memoryview(self._map) as view, view[HEADER_SIZE : self._at] as part:
                self._append_to_segment([part])
                # With no call in between, behind which an interrupt may come.
                self._at = HEADER_SIZE

    def _append_to_segment(self, parts: list[Any]) -> None:
        """Append *parts* as a whole; on a full disk, or interrupted, what was written is taken back."""
        size = sum(map(len, parts))
        if self._segment < 0 or (self._written and self._written + size > self._segment_bytes):
            self._open_segment()
        done = 0
        try:
            while done < size:
                done += os.writev(self._segment, _rest(parts, done))
        except BaseException:
            os.ftruncate(self._segment, HEADER_SIZE + self._written)
            raise
        self._written += size

    def _open_segment(self) -> None:
        old, self._segment = self._segment, -1
        if old >= 0:
            os.close(old)
        # The number is used up in any case: an interrupt may come when the file is there.
        number, self._number = self._number, self._number + 1
        path = self._folder / f"{self._stem}.{number:05d}.seg"
        fd = os.open(path, os.O_CREAT | os.O_EXCL | os.O_WRONLY | os.O_APPEND | os.O_CLOEXEC, 0o644)
        try:
            written = os.write(fd, self._header)
        except OSError:
            os.close(fd)
            path.unlink()
            raise
        if written != HEADER_SIZE:
            os.close(fd)
            path.unlink()
            raise OSError(errno.ENOSPC, "no room for a segment", str(path))
        self._segment, self._written = fd, 0

    def _tail_path(self) -> Path:
        return self._folder / f"{self._stem}.tail"

    def _make_tail(self) -> mmap.mmap:
        fd = os.open(self._tail_path(), os.O_CREAT | os.O_EXCL | os.O_RDWR | os.O_CLOEXEC, 0o644)
        try:
            os.posix_fallocate(fd, 0, TAIL_BYTES)
            tail = mmap.mmap(fd, TAIL_BYTES)
        except OSError:
            self._tail_path().unlink()
            raise
        finally:
            os.close(fd)
        tail[:HEADER_SIZE] = self._header
        tail[OWNER : OWNER + 8] = this_process().to_bytes(8, "little")
        return tail


@contextlib.contextmanager
def _tried(lock: FileLock) -> Iterator[None]:
    lock.acquire(timeout=0)
    try:
        yield
    finally:
        lock.release()


def _disown_all() -> None:
    for writer in list(_writers):
        writer.disown()


os.register_at_fork(after_in_child=_disown_all)


def _rest(parts: list[Any], done: int) -> list[memoryview]:
    left = []
    for part in parts:
        view = memoryview(part)
        if done < len(view):
            left.append(view[done:])
        done = max(0, done - len(view))
    return left


def _boot_id() -> bytes:
    try:
        return bytes.fromhex(Path("/proc/sys/kernel/random/boot_id").read_text().replace("-", ""))
    except OSError:
        return b""
