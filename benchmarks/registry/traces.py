"""A trace of 20 spans on ``ops-registry://`` and on MLflow's own SQLite store: logged, read, searched among hundreds.

The store is called as MLflow's client and server call it: `log_spans`, then `start_trace` with what is known of the trace
as a whole. By default a call survives a kill of the process; flushed, it is on the disk as with SQLite, and what that alone
takes is measured beside it: two lines that are appended and flushed, the least that two calls can do. MLflow makes the spans'
JSON in all of them.
"""

from __future__ import annotations

import itertools
import json
import pathlib
import uuid
from collections.abc import Callable, Iterator
from typing import Any

from benchmarks.harness import Case, Target
from benchmarks.registry import _mlflow_stores as stores
from benchmarks.registry._mlflow_stores import FLUSHED, PEER, QUICK

DISK = "two lines and their flushes, nothing else"
LOGGED = "log a trace of 20 spans"
SPANS, MANY = 20, 300
#: Per operation: how many times faster at least where a kill loses nothing, and how many calls are timed together.
WANTED: dict[str, tuple[int | None, int]] = {
    LOGGED: (20, 10),
    "log a trace of 20 spans, one by one": (20, 2),
    "log an assessment": (20, 10),
    "get a trace of 20 spans": (None, 10),
    "search among 300 traces, a page of 100": (None, 3),
    "search by a span's name": (None, 1),
}


def cases() -> Iterator[Case]:
    """Yield the cases; without mlflow there is nothing to measure."""
    if not stores.is_there():
        return
    with stores.opened(_operations) as (root, of):
        lines = stores.lines(root / "lines", (20_000, 1_000))
        for name, (least, number) in WANTED.items():
            targets = () if least is None else (Target(peer=PEER, at_least=least),)
            quick, peer, flushed = (of[who][name] for who in (QUICK, PEER, FLUSHED))
            yield _case(name, {QUICK: quick, PEER: peer}, number, targets)
            if least is not None:
                beside = {DISK: lines} if name == LOGGED else {}
                contenders = {FLUSHED: flushed, PEER: peer} | beside
                yield _case(f"{name}, flushed", contenders, number, ())


def _case(
    name: str,
    contenders: dict[str, Callable[[], Any]],
    number: int,
    targets: tuple[Target, ...],
) -> Case:
    packages = ("mlflow-skinny", "sqlalchemy")
    return Case(name, contenders, targets, number=number, rounds=5, packages=packages)


def _operations(uri: str, root: pathlib.Path) -> dict[str, Callable[[], Any]]:
    from mlflow.entities import AssessmentSource, Feedback
    from mlflow.tracking._tracking_service.utils import _get_store

    store = _get_store(uri)
    home = store.create_experiment("bench", artifact_location=str(root / "artifacts"))
    many = store.create_experiment("many", artifact_location=str(root / "artifacts"))
    for number in range(MANY):
        trace_id = f"tr-{uuid.uuid4().hex}"
        store.log_spans(many, _spans(trace_id, 2, name=f"step{number % 100}-"))
        store.start_trace(_info(trace_id, many))
    # Made before they are measured: an application makes its spans anyway.
    waiting = (f"tr-{uuid.uuid4().hex}" for _ in itertools.count())
    ready = [(one, _spans(one, SPANS), _info(one, home)) for one in itertools.islice(waiting, 200)]
    kept = ready[0][0]
    store.log_spans(home, ready[0][1])
    store.start_trace(ready[0][2])
    supply = itertools.cycle(ready[1:])
    judge = AssessmentSource("CODE", "c")

    def log(*, at_once: bool = True) -> None:
        _, spans, info = next(supply)
        for part in [spans] if at_once else ([span] for span in spans):
            store.log_spans(home, part)
        store.start_trace(info)

    return {
        "log a trace of 20 spans": log,
        "log a trace of 20 spans, one by one": lambda: log(at_once=False),
        "get a trace of 20 spans": lambda: store.get_trace(kept),
        "search among 300 traces, a page of 100": lambda: store.search_traces(
            [many], "status = 'OK' AND tags.team = 'ds'", 100
        ),
        "search by a span's name": lambda: store.search_traces(
            [many], "span.name = 'step7-1'", 100
        ),
        "log an assessment": lambda: store.create_assessment(
            Feedback("right", True, trace_id=kept, source=judge)
        ),
    }


def _spans(trace_id: str, count: int, name: str = "step") -> list[Any]:
    """Return spans such as a chain of an application leaves: texts of some hundred characters go in and out."""
    from mlflow.entities.span import create_mlflow_span
    from opentelemetry import trace
    from opentelemetry.sdk.resources import Resource
    from opentelemetry.sdk.trace import ReadableSpan

    high = uuid.uuid4().int
    attributes = {
        "mlflow.traceRequestId": json.dumps(trace_id),
        "mlflow.spanType": json.dumps("CHAIN"),
        "mlflow.spanInputs": json.dumps({"question": "what is the answer? " * 10}),
        "mlflow.spanOutputs": json.dumps("the answer is 42 " * 20),
    }
    return [
        create_mlflow_span(
            ReadableSpan(
                name=f"{name}{number}",
                context=trace.SpanContext(high, number + 1, is_remote=False),
                parent=trace.SpanContext(high, 1, is_remote=False) if number else None,
                attributes=attributes,
                start_time=10**18 + number,
                end_time=10**18 + 10**7,
                status=trace.Status(trace.StatusCode.OK),
                resource=Resource({}),
            ),
            trace_id,
            "CHAIN",
        )
        for number in range(count)
    ]


def _info(trace_id: str, home: str) -> Any:
    from mlflow.entities import TraceInfo, TraceLocation, TraceState

    return TraceInfo(
        trace_id=trace_id,
        trace_location=TraceLocation.from_experiment_id(home),
        request_time=10**12,
        execution_duration=10,
        state=TraceState.OK,
        request_preview="what is the answer?",
        response_preview="the answer is 42",
        tags={"mlflow.traceName": "ask", "team": "ds"},
        trace_metadata={f"mlflow.key{number}": "value" * 4 for number in range(10)},
    )
