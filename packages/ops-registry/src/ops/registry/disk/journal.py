r"""Append-only journals: the truth of the store, one checksummed line per record.

A frame is ``crc32 of the JSON as 8 hex digits, a space, the JSON, a newline``. It is appended with
one `write` on a descriptor opened with O_APPEND, so a process that is killed leaves all of a frame
or, at worst, a torn last one; once `append` has returned, the kernel has the bytes, and a kill of
the process cannot take them back (a loss of power can, unless they were flushed: *durability*).

A reader skips a line whose checksum is wrong and counts it. A torn line cannot swallow the next
frame: where another writer has appended to one, which it cannot know of, the reader finds the whole frame at the end of the line;
and a writer that opens a file, or whose last write failed, first ends the line that is open, with
a mark that spoils it: a frame that lacked nothing but its end was refused, or not acknowledged, and must not
take effect after others were decided on without it. A last line without newline is left for later: it may be half of a frame that is being written.

What a record is as JSON, NaN and infinities included, is `ops.registry.json_values`.
"""

from __future__ import annotations

import contextlib
import errno
import os
import re
import threading
from typing import TYPE_CHECKING, Any, Self
from zlib import crc32

from ops.foundation.errors import OpsError
from ops.registry.disk.background_fsync import Flusher, flush
from ops.registry.errors import StorageError
from ops.registry.json_values import canonical, decode, encode

if TYPE_CHECKING:
    from collections.abc import Iterator
    from types import EllipsisType

    from ops.foundation.files import StrPath

__all__ = [
    "DURABILITIES",
    "JournalReader",
    "JournalWriter",
    "canonical",
    "checksum_before",
    "damaged_lines",
    "decode",
    "encode",
    "frame",
    "framed",
    "identity_of",
    "lines",
    "parse",
    "writing",
]

#: No link is followed: a store has none, and one from elsewhere must not lead to other files.
_EXTRA = getattr(os, "O_CLOEXEC", 0) | getattr(os, "O_BINARY", 0) | getattr(os, "O_NOFOLLOW", 0)
_FLAGS = os.O_RDWR | os.O_APPEND | os.O_CREAT | _EXTRA
#: What a file system without locks answers.
_NO_LOCKS = {errno.ENOLCK, errno.ENOSYS, errno.ENOTSUP, errno.EOPNOTSUPP}
DURABILITIES = ("process", "interval", "commit")
#: Bytes that distinguish one journal from another: the checksum of the first record, and its beginning.
_HEAD = 64
#: How much of a journal before the end of a snapshot must be what it was.
_COMPARED = 4096
#: A checksum and the body of a record, which no text in another record looks like: its quotes are escaped.
_BEGINNING = re.compile(rb"([0-9a-f]{8}) \{")
#: How many bytes are looked at, in all, for a frame at the end of a damaged line.
_MOST_LOOKED_AT = 1 << 26
#: Ends a line that a writer found open; alone, there was nothing to be spoiled.
_SPOILED = b"!"


