"""How users call ops.resilience; decorators keep the types of what they decorate."""

from __future__ import annotations

from typing import assert_type

from ops.resilience import (
    CircuitBreaker,
    HTTPClient,
    RateLimiter,
    RetryConfig,
    RetryStats,
    fallback,
    retry,
    with_retry,
)


@retry
def bare(x: int) -> str:
    return str(x)


@retry(max_attempts=5, on=(OSError, TimeoutError), timeout=3)
def configured(x: int) -> str:
    return str(x)


@with_retry(RetryConfig(max_attempts=2))
async def coroutine(x: int) -> bytes:
    return bytes(x)


@CircuitBreaker(failure_threshold=3)
def guarded(x: int) -> float:
    return x / 2


@fallback(fallback_value=0)
@RateLimiter(10)
def limited(x: int) -> int:
    return x


class Client:
    @retry(max_attempts=2)
    def fetch(self, path: str) -> bytes:
        return path.encode()


async def use() -> None:
    assert_type(bare(1), str)
    assert_type(configured(1), str)
    assert_type(await coroutine(1), bytes)
    assert_type(bare.get_stats(), RetryStats)
    assert_type(coroutine.get_stats().recovered, int)
    assert_type(Client().fetch("x"), bytes)
    assert_type(guarded(1), float)
    assert_type(limited(1), int)
    with HTTPClient("http://127.0.0.1") as client:
        client.get("/x", params={"a": "b"})
