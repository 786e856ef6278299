"""`Memory`, the interface of joblib: alone, and inside pipelines of scikit-learn."""

from __future__ import annotations

import datetime as dt
import pickle
import subprocess
import sys
import textwrap
from pathlib import Path
from queue import SimpleQueue
from typing import Any

import numpy as np
import pytest

from ops.cache import Memory
from ops.foundation import ValidationError

CALLS: SimpleQueue[Any] = SimpleQueue()  # which has no content that counts


def double(x: Any, debug: bool = False) -> Any:
    CALLS.put(x)
    return x * 2


@pytest.fixture(autouse=True)
def no_calls() -> None:
    while not CALLS.empty():
        CALLS.get()


@pytest.fixture
def memory(tmp_path: Path) -> Memory:
    return Memory(tmp_path / "joblib", verbose=0)


def test_a_call_is_computed_once(memory: Memory) -> None:
    cached = memory.cache(double, ignore=["debug"])
    assert not cached.check_call_in_cache(3)
    assert cached(3) == cached(x=3, debug=True) == 6
    assert CALLS.qsize() == 1
    assert cached.check_call_in_cache(3)
    assert memory.cache(double, ignore=["debug"])(3) == 6
    assert CALLS.qsize() == 1
    cached.clear(warn=False)
    assert not cached.check_call_in_cache(3)


def test_it_decorates_with_and_without_arguments(memory: Memory) -> None:
    @memory.cache
    def plain(x: int) -> int:
        return x + 1

    @memory.cache(ignore=["y"])
    def ignoring(x: int, y: int = 0) -> int:
        return x + y

    assert (plain(1), ignoring(1, y=1), ignoring(1, y=5)) == (2, 2, 2)
    assert plain.__name__ == "plain"
    assert memory.eval(double, 4) == 8


def test_a_shelved_result_is_small_and_can_be_sent_on(memory: Memory) -> None:
    cached = memory.cache(double)
    shelved = cached.call_and_shelve(np.ones(100_000))
    assert len(pickle.dumps(shelved)) < 2000
    assert pickle.loads(pickle.dumps(shelved)).get().sum() == 200_000
    shelved.clear()
    with pytest.raises(KeyError, match="removed"):
        shelved.get()


def test_a_callback_decides_whether_a_result_counts(memory: Memory) -> None:
    seen: list[dict[str, Any]] = []
    answers = [False, True]

    def counts(metadata: dict[str, Any]) -> bool:
        seen.append(metadata)
        return answers.pop(0)

    cached = memory.cache(double, cache_validation_callback=counts)
    assert cached(1) == cached(1) == cached(1) == 2
    assert CALLS.qsize() == 2
    assert set(seen[0]) == {"duration", "time", "input_args"}
    assert seen[0]["input_args"]["x"] == "1"


def test_its_size_is_reduced_by_bytes_number_and_age(memory: Memory) -> None:
    cached = memory.cache(double)
    for n in range(10):
        cached(n)
    memory.reduce_size(items_limit=4)
    assert sum(cached.check_call_in_cache(n) for n in range(10)) == 4
    memory.reduce_size(bytes_limit="10M", age_limit=dt.timedelta(days=1))
    assert sum(cached.check_call_in_cache(n) for n in range(10)) == 4
    memory.reduce_size(bytes_limit="0K")
    assert not any(cached.check_call_in_cache(n) for n in range(10))
    with pytest.raises(ValidationError, match="10M"):
        memory.reduce_size(bytes_limit="much")
    cached(1)
    memory.clear(warn=False)
    assert not cached.check_call_in_cache(1)
    assert cached(1) == 2


@pytest.mark.parametrize("mode", ["r", "c", None])
def test_arrays_are_mapped_as_chosen(tmp_path: Path, mode: Any) -> None:
    memory = Memory(tmp_path, mmap_mode=mode)
    cached = memory.cache(double)
    cached(np.ones(100_000))
    array = cached(np.ones(100_000))
    assert array.flags.writeable is (mode != "r")
    if mode != "r":
        array[0] = 7  # changes the file for nobody
        assert cached(np.ones(100_000))[0] == 2


