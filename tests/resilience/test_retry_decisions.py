"""What is retried, by which delay, who is notified, and in which form a retry can be written."""

from __future__ import annotations

import asyncio
import datetime as dt
import logging
import pickle
import threading
import time
from collections.abc import Iterator
from dataclasses import replace

import pytest

from ops.foundation import timeout_context
from ops.foundation.errors import DeadlineExceededError, ValidationError
from ops.resilience import (
    PROGRAMMING_ERRORS,
    BackoffStrategy,
    CircuitBreaker,
    CircuitOpenError,
    ResultRefusedError,
    RetryConfig,
    RetryDetails,
    RetryError,
    RetryingCaller,
    exponential_backoff,
    fallback,
    get_retry_hooks,
    log_retry,
    opentelemetry_retry_hook,
    prometheus_retry_hook,
    retry,
    retry_context,
    set_retry_hooks,
    structlog_retry_hook,
    testing,
    timeout,
    with_retry,
)


@pytest.fixture
def slept(monkeypatch) -> list[float]:
    naps: list[float] = []
    monkeypatch.setattr("time.sleep", naps.append)
    return naps


@pytest.fixture
def hooks() -> Iterator[None]:
    yield
    set_retry_hooks(None)


def scripted(*outcomes: object):
    """A function that returns, or raises, one of *outcomes* with each call."""
    rest = iter(outcomes)

    def function() -> object:
        outcome = next(rest)
        if isinstance(outcome, Exception):
            raise outcome
        return outcome

    return function


@pytest.mark.parametrize("kind", PROGRAMMING_ERRORS)
def test_a_programming_error_is_not_repeated_unless_it_is_named(kind, slept) -> None:
    error = kind("wrong")
    with pytest.raises(kind):
        retry(scripted(error, 1))()
    assert retry(on=kind, initial_delay=0)(scripted(error, 1))() == 1
    assert retry(on=(OSError, kind), initial_delay=0)(scripted(error, 1))() == 1
    assert retry(on=Exception, initial_delay=0)(scripted(error, 1))() == 1
    assert slept == []


def test_classes_can_be_left_out_of_what_is_retried(slept) -> None:
    call = retry(on=OSError, give_up_on=FileNotFoundError)(scripted(FileNotFoundError(), 1))
    with pytest.raises(FileNotFoundError):
        call()
    assert retry(on=FileNotFoundError, give_up_on=OSError)(scripted(FileNotFoundError(), 1))() == 1


def test_a_predicate_decides_and_may_set_the_delay(slept) -> None:
    assert retry(on=lambda e: "busy" in str(e))(scripted(OSError("busy"), 1))() == 1
    with pytest.raises(OSError, match="gone"):
        retry(on=lambda e: "busy" in str(e))(scripted(OSError("gone"), 1))()
    slept.clear()
    assert retry(on=lambda _: 0.25)(scripted(OSError(), 1))() == 1
    assert retry(on=lambda _: dt.timedelta(seconds=2))(scripted(OSError(), 1))() == 1
    assert retry(on=lambda _: 99.0, max_delay=5)(scripted(OSError(), 1))() == 1
    assert slept == [0.25, 2.0, 5]


@pytest.mark.parametrize("asynchronous", [False, True])
def test_a_result_can_be_retried(asynchronous) -> None:
    function = scripted(None, None, "ready")

    async def awaited() -> object:
        return function()

    decorated = retry(4, if_result=lambda r: r is None, initial_delay=0)(
        awaited if asynchronous else function
    )
    assert (asyncio.run(decorated()) if asynchronous else decorated()) == "ready"
    assert decorated.get_stats().retries == 2


def test_a_result_that_stays_refused_is_in_the_error(slept) -> None:
    with pytest.raises(RetryError) as caught:
        retry(2, if_result=lambda r: r == "wait", initial_delay=0)(lambda: "wait")()
    refused = caught.value.last_exception
    assert isinstance(refused, ResultRefusedError)
    assert refused.result == "wait"
    assert pickle.loads(pickle.dumps(refused)).result == "wait"


