"""How values read on a page."""

from __future__ import annotations

import datetime as dt
import json
from typing import TYPE_CHECKING, Any
from urllib.parse import quote, urlencode

from ops.foundation.formatting import format_bytes, format_duration
from ops.registry.ui import sort_keys

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

    from ops.registry.ui.runs_view import TableView

__all__ = ["FILTERS"]


def _value(value: Any) -> str:
    if value is None:
        return ""
    if isinstance(value, float):
        return f"{value:.6g}"
    return value if isinstance(value, str) else json.dumps(value, default=str)


def _grouped(count: int) -> str:
    return f"{count:,}".replace(",", "\N{THIN SPACE}")


def _is_number(value: Any) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool)


def _when(value: dt.datetime | None) -> str:
    return "" if value is None else value.astimezone().strftime("%Y-%m-%d %H:%M:%S")


def _when_ms(milliseconds: int) -> str:
    """Return a time of a store as text; one that no calendar has is a number."""
    try:
        return _when(dt.datetime.fromtimestamp(milliseconds / 1000, dt.UTC))
    except (OverflowError, OSError, ValueError):
        return str(milliseconds)


def _duration(seconds: float | None) -> str:
    return "" if seconds is None else format_duration(seconds)


def _address(view: TableView, changes: Mapping[str, Any]) -> str:
    """Return the query of *view* with some fields changed; what is the default is left out."""
    fields: dict[str, Any] = {
        "filter": view.filter,
        "order": view.order,
        "page": view.page,
        "size": view.size,
        "summary": view.summary,
        "differing": "1" if view.differing else "",
        "tree": "1" if view.tree else "",
        "deleted": "1" if view.deleted else "",
        "columns": _listed(view.columns),
    } | dict(changes)
    usual = {"page": 1, "size": 50, "summary": "last"}
    kept = {k: v for k, v in fields.items() if v not in ("", None) and usual.get(k) != v}
    return "?" + urlencode(kept)


def _listed(names: Iterable[str]) -> str:
    """Return names as one field of an address, whatever commas they have."""
    return ",".join(quote(name, safe=" ./:@*") for name in names)


FILTERS: dict[str, Any] = {
    "value": _value,
    "grouped": _grouped,
    "is_number": _is_number,
    "when": _when,
    "when_ms": _when_ms,
    "duration": _duration,
    "size": format_bytes,
    "address": _address,
    "sorting": lambda view, column: sort_keys.only(view.order, column),
    "sorting_too": lambda view, column: sort_keys.added(view.order, column),
    "direction": lambda view, column: sort_keys.direction(view.order, column),
    "sort_rank": lambda view, column: sort_keys.rank(view.order, column),
    "field_name": sort_keys.field_name,
    "listed": _listed,
    "query": lambda fields: urlencode({k: v for k, v in fields.items() if v not in ("", None)}),
    "quoted": lambda text: quote(str(text), safe="", errors="surrogateescape"),
}
