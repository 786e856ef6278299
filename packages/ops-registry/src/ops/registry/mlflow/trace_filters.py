# mypy: disable-error-code="no-untyped-call,misc"
# (MLflow's search utilities are not annotated)
"""Which traces a filter of MLflow's keeps.

MLflow parses the filter and checks its signs; what a comparison means is what its SQL store makes of it. A missing value
meets no comparison. All comparisons about spans are of one span; they come last, since spans are read from disk. Patterns take
linear time, whatever the text: LIKE by `ops.registry.search.patterns`, RLIKE by the RE2 of pyarrow.
"""

from __future__ import annotations

import json
import operator
from typing import TYPE_CHECKING, Any

from mlflow.tracing.constant import TraceMetadataKey, TraceTagKey
from mlflow.utils.search_utils import SearchTraceUtils

from ops.registry.errors import InvalidValueError
from ops.registry.mlflow.bounded_search import MOST_CHARACTERS
from ops.registry.mlflow.errors import invalid
from ops.registry.mlflow.trace_entities import SUM_KEYS, totals
from ops.registry.search.patterns import matcher

if TYPE_CHECKING:
    from collections.abc import Callable, Collection, Mapping, Sequence

    from ops.registry.traces.journal import Span, TraceJournal
    from ops.registry.traces.state import Trace

__all__ = ["TraceFilter", "TraceView", "number_test", "text_test"]

_ORDERS = {"<": operator.lt, "<=": operator.le, ">": operator.gt, ">=": operator.ge}
_NUMBERS = {"=": operator.eq, "!=": operator.ne, **_ORDERS}
_NULLS = {"IS NULL", "IS NOT NULL"}
_NS_PER_MS = 1_000_000
#: So much earlier than a trace its spans may have begun, by clocks that differ.
_SKEW_MS = 10_000


class TraceView:
    """A trace, with what of it has to be read or added up first."""

    __slots__ = ("_contents", "_journal", "_spans", "trace")

    def __init__(self, trace: Trace, journal: TraceJournal) -> None:
        self.trace = trace
        self._journal = journal
        self._spans: list[Span] | None = None
        self._contents: list[Span] | None = None

    def spans(self, *, contents: bool = False) -> list[Span]:
        """Return the spans, read once."""
        if self._contents is None and contents:
            self._contents = self._spans = self._journal.spans(self.trace)
        if self._spans is None:
            self._spans = self._journal.spans(self.trace, contents=False)
        return self._spans

    def numbers(self, kind: str) -> dict[str, Any]:
        """Return the numbers of tokens (*usage*) or the costs (*cost*) of the trace."""
        return totals(self.trace, kind, self.spans)

    def metadata(self, key: str) -> str | None:
        """Return one of the metadata as MLflow shows it."""
        if key in SUM_KEYS:
            found = self.numbers(SUM_KEYS[key])
            return json.dumps(found) if found else None
        return self.trace.metadata.get(key)

    def attribute(self, key: str) -> Any:
        """Return what MLflow's filters and orders call *key*."""
        trace = self.trace
        if key in {"end_time_ms", "end_time"}:
            return trace.time + (trace.duration or 0)
        return getattr(trace, _ATTRIBUTES[key])

    def is_of_run(self, run_id: str) -> bool:
        """Whether the trace was logged in a run, or linked to it."""
        return (
            self.trace.metadata.get(TraceMetadataKey.SOURCE_RUN) == run_id
            or run_id in self.trace.runs
        )


_ATTRIBUTES = {
    "request_id": "trace_id",
    "experiment_id": "experiment_id",
    "timestamp_ms": "time",
    "execution_time_ms": "duration",
    "status": "state",
    "client_request_id": "client_request_id",
}


