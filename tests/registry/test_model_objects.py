"""Model objects: saved in the format of their kind, with what is known of them, and loaded as they were."""

from __future__ import annotations

import pickle

import pytest

from ops.registry import InvalidValueError
from ops.serialize import UntrustedDataError
from ops.serialize.trust import Signed

ROWS = [[float(i), float(i % 3)] for i in range(30)]
TARGETS = [2.0 * a + b for a, b in ROWS]


class Doubling:
    """A model of the user's own."""

    def predict(self, rows):
        return [2 * row[0] for row in rows]


@pytest.fixture
def fitted():
    linear = pytest.importorskip("sklearn.linear_model")
    return linear.LinearRegression().fit(ROWS, TARGETS)


def test_an_estimator_is_registered_as_it_is_and_loaded_by_its_user(registry, fitted, tmp_path):
    pandas = pytest.importorskip("pandas")
    frame = pandas.DataFrame(ROWS, columns=["size", "age"])
    fitted = fitted.fit(frame, TARGETS)
    made = registry.register_model(
        "m", model=fitted, input_example=frame, metrics={"r2": 1.0}, flavor_metadata={"mine": 1}
    )
    known = made.metadata
    assert (known.artifact_type, known.framework) == ("sklearn", "sklearn")
    assert known.dependencies[0].startswith("scikit-learn==")
    assert known.metrics == {"r2": 1.0}
    assert known.signature == {
        "inputs": [{"name": "size", "type": "float64"}, {"name": "age", "type": "float64"}],
        "outputs": [{"type": "float64", "shape": [-1]}],
    }
    assert known.flavor_metadata["input_example"][1] == {"size": 1.0, "age": 1.0}
    assert len(known.flavor_metadata["input_example"]) == 5
    assert known.flavor_metadata["class"].endswith("LinearRegression")
    assert known.flavor_metadata["mine"] == 1
    with pytest.raises(UntrustedDataError):
        registry.load_model("m")
    assert registry.load_model("m", trust="user").predict(frame)[0] == pytest.approx(0.0)


@pytest.mark.parametrize("name", ["XGBRegressor", "Booster"])
def test_models_of_xgboost_need_no_trust(registry, name):
    xgboost = pytest.importorskip("xgboost")
    model = xgboost.XGBRegressor(n_estimators=3, max_depth=2, n_jobs=1).fit(ROWS, TARGETS)
    rows = ROWS if name == "XGBRegressor" else xgboost.DMatrix(ROWS)
    model = model if name == "XGBRegressor" else model.get_booster()
    registry.register_model("m", model=model, input_example=ROWS)
    loaded = registry.load_model("m")
    assert type(loaded).__name__ == name
    assert loaded.predict(rows).tolist() == model.predict(rows).tolist()


def test_models_of_lightgbm(registry):
    lightgbm = pytest.importorskip("lightgbm")
    model = lightgbm.LGBMRegressor(n_estimators=3, n_jobs=1, min_child_samples=1, verbose=-1)
    model.fit(ROWS, TARGETS)
    registry.register_model("booster", model=model.booster_)
    assert registry.load_model("booster").predict(ROWS).tolist() == model.predict(ROWS).tolist()
    made = registry.register_model("estimator", model=model)
    assert made.metadata.framework == "lightgbm"
    loaded = registry.load_model("estimator", trust="user")
    assert loaded.predict(ROWS).tolist() == model.predict(ROWS).tolist()


def test_data_needs_no_trust_and_other_objects_who_signed_them(registry, tmp_path):
    registry.register_model("weights", model={"w": [1.0, 2.0]})
    assert registry.load_model("weights") == {"w": [1.0, 2.0]}
    key = Signed(b"k" * 32)
    registry.register_model("own", model=Doubling(), trust=key, input_example=[[1.0]])
    assert registry.load_model("own", trust=key).predict([[4.0]]) == [8.0]
    with pytest.raises(InvalidValueError, match="pass artifact_path"):
        registry.register_model("lambda", model=lambda rows: rows)


