"""What guarding a call costs when nothing fails, beside the libraries that do the same."""

from __future__ import annotations

import itertools

import circuitbreaker
import pybreaker
import stamina
import tenacity
from benchmarks.harness import Case, Target

from ops.resilience import CircuitBreaker, RateLimiter, retry


def work() -> int:
    return 1


def failing_every_other_time():
    calls = itertools.count()

    def call() -> int:
        if next(calls) % 2 == 0:
            raise OSError
        return 1

    return call


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
        "a retried call that fails once",
        {
            "ops-resilience": retry(3, on=OSError, initial_delay=0)(failing_every_other_time()),
            "tenacity": tenacity.retry(
                stop=tenacity.stop_after_attempt(3),
                retry=tenacity.retry_if_exception_type(OSError),
                sleep=lambda _: None,
            )(failing_every_other_time()),
        },
        (Target("tenacity", at_least=1.5),),
        packages=("tenacity",),
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
