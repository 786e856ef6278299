"""Retry does what its configuration says, for every spelling, and costs nothing on success."""

from __future__ import annotations

import asyncio
import gc
import itertools
import math
import pickle
import sys
import threading
import weakref

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ops.foundation.errors import ValidationError
from ops.resilience import (
    BackoffStrategy,
    RetryConfig,
    RetryError,
    async_retry,
    exponential_backoff,
    fallback,
    fibonacci_backoff,
    linear_backoff,
    retry,
    retry_on_exception,
    retry_with_timeout,
    testing,
    with_retry,
)


@pytest.fixture
def slept(monkeypatch) -> list[float]:
    """What would have been slept, in seconds."""
    naps: list[float] = []
    monkeypatch.setattr("ops.resilience._retry_policy.time.sleep", naps.append)
    return naps


def failing(times: int, error: type[Exception] = OSError):
    """A function that fails *times* and then returns how often it was called."""
    calls = itertools.count(1)

    def function() -> int:
        number = next(calls)
        if number <= times:
            raise error(f"failure {number}")
        return number

    return function


def test_a_failing_call_is_made_again(slept) -> None:
    seen = []
    function = retry(4, jitter=False, on_retry=lambda e, n: seen.append((str(e), n)))(failing(2))
    assert function() == 3
    assert seen == [("failure 1", 1), ("failure 2", 2)]
    assert slept == [1.0, 2.0]
    assert (function.get_stats().retries, function.get_stats().recovered) == (2, 1)


def test_giving_up_tells_the_last_error_and_the_number_of_attempts(slept) -> None:
    told = []
    function = retry(3, on_failure=lambda e, n: told.append((str(e), n)))(failing(9))
    with pytest.raises(RetryError, match=r"3 attempts.*failure 3") as caught:
        function()
    assert caught.value.attempts == 3
    assert isinstance(caught.value.last_exception, OSError)
    assert caught.value.__cause__ is caught.value.last_exception
    assert told == [("failure 3", 3)]
    assert function.get_stats().exhausted == 1
    assert pickle.loads(pickle.dumps(caught.value)).attempts == 3


def test_the_last_error_itself_can_be_raised(slept) -> None:
    with pytest.raises(OSError, match="failure 2"):
        with_retry(RetryConfig(max_attempts=2, reraise=True))(failing(9))()


def test_other_errors_pass_at_once(slept) -> None:
    function = retry_on_exception(OSError)(failing(1, KeyError))
    with pytest.raises(KeyError):
        function()
    assert slept == []
    with pytest.raises(KeyboardInterrupt):
        retry()(lambda: (_ for _ in ()).throw(KeyboardInterrupt))()


def test_every_spelling_waits_its_own_way(slept) -> None:
    for spelling, expected in (
        (exponential_backoff, [1, 2, 4, 5]),
        (linear_backoff, [1, 2, 3, 4]),
        (fibonacci_backoff, [1, 1, 2, 3]),
    ):
        slept.clear()
        spelling(initial=1.0, maximum=5.0, max_attempts=5, jitter=False)(failing(4))()
        assert slept == expected


def test_bare_decorators_methods_and_coroutines(slept) -> None:
    class Service:
        calls = 0

        @retry
        def method(self) -> int:
            self.calls += 1
            if self.calls < 3:
                raise OSError
            return self.calls

    assert Service().method() == 3

    calls = itertools.count(1)

    @async_retry(max_attempts=3, initial_delay=0)
    async def wait() -> int:
        number = next(calls)
        if number < 3:
            raise OSError
        return number

    assert asyncio.run(wait()) == 3
    with pytest.raises(ValidationError, match="coroutine"):
        async_retry(lambda: 1)


def test_generators_are_refused() -> None:
    def generate():
        yield 1

    with pytest.raises(ValidationError, match="generator"):
        retry(generate)


def test_the_timeout_counts_the_first_attempt_and_the_last_sleep(monkeypatch) -> None:
    now = [0.0]

    def pass_time(seconds: float) -> None:
        now[0] += seconds

    monkeypatch.setattr("ops.resilience._retry_policy.time.sleep", pass_time)
    monkeypatch.setattr("time.monotonic", lambda: now[0])

    @retry_with_timeout(5.0, max_attempts=50, jitter=False, initial_delay=2.0)
    def takes_a_second() -> None:
        pass_time(1.0)
        raise OSError

    with pytest.raises(RetryError) as caught:
        takes_a_second()
    # 1 s at work, 2 s asleep, 1 s at work: the next sleep of 4 s would end after the limit.
    assert now[0] == 4.0
    assert caught.value.attempts == 2


def test_an_error_may_say_when_to_come_back(slept) -> None:
    class Busy(Exception):
        retry_after = 7.5

    retry(2)(failing(1, Busy))()
    assert slept == [7.5]


@given(
    strategy=st.sampled_from(BackoffStrategy),
    attempt=st.integers(1, 5000),
    initial=st.floats(0, 1e6),
    maximum=st.floats(0, 1e6),
    factor=st.floats(0, 100),
)
def test_no_delay_exceeds_the_cap_whatever_the_jitter(strategy, attempt, initial, maximum, factor):
    config = RetryConfig(
        backoff_strategy=strategy, initial_delay=initial, max_delay=maximum, backoff_factor=factor
    )
    assert 0 <= config.delay(attempt) <= maximum