class TraceFilter:
    """Decides about traces; *scope* are all that the search is about, which sessions are looked for in.

    Raises MLflow's error for a filter that it does not understand.
    """

    def __init__(self, filter_string: str | None, scope: Sequence[TraceView]) -> None:
        if filter_string and len(filter_string) > MOST_CHARACTERS:
            raise invalid(
                f"A filter has {MOST_CHARACTERS} characters at most, not {len(filter_string)}."
            )
        self._scope = scope
        self._tests: list[Callable[[TraceView], bool]] = []
        self._span_tests: list[Callable[[Span], bool]] = []
        self._reads_contents = False
        self._begins: list[float] = []
        for clause in SearchTraceUtils.parse_search_filter_for_search_traces(filter_string):
            self._add(clause["type"], clause["key"], clause["comparator"].upper(), clause["value"])
        if self._span_tests and self._begins:
            earliest = (max(self._begins) - _SKEW_MS) * _NS_PER_MS
            self._span_tests.append(lambda span: span.start >= earliest)

    def keeps(self, view: TraceView) -> bool:
        """Whether the filter keeps a trace."""
        return self.may_keep(view) and self.has_span(view)

    def may_keep(self, view: TraceView) -> bool:
        """Whether the filter keeps a trace, its spans left out of account."""
        return all(holds(view) for holds in self._tests)

    def has_span(self, view: TraceView) -> bool:
        """Whether one span of the trace is what the filter asks for."""
        if not self._span_tests:
            return True
        spans = view.spans(contents=self._reads_contents)
        return any(all(holds(span) for holds in self._span_tests) for span in spans)

    def _add(self, kind: str, key: str, sign: str, value: Any) -> None:
        asks = SearchTraceUtils
        if asks.is_issue(kind, key, sign):
            self._tests.append(lambda view: _has_issue(view, value))
        elif asks.is_attribute(kind, key, sign):
            self._add_attribute(key, sign, value)
        elif asks.is_tag(kind, sign):
            if key == TraceTagKey.LINKED_PROMPTS:
                _check_prompt(sign, value)
                self._tests.append(lambda view: value in view.trace.prompts)
            else:
                holds = text_test(sign, value)
                self._tests.append(lambda view: holds(view.trace.tags.get(key)))
        elif asks.is_request_metadata(kind, sign):
            self._add_metadata(key, sign, value)
        elif asks.is_span(kind, key, sign):
            self._add_span(key, sign, value)
        elif asks.is_assessment(kind, key, sign):
            self._add_assessment(kind, key, sign, value)
        else:
            raise invalid(f"Invalid search expression type '{kind}'")

    def _add_attribute(self, key: str, sign: str, value: Any) -> None:
        if key == "timestamp_ms" and sign in {">", ">="}:
            self._begins.append(float(value))
        if key in SearchTraceUtils.NUMERIC_ATTRIBUTES:
            holds = number_test(key, sign, value)
        else:
            holds = text_test(sign, value)
        self._tests.append(lambda view: holds(view.attribute(key)))

    def _add_metadata(self, key: str, sign: str, value: Any) -> None:
        if key == TraceMetadataKey.SOURCE_RUN and sign == "=":
            self._tests.append(lambda view: view.is_of_run(value))
            return
        if key in SUM_KEYS and sign not in {"=", "!=", *_NULLS}:
            raise invalid(
                f"Comparator '{sign}' is not supported for reserved metadata '{key}'. "
                "Only '=', '!=', 'IS NULL', and 'IS NOT NULL' are supported."
            )
        holds = text_test(sign, value)
        self._tests.append(lambda view: holds(view.metadata(key)))

    def _add_span(self, key: str, sign: str, value: Any) -> None:
        if not key.startswith("attributes.") and key != "content":
            holds = text_test(sign, value)
            self._span_tests.append(lambda span: holds(getattr(span, key)))
            return
        self._reads_contents = True
        if key != "content":
            name = key.removeprefix("attributes.").strip("`")
            if sign in {"=", "!=", "IN", "NOT IN"}:
                of_value = text_test(sign, value)
                self._span_tests.append(lambda span: of_value(_attribute(span.content, name)))
                return
            # As SQL looks at it: in the span's JSON, where attributes are JSON themselves.
            value = _in_json(name, value) if sign == "RLIKE" else f'%"{name}"{value}%'
        of_content = text_test(sign, value)
        self._span_tests.append(lambda span: of_content(span.content))

    def _add_assessment(self, kind: str, key: str, sign: str, value: Any) -> None:
        holds = _assessment_test(sign, value)

        def has_one(view: TraceView, *, of_session: bool = False) -> bool:
            return any(
                one["kind"] == kind
                and one["name"] == key
                and one["valid"]
                and holds(one["value"])
                and (not of_session or TraceMetadataKey.TRACE_SESSION in (one["metadata"] or ()))
                for one in view.trace.assessments.values()
            )

        sessions = {
            view.metadata(TraceMetadataKey.TRACE_SESSION)
            for view in self._scope
            if view.trace.assessments and has_one(view, of_session=True)
        } - {None}

        def is_meant(view: TraceView) -> bool:
            # An assessment of a session is one of each of its traces.
            return has_one(view) or view.metadata(TraceMetadataKey.TRACE_SESSION) in sessions

        if sign == "IS NULL":
            self._tests.append(lambda view: not is_meant(view))
        else:
            self._tests.append(is_meant)


