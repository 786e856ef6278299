"""Tidying a log after a crash. Reading never needs it; it makes reading fast and the folder small.

For each writer that is gone: what only its tail holds becomes one more segment, made beside its path
and renamed; only then the tail is removed. A torn end, which was never acknowledged, is cut off.
A damaged file header is written again when frames behind it show what it was. Segments that are whole get
an index. Damage in the middle is reported and left as it is, because a person who repairs it wants the
bytes. Cut off at any point, a second run does the rest: frames that are in a segment and still in a tail
have the same sequence numbers and are read once.

Whether a writer is gone is known by the lock on its tail (see `_liveness`), also across containers.
"""

from __future__ import annotations

import contextlib
import os
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

import numpy as np

from ops.datalog._chunks import behind, tail_frames, writers_in
from ops.datalog._liveness import open_regular
from ops.datalog._shutdown import (
    close_log,
    exclusively,
    open_state,
    refuse_if_written,
    remove_unfinished,
    writer_is_alive,
)
from ops.datalog.checksums import number_of_checksum
from ops.datalog.errors import LogFormatError
from ops.datalog.footer import full_scan, scan_or_index, seal
from ops.datalog.frames import FRAME, HEAD, HEADER_SIZE, pack_file_header, parse_file_header
from ops.datalog.messages import LogReport
from ops.datalog.scan import header_of
from ops.datalog.state import LogState
from ops.foundation.files import atomic_write, sync_directory
from ops.foundation.paths import listed

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator
    from pathlib import Path

    from ops.datalog._chunks import WriterFiles
    from ops.datalog.scan import Frames, Scan

__all__ = ["Recovery"]


@dataclass(slots=True)
class Recovery:
    """What recover() did; `headers` counts file headers that were written again.

    *tails* counts the tails of producers that have ended, *frames_from_tails* the messages found in
    them; *torn_bytes* were cut off; *sealed* segments got their index. *damaged* describes what was
    found where.
    """

    tails: int = 0
    frames_from_tails: int = 0
    torn_bytes: int = 0
    sealed: int = 0
    headers: int = 0
    damaged: list[str] = field(default_factory=list)


def recover(folder: Path) -> Recovery:
    """Tidy the log in *folder*; raises LogInUseError when a process still writes it."""
    with exclusively(folder):
        refuse_if_written(folder)
        if open_state(folder) is None:
            with contextlib.suppress(FileNotFoundError):
                close_log(folder, LogState(folder))  # its puts may not have been waited for
        return _recovered(folder)


def _recovered(folder: Path) -> Recovery:
    done = Recovery()
    # In an open log, one that has begun since may be in the middle of a put.
    writers = ended_writers(folder) if open_state(folder) is not None else writers_in(folder)
    for writer in writers:
        for path in writer.segments:
            with _noting(path, done):
                _mend(path, done)
        if writer.tail is not None:
            with _noting(writer.tail, done):
                _absorb(writer, _last_sequence(writer), done)
        done.sealed += _seal_all(writer.segments)
    remove_unfinished(folder)
    sync_directory(folder)
    return done


def finish_segments(folder: Path) -> None:
    """Index the segments of a stopped log, and take over the tails of producers that have ended."""
    for writer in ended_writers(folder):
        if writer.tail is not None:
            with _noting(writer.tail, Recovery()):
                _absorb(writer, _last_sequence(writer), Recovery())
    _seal_all(listed(folder, "*.seg"))
    remove_unfinished(folder)


def absorb_ended(folder: Path) -> None:
    """Free the space of writers that have ended, in a running log; the caller holds the `files_lock`."""
    for writer in ended_writers(folder):
        if writer.tail is not None:
            _absorb(writer, _last_sequence(writer), Recovery())
            _seal_all(writer.segments)


def ended_writers(folder: Path) -> list[WriterFiles]:
    """Return the files of the writers that have ended.

    They are listed when their writer is known to have: before that it may go on to a further segment.
    """
    ended = {path for path in listed(folder, "*.tail") if not writer_is_alive(path)}
    return [writer for writer in writers_in(folder) if writer.tail is None or writer.tail in ended]


