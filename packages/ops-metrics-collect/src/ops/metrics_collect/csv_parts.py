r"""CSV files of bounded size, each complete with its header, and the reading of their rows.

Text is UTF-8 (half a surrogate pair becomes U+FFFD) with "\n" line ends and RFC 4180 quotes. As in PostgreSQL's COPY, a field without
quotes and content is NULL and `""` is empty text; the csv module cannot write that difference before
Python 3.12, so lines are made here. A part is closed before the row that would exceed the limit;
a row that is larger than the limit alone gets a part of its own.
"""

from __future__ import annotations

import datetime as dt
import json
import os
import pathlib
import re
import tempfile
from typing import IO, TYPE_CHECKING, Any, Self

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator, Sequence

__all__ = [
    "CsvParts",
    "encode_field",
    "encode_row",
    "part_path",
    "read_lines",
    "well_formed",
    "write_csv_parts",
]

_NEEDS_QUOTES = re.compile(r'[",\r\n]|^\s|\s$|^\\\.$')


class CsvParts:
    """Writes lines to the files that *part_path* names by index; no lines make no file.

    Used as a context manager: when the block fails, what was written is removed.
    """

    def __init__(
        self, header: bytes, part_path: Callable[[int], pathlib.Path], *, max_bytes: int
    ) -> None:
        self.paths: list[pathlib.Path] = []
        self._header = header
        self._part_path = part_path
        self._max_bytes = max_bytes
        self._file: IO[bytes] | None = None
        self._size = 0

    def write(self, line: bytes | memoryview) -> None:
        """Append one record, its line end included."""
        size = self._size + len(line)
        if self._file is None or size > self._max_bytes:
            self._begin()
            size = self._size + len(line)
        self._file.write(line)  # type: ignore[union-attr]  # begun above
        self._size = size

    def _begin(self) -> None:
        self._end()
        self.paths.append(self._part_path(len(self.paths)))
        self._file = self.paths[-1].open("wb", buffering=1 << 18)
        self._file.write(self._header)
        self._size = len(self._header)

    def _end(self) -> None:
        file, self._file = self._file, None
        if file is not None:
            file.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: type[BaseException] | None, *_: object) -> None:
        try:
            self._end()
        except OSError:  # the last buffer met a full disk
            kind = OSError
            raise
        finally:
            if kind is not None:
                for path in self.paths:
                    path.unlink(missing_ok=True)


def write_csv_parts(
    rows: Iterable[Sequence[Any]],
    columns: Sequence[str],
    part_path: Callable[[int], pathlib.Path],
    *,
    max_bytes: int,
) -> list[pathlib.Path]:
    """Write *rows* to the files that *part_path* names by index; no rows make no file."""
    with CsvParts(encode_row(columns), part_path, max_bytes=max_bytes) as parts:
        for row in rows:
            parts.write(encode_row(row))
    return parts.paths


def encode_row(row: Iterable[Any]) -> bytes:
    """Return one line of CSV with its line end."""
    return well_formed(",".join([encode_field(value) for value in row]) + "\n").encode()


def well_formed(text: str) -> str:
    """Return *text* as UTF-8 can hold it: half a character, which JSON can hold, becomes U+FFFD."""
    try:
        text.encode()
    except UnicodeEncodeError:
        return text.encode("utf-16", "surrogatepass").decode("utf-16", "replace")
    return text


def encode_field(value: Any) -> str:
    """Return one field, with quotes where it needs them."""
    if value is None:
        return ""
    text = value if isinstance(value, str) else _text(value)
    if not text or _NEEDS_QUOTES.search(text):
        return '"' + text.replace('"', '""') + '"'
    return text


def _text(value: Any) -> str:
    if isinstance(value, bool):
        return "t" if value else "f"
    if isinstance(value, dt.datetime):
        return value.isoformat()
    if isinstance(value, bytes | bytearray | memoryview):
        return "\\x" + bytes(value).hex()
    if isinstance(value, dict | list | tuple):
        return json.dumps(value, ensure_ascii=False, separators=(",", ":"), default=str)
    return str(value)


def read_lines(path: str | os.PathLike[str]) -> Iterator[bytes]:
    """Yield the records of a CSV file as they are, line ends inside quotes included."""
    record = b""
    with pathlib.Path(path).open("rb") as file:
        for line in file:
            record += line
            # An odd number of quotes so far means that a quoted field goes on.
            if record.count(b'"') % 2 == 0:
                yield record
                record = b""
    if record:
        yield record


def part_path(folder: str | os.PathLike[str] | None, name: str, index: int) -> pathlib.Path:
    """Make an empty file for part *index* of *name* in *folder* (default: of temporary files)."""
    descriptor, path = tempfile.mkstemp(".csv", f"{name}-{index:06}-", folder)
    os.close(descriptor)
    return pathlib.Path(path)
