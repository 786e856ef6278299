"""Memoized functions: what is one call, and who computes it."""

from __future__ import annotations

import asyncio
import inspect
import os
import signal
import threading
from collections.abc import AsyncIterator, Callable, Iterator
from typing import Any

import pytest

from ops.cache import MemoryCache, cache_decorator, memoize
from ops.foundation.errors import ValidationError


def test_keyword_positional_and_default_are_one_call() -> None:
    calls: list[Any] = []

    @memoize(ignore=["debug"])
    def f(a: int, /, b: int = 2, *rest: int, c: int = 3, debug: bool = False, **more: int) -> int:
        calls.append(debug)
        return a + b + c + sum(rest) + sum(more.values())

    assert f(1) == f(1, 2) == f(1, b=2, c=3, debug=True) == 6
    assert f(1, 2, 4, d=5) == 15
    assert len(calls) == 2
    assert list(inspect.signature(f).parameters) == ["a", "b", "rest", "c", "debug", "more"]


def test_arrays_that_differ_in_one_cell_are_other_calls() -> None:
    np = pytest.importorskip("numpy")
    total = memoize(lambda array: float(array.sum()))
    a = np.zeros(100_000)
    b = a.copy()
    b[50_000] = 1
    assert (total(a), total(b), total(a.copy())) == (0.0, 1.0, 0.0)
    assert total.cache_info().size == 2


def test_methods_bind_and_errors_are_not_remembered() -> None:
    class Model:
        tries = 0

        @cache_decorator(ttl=3600)
        def predict(self, x: int) -> int:
            self.tries += 1
            if self.tries == 1:
                raise KeyError(x)
            return x

    model = Model()
    with pytest.raises(KeyError):
        model.predict(1)
    assert (model.predict(1), model.predict(x=1), model.tries) == (1, 1, 2)


def test_refresh_invalidate_contains_and_clear() -> None:
    values = iter(range(10))
    f = memoize(lambda x: (x, next(values)))
    assert f("a") == ("a", 0)
    assert f.refresh("a") == f("a") == ("a", 1)
    assert f.invalidate("a")
    assert not f.contains("a")
    f("b")
    f.cache_clear()
    assert not f.contains("b")


def test_recursion_works() -> None:
    @memoize
    def fib(n: int) -> int:
        return n if n < 2 else fib(n - 1) + fib(n - 2)

    assert fib(60) == 1548008755920


def test_a_ttl_is_exact() -> None:
    now = [0.0]
    store: MemoryCache[Any, Any] = MemoryCache(clock=lambda: now[0])
    calls: list[int] = []
    f = memoize(ttl=10, cache=store)(calls.append)
    f(1)
    now[0] = 9.99
    f(1)
    assert calls == [1]
    now[0] = 10.0
    f(1)
    assert calls == [1, 1]


def test_a_failing_leader_hands_over(until: Callable[[Callable[[], bool]], None]) -> None:
    store: MemoryCache[Any, Any] = MemoryCache()
    joined = threading.Event()
    calls: list[int] = []

    @memoize(cache=store)
    def f() -> int:
        calls.append(1)
        if len(calls) == 1:
            joined.set()
            until(lambda: store._flights.waiting(f.key()) == 1)
            raise ValueError
        return 7

    errors: list[BaseException] = []

    def lead() -> None:
        try:
            f()
        except ValueError as error:
            errors.append(error)

    leader = threading.Thread(target=lead)
    leader.start()
    assert joined.wait(60)
    assert f() == 7
    leader.join(20)
    assert (len(errors), len(calls)) == (1, 2)


def test_tasks_compute_once_and_a_cancelled_leader_hands_over() -> None:
    calls: list[int] = []

    @memoize
    async def f(x: int) -> int:
        calls.append(x)
        await asyncio.sleep(0 if len(calls) > 1 else 3600)
        return x

    async def main() -> list[int]:
        first = asyncio.create_task(f(1))
        others = [asyncio.create_task(f(1)) for _ in range(3)]
        await asyncio.sleep(0)
        first.cancel()
        return await asyncio.gather(*others)

    assert asyncio.run(main()) == [1, 1, 1]
    assert calls == [1, 1]


def test_an_error_in_the_users_key_is_raised() -> None:
    f = memoize(key=lambda x: x + "s")(lambda x: x)
    with pytest.raises(TypeError, match="unsupported operand"):
        f(1)


def test_a_key_that_cannot_be_hashed_counts_by_its_content_alone() -> None:
    calls: list[int] = []

    @memoize(key=lambda x, y: [x])
    def f(x: int, y: int) -> int:
        calls.append(y)
        return x

    assert (f(1, 2), f(1, 3), calls) == (1, 1, [2])
    assert f.contains(1, 4)


def test_a_parameter_may_have_the_name_of_a_builtin() -> None:
    called: list[object] = []

    @memoize
    def f(hash: Callable[[object], object], frozenset: int = 0, **more: int) -> int:  # noqa: A002
        return frozenset + sum(more.values())

    assert f(called.append, a=1) == f(called.append, a=1) == 1
    assert not called
    assert f.cache_info().size == 1


@pytest.mark.parametrize("wrong", [-1, float("nan")])
def test_a_wrong_time_to_live_is_refused_when_it_is_given(wrong: float) -> None:
    with pytest.raises(ValidationError, match="time to live"):
        memoize(ttl=wrong)


def test_a_generator_function_is_refused_because_its_result_can_be_read_once() -> None:
    def numbers() -> Iterator[int]:
        yield 1

    async def later() -> AsyncIterator[int]:
        yield 1

    for function in (numbers, later):
        with pytest.raises(ValidationError, match="generator"):
            memoize(function)


def test_one_name_to_ignore_needs_no_list() -> None:
    f = memoize(ignore="debug")(lambda x, debug=False: (x, debug))
    assert f(1, debug=True) == f(1) == (1, True)


def test_a_refresh_that_never_began_is_begun_again() -> None:
    calls: list[int] = []

    @memoize(ttl=1e-9, stale="refresh")
    async def f() -> int:
        calls.append(1)
        return len(calls)

    async def read_and_cancel() -> int:
        found = await f()
        for task in asyncio.all_tasks() - {asyncio.current_task()}:
            task.cancel()
        return found

    async def read_twice() -> int:
        await f()
        await asyncio.sleep(0)
        return await f()

    assert asyncio.run(read_and_cancel()) == asyncio.run(read_and_cancel()) == 1
    assert asyncio.run(read_twice()) == 2


@pytest.mark.skipif(not hasattr(os, "fork"), reason="needs fork")
@pytest.mark.filterwarnings("ignore:.*fork.*:DeprecationWarning")
def test_a_child_forked_during_a_computation_computes_for_itself() -> None:
    began, finish = threading.Event(), threading.Event()

    @memoize
    def f() -> int:
        if not began.is_set():
            began.set()
            finish.wait(60)
        return os.getpid()

    other = threading.Thread(target=f)
    other.start()
    began.wait(60)
    child = os.fork()
    if not child:
        signal.alarm(20)  # ends a child that waits for a thread it does not have
        os._exit(f() != os.getpid())
    assert os.waitpid(child, 0)[1] == 0
    finish.set()
    other.join()


def test_methods_of_a_memoized_method_are_called_on_the_class() -> None:
    class Model:
        calls = 0

        @memoize
        def predict(self, x: int) -> int:
            self.calls += 1
            return x

    model = Model()
    assert model.predict(1) == model.predict(x=1) == 1
    assert Model.predict.invalidate(model, 1)
    assert model.predict(1) == 1
    assert model.calls == 2
