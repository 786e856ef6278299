"""Which functions are the same to `@cache`: what they carry counts, not only their text."""

from __future__ import annotations

import functools
import pathlib
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from typing import Any

import pytest

from ops.cache import UncacheableCallError, cache, configure


@pytest.fixture(autouse=True)
def folder(tmp_path: pathlib.Path) -> Iterator[pathlib.Path]:
    configure(data_folder=tmp_path)
    yield tmp_path
    configure(data_folder=None)


def _scale(factor: Any) -> Callable[[int], Any]:
    def scaled(x: int) -> Any:
        return x * factor

    return scaled


def _apply(inner: Callable[[int], Any]) -> Callable[[int], Any]:
    def applied(x: int) -> Any:
        return inner(x)

    return applied


def test_functions_of_one_factory_do_not_share_results() -> None:
    assert (cache(_scale(2))(10), cache(_scale(3))(10)) == (20, 30)


def test_equal_closed_over_values_are_the_same_function() -> None:
    assert cache(_scale([2])).hash({"x": 1}) == cache(_scale([2])).hash({"x": 1})
    assert cache(_scale(1)).hash({"x": 1}) != cache(_scale(1.0)).hash({"x": 1})


def test_functions_in_a_closure_count_by_what_they_close_over() -> None:
    two, three = cache(_apply(_scale(2))), cache(_apply(_scale(3)))
    assert (two(10), three(10)) == (20, 30)
    deep = cache(_scale([_scale(2)])), cache(_scale([_scale(3)]))
    assert deep[0].hash({"x": 1}) != deep[1].hash({"x": 1})


def test_two_lambdas_on_one_line_do_not_share_results() -> None:
    one, two = cache(lambda x: x + 1), cache(lambda x: x + 2)
    assert (one(1), two(1)) == (2, 3)


def test_a_closed_over_value_that_changes_is_noticed() -> None:
    factor = 2

    @cache
    def scaled(x: int) -> int:
        return x * factor

    assert scaled(10) == 20
    factor = 3
    assert scaled(10) == 30


def test_a_value_without_a_digest_is_refused_by_name_unless_ignored() -> None:
    lock = threading.Lock()

    def f(x: int) -> int:
        with lock:
            return x

    with pytest.raises(UncacheableCallError, match="'lock'"):
        cache(f)(1)
    assert cache(ignore=["lock"])(f)(1) == 1


def test_a_changed_function_given_as_default_invalidates() -> None:
    def make(inner: Callable[[int], Any]) -> Any:
        def f(x: int, how: Callable[[int], Any] = inner) -> Any:
            return how(x)

        return cache(f)

    assert (make(_scale(2))(10), make(_scale(3))(10)) == (20, 30)
    assert (make(cache(_scale(4)))(10), make(cache(_scale(5)))(10)) == (40, 50)


def test_the_defaults_of_a_dependency_count() -> None:
    def make(default: int, only: int) -> Any:
        def inner(x: int, y: int = default, *, z: int = only) -> int:
            return x + y + z

        return cache(depends_on=[inner])(_scale(1)).hash({"x": 1})

    assert len({make(1, 1), make(2, 1), make(1, 2)}) == 3


def test_decorators_around_one_function_do_not_share_results() -> None:
    def times(factor: int) -> Any:
        def decorate(func: Callable[[int], int]) -> Any:
            @functools.wraps(func)
            def wrapper(x: int) -> int:
                return factor * func(x)

            return wrapper

        return decorate

    def plain(x: int) -> int:
        return x

    assert (cache(times(2)(plain))(10), cache(times(3)(plain))(10)) == (20, 30)


@pytest.mark.parametrize(
    "make",
    [
        lambda n: functools.partial(pow, n),
        lambda n: [n].count,
        lambda n: functools.lru_cache(_scale(n)),
        lambda n: [_scale(n)],
        lambda n: {"k": _scale(n)},
    ],
    ids=["partial", "bound", "lru_cache", "list", "dict"],
)
def test_callables_of_other_kinds_count_by_content(make: Callable[[int], Any]) -> None:
    keys = [cache(_scale(make(n))).hash({"x": 1}) for n in (2, 2, 3)]
    assert keys[0] == keys[1] != keys[2]


def test_a_cached_function_may_call_itself() -> None:
    @cache
    def fib(n: int) -> int:
        return n if n < 2 else fib(n - 1) + fib(n - 2)

    assert fib(20) == 6765


_PROGRAM = """
import sys
from ops.cache import cache, configure
configure(data_folder=sys.argv[1])
def make(names):
    return cache(lambda x: x in {"a", "b", "c", "d"} or x in names)
print(make({"e", "f", "g"}).hash({"x": "a"}))
"""


def test_the_key_is_the_same_in_every_process(folder: pathlib.Path) -> None:
    script = folder / "program.py"
    script.write_text(_PROGRAM)
    keys = {
        subprocess.run(
            [sys.executable, str(script), str(folder)],
            env={"PYTHONHASHSEED": seed},
            check=True,
            capture_output=True,
            text=True,
            timeout=300,
        ).stdout
        for seed in ("1", "2", "3")
    }
    assert len(keys) == 1
