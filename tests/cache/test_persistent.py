"""Results on disk: what is the same call, what invalidates, what damage does."""

from __future__ import annotations

import json
import logging
import mmap
import pathlib
import threading
from collections.abc import Iterator
from typing import Any

import pytest

from ops.cache import CorruptEntryWarning, UncacheableCallError, cache, configure
from ops.foundation.errors import ValidationError


@pytest.fixture(autouse=True)
def folder(tmp_path: pathlib.Path) -> Iterator[pathlib.Path]:
    configure(data_folder=tmp_path)
    yield tmp_path
    configure(data_folder=None)


def test_the_seed_example_runs() -> None:
    calls = []

    @cache(ignore=["debug", "calls"])
    def process_point_cloud(file_path: str, resolution: float = 0.1, debug: bool = False) -> str:
        calls.append(debug)
        return f"{file_path}@{resolution}"

    result1 = process_point_cloud("data.pcd", resolution=0.1)
    result2 = process_point_cloud.make(force=True, file_path="data.pcd", resolution=0.1)
    assert result1 == result2
    assert process_point_cloud(file_path="data.pcd", debug=True) == result1
    assert calls == [False, False]


def test_force_stores_the_value_that_later_calls_return() -> None:
    values = iter([1, 2])
    f = cache(ignore=["values"])(lambda: next(values))
    assert [f(), f.make(force=True), f(), f()] == [1, 2, 2, 2]


def test_arguments_of_other_types_are_other_calls() -> None:
    calls: list[Any] = []

    @cache(ignore=["calls"])
    def f(x: Any) -> None:
        calls.append(x)

    for x in (1, "1", 1.0, True, [1], (1,), None):
        f(x)
        f(x)
    assert len(calls) == 7


def test_a_mutable_result_is_not_shared() -> None:
    f = cache(lambda: {"a": [1]})
    f()["a"].append(2)
    f()["a"].append(3)
    assert f() == {"a": [1]}


def _versions(*bodies: str) -> list[Any]:
    made = []
    for body in bodies:
        space: dict[str, Any] = {"__name__": "made"}
        exec(f"def f(x):\n    return {body}", space)
        made.append(space["f"])
    return made


def test_editing_the_body_invalidates() -> None:
    one, two = _versions("x + 1", "x + 2")
    assert (cache(one)(1), cache(two)(1)) == (2, 3)


def test_code_false_keeps_results_after_an_edit() -> None:
    one, two = _versions("x + 1", "x + 2")
    assert (cache(code=False)(one)(1), cache(code=False)(two)(1)) == (2, 2)


def test_a_changed_dependency_invalidates_transitively() -> None:
    keys = set()
    for inner in _versions("x + 1", "x + 2"):
        middle = cache(depends_on=[cache(inner)])(_versions("x")[0])
        keys.add(cache(depends_on=[middle])(_versions("x")[0]).hash({"x": 1}))
    assert len(keys) == 2


def test_a_changed_parameter_invalidates() -> None:
    f = cache(depends_on=["model.depth"])(_versions("x")[0])
    keys = set()
    for depth in (None, 3, 4):
        configure(model={"depth": depth})
        keys.add(f.hash({"x": 1}))
    assert len(keys) == 3


def test_a_dependency_that_names_nothing_is_refused() -> None:
    f = cache(depends_on=["no_such.parameter"])(_versions("x")[0])
    with pytest.raises(ValidationError, match=r"'no_such.parameter'.*configure\(no_such=...\)"):
        f(1)


@pytest.mark.parametrize("damage", [b"", b"garbage", None])
def test_a_damaged_result_is_computed_again_with_a_warning(damage: bytes | None) -> None:
    f = cache(_versions("[x] * 1000")[0])
    expected = f(1)
    path = f.filename({"x": 1})
    path.write_bytes(path.read_bytes()[:100] if damage is None else damage)
    with pytest.warns(CorruptEntryWarning, match="computed again"):
        assert f(1) == expected
    assert f(1) == expected  # and no warning: it was repaired


def test_an_entry_without_metadata_is_missing() -> None:
    f = cache(_versions("x")[0])
    f(1)
    f.filename({"x": 1}).with_suffix(".yaml").unlink()
    assert f.load({"x": 1}, "none") == "none"


def test_metadata_says_what_was_called(folder: pathlib.Path) -> None:
    f = cache(version=3)(_versions("x")[0])
    f(7)
    (path,) = folder.glob("cache/made/f_*.yaml")
    record = json.loads(path.read_text())
    assert (record["function"], record["arguments"], record["version"]) == ("f", {"x": "7"}, "3")


def test_clear_and_info_count_only_this_function() -> None:
    f, g = cache(_versions("x")[0]), cache(lambda x: x)
    f(1), f(2), g(1)
    assert f.info()["entries"] == 2
    assert (f.clear(), f.info()["entries"], g.info()["entries"]) == (2, 0, 1)


def test_each_computation_is_logged(caplog: pytest.LogCaptureFixture) -> None:
    f = cache(_versions("x")[0])
    with caplog.at_level(logging.INFO, "ops.cache"):
        f(1), f(1)
    assert [r.message.split(" in ")[0] for r in caplog.records] == ["Computed made.f"]


def test_an_argument_without_a_digest_is_refused() -> None:
    with pytest.raises(UncacheableCallError, match="ignore"):
        cache(_versions("x")[0])(threading.Lock())


