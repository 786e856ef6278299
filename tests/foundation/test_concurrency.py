"""Parallel maps and pools: order kept, no error lost, no deadlock."""

import asyncio
import concurrent.futures
import contextvars
import math
import multiprocessing
import operator
import signal
import subprocess
import sys
import threading
import time

import pytest

from ops.foundation import (
    Deadline,
    DeadlineExceededError,
    ThreadPoolManager,
    parallel_map,
    run_async,
    run_in_thread,
    synchronized,
    timeout_context,
)


def test_order_is_kept_for_lists_and_generators():
    assert parallel_map(str, range(1000)) == [str(i) for i in range(1000)]
    assert parallel_map(str, (i for i in range(1000)), 3) == [str(i) for i in range(1000)]
    assert parallel_map(str, []) == []


def test_an_error_is_raised_and_never_becomes_none():
    with pytest.raises(ZeroDivisionError):
        parallel_map(lambda x: 1 / x, [1, 0, 2])


def test_collected_errors_stand_in_their_places():
    one, error, half = parallel_map(lambda x: 1 / x, [1, 0, 2], errors="collect")
    assert (one, half) == (1, 0.5)
    assert isinstance(error, ZeroDivisionError)


def test_no_more_than_the_window_is_taken_ahead():
    taken = done = ahead = 0
    lock = threading.Lock()

    def items():
        nonlocal taken, ahead
        for i in range(500):
            taken += 1
            with lock:
                ahead = max(ahead, taken - done)
            yield i

    def work(i):
        return i

    def progress(finished, total):
        nonlocal done
        assert total is None
        done = finished

    parallel_map(work, items(), 4, window=10, progress_callback=progress)
    assert ahead <= 11
    assert done == 500


def test_a_process_pool_that_is_passed_is_used_and_left_open():
    # A fork of a process with threads is a warning since Python 3.12.
    spawn = multiprocessing.get_context("spawn")
    with concurrent.futures.ProcessPoolExecutor(2, mp_context=spawn) as pool:
        assert parallel_map(operator.neg, range(50), executor=pool) == [-i for i in range(50)]
        assert pool.submit(operator.neg, 1).result() == -1


def test_a_pool_counts_and_instantly_finished_tasks_do_not_block_it():
    with ThreadPoolManager(max_workers=2) as pool:
        futures = [pool.submit(int, "1") for _ in range(500)]
        bad = pool.submit(int, "x")
        assert sum(f.result() for f in futures) == 500
        assert isinstance(bad.exception(), ValueError)
        assert pool.map(str, range(10)) == [str(i) for i in range(10)]
        stats = pool.get_stats()
    assert (stats.completed, stats.failed, stats.submitted) == (510, 1, 511)
    assert stats.pending == stats.active == 0


def test_run_async_works_outside_and_inside_a_loop():
    async def inner():
        return 7

    async def outer():
        return run_async(inner())

    assert run_async(inner()) == 7
    assert asyncio.run(outer()) == 7


def test_a_timeout_interrupts_the_main_thread():
    with pytest.raises(TimeoutError), timeout_context(0.05):
        time.sleep(60)


def test_elsewhere_a_block_that_overran_raises_at_its_end():
    def work():
        with timeout_context(1e-9) as deadline:
            assert deadline.expired

    with pytest.raises(TimeoutError), ThreadPoolManager(1) as pool:
        pool.submit(work).result()


def test_a_nested_limit_that_is_longer_leaves_the_outer_one_in_force():
    expected = pytest.raises(DeadlineExceededError, match=r"0\.05 s")
    with expected, timeout_context(0.05), timeout_context(60):
        time.sleep(60)


def test_an_inner_limit_interrupts_and_the_outer_one_still_comes():
    interrupted = []

    def work():
        try:
            with timeout_context(0.05):
                time.sleep(60)
        except DeadlineExceededError as error:
            interrupted.append(error.message)
        time.sleep(60)

    with pytest.raises(DeadlineExceededError, match=r"0\.3 s"), timeout_context(0.3):
        work()
    assert len(interrupted) == 1
    assert "0.05 s" in interrupted[0]


def test_an_outer_alarm_that_does_not_raise_cannot_silence_the_limit():
    program = (
        "import signal, time; from ops.foundation import timeout_context\n"
        "signal.signal(signal.SIGALRM, lambda *_: None)\n"
        "signal.setitimer(signal.ITIMER_REAL, 0.05)\n"
        "try:\n"
        "    with timeout_context(0.1) as deadline:\n"
        "        while not deadline.expired: time.sleep(0.01)\n"
        "except TimeoutError: print('raised')"
    )
    assert subprocess.check_output([sys.executable, "-c", program], text=True) == "raised\n"


