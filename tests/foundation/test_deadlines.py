"""Limits of time: they interrupt, nothing inside swallows them, and what was there before comes back."""

import asyncio
import contextlib
import math
import os
import signal
import subprocess
import sys
import threading
import time

import pytest
from tests.interrupts import at_each_line

from ops.foundation import (
    Deadline,
    DeadlineExceededError,
    DeadlineInterrupt,
    ThreadPoolManager,
    current_deadline,
    deadlines,
    run_in_thread,
    timeout_context,
)

LONG = 60  # seconds that no test waits: its limit comes first


def test_a_limit_interrupts_the_main_thread():
    with pytest.raises(TimeoutError), timeout_context(0.05):
        time.sleep(LONG)


def test_what_repeats_and_reports_failures_does_not_swallow_the_limit():
    def stubborn():
        for _ in range(100):
            with contextlib.suppress(Exception):
                time.sleep(LONG)

    with pytest.raises(DeadlineExceededError, match=r"0\.05 s") as caught, timeout_context(0.05):
        stubborn()
    assert isinstance(caught.value.__cause__, DeadlineInterrupt)


def test_a_swallowed_interrupt_comes_again_and_the_end_of_the_block_raises():
    swallowed = []

    def swallow():
        try:
            time.sleep(LONG)
        except BaseException as error:
            swallowed.append(error)

    def stubborn():
        swallow()
        swallow()

    with pytest.raises(DeadlineExceededError), timeout_context(0.02):
        stubborn()
    assert [type(error) for error in swallowed] == [DeadlineInterrupt] * 2


def test_an_interrupt_that_the_interpreter_discards_comes_again(monkeypatch):
    class Slow:
        def __del__(self):
            time.sleep(LONG)

    def work():
        Slow()
        time.sleep(LONG)

    discarded = []
    monkeypatch.setattr(sys, "unraisablehook", lambda hook: discarded.append(hook.exc_type))
    with pytest.raises(DeadlineExceededError), timeout_context(0.05):
        work()
    assert discarded == [DeadlineInterrupt]


def test_the_clean_up_of_an_interrupted_block_is_not_interrupted():
    cleaned = []

    def clean_up():
        until = time.monotonic() + 0.35
        while time.monotonic() < until:
            time.sleep(0.01)
        cleaned.append(True)

    def work():
        with timeout_context(0.04):
            try:
                time.sleep(LONG)
            finally:
                clean_up()

    with pytest.raises(DeadlineExceededError, match=r"0\.02 s"), timeout_context(0.02):
        work()
    assert cleaned


def test_an_error_after_the_time_is_the_cause_of_the_limits_error():
    def work():
        try:
            time.sleep(LONG)
        except DeadlineInterrupt:
            raise KeyError("after") from None

    with pytest.raises(DeadlineExceededError) as caught, timeout_context(0.01):
        work()
    assert isinstance(caught.value.__cause__, KeyError)


def test_an_error_in_time_and_a_request_to_stop_pass_as_they_are():
    with pytest.raises(KeyError), timeout_context(LONG):
        raise KeyError
    for request in (KeyboardInterrupt, SystemExit):
        with pytest.raises(request), timeout_context(1e-9):
            raise request


def test_elsewhere_a_block_that_overran_raises_at_its_end():
    def work(error):
        with timeout_context(1e-9) as deadline:
            assert deadline.expired
            if error:
                raise error

    with ThreadPoolManager(1) as pool:
        assert isinstance(pool.submit(work, None).exception(), DeadlineExceededError)
        failed = pool.submit(work, KeyError("after")).exception()
    assert isinstance(failed, DeadlineExceededError)
    assert isinstance(failed.__cause__, KeyError)


def test_a_nested_limit_that_is_longer_leaves_the_outer_one_in_force():
    expected = pytest.raises(DeadlineExceededError, match=r"0\.05 s")
    with expected, timeout_context(0.05), timeout_context(LONG):
        time.sleep(LONG)


