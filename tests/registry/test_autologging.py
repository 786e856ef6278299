"""What autologging makes of fits: one run each, whatever was imported first and whatever joblib runs them on."""

from __future__ import annotations

import subprocess
import sys

import pytest

from ops.registry import RunStatus, autolog

pytest.importorskip("sklearn")

_IMPORTED_LATER = """
import sys
from ops.registry import MLOpsConfig, init_mlops
assert "sklearn" not in sys.modules
context = init_mlops(config=MLOpsConfig(storage_path=sys.argv[1], auto_log=True))
from sklearn.linear_model import LogisticRegression
LogisticRegression(C=0.5).fit([[0.0], [1.0], [2.0], [3.0]], [0, 0, 1, 1])
(run,) = context.experiment_tracker.list_runs(context.experiment.experiment_id)
assert (run.name, run.parameters["C"]) == ("LogisticRegression", 0.5), run
"""


@pytest.fixture
def logged(context):
    made = []

    def start(**options):
        made.append(autolog(context, **options))

    yield start
    for one in made:
        one.stop()


@pytest.fixture
def runs(context):
    return lambda: context.experiment_tracker.list_runs(context.experiment.experiment_id)


def search(**options):
    from sklearn.linear_model import Ridge
    from sklearn.model_selection import GridSearchCV

    data = [[float(i)] for i in range(12)], [float(i) for i in range(12)]
    return GridSearchCV(Ridge(), {"alpha": [0.1, 1.0]}, cv=2, **options).fit(*data)


def test_a_library_that_is_imported_afterwards_is_logged(tmp_path):
    command = [sys.executable, "-c", _IMPORTED_LATER, str(tmp_path / "store")]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr


@pytest.mark.parametrize("backend", ["threading", "loky", None])
def test_a_search_is_one_run_on_every_backend(logged, runs, backend):
    import joblib

    logged()
    if backend is None:
        search()
    else:
        with joblib.parallel_config(backend=backend, n_jobs=2):
            search()
    (run,) = runs()
    assert run.name == "GridSearchCV"
    assert "best/score" in run.metrics


def test_candidates_of_a_search_are_children_when_asked_for(context, logged, runs):
    logged(children=True)
    search()
    parent, *children = runs()
    assert [child.parent_run_id for child in children] == [parent.run_id] * 2
    assert [child.parameters["alpha"] for child in children] == [0.1, 1.0]
    assert all("mean_test_score" in child.metrics for child in children)


def test_a_fit_that_raises_is_a_failed_run(logged, runs):
    from sklearn.linear_model import Ridge

    logged()
    with pytest.raises(ValueError, match="inconsistent"):
        Ridge(alpha=2.0).fit([[1.0]], [1.0, 2.0])
    (run,) = runs()
    assert run.status is RunStatus.FAILED
    assert run.error.startswith("ValueError: ")
    assert run.parameters["alpha"] == 2.0
