"""Cached functions in other programs, processes and forms: who shares results with whom."""

from __future__ import annotations

import asyncio
import concurrent.futures
import datetime as dt
import functools
import multiprocessing
import os
import pathlib
import pickle
import subprocess
import sys
import textwrap
from collections.abc import Iterator
from typing import Any

import pytest

from ops.cache import DiskCache, LRUCache, MemoryCache, cache, configure, memoize
from ops.foundation.errors import ValidationError


@pytest.fixture(autouse=True)
def folder(tmp_path: pathlib.Path) -> Iterator[pathlib.Path]:
    configure(data_folder=tmp_path / "data")
    yield tmp_path
    configure(data_folder=None)


def run(folder: pathlib.Path, *arguments: str, **environment: str) -> str:
    done = subprocess.run(
        [sys.executable, "-B", *arguments],
        cwd=folder,
        env=os.environ | {"DATA_FOLDER": str(folder.parent / "shared")} | environment,
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    return done.stdout.strip()


SAME = "from ops.cache import cache\nimport os\n\n@cache\ndef where():\n    return os.getcwd()\n"


def test_scripts_and_loose_modules_of_two_projects_share_nothing(tmp_path: pathlib.Path) -> None:
    for project in ("one", "two"):
        folder = tmp_path / project
        folder.mkdir()
        (folder / "data.py").write_text(SAME)
        (folder / "main.py").write_text(SAME + "print(where())\n")
        for arguments in (["main.py"], ["-c", "import data; print(data.where())"]):
            assert run(folder, *arguments) == str(folder)
            assert run(folder, *arguments) == str(folder)
        assert run(folder, "-c", "import data; print(data.where.info()['entries'])") == "1"


def test_clearing_in_one_project_leaves_the_other(tmp_path: pathlib.Path) -> None:
    for project in ("one", "two"):
        (tmp_path / project).mkdir()
        (tmp_path / project / "data.py").write_text(SAME)
        run(tmp_path / project, "-c", "import data; data.where()")
    assert run(tmp_path / "one", "-c", "import data; print(data.where.clear())") == "1"
    assert run(tmp_path / "two", "-c", "import data; print(data.where.info()['entries'])") == "1"


def test_a_spawned_process_is_the_same_program(tmp_path: pathlib.Path) -> None:
    (tmp_path / "main.py").write_text(
        textwrap.dedent(
            """
            import multiprocessing
            from ops.cache import cache

            @cache
            def double(x):
                return 2 * x

            if __name__ == "__main__":
                here = double.hash({"x": 1})
                with multiprocessing.get_context("spawn").Pool(1) as pool:
                    print(pool.apply(double.hash, ({"x": 1},)) == here, pool.map(double, [4]))
            """
        )
    )
    assert run(tmp_path, "main.py") == "True [8]"


@cache
def square(x: int) -> int:
    return x * x


class Model:
    def __init__(self, factor: int) -> None:
        self.factor = factor

    @cache
    def predict(self, x: int) -> int:
        return self._scaled(x)

    def _scaled(self, x: int) -> int:
        return x * self.factor


def test_a_cached_function_and_method_travel_to_other_processes() -> None:
    assert pickle.loads(pickle.dumps(square)) is square
    assert pickle.loads(pickle.dumps(Model(3).predict))(2) == 6
    with concurrent.futures.ProcessPoolExecutor(
        1, mp_context=multiprocessing.get_context("fork")
    ) as pool:
        assert list(pool.map(square, [2, 3])) == [4, 9]


def test_a_bound_method_has_the_methods_of_its_function() -> None:
    model = Model(3)
    assert (model.predict(2), model.predict.make(2, force=True)) == (6, 6)
    assert model.predict.explain(2).is_stored
    assert not Model(4).predict.explain(2).is_stored
    assert model.predict.clear() == 1
    assert Model(5).predict(2) == 10


def test_a_method_may_be_cached_on_its_instance() -> None:
    class Loader:
        def __init__(self, base: int) -> None:
            self.base = base
            self.calls: list[int] = []
            self.load = cache(ignore=["calls"])(self.fetch)  # type: ignore[method-assign]

        def fetch(self, x: int) -> int:
            self.calls.append(x)
            return self.base + x

    one, two = Loader(1), Loader(2)
    assert [one.load(1), two.load(1)] == [2, 3]
    one.base = 10
    assert one.load(1) == 11


class Adder:
    def __init__(self, n: int) -> None:
        self.n = n

    def __call__(self, x: int) -> int:
        return x + self.n


def test_partials_and_callable_objects_can_be_cached() -> None:
    assert cache(functools.partial(pow, 2))(5) == 32
    assert cache(functools.partial(pow, 3))(5) == 243
    assert (cache(Adder(1))(1), cache(Adder(2))(1)) == (2, 3)


def test_what_the_function_counts_in_is_no_input() -> None:
    calls: list[int] = []
    counts = {"n": 0}

    def count() -> None:
        counts["n"] += 1

    @cache
    def f(x: int) -> int:
        calls.append(x)
        count()
        return x

    assert [f(1), f(1), f(1)] == [1, 1, 1]
    assert (calls, counts) == ([1], {"n": 1})


SETTINGS = {"rate": 1}


def test_a_global_that_the_program_changes_meanwhile_counts() -> None:
    @cache
    def f() -> int:
        return SETTINGS["rate"]

    assert f() == 1
    SETTINGS["rate"] = 2
    try:
        assert f() == 2
    finally:
        SETTINGS["rate"] = 1
    assert f() == 1


def test_a_helper_that_is_defined_anew_counts() -> None:
    space: dict[str, Any] = {"cache": cache, "__name__": "notebook"}
    exec("@cache\ndef f(x):\n    return g(x)\n\ndef g(x):\n    return x + 1\n", space)
    assert space["f"](1) == 2
    exec("def g(x):\n    return x + 2\n", space)
    assert space["f"](1) == 3


def test_the_class_of_an_argument_counts_with_its_methods() -> None:
    def price(text: str) -> Any:
        space: dict[str, Any] = {"__name__": "shop"}
        exec(f"class Item:\n    def price(self):\n        return {text}\n", space)
        return space["Item"]()

    @cache
    def total(item: Any) -> int:
        return item.price()  # type: ignore[no-any-return]

    assert (total(price("1")), total(price("2"))) == (1, 2)


def test_generators_behind_wrappers_are_refused_at_once() -> None:
    def values() -> Iterator[int]:
        yield 1

    @functools.wraps(values)
    def wrapper() -> Iterator[int]:
        return values()

    for decorate in (cache, memoize):
        with pytest.raises(ValidationError, match="read only once"):
            decorate(wrapper)


def test_functions_over_one_memory_cache_keep_their_results_apart() -> None:
    store: MemoryCache[Any, Any] = LRUCache(10)
    one, two = (
        memoize(cache=store)(lambda x: ("one", x)),
        memoize(cache=store)(lambda x: ("two", x)),
    )
    assert (one(1), two(1), one([1]), two([1])) == (
        ("one", 1),
        ("two", 1),
        ("one", [1]),
        ("two", [1]),
    )
    assert len(store) == 4


def test_functions_over_one_disk_cache_keep_their_results_apart(tmp_path: pathlib.Path) -> None:
    def times(n: int) -> Any:
        return lambda x: x * n

    with DiskCache(tmp_path / "store") as store:
        one, two = memoize(cache=store)(times(2)), memoize(cache=store)(times(3))
        assert (one(1), two(1), one(1), two(1)) == (2, 3, 2, 3)


def test_a_recursion_goes_nearly_as_deep_as_without_memoize() -> None:
    def depth_of(decorate: Any) -> int:
        @decorate
        def f(n: int) -> int:
            return 0 if n == 0 else f(n - 1) + 1  # type: ignore[no-any-return]

        return f(sys.getrecursionlimit() * 2 // 5)  # type: ignore[no-any-return]

    assert depth_of(memoize) == depth_of(functools.lru_cache(None))


def test_a_failed_call_is_computed_by_the_next_caller() -> None:
    results = iter([ValueError("first"), 2])

    @memoize
    def f() -> int:
        found = next(results)
        if isinstance(found, Exception):
            raise found
        return found

    with pytest.raises(ValueError, match="first"):
        f()
    assert (f(), f()) == (2, 2)


def test_tasks_that_would_wait_for_each_other_compute_by_themselves() -> None:
    started: list[str] = []

    @memoize
    async def f(name: str) -> str:
        if started.count(name):
            return name
        started.append(name)
        await asyncio.sleep(0)
        # In a task of its own, which is the same computation all the same.
        return await asyncio.create_task(f("b" if name == "a" else "a"))

    async def both() -> list[str]:
        return await asyncio.wait_for(asyncio.gather(f("a"), f("b")), 60)

    assert set(asyncio.run(both())) <= {"a", "b"}


@pytest.mark.parametrize("kind", ["memory", "disk"])
def test_a_coroutine_whose_result_does_not_fit_returns_it(
    kind: str, tmp_path: pathlib.Path
) -> None:
    store: Any = (
        MemoryCache(max_memory=100) if kind == "memory" else DiskCache(tmp_path, max_bytes=1 << 16)
    )

    @memoize(cache=store)
    async def big() -> bytes:
        return b"x" * (1 << 20)

    assert len(asyncio.run(big())) == 1 << 20  # type: ignore[arg-type]


def test_times_to_live_may_be_timedeltas() -> None:
    assert memoize(ttl=dt.timedelta(seconds=5))(lambda: 1)() == 1
    assert cache(ttl=dt.timedelta(minutes=5))(lambda: 1)() == 1


def test_equal_arguments_of_other_types_are_one_call_unless_typed() -> None:
    def kind(*args: Any, **kwargs: Any) -> list[str]:
        return [type(a).__name__ for a in (*args, *kwargs.values())]

    loose, strict = memoize(kind), memoize(typed=True)(kind)
    assert [loose(1, k=1), loose(1.0, k=True)] == [["int", "int"], ["int", "int"]]
    assert [strict(1, k=1), strict(1.0, k=True)] == [["int", "int"], ["float", "bool"]]


def test_a_size_of_zero_remembers_nothing() -> None:
    calls: list[int] = []
    f = memoize(max_size=0)(calls.append)
    f(1)
    f(1)
    assert calls == [1, 1]
