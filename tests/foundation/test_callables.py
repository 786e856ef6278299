"""What runs later than its call is recognized, and refused wherever nothing would run it."""

from __future__ import annotations

import asyncio
import functools

import pytest

from ops.foundation import (
    AsyncFileLock,
    FileLock,
    OptimisticLock,
    ThreadPoolManager,
    ValidationError,
    copy_with_progress,
    lazy_property,
    parallel_map,
    run_in_thread,
    synchronized,
    timeout_context,
    timer,
    watch_directory,
)
from ops.foundation.callables import is_awaited, runs_later


async def later(*_: object) -> bool:
    return False


def pieces(*_: object):
    yield False


class Later:
    async def __call__(self, *_: object) -> bool:
        return False


ASYNCHRONOUS = [
    later,
    Later(),
    functools.partial(later),
    functools.partial(functools.partial(later), 1),
    functools.partial(Later()),
]


@pytest.mark.parametrize("function", ASYNCHRONOUS)
def test_whatever_gives_a_coroutine_is_awaited(function) -> None:
    assert is_awaited(function)
    assert runs_later(function)


@pytest.mark.parametrize("function", [len, print, int, lambda: (later(),), functools.partial(len)])
def test_what_returns_is_not(function) -> None:
    assert not is_awaited(function)
    assert not runs_later(function)


def test_a_generator_runs_later_and_is_not_awaited() -> None:
    assert runs_later(pieces)
    with pytest.raises(ValidationError, match="generator"):
        is_awaited(pieces)


def _mapped(function) -> None:
    with ThreadPoolManager(1) as pool:
        pool.map(function, [1])


def _submitted(function) -> None:
    with ThreadPoolManager(1) as pool:
        pool.submit(function, 1)


@pytest.mark.parametrize("function", [later, Later(), pieces])
@pytest.mark.parametrize(
    "use",
    [
        lambda f, p: FileLock(p / "l", cancel_check=f),
        lambda f, p: FileLock(p / "l", sleep=f),
        lambda f, p: AsyncFileLock(p / "l", cancel_check=f),
        lambda f, p: OptimisticLock(value=1).update(f),
        lambda f, p: watch_directory(p, f),
        lambda f, p: copy_with_progress(__file__, p / "copy", f),
        lambda f, p: parallel_map(f, [1]),
        lambda f, p: parallel_map(len, ["a"], progress_callback=f),
        lambda f, p: _mapped(f),
        lambda f, p: _submitted(f),
        lambda f, p: run_in_thread(f, 1),
        lambda f, p: timer(on_done=f),
        lambda f, p: lazy_property(f),
    ],
)
def test_a_callback_that_nothing_would_run_is_refused_at_once(tmp_path, use, function) -> None:
    with pytest.raises(ValidationError):
        use(function, tmp_path)
    assert not (tmp_path / "copy").exists()


def test_decorators_know_objects_whose_call_is_awaited() -> None:
    names: list[str] = []

    class Slow:
        async def __call__(self) -> str:
            await asyncio.sleep(60)
            return "late"

    limited = timer(name="slow", on_done=lambda name, _: names.append(name))(
        timeout_context(0.01)(Slow())
    )
    with pytest.raises(TimeoutError):
        asyncio.run(limited())
    assert names == ["slow"]
    for decorate in (timer, timeout_context(1)):
        with pytest.raises(ValidationError, match="generator"):
            decorate(pieces)
    with pytest.raises(TypeError, match="no lock would be held"):
        synchronized(Later())
