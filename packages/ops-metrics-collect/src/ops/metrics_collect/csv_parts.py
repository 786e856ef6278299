r"""CSV files of bounded size, each complete with its header, and the reading of their rows.

Text is UTF-8 with "\n" line ends and RFC 4180 quotes. As in PostgreSQL's COPY, a field without
quotes and content is NULL and `""` is empty text; the csv module cannot write that difference before
Python 3.12, so lines are made here. A part is closed before the row that would exceed the limit;
a row that is larger than the limit alone gets a part of its own.
"""

from __future__ import annotations

import datetime as dt
import json
import pathlib
import re
from typing import IO, TYPE_CHECKING, Any

if TYPE_CHECKING:
    import os
    from collections.abc import Callable, Iterable, Iterator, Sequence

__all__ = ["count_rows", "encode_row", "read_lines", "write_csv_parts"]

_NEEDS_QUOTES = re.compile(r'[",\r\n]|^\s|\s$|^\\\.$')


def write_csv_parts(
    rows: Iterable[Sequence[Any]],
    columns: Sequence[str],
    part_path: Callable[[int], pathlib.Path],
    *,
    max_bytes: int,
) -> list[pathlib.Path]:
    """Write *rows* to the files that *part_path* names by index; no rows make no file."""
    header = encode_row(columns)
    paths: list[pathlib.Path] = []
    file: IO[bytes] | None = None
    size = 0
    try:
        for row in rows:
            line = encode_row(row)
            if file is None or size + len(line) > max_bytes:
                if file is not None:
                    file.close()
                paths.append(part_path(len(paths)))
                file = paths[-1].open("wb")
                file.write(header)
                size = len(header)
            file.write(line)
            size += len(line)
    except BaseException:
        if file is not None:
            file.close()
        for path in paths:
            path.unlink(missing_ok=True)
        raise
    if file is not None:
        file.close()
    return paths


def encode_row(row: Iterable[Any]) -> bytes:
    """Return one line of CSV with its line end."""
    return (",".join([_field(value) for value in row]) + "\n").encode("utf-8", "surrogatepass")


def _field(value: Any) -> str:
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


def count_rows(path: str | os.PathLike[str]) -> int:
    """Return the number of records below the header."""
    return max(sum(1 for _ in read_lines(path)) - 1, 0)
