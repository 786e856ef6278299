"""JSON lines that several processes append to one file, with rotation.

A line is written with one `write(2)` in append mode under a lock between processes, so lines never
mix. A crash can leave one unfinished line, at the end: the next writer closes it with a newline, and
readers skip and report it. When a line would make the file larger than `max_bytes`, the file is
renamed to `NAME.000001`, `NAME.000002`, … and a new one is begun. Readers take no lock: they open
the file first and then look for those before it, so one that is renamed meanwhile is not missed.
"""

from __future__ import annotations

import contextlib
import errno
import json
import os
import re
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, BinaryIO, TypeVar

from ops.foundation.errors import ValidationError, plain, text_of
from ops.foundation.locks import FileLock

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

__all__ = ["Journal", "Line"]

T = TypeVar("T")


@dataclass(frozen=True, slots=True)
class Line:
    """One line of a journal: where it stands and what it says; `entry` is None when it is torn."""

    path: Path
    number: int
    text: bytes
    entry: dict[str, Any] | None

    def read(self, make: Callable[[dict[str, Any]], T]) -> T | None:
        """Return what *make* makes of the entry, None for a line that says nothing of the kind."""
        if self.entry is None:
            return None
        try:
            return make(self.entry)
        except (KeyError, TypeError, ValueError):
            return None


class Journal:
    """An append-only file of JSON objects, one per line, and the segments it was rotated into.

    *max_bytes* is the size at which a segment is closed (None: never), *keep* how many closed
    segments stay (None: all). Files are created with mode 0600.
    """

    def __init__(
        self, path: str | os.PathLike[str], *, max_bytes: int | None = None, keep: int | None = None
    ) -> None:
        if (max_bytes is not None and max_bytes < 1) or (keep is not None and keep < 1):
            raise ValidationError(
                f"max_bytes and keep must be at least 1, or None: {max_bytes}, {keep}."
            )
        self.path: Path = Path(path).absolute()
        self._max_bytes, self._keep = max_bytes, keep
        self._lock = FileLock(self.path.with_name(f".{self.path.name}.lock"))

    def append(self, make: Callable[[bytes | None], bytes]) -> None:
        """Append the line that *make* returns; it is given the last complete line, or None.

        Raises OSError when the line could not be written; then nothing of it is left.
        """
        self.path.parent.mkdir(parents=True, exist_ok=True)
        with self._lock:
            line = make(self._last_line()) + b"\n"
            self._rotate(len(line))
            fd = os.open(self.path, os.O_WRONLY | os.O_APPEND | os.O_CREAT | os.O_CLOEXEC, 0o600)
            try:
                size = os.fstat(fd).st_size
                if size and not _ends_with_newline(self.path, size):
                    line = b"\n" + line
                if os.write(fd, line) != len(line):
                    os.ftruncate(fd, size)
                    raise OSError(errno.ENOSPC, "no room for a whole line", str(self.path))
            finally:
                os.close(fd)

    def segments(self) -> list[Path]:
        """Return the files of the journal, oldest first."""
        pattern = re.compile(re.escape(self.path.name) + r"\.\d{6,}")
        try:
            closed = [p for p in self.path.parent.iterdir() if pattern.fullmatch(p.name)]
        except FileNotFoundError:
            return []
        ordered = sorted(closed, key=lambda p: int(p.name.rpartition(".")[2]))
        return [*ordered, self.path] if self.path.exists() else ordered

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
        line = _last_complete_line(self.path) if self.path.exists() else None
        if line is not None:  # as nearly always: without a look at the whole folder
            return line
        closed = (_last_complete_line(p) for p in reversed(self.segments()) if p != self.path)
        return next((line for line in closed if line is not None), None)

    def _rotate(self, coming: int) -> None:
        if self._max_bytes is None or not self.path.exists():
            return
        if self.path.stat().st_size + coming <= self._max_bytes:
            return
        closed = [p for p in self.segments() if p != self.path]
        number = int(closed[-1].name.rpartition(".")[2]) + 1 if closed else 1
        self.path.rename(self.path.with_name(f"{self.path.name}.{number:06}"))
        if self._keep is not None:
            for old in closed[: max(0, len(closed) + 1 - self._keep)]:
                old.unlink()


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