def test_an_inner_limit_interrupts_and_the_outer_one_still_comes_also_while_its_error_is_handled():
    interrupted = []

    def work():
        try:
            with timeout_context(0.05):
                time.sleep(LONG)
        except DeadlineExceededError as error:
            interrupted.append(error.message)
            time.sleep(LONG)

    with pytest.raises(DeadlineExceededError, match=r"0\.3 s"), timeout_context(0.3):
        work()
    assert len(interrupted) == 1
    assert "0.05 s" in interrupted[0]


def test_an_outer_alarm_is_called_when_it_is_due_and_cannot_silence_the_limit():
    program = (
        "import signal, time; from ops.foundation import timeout_context\n"
        "signal.signal(signal.SIGALRM, lambda *_: print('rang'))\n"
        "signal.setitimer(signal.ITIMER_REAL, 0.05)\n"
        "try:\n"
        "    with timeout_context(0.1) as deadline:\n"
        "        while True: time.sleep(0.01)\n"
        "except TimeoutError: print('raised')"
    )
    answer = subprocess.check_output([sys.executable, "-c", program], text=True)
    assert answer == "rang\nraised\n"


def test_an_outer_alarm_that_ends_the_process_does_so_inside_a_limit_too():
    program = (
        "import signal, time; from ops.foundation import timeout_context\n"
        "signal.setitimer(signal.ITIMER_REAL, 0.05)\n"
        f"with timeout_context({LONG}): time.sleep({LONG})"
    )
    ended = subprocess.run([sys.executable, "-c", program], check=False)
    assert ended.returncode == -signal.SIGALRM


def test_a_block_in_time_leaves_the_alarm_as_it_was():
    # pytest-timeout may have an alarm of its own.
    handler, (left, _) = signal.getsignal(signal.SIGALRM), signal.getitimer(signal.ITIMER_REAL)
    with timeout_context(60), timeout_context(30):
        pass
    now_left, _ = signal.getitimer(signal.ITIMER_REAL)
    assert signal.getsignal(signal.SIGALRM) is handler
    assert 0 < now_left <= left if left else now_left == 0


@pytest.mark.parametrize("seconds", [0, -1, math.nan, math.inf, 1e300])
def test_a_limit_that_no_clock_reaches_is_refused_and_leaves_the_alarm(seconds):
    handler = signal.getsignal(signal.SIGALRM)
    with pytest.raises(ValueError, match="seconds="), timeout_context(seconds):
        pass
    assert signal.getsignal(signal.SIGALRM) is handler


def test_an_alarm_at_the_very_end_of_the_block_neither_interrupts_it_nor_stays(monkeypatch):
    handler = signal.getsignal(signal.SIGALRM)
    switch = signal.setitimer

    def late(which, seconds, interval=0.0):
        if not seconds:
            signal.raise_signal(signal.SIGALRM)
        return switch(which, seconds, interval)

    with monkeypatch.context() as patch:
        patch.setattr(signal, "setitimer", late)
        with timeout_context(60):
            pass
    assert signal.getsignal(signal.SIGALRM) is handler


def test_blocks_that_end_in_another_order_than_they_began_keep_their_limits():
    handler = signal.getsignal(signal.SIGALRM)
    first, second = timeout_context(LONG), timeout_context(0.05)
    first.__enter__()
    second.__enter__()
    first.__exit__(None, None, None)
    with pytest.raises(DeadlineInterrupt):
        time.sleep(LONG)
    with pytest.raises(DeadlineExceededError):
        second.__exit__(None, None, None)
    assert signal.getsignal(signal.SIGALRM) is handler


def test_an_awaiting_block_is_ended_and_its_loop_lives_on():
    async def main():
        with pytest.raises(DeadlineExceededError, match=r"0\.05 s"), timeout_context(0.05):
            await asyncio.sleep(LONG)
        await asyncio.sleep(0)
        return asyncio.current_task().cancelling()

    assert asyncio.run(main()) == 0


def test_a_block_of_a_coroutine_that_does_not_await_is_ended_too():
    async def main():
        with pytest.raises(DeadlineExceededError), timeout_context(0.05):
            time.sleep(LONG)  # noqa: ASYNC251 - the point
        return await asyncio.sleep(0, "alive")

    assert asyncio.run(main()) == "alive"


