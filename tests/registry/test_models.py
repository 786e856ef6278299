"""The suite of models with each backend of the fixtures, and what is special about local files."""

from __future__ import annotations

import pickle

import pytest

from ops.registry import (
    CorruptStoreError,
    InvalidValueError,
    ModelStage,
)
from ops.registry.conformance import RegistryBehaviour
from ops.serialize import Safe, Signed, UntrustedDataError, dump


class TestRegistry(RegistryBehaviour):
    """Runs here with the backends of conftest."""


@pytest.fixture
def register(registry, artifact):
    def register(name="credit", **more):
        return registry.register_model(name, artifact, "binary", "any framework", **more)

    return register


def test_a_download_is_verified(registry, register, tmp_path):
    made = register()
    path = registry.download_artifact("credit", 1, tmp_path / "out.bin")
    assert path.read_bytes() == b"weights"
    with open(made.artifact_uri, "wb") as file:
        file.write(b"changed")
    with pytest.raises(CorruptStoreError):
        registry.download_artifact("credit", 1, tmp_path / "other.bin")
    assert not (tmp_path / "other.bin").exists()


def test_a_raw_pickle_needs_trust(registry, tmp_path):
    path = tmp_path / "m.pkl"
    path.write_bytes(pickle.dumps(pytest.Class))
    registry.register_model("p", path, "pickle", "any")
    with pytest.raises(UntrustedDataError):
        registry.load_model("p")
    with pytest.raises(InvalidValueError, match="without a signature"):
        registry.load_model("p", trust=Signed(b"k" * 16))
    assert registry.load_model("p", trust=Safe(("_pytest.python.Class",))) is pytest.Class


def test_a_model_written_by_ops_serialize_comes_back(registry, tmp_path):
    linear = pytest.importorskip("sklearn.linear_model")
    model = linear.LinearRegression().fit([[0.0], [1.0]], [0.0, 2.0])
    key = Signed(b"k" * 32)
    dump(model, tmp_path / "model.ops", trust=key)
    registry.register_model("line", tmp_path / "model.ops", "sklearn", "scikit-learn")
    registry.promote_model("line", 1, ModelStage.PRODUCTION)
    loaded = registry.load_model("line", stage=ModelStage.PRODUCTION, trust=key)
    assert loaded.predict([[2.0]])[0] == pytest.approx(4.0)
