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


_CLASS_OF_MAIN = """
import sys
import joblib, numpy
from sklearn.base import BaseEstimator, RegressorMixin
from sklearn.model_selection import GridSearchCV
from ops.registry import MLOpsConfig, MLOpsContext, autolog

class Mine(BaseEstimator, RegressorMixin):
    def __init__(self, a=1):
        self.a = a
    def fit(self, X, y=None):
        return self
    def predict(self, X):
        return numpy.zeros(len(X))

context = MLOpsContext(MLOpsConfig(storage_path=sys.argv[1]))
autolog(context)
data = [[float(i)] for i in range(12)], [float(i) for i in range(12)]
with joblib.parallel_config(backend="loky", n_jobs=2):
    GridSearchCV(Mine(), {"a": [1, 2]}, cv=2).fit(*data)
(run,) = context.experiment_tracker.list_runs(context.experiment.experiment_id)
assert run.name == "GridSearchCV", run
"""


def test_an_estimator_of_the_script_itself_goes_to_worker_processes(tmp_path):
    command = [sys.executable, "-c", _CLASS_OF_MAIN, str(tmp_path / "store")]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr


def test_every_way_to_fit_is_one_run(logged, runs):
    from sklearn.cluster import KMeans
    from sklearn.decomposition import PCA
    from sklearn.pipeline import make_pipeline
    from sklearn.preprocessing import StandardScaler

    logged()
    data = [[float(i), float(i % 3)] for i in range(12)]
    PCA(1).fit_transform(data)
    StandardScaler().fit_transform(data)
    make_pipeline(StandardScaler(), PCA(1)).fit_transform(data)
    make_pipeline(StandardScaler(), KMeans(2)).fit_predict(data)
    assert [run.name for run in runs()] == ["PCA", "StandardScaler", "Pipeline", "Pipeline"]


def test_one_autologging_goes_on_when_another_one_stops(context, new_context):
    from sklearn.cluster import KMeans
    from sklearn.linear_model import Ridge
    from sklearn.pipeline import Pipeline

    methods = (Ridge, "fit"), (KMeans, "fit_predict"), (Pipeline, "fit_predict")
    before = [vars(owner).get(name) for owner, name in methods]
    other = new_context()
    first, second = autolog(context), autolog(other)

    def count():
        Ridge().fit([[0.0], [1.0]], [0.0, 1.0])
        found = other.experiment_tracker
        return len(found.list_runs(other.experiment.experiment_id))

    assert count() == 1
    first.stop()
    assert count() == 2
    second.stop()
    assert count() == 2
    assert [vars(owner).get(name) for owner, name in methods] == before


def test_what_boosters_measure_is_logged_whatever_was_given(logged, runs):
    xgboost = pytest.importorskip("xgboost", reason="pip install xgboost-cpu")
    lightgbm = pytest.importorskip("lightgbm", reason="pip install lightgbm")
    numpy = pytest.importorskip("numpy")
    rows = numpy.arange(40.0).reshape(20, 2)
    labels = (rows[:, 0] > 20).astype(int)
    logged()
    matrix = xgboost.DMatrix(rows, labels)
    own: dict = {}
    for given in ({}, {"evals_result": None}, {"evals_result": own}):
        xgboost.train({"max_depth": 2}, matrix, 2, evals=[(matrix, "seen")], **given)
    assert own["seen"]["rmse"]
    options = {"verbose": -1, "min_data_in_leaf": 2, "objective": "binary"}
    for given in ({}, {"callbacks": None}, {"callbacks": [lightgbm.log_evaluation(0)]}):
        data = lightgbm.Dataset(rows, labels)
        lightgbm.train(options, data, 2, valid_sets=[data], valid_names=["seen"], **given)
    found = runs()
    assert [run.name for run in found] == ["xgboost.train"] * 3 + ["lightgbm.train"] * 3
    assert all("seen/rmse" in run.metrics for run in found[:3])
    assert all("seen/binary_logloss" in run.metrics for run in found[3:])
