"""Times of any number type last as long as they are, and folders stay where their path led."""

from __future__ import annotations

import decimal
import fractions

import pytest

from ops.cache import DiskCache, Memory, MemoryCache, cache, configure
from ops.foundation.errors import ValidationError

numpy = pytest.importorskip("numpy")


@pytest.mark.parametrize(
    "seconds",
    [
        numpy.float32(50),
        numpy.float16(50),
        numpy.int8(50),
        decimal.Decimal(50),
        fractions.Fraction(50),
    ],
    ids=lambda s: type(s).__name__,
)
def test_a_time_to_live_of_less_precision_is_not_minutes_off(tmp_path, seconds) -> None:
    now = [1_800_000_003.0]
    with DiskCache(tmp_path, clock=lambda: now[0]) as disk:
        for store in (disk, MemoryCache(10, clock=lambda: now[0])):
            store.set("k", 1, ttl=seconds)
            assert store.get("k") == 1
            now[0] += 49
            assert store.get("k") == 1
            now[0] += 2
            assert store.get("k") is None


@pytest.mark.parametrize("flag", [True, False])
def test_a_bool_is_no_time_to_live(flag) -> None:
    with pytest.raises(ValidationError, match="time to live"):
        MemoryCache(10).set("k", 1, ttl=flag)


def test_results_stay_in_a_relative_folder_when_the_current_one_changes(
    tmp_path, monkeypatch
) -> None:
    first, second = tmp_path / "first", tmp_path / "second"
    first.mkdir()
    second.mkdir()
    calls: list[int] = []

    def double(x: int) -> int:
        calls.append(x)
        return 2 * x

    monkeypatch.chdir(first)
    remembered = Memory("results", verbose=0).cache(double)
    configure(data_folder="data")
    try:
        stored = cache(double)
        for call in (remembered, stored):
            call(1)
        monkeypatch.chdir(second)
        for call in (remembered, stored):
            call(1)
    finally:
        configure(data_folder=None)
    assert calls == [1, 1]
    assert not list(second.iterdir())