class JournalWriter:
    """Appends records to one file, made with its folder if need be; threads may share it.

    *durability* "process" leaves flushing to the system, "interval" flushes within a second in the
    background, "commit" before `append` returns. With *must_exist* no file is made, as another process may be removing it
    for ever: FileNotFoundError is raised.
    """

    def __init__(
        self, path: StrPath, *, durability: str = "process", must_exist: bool = False
    ) -> None:
        self.path: str = os.fspath(path)
        self._commits = durability == "commit"
        self._is_timed = durability == "interval"
        self._is_waiting = False  # for the flusher
        self._lock = threading.RLock()  # a signal handler may append amid an append of its thread
        self._appends = 0
        with writing(self.path):
            found = _opened(self.path, must_exist=must_exist)
        if found is None:
            raise FileNotFoundError(errno.ENOENT, os.strerror(errno.ENOENT), self.path)
        self._descriptor = found
        self._open_line = _ends_open(self._descriptor)

    @property
    def size(self) -> int:
        """How many bytes the file has now."""
        return os.fstat(self._descriptor).st_size

    @property
    def is_closed(self) -> bool:
        """Whether `close` was called, so that nothing can be appended."""
        return self._descriptor < 0

    @property
    def is_deleted(self) -> bool:
        """Whether the file has no name any more, so that no reader will see what is appended."""
        return os.fstat(self._descriptor).st_nlink == 0

    @property
    def identity(self) -> tuple[int, int]:
        """What file it is, as `identity_of` has it."""
        found = os.fstat(self._descriptor)
        return found.st_dev, found.st_ino

    @contextlib.contextmanager
    def held(self, *, alone: bool = False) -> Iterator[bool]:
        """Keep the file from being replaced meanwhile, or wait until no other holds it and keep it *alone*.

        Yields whether the file is the one that has its name: one that was replaced takes no more frames. The kernel
        releases the hold of a process that ends.
        """
        is_held = self._hold(alone=alone)
        try:
            yield identity_of(self.path) == self.identity
        finally:
            if is_held:
                _lock(self._descriptor, "LOCK_UN")

    def _hold(self, *, alone: bool) -> bool:
        """Whether the file is held now; without *alone* it need not be where the system has no such locks."""
        try:
            return _lock(self._descriptor, "LOCK_EX" if alone else "LOCK_SH")
        except OSError as error:
            if alone or error.errno not in _NO_LOCKS:
                raise _failure(self.path, error) from error
            return False

    def append(self, record: Any) -> None:
        """Write *record* as one frame; when this returns, a kill cannot lose it."""
        self.append_body(encode(record))

    def append_body(self, body: bytes) -> tuple[int, int]:
        """Write what `encode` made of a record as one frame, and return where it is in the file."""
        return self.append_frames(framed(body))

    def append_frames(self, data: bytes, *, soon: bool = False) -> tuple[int, int]:
        """Write what `frame` made of one or several records, and return where it is in the file.

        What others can derive too is flushed *soon*, so that no caller waits for it.
        """
        with self._lock:
            own = self._appends = self._appends + 1
            if self._open_line:
                data = _SPOILED + b"\n" + data
            written = -1
            try:
                written = os.write(self._descriptor, data)
                # Where O_APPEND has put it: others may have grown the file.
                end = os.lseek(self._descriptor, 0, os.SEEK_CUR)
                if self._appends != own:  # a signal handler has appended, before or after
                    end = _end_of(self.path, data[:written], end)
                if self._commits and not soon:
                    flush(self._descriptor)
            except OSError as error:
                if written < 0 or not self.is_closed:
                    self._open_line = True
                    raise _failure(self.path, error) from error
                # It is written, and a signal handler has closed the file since.
                end = self._end_when_closed(data[:written], soon=soon)
            # A short write (a disk that filled up) is a torn frame, and not acknowledged.
            is_torn = written < len(data)
            self._open_line = is_torn or (self._appends != own and self._open_line)
            if not self._is_waiting and (self._is_timed or (soon and self._commits)):
                self._is_waiting = True
                _flusher.add(self._flush)
        if written < len(data):
            raise StorageError(f"Only {written} of {len(data)} bytes fitted into {self.path!r}.")
        return end - written, end

    def _end_when_closed(self, data: bytes, *, soon: bool) -> int:
        try:
            descriptor = os.open(self.path, os.O_RDONLY | _EXTRA)
            try:
                if self._commits and not soon:
                    flush(descriptor)
                return _end_of(self.path, data, os.fstat(descriptor).st_size)
            finally:
                os.close(descriptor)
        except OSError as error:
            raise _failure(self.path, error) from error

    def abandon(self) -> None:
        """Close the file in a forked child, where another thread's lock may be held for ever; the parent goes on."""
        if self._descriptor >= 0:
            os.close(self._descriptor)
            self._descriptor = -1

    def close(self) -> None:
        """Close the file; appending afterwards fails."""
        with self._lock:
            if self._descriptor >= 0:
                if self._is_waiting:
                    flush(self._descriptor)
                os.close(self._descriptor)
                self._descriptor = -1

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *exc: object) -> None:
        self.close()

    def _flush(self) -> None:
        """Flush on a descriptor of its own, so that no appender waits."""
        with self._lock:
            self._is_waiting = False
            copy = os.dup(self._descriptor) if self._descriptor >= 0 else -1
        if copy >= 0:
            try:
                flush(copy)
            finally:
                os.close(copy)


_flusher = Flusher()