def test_an_open_circuit_ends_a_retry_at_once(slept) -> None:
    breaker = CircuitBreaker(failure_threshold=2, recovery_timeout=30)

    @retry(max_attempts=10, on=OSError, initial_delay=0)
    @breaker
    def call() -> None:
        raise ConnectionError("down")

    with pytest.raises(CircuitOpenError) as caught:
        call()
    assert isinstance(caught.value.__cause__, ConnectionError)
    assert breaker.get_stats().failures == 2
    with pytest.raises(CircuitOpenError):
        call()
    assert slept == []


@pytest.mark.parametrize("options", [{"wait_for_circuit": True}, {"on": CircuitOpenError}])
def test_a_retry_waits_for_an_open_circuit_if_that_is_wanted(slept, options) -> None:
    error = CircuitOpenError("open", retry_after=7.0)
    assert retry(2, **options)(scripted(error, "closed"))() == "closed"
    assert slept == [7.0]


# ---------------------------------------------------------------------- names and defaults


def test_both_spellings_of_a_setting_are_accepted_and_must_agree() -> None:
    config = RetryConfig(exponential_base=3.0, retryable_exceptions=(OSError,))
    assert (config.backoff_factor, config.exceptions) == (3.0, (OSError,))
    assert RetryConfig(exponential_base=3.0, backoff_factor=3.0).exponential_base == 3.0
    with pytest.raises(ValidationError, match="two names of one setting"):
        RetryConfig(exponential_base=3.0, backoff_factor=2.0)
    with pytest.raises(ValidationError, match="on and exceptions"):
        retry(on=OSError, exceptions=KeyError)
    changed = replace(config, backoff_factor=5.0, exceptions=KeyError)
    assert changed.exponential_base == 5.0
    assert changed.retryable_exceptions == (KeyError,)
    assert pickle.loads(pickle.dumps(config)) == config


def test_a_strategy_may_be_given_by_its_name() -> None:
    assert RetryConfig(backoff_strategy="linear").backoff_strategy is BackoffStrategy.LINEAR


def test_the_default_cap_follows_a_longer_first_delay() -> None:
    assert RetryConfig(initial_delay=90, jitter=False).delay(1) == 90
    assert RetryConfig(initial_delay=90, max_delay=5, jitter=False).delay(1) == 5


def test_settings_beside_a_config_replace_its_own(slept) -> None:
    config = RetryConfig(max_attempts=9, initial_delay=0)
    with pytest.raises(RetryError, match="2 attempts"):
        retry(2, config=config)(scripted(*[OSError()] * 9))()
    with pytest.raises(ValidationError, match="RetryConfig"):
        retry(config={"max_attempts": 3})


def test_every_decorator_may_be_bare(slept) -> None:
    assert with_retry(scripted(OSError(), 1))() == 1
    assert exponential_backoff(scripted(OSError(), 1))() == 1


def test_a_callable_fallback_is_refused_as_ambiguous() -> None:
    def other() -> int:
        return 1

    with pytest.raises(ValidationError, match="fallback_func="):
        fallback(other)
    assert fallback(fallback_value=other)(scripted(OSError()))() is other
    assert fallback({"status": "away"})(scripted(OSError()))() == {"status": "away"}
    with pytest.raises(ValidationError, match="not both"):
        fallback(1, fallback_value=1)


# ---------------------------------------------------------------------- callbacks


def test_coroutine_observers_of_an_async_call_are_awaited() -> None:
    seen: list[tuple[str, int]] = []

    async def on_retry(_: Exception, attempt: int) -> None:
        await asyncio.sleep(0)
        seen.append(("retry", attempt))

    async def on_failure(_: Exception, attempt: int) -> None:
        await asyncio.sleep(0)
        seen.append(("failure", attempt))

    @retry(2, initial_delay=0, on_retry=on_retry, on_failure=on_failure)
    async def bad() -> None:
        raise OSError

    with pytest.raises(RetryError):
        asyncio.run(bad())
    assert seen == [("retry", 1), ("failure", 2)]


