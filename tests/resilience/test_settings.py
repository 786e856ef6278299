"""Settings that would be dropped, or mean something else than they seem to, are refused or used."""

from __future__ import annotations

import asyncio
import datetime as dt
import threading

import pytest

from ops.foundation import ValidationError
from ops.resilience import (
    AsyncHTTPClient,
    CircuitBreaker,
    ConnectionPool,
    HTTPClient,
    HTTPStatusError,
    RateLimiter,
    RateLimitTimeout,
    RetryConfig,
    Semaphore,
    SlidingWindowLimiter,
    download_with_progress,
    retry,
    set_retry_hooks,
    upload_with_retry,
    wait_for_port,
)


async def later(*_: object) -> bool:
    return False


@pytest.mark.parametrize("name", ["retry_if", "if_result"])
def test_a_predicate_whose_coroutine_would_be_true_is_refused(name) -> None:
    with pytest.raises(ValidationError, match="coroutine"):
        RetryConfig(**{name: later})
    with pytest.raises(ValidationError, match="coroutine"):
        retry(**{"on" if name == "retry_if" else name: later})(len)


@pytest.mark.parametrize(
    "make",
    [
        lambda: RateLimiter(1, sleep=asyncio.sleep),
        lambda: SlidingWindowLimiter(1, sleep=asyncio.sleep),
        lambda: wait_for_port(1, sleep=asyncio.sleep),
        lambda: download_with_progress("http://localhost/", "x", later),
    ],
)
def test_a_callback_that_nothing_would_await_is_refused(make) -> None:
    with pytest.raises(ValidationError, match="coroutine"):
        make()


def test_a_hook_that_returns_a_coroutine_is_logged(caplog) -> None:
    set_retry_hooks([lambda details: later(details.attempt)])
    try:

        @retry(max_attempts=2, initial_delay=0, reraise=True)
        def fails() -> None:
            raise OSError

        with pytest.raises(OSError):
            fails()
    finally:
        set_retry_hooks(None)
    assert "a retry hook returned a coroutine" in caplog.text


@pytest.mark.parametrize(
    "settings",
    [
        {"max_attempts": True},
        {"max_attempts": 2.5},
        {"max_attempts": "3"},
        {"max_attempts": None},
        {"initial_delay": "1"},
        {"initial_delay": dt.timedelta(seconds=1)},
        {"timeout": True},
        {"timeout": "3"},
        {"jitter": 0.1},
        {"jitter": (0, 1)},
        {"jitter": "no"},
        {"reraise": "yes"},
        {"jitter_range": (1,)},
        {"jitter_range": "ab"},
        {"jitter_range": None},
    ],
    ids=str,
)
def test_a_retry_setting_that_is_not_what_it_seems_is_refused(settings) -> None:
    with pytest.raises(ValidationError):
        RetryConfig(**settings)


def test_attempts_may_be_without_end() -> None:
    assert RetryConfig(max_attempts=float("inf")).max_attempts == float("inf")


@pytest.mark.parametrize("kind", [HTTPClient, AsyncHTTPClient])
@pytest.mark.parametrize(
    "settings",
    [
        {"timeout": "3"},
        {"timeout": True},
        {"timeout": -1},
        {"timeout": float("nan")},
        {"timeout": dt.timedelta(seconds=1)},
        {"total_timeout": "3"},
        {"total_timeout": True},
        {"retries": True},
        {"retries": "3"},
        {"retries": 1.5},
        {"retries": None},
        {"retries": -1},
        {"retries": RetryConfig(if_result=bool)},
    ],
    ids=str,
)
def test_a_client_setting_that_is_not_what_it_seems_is_refused(kind, settings) -> None:
    with pytest.raises(ValidationError):
        kind("http://localhost", **settings)
    if "timeout" in settings:
        with pytest.raises(ValidationError):
            ConnectionPool(timeout=settings["timeout"])


@pytest.mark.parametrize("limit", [True, 1.5, float("inf"), 0])
def test_a_semaphore_lets_a_whole_number_in(limit) -> None:
    with pytest.raises(ValidationError):
        Semaphore(limit)


@pytest.mark.parametrize("tokens", [float("nan"), float("inf"), 0, 1.5])
def test_tokens_of_a_window_are_whole(tokens) -> None:
    with pytest.raises(ValidationError, match="whole"):
        SlidingWindowLimiter(5).acquire(tokens)


