"""What the frames about traces come to: one `Trace` each, folded in the order of the journal.

A frame has what was logged and no result of it, so no writer has to read first, and several processes that
log one trace at once agree on what it is: the journal's order decides, and every reader folds alike. Spans stay
on disk; of them a trace knows where their frames are.

Rules, those of MLflow's SQL store: what spans imply counts until ``start`` has it (then the trace is *finalized*);
a later ``start`` of a trace adds to it; tags are replaced one by one; an assessment that overrides another makes
that one invalid for as long as it is there.
"""

from __future__ import annotations

import array
import dataclasses
import sys
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Mapping

    from ops.registry.traces.snapshots import Traces

__all__ = ["KINDS", "Frames", "Trace", "fold", "state_of", "texts"]

#: The state of a trace whose root span has not ended.
IN_PROGRESS = "IN_PROGRESS"
_OPEN = {IN_PROGRESS, "STATE_UNSPECIFIED"}
_STATES = {*_OPEN, "OK", "ERROR"}
#: Longer values are seldom those of another trace.
_SHORT = 64
#: Kinds of numbers that spans have each, and that a trace has in sum.
SUMS = ("usage", "cost")
_EARLY = {"link", "unlink", "prompt"}
KINDS = frozenset({"start", "end", "spans", "tags", "assess", "unassess", "gone", *_EARLY})


def _extents() -> array.array[int]:
    return array.array("Q")


@dataclasses.dataclass(slots=True)
class Trace:
    """One trace; *time* and *duration* are milliseconds, *assessments* are by id, oldest first.

    *extents* has three numbers for each frame of spans: its offset in the journal, and the lengths of its head and of the whole.
    *usage* and *cost* are what the trace was given. *summed* has for these two over how many of its frames the spans' own
    numbers are to be added up, and *sums* has what was added up already, with that number. *runs* and *prompts* are linked to it.
    """

    trace_id: str
    experiment_id: str
    time: int
    duration: int | None = None
    state: str = IN_PROGRESS
    client_request_id: str | None = None
    request: str | None = None
    response: str | None = None
    tags: dict[str, str] = dataclasses.field(default_factory=dict)
    metadata: dict[str, str] = dataclasses.field(default_factory=dict)
    assessments: dict[str, dict[str, Any]] = dataclasses.field(default_factory=dict)
    usage: dict[str, Any] = dataclasses.field(default_factory=dict)
    cost: dict[str, Any] = dataclasses.field(default_factory=dict)
    summed: dict[str, int] = dataclasses.field(default_factory=dict)
    sums: dict[str, tuple[int, dict[str, Any]]] = dataclasses.field(default_factory=dict)
    finalized: bool = False
    extents: array.array[int] = dataclasses.field(default_factory=_extents)
    runs: list[str] = dataclasses.field(default_factory=list)
    prompts: list[str] = dataclasses.field(default_factory=list)
    #: Which file the extents are of.
    file: tuple[int, int] | None = None

    def copy(self) -> Trace:
        """Return a trace that may be changed; this one stays what a caller was given."""
        return dataclasses.replace(
            self,
            tags=dict(self.tags),
            metadata=dict(self.metadata),
            assessments=dict(self.assessments),
            usage=dict(self.usage),
            cost=dict(self.cost),
            summed=dict(self.summed),
            sums=dict(self.sums),
            extents=self.extents[:],
            runs=list(self.runs),
            prompts=list(self.prompts),
        )

    @property
    def frames(self) -> int:
        """How many frames of spans there are."""
        return len(self.extents) // 3

    def has(self, kind: str) -> bool:
        """Whether the trace has any number of a kind, *usage* or *cost*."""
        given: dict[str, Any] = self.usage if kind == "usage" else self.cost
        return kind in self.summed or any(value is not None for value in given.values())


class Frames:
    """The traces of one experiment as far as its journal was read; *unknown* counts the frames that say nothing here."""

    def __init__(self, experiment_id: str, file: tuple[int, int] | None = None) -> None:
        self.experiment_id = experiment_id
        #: Which file the offsets of its traces are of.
        self.file = file
        self.traces: dict[str, Trace] | Traces = {}
        self.unknown: int = 0
        #: What was linked to a trace before it was logged.
        self.early: dict[str, Trace] = {}

    def copy(self) -> Frames:
        """Return what later frames do not reach."""
        made = Frames(self.experiment_id, self.file)
        made.traces, made.unknown = self.traces.copy(), self.unknown
        made.early = {trace_id: trace.copy() for trace_id, trace in self.early.items()}
        return made

    def apply(self, record: Mapping[str, Any], extent: tuple[int, int, int]) -> None:
        """Fold one frame in, all of it or nothing; of one with spans *record* is the head, and *extent* is where it is."""
        try:
            fold(self, record, extent)
        except (KeyError, TypeError, ValueError, AttributeError):
            self.unknown += 1


def fold(known: Frames, record: Mapping[str, Any], extent: tuple[int, int, int]) -> None:
    """Fold *record* into what is *known*; one that this version did not write is a ValueError, KeyError or TypeError."""
    operation, trace_id = record["op"], record["id"]
    if operation not in KINDS or not isinstance(trace_id, str):
        raise ValueError(operation)
    if operation == "gone":
        known.traces.pop(trace_id, None)
        known.early.pop(trace_id, None)
        return
    if operation in {"start", "spans"}:
        _begin(known, trace_id, record, extent)
        return
    trace = known.traces.get(trace_id)
    if trace is None and operation in _EARLY:
        trace = known.early.setdefault(trace_id, Trace(trace_id, known.experiment_id, 0))
        _CHANGES[operation](trace, record)
    elif trace is not None:
        changed = trace.copy()
        _CHANGES[operation](changed, record)
        known.traces[trace_id] = changed