async def _observer(*_: object) -> None:
    """Never awaited."""


class _Observer:
    async def __call__(self, *_: object) -> None:
        """Never awaited."""


@pytest.mark.parametrize("observer", [_observer, _Observer()])
def test_coroutine_callbacks_are_refused_where_nothing_awaits_them(observer) -> None:
    with pytest.raises(ValidationError, match="on_retry"):
        retry(on_retry=observer)(lambda: 1)
    with pytest.raises(ValidationError, match="on_failure"):
        retry(on_failure=observer)(lambda: 1)
    with pytest.raises(ValidationError, match="on_fallback"):
        fallback(1, on_fallback=observer)(lambda: 1)
    with pytest.raises(ValidationError, match="fallback_func"):
        fallback(fallback_func=observer)(lambda: 1)
    with pytest.raises(ValidationError, match="on_state_change"):
        CircuitBreaker(on_state_change=observer)
    with pytest.raises(ValidationError, match="listener"):
        CircuitBreaker(listeners=[observer])
    with pytest.raises(ValidationError, match="hook"):
        set_retry_hooks([observer])
    with pytest.raises(ValidationError, match="on_failure"):
        retry_context(on_failure=observer)
    with pytest.raises(ValidationError, match="on_retry"):
        next(iter(retry_context(on_retry=observer)))


def test_a_coroutine_that_cannot_be_recognized_is_closed_and_logged(caplog) -> None:
    def unrecognized(*given: object) -> object:
        return _observer(*given)

    call = retry(2, initial_delay=0, on_retry=unrecognized)(scripted(OSError(), 1))
    with caplog.at_level("ERROR", "ops.resilience"):
        assert call() == 1
    assert "on_retry returned a coroutine" in caplog.text


# ---------------------------------------------------------------------- deadlines


@pytest.mark.parametrize("limited", ["block", "decorator", "thread"])
def test_a_time_limit_around_a_retried_call_ends_it(limited) -> None:
    calls: list[int] = []

    @retry(max_attempts=1000, initial_delay=30, jitter=False)
    def slow() -> None:
        calls.append(1)
        raise ConnectionError("down")

    def run() -> None:
        call = timeout(0.1)(slow) if limited == "decorator" else timeout_context(0.1)(slow)
        with pytest.raises(TimeoutError):
            call()

    start = time.monotonic()
    if limited == "thread":
        thread = threading.Thread(target=run)
        thread.start()
        thread.join(60)
        assert not thread.is_alive()
    else:
        run()
    assert calls == [1]
    assert time.monotonic() - start < 25  # not the 30 s of the delay


def test_the_alarm_of_a_limit_is_no_failure_to_a_retry_or_a_fallback() -> None:
    calls: list[int] = []

    @fallback(fallback_value="swallowed")
    @retry(max_attempts=5, initial_delay=0, on=Exception)
    def slow() -> str:
        calls.append(1)
        time.sleep(30)
        return "late"

    with pytest.raises(DeadlineExceededError), timeout_context(0.1):
        slow()
    assert calls == [1]


# ---------------------------------------------------------------------- blocks and callers


def test_a_block_is_run_again_until_it_succeeds(slept) -> None:
    function = scripted(OSError(), OSError(), "done")
    results = []
    for attempt in retry_context(max_attempts=5, on=OSError, initial_delay=1, jitter=False):
        with attempt:
            results.append(function())
    assert (results, attempt.number, slept) == (["done"], 3, [1, 2])


def test_a_block_gives_up_as_a_call_does(slept) -> None:
    def fail(error: Exception, **options: object) -> None:
        for attempt in retry_context(2, on=OSError, **options):
            with attempt:
                raise error

    with pytest.raises(RetryError, match="2 attempts"):
        fail(OSError())
    with pytest.raises(OSError, match="last"):
        fail(OSError("last"), reraise=True)
    with pytest.raises(KeyError):
        fail(KeyError())
    with pytest.raises(ValidationError, match="no result"):
        retry_context(if_result=bool)


