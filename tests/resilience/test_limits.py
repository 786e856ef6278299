"""Limits hold exactly, on a clock of their own."""

from __future__ import annotations

import asyncio
import math
import threading
import time

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ops.foundation.errors import ValidationError
from ops.resilience import (
    CircuitBreaker,
    RateLimiter,
    RateLimitTimeout,
    Semaphore,
    fallback,
    retry,
    timeout,
)


class Time:
    def __init__(self) -> None:
        self.now = 0.0

    def __call__(self) -> float:
        return self.now

    def sleep(self, seconds: float) -> None:
        self.now += seconds


@pytest.fixture
def clock() -> Time:
    return Time()


def limiter(clock: Time, *args, **kwargs) -> RateLimiter:
    return RateLimiter(*args, **kwargs, clock=clock, sleep=clock.sleep)


def test_the_burst_is_free_and_then_the_rate_holds(clock) -> None:
    limited = limiter(clock, 10, 1.0)
    for _ in range(10):
        with limited:
            pass
    assert clock.now == 0
    for _ in range(20):
        limited.acquire()
    assert clock.now == pytest.approx(2.0)


@given(
    rate=st.integers(1, 50),
    burst=st.integers(1, 20),
    gaps=st.lists(st.floats(0, 2), min_size=1, max_size=60),
)
def test_in_no_interval_are_there_more_than_burst_plus_rate(rate, burst, gaps) -> None:
    clock = Time()
    limited = limiter(clock, rate, 1.0, burst)
    taken = []
    for gap in gaps:
        clock.now += gap
        if limited.try_acquire():
            taken.append(clock.now)
    for i, start in enumerate(taken):
        for j, end in enumerate(taken[i:], start=1):
            assert j <= burst + rate * (end - start) + 1e-6


def test_what_cannot_be_had_in_time_is_refused_without_waiting_or_taking(clock) -> None:
    limited = limiter(clock, 1, 1.0, burst=1)
    assert limited.try_acquire()
    assert not limited.try_acquire()
    with pytest.raises(RateLimitTimeout):
        limited.acquire(timeout=0.5)
    assert clock.now == 0
    limited.acquire(timeout=1.5)
    assert clock.now == pytest.approx(1.0)


def test_more_than_the_burst_is_an_error_not_an_endless_wait(clock) -> None:
    with pytest.raises(ValidationError, match="burst is 5"):
        limiter(clock, 5).acquire(6)


@pytest.mark.parametrize("bad", [(0,), (-1,), (float("nan"),), (1, 0), (1, 1, 0.5)])
def test_limits_that_make_no_sense_are_refused(bad) -> None:
    with pytest.raises(ValidationError):
        RateLimiter(*bad)


def test_threads_get_each_token_once() -> None:
    limited = RateLimiter(1e-6, 1.0, burst=50)
    got = []

    def work() -> None:
        got.extend(1 for _ in range(50) if limited.try_acquire())

    threads = [threading.Thread(target=work) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(got) == 50


def test_decorators_and_async(clock) -> None:
    limited = limiter(clock, 1, 1.0, burst=2)

    @limited
    def function() -> int:
        return 1

    @limited
    async def coroutine() -> int:
        async with RateLimiter(100):
            return 2

    assert function() == 1
    assert asyncio.run(coroutine()) == 2
    assert not limited.try_acquire()


def test_a_bulkhead_admits_so_many_and_counts() -> None:
    bulkhead = Semaphore(2, timeout=0.01)
    bulkhead.acquire()
    with bulkhead, pytest.raises(RateLimitTimeout, match="2 slots"), bulkhead:
        pass
    bulkhead.release()
    stats = bulkhead.get_stats()
    assert (stats.active, stats.peak, stats.acquired, stats.timeouts) == (0, 2, 2, 1)
    with pytest.raises(ValidationError):
        bulkhead.release()


def test_a_time_limit_interrupts_both_kinds_of_functions() -> None:
    @timeout(0.05)
    def slow() -> None:
        time.sleep(10)

    @timeout(0.05)
    async def slow_async() -> None:
        await asyncio.sleep(10)

    with pytest.raises(TimeoutError):
        slow()
    with pytest.raises(TimeoutError):
        asyncio.run(slow_async())
    assert timeout(5)(lambda: 3)() == 3
    with pytest.raises(ValidationError):
        timeout(0)


def test_a_wait_that_is_cancelled_gives_its_tokens_back(clock) -> None:
    bucket = limiter(clock, 1)
    assert bucket.try_acquire()

    async def impatient() -> None:
        for _ in range(5):
            task = asyncio.create_task(bucket.acquire_async())
            await asyncio.sleep(0)
            task.cancel()
            with pytest.raises(asyncio.CancelledError):
                await task

    asyncio.run(impatient())
    clock.now += 1
    assert bucket.try_acquire()


def test_a_limit_of_nan_is_never_waited_for(clock) -> None:
    bucket = limiter(clock, 1)
    bucket.acquire()
    with pytest.raises(RateLimitTimeout):
        bucket.acquire(timeout=math.nan)
    with pytest.raises(ValidationError, match="nan"):
        Semaphore(1).acquire(math.nan)
    Semaphore(1).acquire(math.inf)


def _generator():
    yield 1


async def _async_generator():
    yield 1


@pytest.mark.parametrize("function", [_generator, _async_generator])
@pytest.mark.parametrize(
    "decorator", [timeout(1), CircuitBreaker(), RateLimiter(1), fallback(1), retry(2)]
)
def test_what_runs_after_its_call_is_refused_rather_than_left_unguarded(
    decorator, function
) -> None:
    with pytest.raises(ValidationError, match="generator"):
        decorator(function)
