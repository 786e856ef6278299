"""Limits of the results of `@cache`: by bytes, number and age, on request and by themselves."""

from __future__ import annotations

import datetime as dt
import os
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from ops.cache import CacheLimits, CacheWrapper, cache, configure, reduce_size, stored_results
from ops.cache.__main__ import main
from ops.cache.limits import Watch
from ops.foundation import ValidationError


@pytest.fixture(autouse=True)
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    monkeypatch.setattr(stored_results, "_watch", Watch())
    configure(data_folder=tmp_path)
    yield tmp_path
    configure(data_folder=None, cache_limits=None)


@cache
def text(n: int) -> str:
    return "x" * 1000 + str(n)


@cache
def other(n: int) -> str:
    return "y" * 1000 + str(n)


def fill(function: Any, numbers: range) -> None:
    for n in numbers:
        function(n)
        path = function.filename({"n": n})
        used = time.time() - 3600 * (100 - n)  # the higher the number, the later it was used
        os.utime(path, (used, used))


def stored(function: Any, numbers: range) -> list[int]:
    return [n for n in numbers if function.filename({"n": n}).exists()]


@pytest.mark.parametrize(
    ("limits", "left"),
    [
        ({"items": 3}, [7, 8, 9]),
        ({"items": 0}, []),
        ({"age": 3600 * 95}, [6, 7, 8, 9]),
        ({"age": dt.timedelta(hours=92.5)}, [8, 9]),
        ({"bytes": 10**9}, list(range(10))),
        ({}, list(range(10))),
        ({"items": 5, "age": 3600 * 92.5}, [8, 9]),
    ],
)
def test_what_was_used_longest_ago_goes_first(limits: dict[str, Any], left: list[int]) -> None:
    fill(text, range(10))
    assert text.reduce_size(**limits) == 10 - len(left)
    assert stored(text, range(10)) == left
    assert [text(n)[1000:] for n in range(10)] == [str(n) for n in range(10)]


def test_bytes_count_results_and_metadata(folder: Path) -> None:
    fill(text, range(10))
    files = [p for p in folder.rglob("text_*") if p.is_file()]
    total = sum(p.stat().st_size for p in files)
    assert len(files) == 20
    assert text.reduce_size(bytes=total * 55 // 100) == 5
    assert sum(p.stat().st_size for p in folder.rglob("text_*")) <= total * 55 // 100
    assert stored(text, range(10)) == [5, 6, 7, 8, 9]


def test_one_function_is_reduced_alone_and_the_folder_as_a_whole() -> None:
    fill(text, range(5))
    fill(other, range(3, 8))
    assert text.reduce_size(items=4) == 1
    assert stored(other, range(3, 8)) == [3, 4, 5, 6, 7]
    assert reduce_size(items=4) == 5
    assert (stored(text, range(8)), stored(other, range(8))) == ([], [4, 5, 6, 7])


def test_configured_limits_hold_by_themselves(folder: Path) -> None:
    configure(cache_limits=CacheLimits(items=40))
    most = 0
    for n in range(200):
        text(n)
        most = max(most, len(list(folder.rglob("*.pkl"))))
    assert 30 < len(list(folder.rglob("*.pkl"))) <= most <= 44
    assert 199 in stored(text, range(200))


def test_limits_of_the_environment_hold_too(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("OPS_CACHE_MAX_BYTES", "40000")
    for n in range(100):
        text(n)
    assert 20_000 < sum(p.stat().st_size for p in folder.rglob("text_*")) < 44_000
    monkeypatch.setenv("OPS_CACHE_MAX_BYTES", "many")
    with pytest.raises(ValidationError, match="OPS_CACHE_MAX_BYTES"):
        text(1000)


def test_prune_takes_limits(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    fill(text, range(10))
    assert main(["prune", str(folder), "--max-items", "4"]) == 0
    assert capsys.readouterr().out.startswith("6 entries removed")
    assert stored(text, range(10)) == [6, 7, 8, 9]


@pytest.mark.parametrize("wrong", [{"items": -1}, {"bytes": -5}, {"age": float("nan")}])
def test_a_limit_that_is_none_is_refused(wrong: dict[str, Any]) -> None:
    with pytest.raises(ValidationError, match="zero or more"):
        CacheLimits(**wrong)
    with pytest.raises(ValidationError, match="zero or more"):
        text.reduce_size(**wrong)


def test_a_method_can_be_reduced() -> None:
    class Model:
        @cache
        def predict(self, x: int) -> int:
            return x

        def __digest__(self) -> str:
            return "model"

    assert isinstance(Model.predict, CacheWrapper)
    assert Model.predict.reduce_size(items=0) == 0


@pytest.mark.parametrize("name", ["data_folders", "datafolder", "cache_limit"])
def test_a_misspelt_option_is_no_parameter(name: str) -> None:
    with pytest.raises(ValidationError, match=f"no option '{name}'; did you mean"):
        configure(**{name: "x"})
    configure(folder="a parameter", epochs=3)
