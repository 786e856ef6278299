"""Memoized functions on other caches, and results that have become stale."""

from __future__ import annotations

import asyncio
import logging
import os
import subprocess
import sys
import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from ops.cache import DiskCache, MemoryCache, memoize
from ops.cache.s3fifo import OpenS3FIFOCache
from ops.cache.staleness import StaleStore
from ops.foundation import ValidationError


class Clock:
    now = 0.0

    def __call__(self) -> float:
        return self.now


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> Clock:
    """The clock of every StaleStore that the test makes."""
    made = Clock()
    real = StaleStore.__init__

    def init(self: StaleStore, store: Any, ttl: float, stale: Any, **_: Any) -> None:
        real(self, store, ttl, stale, clock=made)

    monkeypatch.setattr(StaleStore, "__init__", init)
    return made


def test_results_outlive_the_process_and_count_by_type(tmp_path: Path) -> None:
    program = """
import sys
from ops.cache import DiskCache, memoize
calls = []
@memoize(cache=DiskCache(sys.argv[1]), ignore=["debug"])
def f(a, b=2, *, debug=False):
    calls.append(a)
    return [a, b]
@memoize(cache=DiskCache(sys.argv[1]), key=lambda a: a["id"])
def g(a):
    calls.append("g")
    return "g"
print(f(1), f(a=1, b=2, debug=True), f(1.0), f([1, 2]), g({"id": 1, "x": object()}), len(calls))
print(f.contains(1), f.key(1).startswith("__main__.f:"), f.cache_info().size)
"""
    for calls in (4, 0):
        run = [sys.executable, "-c", program, str(tmp_path)]
        output = subprocess.run(run, check=True, capture_output=True, text=True).stdout
        assert output == f"[1, 2] [1, 2] [1.0, 2] [[1, 2], 2] g {calls}\nTrue True 4\n"


def test_callers_share_no_mutable_result_of_a_disk(tmp_path: Path) -> None:
    with DiskCache(tmp_path) as store:
        f = memoize(cache=store)(lambda: [1])
        f()
        f().append(2)
        assert f() == [1]
        assert f.invalidate()
        assert not f.contains()


def test_a_coroutine_function_may_use_a_disk(tmp_path: Path) -> None:
    calls: list[int] = []

    async def ask() -> list[int]:
        with DiskCache(tmp_path) as store:

            @memoize(cache=store)
            async def f(n: int) -> int:
                calls.append(n)
                await asyncio.sleep(0)
                return n

            return [*await asyncio.gather(f(1), f(1), f(2)), await f(1)]

    assert asyncio.run(ask()) == [1, 1, 2, 1]
    assert sorted(calls) == [1, 2]


def test_serve_gives_the_old_result_to_all_but_one(
    clock: Clock, until: Callable[..., None]
) -> None:
    gate, entered = threading.Event(), threading.Event()
    results = iter(["old", "new", "newer"])

    @memoize(ttl=10, stale="serve")
    def f() -> str:
        if clock.now:
            entered.set()
            assert gate.wait(60)
        return next(results)

    assert f() == f() == "old"
    clock.now = 10
    assert not f.contains()
    answers: list[str] = []
    first = threading.Thread(target=lambda: answers.append(f()))
    first.start()
    assert entered.wait(60)
    assert f() == "old"
    gate.set()
    first.join()
    assert answers == ["new"]
    assert f() == "new"


def test_refresh_computes_in_the_background(clock: Clock, until: Callable[..., None]) -> None:
    results = iter(["old", "new"])
    f = memoize(ttl=10, stale="refresh")(lambda: next(results))
    assert f() == "old"
    clock.now = 10
    assert f() == "old"
    until(f.contains)
    assert f() == "new"
    assert f.cache_info().size == 1


