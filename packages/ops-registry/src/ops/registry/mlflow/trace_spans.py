# mypy: disable-error-code="no-untyped-call"
# (MLflow's tracing utilities are not annotated throughout)
"""What a batch of spans has about its trace: the head of the frame that keeps them.

MLflow translates spans of OpenTelemetry when they are stored, and its store reads from them the times, the state, previews,
session, user, tags, tokens and costs of the trace. The same is read here once, by the process that logs; how batches come
together is decided by `ops.registry.traces.state` when they are read.
"""

from __future__ import annotations

import json
import logging
from typing import TYPE_CHECKING, Any

from mlflow.entities import SpanStatusCode, TraceState
from mlflow.exceptions import MlflowException
from mlflow.tracing.constant import (
    GenAiSemconvKey,
    SpanAttributeKey,
    SpansLocation,
    TraceMetadataKey,
    TraceTagKey,
)
from mlflow.tracing.otel.translation import sanitize_attributes, translate_span_when_storing
from mlflow.tracing.utils import TraceJSONEncoder, try_json_loads
from mlflow.tracing.utils.truncation import _get_truncated_preview
from mlflow.utils.validation import _validate_trace_tag

from ops.registry.mlflow.trace_entities import checked_name, checked_session, sums_of_spans
from ops.registry.traces.journal import Span as KeptSpan
from ops.registry.traces.journal import content_of

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence

    from mlflow.entities import Span

__all__ = ["batch_frame", "stored_fields"]

logger: logging.Logger = logging.getLogger("ops.registry")

_NS_PER_MS = 1_000_000
_STATUS = "STATUS_CODE_"
_LONGEST_MODEL = 500
#: Attributes of a span, and under which word a frame keeps them.
_NUMBERS = {"usage": SpanAttributeKey.CHAT_USAGE, "cost": SpanAttributeKey.LLM_COST}
_MODELS = {"model": SpanAttributeKey.MODEL, "provider": SpanAttributeKey.MODEL_PROVIDER}
_OWN, _MODEL = "mlflow.", "model"
_IN_AND_OUT = (SpanAttributeKey.INPUTS, SpanAttributeKey.OUTPUTS)
#: What a text that is JSON of a text, an object or a list begins with after its quote; a backslash is of a quote or of white space.
_TWICE = set(" {[\\")
#: Resource attributes that are not the user's.
_RESERVED = ("telemetry.sdk.", "mlflow.")


