"""The spans of a trace in the order of a tree, each with its part of the time line.

Spans come from any program: parents may be missing, form a ring or be ten thousand deep. So the walk is a loop with a
stack of its own, and what no root leads to is a root.
"""

from __future__ import annotations

import dataclasses
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from ops.registry.traces.journal import Span

__all__ = ["WIDTH", "SpanRow", "is_sound", "matching", "span_rows", "total_tokens"]

#: How wide the whole time line is.
WIDTH = 1000
_NS = 1e9


@dataclasses.dataclass(frozen=True, slots=True)
class SpanRow:
    """A span; *offset_seconds* and *duration_seconds* are from the first start, *left* and *width* parts of `WIDTH`.

    *children* is how many spans are right below it. A span that has not ended has no duration, and reaches to the end.
    """

    span_id: str
    name: str
    type: str
    status: str
    depth: int
    children: int
    offset_seconds: float
    duration_seconds: float | None
    left: float
    width: float
    tokens: int | None
    model: str


def is_sound(span: Span) -> bool:
    """Whether a span that was read from a store has what each span has."""
    fields: tuple[Any, ...] = (
        span  # no frame was checked, so none has the declared types for certain
    )
    span_id, parent_id, name, _, _, start, end, more, _ = fields
    return (
        isinstance(span_id, str)
        and isinstance(parent_id, str | None)
        and isinstance(name, str)
        and isinstance(start, int)
        and isinstance(end, int | None)
        and isinstance(more, dict)
    )


def span_rows(spans: Sequence[Span]) -> list[SpanRow]:
    """Return the spans, parents before their children and those by their start."""
    first = min((span.start for span in spans), default=0)
    last = max((span.end or span.start for span in spans), default=0)
    scale = WIDTH / max(last - first, 1)
    return [
        _row(span, depth, children, (first, last), scale) for span, depth, children in _walk(spans)
    ]


def matching(rows: Sequence[SpanRow], text: str) -> list[SpanRow]:
    """Return the rows with *text* in the name, type, model or status, in small or capital letters."""
    wanted = text.strip().casefold()
    return [
        row
        for row in rows
        if any(wanted in one.casefold() for one in (row.name, row.type, row.model, row.status))
    ]


def total_tokens(spans: Sequence[Span]) -> int | None:
    """Return the tokens of a trace: a span that has a number counts for all that are below it."""
    found = None
    below = -1
    for span, depth, _ in _walk(spans):
        if below >= 0 and depth > below:
            continue
        tokens = _tokens(span)
        below = depth if tokens is not None else -1
        found = found if tokens is None else (found or 0) + tokens
    return found


def _walk(spans: Sequence[Span]) -> Iterator[tuple[Span, int, int]]:
    """Yield each span with its depth and the number of its children."""
    ordered = sorted(spans, key=lambda span: (span.start, span.span_id))
    here = {span.span_id for span in ordered}
    children: dict[str | None, list[Span]] = {}
    for span in ordered:
        parent = span.parent_id if span.parent_id in here else None
        children.setdefault(parent, []).append(span)
    seen: set[str] = set()
    # Those at last that are in a ring, which no root leads to.
    for root in (*children.get(None, ()), *ordered):
        waiting = [(root, 0)]
        while waiting:
            span, depth = waiting.pop()
            if span.span_id in seen:
                continue
            seen.add(span.span_id)
            below = children.get(span.span_id, [])
            yield span, depth, len(below)
            waiting += [(child, depth + 1) for child in reversed(below)]


def _row(span: Span, depth: int, children: int, extent: tuple[int, int], scale: float) -> SpanRow:
    first, last = extent
    end = last if span.end is None else span.end
    model = span.more.get("model")
    return SpanRow(
        str(span.span_id),
        str(span.name),
        "" if span.type in {None, "UNKNOWN"} else str(span.type),
        str(span.status),
        depth,
        children,
        (span.start - first) / _NS,
        None if span.end is None else (span.end - span.start) / _NS,
        round((span.start - first) * scale, 2),
        round(max(end - span.start, 0) * scale, 2),
        _tokens(span),
        "" if model is None else str(model),
    )


def _tokens(span: Span) -> int | None:
    usage = span.more.get("usage")
    found = usage.get("total_tokens") if isinstance(usage, dict) else None
    return found if isinstance(found, int) and not isinstance(found, bool) else None