def test_leaving_the_loop_ends_it_and_it_may_be_run_again(slept) -> None:
    blocks = retry_context(3, initial_delay=0)
    for _ in range(2):
        for attempt in blocks:
            with attempt:
                break
        assert attempt.number == 1


def test_a_block_of_coroutines_is_run_again() -> None:
    function = scripted(OSError(), "done")
    seen = []

    async def on_retry(_: Exception, attempt: int) -> None:
        seen.append(attempt)

    async def run() -> object:
        async for attempt in retry_context(3, initial_delay=0, on_retry=on_retry):
            with attempt:
                await asyncio.sleep(0)
                return function()
        return None

    assert asyncio.run(run()) == "done"
    assert seen == [1]


def test_a_caller_retries_any_function(slept) -> None:
    caller = RetryingCaller(max_attempts=2, initial_delay=0)
    assert caller(scripted(OSError(), 5)) == 5
    assert caller(len, "abc") == 3
    with pytest.raises(KeyError):
        caller.on(OSError)(scripted(KeyError()))

    async def coroutine(x: int) -> int:
        return x

    assert asyncio.run(caller(coroutine, 4)) == 4
    with pytest.raises(ValidationError):
        RetryingCaller(max_attempts=0)


# ---------------------------------------------------------------------- instrumentation


def test_each_retry_is_one_log_line_without_the_text_of_the_error(caplog, slept) -> None:
    def fetch_password() -> None:
        raise OSError("hunter2")

    with caplog.at_level(logging.WARNING, "ops.resilience"), pytest.raises(RetryError):
        retry(3, initial_delay=0)(fetch_password)()
    assert len(caplog.records) == 2
    assert "fetch_password failed with OSError" in caplog.text
    assert "hunter2" not in caplog.text


def test_hooks_of_the_process_get_the_details_and_may_fail(hooks, slept, caplog) -> None:
    seen: list[RetryDetails] = []

    def broken(_: RetryDetails) -> None:
        raise RuntimeError("hunter2")

    set_retry_hooks([broken, seen.append])

    @retry(3, initial_delay=2, jitter=False)
    def work(x: int) -> None:
        raise OSError

    with pytest.raises(RetryError):
        work(7)
    assert [(d.attempt, d.wait_for, d.waited_so_far) for d in seen] == [
        (1, 2.0, 0.0),
        (2, 4.0, 2.0),
    ]
    assert seen[0].args == (7,)
    assert seen[0].name.endswith("work")
    assert "hunter2" not in caplog.text
    set_retry_hooks([])
    assert get_retry_hooks() == ()
    set_retry_hooks(None)
    assert get_retry_hooks() == (log_retry,)


def test_hooks_for_the_usual_libraries(hooks, slept) -> None:
    prometheus = pytest.importorskip("prometheus_client")
    export = pytest.importorskip("opentelemetry.sdk.metrics.export")
    metrics = pytest.importorskip("opentelemetry.sdk.metrics")
    registry = prometheus.CollectorRegistry()
    counter = prometheus.Counter(
        "retries", "Retries.", ["callable", "error_type"], registry=registry
    )
    reader = export.InMemoryMetricReader()
    meter = metrics.MeterProvider(metric_readers=[reader]).get_meter("test")
    logged = []

    class Logger:
        def warning(self, event: str, **fields: object) -> None:
            logged.append((event, fields))

    set_retry_hooks(
        [
            prometheus_retry_hook(counter),
            opentelemetry_retry_hook(meter),
            structlog_retry_hook(Logger()),
        ]
    )

    def work() -> None:
        raise OSError

    with pytest.raises(RetryError), testing(attempts=2):
        retry(work)()
    samples = [s for family in registry.collect() for s in family.samples]
    assert any(s.value == 1 and s.labels.get("error_type") == "OSError" for s in samples)
    [scope] = reader.get_metrics_data().resource_metrics[0].scope_metrics
    assert [p.value for m in scope.metrics for p in m.data.data_points] == [1]
    assert logged[0][0] == "retry_scheduled"
