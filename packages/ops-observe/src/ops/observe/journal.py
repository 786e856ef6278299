"""JSON lines that several processes append to one file, with rotation.

A line is written with one `write(2)` in append mode under a lock between processes, so lines never
mix. A crash can leave one unfinished line, at the end: the next writer closes it with a newline, and
readers skip and report it. When a line would make the file larger than `max_bytes`, the file is
renamed to `NAME.000001`, `NAME.000002`, … and a new one is begun. Readers take no lock: they open
the file first and then look for those before it, so one that is renamed meanwhile is not missed.

A signal handler, or a finalizer, may append while it interrupts an append of its own thread. It cannot
wait for what it interrupts, so its line is written when that has ended: see `_Guard`.
"""

from __future__ import annotations

import contextlib
import errno
import json
import os
import re
import threading
import weakref
from collections import deque
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, BinaryIO, TypeVar

from ops.foundation.errors import ValidationError, described, plain, text_of
from ops.foundation.files import sync_directory
from ops.foundation.forks import in_children
from ops.foundation.locks import FileLock
from ops.foundation.logs import get_logger
from ops.foundation.paths import is_there

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

__all__ = ["Journal", "Line"]

T = TypeVar("T")
_logger = get_logger("ops.observe")


@dataclass(frozen=True, slots=True)
class Line:
    """One line of a journal: its position and its content; `entry` is None when it is torn.

    *path* is the file, *number* counts its lines from 1, *text* is the line without its end.
    """

    path: Path
    number: int
    text: bytes
    entry: dict[str, Any] | None

    def read(self, make: Callable[[dict[str, Any]], T]) -> T | None:
        """Return what *make* makes of the entry, None for a line of another kind."""
        if self.entry is None:
            return None
        try:
            return make(self.entry)
        except (KeyError, TypeError, ValueError):
            return None


class Journal:
    """An append-only file of JSON objects, one per line, and the segments it was rotated into.

    *path* is the file. *max_bytes* is the size at which a segment is closed (None: never), *keep*
    how many closed segments stay (None: all). With *fsync* a line is on the disk when `append`
    returns. Files are created with mode 0600. Raises `ValidationError` for numbers below 1.
    """

    def __init__(
        self,
        path: str | os.PathLike[str],
        *,
        max_bytes: int | None = None,
        keep: int | None = None,
        fsync: bool = False,
    ) -> None:
        if (max_bytes is not None and max_bytes < 1) or (keep is not None and keep < 1):
            raise ValidationError(
                f"max_bytes and keep must be at least 1, or None: {max_bytes}, {keep}."
            )
        self.path: Path = Path(path).absolute()
        self._max_bytes, self._keep, self._fsync = max_bytes, keep, fsync
        self._guard = _guard_of(self.path)
        self._lock = FileLock(self.path.with_name(f".{self.path.name}.lock"))

    def append(
        self,
        make: Callable[[bytes | None], bytes],
        begin: Callable[[bytes | None], bytes] | None = None,
    ) -> bool:
        """Append the line that *make* returns, and return whether that has been done.

        It is False if this thread is within an append already, which a signal handler has interrupted:
        then that append writes the line at its end, and logs an error of it.

        Args:
            make: given the last complete line, or None.
            begin: used instead of *make* for the first line after a rotation.

        Raises OSError when the line could not be written; then nothing of it is left.
        """
        me = threading.get_ident()
        if me in self._guard.inside:
            self._guard.deferred.append((self, make, begin))
            return False
        self._guard.inside.add(me)
        try:
            self._append(make, begin)
        finally:
            self._guard.inside.discard(me)
            # After that: a handler that comes now appends by itself, so that none is left over.
            while self._guard.deferred:
                self._guard.append_next()
        return True

    def _append(
        self, make: Callable[[bytes | None], bytes], begin: Callable[[bytes | None], bytes] | None
    ) -> None:
        self.path.parent.mkdir(parents=True, exist_ok=True)
        with self._lock:
            last = self._last_line()
            line = make(last) + b"\n"
            if self._rotate(len(line)) and begin is not None:
                line = begin(last) + b"\n"
            is_new = not is_there(self.path)
            fd = os.open(self.path, os.O_WRONLY | os.O_APPEND | os.O_CREAT | os.O_CLOEXEC, 0o600)
            try:
                size = os.fstat(fd).st_size
                if size and not _ends_with_newline(self.path, size):
                    line = b"\n" + line
                if os.write(fd, line) != len(line):
                    os.ftruncate(fd, size)
                    raise OSError(errno.ENOSPC, "no space for a whole line", str(self.path))
                if self._fsync:
                    os.fsync(fd)
            finally:
                os.close(fd)
            if self._fsync and is_new:
                sync_directory(self.path.parent)

    def last_line(self) -> bytes | None:
        """Return the last complete line, read from the end; None when there is none."""
        return self._last_line()

    def segments(self) -> list[Path]:
        """Return the files of the journal, oldest first."""
        pattern = re.compile(re.escape(self.path.name) + r"\.\d{6,}")
        try:
            closed = [p for p in self.path.parent.iterdir() if pattern.fullmatch(p.name)]
        except FileNotFoundError:
            return []
        ordered = sorted(closed, key=segment_number)
        return [*ordered, self.path] if is_there(self.path) else ordered

    def lines(self) -> Iterator[Line]:
        """Yield every line of every segment, oldest first; torn ones have no entry."""
        with contextlib.ExitStack() as stack:
            newest = None
            with contextlib.suppress(FileNotFoundError):
                newest = stack.enter_context(self.path.open("rb"))
            for path in self.segments():
                if path == self.path:
                    continue
                with contextlib.suppress(FileNotFoundError), path.open("rb") as file:
                    if newest and os.path.sameopenfile(file.fileno(), newest.fileno()):
                        break  # renamed since; what is behind it was written later
                    yield from _lines(path, file)
            if newest is not None:
                yield from _lines(self.path, newest)

    def _last_line(self) -> bytes | None:
        line = _last_complete_line(self.path) if is_there(self.path) else None
        if line is not None:  # as nearly always: without a look at the whole folder
            return line
        closed = (_last_complete_line(p) for p in reversed(self.segments()) if p != self.path)
        return next((line for line in closed if line is not None), None)

    def _rotate(self, coming: int) -> bool:
        """Close the segment if *coming* bytes more are too many; return whether it was."""
        if self._max_bytes is None or not is_there(self.path):
            return False
        if self.path.stat().st_size + coming <= self._max_bytes:
            return False
        closed = [p for p in self.segments() if p != self.path]
        number = segment_number(closed[-1]) + 1 if closed else 1
        self.path.rename(self.path.with_name(f"{self.path.name}.{number:06}"))
        if self._keep is not None:
            for old in closed[: max(0, len(closed) + 1 - self._keep)]:
                old.unlink()
        return True