def test_a_result_is_compressed_when_that_pays() -> None:
    auto, off = cache(lambda n: [n] * 100_000), cache(compress=False)(lambda n: [n] * 100_001)
    auto(1), off(1)
    assert auto(1) == [1] * 100_000
    assert auto.filename({"n": 1}).stat().st_size * 5 < off.filename({"n": 1}).stat().st_size


def test_arrays_that_shrink_are_compressed_and_others_are_mapped() -> None:
    np = pytest.importorskip("numpy")

    @cache
    def zeros(n: int) -> Any:
        return np.zeros(n)

    @cache
    def noise(n: int) -> Any:
        return np.random.default_rng(0).integers(0, 256, n, dtype=np.uint8)

    assert np.array_equal(zeros(100_000), zeros(100_000))
    assert zeros.info()["size"] < 80_000
    first, again = noise(1_000_000), noise(1_000_000)
    assert np.array_equal(first, again)
    assert noise.info()["size"] > 1_000_000
    assert _is_mapped(again)
    again[:] = 0  # a private copy of the pages: the file keeps its content
    assert np.array_equal(first, noise(1_000_000))


def _is_mapped(array: Any) -> bool:
    owner = array
    while owner is not None and not isinstance(owner, mmap.mmap):
        owner = owner.obj if isinstance(owner, memoryview) else getattr(owner, "base", None)
    return owner is not None


def test_another_process_that_stores_or_clears_is_noticed(folder: pathlib.Path) -> None:
    f, other = (cache(f) for f in _versions("x", "x"))  # two wrappers stand for two processes
    assert (f(1), f(1)) == (1, 1)
    other.save({"x": 1}, 5)
    assert f(1) == 5
    other.clear()
    assert f(1) == 1


def test_a_recognised_call_still_sees_types_and_keywords() -> None:
    f = cache(lambda x, y=0: repr((x, y)))
    for _ in range(2):
        assert (f(1), f(True), f("1"), f(1, 1)) == ("(1, 0)", "(True, 0)", "('1', 0)", "(1, 1)")
        assert f(x=1, y=1) == f(1, y=1) == f(1, 1)
        assert (f(0.0), f(-0.0)) == ("(0.0, 0)", "(-0.0, 0)")


def test_a_changed_env_file_moves_the_cache(
    tmp_path: pathlib.Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    configure(data_folder=None)
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv("DATA_FOLDER", raising=False)
    f = cache(_versions("x")[0])
    for name in ("one", "another"):
        pathlib.Path(".env").write_text(f"DATA_FOLDER={name}\n")
        f(1)
        assert len(list((tmp_path / name).rglob("*.pkl"))) == 1


def test_long_texts_are_not_kept_to_recognise_calls() -> None:
    f = cache(lambda text: len(text) + 0)
    assert (f("x" * 5000), f("x" * 5000), f("short"), f("short")) == ((5000,) * 2 + (5,) * 2)
    assert len(f._digests) == 1


def test_setting_a_parameter_leaves_the_folder(folder: pathlib.Path) -> None:
    configure(epochs=4)
    assert cache(lambda x: x).info()["folder"].startswith(str(folder))


def test_what_yields_or_is_awaited_is_refused() -> None:
    def numbers() -> Iterator[int]:
        yield 1

    async def later() -> int:
        return 1

    for function in (numbers, later):
        with pytest.raises(ValidationError, match=r"memoize|generator"):
            cache(function)


@pytest.mark.parametrize("wrong", [-1, float("nan")])
def test_a_wrong_time_to_live_is_refused(wrong: float) -> None:
    with pytest.raises(ValidationError, match="time to live"):
        cache(ttl=wrong)(lambda: 1)


def test_one_name_needs_no_list(folder: pathlib.Path) -> None:
    calls: list[int] = []

    @cache(ignore="calls", depends_on="epochs")
    def f(calls: list[int]) -> int:
        calls.append(1)
        return len(calls)

    configure(epochs=1)
    assert f(calls) == f(calls) == 1
    configure(epochs=2)
    assert f(calls) == 2


def test_the_metadata_hold_no_argument_that_is_ignored(folder: pathlib.Path) -> None:
    class Connection:
        def __repr__(self) -> str:
            raise RuntimeError("closed")

    @cache(ignore=["password"])
    def f(user: str, password: object) -> str:
        return user

    assert f("me", "hunter2") == "me"
    assert f("you", Connection()) == "you"
    texts = [path.read_text() for path in folder.rglob("*.yaml")]
    assert len(texts) == 2
    assert not any("hunter2" in text for text in texts)


def test_info_counts_what_is_there_also_while_it_is_removed() -> None:
    f = cache(lambda x: x)
    f(1), f(2)
    f.filename({"x": 1}).unlink()
    assert f.info()["entries"] == 1


@pytest.mark.parametrize(
    "text",
    [
        b"DATA_FOLDER=data  # where results are\n",
        b"\xef\xbb\xbfDATA_FOLDER=data\n",
        b"# caf\xe9\nexport DATA_FOLDER = 'data' # here\n",
    ],
)
def test_a_dotenv_may_have_comments_a_mark_and_other_encodings(
    text: bytes, tmp_path: pathlib.Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    configure(data_folder=None)
    monkeypatch.delenv("DATA_FOLDER", raising=False)
    monkeypatch.chdir(tmp_path)
    pathlib.Path(".env").write_bytes(text)
    assert cache(lambda: 1).info()["folder"].startswith("data/cache/")
