"""Limits under cancellation, among tasks and threads together, and in the hands of a signal handler."""

from __future__ import annotations

import asyncio
import signal
import threading
import time

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ops.foundation import timeout_context
from ops.foundation.errors import ValidationError
from ops.resilience import RateLimiter, RateLimitTimeout, Semaphore, SlidingWindowLimiter


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


class Interrupted(Exception):
    """Ends a wait."""


@given(
    rate=st.integers(1, 20),
    burst=st.integers(1, 5),
    steps=st.lists(
        st.tuples(st.sampled_from(["take", "wait", "cancel", "pass"]), st.integers(1, 5)),
        min_size=1,
        max_size=80,
    ),
)
def test_cancelled_waits_never_let_more_through_than_the_rate(rate, burst, steps) -> None:
    clock = Time()
    limiter = RateLimiter(rate, burst=burst, clock=clock, sleep=clock.sleep)
    waiting, granted = [], []
    for kind, number in steps:
        tokens = min(number, burst)
        if kind == "take" and limiter.try_acquire(tokens):
            granted.append((clock.now, tokens))
        elif kind == "wait":
            waiting.append(limiter._reserve(tokens, None))
        elif kind == "cancel" and waiting:
            limiter._cancel(waiting.pop(number % len(waiting)))
        else:
            clock.now += number / rate / 2
        for slot in [s for s in waiting if s.due <= clock.now]:
            waiting.remove(slot)
            granted.append((slot.due, slot.tokens))
    granted += [(slot.due, slot.tokens) for slot in waiting]
    granted.sort()
    for i, (start, _) in enumerate(granted):
        for j in range(i, len(granted)):
            passed = sum(tokens for _, tokens in granted[i : j + 1])
            assert passed <= burst + rate * (granted[j][0] - start) + 1e-6


def test_a_slot_that_a_cancelled_wait_left_is_used_by_the_next(clock) -> None:
    limiter = RateLimiter(1, burst=1, clock=clock, sleep=clock.sleep)
    assert limiter.try_acquire()
    first, second = limiter._reserve(1, None), limiter._reserve(1, None)
    assert (first.due, second.due) == (1, 2)
    limiter._cancel(first)
    limiter.acquire()
    assert clock.now == 1
    assert limiter._reserve(1, None).due == 3


@pytest.mark.parametrize("make", [RateLimiter, SlidingWindowLimiter])
def test_a_limiter_answers_whether_it_has_acquired(make) -> None:
    limiter = make(2)
    assert limiter.acquire() is True
    assert asyncio.run(limiter.acquire_async()) is True
    assert limiter.try_acquire() is False


@pytest.mark.parametrize("make", [RateLimiter, SlidingWindowLimiter])
def test_a_wait_never_outlasts_the_deadline_around_it(make) -> None:
    limiter = make(1, 1000)
    limiter.acquire()
    with timeout_context(5), pytest.raises(RateLimitTimeout):
        limiter.acquire()


# ---------------------------------------------------------------------- the strict window


@given(
    limit=st.integers(1, 6),
    gaps=st.lists(st.floats(0, 1), min_size=1, max_size=60),
    late=st.lists(st.floats(0, 0.4), min_size=1, max_size=10),
)
def test_no_window_holds_more_than_the_limit_even_when_waits_end_late(limit, gaps, late) -> None:
    clock = Time()
    naps = iter(late * 1000)
    limiter = SlidingWindowLimiter(
        limit, 1.0, clock=clock, sleep=lambda s: clock.sleep(s + next(naps))
    )
    taken = []
    for gap in gaps:
        clock.now += gap / 3
        limiter.acquire()
        taken.append(clock.now)
    for i, start in enumerate(taken):
        assert sum(start <= t < start + 1.0 - 1e-9 for t in taken[i:]) <= limit


def test_the_window_takes_several_tokens_and_refuses_what_can_never_be(clock) -> None:
    limiter = SlidingWindowLimiter(3, 10, clock=clock, sleep=clock.sleep)
    assert limiter.try_acquire(2)
    assert not limiter.try_acquire(2)
    limiter.acquire(2)
    assert clock.now == 10
    assert limiter.try_acquire()
    with pytest.raises(RateLimitTimeout):
        limiter.acquire(timeout=9)
    for bad in (0, 4, 1.5):
        with pytest.raises(ValidationError, match="whole number"):
            limiter.acquire(bad)
    for settings in ((0,), (1.5,), (1, 0)):
        with pytest.raises(ValidationError):
            SlidingWindowLimiter(*settings)