def test_a_block_in_time_leaves_the_alarm_as_it_was():
    # pytest-timeout may have an alarm of its own.
    handler, (left, _) = signal.getsignal(signal.SIGALRM), signal.getitimer(signal.ITIMER_REAL)
    with timeout_context(60), timeout_context(30):
        pass
    now_left, _ = signal.getitimer(signal.ITIMER_REAL)
    assert signal.getsignal(signal.SIGALRM) is handler
    assert 0 < now_left <= left if left else now_left == 0
    with pytest.raises(ValueError, match="positive"), timeout_context(0):
        pass


def test_a_deadline_counts_by_its_clock():
    moment = 0.0
    deadline = Deadline(5, clock=lambda: moment)
    moment = 3.0
    deadline.check()
    assert (deadline.remaining(), deadline.expired) == (2.0, False)
    moment = 9.0
    assert (deadline.remaining(), deadline.expired) == (0.0, True)
    with pytest.raises(TimeoutError):
        deadline.check()


def test_a_function_in_a_thread_has_the_callers_context_and_gives_its_error_back():
    tenant = contextvars.ContextVar("tenant")
    tenant.set("blue")
    future = run_in_thread(lambda: (tenant.get(), threading.current_thread().daemon))
    assert future.result(60) == ("blue", True)
    assert isinstance(run_in_thread(int, "x").exception(60), ValueError)
    assert run_in_thread(int, "12", base=3).result(60) == 5


@pytest.mark.parametrize("lock", [None, threading.Lock(), threading.RLock()])
def test_one_thread_at_a_time_is_in_a_synchronized_function(lock):
    inside = most = 0

    def work(_):
        nonlocal inside, most
        inside += 1
        most = max(most, inside)
        time.sleep(0)
        inside -= 1

    guarded = synchronized(work) if lock is None else synchronized(lock)(work)
    assert guarded.__name__ == "work"
    parallel_map(guarded, range(400), 8, chunk_size=1)
    assert (inside, most) == (0, 1)


def test_a_synchronized_method_may_call_itself_and_its_lock_is_free_after_an_error():
    class Counter:
        @synchronized
        def down(self, n):
            return n and self.down(n - 1)

        @synchronized()
        def fail(self):
            raise KeyError

    counter = Counter()
    assert counter.down(3) == 0
    with pytest.raises(KeyError):
        counter.fail()
    with pytest.raises(KeyError):
        run_in_thread(counter.fail).result(60)


@pytest.mark.parametrize("seconds", [0, -1, math.nan, math.inf, 1e300])
def test_a_limit_that_no_clock_reaches_is_refused_and_leaves_the_alarm(seconds):
    handler = signal.getsignal(signal.SIGALRM)
    with pytest.raises(ValueError, match="seconds="), timeout_context(seconds):
        pass
    assert signal.getsignal(signal.SIGALRM) is handler


def test_an_alarm_at_the_very_end_of_the_block_leaves_the_handler_as_it_was(monkeypatch):
    handler = signal.getsignal(signal.SIGALRM)
    switch = signal.setitimer

    def late(which, seconds):
        if not seconds:
            signal.raise_signal(signal.SIGALRM)
        return switch(which, seconds)

    with monkeypatch.context() as patch:
        patch.setattr(signal, "setitimer", late)
        with pytest.raises(TimeoutError), timeout_context(60):
            pass
    assert signal.getsignal(signal.SIGALRM) is handler


def test_a_pool_without_threads_is_refused():
    with pytest.raises(ValueError, match="max_workers=0"):
        ThreadPoolManager(0)


def test_what_runs_after_its_call_cannot_be_synchronized():
    async def coroutine():
        pass

    def generator():
        yield

    for function in (coroutine, generator):
        with pytest.raises(TypeError, match="no lock would be held"):
            synchronized(function)


@pytest.mark.parametrize("errors", ["raise", "collect"])
def test_an_executor_that_is_shut_down_under_the_work_says_so(errors):
    pool = concurrent.futures.ThreadPoolExecutor(1)

    def last_one(item):
        pool.shutdown(wait=False, cancel_futures=True)
        return item

    handed_out = threading.Event()

    def items():
        yield from range(3)
        handed_out.set()

    def work(item):
        handed_out.wait()
        return last_one(item)

    with pytest.raises(concurrent.futures.CancelledError):
        parallel_map(work, items(), executor=pool, chunk_size=1, errors=errors)