def test_a_semaphore_is_tried_the_same_way_by_tasks_and_threads() -> None:
    bulkhead = Semaphore(1, timeout=0.02)

    async def taken(*args: object, **options: object) -> object:
        try:
            return await bulkhead.acquire_async(*args, **options)  # type: ignore[arg-type]
        except RateLimitTimeout as error:
            return type(error)

    bulkhead.acquire()
    assert asyncio.run(taken(False)) is False
    assert asyncio.run(taken(blocking=False)) is False
    for args, options in [((True,), {}), ((0.01,), {}), ((), {"timeout": 0.01}), ((True, 0), {})]:
        assert asyncio.run(taken(*args, **options)) is RateLimitTimeout
    assert bulkhead.get_stats().timeouts == 6
    bulkhead.release()
    assert asyncio.run(taken(True, 1)) is True


class Answers:
    """A transport that gives one status after the other and keeps the requests."""

    def __init__(self, *statuses: int) -> None:
        self.statuses = list(statuses)
        self.requests: list[object] = []

    def client(self):
        httpx = pytest.importorskip("httpx")

        def answer(request):
            self.requests.append(request)
            return httpx.Response(self.statuses.pop(0), content=b"ok")

        return httpx.Client(transport=httpx.MockTransport(answer), timeout=7)


@pytest.mark.parametrize(
    "settings",
    [
        {"retry_if": lambda error: error.status == 429},
        {"give_up_on": HTTPStatusError},
        {"exceptions": ConnectionError},
    ],
    ids=str,
)
def test_what_a_retry_config_excludes_is_not_repeated(settings, tmp_path) -> None:
    config = RetryConfig(max_attempts=3, initial_delay=0, **settings)
    for call in (
        lambda client: HTTPClient("http://x", client=client, retries=config).get("/"),
        lambda client: upload_with_retry("http://x", __file__, client=client, retries=config),
        lambda client: download_with_progress(
            "http://x", tmp_path / "f", client=client, retries=config
        ),
    ):
        answers = Answers(503, 200)
        with answers.client() as client, pytest.raises(HTTPStatusError):
            call(client)
        assert len(answers.requests) == 1


def test_what_a_retry_config_includes_is_repeated() -> None:
    config = RetryConfig(max_attempts=3, initial_delay=0, retry_if=lambda e: e.status == 503)
    answers = Answers(503, 200)
    with answers.client() as client:
        assert HTTPClient("http://x", client=client, retries=config).get("/") == b"ok"


def test_a_client_waits_for_its_circuit_when_it_is_told_to() -> None:
    answers = Answers(503, 200)
    breaker = CircuitBreaker(failure_threshold=1, recovery_timeout=0.01)
    config = RetryConfig(max_attempts=5, initial_delay=0.02, wait_for_circuit=True)
    with answers.client() as client:
        found = HTTPClient("http://x", client=client, retries=config, breaker=breaker).get("/")
    assert found == b"ok"


def test_a_timeout_beside_a_client_goes_with_each_transfer(tmp_path) -> None:
    for seconds, used in ((None, 7), (3, 3)):
        answers = Answers(200, 200)
        with answers.client() as client:
            download_with_progress("http://x", tmp_path / "f", client=client, timeout=seconds)
            upload_with_retry("http://x", __file__, client=client, timeout=seconds)
        assert [r.extensions["timeout"]["read"] for r in answers.requests] == [used, used]
    with pytest.raises(ValidationError):
        upload_with_retry("http://x", __file__, timeout=-1)


def test_waiting_callers_do_not_share_what_a_bool_means() -> None:
    bulkhead = Semaphore(1)
    bulkhead.acquire()
    found: list[bool] = []
    thread = threading.Thread(target=lambda: found.append(bulkhead.acquire(False)))
    thread.start()
    thread.join()
    assert found == [False]


def test_the_other_names_of_settings_replace_those_of_a_config() -> None:
    config = RetryConfig(max_attempts=2, initial_delay=0, exceptions=OSError, backoff_factor=3)
    calls: list[int] = []

    @retry(config=config, retryable_exceptions=KeyError, exponential_base=4, reraise=True)
    def fails() -> None:
        calls.append(1)
        raise KeyError

    with pytest.raises(KeyError):
        fails()
    assert len(calls) == 2
    with pytest.raises(ValidationError, match="two names"):
        retry(config=config, retryable_exceptions=KeyError, on=OSError)(len)


def test_a_flag_called_retry_after_is_no_second(monkeypatch) -> None:
    slept: list[float] = []
    monkeypatch.setattr("time.sleep", slept.append)
    error = OSError()
    error.retry_after = True  # type: ignore[attr-defined]

    @retry(max_attempts=2, initial_delay=0.25, jitter=False, reraise=True)
    def fails() -> None:
        raise error

    with pytest.raises(OSError):
        fails()
    assert slept == [0.25]