def test_the_limit_of_one_task_leaves_the_others_alone():
    async def limited(seconds):
        try:
            with timeout_context(seconds):
                await asyncio.sleep(LONG)
        except TimeoutError as error:
            return str(error)

    async def worker():
        await asyncio.sleep(0.2)
        return "worked"

    async def main():
        return await asyncio.gather(limited(0.1), worker(), limited(0.05))

    early, worked, earlier = asyncio.run(main())
    assert ("0.1 s" in early, worked, "0.05 s" in earlier) == (True, "worked", True)


def test_a_task_that_swallows_its_cancellation_still_gets_the_error():
    async def main():
        with timeout_context(0.02), contextlib.suppress(asyncio.CancelledError):
            await asyncio.sleep(LONG)

    with pytest.raises(DeadlineExceededError):
        asyncio.run(main())


def test_a_cancellation_from_elsewhere_is_no_limit():
    async def main():
        async def work():
            with timeout_context(LONG):
                await asyncio.sleep(LONG)

        task = asyncio.create_task(work())
        await asyncio.sleep(0)
        task.cancel()
        await asyncio.wait([task])
        return task.cancelled()

    assert asyncio.run(main())


def test_a_limit_around_a_whole_loop_ends_it():
    async def main():
        await asyncio.sleep(LONG)

    with pytest.raises(DeadlineExceededError), timeout_context(0.1):
        asyncio.run(main())


def test_a_decorated_function_and_coroutine_function_are_limited_at_each_call():
    @timeout_context(0.05)
    def plain(seconds):
        time.sleep(seconds)
        return "done"

    @timeout_context(0.05)
    async def awaited(seconds):
        await asyncio.sleep(seconds)
        return "done"

    assert plain(0) == asyncio.run(awaited(0)) == "done"
    with pytest.raises(TimeoutError):
        plain(LONG)
    with pytest.raises(TimeoutError):
        asyncio.run(awaited(LONG))
    assert plain(0) == "done"


def test_threads_may_share_one_limit():
    shared, barrier = timeout_context(LONG), threading.Barrier(4)

    def work():
        with shared as deadline:
            barrier.wait(60)
            assert current_deadline() is deadline
            barrier.wait(60)

    futures = [run_in_thread(work) for _ in range(4)]
    for future in futures:
        future.result(60)
    assert current_deadline() is None


def test_code_inside_knows_the_earliest_deadline_around_it_also_in_other_threads():
    assert current_deadline() is None
    with timeout_context(30) as outer:
        with timeout_context(LONG):
            assert current_deadline() is outer
            assert run_in_thread(current_deadline).result(60) is outer
        with timeout_context(20) as inner:
            assert current_deadline() is inner
        assert current_deadline() is outer
    assert current_deadline() is None


def test_a_deadline_counts_by_its_clock():
    now = 0.0
    deadline = Deadline(5, clock=lambda: now)
    now = 3.0
    deadline.check()
    assert (deadline.remaining(), deadline.expired) == (2.0, False)
    assert [deadline.clamp(s) for s in (1, 9, None)] == [1, 2.0, 2.0]
    now = 9.0
    assert (deadline.remaining(), deadline.expired) == (0.0, True)
    with pytest.raises(TimeoutError):
        deadline.check()


def test_ctrl_c_at_any_line_of_a_limit_leaves_no_alarm_behind():
    def block():
        with timeout_context(LONG):
            pass

    def overrun():
        with pytest.raises(TimeoutError), timeout_context(0.01):
            time.sleep(LONG)

    handler = signal.getsignal(signal.SIGALRM)
    lines = 0
    for line in at_each_line({deadlines.__file__}, block):
        overrun()
        assert signal.getsignal(signal.SIGALRM) is handler, line
        lines += 1
    assert lines > 20


@pytest.mark.skipif(not hasattr(os, "fork"), reason="needs fork")
@pytest.mark.filterwarnings("ignore:.*fork.*:DeprecationWarning")
def test_a_child_that_is_forked_inside_a_block_has_the_limit_too():
    child = -1
    with contextlib.suppress(TimeoutError), timeout_context(0.2):
        child = os.fork()
        if not child:
            try:
                time.sleep(LONG)
            finally:
                os._exit(not isinstance(sys.exception(), DeadlineInterrupt))
        time.sleep(LONG)
    assert os.waitpid(child, 0)[1] == 0
