"""What has to be awaited is awaited or refused, wherever a cache calls it."""

from __future__ import annotations

import asyncio
import functools

import pytest

from ops.cache import BatchProcessor, DiskCache, Memory, MemoryCache, cache, memoize
from ops.foundation.errors import ValidationError


async def later(*_: object) -> bool:
    return False


class Later:
    def __init__(self) -> None:
        self.calls = 0

    async def __call__(self, x: int) -> int:
        self.calls += 1
        return x


@pytest.mark.parametrize("store", [None, "disk"])
def test_objects_whose_call_is_awaited_are_memoized_like_coroutine_functions(
    tmp_path, store
) -> None:
    found = None if store is None else DiskCache(tmp_path)
    for wrap in (lambda f: f, functools.partial):
        counted = Later()
        remembered = memoize(cache=found, key=lambda x: (wrap is functools.partial, x))(
            wrap(counted)
        )

        async def twice(call=remembered) -> list[int]:
            return [await call(7), await call(7)]

        assert asyncio.run(twice()) == [7, 7]
        assert counted.calls == 1
    if found is not None:
        found.close()


def test_an_object_whose_call_is_awaited_is_not_for_a_folder(tmp_path) -> None:
    for decorate in (cache, Memory(tmp_path, verbose=0).cache):
        for function in (later, Later(), functools.partial(later)):
            with pytest.raises(ValidationError, match="coroutine"):
                decorate(function)


@pytest.mark.parametrize(
    "use",
    [
        lambda: MemoryCache(10, sizeof=later),
        lambda: MemoryCache(10, on_evict=later),
        lambda: memoize(key=later),
        lambda: BatchProcessor(later),
        lambda: Memory(None).cache(len, cache_validation_callback=later),
    ],
)
def test_a_callback_that_nothing_would_await_is_refused(use) -> None:
    with pytest.raises(ValidationError, match="coroutine"):
        use()


def test_a_coroutine_is_not_stored_for_the_next_caller() -> None:
    store: MemoryCache[str, object] = MemoryCache(10)
    for _ in range(2):
        with pytest.raises(ValidationError, match="awaited once"):
            store.get_or_compute("k", later)
    assert "k" not in store
    remembered = memoize(lambda x: later(x))  # noqa: PLW0108 - not to be recognized
    for _ in range(2):
        with pytest.raises(ValidationError, match="awaited once"):
            remembered(1)
