"""What a page shows of one span: what went in and out, messages of a chat, attributes, events with their errors.

A span's content is JSON of the program that logged it. It is shown as text, and of what is long the beginning; the whole is
a download.
"""

from __future__ import annotations

import dataclasses
import json
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from ops.registry.traces.journal import Span

__all__ = ["SpanView", "Text", "shown", "span_view"]

_INPUTS, _OUTPUTS = "mlflow.spanInputs", "mlflow.spanOutputs"
#: Attributes that the page has elsewhere.
_KNOWN = {_INPUTS, _OUTPUTS, "mlflow.spanType", "mlflow.traceRequestId"}
_MOST_CHARACTERS, _MOST_SHORT = 20_000, 2_000
_MOST_ATTRIBUTES, _MOST_EVENTS, _MOST_MESSAGES = 200, 50, 50


@dataclasses.dataclass(frozen=True, slots=True)
class Text:
    """A text, or its beginning; *left_out* is how many characters are not in it."""

    text: str
    left_out: int = 0


@dataclasses.dataclass(frozen=True, slots=True)
class SpanView:
    """A span; *messages* are (role, text) where what went in is a chat, *events* are (name, [(key, text)])."""

    span: Span
    message: str
    inputs: Text | None
    outputs: Text | None
    messages: Sequence[tuple[str, Text]]
    attributes: Sequence[tuple[str, Text]]
    events: Sequence[tuple[str, Sequence[tuple[str, Text]]]]


def span_view(span: Span) -> SpanView:
    """Return what to show of *span*, which has its content."""
    content = _mapping(_decoded(span.content))
    attributes = _mapping(content.get("attributes"))
    inputs = _decoded(attributes.get(_INPUTS))
    events = content.get("events")
    return SpanView(
        span,
        str(_mapping(content.get("status")).get("message") or ""),
        None if inputs is None else shown(inputs),
        None if attributes.get(_OUTPUTS) is None else shown(_decoded(attributes[_OUTPUTS])),
        _messages(inputs),
        _texts({key: _decoded(attributes[key]) for key in attributes if key not in _KNOWN}),
        [
            (str(_mapping(event).get("name")), _texts(_mapping(_mapping(event).get("attributes"))))
            for event in (events if isinstance(events, list) else [])[:_MOST_EVENTS]
        ],
    )


def shown(value: Any, most: int = _MOST_CHARACTERS) -> Text:
    """Return a value as text of up to *most* characters: a text as it is, all else as JSON with indents."""
    if isinstance(value, str):
        text = value
    else:
        try:
            text = json.dumps(value, indent=2, ensure_ascii=False, default=str)
        except (ValueError, RecursionError):  # nested deeper than Python goes
            text = "(nested too deep to be shown)"
    return Text(text[:most], max(len(text) - most, 0))


def _messages(inputs: Any) -> list[tuple[str, Text]]:
    """Return the messages of a chat, none if *inputs* is no chat alone."""
    found = inputs.get("messages") if isinstance(inputs, dict) else inputs
    if not isinstance(found, list) or not found or len(found) > _MOST_MESSAGES:
        return []
    if not all(isinstance(one, dict) and "role" in one and "content" in one for one in found):
        return []
    return [(str(one["role"])[:40], shown(one["content"])) for one in found]


def _texts(values: Mapping[str, Any]) -> list[tuple[str, Text]]:
    kept = sorted(values.items())[:_MOST_ATTRIBUTES]
    most = {"exception.stacktrace": _MOST_CHARACTERS}
    return [(key, shown(value, most.get(key, _MOST_SHORT))) for key, value in kept]


def _mapping(value: Any) -> Mapping[str, Any]:
    return value if isinstance(value, dict) else {}


def _decoded(value: Any) -> Any:
    """Return what a JSON text is, and anything else as it is."""
    if not isinstance(value, str):
        return value
    try:
        return json.loads(value)
    except (ValueError, RecursionError):
        return value