def segment_number(path: Path) -> int:
    """Return the number that a closed segment is named by, 0 for the open one."""
    found = re.fullmatch(r".*\.(\d{6,})", path.name)
    return int(found[1]) if found else 0


class _Guard:
    """The threads within an append to one file, and what their signal handlers have left to them."""

    def __init__(self) -> None:
        self.inside: set[int] = set()
        self.deferred: deque[tuple[Journal, Any, Any]] = deque()

    def append_next(self) -> None:
        """Write what was deferred first; its error is logged, as its caller has gone on."""
        try:
            journal, make, begin = self.deferred.popleft()
            journal.append(make, begin)
        except IndexError:  # another thread has taken it
            pass
        except Exception as error:  # noqa: BLE001 - of any kind: it belongs to another call
            _logger.error("a deferred line was not written: %s", described(error))  # noqa: TRY400

    def forget_threads(self) -> None:
        """In a forked child: none of the other threads is here."""
        self.inside &= {threading.get_ident()}
        self.deferred.clear()


_guards: weakref.WeakValueDictionary[Path, _Guard] = weakref.WeakValueDictionary()


def _guard_of(path: Path) -> _Guard:
    """Return the guard of a file, which all its journals in this process share."""
    guard = _guards.get(path)
    if guard is None:
        guard = _guards.setdefault(path, _Guard())
        in_children(guard, _Guard.forget_threads)
    return guard


def to_json(fields: dict[str, Any]) -> str:
    """Return *fields* as JSON in one line; what JSON does not know, keys included, is its text."""
    try:
        return json.dumps(fields, default=text_of)
    except (TypeError, ValueError, RecursionError):
        pass
    try:
        return json.dumps(plain(fields))
    except RecursionError:  # what contains itself
        return json.dumps({k: v if type(v) is str else text_of(v) for k, v in fields.items()})


def _lines(path: Path, file: BinaryIO) -> Iterator[Line]:
    for number, text in enumerate(file, start=1):
        yield Line(path, number, text.rstrip(b"\n"), _parse(text))


def _parse(text: bytes) -> dict[str, Any] | None:
    if not text.endswith(b"\n"):
        return None
    try:
        entry = json.loads(text)
    except (ValueError, RecursionError):
        return None
    return entry if isinstance(entry, dict) else None


def _ends_with_newline(path: Path, size: int) -> bool:
    with path.open("rb") as file:
        file.seek(size - 1)
        return file.read(1) == b"\n"


def _last_complete_line(path: Path) -> bytes | None:
    """Return the last line that parses, reading backwards in growing pieces."""
    size = path.stat().st_size
    piece = 4096
    with path.open("rb") as file:
        while True:
            start = max(0, size - piece)
            file.seek(start)
            lines = file.read().splitlines(keepends=True)
            for line in reversed(lines if start == 0 else lines[1:]):
                if _parse(line) is not None:
                    return line.rstrip(b"\n")
            if start == 0:
                return None
            piece *= 4
