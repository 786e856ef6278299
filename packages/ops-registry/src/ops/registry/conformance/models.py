"""What every model registry does.

Fixtures to give: `registry`, `new_context` (returns a fresh context on the same store, whose
`model_registry` sees what others wrote), and `artifact` (a file that has the bytes "weights").
"""

# ruff: noqa: S101 - a suite is made of plain asserts in methods

from __future__ import annotations

from typing import Any

import pytest

from ops.registry import (
    ArtifactNotFoundError,
    ErrorCode,
    InvalidValueError,
    ModelNotFoundError,
    ModelStage,
    ModelVersionNotFoundError,
)
from ops.serialize import dump

__all__ = ["RegistryBehaviour"]


class RegistryBehaviour:
    """The suite; a subclass whose name begins with Test runs it."""

    @pytest.fixture
    def register(self, registry: Any, artifact: Any) -> Any:
        """Return what registers the artifact as the next version."""

        def register(name: str = "credit", **more: Any) -> Any:
            return registry.register_model(name, artifact, "binary", "any framework", **more)

        return register

    def test_versions_count_from_one_and_are_never_given_twice(
        self, registry: Any, register: Any
    ) -> None:
        """Versions count from one and are never given twice."""
        assert [register().version for _ in range(3)] == [1, 2, 3]
        registry.delete_model_version("credit", 3)
        assert register().version == 4
        assert [v.version for v in registry.list_model_versions("credit")] == [1, 2, 4]

    def test_an_unknown_model_is_reported_by_code(self, registry: Any, register: Any) -> None:
        """An unknown model is reported by code."""
        with pytest.raises(ModelNotFoundError) as caught:
            registry.get_model_version("nonexistent")
        assert caught.value.error_code == ErrorCode.MODEL_NOT_FOUND
        register()
        with pytest.raises(ModelVersionNotFoundError):
            registry.get_model_version("credit", 9)

    @pytest.mark.parametrize("version", [None, "1", 1.0, True])
    def test_only_a_number_names_the_version_to_change(
        self, registry: Any, register: Any, new_context: Any, version: Any
    ) -> None:
        """Only a number names the version to change, and what is refused leaves no trace."""
        register()
        for change, arguments in (
            (registry.promote_model, ("credit", version, ModelStage.PRODUCTION)),
            (registry.set_alias, ("credit", "champion", version)),
            (registry.set_tag, ("credit", version, "team", "ds")),
            (registry.annotate, ("credit", version, "a text")),
            (registry.delete_model_version, ("credit", version)),
        ):
            with pytest.raises(InvalidValueError, match="by its number"):
                change(*arguments)
        (known,) = new_context().model_registry.list_model_versions("credit")
        assert (known.stage, known.aliases, known.metadata.tags) == (ModelStage.NONE, (), {})

    def test_stages_are_accepted_in_any_case(self, registry: Any, register: Any) -> None:
        """Stages are accepted in any case, and what is none is refused."""
        register()
        registry.promote_model("credit", 1, "staging")
        assert registry.get_model_by_stage("credit", "STAGING").version == 1
        with pytest.raises(InvalidValueError, match="is no stage"):
            registry.get_model_by_stage("credit", "live")

    def test_promotion_archives_the_version_before_and_keeps_the_history(
        self, registry: Any, register: Any
    ) -> None:
        """Promotion archives the version before and keeps the history."""
        register()
        register()
        registry.promote_model("credit", 1, ModelStage.PRODUCTION)
        registry.promote_model("credit", 2, ModelStage.PRODUCTION)
        assert registry.get_model_by_stage("credit", ModelStage.PRODUCTION).version == 2
        first = registry.get_model_version("credit", 1)
        assert [c.stage for c in first.stage_history] == ["None", "Production", "Archived"]
        with pytest.raises(ModelVersionNotFoundError):
            registry.get_model_by_stage("credit", ModelStage.STAGING)

    def test_an_alias_moves_and_goes_with_its_version(self, registry: Any, register: Any) -> None:
        """An alias moves and goes with its version."""
        register()
        register()
        registry.set_alias("credit", "champion", 1)
        registry.set_alias("credit", "champion", 2)
        assert registry.get_model_by_alias("credit", "champion").version == 2
        assert registry.get_model_version("credit", 1).aliases == ()
        registry.delete_model_version("credit", 2)
        with pytest.raises(ModelVersionNotFoundError):
            registry.get_model_by_alias("credit", "champion")

    def test_models_are_found_by_expressions(self, registry: Any, register: Any) -> None:
        """Models are found by expressions."""
        register("credit", metrics={"auc": 0.9}, tags={"team": "ds"})
        register("credit", metrics={"auc": 0.95}, tags={"team": "ds"})
        register("fraud", metrics={"auc": 0.99})
        found = registry.search_models(
            "name LIKE 'credit%' and tags.team = 'ds' and metrics.auc > 0.9"
        )
        assert [(v.name, v.version) for v in found] == [("credit", 2)]
        assert registry.search_models(order_by="metrics.auc DESC", limit=1)[0].name == "fraud"
        assert registry.list_models() == ["credit", "fraud"]

    def test_folders_are_artifacts_too(self, registry: Any, tmp_path: Any) -> None:
        """Folders are artifacts too."""
        folder = tmp_path / "saved"
        (folder / "sub").mkdir(parents=True)
        (folder / "sub" / "weights").write_bytes(b"12345")
        made = registry.register_model("net", folder, "folder", "mine")
        assert made.size == 5
        out = registry.download_artifact("net", 1, tmp_path / "out")
        assert (out / "sub" / "weights").read_bytes() == b"12345"

    def test_a_model_is_loaded_by_number_stage_and_alias(
        self, registry: Any, tmp_path: Any
    ) -> None:
        """A model is loaded by number, stage and alias."""
        for number in (1, 2, 3):
            dump({"number": number}, tmp_path / f"model{number}.ops")
            registry.register_model("m", tmp_path / f"model{number}.ops", "weights", "mine")
        registry.promote_model("m", 1, ModelStage.PRODUCTION)
        registry.set_alias("m", "best", 2)
        assert registry.load_model("m") == {"number": 3}
        assert registry.load_model("m", 2) == {"number": 2}
        assert registry.load_model("m", stage=ModelStage.PRODUCTION) == {"number": 1}
        assert registry.load_model("m", alias="best") == {"number": 2}
        with pytest.raises(ModelVersionNotFoundError):
            registry.load_model("m", stage=ModelStage.STAGING)

    def test_what_cannot_be_stored_leaves_no_version(self, registry: Any, register: Any) -> None:
        """What cannot be stored leaves no version."""
        with pytest.raises(ArtifactNotFoundError):
            registry.register_model("credit", "/nowhere/model.pkl", "sklearn", "scikit-learn")
        with pytest.raises(InvalidValueError):
            register(" ")
        with pytest.raises(InvalidValueError):
            register(signature={"x": object()})
        assert registry.list_models() == []

    def test_rolling_back_goes_one_further_each_time(
        self, registry: Any, new_context: Any, artifact: Any
    ) -> None:
        """Rolling back goes one further each time."""
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

    def test_rolling_back_passes_over_deleted_versions(self, registry: Any, artifact: Any) -> None:
        """Rolling back passes over deleted versions."""
        for number in (1, 2, 3):
            registry.register_model("m", artifact, "binary", "mine")
            registry.promote_model("m", number, ModelStage.PRODUCTION)
        registry.delete_model_version("m", 2)
        assert registry.rollback("m").version == 1

    def test_versions_are_tagged_and_annotated_for_every_process(
        self, registry: Any, new_context: Any, artifact: Any
    ) -> None:
        """Versions are tagged and annotated for every process."""
        registry.register_model("m", artifact, "binary", "mine", tags={"a": "1"})
        registry.set_tag("m", 1, "team", "ds")
        registry.annotate("m", 1, "the good one")
        found = new_context().model_registry.get_model_version("m")
        assert found.metadata.tags == {"a": "1", "team": "ds"}
        assert found.metadata.description == "the good one"
        assert [v.version for v in registry.search_models("tags.team = 'ds'")] == [1]

    def test_a_deleted_model_is_gone_and_its_numbers_stay_used(
        self, registry: Any, artifact: Any
    ) -> None:
        """A deleted model is gone and its numbers stay used."""
        first = registry.register_model("m", artifact, "binary", "mine")
        registry.set_alias("m", "best", 1)
        registry.delete_model("m")
        assert registry.list_models() == []
        assert not (registry.root / "artifacts" / first.model_id).exists()
        assert registry.register_model("m", artifact, "binary", "mine").version == 2
        with pytest.raises(ModelVersionNotFoundError):
            registry.get_model_by_alias("m", "best")