def test_without_a_location_nothing_is_remembered() -> None:
    cached = Memory(None).cache(double)
    assert cached(1) == cached(1) == 2
    assert CALLS.qsize() == 2
    assert not cached.check_call_in_cache(1)
    assert cached.call_and_shelve(5).get() == 10
    Memory(None).clear()
    Memory(None).reduce_size(items_limit=0)


@pytest.mark.parametrize(
    "wrong", [{"backend": "s3"}, {"mmap_mode": "r+"}, {"backend_options": {"a": 1}}]
)
def test_what_is_not_there_is_refused_by_name(tmp_path: Path, wrong: dict[str, Any]) -> None:
    with pytest.raises(ValidationError):
        Memory(tmp_path, **wrong)


def test_it_and_its_functions_travel(memory: Memory) -> None:
    cached = memory.cache(double)
    assert cached(1) == 2
    copy = pickle.loads(pickle.dumps(cached))
    assert copy(1) == 2
    assert CALLS.qsize() == 1
    assert repr(pickle.loads(pickle.dumps(memory))) == repr(memory)


STEPS = """
    from pathlib import Path
    from sklearn.base import BaseEstimator, TransformerMixin

    class Counted(TransformerMixin, BaseEstimator):
        def __init__(self, root=None):
            self.root = root
        def fit(self, X, y=None):
            with open(Path(self.root) / "fits", "a") as file:
                file.write("x")
            self.mean_ = X.mean()
            return self
        def transform(self, X):
            return X - self.mean_
"""
SEARCH = """
    import sys
    from pathlib import Path
    from sklearn.datasets import load_breast_cancer
    from sklearn.decomposition import PCA
    from sklearn.linear_model import LogisticRegression
    from sklearn.model_selection import GridSearchCV
    from sklearn.pipeline import Pipeline
    from sklearn.preprocessing import StandardScaler
    from steps import Counted
    from ops.cache import Memory

    root = Path(sys.argv[1])

    def search(memory):
        pipeline = Pipeline(
            [("scale", StandardScaler()), ("count", Counted(str(root))), ("pca", PCA(random_state=0)),
             ("model", LogisticRegression(max_iter=500))],
            memory=memory,
        )
        grid = {"pca__n_components": [3, 5], "model__C": [0.1, 1.0]}
        X, y = load_breast_cancer(return_X_y=True)
        found = GridSearchCV(pipeline, grid, cv=2, n_jobs=2).fit(X, y)
        (root / "fits").touch()
        fits = len((root / "fits").read_text())
        (root / "fits").unlink()
        return found.cv_results_["mean_test_score"].round(12).tolist(), fits

    if __name__ == "__main__":
        plain, without = search(None)
        first, once = search(Memory(root / "memory", verbose=0))
        again, none = search(Memory(root / "memory", verbose=0))
        assert plain == first == again, (plain, first, again)
        print(without, once, none)
"""


def test_a_grid_search_with_two_workers_fits_each_step_once(tmp_path: Path) -> None:
    pytest.importorskip("sklearn")
    (tmp_path / "steps.py").write_text(textwrap.dedent(STEPS))
    program = tmp_path / "search.py"
    program.write_text(textwrap.dedent(SEARCH))
    arguments = [sys.executable, str(program), str(tmp_path)]
    printed = subprocess.run(arguments, check=True, stdout=subprocess.PIPE, text=True).stdout
    # Nine fits without it; with it, one for each of two folds and one for all data, and then none.
    assert printed == "9 3 0\n"


def test_a_result_that_cannot_be_stored_is_returned_with_a_warning(memory: Memory) -> None:
    class Local:
        pass

    def make() -> Any:
        return Local()

    cached = memory.cache(make)
    with pytest.warns(UserWarning, match="not stored"):
        assert isinstance(cached(), Local)
