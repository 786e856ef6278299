"""The network, retry and resilience examples of the product's documents."""

from __future__ import annotations

import logging
from pathlib import Path

import pytest

from ops.resilience import (
    CircuitBreaker,
    HTTPClient,
    RateLimiter,
    RetryConfig,
    download_with_progress,
    exponential_backoff,
    fallback,
    retry,
    with_retry,
)

logger = logging.getLogger(__name__)


def test_network(server, reply, tmp_path: Path, capsys) -> None:
    pytest.importorskip("httpx")
    server.replies(reply(200, b'{"id": 123}', {"Content-Type": "application/json"}))
    client = HTTPClient(base_url=server.url)
    data = client.get("/users/123")
    assert data == {"id": 123}
    client.close()
    server.replies(reply(200, b"weights"))
    download_with_progress(
        url=f"{server.url}/model.bin",
        destination=Path(tmp_path / "model.bin"),
        progress_callback=lambda c, t: print(f"{c / t * 100:.1f}%"),
    )
    assert "100.0%" in capsys.readouterr().out


def test_rate_limiting() -> None:
    calls = []
    limiter = RateLimiter(rate=10, per=1.0)  # 10 per second
    with limiter:
        calls.append(1)
    assert calls == [1]


def test_retry_and_breaker() -> None:
    class Service:
        def call(self) -> str:
            return "served"

    service = Service()

    @exponential_backoff(initial=1.0, maximum=60.0)
    def flaky_api_call():
        return "reply"

    breaker = CircuitBreaker(failure_threshold=5, recovery_timeout=60)

    @breaker
    def external_service_call():
        return service.call()

    assert flaky_api_call() == "reply"
    assert external_service_call() == "served"


def test_error_handling() -> None:
    class External:
        def get_status(self):
            raise ConnectionError

    external_service = External()
    # This order never retries, and says so.
    with pytest.warns(UserWarning, match="never retries"):

        @retry(max_attempts=3, on_retry=lambda e, n: logger.warning(f"Retry {n}: {e}"))
        @fallback(fallback_value={"status": "unavailable"})
        def get_service_status():
            return external_service.get_status()

    assert get_service_status() == {"status": "unavailable"}


def test_with_retry_config() -> None:
    @with_retry(RetryConfig(max_attempts=2, initial_delay=0))
    def work() -> int:
        return 1

    assert work() == 1
