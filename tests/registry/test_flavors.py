"""Real models of real libraries, registered and loaded again."""

from __future__ import annotations

import pytest

from ops.foundation.errors import MissingExtraError
from ops.registry import EventType, InvalidValueError, register_flavor
from ops.registry.models import flavors

ROWS = [[float(i), float(i % 3)] for i in range(30)]
TARGETS = [2.0 * a + b for a, b in ROWS]


@pytest.fixture
def keep(registry):
    def keep(path, artifact_type):
        return registry.register_model("m", path, artifact_type, artifact_type)

    return keep


@pytest.mark.parametrize("suffix", [".json", ".ubj"])
def test_xgboost_comes_back(registry, keep, tmp_path, operations, suffix):
    xgboost = pytest.importorskip("xgboost")
    data = xgboost.DMatrix(ROWS, label=TARGETS)
    booster = xgboost.train({"max_depth": 2, "nthread": 1}, data, num_boost_round=3)
    booster.save_model(tmp_path / f"model{suffix}")
    keep(tmp_path / f"model{suffix}", "xgboost")
    assert registry.load_model("m").predict(data).tolist() == booster.predict(data).tolist()
    (event,) = operations.emitter.get_history(EventType.MODEL_LOADED)
    assert event.data == {"name": "m", "version": 1}


def test_lightgbm_comes_back(registry, keep, tmp_path):
    lightgbm = pytest.importorskip("lightgbm")
    model = lightgbm.LGBMRegressor(n_estimators=3, n_jobs=1, min_child_samples=1, verbose=-1)
    model.fit(ROWS, TARGETS)
    model.booster_.save_model(tmp_path / "model.txt")
    keep(tmp_path / "model.txt", "lightgbm")
    loaded = registry.load_model("m")
    assert loaded.predict(ROWS).tolist() == model.booster_.predict(ROWS).tolist()


def test_torch_comes_back_as_weights_only(registry, keep, tmp_path):
    torch = pytest.importorskip("torch")
    layer = torch.nn.Linear(2, 1)
    torch.save(layer.state_dict(), tmp_path / "model.pt")
    keep(tmp_path / "model.pt", "pytorch")
    assert torch.equal(registry.load_model("m")["weight"], layer.weight)


def test_a_joblib_file_needs_all_trust(registry, keep, tmp_path):
    joblib = pytest.importorskip("joblib")
    linear = pytest.importorskip("sklearn.linear_model")
    joblib.dump(linear.LinearRegression().fit(ROWS, TARGETS), tmp_path / "model.joblib")
    keep(tmp_path / "model.joblib", "sklearn")
    with pytest.raises(InvalidValueError, match="joblib"):
        registry.load_model("m")
    assert registry.load_model("m", trust="all").predict([[1.0, 1.0]])[0] == pytest.approx(3.0)


def test_a_missing_library_names_its_extra(registry, keep, tmp_path, monkeypatch):
    monkeypatch.setitem(__import__("sys").modules, "onnxruntime", None)
    (tmp_path / "model.onnx").write_bytes(b"\x08\x07")
    keep(tmp_path / "model.onnx", "onnx")
    with pytest.raises(MissingExtraError, match=r"ops-registry\[onnx\]"):
        registry.load_model("m")


def test_a_registered_loader_comes_first(registry, keep, artifact, monkeypatch):
    monkeypatch.setattr(flavors, "_loaders", {})
    register_flavor("binary", lambda path: path.read_bytes().decode())
    keep(artifact, "binary")
    assert registry.load_model("m") == "weights"


def test_a_joblib_file_without_its_suffix_is_loaded_by_its_artifact_type(registry, keep, tmp_path):
    joblib = pytest.importorskip("joblib")
    joblib.dump({"weights": [1.0, 2.0]}, tmp_path / "model")
    keep(tmp_path / "model", "joblib")
    with pytest.raises(InvalidValueError, match="joblib"):
        registry.load_model("m")
    assert registry.load_model("m", trust="all") == {"weights": [1.0, 2.0]}