def _begin(
    known: Frames, trace_id: str, record: Mapping[str, Any], extent: tuple[int, int, int]
) -> None:
    starts = record["op"] == "start"
    seen = record["info" if starts else "seen"]
    there = known.traces.get(trace_id)
    if there is None:
        trace = Trace(trace_id, known.experiment_id, int(seen["time"]), file=known.file)
        early = known.early.get(trace_id)
        if early is not None:
            trace.runs, trace.prompts = early.runs, early.prompts
    else:
        trace = there.copy()
    if starts:
        _start(trace, seen)
    else:
        _spans(trace, seen, extent, is_new=there is None)
    known.traces[trace_id] = trace  # not before the whole frame was understood
    known.early.pop(trace_id, None)


def _start(trace: Trace, info: Mapping[str, Any]) -> None:
    trace.time, trace.duration = int(info["time"]), _whole(info["duration"])
    trace.state, trace.client_request_id = state_of(info["state"]), info["client"]
    if info["request"] is not None:
        trace.request = info["request"]
    if info["response"] is not None:
        trace.response = info["response"]
    _tag(trace.tags, info["tags"])
    trace.metadata.update(texts(info["metadata"]))
    trace.usage.update(info["usage"])
    trace.cost.update(info["cost"])
    trace.finalized = trace.finalized or info["final"]
    for one in info["assessments"]:
        _assess(trace, {"a": one})


def _spans(
    trace: Trace, seen: Mapping[str, Any], extent: tuple[int, int, int], *, is_new: bool
) -> None:
    start, end = int(seen["time"]), _whole(seen["end"])
    if not trace.finalized:
        ended = None if is_new or trace.duration is None else trace.time + trace.duration
        trace.time = min(trace.time, start)
        if end is not None:
            trace.duration = (end if ended is None else max(ended, end)) - trace.time
    if seen["status"] and (is_new or trace.state in _OPEN):
        trace.state = state_of(seen["status"])
    if trace.request is None:
        trace.request = seen["request"]
    if trace.response is None:
        trace.response = seen["response"]
    _tag(trace.tags, seen["tags"])
    for key, value in texts(seen["defaults"]).items():
        trace.metadata.setdefault(key, value)
    trace.extents.extend(extent)
    for kind in SUMS:
        # What `start` has of it stays; else it is the sum over all spans so far.
        if seen[kind] and not (trace.finalized and trace.has(kind)):
            trace.summed[kind] = trace.frames
            if trace.frames == 1:
                trace.sums[kind] = 1, seen[kind]


def _end(trace: Trace, record: Mapping[str, Any]) -> None:
    info = record["info"]
    trace.duration, trace.state = int(info["end"]) - trace.time, state_of(info["state"])
    _tag(trace.tags, info["tags"])
    trace.metadata.update(info["metadata"])
    trace.usage.update(info["usage"])
    trace.cost.update(info["cost"])


def _assess(trace: Trace, record: Mapping[str, Any]) -> None:
    given = dict(record["a"])
    known = trace.assessments.get(given["id"])
    if known is not None:
        given["valid"] = known["valid"]
    else:
        _set_valid(trace, given["overrides"], valid=False)
    trace.assessments[given["id"]] = given


def _unassess(trace: Trace, record: Mapping[str, Any]) -> None:
    gone = trace.assessments.pop(record["a"], None)
    if gone is not None:
        _set_valid(trace, gone["overrides"], valid=True)


def _set_valid(trace: Trace, assessment_id: str | None, *, valid: bool) -> None:
    if assessment_id in trace.assessments:
        changed = trace.assessments[assessment_id] | {"valid": valid}
        trace.assessments[assessment_id] = changed


def _link(trace: Trace, record: Mapping[str, Any]) -> None:
    if record["run"] not in trace.runs:
        trace.runs.append(record["run"])


def _unlink(trace: Trace, record: Mapping[str, Any]) -> None:
    trace.runs = [run_id for run_id in trace.runs if run_id != record["run"]]


def _prompt(trace: Trace, record: Mapping[str, Any]) -> None:
    trace.prompts += [one for one in record["prompts"] if one not in trace.prompts]


def state_of(value: Any) -> str:
    """Return the state of a trace, or raise ValueError for what is none."""
    if value not in _STATES:
        raise ValueError(value)
    return str(value)


def _whole(value: Any) -> int | None:
    return None if value is None else int(value)


def _tag(tags: dict[str, str], changes: Mapping[str, str | None]) -> None:
    tags.update(texts(changes))
    for key, value in changes.items():
        if value is None:
            tags.pop(key, None)


def texts(given: Mapping[str, Any]) -> dict[str, str]:
    """Return a mapping of texts; keys and short values, which most traces share, are in memory once."""
    intern = sys.intern
    return {
        intern(key): intern(value) if len(value) <= _SHORT else value
        for key, value in given.items()
        if value is not None
    }


_CHANGES = {
    "end": _end,
    "tags": lambda trace, record: _tag(trace.tags, record["tags"]),
    "assess": _assess,
    "unassess": _unassess,
    "link": _link,
    "unlink": _unlink,
    "prompt": _prompt,
}