def text_test(sign: str, value: Any) -> Callable[[Any], bool]:
    """Return what decides whether a text, or None, is to *value* as *sign* has it."""
    if sign in _NULLS:
        return lambda found: (found is None) == (sign == "IS NULL")
    if sign in {"IN", "NOT IN"}:
        listed: Collection[Any] = value
        return lambda found: found is not None and (found in listed) == (sign == "IN")
    if sign in {"=", "!="}:
        return lambda found: found is not None and (found == value) == (sign == "=")
    matches = _pattern(sign, value)
    return lambda found: found is not None and matches(str(found))


def _pattern(sign: str, value: str) -> Callable[[str], bool]:
    if sign == "RLIKE":
        return _expression(value)
    if sign not in {"LIKE", "ILIKE"}:
        raise invalid(f"Invalid comparator '{sign}'.")
    try:
        return matcher(value, ignores_case=sign == "ILIKE", escapes=False)
    except InvalidValueError as error:
        raise invalid(error.message) from error


def _expression(pattern: str) -> Callable[[str], bool]:
    """Return what looks for a regular expression in a text in time linear in it."""
    import pyarrow as pa
    import pyarrow.compute as pc

    search: Any = pc.match_substring_regex  # pyright: ignore[reportAttributeAccessIssue] - made when it is imported

    def matches(text: str) -> bool:
        return bool(search(pa.scalar(text), pattern).as_py())

    try:
        matches("")
    except pa.ArrowInvalid as error:
        raise invalid(f"The regular expression {pattern!r:.120} is refused: {error}") from error
    return matches


def number_test(key: str, sign: str, value: Any) -> Callable[[Any], bool]:
    """Return what decides whether a number, or None, is to *value* as *sign* has it; *key* is what it is called."""
    try:
        number = value if isinstance(value, (int, float)) else float(value)
    except (TypeError, ValueError) as error:
        raise invalid(f"Invalid value {value!r:.80} for the number '{key}'.") from error
    compare = _NUMBERS[sign]
    return lambda found: found is not None and compare(found, number)


def _assessment_test(sign: str, value: Any) -> Callable[[Any], bool]:
    """Return what decides about the value of an assessment, which SQL keeps as JSON."""
    if sign in _NULLS:
        return lambda _: True
    if sign in _ORDERS:
        compare = _ORDERS[sign]
        return lambda found: (
            isinstance(found, (int, float))
            and not isinstance(found, bool)
            and compare(found, float(value))
        )
    if sign in {"=", "!="}:
        equal = {value, json.dumps(value)}
        return lambda found: (json.dumps(found) in equal) == (sign == "=")
    matches = _pattern(sign, value)
    return lambda found: matches(json.dumps(found))


def _has_issue(view: TraceView, issue_id: str) -> bool:
    return any(
        one["kind"] == "issue" and one["name"] == issue_id
        for one in view.trace.assessments.values()
    )


def _check_prompt(sign: str, value: Any) -> None:
    if sign != "=":
        raise invalid(
            f"Invalid comparator '{sign}' for prompts filter. "
            "Only '=' is supported with format: prompt = \"name/version\""
        )
    if not isinstance(value, str) or value.count("/") != 1:
        raise invalid(
            f"Invalid prompts filter value '{value}'. Expected format: prompt = \"name/version\""
        )


def _attribute(content: str, name: str) -> str | None:
    """Return the value of a span's attribute as a text."""
    attributes: Mapping[str, Any] = json.loads(content).get("attributes") or {}
    value = attributes.get(name)
    if not isinstance(value, str):
        return None if value is None else json.dumps(value)
    try:
        found = json.loads(value)
    except ValueError:
        return value
    return found if isinstance(found, str) else value


def _in_json(name: str, pattern: str) -> str:
    """Return the regular expression that looks for *pattern* in the value of an attribute, in a span's JSON."""
    begins, ends = pattern.startswith("^"), pattern.endswith("$")
    before = '"\\\\"' if begins else '"\\\\".*'
    inner = pattern[1:] if begins else pattern
    inner = inner[:-1] if ends else inner
    return f'"{name}": {before}{inner}' + ('\\\\"' if ends else "")
