"""What checks return is understood: what is true in Python is not healthy for that alone."""

from __future__ import annotations

import concurrent.futures
import http
import subprocess
import types

import pytest

from ops.observe import CallableHealthCheck, HealthStatus

numpy = pytest.importorskip("numpy")


def status_of(answer: object) -> HealthStatus:
    return CallableHealthCheck("check", lambda: answer).run()[0]


def finished(result: object) -> concurrent.futures.Future[object]:
    future: concurrent.futures.Future[object] = concurrent.futures.Future()
    future.set_result(result)
    return future


BAD = [
    (False, {"lag": 3}),
    (False, "down", {"lag": 3}),
    (False,),
    [True, False],
    [True, ConnectionError("postgres://app:secret@db")],
    ["ok", "down"],
    b"DOWN",
    http.HTTPStatus.SERVICE_UNAVAILABLE,
    types.SimpleNamespace(status_code=503),
    types.SimpleNamespace(status=503),
    types.SimpleNamespace(ok=False),
    ConnectionError("down"),
    subprocess.CompletedProcess(["ping"], 1),
    numpy.bool_(False),
    float("nan"),
    [],
    (),
]
GOOD = [
    (True, {"lag": 3}),
    [True, True],
    [(0,)],  # rows of a query
    ("PostgreSQL 17",),
    http.HTTPStatus.NO_CONTENT,
    types.SimpleNamespace(status_code=204),
    types.SimpleNamespace(status=1),  # a driver's own word for an open connection
    subprocess.CompletedProcess(["ping"], 0),
    numpy.bool_(True),
]


@pytest.mark.parametrize("answer", BAD, ids=repr)
def test_what_is_bad_is_unhealthy_although_it_is_true(answer) -> None:
    assert status_of(answer) is HealthStatus.UNHEALTHY


@pytest.mark.parametrize("answer", GOOD, ids=repr)
def test_what_is_good_is_healthy(answer) -> None:
    assert status_of(answer) is HealthStatus.HEALTHY


def test_what_has_not_run_yet_is_unknown() -> None:
    assert status_of(each for each in [False]) is HealthStatus.UNKNOWN
    assert status_of(finished(False)) is HealthStatus.UNKNOWN


def test_an_error_that_is_returned_does_not_show_its_text() -> None:
    _, message, details = CallableHealthCheck("check", lambda: OSError("hunter2")).run()
    assert (message, details) == ("OSError", {})


def test_details_beside_a_status_are_kept() -> None:
    found = CallableHealthCheck("check", lambda: (True, "fine", {"lag": 3})).run()
    assert found == (HealthStatus.HEALTHY, "fine", {"lag": 3})
    found = CallableHealthCheck("check", lambda: (True, {"lag": 3})).run()
    assert found == (HealthStatus.HEALTHY, "", {"lag": 3})