class JournalReader:
    """Reads what was appended since the last `poll`; *torn* counts the lines it had to skip.

    *is_gone* is whether the file was missing then, *has_more* whether there is more than was requested.
    *is_replaced* is whether what was read before is not in the file any more: it was removed, restored from a copy,
    or begun again. Nothing is read of it then: the caller starts over with another reader.
    """

    def __init__(self, path: StrPath) -> None:
        self.path: str = os.fspath(path)
        self.offset: int = 0
        self.torn: int = 0
        self.is_gone: bool = False
        self.has_more: bool = False
        self.is_replaced: bool = False
        self._head: bytes | None = None  # what the file begins with; None until it was read
        self._stamp: tuple[int, int, int] | None = None  # how the file looked then
        self._seen = 0  # the bytes that were there, with half of a frame at the end

    def poll(self, most_bytes: int | None = None) -> list[Any]:
        """Return the records that are new, of about *most_bytes* at most; a missing file has none."""
        before = self.offset, self._seen
        try:
            data = self._new(most_bytes)[1]
            if not data:
                return []
            records, torn, _ = parse(data)
        except BaseException:  # an interrupt: it was not read
            self.offset, self._seen = before
            raise
        self.torn += torn
        return records

    def poll_lines(self, most_bytes: int | None = None) -> list[tuple[int, bytes]]:
        """Return what `poll` decodes, as it is, each with the offset of its first byte in the file."""
        found = list(lines(*self._new(most_bytes)))
        self.torn += sum(body is None for _, body in found)
        return [(offset, body) for offset, body in found if body is not None]

    def _new(self, most_bytes: int | None) -> tuple[int, bytes]:
        """Return the whole lines that were not read, and where they begin; they count as read."""
        start = self.offset
        try:
            found = os.stat(self.path)  # noqa: PTH116 - hot path
            size, stamp = found.st_size, (found.st_size, found.st_ino, found.st_mtime_ns)
            self.is_gone = False
            if stamp == self._stamp and size == self._seen:
                self.has_more = False
                return start, b""
            if size < self._seen or not self._is_the_same():
                self.has_more, self.is_replaced = False, True
                return start, b""
            self._stamp = stamp
            if size == self._seen:  # touched, or appended by this process
                self.has_more = False
                return start, b""
            end = size if most_bytes is None else min(size, self.offset + most_bytes)
            data = _read(self.path, self.offset, end)
            if end < size and b"\n" not in data:  # a frame that is longer than that
                end, data = size, _read(self.path, self.offset, size)
        except FileNotFoundError:
            self.is_gone = True
            self.is_replaced = self._seen > 0
            return start, b""
        except OSError as error:
            raise StorageError(f"{self.path!r} cannot be read: {error}.") from error
        used = data.rfind(b"\n") + 1
        self.has_more = end < size
        self._seen = self.offset + (used if self.has_more else len(data))
        self.offset += used
        return start, data[:used] if used < len(data) else data

    def _is_the_same(self) -> bool:
        """Whether the file begins as it did: its inode number may be reused at once."""
        head = _read(self.path, 0, _HEAD)
        if self._head is None or not self._seen:
            self._head = head
        return head.startswith(self._head)

    def skip(self, start: int, end: int) -> bool:
        """Leave out what is there, known to be whole frames; False where something before is unread."""
        if start != self.offset or start != self._seen:
            return False
        self.offset = self._seen = end
        return True


def _lock(descriptor: int, operation: str) -> bool:
    """Whether the system has such locks: Windows has none, and does not replace a file that is open."""
    try:
        import fcntl
    except ImportError:
        return False
    fcntl.flock(descriptor, getattr(fcntl, operation))
    return True


def _end_of(path: str, data: bytes, end: int) -> int:
    """Return where *data*, which is in the file before *end*, ends there; its last occurrence is meant."""
    start = end
    while start > 0:
        start = max(0, start - max(len(data), _COMPARED))
        position = _read(path, start, end).rfind(data)
        if position >= 0:
            return start + position + len(data)
    return end


def identity_of(path: StrPath) -> tuple[int, int] | None:
    """Return what identifies the file at *path* among all that have, or had, its name; None when there is none."""
    try:
        found = os.stat(path)  # noqa: PTH116 - hot path
    except (FileNotFoundError, NotADirectoryError):
        return None
    return found.st_dev, found.st_ino


