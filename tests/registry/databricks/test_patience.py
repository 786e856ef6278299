"""Waiting for a warehouse that is starting: by the clock, with progress, and not for ever."""

from __future__ import annotations

import pytest

from ops.registry import EventType, StorageError
from ops.registry.databricks.patience import Patience, at_most
from ops.registry.operations import Operations, reported

STARTING = StorageError("503 of a warehouse")


class Clock:
    """A clock that only sleeping moves."""

    def __init__(self):
        self.now = 100.0
        self.sleeps = []

    def __call__(self):
        return self.now

    def sleep(self, seconds):
        self.sleeps.append(seconds)
        self.now += seconds


@pytest.fixture
def clock():
    return Clock()


def waited(clock, seconds):
    """Wait for a warehouse that never starts; return how long it took."""
    wait = Patience(seconds, clock=clock, sleep=clock.sleep).begin()
    began = clock.now
    while wait.goes_on("host", STARTING):
        pass
    return clock.now - began


def test_a_warehouse_that_takes_ten_minutes_is_waited_for(clock):
    assert waited(clock, 900) == pytest.approx(900)
    assert max(clock.sleeps) <= 15
    assert len(clock.sleeps) > 60


def test_the_first_waits_are_short_for_one_that_is_only_busy(clock):
    waited(clock, 900)
    assert sum(clock.sleeps[:4]) < 8


def test_the_time_begins_with_the_first_answer_that_it_is_not_ready(clock):
    wait = Patience(60, clock=clock, sleep=clock.sleep).begin()
    clock.now += 1000  # a statement that took long before
    assert wait.goes_on("host", STARTING)


def test_without_patience_nothing_waits(clock):
    assert waited(clock, 0) == 0
    with at_most(0):
        assert waited(clock, 900) == 0
    assert clock.sleeps == []


def test_a_block_shortens_the_wait_and_never_makes_it_longer(clock):
    with at_most(30):
        assert waited(clock, 900) == pytest.approx(30)
        assert waited(clock, 10) == pytest.approx(10)
    assert waited(clock, 60) == pytest.approx(60)


def test_each_wait_is_an_event_and_each_half_minute_a_line(clock, caplog, operations):
    class Part:
        _operations: Operations = operations

        @reported
        def work(self):
            waited(clock, 120)

    Part().work()
    events = operations.emitter.get_history(EventType.OPERATION_RETRIED)
    assert len(events) == len(clock.sleeps)
    assert events[0].data["error"] == (
        "The warehouse at 'host' is not ready yet; waited 0 s of at most 120 s: 503 of a warehouse"
    )
    lines = [r.getMessage() for r in caplog.records if "not ready yet" in r.getMessage()]
    assert 4 <= len(lines) <= 5
    assert "at 'host'" in lines[0]
    assert "of at most 120 s" in lines[0]
