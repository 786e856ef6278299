"""Sorting a table by the heads of its columns: a click asks for one, a click with Shift adds one more.

An order is what `search_runs` takes: fields with ASC or DESC, separated by commas.
"""

from __future__ import annotations

import re

__all__ = ["added", "direction", "field_name", "only", "rank"]

#: Commas in a quoted name separate nothing, as in the search language.
_PART = re.compile(r"""(?:[^,"`]|"[^"]*"|`[^`]*`|["`])+""")


def only(order: str, column: str) -> str:
    """Return the order that a click on the head of *column* asks for: down, up, none."""
    return _next(column, dict(_keys(order)).get(_plain(column)))


def added(order: str, column: str) -> str:
    """Return *order* with *column* as its last key, or turned around where it stands, or removed."""
    keys, found = _keys(order), False
    parts = []
    for name, is_down in keys:
        if name == _plain(column):
            found = True
            parts.append(_next(column, is_down))
        else:
            parts.append(f"{_field(name)} {'DESC' if is_down else 'ASC'}")
    if not found:
        parts.append(_next(column, None))
    return ", ".join(filter(None, parts))


def direction(order: str, column: str) -> str:
    """Return the value of ``aria-sort`` for *column*."""
    is_down = dict(_keys(order)).get(_plain(column))
    return "none" if is_down is None else "descending" if is_down else "ascending"


def rank(order: str, column: str) -> int:
    """Return which key *column* is, from 1, if there are several; 0 otherwise."""
    names = [name for name, _ in _keys(order)]
    name = _plain(column)
    return names.index(name) + 1 if len(names) > 1 and name in names else 0


def _next(column: str, is_down: bool | None) -> str:  # noqa: FBT001 - three states: not sorted, down, up
    if is_down is None:
        return f"{_field(column)} DESC"
    return f"{_field(column)} ASC" if is_down else ""


def _keys(order: str) -> list[tuple[str, bool]]:
    """Return (column, whether it goes down) of each key."""
    found = []
    for part in _PART.findall(order):
        field, _, word = part.strip().rpartition(" ")
        directed = word.upper() in {"ASC", "DESC"} and field
        name = field.strip() if directed else part.strip()
        found.append((_plain(name), bool(directed) and word.upper() == "DESC"))
    return found


def _plain(field: str) -> str:
    """Return a field as a column: as it is written in the head, whatever quotes people use."""
    group, dot, key = field.partition(".")
    is_quoted = len(key) > 1 and key[0] == key[-1] and key[0] in '"`'
    return f"{group}{dot}{key[1:-1] if is_quoted else key}"


def _field(column: str) -> str:
    """Return a column as a field of the search language."""
    group, dot, key = column.partition(".")
    quote_mark = "`" if '"' in key else '"'
    return f"{group}.{quote_mark}{key}{quote_mark}" if dot else column


def field_name(column: str) -> str:
    """Return a column as people write it in a search, in quotes only where they are needed."""
    key = column.partition(".")[2]
    return column if re.fullmatch(r"[\w./:-]*[\w/]|", key, re.ASCII) else _field(column)
