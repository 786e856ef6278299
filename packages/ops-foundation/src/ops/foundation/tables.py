"""Tables of text whose columns line up in a terminal, wide and combining characters included."""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Mapping, Sequence
from typing import Any, Literal, TypeAlias

__all__ = ["Alignment", "display_width", "format_table"]

Alignment: TypeAlias = Literal["left", "right", "center", "auto"]


def format_table(
    rows: Sequence[Sequence[Any]] | Sequence[Mapping[str, Any]],
    headers: Sequence[str] | None = None,
    align: Alignment | Sequence[Alignment] = "auto",
    max_width: int | None = None,
) -> str:
    """Return *rows* as lines of aligned columns.

    Rows are sequences, or mappings whose keys (in the order of the first) are the *headers*.
    *align* is one for all or one per column; "auto" puts columns of numbers to the right.
    *max_width* is the widest a column may be (default: no limit); longer cells end in "…". Short
    rows are filled with empty cells.

    Headers that come first, as in other libraries, are known by being text where rows are
    sequences. Raises TypeError for a row that is text otherwise: each letter would be a cell.

    >>> print(format_table([["lr", 0.1], ["depth", 12]], ["name", "value"]))
    name   value
    -----  -----
    lr       0.1
    depth     12
    """
    if headers is not None and _are_texts(rows) and _are_rows(headers):
        given: tuple[Any, Any] = headers, rows
        rows, headers = given
    if any(isinstance(row, str | bytes) for row in rows):
        raise TypeError(
            "A row is a sequence of cells or a mapping, and one here is text; "
            "the order is format_table(rows, headers)."
        )
    names, raw = _as_rows(rows, headers)
    columns = max([len(names or ()), *(len(r) for r in raw)], default=0)
    if not columns:
        return ""
    body = [[_cell(r[i]) if i < len(r) else "" for i in range(columns)] for r in raw]
    head = [] if names is None else [[_cell(n) for n in [*names, *[""] * (columns - len(names))]]]
    lines = [[_fit(cell, max_width) for cell in line] for line in (*head, *body)]
    widths = [max(display_width(line[i]) for line in lines) for i in range(columns)]
    sides = _sides(align, raw, columns)
    text = [
        "  ".join(_pad(c, w, s) for c, w, s in zip(line, widths, sides, strict=True)).rstrip()
        for line in lines
    ]
    if head:
        text.insert(1, "  ".join("-" * w for w in widths))
    return "\n".join(text)


def _are_texts(values: Sequence[Any]) -> bool:
    return bool(values) and all(isinstance(value, str) for value in values)


def _are_rows(values: Sequence[Any]) -> bool:
    return all(isinstance(v, Sequence | Mapping) and not isinstance(v, str | bytes) for v in values)


def display_width(text: str) -> int:
    """Return how many terminal cells *text* takes: 2 for wide, 0 for combining characters and colours."""
    text = _STYLE.sub("", text)
    if text.isascii():
        return len(text)
    return sum(_character_width(c) for c in text)


_STYLE = re.compile(r"\x1b\[[0-9;]*m")


def _character_width(character: str) -> int:
    if unicodedata.combining(character) or unicodedata.category(character) in {"Mn", "Me", "Cf"}:
        return 0
    return 2 if unicodedata.east_asian_width(character) in "WF" else 1


def _as_rows(
    rows: Sequence[Any], headers: Sequence[str] | None
) -> tuple[list[str] | None, list[Sequence[Any]]]:
    if rows and isinstance(rows[0], Mapping):
        names = (
            list(dict.fromkeys(k for row in rows for k in row))
            if headers is None
            else list(headers)
        )
        return names, [[row.get(n) for n in names] for row in rows]
    return None if headers is None else list(headers), list(rows)


def _cell(value: Any) -> str:
    """Return one line: a line break or a tab in a cell would break the table."""
    return " ".join(str(value).replace("\t", " ").splitlines()) if value is not None else ""


def _fit(cell: str, limit: int | None) -> str:
    if limit is None or display_width(cell) <= limit:
        return cell
    if limit < 1:
        return ""
    kept, used = [], 0
    for character in _STYLE.sub("", cell):  # half a style would colour what follows
        used += _character_width(character)
        if used > limit - 1:
            break
        kept.append(character)
    return "".join(kept) + "…"


def _sides(
    align: Alignment | Sequence[Alignment], rows: Sequence[Sequence[Any]], columns: int
) -> list[Alignment]:
    sides: list[Alignment] = [align] * columns if isinstance(align, str) else list(align)
    if len(sides) != columns:
        raise ValueError(f"align has {len(sides)} entries for {columns} columns.")
    unknown = {*sides} - {"left", "right", "center", "auto"}
    if unknown:
        raise ValueError(f"align={min(unknown)!r} is unknown; use left, right, center or auto.")
    return [(_natural_side(rows, i) if side == "auto" else side) for i, side in enumerate(sides)]


def _natural_side(rows: Sequence[Sequence[Any]], column: int) -> Alignment:
    cells = [r[column] for r in rows if column < len(r) and r[column] is not None]
    numbers = cells and all(isinstance(c, int | float) and not isinstance(c, bool) for c in cells)
    return "right" if numbers else "left"


def _pad(cell: str, width: int, side: Alignment) -> str:
    space = width - display_width(cell)
    if side == "right":
        return " " * space + cell
    if side == "center":
        return " " * (space // 2) + cell + " " * (space - space // 2)
    return cell + " " * space
