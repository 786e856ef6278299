"""The metrics of several processes add up, whether they live, have ended, or were killed."""

from __future__ import annotations

import errno
import multiprocessing
import os
import signal
import threading
import time
from pathlib import Path

import pytest

from ops.foundation.errors import ValidationError
from ops.observe import MetricsCollector, MultiprocessMetrics, prometheus_text

pytestmark = pytest.mark.filterwarnings("ignore:.*fork.*:DeprecationWarning")


class Workers:
    """Forked children, each of which does *work* and then waits to be ended."""

    def __init__(self) -> None:
        self.pids: list[int] = []

    def start(self, work) -> int:
        reader, writer = os.pipe()
        pid = os.fork()
        if pid == 0:
            os.close(reader)
            try:
                work()
                os.write(writer, b"x")
                signal.pause()
            finally:
                os._exit(0)
        os.close(writer)
        with os.fdopen(reader, "rb") as pipe:
            assert pipe.read(1) == b"x"
        self.pids.append(pid)
        return pid

    def kill(self, pid: int) -> None:
        os.kill(pid, signal.SIGKILL)
        os.waitpid(pid, 0)
        self.pids.remove(pid)


@pytest.fixture
def workers():
    workers = Workers()
    yield workers
    for pid in list(workers.pids):
        workers.kill(pid)


@pytest.fixture
def metrics() -> MetricsCollector:
    return MetricsCollector()


@pytest.mark.parametrize(("rule", "expected"), [("sum", 6), ("max", 3), ("min", 1)])
def test_live_processes_add_up_and_those_that_ended_keep_their_counters(
    tmp_path: Path, metrics, workers, rule, expected
) -> None:
    metrics.describe("size", "Bytes.", buckets=(10,))
    metrics.increment("requests", 5)
    metrics.gauge("load", 1)
    shared = MultiprocessMetrics(tmp_path / "m", metrics, interval=3600, gauges=rule)

    def work(number: int) -> None:
        metrics.increment("requests", number)
        metrics.gauge("load", number)
        metrics.record_time("wait", 0.5)
        metrics.histogram("size", number * 4)
        shared.flush()

    pids = [workers.start(lambda n=n: work(n)) for n in (2, 3)]
    text = prometheus_text(shared)
    assert "requests_total 10" in text  # what was counted before the forks, once
    assert f"load {expected}" in text
    assert "wait_seconds_count 2" in text
    assert 'size_bucket{le="10.0"} 1' in text
    for pid in pids:
        workers.kill(pid)
    for _ in range(2):  # the second time from the sum of those that have ended
        text = prometheus_text(shared)
        assert "requests_total 10" in text
        assert "load 1\n" in text
        assert "wait_seconds_count 2" in text
    assert len(list((tmp_path / "m").glob("*-*.json"))) == 1
    shared.close()
    assert "requests_total 10" in prometheus_text(
        MultiprocessMetrics(tmp_path / "m", MetricsCollector())
    )


def test_gauges_are_kept_apart_by_process(tmp_path: Path, metrics, workers) -> None:
    shared = MultiprocessMetrics(tmp_path, metrics, interval=3600)
    metrics.gauge_callback("pid_gauge", os.getpid)
    pid = workers.start(shared.flush)
    text = prometheus_text(shared)
    assert f'pid_gauge{{pid="{pid}"}} {pid}' in text
    assert f'pid_gauge{{pid="{os.getpid()}"}} {os.getpid()}' in text
    shared.close()


def test_a_worker_writes_by_itself(tmp_path: Path, metrics, workers) -> None:
    shared = MultiprocessMetrics(tmp_path, metrics, interval=0.01)
    workers.start(lambda: metrics.increment("requests"))
    end = time.monotonic() + 300
    while "requests_total 1" not in prometheus_text(shared) and time.monotonic() < end:
        time.sleep(0.01)
    assert "requests_total 1" in prometheus_text(shared)
    shared.close()


def test_a_crash_between_adding_and_removing_a_file_does_not_count_it_twice(
    tmp_path: Path, metrics, workers, monkeypatch
) -> None:
    shared = MultiprocessMetrics(tmp_path, metrics, interval=3600)

    def work() -> None:
        metrics.increment("requests", 7)
        shared.flush()

    workers.kill(workers.start(work))
    with monkeypatch.context() as patched:
        patched.setattr(Path, "unlink", lambda *_, **__: None)
        assert "requests_total 7" in prometheus_text(shared)
    assert "requests_total 7" in prometheus_text(shared)
    assert "requests_total 7" in prometheus_text(shared)
    shared.close()


def count_in(metrics: MetricsCollector, number: int) -> None:
    metrics.increment("requests", number)


def test_workers_of_multiprocessing_write_before_they_end(tmp_path: Path, metrics) -> None:
    shared = MultiprocessMetrics(tmp_path, metrics, interval=3600)
    context = multiprocessing.get_context("fork")
    worker = context.Process(target=count_in, args=(metrics, 3))
    worker.start()
    worker.join()
    assert "requests_total 3" in prometheus_text(shared)
    shared.close()


def test_closing_twice_and_forking_afterwards_do_nothing(tmp_path: Path, metrics, workers) -> None:
    metrics.increment("requests")
    shared = MultiprocessMetrics(tmp_path, metrics, interval=3600)
    shared.close()
    shared.close()
    workers.kill(workers.start(lambda: metrics.increment("requests")))
    assert len(list(tmp_path.glob("*.alive"))) <= 1
    assert "requests_total 1" in prometheus_text(shared)


@pytest.mark.parametrize("settings", [{"interval": 0}, {"gauges": "mean"}])
def test_settings_that_make_no_sense_are_refused(tmp_path, settings) -> None:
    with pytest.raises(ValidationError):
        MultiprocessMetrics(tmp_path, **settings)
    (tmp_path / "1-a.json").write_text("[]")
    shared = MultiprocessMetrics(tmp_path, MetricsCollector())
    with pytest.raises(ValidationError, match="empty the folder"):
        shared.collect()


def test_a_file_that_is_being_written_as_its_process_closes_is_counted_once(
    tmp_path: Path, metrics, monkeypatch
) -> None:
    metrics.increment("requests")
    here, third, other = (
        MultiprocessMetrics(tmp_path, collector, interval=1000)
        for collector in (metrics, MetricsCollector(), MetricsCollector())
    )
    write, flush = here._write, here.flush
    writing, goes_on = threading.Event(), threading.Event()

    def late(*args) -> None:
        writing.set()
        goes_on.wait(1)  # for `close` to be over, or to wait for this
        write(*args)

    def flush_in_another_thread() -> None:
        monkeypatch.setattr(here, "_write", late)
        flushing.start()
        assert writing.wait(10)

    def counted() -> list[float]:
        return list(other.collect().counters.values())

    flush()
    flushing = threading.Thread(target=flush)
    monkeypatch.setattr(here, "flush", flush_in_another_thread)
    here.close()
    assert counted() == [1]
    third.close()
    assert counted() == [1]
    goes_on.set()
    flushing.join()
    assert counted() == [1]
    other.close()


def test_a_folder_that_cannot_be_listed_has_not_lost_the_metrics_of_others(tmp_path, monkeypatch):
    first = MultiprocessMetrics(tmp_path, MetricsCollector(), interval=60)
    try:

        def refuse(path="."):
            raise PermissionError(errno.EACCES, os.strerror(errno.EACCES), str(path))

        for call in ("listdir", "scandir"):
            monkeypatch.setattr(os, call, refuse)
        with pytest.raises(PermissionError):
            first.collect()
    finally:
        monkeypatch.undo()
        first.close()
