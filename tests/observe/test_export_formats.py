"""Whatever is counted, the official parsers read every exported page, and find every value in it."""

from __future__ import annotations

import itertools
import math
import os
from collections import Counter as Count

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from ops.observe import (
    MetricsCollector,
    PrometheusCollector,
    observe_with_opentelemetry,
    openmetrics_text,
    prometheus_text,
)

client = pytest.importorskip("prometheus_client")
prometheus = pytest.importorskip("prometheus_client.parser")
openmetrics = pytest.importorskip("prometheus_client.openmetrics.parser")

# Names that meet each other, those of the formats, and text of any kind, halves of surrogates too.
COLLIDING = [
    f"{stem}{end}"
    for stem in ("x", "x_seconds", "X")
    for end in ("", "_total", "_count", "_sum", "_bucket", "_created", "_info", "_gauge", " ", "-")
]
TEXT = st.text(st.characters(), max_size=6) | st.binary(max_size=4).map(os.fsdecode)
NAMES = st.sampled_from(COLLIDING) | TEXT
TAGS = st.dictionaries(
    st.sampled_from(["le", "quantile", "a b", "a_b", "__name__", "original_name", "duplicate", ":"])
    | TEXT,
    st.sampled_from(["1", "+Inf", '"', "\\", "\n", "\r"]) | TEXT | st.integers(),
    max_size=3,
)
NUMBERS = st.integers(-5, 5) | st.floats(-1e12, 1e12)
CALLS = st.lists(
    st.tuples(
        st.sampled_from(["increment", "decrement", "gauge", "record_time", "histogram"]),
        NAMES,
        NUMBERS,
        TAGS,
    ),
    max_size=12,
)
DESCRIBED = st.dictionaries(
    NAMES,
    st.tuples(
        TEXT | st.just('a "quoted"\nline \\'),
        st.sampled_from(["", "seconds", "bytes", "per cent"]),
        st.sampled_from([(), (0.1, 1.0), (-1, 0, 5)]),
    ),
    max_size=3,
)


def filled(calls, described) -> MetricsCollector:
    metrics = MetricsCollector()
    for name, (text, unit, buckets) in described.items():
        metrics.describe(name, text, unit=unit, buckets=buckets)
    for method, name, value, tags in calls:
        getattr(metrics, method)(name, value, tags=tags)
    return metrics


def read(families) -> list[tuple[str, tuple, float]]:
    return [
        (s.name, tuple(sorted(s.labels.items())), s.value)
        for family in families
        for s in family.samples
    ]


@given(CALLS, DESCRIBED)
@example([("histogram", "jobs", 1, {}), ("gauge", "jobs_count", 3, {})], {})
@example([("increment", "x", 1, {}), ("gauge", "x", 5, {})], {})
@example([("histogram", "x", -5, {})], {"x": ("", "", (-10, 0))})
@example([("gauge", "x", math.nan, {}), ("gauge", "y", math.inf, {})], {})
def test_every_page_is_read_by_the_official_parsers_and_holds_each_sample_once(calls, described):
    metrics = filled(calls, described)
    snapshot = metrics.collect()
    plain = read(prometheus.text_string_to_metric_families(prometheus_text(metrics)))
    strict = read(openmetrics.text_string_to_metric_families(openmetrics_text(metrics)))
    for samples in (plain, strict):
        series = Count((name, labels) for name, labels, _ in samples)
        assert [each for each, times in series.items() if times > 1] == []
    observed = [*snapshot.timers.values(), *snapshot.histograms.values()]
    whole = list(prometheus.text_string_to_metric_families(prometheus_text(metrics)))
    summaries = [f for f in whole if f.type in {"summary", "histogram"}]
    counts = [s.value for f in summaries for s in f.samples if s.name == f"{f.name}_count"]
    assert sorted(counts) == sorted(s.count for s in observed)
    plainer = [f for f in whole if f.type in {"counter", "gauge"}]
    values = [s.value for f in plainer for s in f.samples]
    assert sorted(repr(float(v)) for v in values) == sorted(
        repr(float(v)) for v in [*snapshot.counters.values(), *snapshot.gauges.values()]
    )
    registry = client.CollectorRegistry()
    registry.register(PrometheusCollector(metrics))
    theirs = client.generate_latest(registry).decode()
    assert len(read(prometheus.text_string_to_metric_families(theirs))) == len(plain)