def test_a_cancelled_wait_for_the_window_gives_its_slot_back() -> None:
    async def scenario() -> None:
        limiter = SlidingWindowLimiter(1, 1000)
        limiter.acquire()
        task = asyncio.create_task(limiter.acquire_async())
        await asyncio.sleep(0)
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task
        assert len(limiter._calls) == 0 or limiter._calls[-1].before is None

    asyncio.run(scenario())


# ---------------------------------------------------------------------- the bulkhead


def test_a_permit_that_is_not_free_is_answered_as_threading_answers() -> None:
    bulkhead = Semaphore(1)
    assert bulkhead.acquire(timeout=1) is True
    assert bulkhead.acquire(blocking=False) is False
    assert bulkhead.acquire(False) is False
    with pytest.raises(RateLimitTimeout):
        bulkhead.acquire(timeout=0.01)
    with pytest.raises(RateLimitTimeout):
        bulkhead.acquire(0.01)
    bulkhead.release()
    assert bulkhead.acquire(True) is True


def test_threads_and_tasks_share_a_bulkhead_and_never_exceed_it() -> None:
    bulkhead = Semaphore(3)
    inside: list[int] = []
    most: list[int] = []

    def enter() -> None:
        inside.append(1)
        most.append(len(inside))
        time.sleep(0.001)
        inside.pop()

    def thread() -> None:
        for _ in range(20):
            with bulkhead:
                enter()

    async def task() -> None:
        for _ in range(10):
            async with bulkhead:
                enter()
                await asyncio.sleep(0)

    async def tasks() -> None:
        await asyncio.gather(*(task() for _ in range(6)))

    workers = [threading.Thread(target=thread) for _ in range(4)]
    workers.append(threading.Thread(target=lambda: asyncio.run(tasks())))
    for worker in workers:
        worker.start()
    for worker in workers:
        worker.join(60)
    assert max(most) <= 3
    stats = bulkhead.get_stats()
    assert (stats.active, stats.acquired) == (0, 80 + 60)


def test_a_cancelled_task_passes_its_permit_on() -> None:
    async def scenario() -> None:
        bulkhead = Semaphore(1)
        await bulkhead.acquire_async()
        tasks = [asyncio.create_task(bulkhead.acquire_async()) for _ in range(3)]
        await asyncio.sleep(0)
        bulkhead.release()  # the first task has the permit, and is cancelled before it knows
        tasks[0].cancel()
        tasks[1].cancel()
        assert await asyncio.wait_for(tasks[2], 60)
        assert bulkhead.get_stats().active == 1

    asyncio.run(scenario())


def test_a_waiter_whose_loop_was_closed_is_passed_over() -> None:
    bulkhead = Semaphore(1)
    bulkhead.acquire()
    loop = asyncio.new_event_loop()
    task = loop.create_task(bulkhead.acquire_async())
    loop.run_until_complete(asyncio.sleep(0))
    loop.close()
    bulkhead.release()
    assert bulkhead.acquire(blocking=False)
    task._log_destroy_pending = False
    task.get_coro().close()


def test_a_bulkhead_decorates_both_kinds_of_functions() -> None:
    bulkhead = Semaphore(1)

    @bulkhead
    def plain() -> int:
        return bulkhead.get_stats().active

    @bulkhead
    async def awaited() -> int:
        return bulkhead.get_stats().active

    assert (plain(), asyncio.run(awaited()), bulkhead.get_stats().active) == (1, 1, 0)


# ---------------------------------------------------------------------- signal handlers


def test_a_signal_handler_may_use_the_object_that_it_interrupts() -> None:
    limiter, window, bulkhead = (
        RateLimiter(1e9, burst=1e9),
        SlidingWindowLimiter(10**6, 1e-9),
        Semaphore(4),
    )
    handled: list[int] = []

    def use(*_: object) -> None:
        limiter.try_acquire()
        window.try_acquire()
        if bulkhead.acquire(blocking=False):
            bulkhead.release()
        handled.append(1)

    before = signal.signal(signal.SIGALRM, use)
    signal.setitimer(signal.ITIMER_REAL, 0.0005, 0.0005)
    try:
        end = time.monotonic() + 300
        while len(handled) < 200 and time.monotonic() < end:
            use()
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)
        signal.signal(signal.SIGALRM, before)
    assert len(handled) >= 200
    assert bulkhead.get_stats().active == 0