@pytest.mark.parametrize("bad", [-1, math.nan, math.inf])
@pytest.mark.parametrize("field", ["initial_delay", "max_delay", "backoff_factor", "timeout"])
def test_delays_that_make_no_sense_are_refused_at_decoration(field, bad) -> None:
    with pytest.raises(ValidationError, match=field):
        RetryConfig(**{field: bad})


@pytest.mark.parametrize(
    "settings",
    [
        {"max_attempts": 0},
        {"exceptions": ()},
        {"exceptions": int},
        {"jitter_range": (2, 1)},
        {"max_attempts": math.nan},
        {"backoff_strategy": "bogus"},
    ],
)
def test_other_nonsense_is_refused_too(settings) -> None:
    with pytest.raises(ValidationError):
        RetryConfig(**settings)


def test_in_testing_nobody_sleeps_and_attempts_are_capped(slept) -> None:
    with testing(attempts=2), pytest.raises(RetryError) as caught:
        retry(50)(failing(99))()
    assert caught.value.attempts == 2
    assert sum(slept) == 0


def test_threads_share_a_decorated_function_without_sharing_state() -> None:
    numbers, outcomes = itertools.count(), []
    before = sys.getswitchinterval()
    sys.setswitchinterval(1e-6)

    @retry(4, initial_delay=0)
    def flaky() -> int:
        if next(numbers) % 3:
            raise ValueError
        return 1

    def work() -> None:
        for _ in range(200):
            try:
                outcomes.append(flaky())
            except RetryError as error:
                outcomes.append(error.attempts)

    try:
        threads = [threading.Thread(target=work) for _ in range(8)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
    finally:
        sys.setswitchinterval(before)
    assert len(outcomes) == 1600
    assert set(outcomes) <= {1, 4}


def test_fallback_answers_with_a_value_or_a_function() -> None:
    told = []

    @fallback(fallback_value=None, on_fallback=told.append)
    def fails() -> int:
        raise OSError("gone")

    @fallback(fallback_func=lambda x, error: (x, type(error).__name__))
    def fails_too(x: int) -> int:
        raise OSError

    @fallback(fallback_value=5)
    async def waits() -> int:
        raise OSError

    assert fails() is None
    assert str(told[0]) == "gone"
    assert fails_too(3) == (3, "OSError")
    assert asyncio.run(waits()) == 5
    with pytest.raises(ValidationError):
        fallback()


def test_retry_below_fallback_works_and_above_it_warns(slept) -> None:
    inner = failing(9)
    assert fallback(fallback_value="saved")(retry(3)(inner))() == "saved"
    with pytest.raises(OSError, match="failure 4"):
        inner()
    with pytest.warns(UserWarning, match="never retries"):
        retry(3)(fallback(fallback_value=1)(failing(1)))


@pytest.mark.parametrize(
    ("asked", "waited"),
    [(3600, 2.0), (-1, 0.5), (0, 0.5), (math.nan, 0.5), (math.inf, 0.5), ("7", 0.5), (list, 0.5)],
)
def test_what_an_error_asks_for_is_capped_and_only_followed_when_it_is_a_time(
    slept, asked, waited
) -> None:
    class Asking(OSError):
        retry_after = asked

    assert retry(initial_delay=0.5, max_delay=2, jitter=False)(failing(1, Asking))() == 2
    assert slept == [waited]


def test_an_object_whose_call_is_a_coroutine_is_awaited_and_made_again() -> None:
    class Client:
        calls = 0

        async def __call__(self) -> str:
            self.calls += 1
            if self.calls == 1:
                raise OSError
            return "ok"

    assert asyncio.run(retry(initial_delay=0)(Client())()) == "ok"


def test_an_error_without_a_text_does_not_hide_that_attempts_are_used_up(slept) -> None:
    class Mute(OSError):
        def __str__(self) -> str:
            raise RuntimeError

    with pytest.raises(RetryError, match="Gave up after 1 attempt"):
        retry(1)(failing(9, Mute))()


class NeedsTwo(Exception):
    def __init__(self, one: int, two: int) -> None:
        super().__init__(f"{one} {two}")


def test_giving_up_travels_even_if_the_last_error_cannot() -> None:
    back = pickle.loads(pickle.dumps(RetryError(NeedsTwo(1, 2), 3)))
    assert back.attempts == 3
    assert str(back.last_exception) == "NeedsTwo: 1 2"


@pytest.mark.parametrize("asynchronous", [False, True])
def test_what_a_recovered_call_was_given_is_let_go_at_once(slept, asynchronous) -> None:
    class Batch:
        pass

    def call() -> weakref.ref[Batch]:
        function = failing(1)

        @retry(initial_delay=0)
        def take(_: Batch) -> None:
            function()

        @retry(initial_delay=0)
        async def take_async(_: Batch) -> None:
            function()

        batch = Batch()
        if asynchronous:
            asyncio.run(take_async(batch))
        else:
            take(batch)
        return weakref.ref(batch)

    gc.disable()
    try:
        assert call()() is None
    finally:
        gc.enable()