def batch_frame(trace_id: str, spans: Sequence[Span]) -> tuple[dict[str, Any], list[bytes]]:
    """Return the head of the frame that keeps *spans* of one trace, and their JSON."""
    seen: dict[str, Any] = {"time": min(s.start_time_ns for s in spans) // _NS_PER_MS}
    ends = [span.end_time_ns for span in spans if span.end_time_ns is not None]
    seen["end"] = max(ends) // _NS_PER_MS if ends else None
    seen |= {"status": _state(spans), "request": None, "response": None}
    defaults: dict[str, str] = {}
    own_tags: dict[str, str] = {}
    kept, contents = [], []
    for span in spans:
        fields = stored_fields(span)
        attributes = fields.get("attributes") or {}
        _note_people(defaults, attributes)
        content = content_of(fields, TraceJSONEncoder)
        contents.append(content)
        kept.append(_row(span, fields, len(content)))
        if span.parent_id is None:
            own_tags |= dict(_tags_of_root(attributes))
            _note_previews(seen, attributes)
    for kind in _NUMBERS:
        has_any = any(kind in (row[-1] or ()) for row in kept)
        seen[kind] = sums_of_spans(map(_as_kept, kept), kind) if has_any else None
    location = {TraceTagKey.SPANS_LOCATION: SpansLocation.TRACKING_STORE.value}
    seen |= {
        "tags": {**location, **dict(_tags_of_resource(spans)), **own_tags},
        "defaults": defaults,
    }
    return {"op": "spans", "id": trace_id, "seen": seen, "n": kept}, contents


def stored_fields(span: Span) -> dict[str, Any]:
    """Return a span as MLflow stores it, all that is OpenTelemetry's or of another library translated.

    MLflow asks a dozen translators about each span, most of the time that it takes to store one. A span of MLflow's own has
    nothing for them: only attributes of MLflow, no events, its costs known, and no model to be found in what went in and out.
    """
    fields: dict[str, Any] = span.to_dict()
    attributes = fields["attributes"]
    if fields["events"] or not all(key.startswith(_OWN) for key in attributes):
        return translate_span_when_storing(span)
    if SpanAttributeKey.CHAT_USAGE in attributes and SpanAttributeKey.LLM_COST not in attributes:
        return translate_span_when_storing(span)
    if SpanAttributeKey.MODEL not in attributes:
        texts = (attributes.get(key) for key in _IN_AND_OUT)
        if any(text is not None and _MODEL in str(text) for text in texts):
            return translate_span_when_storing(span)
    # What was encoded twice: a text whose own text is JSON again.
    twice = {
        key: value
        for key, value in attributes.items()
        if isinstance(value, str) and value[:1] == '"' and value[1:2] in _TWICE
    }
    if twice:
        attributes |= sanitize_attributes(twice)
    return fields


def _state(spans: Sequence[Span]) -> str | None:
    """Return what the first root span has about the state of the trace."""
    for span in spans:
        if span.parent_id is None:
            failed = span.status.status_code == SpanStatusCode.ERROR
            return str((TraceState.ERROR if failed else TraceState.OK).value)
    return None


def _row(span: Span, fields: Mapping[str, Any], length: int) -> list[Any]:
    """Return what the head of a frame has of a span."""
    attributes = fields["attributes"]
    more: dict[str, Any] = {}
    for word, key in _NUMBERS.items():
        value = attributes.get(key)
        value = try_json_loads(value) if isinstance(value, str) else value
        if isinstance(value, dict):
            more[word] = value
    for word, key in _MODELS.items():
        text = _unquoted(attributes.get(key))
        if isinstance(text, str):
            more[word] = text[:_LONGEST_MODEL]
    status = fields["status"]["code"].removeprefix(_STATUS)
    start, end = fields["start_time_unix_nano"], fields["end_time_unix_nano"]
    # Of the span, not of its fields: that MLflow's store translates for the content alone.
    names = span.span_id, span.parent_id, fields["name"], span.span_type
    return [*names, status, start, end, length, more or None]


def _as_kept(row: Sequence[Any]) -> KeptSpan:
    span_id, parent_id, name, kind, status, start, end, _, more = row
    return KeptSpan(span_id, parent_id, name, kind, status, start, end, more or {}, "")


def _note_people(defaults: dict[str, str], attributes: Mapping[str, Any]) -> None:
    """Note the session and the user that a span names, unless one before it has."""
    session = attributes.get(SpanAttributeKey.SESSION_ID) or attributes.get(
        GenAiSemconvKey.CONVERSATION_ID
    )
    if session and TraceMetadataKey.TRACE_SESSION not in defaults:
        defaults[TraceMetadataKey.TRACE_SESSION] = checked_session(str(_unquoted(session)))
    user = attributes.get(SpanAttributeKey.USER_ID)
    if user and TraceMetadataKey.TRACE_USER not in defaults:
        defaults[TraceMetadataKey.TRACE_USER] = str(_unquoted(user))


def _note_previews(seen: dict[str, Any], attributes: Mapping[str, Any]) -> None:
    for word, key, role in (
        ("request", SpanAttributeKey.INPUTS, "user"),
        ("response", SpanAttributeKey.OUTPUTS, "assistant"),
    ):
        text = attributes.get(key)
        try:
            seen[word] = _get_truncated_preview(text, role=role) if text else None
        except Exception:
            logger.debug("no preview can be made of a span's %s", word, exc_info=True)


def _tags_of_root(attributes: Mapping[str, Any]) -> Iterator[tuple[str, str]]:
    prefix = SpanAttributeKey.TRACE_TAG_PREFIX
    for name, value in attributes.items():
        if name.startswith(prefix):
            key, text = name.removeprefix(prefix), str(_unquoted(value))
            if key == TraceTagKey.TRACE_NAME:
                text = checked_name(text)
            yield from _sound_tag(key, text)


def _tags_of_resource(spans: Sequence[Span]) -> Iterator[tuple[str, str]]:
    """Yield what the first span with a resource has about it, such as the name of the service."""
    # MLflow has no other way to it.
    resources = (getattr(span._span, "resource", None) for span in spans)  # noqa: SLF001
    found = next((one for one in resources if one is not None and one.attributes), None)
    for key, value in found.attributes.items() if found is not None else ():
        if not key.startswith(_RESERVED):
            yield from _sound_tag(key, value if isinstance(value, str) else json.dumps(value))


def _sound_tag(key: str, value: str) -> Iterator[tuple[str, str]]:
    """Yield a tag as MLflow keeps it, or nothing if that refuses it: a trace is worth more than a tag."""
    try:
        sound, text = _validate_trace_tag(key, value)
        yield str(sound), str(text)
    except MlflowException:
        logger.debug("a tag of a trace is refused: %.80r", key)


def _unquoted(value: Any) -> Any:
    """Return the text that a JSON text is, and anything else as it is."""
    try:
        found = json.loads(value)
    except (TypeError, ValueError):
        return value
    return found if isinstance(found, str) else value
