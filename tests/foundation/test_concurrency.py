"""Parallel maps and pools: order kept, no error lost, no deadlock."""

import asyncio
import concurrent.futures
import contextvars
import multiprocessing
import operator
import subprocess
import sys
import threading
import time

import pytest

from ops.foundation import (
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


def test_run_async_in_a_loop_is_ended_by_ctrl_c_and_cleans_up():
    program = """
import asyncio, os, signal, threading, time
from ops.foundation import run_async

async def inner():
    threading.Timer(0.1, os.kill, (os.getpid(), signal.SIGINT)).start()
    try:
        await asyncio.sleep(60)
    finally:
        print("cleaned")

async def outer():
    run_async(inner())

try:
    asyncio.run(outer())
except KeyboardInterrupt:
    print("interrupted")
"""
    answer = subprocess.check_output([sys.executable, "-c", program], text=True, timeout=50)
    assert answer == "cleaned\ninterrupted\n"


def test_run_async_in_a_loop_keeps_to_a_limit_of_time():
    async def outer():
        with timeout_context(0.1):
            run_async(asyncio.sleep(60))

    with pytest.raises(DeadlineExceededError):
        asyncio.run(outer())


def test_threads_see_the_context_of_the_caller_and_keep_theirs():
    tenant = contextvars.ContextVar("tenant", default="none")
    tenant.set("blue")

    def work(item):
        seen = tenant.get()
        tenant.set(f"of {item}")
        return seen

    with concurrent.futures.ThreadPoolExecutor(2) as executor:
        assert set(parallel_map(work, range(20), executor=executor, chunk_size=1)) == {"blue"}
    assert set(parallel_map(work, range(20), 2, chunk_size=1)) == {"blue"}
    with ThreadPoolManager(2) as pool:
        assert set(pool.map(work, range(20), chunk_size=1)) == {"blue"}
        assert {pool.submit(work, i).result() for i in range(20)} == {"blue"}
    assert tenant.get() == "blue"


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
