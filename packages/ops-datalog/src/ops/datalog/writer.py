"""How a message gets from a producer to the disk: no queue, no other process, no system call.

Each producing process has a writer of its own. A message becomes a frame in a small file-backed map
(the tail); when that is full, one write(2) appends it to the writer's segment file. Large payloads go
straight to the segment. What `put` has returned for lies in the page cache and so survives the death of
any process; only a crash of the machine can take it, up to the last `sync`.

Space is allocated before it is used: the tail with posix_fallocate, a segment by write(2), so a full
disk is an OSError in `put` and never a SIGBUS. A refused message leaves no trace.

Stopping must not lose a put that is under way. Each put sets BUSY, then looks at the stop flag; whoever
stops sets the flag, passes a barrier through all threads, and waits until nobody is BUSY. Either the put
sees the flag, or the stopper sees BUSY (Dekker's pattern, see ops.foundation.processes).
"""

from __future__ import annotations

import errno
import mmap
import os
import platform
import secrets
import threading
import time
from pathlib import Path
from typing import Any
from zlib import crc32

import numpy as np

from ops.datalog import frames
from ops.datalog.errors import InvalidPackageError, LoggerStopped
from ops.datalog.frames import BLOCK, BLOCK_HEAD, CRC, FRAME, HEADER_SIZE
from ops.datalog.package import checked
from ops.foundation.processes import this_process

TAIL_BYTES = 256 * 1024
SEGMENT_BYTES = 1 << 30
DIRECT_BYTES = 16 * 1024
#: Offsets in the tail's header: an eighth word each for BUSY and the owner's identity.
BUSY, OWNER = 56, 48


class StopFlag:
    """One byte in a file of the log's folder, mapped by everybody who writes."""

    NAME = "log.state"

    def __init__(self, folder: Path, *, create: bool = False) -> None:
        path = folder / self.NAME
        flags = os.O_RDWR | os.O_CLOEXEC | (os.O_CREAT if create else 0)
        fd = os.open(path, flags, 0o644)
        try:
            if create:
                os.posix_fallocate(fd, 0, 8)
            self.map = mmap.mmap(fd, 8)
        finally:
            os.close(fd)

    def set(self, stopped: bool) -> None:  # noqa: FBT001
        """Tell all writers that the log is stopped, or that it is not."""
        self.map[0] = int(stopped)


class Writer:
    """Writes the frames of one process into *folder*; thread-safe."""

    def __init__(self, folder: Path, *, segment_bytes: int = SEGMENT_BYTES) -> None:
        self._folder, self._segment_bytes = folder, segment_bytes
        self.pid = os.getpid()
        self._stem = f"{self.pid}-{time.time_ns():x}-{secrets.token_hex(2)}"
        self._lock = threading.Lock()
        self._sequence = 1
        self._segment, self._written, self._number = -1, 0, 0
        self._flag = StopFlag(folder).map
        self._header = frames.file_header(self.pid, time.time_ns(), platform.node(), _boot_id())
        self._map = self._make_tail()
        self._view = memoryview(self._map)
        self._at = HEADER_SIZE

    def put(self, source: Any, timestamp: Any, data: Any) -> None:
        """Log one message. Raises InvalidPackageError, LoggerStopped, OSError (disk full)."""
        source, timestamp, payload = checked(source, timestamp, data)
        self._append(timestamp, source, 0, payload)

    def put_many(self, source: Any, times: Any, data: Any) -> None:
        """Log row i of the uint8 array *data* (n, size) at *times*[i], as one frame: all or none."""
        rows = np.ascontiguousarray(data, dtype=np.uint8)
        stamps = np.ascontiguousarray(times, dtype=np.uint64)
        if rows.ndim != 2 or stamps.shape != rows.shape[:1] or not len(rows):
            raise InvalidPackageError(
                f"times of shape {stamps.shape} and data of shape {rows.shape} are not n and (n, size)."
            )
        source, first, _ = checked(source, int(stamps[0]), b"")
        head = BLOCK_HEAD.pack(*rows.shape)
        self._append(first, source, BLOCK, memoryview(head + stamps.tobytes() + rows.tobytes()))

    def _append(self, timestamp: int, source: int, flags: int, payload: memoryview) -> None:
        tail = self._map
        with self._lock:
            tail[BUSY] = 1
            try:
                if self._flag[0]:
                    raise LoggerStopped(f"The log {str(self._folder)!r} was stopped.")
                length = len(payload)
                head = frames.head(timestamp, self._sequence, source, flags, self.pid, length)
                crc = crc32(payload, crc32(head))
                at = self._at
                end = at + FRAME + length
                if end > TAIL_BYTES or length >= DIRECT_BYTES:
                    self._flush()
                    if length >= DIRECT_BYTES:
                        self._append_to_segment([head + CRC.pack(crc), payload])
                        self._sequence += 1
                        return
                    at, end = HEADER_SIZE, HEADER_SIZE + FRAME + length
                view = self._view
                view[at + FRAME : end] = payload
                view[at : at + 28] = head
                CRC.pack_into(view, at + 28, crc)
                self._sequence += 1
                self._at = end
            finally:
                tail[BUSY] = 0

    def flush(self) -> None:
        """Append what is in the tail to the segment."""
        with self._lock:
            self._flush()

    def sync(self) -> None:
        """Bring everything to the disk itself, so that it survives a crash of the machine."""
        with self._lock:
            self._flush()
            if self._segment >= 0:
                os.fsync(self._segment)

    def close(self) -> None:
        """Flush, and remove the tail, which is empty now."""
        with self._lock:
            self._flush()
            if self._segment >= 0:
                os.close(self._segment)
                self._segment = -1
            self._view.release()
            self._map.close()
            self._tail_path().unlink(missing_ok=True)

    def _flush(self) -> None:
        if self._at > HEADER_SIZE:
            self._append_to_segment([self._view[HEADER_SIZE : self._at]])
            self._at = HEADER_SIZE

    def _append_to_segment(self, parts: list[Any]) -> None:
        """Append *parts* as a whole; on a full disk what was written of them is taken back."""
        size = sum(map(len, parts))
        if self._segment < 0 or (self._written and self._written + size > self._segment_bytes):
            self._open_segment()
        done = 0
        try:
            while done < size:
                rest = _rest(parts, done)
                done += os.writev(self._segment, rest)
        except OSError:
            os.ftruncate(self._segment, HEADER_SIZE + self._written)
            raise
        self._written += size

    def _open_segment(self) -> None:
        if self._segment >= 0:
            os.close(self._segment)
            self._segment = -1
        path = self._folder / f"{self._stem}.{self._number:05d}.seg"
        fd = os.open(path, os.O_CREAT | os.O_EXCL | os.O_WRONLY | os.O_APPEND | os.O_CLOEXEC, 0o644)
        if os.write(fd, self._header) != HEADER_SIZE:
            os.close(fd)
            path.unlink()
            raise OSError(errno.ENOSPC, "no room for a segment", str(path))
        self._segment, self._written, self._number = fd, 0, self._number + 1

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
