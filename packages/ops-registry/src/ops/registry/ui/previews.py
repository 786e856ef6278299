"""What a page shows of a file: the beginning of a text or a table, a picture, a sound, an HTML file in a frame.

Files come from any program that logged them, so only the beginning is read, whatever their size, and what cannot be read is a
sentence and no failure.
"""

from __future__ import annotations

import csv
import dataclasses
import itertools
import json
from typing import TYPE_CHECKING, Any

from ops.registry.ui.downloads import LARGEST_HTML
from ops.registry.ui.run_files import PICTURES

if TYPE_CHECKING:
    import pathlib
    from collections.abc import Sequence

__all__ = ["Preview", "preview"]

_SOUNDS = frozenset((".wav", ".mp3", ".ogg", ".oga", ".flac", ".m4a", ".opus"))
_FILMS = frozenset((".mp4", ".webm", ".ogv"))
_MOST_BYTES, _LARGEST_JSON = 256 << 10, 2 << 20
_MOST_ROWS, _MOST_COLUMNS, _MOST_CELL = 100, 60, 200


@dataclasses.dataclass(frozen=True, slots=True)
class Preview:
    """*kind* is picture, sound, film, html, text, table or none; *note* is what is left out, or why nothing is shown."""

    kind: str
    text: str = ""
    columns: Sequence[str] = ()
    rows: Sequence[Sequence[Any]] = ()
    note: str = ""


def preview(path: pathlib.Path) -> Preview:
    """Return what to show of the file *path*."""
    suffix, size = path.suffix.lower(), path.stat().st_size
    for kind, suffixes in (("picture", PICTURES), ("sound", _SOUNDS), ("film", _FILMS)):
        if suffix in suffixes:
            return Preview(kind)
    if suffix in {".html", ".htm"} and size <= LARGEST_HTML:
        return Preview("html")
    try:
        if suffix in {".parquet", ".pq"}:
            return _parquet(path)
        if suffix in {".csv", ".tsv"}:
            return _csv(path, "\t" if suffix == ".tsv" else ",")
        if suffix == ".json" and size <= _LARGEST_JSON:
            return _json(path)
    except (OSError, ValueError, csv.Error, RecursionError) as error:
        shown = _text(path)
        return dataclasses.replace(
            shown, note=f"Shown as it is, since it cannot be read: {error}"[:300]
        )
    return _text(path)


def _text(path: pathlib.Path) -> Preview:
    with path.open("rb") as file:
        beginning = file.read(_MOST_BYTES)
        more = bool(file.read(1))
    if b"\0" in beginning:
        return Preview("none", note="This is no text; download it to open it in a program.")
    note = f"The first {_MOST_BYTES >> 10} KB." if more else ""
    return Preview("text", text=beginning.decode("utf-8", "replace"), note=note)


def _json(path: pathlib.Path) -> Preview:
    written = json.dumps(json.loads(path.read_bytes()), indent=2, ensure_ascii=False)
    text = written.encode("utf-8", "replace").decode()  # half a surrogate pair is no text
    note = f"The first {_MOST_BYTES >> 10} KB." if len(text) > _MOST_BYTES else ""
    return Preview("text", text=text[:_MOST_BYTES], note=note)


def _csv(path: pathlib.Path, separator: str) -> Preview:
    with path.open("rb") as file:
        beginning = file.read(_MOST_BYTES)
        more = bool(file.read(1))
    lines = beginning.decode("utf-8-sig", "replace").splitlines(keepends=True)
    if more and len(lines) > 1:
        lines.pop()  # the last one is cut
    found = list(itertools.islice(csv.reader(lines, delimiter=separator), _MOST_ROWS + 2))
    columns, rows = (found[0], found[1:]) if found else ([], [])
    return _table(columns, rows, more=more)


def _parquet(path: pathlib.Path) -> Preview:
    import pyarrow as pa
    import pyarrow.parquet as pq

    try:
        with pq.ParquetFile(path) as file:
            names = file.schema_arrow.names
            shown_names = names[:_MOST_COLUMNS]
            first = next(
                file.iter_batches(_MOST_ROWS, columns=shown_names, use_threads=False), None
            )
            columns = [] if first is None else [each.to_pylist() for each in first.columns]
            total = file.metadata.num_rows
    except pa.ArrowException as error:
        raise ValueError(str(error)) from error
    rows = list(zip(*columns, strict=True))
    shown = _table(names, rows, more=False)
    size = f"{total:,} rows, {len(names)} columns"
    cut = total > len(rows) or len(names) > _MOST_COLUMNS
    return dataclasses.replace(shown, note=f"The beginning of {size}." if cut else f"{size}.")


def _table(columns: Sequence[str], rows: Sequence[Sequence[Any]], *, more: bool) -> Preview:
    cut = more or len(rows) > _MOST_ROWS or len(columns) > _MOST_COLUMNS
    shown = [[_cell(value) for value in row[:_MOST_COLUMNS]] for row in rows[:_MOST_ROWS]]
    note = f"The first {len(shown)} rows." if cut else ""
    if len(columns) > _MOST_COLUMNS:
        note = f"The first {len(shown)} rows and {_MOST_COLUMNS} of {len(columns)} columns."
    return Preview("table", columns=columns[:_MOST_COLUMNS], rows=shown, note=note)


def _cell(value: Any) -> Any:
    if value is None or isinstance(value, bool | int | float):
        return value
    text = str(value)
    return text if len(text) <= _MOST_CELL else f"{text[:_MOST_CELL]}…"
