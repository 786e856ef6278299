"""Windows, buckets, callbacks, descriptions, removal, overlapping timers, and what forks inherit."""

from __future__ import annotations

import asyncio
import math
import threading

import pytest
from tests.forked_children import outcome_in_child

from ops.foundation.errors import ValidationError
from ops.observe import WINDOW_SECONDS, MetricsCollector, Sketch, prometheus_text

pytestmark = pytest.mark.filterwarnings("ignore:.*fork.*:DeprecationWarning")


@pytest.fixture
def metrics() -> MetricsCollector:
    return MetricsCollector()


def test_quantiles_follow_the_present_and_not_a_long_past() -> None:
    sketch = Sketch()
    for _ in range(100_000):
        sketch.add(0.001, now=0.0)
    for _ in range(900):
        sketch.add(2.0, now=WINDOW_SECONDS + 200)
    stats = sketch.stats(now=WINDOW_SECONDS + 201)
    assert stats.p50 == stats.p99 == pytest.approx(2.0, rel=0.01)
    assert (stats.count, stats.min) == (100_900, 0.001)


def test_within_the_window_all_observations_count() -> None:
    sketch = Sketch()
    for second in range(int(WINDOW_SECONDS)):
        sketch.add(float(second + 1), now=float(second))
    assert sketch.stats(now=WINDOW_SECONDS - 1).p50 == pytest.approx(300, rel=0.02)
    assert len(sketch.slices) <= 7


def test_without_recent_observations_quantiles_are_of_the_last_ones() -> None:
    sketch = Sketch()
    sketch.add(5.0, now=0.0)
    assert sketch.stats(now=1e6).p50 == 5.0
    other = Sketch()
    other.merge(sketch)
    assert other.stats(now=1e6).p99 == 5.0


def test_a_gauge_may_be_a_function_that_is_called_when_it_is_read(metrics, caplog) -> None:
    queue = [1, 2, 3]

    def broken() -> float:
        raise OSError("hunter2")

    metrics.gauge_callback("queue", lambda: len(queue))
    metrics.gauge_callback("broken", broken)
    assert metrics.get_gauge("queue") == 3
    queue.clear()
    assert prometheus_text(metrics) == "# TYPE queue gauge\nqueue 0\n"
    assert "gauge 'broken' failed with OSError" in caplog.text
    assert "hunter2" not in caplog.text
    with pytest.raises(ValidationError):
        metrics.gauge_callback("none", 5)


def test_a_metric_is_described_before_its_first_observation(metrics) -> None:
    metrics.describe("wait", "How long.", buckets=(1,))
    metrics.record_time("wait", 0.5)
    metrics.describe("wait", "How long in the queue.", buckets=(1,))
    with pytest.raises(ValidationError, match="before the first"):
        metrics.describe("wait", buckets=(1, 2))
    for bad in ((2, 1), (1, 1), (math.inf,), (math.nan,)):
        with pytest.raises(ValidationError, match="ascend"):
            metrics.describe("other", buckets=bad)
    assert 'wait_seconds_bucket{le="1.0"} 1' in prometheus_text(metrics)
    metrics.reset()
    metrics.record_time("wait", 0.5)
    assert "How long in the queue." in prometheus_text(metrics)


def test_series_can_be_removed(metrics) -> None:
    thread = threading.Thread(target=metrics.increment, args=("jobs", 1, {"host": "a"}))
    thread.start()
    thread.join()
    metrics.increment("jobs", tags={"host": "a"})
    metrics.increment("jobs", tags={"host": "b"})
    metrics.record_time("jobs", 1)
    metrics.gauge("jobs", 1)
    metrics.gauge_callback("jobs", lambda: 1, {"host": "c"})
    assert metrics.remove("jobs", {"host": "a"})
    assert not metrics.remove("jobs", {"host": "a"})
    assert metrics.get_counter("jobs", {"host": "a"}) == 0
    assert metrics.get_counter("jobs", {"host": "b"}) == 1
    assert metrics.remove("jobs")
    assert prometheus_text(metrics) == ""


# ---------------------------------------------------------------------- timers


def test_blocks_of_one_timer_may_overlap_in_tasks(metrics, monkeypatch) -> None:
    now = [0.0]
    monkeypatch.setattr("ops.observe.timing.perf_counter", lambda: now[0])
    timer = metrics.timer("x")
    seconds: list[float] = []
    monkeypatch.setattr(metrics, "record_time", lambda _, s, __: seconds.append(s))

    async def block(events: list[asyncio.Event]) -> None:
        await events[0].wait()
        with timer:
            await events[1].wait()

    async def main() -> None:
        first, second = ([asyncio.Event(), asyncio.Event()] for _ in range(2))
        tasks = [asyncio.create_task(block(events)) for events in (first, second)]
        for event, pause in ((first[0], 1), (second[0], 10), (first[1], 100), (second[1], 0)):
            event.set()
            await asyncio.sleep(0)
            await asyncio.sleep(0)
            now[0] += pause
        await asyncio.gather(*tasks)

    asyncio.run(main())
    assert seconds == [11, 110]


def test_a_task_started_within_a_block_does_not_end_it(metrics, monkeypatch) -> None:
    now = [0.0]
    monkeypatch.setattr("ops.observe.timing.perf_counter", lambda: now[0])
    timer = metrics.timer("x")
    seconds: list[float] = []
    monkeypatch.setattr(metrics, "record_time", lambda _, s, __: seconds.append(s))

    async def inner() -> None:
        with timer:
            now[0] += 1

    async def main() -> None:
        with timer, timer:  # the second is kept in the context, which the task inherits
            now[0] += 10
            await asyncio.create_task(inner())

    asyncio.run(main())
    assert seconds == [1, 11, 11]


def test_threads_share_a_timer(metrics) -> None:
    timer = metrics.timer("x")

    def work() -> None:
        for _ in range(500):
            with timer, timer:
                pass

    threads = [threading.Thread(target=work) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(60)
    stats = metrics.get_timer_stats("x")
    assert stats.count == 4000
    assert stats.min >= 0


# ---------------------------------------------------------------------- forks


def test_what_a_parent_counted_is_exported_once(metrics) -> None:
    metrics.increment("a", 5)
    metrics.record_time("t", 1)
    metrics.gauge("g", 7)

    def child() -> str:
        metrics.increment("a")
        return f"{prometheus_text(metrics)} {metrics.get_counter('a')}"

    text = outcome_in_child(child)
    assert "a_total 1" in text
    assert "t_seconds_count" not in text
    assert text.endswith(" 6")
    assert "a_total 5" in prometheus_text(metrics)
