"""What guarding a call costs when nothing fails, beside the libraries that do the same."""

from __future__ import annotations

import circuitbreaker
import pybreaker
import stamina
import tenacity
from benchmarks.harness import Case, Target

from ops.resilience import CircuitBreaker, RateLimiter, retry


def work() -> int:
    return 1


def cases():
    yield Case(
        "a retried call that succeeds",
        {
            "ops-resilience": retry(work),
            "tenacity": tenacity.retry(stop=tenacity.stop_after_attempt(3))(work),
            "stamina": stamina.retry(on=OSError)(work),
            "bare": work,
        },
        (Target("tenacity", at_least=20), Target(at_most=0.5e-6)),
        packages=("tenacity", "stamina"),
    )
    yield Case(
        "a call through a closed breaker",
        {
            "ops-resilience": CircuitBreaker()(work),
            "pybreaker": pybreaker.CircuitBreaker()(work),
            "circuitbreaker": circuitbreaker.circuit(work),
        },
        (Target(at_least=1), Target(at_most=0.5e-6)),
        packages=("pybreaker", "circuitbreaker"),
    )
    limiter = RateLimiter(1e9)
    yield Case(
        "an uncontended token", {"ops-resilience": limiter.acquire}, (Target(at_most=1.5e-6),)
    )
