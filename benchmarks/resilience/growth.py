"""How the costs of ops.resilience grow: with the rate, with waiting threads, with the earlier calls."""

from __future__ import annotations

import threading
import time
from collections.abc import Iterator, Mapping, Sequence

from benchmarks.harness import Case, Growth, Measure, decades

from ops.resilience import CircuitBreaker, RateLimiter, SlidingWindowLimiter

SIZES = {
    "tokens per second": decades(1_000, 1_000_000),
    "waiting threads": decades(1, 1_000),
    "calls per window": decades(1_000, 1_000_000),
    "earlier calls": decades(1_000, 1_000_000),
}
AWAITED = 2_000
AWAITED_RATE = 4_000


def work() -> int:
    return 1


def cases(sizes: Mapping[str, Sequence[int]] = SIZES) -> Iterator[Case]:
    """Yield a case for each size of each operation."""
    for size in sizes["tokens per second"]:
        yield Case(
            "RateLimiter.try_acquire",
            {"ops-resilience": RateLimiter(size).try_acquire},
            size=size,
            unit="tokens per second",
            growth=Growth.FLAT,
        )
    for size in sizes["waiting threads"]:
        yield Case(
            "a token of a RateLimiter that is waited for, CPU",
            {"ops-resilience": lambda size=size: _cpu_of_an_awaited_token(size)},
            measure=Measure.RETURNED,
            rounds=5,
            size=size,
            unit="waiting threads",
            growth=Growth.FLAT,
            figure_unit="seconds",
        )
    for size in sizes["calls per window"]:
        window = SlidingWindowLimiter(size, per=1e-6)  # long over, so that each call replaces one
        for _ in range(size):
            window.acquire()
        yield Case(
            "a call of a full SlidingWindowLimiter",
            {"ops-resilience": window.acquire},
            size=size,
            unit="calls per window",
            growth=Growth.FLAT,
        )
    for size in sizes["earlier calls"]:
        guarded = CircuitBreaker(window=100)(work)
        for _ in range(size):
            guarded()
        yield Case(
            "a call through a closed CircuitBreaker",
            {"ops-resilience": guarded},
            size=size,
            unit="earlier calls",
            growth=Growth.FLAT,
        )


def _cpu_of_an_awaited_token(threads: int) -> float:
    """Return the CPU seconds of a token of which each thread takes some, and nearly all of them wait."""
    limiter = RateLimiter(AWAITED_RATE, burst=1)
    start = threading.Barrier(threads + 1)

    def take() -> None:
        start.wait()
        for _ in range(AWAITED // threads):
            limiter.acquire()

    waiting = [threading.Thread(target=take) for _ in range(threads)]
    for thread in waiting:
        thread.start()
    start.wait()
    began = time.process_time()
    for thread in waiting:
        thread.join()
    return (time.process_time() - began) / (AWAITED // threads * threads)