def _read(path: str, start: int, end: int) -> bytes:
    """Return the bytes of a file in that range, as far as there are such."""
    parts = []
    descriptor = os.open(path, os.O_RDONLY | _EXTRA)  # without the buffer that `open` makes
    try:
        os.lseek(descriptor, start, os.SEEK_SET)
        while start < end and (part := os.read(descriptor, end - start)):
            parts.append(part)
            start += len(part)
    finally:
        os.close(descriptor)
    return b"".join(parts)


def checksum_before(
    path: str, offset: int, file: tuple[int, int] | EllipsisType | None = ...
) -> int:
    """Return a checksum of the last bytes before *offset*: they must be what they were for a snapshot to count.

    Raises ValueError when the journal is shorter or, with *file*, is not what `identity_of` returned.
    """
    start = max(0, offset - _COMPARED)
    descriptor = os.open(path, os.O_RDONLY | _EXTRA)
    try:
        found = os.fstat(descriptor)
        data = os.pread(descriptor, offset - start, start)
    finally:
        os.close(descriptor)
    if len(data) < offset - start or file not in {..., (found.st_dev, found.st_ino)}:
        raise ValueError(f"{path!r} is another file, or has less than {offset} bytes.")
    return crc32(data)


def parse(data: bytes) -> tuple[list[Any], int, int]:
    """Return the records of *data*, how many lines were bad, and how many bytes are dealt with."""
    end = data.rfind(b"\n") + 1
    records: list[Any] = []
    torn = 0
    for _, body in lines(0, data[:end]):
        if body is None:
            torn += 1
            continue
        try:
            records.append(decode(body))
        except ValueError:
            torn += 1
    return records, torn, end


def lines(start: int, data: bytes) -> Iterator[tuple[int, bytes | None]]:
    """Yield the body of each frame of *data*, whole lines that begin at *start*, with its offset; None for a damaged one."""
    for line in data.split(b"\n"):
        if line and line != _SPOILED:
            body = line[9:]
            try:
                is_sound = bool(body) and int(line[:8], 16) == crc32(body)
            except ValueError:
                is_sound = False
            yield start + 9, body if is_sound else None
            if not is_sound and (at := _whole_at_end(line)):
                yield start + at, line[at:]
        start += len(line) + 1


def damaged_lines(path: StrPath) -> bytes:
    """Return the lines of the journal at *path* whose checksum is wrong, as they are; none when there is no file."""
    try:
        data = _read(os.fspath(path), 0, os.stat(path).st_size)  # noqa: PTH116 - strings too
    except FileNotFoundError:
        return b""
    found = data.split(b"\n")
    return b"\n".join(line for line in found if any(body is None for _, body in lines(0, line)))


def _whole_at_end(line: bytes) -> int:
    """Return where the body of the frame begins that was appended to a torn one, 0 when there is none."""
    looked_at = 0
    for match in _BEGINNING.finditer(line, 1):
        at = match.end() - 1
        looked_at += len(line) - at
        if looked_at > _MOST_LOOKED_AT:  # a line that was made to be slow
            break
        if int(match[1], 16) == crc32(memoryview(line)[at:]):
            return at
    return 0


def frame(record: Any) -> bytes:
    """Return *record* as a frame."""
    return framed(encode(record))


def framed(body: bytes) -> bytes:
    """Return what `encode` made of a record as a frame."""
    return b"%08x %b\n" % (crc32(body), body)


def _opened(path: str, *, must_exist: bool) -> int | None:
    try:
        return os.open(path, _FLAGS & ~os.O_CREAT if must_exist else _FLAGS, 0o666)
    except FileNotFoundError:  # needed once per folder, so not before each file
        if must_exist:
            return None
        os.makedirs(os.path.dirname(path), exist_ok=True)  # noqa: PTH103, PTH120 - strings
        return os.open(path, _FLAGS, 0o666)


def _ends_open(descriptor: int) -> bool:
    size = os.lseek(descriptor, 0, os.SEEK_END)
    if not size:
        return False
    os.lseek(descriptor, size - 1, os.SEEK_SET)
    return os.read(descriptor, 1) != b"\n"


@contextlib.contextmanager
def writing(path: StrPath) -> Iterator[None]:
    """Turn what the system refuses while something below *path* is written into `StorageError`."""
    try:
        yield
    except OSError as error:
        if isinstance(error, OpsError):
            raise
        raise _failure(os.fspath(path), error) from error


def _failure(path: str, error: OSError) -> StorageError:
    return StorageError(f"{path!r} cannot be written: {error.strerror or error}.")