@pytest.mark.parametrize(
    "options",
    [{}, {"artifact_path": "x"}, {"artifact_path": "x", "model": 1}],
    ids=["nothing", "no type", "both"],
)
def test_a_registration_is_of_a_file_or_of_an_object(registry, options):
    with pytest.raises(InvalidValueError, match=r"register_model|must be a text"):
        registry.register_model("m", **options)
    assert registry.list_models() == []


def test_an_example_that_is_none_is_refused(registry):
    with pytest.raises(InvalidValueError, match="input example"):
        registry.register_model("m", model={"w": 1}, input_example="rows")


def test_a_model_of_a_run_comes_back_and_can_be_registered(tracker, registry, experiment, fitted):
    with tracker.run_context(experiment.experiment_id) as run:
        kept = tracker.log_model(run.run_id, fitted, "models/linear", input_example=ROWS)
    assert kept.path == "models/linear"
    loaded = tracker.load_run_model(run.run_id, "models/linear", trust="user")
    assert loaded.predict([[1.0, 1.0]])[0] == pytest.approx(3.0)
    with pytest.raises(UntrustedDataError):
        tracker.load_run_model(run.run_id, "models/linear")
    registry.register_model("m", kept.uri, "sklearn", "sklearn", experiment_run_id=run.run_id)
    assert registry.load_model("m", trust="user").coef_.tolist() == fitted.coef_.tolist()


@pytest.mark.parametrize("text", ['{"file": "../x", "artifact_type": "a"}', "{", '{"file": "x"}'])
def test_a_folder_of_a_stranger_names_no_file_elsewhere(tracker, experiment, tmp_path, text):
    (tmp_path / "model").mkdir()
    (tmp_path / "model" / "model.json").write_text(text)
    run = tracker.start_run(experiment.experiment_id).run_id
    tracker.log_artifact(run, tmp_path / "model")
    with pytest.raises(InvalidValueError, match=r"model\.json"):
        tracker.load_run_model(run, trust="all")


def test_the_artifact_type_decides_where_the_suffix_says_nothing(registry, tmp_path):
    xgboost = pytest.importorskip("xgboost")
    model = xgboost.train({"nthread": 1}, xgboost.DMatrix(ROWS, label=TARGETS), num_boost_round=2)
    model.save_model(tmp_path / "a.ubj")
    (tmp_path / "a.ubj").rename(tmp_path / "weights")
    registry.register_model("m", tmp_path / "weights", "xgboost", "xgboost")
    assert registry.load_model("m").num_boosted_rounds() == 2
    (tmp_path / "any.joblib").write_bytes(pickle.dumps({"w": 1}))
    registry.register_model("p", tmp_path / "any.joblib", "pickle", "mine")
    assert registry.load_model("p", trust="all") == {"w": 1}
    registry.register_model("x", tmp_path / "weights", "xgboost.sys", "xgboost")
    with pytest.raises(InvalidValueError, match="no estimator"):
        registry.load_model("x")


@pytest.mark.parametrize("trust", ["nobody", None, ["all"]])
def test_no_policy_of_trust_is_refused_where_none_is_needed_too(registry, tmp_path, trust):
    with pytest.raises(InvalidValueError, match="trust="):
        registry.register_model("m", model={"w": 1}, trust=trust)
    assert registry.list_models() == []
    registry.register_model("m", model={"w": 1})
    with pytest.raises(InvalidValueError, match="trust="):
        registry.load_model("m", trust=trust)


@pytest.mark.parametrize("example", [object(), {"a": object(), "b": [1, 2]}])
def test_an_example_that_has_no_rows_is_refused_before_anything_is_registered(registry, example):
    with pytest.raises(InvalidValueError):
        registry.register_model("m", model={"w": 1}, input_example=example)
    assert registry.list_models() == []
