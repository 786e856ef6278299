"""Parallel maps and pools: order kept, no error lost, no deadlock."""

import asyncio
import concurrent.futures
import operator
import threading
import time

import pytest

from ops.foundation import ThreadPoolManager, parallel_map, run_async, timeout_context


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
    with concurrent.futures.ProcessPoolExecutor(2) as pool:
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
