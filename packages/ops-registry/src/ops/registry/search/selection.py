"""Filtering and ordering records that are in memory: model versions and experiments."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Any, TypeVar

from ops.registry.search.filters import holds, sort_key
from ops.registry.search.parser import parse_filter, parse_orders
from ops.registry.validators import check_count

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

    from ops.registry.search.filters import Kind, Lookup

__all__ = ["select"]

T = TypeVar("T")


def select(
    records: Sequence[T],
    fields: Mapping[str, Kind],
    lookup: Callable[[T], Lookup],
    text: str | None = None,
    order_by: str | Sequence[str] | None = None,
    limit: int | None = None,
) -> list[T]:
    """Return the records for which *text* holds, ordered, at most *limit*.

    *fields* are the names without a group, *lookup* returns what finds the fields of a record. Records without
    a value come last in either direction.
    """
    if limit is not None:
        check_count("limit", limit)
    node = parse_filter(text, fields)
    found = [one for one in records if node is None or holds(node, lookup(one))]
    for order in reversed(parse_orders(order_by, fields)):
        valued = [(lookup(one)(order.field), one) for one in found]
        there = [(sort_key(order.kind, value), one) for value, one in valued if not _absent(value)]
        there.sort(key=lambda pair: pair[0], reverse=order.descending)
        found = [*(one for _, one in there), *(one for value, one in valued if _absent(value))]
    return found[:limit]


def _absent(value: Any) -> bool:
    return value is None or (isinstance(value, float) and math.isnan(value))
