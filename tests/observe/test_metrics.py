"""Metrics are exact under threads, and quantiles are within their bound."""

from __future__ import annotations

import asyncio
import math
import os
import signal
import sys
import threading

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ops.foundation import forks
from ops.observe import (
    MetricsCollector,
    MetricValueError,
    SignatureError,
    get_metrics_collector,
)
from ops.observe.sketch import LARGEST, RELATIVE_ERROR, TINY, Sketch


@pytest.fixture
def metrics() -> MetricsCollector:
    return MetricsCollector()


@pytest.fixture
def fast_switching():
    """Threads take turns as often as the interpreter allows."""
    before = sys.getswitchinterval()
    sys.setswitchinterval(1e-6)
    yield
    sys.setswitchinterval(before)


def test_counters_gauges_and_tags_are_kept_apart(metrics) -> None:
    metrics.increment("requests")
    metrics.increment("requests", 2, tags={"path": "/", "code": 200})
    metrics.increment("requests", tags={"code": 200, "path": "/"})
    metrics.gauge("depth", 5)
    metrics.gauge("depth", 3)
    assert metrics.get_counter("requests") == 1
    assert metrics.get_counter("requests", tags={"path": "/", "code": 200}) == 3
    assert metrics.get_gauge("depth") == 3
    assert metrics.get_gauge("never set") is None
    assert metrics.get_counter("never counted") == 0


def test_no_increment_is_lost_while_threads_come_and_go(metrics, fast_switching) -> None:
    bound = metrics.counter("bound")

    def work() -> None:
        for _ in range(2000):
            metrics.increment("plain")
            bound.inc()
            metrics.record_time("took", 0.5)

    seen = []
    for _ in range(3):
        threads = [threading.Thread(target=work) for _ in range(8)]
        for thread in threads:
            thread.start()
        while any(thread.is_alive() for thread in threads):
            seen.append(metrics.get_counter("plain"))
        for thread in threads:
            thread.join()
    assert metrics.get_counter("plain") == 48_000
    assert bound.value == 48_000
    assert metrics.get_timer_stats("took").count == 48_000
    assert seen == sorted(seen), "a counter never goes back"
    assert len(metrics._shards) <= 1, "shards of ended threads are folded"


def test_a_timer_records_blocks_calls_coroutines_and_failures(metrics) -> None:
    with metrics.timer("t"), metrics.timer("t"):
        pass

    @metrics.timer("t")
    def fail() -> None:
        raise KeyError

    @metrics.timer("t")
    async def wait() -> int:
        return 7

    with pytest.raises(KeyError):
        fail()
    assert asyncio.run(wait()) == 7
    assert metrics.get_timer_stats("t").count == 4


@given(st.lists(st.floats(min_value=TINY * 2, max_value=LARGEST / 2), min_size=1, max_size=200))
def test_quantiles_are_within_their_relative_error(values) -> None:
    sketch = Sketch()
    for value in values:
        sketch.add(value)
    stats = sketch.stats()
    ordered = sorted(values)
    for q, estimate in ((0.5, stats.p50), (0.95, stats.p95), (0.99, stats.p99)):
        true = ordered[math.floor(q * (len(ordered) - 1))]
        assert abs(estimate - true) <= RELATIVE_ERROR * true * 1.0001
    assert (stats.min, stats.max, stats.count) == (ordered[0], ordered[-1], len(values))
    assert stats.mean == pytest.approx(math.fsum(values) / len(values))


@given(st.lists(st.floats(allow_nan=False, allow_infinity=False)), st.lists(st.floats(-1e9, 1e9)))
def test_merging_sketches_is_counting_both(first, second) -> None:
    merged, whole, other = Sketch(), Sketch(), Sketch()
    for value in first:
        merged.add(value)
        whole.add(value)
    for value in second:
        other.add(value)
        whole.add(value)
    merged.merge(other)
    assert merged.buckets == whole.buckets
    assert (merged.minimum, merged.maximum) == (whole.minimum, whole.maximum)


@pytest.mark.parametrize("bad", [math.nan, math.inf, -math.inf])
def test_measurements_that_are_no_numbers_are_refused(metrics, bad) -> None:
    with pytest.raises(MetricValueError, match="finite"):
        metrics.histogram("h", bad)
    assert metrics.get_histogram_stats("h").count == 0


def test_the_summary_is_ready_for_json_and_reset_forgets_it(metrics) -> None:
    metrics.increment("c", tags={"b": 1, "a": 2})
    metrics.decrement("d", 4)
    metrics.gauge("g", 1.5)
    metrics.histogram("h", 2)
    summary = metrics.get_summary()
    assert summary["counters"] == {"c{a=2,b=1}": 1}
    assert summary["gauges"] == {"g": 1.5, "d": -4}
    assert summary["histograms"]["h"]["p50"] == pytest.approx(2, rel=0.01)
    metrics.reset()
    assert metrics.get_summary() == {"counters": {}, "gauges": {}, "timers": {}, "histograms": {}}


def test_there_is_one_collector_per_process() -> None:
    assert get_metrics_collector() is get_metrics_collector()


def test_shards_of_threads_that_follow_each_other_are_all_counted(metrics) -> None:
    """A thread that starts when another has ended may get everything at the same address."""
    for _ in range(200):
        thread = threading.Thread(target=metrics.increment, args=("n",))
        thread.start()
        thread.join()
    assert metrics.get_counter("n") == 200


@pytest.mark.parametrize("value", [math.nan, math.inf, -math.inf, 10**400])
def test_one_measurement_that_is_none_does_not_spoil_the_others(value):
    metrics = MetricsCollector()
    metrics.increment("a", 2)
    bound = metrics.counter("a")
    for write in (
        lambda: metrics.increment("a", value),
        lambda: bound.inc(value),
        lambda: metrics.histogram("h", value),
        lambda: metrics.record_time("t", value),
    ):
        with pytest.raises(MetricValueError):
            write()
    assert metrics.get_summary() == {
        "counters": {"a": 2},
        "gauges": {},
        "timers": {},
        "histograms": {},
    }


def test_what_is_no_number_is_refused_where_it_comes_in():
    metrics = MetricsCollector()
    for write in (metrics.increment, metrics.gauge, metrics.histogram, metrics.record_time):
        with pytest.raises((TypeError, ValueError)):
            write("a", "many")
    assert metrics.collect().counters == {}


def test_a_generator_is_not_timed_by_its_call():
    def generator():
        yield

    with pytest.raises(SignatureError, match="generator"):
        MetricsCollector().timer("t")(generator)


def test_a_child_forked_while_a_thread_reads_can_read_too(monkeypatch):
    metrics = MetricsCollector()
    metrics.increment("a")
    inside = threading.Event()
    real = metrics._fold

    def slow():
        inside.set()
        while not forks._gate.locked():  # until the fork has begun, which waits for us
            threading.Event().wait(0.001)
        real()

    monkeypatch.setattr(metrics, "_fold", slow)
    reader = threading.Thread(target=metrics.collect)
    reader.start()
    inside.wait()
    child = os.fork()
    if not child:
        signal.alarm(10)
        metrics._fold = real
        os._exit(0 if metrics.get_counter("a") == 1 else 1)
    reader.join()
    assert os.waitpid(child, 0)[1] == 0
