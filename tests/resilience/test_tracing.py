"""Spans of OpenTelemetry around retries, guarded calls and requests, in a process that has set a provider."""

from __future__ import annotations

import json
import subprocess
import sys

import pytest

pytest.importorskip("opentelemetry.sdk.trace")
pytest.importorskip("httpx")

PROGRAM = """
import json, sys
from opentelemetry import trace
from opentelemetry.sdk.trace import TracerProvider
from opentelemetry.sdk.trace.export import SimpleSpanProcessor
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter
from ops.resilience import CircuitBreaker, HTTPClient, retry, set_retry_hooks

@CircuitBreaker(name="db")
def guarded(error=None):
    if error:
        raise error

guarded()  # before there is a provider: no span, and no harm
exporter = InMemorySpanExporter()
provider = TracerProvider()
provider.add_span_processor(SimpleSpanProcessor(exporter))
trace.set_tracer_provider(provider)
set_retry_hooks([])

try:
    guarded(OSError("hunter2"))
except OSError:
    pass

outcomes = iter([OSError("hunter2"), 1])

@retry(max_attempts=2, initial_delay=0)
def fetch():
    outcome = next(outcomes)
    if isinstance(outcome, Exception):
        raise outcome

fetch()
with HTTPClient(sys.argv[1]) as client, trace.get_tracer("test").start_as_current_span("outer"):
    client.get("/x?token=hunter2")
spans = [
    {
        "name": s.name,
        "kind": s.kind.name,
        "attributes": dict(s.attributes),
        "events": [e.name for e in s.events],
        "status": s.status.status_code.name,
        "trace": f"{s.context.trace_id:032x}",
        "span": f"{s.context.span_id:016x}",
        "parent": s.parent and f"{s.parent.span_id:016x}",
    }
    for s in exporter.get_finished_spans()
]
print(json.dumps(spans))
"""


def test_spans_show_what_happened_and_the_trace_goes_on(server, reply) -> None:
    server.replies(reply(200, b"ok", {"Content-Type": "text/plain"}))
    result = subprocess.run(
        [sys.executable, "-c", PROGRAM, server.url], capture_output=True, text=True, check=False
    )
    assert result.returncode == 0, result.stderr
    assert "hunter2" not in result.stdout
    spans = {span["name"]: span for span in json.loads(result.stdout)}
    assert set(spans) == {"circuit db", "retry fetch", "GET", "outer"}
    assert spans["circuit db"]["status"] == "ERROR"
    assert spans["circuit db"]["attributes"]["error.type"] == "OSError"
    assert spans["circuit db"]["events"] == ["circuit breaker failure"]
    assert spans["retry fetch"]["attributes"] == {"attempts": 2}
    assert spans["retry fetch"]["events"] == ["retry"]
    request = spans["GET"]
    assert (request["kind"], request["parent"]) == ("CLIENT", spans["outer"]["span"])
    assert request["attributes"]["http.response.status_code"] == 200
    carried = server.asked[-1][2]["traceparent"].split("-")
    assert carried[1:3] == [request["trace"], request["span"]]
