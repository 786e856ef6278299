"""Traces to try stores with: built without a running program, so that times, ids and numbers are known."""

from __future__ import annotations

import itertools
import json
import types
import uuid

import pytest

pytest.importorskip("mlflow", reason="pip install 'ops-registry[mlflow]'")

from mlflow.entities import TraceInfo, TraceLocation, TraceState
from mlflow.entities.span import create_mlflow_span
from mlflow.tracking._tracking_service.utils import _get_store
from opentelemetry import trace as otel
from opentelemetry.sdk.resources import Resource
from opentelemetry.sdk.trace import Event, ReadableSpan

MS = 1_000_000


def make_span(
    trace_id,
    name="step",
    *,
    number=1,
    parent=None,
    kind="LLM",
    status="OK",
    start=1_000,
    end=2_000,
    attributes=None,
    resource=None,
    events=(),
    plain=None,
):
    """Return a span of MLflow's; times are milliseconds, *attributes* become JSON as MLflow's own do, *plain* stay."""
    high = uuid.uuid5(uuid.NAMESPACE_URL, trace_id).int
    given = {"mlflow.traceRequestId": trace_id, "mlflow.spanType": kind, **(attributes or {})}
    span = ReadableSpan(
        name=name,
        context=otel.SpanContext(high, number, is_remote=False),
        parent=None if parent is None else otel.SpanContext(high, parent, is_remote=False),
        attributes={**{key: json.dumps(value) for key, value in given.items()}, **(plain or {})},
        start_time=start * MS,
        end_time=None if end is None else end * MS,
        status=otel.Status(otel.StatusCode[status]),
        resource=Resource(resource or {}),
        events=[Event(one, {"text": "x"}, start * MS) for one in events],
    )
    return create_mlflow_span(span, trace_id, kind)


def make_info(trace_id, experiment_id, **fields):
    """Return what a client logs of a trace when it has ended."""
    given = {"request_time": 1_000, "execution_duration": 500, "state": TraceState.OK} | fields
    return TraceInfo(
        trace_id=trace_id, trace_location=TraceLocation.from_experiment_id(experiment_id), **given
    )


@pytest.fixture
def span():
    return make_span


@pytest.fixture
def info():
    return make_info


@pytest.fixture
def new_id():
    """Gives ids of traces, in their order."""
    run = uuid.uuid4().hex[:12]
    numbers = itertools.count()
    return lambda: f"tr-{run}-{next(numbers):03d}"


NUMBERS = itertools.count()


@pytest.fixture
def store(uri):
    """Our store, with an experiment of this test."""
    found = _get_store(uri)
    return types.SimpleNamespace(store=found, home=found.create_experiment(f"t{next(NUMBERS)}"))


@pytest.fixture
def pair(store, sqlite):
    """Our store and MLflow's SQLite store, each with an experiment of this test: what one does, the other has to do."""
    theirs = _get_store(sqlite)
    home = theirs.create_experiment(f"t{next(NUMBERS)}-{uuid.uuid4().hex}")
    return store, types.SimpleNamespace(store=theirs, home=home)


@pytest.fixture(params=["ours", "sqlite"])
def either(request, uri):
    """One of the two stores: the tests are those of what MLflow's own store does too."""
    if request.param == "sqlite":
        uri = request.getfixturevalue("sqlite")
    found = _get_store(uri)
    home = found.create_experiment(f"e{next(NUMBERS)}-{uuid.uuid4().hex}")
    return types.SimpleNamespace(store=found, home=home)


def pytest_collection_modifyitems(items):
    """Let MLflow's database warn of what it likes, where a test compares with it; ours may not."""
    for item in items:
        params = getattr(getattr(item, "callspec", None), "params", {}).values()
        if {"sqlite", "pair"} & {*item.fixturenames, *(p for p in params if isinstance(p, str))}:
            item.add_marker(pytest.mark.filterwarnings("ignore"))