@contextlib.contextmanager
def _noting(path: Path, done: Recovery) -> Iterator[None]:
    """Let what cannot be done to one file be noted, and cost no other."""
    try:
        yield
    except FileNotFoundError:
        pass
    except (OSError, LogFormatError) as error:
        done.damaged.append(f"{path.name}: {error}")


def _mend(path: Path, done: Recovery) -> None:
    """Write a damaged header again, and cut off the torn end of a segment."""
    found = full_scan(path)
    done.damaged += [f"{path.name}: {what}" for what in found.damage()]
    if found.header and not len(found.chunks):
        return  # nothing of it is known to be ours
    fd = open_regular(path, os.O_RDWR)
    try:
        if found.header and len(found.chunks):
            os.pwrite(fd, _new_header(fd, found), 0)
            done.headers += 1
        size = os.fstat(fd).st_size
        if found.torn_bytes and size >= HEADER_SIZE:
            os.ftruncate(fd, size - found.torn_bytes)
        done.torn_bytes += found.torn_bytes
        if os.fstat(fd).st_size <= HEADER_SIZE:
            path.unlink()
        else:
            os.fsync(fd)
    finally:
        os.close(fd)


def _new_header(fd: int, found: Scan) -> bytes:
    """Return a header for frames whose own was damaged; only the host is not known any more."""
    head = HEAD.unpack(os.pread(fd, HEAD.size, int(found.chunks["offset"][0])))
    return pack_file_header(number_of_checksum(found.checksum), head[5], 0, "", b"")


def _seal_all(paths: Iterable[Path]) -> int:
    sealed = 0
    for path in paths:
        with contextlib.suppress(FileNotFoundError, LogFormatError, PermissionError):
            sealed += seal(path)
    return sealed


def _last_sequence(writer: WriterFiles) -> int:
    ends = [0]
    for path in writer.segments:
        with contextlib.suppress(OSError, LogFormatError):
            chunks = scan_or_index(path).chunks
            ends += (chunks["sequence"] + chunks["frames"].astype("u8") - np.uint64(1)).tolist()
    return max(ends)


def _absorb(writer: WriterFiles, last: int, done: Recovery) -> None:
    """Make a segment of what only the tail holds, and remove the tail, or keep it when it is damaged."""
    assert writer.tail is not None  # noqa: S101 - for the type checkers
    with contextlib.suppress(LogFormatError):
        # What cannot be opened now, for want of a descriptor or the right to it, is not damaged.
        os.close(open_regular(writer.tail))
    report = LogReport()
    parts = [behind(frames, last) for frames in tail_frames(writer.tail, report)]
    done.damaged += report.damaged
    parts = [fresh for fresh in parts if len(fresh.starts)]
    if report.damaged:
        with contextlib.suppress(FileExistsError):
            os.link(writer.tail, f"{writer.tail}.damaged", follow_symlinks=False)
    if parts:
        words = [path.name.rsplit(".", 2)[1] for path in writer.segments]
        numbers = [int(word) for word in words if word.isdecimal()]
        path = writer.tail.with_name(f"{writer.stem}.{max(numbers, default=-1) + 1:05d}.seg")
        with atomic_write(path, "xb") as file:
            file.write(_header_for(writer.tail, parts[0]))
            for frames in parts:
                file.write(_bytes_of(frames))
        writer.segments.append(path)
        done.frames_from_tails += sum(len(frames.starts) for frames in parts)
    writer.tail.unlink()
    done.tails += 1


def _header_for(tail: Path, frames: Frames) -> bytes:
    pid = int(frames.heads["pid"][0])
    fd = open_regular(tail)
    try:
        header = header_of(fd, os.fstat(fd).st_size, tail.name)
        number = number_of_checksum(header.checksum)
        with contextlib.suppress(LogFormatError):
            known = parse_file_header(os.pread(fd, HEADER_SIZE, 0), tail.name)
            return pack_file_header(number, pid, known.made_ns, known.host, b"")
    finally:
        os.close(fd)
    return pack_file_header(number, pid, 0, "", b"")


def _bytes_of(frames: Frames) -> bytes:
    first = int(frames.starts[0])
    last = int(frames.starts[-1]) + FRAME + int(frames.heads["length"][-1])
    return frames.data[first:last]
