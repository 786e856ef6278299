"""Traces written as MLflow's client has them written, without mlflow: times, ids and numbers are known."""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping
from typing import Any

from ops.registry.trace_copies import traces_of

MS = 1_000_000
START = 1_790_000_000_000  # milliseconds


def span(
    number: int,
    parent: int | None = None,
    *,
    name: str = "step",
    kind: str = "LLM",
    status: str = "OK",
    start: int = 0,
    end: int | None = 100,
    attributes: Mapping[str, Any] | None = None,
    events: Iterable[Any] = (),
    **more: Any,
) -> dict[str, Any]:
    """Return a span; times are milliseconds after `START`."""
    return {
        "id": f"{number:016x}",
        "parent": None if parent is None else f"{parent:016x}",
        "name": name,
        "kind": kind,
        "status": status,
        "start": (START + start) * MS,
        "end": None if end is None else (START + end) * MS,
        "more": more,
        "content": {
            "name": name,
            "status": {"code": status, "message": more.pop("message", "")},
            "attributes": {key: json.dumps(value) for key, value in (attributes or {}).items()},
            "events": list(events),
        },
    }


def add_trace(
    context: Any,
    experiment_id: str,
    trace_id: str,
    spans: Iterable[Mapping[str, Any]] = (),
    *,
    name: str = "ask",
    state: str = "OK",
    time: int = 0,
    duration: int | None = 100,
    request: str | None = '{"q": "what"}',
    response: str | None = "42",
    tags: Mapping[str, str] | None = None,
    metadata: Mapping[str, str] | None = None,
    assessments: Iterable[Mapping[str, Any]] = (),
    runs: Iterable[str] = (),
) -> None:
    """Log one trace with its spans; *time* is milliseconds after `START`."""
    book = traces_of(context)
    contents = [json.dumps(one["content"]).encode() for one in spans]
    rows = [
        [s["id"], s["parent"], s["name"], s["kind"], s["status"], s["start"], s["end"], len(c), s["more"]]
        for s, c in zip(spans, contents, strict=True)
    ]  # fmt: skip
    if rows:
        seen: dict[str, Any] = {"time": START + time, "end": None, "status": None}
        seen |= dict.fromkeys(("request", "response", "usage", "cost")) | {"tags": {}}
        head = {"op": "spans", "id": trace_id, "seen": seen | {"defaults": {}}, "n": rows}
        book.append_spans(experiment_id, [(head, contents)])
    info = {
        "time": START + time,
        "duration": duration,
        "state": state,
        "client": None,
        "request": request,
        "response": response,
        "tags": {"mlflow.traceName": name, **(tags or {})},
        "metadata": dict(metadata or {}),
        "usage": {},
        "cost": {},
        "assessments": [assessment(f"a-{n}", **one) for n, one in enumerate(assessments)],
        "final": True,
    }
    links = [{"op": "link", "id": trace_id, "run": run_id} for run_id in runs]
    book.append(experiment_id, {"op": "start", "id": trace_id, "info": info}, *links)
    book.close()


def assessment(identifier: str, name: str, value: Any, **fields: Any) -> dict[str, Any]:
    """Return an assessment as a frame keeps it."""
    usual = {"kind": "feedback", "error": None, "source": ["HUMAN", "ann"], "span": None}
    times = {"created": START, "updated": START, "run": None, "metadata": None}
    rest = {"rationale": None, "overrides": None, "valid": True}
    return {"id": identifier, "name": name, "value": value, **usual, **times, **rest, **fields}
