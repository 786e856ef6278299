"""Emitting, calling hooks and counting, beside the libraries that do the same."""

from __future__ import annotations

import blinker
import pluggy
import prometheus_client
import psygnal
from benchmarks.harness import Case, Measure, Target
from opentelemetry.sdk.metrics import MeterProvider

from ops.observe import EventEmitter, MetricsCollector, ResourceMonitor


def cases():
    quiet, heard = EventEmitter(), EventEmitter()
    heard.subscribe("happened", lambda event: None)
    signal = blinker.signal("happened")

    def receiver(sender, **_: object) -> None:
        pass

    signal.connect(receiver)
    spec, impl = pluggy.HookspecMarker("bench"), pluggy.HookimplMarker("bench")

    class Spec:
        @spec
        def happened(self, data): ...

    class Plugin:
        @impl
        def happened(self, data):
            return None

    plugins = pluggy.PluginManager("bench")
    plugins.add_hookspecs(Spec)
    plugins.register(Plugin())

    class Emitter:
        happened = psygnal.Signal(dict)

    emitter = Emitter()
    emitter.happened.connect(lambda data: None)
    data = {"n": 1}
    yield Case(
        "emit to one listener, with history",
        {
            "ops-observe": lambda: heard.emit("happened", data),
            "blinker": lambda: signal.send(None, data=data),
            "pluggy": lambda: plugins.hook.happened(data=data),
            "psygnal": lambda: emitter.happened.emit(data),
        },
        (Target("blinker", at_least=1), Target(at_most=1.5e-6)),
        packages=("blinker", "pluggy", "psygnal"),
    )
    yield Case(
        "emit to nobody",
        {"ops-observe": lambda: quiet.emit("happened", data)},
        (Target(at_most=0.25e-6),),
    )
    metrics = MetricsCollector()
    bound = metrics.counter("c", tags={"path": "/"})
    theirs = prometheus_client.Counter(
        "bench", "…", ["path"], registry=prometheus_client.CollectorRegistry()
    ).labels(path="/")
    meter = MeterProvider().get_meter("bench").create_counter("c")
    yield Case(
        "count one",
        {
            "ops-observe bound": bound.inc,
            "ops-observe by name": lambda: metrics.increment("c"),
            "prometheus-client": theirs.inc,
            "OpenTelemetry SDK": lambda: meter.add(1, {"path": "/"}),
        },
        (Target("prometheus-client", at_least=1), Target(at_most=0.5e-6)),
        packages=("prometheus-client", "opentelemetry-sdk"),
    )
    summary = prometheus_client.Summary(
        "seconds", "…", registry=prometheus_client.CollectorRegistry()
    )

    def time_ours() -> None:
        with metrics.timer("t"):
            pass

    def time_theirs() -> None:
        with summary.time():
            pass

    yield Case(
        "time a block",
        {"ops-observe": time_ours, "prometheus-client": time_theirs},
        (Target("prometheus-client", at_least=1),),
        packages=("prometheus-client",),
    )
    monitor = ResourceMonitor(interval=1000)
    monitor.start()
    yield Case(
        "one sample of the resource monitor, which takes one a second",
        {"ops-observe": monitor.get_stats},
        (Target(at_most=2e-3),),
        measure=Measure.CPU,
    )
    monitor.stop()
