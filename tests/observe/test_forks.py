"""Objects of ops.observe in forked children, while other threads use them."""

from __future__ import annotations

import socket
import urllib.request
from collections.abc import Callable

import pytest
from tests.forked_children import hung_children, outcome_in_child

from ops.observe import (
    CallableHealthCheck,
    EventEmitter,
    HealthMonitor,
    HooksManager,
    MetricsCollector,
    ResourceMonitor,
    serve_probes,
)

pytestmark = pytest.mark.filterwarnings("ignore:.*fork.*:DeprecationWarning")


def _emitter() -> Callable[[], object]:
    emitter = EventEmitter()
    return emitter.subscribe("x", print)


def _hooks() -> Callable[[], object]:
    hooks = HooksManager()

    def use() -> None:
        hooks.register("x", len)
        hooks.unregister("x", len)

    return use


def _monitor() -> Callable[[], object]:
    monitor = HealthMonitor(ttl=0, timeout=60)
    monitor.register(CallableHealthCheck("c", lambda: True))
    return monitor.check_all


def _metrics() -> Callable[[], object]:
    metrics = MetricsCollector()

    def use() -> None:
        metrics.increment("a")
        metrics.collect()

    return use


def _resources() -> Callable[[], object]:
    pytest.importorskip("psutil")
    monitor = ResourceMonitor(60)
    monitor.start()
    return lambda: monitor.start().get_stats()


RECIPES: dict[str, Callable[[], Callable[[], object]]] = {
    "EventEmitter": _emitter,
    "HooksManager": _hooks,
    "HealthMonitor": _monitor,
    "MetricsCollector": _metrics,
    "ResourceMonitor": _resources,
}


@pytest.mark.parametrize("name", RECIPES)
def test_a_child_may_use_what_other_threads_were_using(name) -> None:
    assert hung_children(RECIPES[name]()) == 0


def test_a_forked_worker_does_not_keep_the_port_of_the_probes() -> None:
    with serve_probes(monitor=HealthMonitor(), metrics=MetricsCollector()) as server:
        waiting = socket.create_connection(("127.0.0.1", server.port), timeout=60)

        def child() -> str:
            server.stop()  # does nothing, and does not wait
            closed = server._server.socket.fileno() == -1
            return f"{closed} {[c.fileno() for c in server._server.connections]}"

        with urllib.request.urlopen(f"{server.url}/livez", timeout=300) as reply:
            assert reply.read() == b"ok"  # so the other connection has been accepted too
        assert outcome_in_child(child).startswith("True [-1")
        with urllib.request.urlopen(f"{server.url}/livez", timeout=300) as reply:
            assert reply.read() == b"ok"
        waiting.close()