@pytest.mark.parametrize("mode", ["serve", "refresh"])
def test_a_failed_refresh_leaves_the_old_result_and_the_next_one_tries_again(
    clock: Clock, until: Callable[..., None], mode: Any, caplog: pytest.LogCaptureFixture
) -> None:
    outcomes: list[Any] = ["old", LookupError("no"), "new"]

    @memoize(ttl=10, stale=mode)
    def f() -> Any:
        outcome = outcomes.pop(0)
        if isinstance(outcome, Exception):
            raise outcome
        return outcome

    assert f() == "old"
    clock.now = 10
    with caplog.at_level(logging.ERROR, "ops.cache"):
        if mode == "serve":
            with pytest.raises(LookupError):
                f()
        else:
            assert f() == "old"
            until(lambda: "the stale result stays" in caplog.text)
    assert f() == ("new" if mode == "serve" else "old")
    until(f.contains)
    assert f() == "new"


@pytest.mark.parametrize("mode", ["serve", "refresh"])
def test_stale_results_of_coroutine_functions(clock: Clock, mode: Any) -> None:
    calls: list[float] = []

    @memoize(ttl=10, stale=mode)
    async def f() -> float:
        calls.append(clock.now)
        await asyncio.sleep(0.01)
        return calls[-1]

    async def ask() -> None:
        assert await asyncio.gather(f(), f()) == [0, 0]
        clock.now = 10
        answers = await asyncio.gather(f(), f(), f())
        assert sorted(answers) == ([0, 0, 10] if mode == "serve" else [0, 0, 0])
        while not f.contains():  # noqa: ASYNC110 - nothing tells when it is stored
            await asyncio.sleep(0.001)
        assert await f() == 10

    asyncio.run(ask())
    assert calls == [0, 10]


def test_stale_works_on_a_disk_too(tmp_path: Path, clock: Clock) -> None:
    with DiskCache(tmp_path) as store:
        results = iter([[1], [2]])
        f = memoize(ttl=10, stale="serve", cache=store)(lambda: next(results))
        assert f() == f() == [1]
        clock.now = 10
        assert f() == [2]


def test_wrong_ways_to_be_stale_are_refused() -> None:
    with pytest.raises(ValidationError, match="without one nothing gets stale"):
        memoize(stale="serve")(lambda: 1)
    with pytest.raises(ValidationError, match="later"):
        memoize(ttl=1, stale="later")(lambda: 1)  # type: ignore[call-overload]


def test_a_memory_cache_of_the_user_is_used() -> None:
    store: MemoryCache[Any, Any] = MemoryCache(2)
    f = memoize(cache=store)(lambda n: n)
    for n in range(5):
        f(n)
    assert len(store) == 2


def test_a_forked_child_computes_what_its_parent_is_computing(clock: Clock) -> None:
    begun, go = threading.Event(), threading.Event()
    calls: list[int] = []

    @memoize(ttl=10, stale="serve")
    def f() -> int:
        calls.append(1)
        if len(calls) == 2:
            begun.set()
            go.wait()
        return len(calls)

    f()
    clock.now += 11
    thread = threading.Thread(target=f)
    thread.start()
    begun.wait()
    child = os.fork()
    if not child:
        os._exit(f())
    status = os.waitpid(child, 0)[1]
    go.set()
    thread.join()
    assert os.waitstatus_to_exitcode(status) == 3


@pytest.mark.parametrize("kind", [MemoryCache, OpenS3FIFOCache])
@pytest.mark.parametrize("by", ["default", "touch"])
def test_a_cache_that_was_given_may_let_results_expire(kind: Any, by: str, clock: Clock) -> None:
    """Whenever its first entry gets a deadline: the wrapper's way to its hits knows of it."""
    store = kind(default_ttl=5 if by == "default" else None, clock=clock)
    results = iter(range(10))
    f = memoize(cache=store)(lambda x: next(results))
    assert [f(1), f(1)] == [0, 0]
    if by == "touch":
        assert store.touch(f.key(1), ttl=5)
    clock.now += 6
    assert f(1) == 1
