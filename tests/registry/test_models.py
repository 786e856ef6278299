"""What any backend of the model registry must do; the fixtures choose the backend."""

from __future__ import annotations

import pickle

import pytest

from ops.registry import (
    ArtifactNotFoundError,
    CorruptStoreError,
    ErrorCode,
    InvalidValueError,
    ModelNotFoundError,
    ModelStage,
    ModelVersionNotFoundError,
)
from ops.serialize import Safe, Signed, UntrustedDataError, dump


@pytest.fixture
def register(registry, artifact):
    def register(name="credit", **more):
        return registry.register_model(name, artifact, "binary", "any framework", **more)

    return register


def test_versions_count_from_one_and_are_never_given_twice(registry, register):
    assert [register().version for _ in range(3)] == [1, 2, 3]
    registry.delete_model_version("credit", 3)
    assert register().version == 4
    assert [v.version for v in registry.list_model_versions("credit")] == [1, 2, 4]


def test_an_unknown_model_says_so_by_code(registry, register):
    with pytest.raises(ModelNotFoundError) as caught:
        registry.get_model_version("nonexistent")
    assert caught.value.error_code == ErrorCode.MODEL_NOT_FOUND
    register()
    with pytest.raises(ModelVersionNotFoundError):
        registry.get_model_version("credit", 9)


def test_promotion_archives_the_version_before_and_keeps_the_history(registry, register):
    register(), register()
    registry.promote_model("credit", 1, ModelStage.PRODUCTION)
    registry.promote_model("credit", 2, ModelStage.PRODUCTION)
    assert registry.get_model_by_stage("credit", ModelStage.PRODUCTION).version == 2
    first = registry.get_model_version("credit", 1)
    assert [c.stage for c in first.stage_history] == ["None", "Production", "Archived"]
    with pytest.raises(ModelVersionNotFoundError):
        registry.get_model_by_stage("credit", ModelStage.STAGING)


def test_an_alias_moves_and_goes_with_its_version(registry, register):
    register(), register()
    registry.set_alias("credit", "champion", 1)
    registry.set_alias("credit", "champion", 2)
    assert registry.get_model_by_alias("credit", "champion").version == 2
    assert registry.get_model_version("credit", 1).aliases == ()
    registry.delete_model_version("credit", 2)
    with pytest.raises(ModelVersionNotFoundError):
        registry.get_model_by_alias("credit", "champion")


def test_models_are_found_by_expressions(registry, register):
    register("credit", metrics={"auc": 0.9}, tags={"team": "ds"})
    register("credit", metrics={"auc": 0.95}, tags={"team": "ds"})
    register("fraud", metrics={"auc": 0.99})
    found = registry.search_models("name LIKE 'credit%' and tags.team = 'ds' and metrics.auc > 0.9")
    assert [(v.name, v.version) for v in found] == [("credit", 2)]
    assert registry.search_models(order_by="metrics.auc DESC", limit=1)[0].name == "fraud"
    assert registry.list_models() == ["credit", "fraud"]


def test_a_download_is_verified(registry, register, tmp_path):
    made = register()
    path = registry.download_artifact("credit", 1, tmp_path / "out.bin")
    assert path.read_bytes() == b"weights"
    with open(made.artifact_uri, "wb") as file:
        file.write(b"changed")
    with pytest.raises(CorruptStoreError):
        registry.download_artifact("credit", 1, tmp_path / "other.bin")
    assert not (tmp_path / "other.bin").exists()


def test_folders_are_artifacts_too(registry, tmp_path):
    folder = tmp_path / "saved"
    (folder / "sub").mkdir(parents=True)
    (folder / "sub" / "weights").write_bytes(b"12345")
    made = registry.register_model("net", folder, "folder", "mine")
    assert made.size == 5
    out = registry.download_artifact("net", 1, tmp_path / "out")
    assert (out / "sub" / "weights").read_bytes() == b"12345"


def test_what_cannot_be_stored_leaves_no_version(registry, register):
    with pytest.raises(ArtifactNotFoundError):
        registry.register_model("credit", "/nowhere/model.pkl", "sklearn", "scikit-learn")
    with pytest.raises(InvalidValueError):
        register(" ")
    with pytest.raises(InvalidValueError):
        register(signature={"x": object()})
    assert registry.list_models() == []


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


def test_rolling_back_goes_one_further_each_time(registry, new_context, artifact):
    for _ in range(3):
        made = registry.register_model("m", artifact, "binary", "mine")
        registry.promote_model("m", made.version, ModelStage.PRODUCTION)
    assert registry.rollback("m").version == 2
    other = new_context().model_registry
    assert other.rollback("m").version == 1
    assert [str(v.stage) for v in other.list_model_versions("m")] == [
        "Production",
        "Archived",
        "Archived",
    ]
    with pytest.raises(ModelVersionNotFoundError, match="no earlier version"):
        registry.rollback("m")


def test_rolling_back_passes_over_deleted_versions(registry, artifact):
    for number in (1, 2, 3):
        registry.register_model("m", artifact, "binary", "mine")
        registry.promote_model("m", number, ModelStage.PRODUCTION)
    registry.delete_model_version("m", 2)
    assert registry.rollback("m").version == 1


def test_versions_are_tagged_and_annotated_for_everybody(registry, new_context, artifact):
    registry.register_model("m", artifact, "binary", "mine", tags={"a": "1"})
    registry.set_tag("m", 1, "team", "ds")
    registry.annotate("m", 1, "the good one")
    found = new_context().model_registry.get_model_version("m")
    assert found.metadata.tags == {"a": "1", "team": "ds"}
    assert found.metadata.description == "the good one"
    assert [v.version for v in registry.search_models("tags.team = 'ds'")] == [1]


def test_a_deleted_model_is_gone_and_its_numbers_stay_used(registry, artifact):
    first = registry.register_model("m", artifact, "binary", "mine")
    registry.set_alias("m", "best", 1)
    registry.delete_model("m")
    assert registry.list_models() == []
    assert not (registry.root / "artifacts" / first.model_id).exists()
    assert registry.register_model("m", artifact, "binary", "mine").version == 2
    with pytest.raises(ModelVersionNotFoundError):
        registry.get_model_by_alias("m", "best")
