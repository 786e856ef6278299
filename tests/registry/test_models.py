"""The suite of models with each backend of the fixtures, and what is special about local files."""

from __future__ import annotations

import pathlib
import pickle
import threading

import pytest

from ops.registry import (
    CorruptStoreError,
    InvalidValueError,
    ModelStage,
)
from ops.registry.conformance import RegistryBehaviour
from ops.registry.fsck import check
from ops.registry.local.model_views import LocalModelViews
from ops.registry.mlflow.model_repository import ModelBook
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
    with pytest.raises(UntrustedDataError, match="vouches"):
        registry.load_model("p", trust=Safe(("_pytest.python.Class",)))
    assert registry.load_model("p", trust="all") is pytest.Class


def test_a_model_written_by_ops_serialize_comes_back(registry, tmp_path):
    linear = pytest.importorskip("sklearn.linear_model")
    model = linear.LinearRegression().fit([[0.0], [1.0]], [0.0, 2.0])
    key = Signed(b"k" * 32)
    dump(model, tmp_path / "model.ops", trust=key)
    registry.register_model("line", tmp_path / "model.ops", "sklearn", "scikit-learn")
    registry.promote_model("line", 1, ModelStage.PRODUCTION)
    loaded = registry.load_model("line", stage=ModelStage.PRODUCTION, trust=key)
    assert loaded.predict([[2.0]])[0] == pytest.approx(4.0)


def test_after_each_change_the_files_beside_the_journal_say_what_it_says(
    context, registry, register
):
    book = ModelBook(registry.root)
    changes = {
        "register": lambda: [register() for _ in range(3)],
        "promote": lambda: registry.promote_model("credit", 1, ModelStage.PRODUCTION),
        "promote another": lambda: registry.promote_model("credit", 2, ModelStage.PRODUCTION),
        "roll back": lambda: registry.rollback("credit"),
        "alias": lambda: registry.set_alias("credit", "champion", 1),
        "move the alias": lambda: registry.set_alias("credit", "champion", 2),
        "another alias": lambda: registry.set_alias("credit", "challenger", 3),
        "delete the alias": lambda: registry.delete_alias("credit", "champion"),
        "tag": lambda: registry.set_tag("credit", 1, "team", "ds"),
        "untag": lambda: book.untag("credit", 1, "team"),
        "annotate": lambda: registry.annotate("credit", 1, "the first"),
        "describe": lambda: book.describe_model("credit", description="all", tags={"a": "b"}),
        "rename": lambda: book.rename_model("credit", "risk"),
        "register elsewhere": lambda: book.register_elsewhere(
            "risk",
            "file:///nowhere",
            {"artifact_type": "t", "framework": "f", "dependencies": []},
        ),
        "delete a version with an alias": lambda: registry.delete_model_version("risk", 3),
        "take the name again": register,
        "delete": lambda: registry.delete_model("risk"),
    }
    for name, change in changes.items():
        change()
        assert (name, check(context).problems) == (name, [])


def test_a_name_that_was_given_up_has_a_folder_of_its_own_when_it_is_taken_again(
    registry, artifact
):
    book = ModelBook(registry.root)

    def register(name, content):
        artifact.write_bytes(content)
        return book.register_model(name, artifact, "binary", "mine")

    register("a", b"first")
    book.rename_model("a", "b")
    register("a", b"second")
    book.rename_model("a", "c")
    book.rename_model("b", "a")
    register("b", b"third")
    found = {v.name: pathlib.Path(v.artifact_uri).read_bytes() for v in book.search_models()}
    assert found == {"a": b"first", "b": b"third", "c": b"second"}
    for version in book.search_models():
        book.verify(version)


def test_a_search_is_not_stopped_by_a_model_that_goes_meanwhile(
    registry, register, new_context, monkeypatch
):
    other = new_context().model_registry
    register("credit")
    register("fraud")
    refresh = registry._events.refresh

    def refresh_and_lose_one():
        refresh()
        monkeypatch.undo()
        other.delete_model("credit")

    monkeypatch.setattr(registry._events, "refresh", refresh_and_lose_one)
    assert [v.name for v in registry.search_models()] == ["credit", "fraud"]
    assert [v.name for v in registry.search_models()] == ["fraud"]


def test_views_that_are_written_again_say_what_others_changed_meanwhile(
    registry, register, new_context, monkeypatch
):
    other = new_context().model_registry
    register()
    write = LocalModelViews.write
    changing = threading.Thread(target=other.annotate, args=("credit", 1, "by another"))

    def write_later(self, versions, **options):
        if self is registry._views and not changing.ident:
            changing.start()  # it waits, or it would be overwritten by what was known before
            changing.join(0.2)
        write(self, versions, **options)

    monkeypatch.setattr(LocalModelViews, "write", write_later)
    registry.rewrite_views()
    changing.join()
    assert registry.has_current_view(registry.get_model_version("credit", 1))