def test_a_counter_that_falls_is_exported_as_a_gauge() -> None:
    metrics = MetricsCollector()
    metrics.increment("jobs", 5)
    metrics.increment("jobs", -3)
    metrics.counter("done").inc(-2)
    assert prometheus_text(metrics).splitlines() == [
        "# TYPE done gauge",
        "done -2",
        "# TYPE jobs gauge",
        "jobs 2",
    ]


def test_declared_buckets_are_exact_and_cumulative() -> None:
    metrics = MetricsCollector()
    metrics.describe("size", "Bytes of a reply.", unit="bytes", buckets=(10, 100))
    for value in (1, 10, 11, 1000):
        metrics.histogram("size", value)
    assert prometheus_text(metrics).splitlines() == [
        "# HELP size_bytes Bytes of a reply.",
        "# TYPE size_bytes histogram",
        'size_bytes_bucket{le="10.0"} 2',
        'size_bytes_bucket{le="100.0"} 3',
        'size_bytes_bucket{le="+Inf"} 4',
        "size_bytes_sum 1022.0",
        "size_bytes_count 4",
    ]
    assert "# UNIT size_bytes bytes" in openmetrics_text(metrics)
    assert metrics.get_histogram_stats("size").to_dict()["buckets"] == {
        "10.0": 2,
        "100.0": 3,
        "inf": 4,
    }


# ---------------------------------------------------------------------- OpenTelemetry


def exported(metrics: MetricsCollector, later=lambda _: None) -> dict[str, list[float]]:
    export = pytest.importorskip("opentelemetry.sdk.metrics.export")
    sdk = pytest.importorskip("opentelemetry.sdk.metrics")
    reader = export.InMemoryMetricReader()
    provider = sdk.MeterProvider(metric_readers=[reader])
    register = observe_with_opentelemetry(metrics, provider.get_meter("test"))
    later(metrics)
    register()
    data = reader.get_metrics_data()
    provider.shutdown()
    return {
        m.name: [p.value for p in m.data.data_points]
        for r in (data.resource_metrics if data else ())
        for s in r.scope_metrics
        for m in s.metrics
    }


def test_names_that_are_one_to_opentelemetry_keep_all_their_values() -> None:
    metrics = MetricsCollector()
    metrics.increment("x", 1)
    metrics.gauge("x", 2)
    metrics.record_time("x", 3)
    metrics.histogram("x", -4)
    metrics.increment("a b", 5)
    metrics.increment("a_b", 6)
    metrics.increment("A_B", 7)
    found = exported(metrics)
    values = sorted(itertools.chain.from_iterable(found.values()))
    assert values == sorted([1, 2, 1, 3, 1, -4, 5, 6, 7])
    assert len({name.lower() for name in found}) == len(found)


def test_a_counter_that_falls_later_is_still_observed() -> None:
    metrics = MetricsCollector()
    metrics.increment("inflight", 3)
    assert [2] in exported(metrics, lambda m: m.decrement("inflight")).values()


def test_an_export_reads_the_collector_once() -> None:
    metrics = MetricsCollector()
    for i in range(50):
        metrics.increment(f"c{i}")
    reads = []

    class Counted:
        def collect(self):
            reads.append(1)
            return metrics.collect()

    assert len(exported(Counted())) == 50
    assert (
        len(reads) <= 4
    )  # two for registering, one for the export, and one more on a slow machine
