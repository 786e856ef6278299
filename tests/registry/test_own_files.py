"""Files of the user's own stay: downloads and transactions replace nothing that nobody asked to be replaced."""

from __future__ import annotations

import errno

import pytest

from ops.registry import AlreadyExistsError, StorageError, Transaction
from ops.registry.disk import transactions


@pytest.fixture
def kept(context, tracker, registry, experiment, tmp_path):
    """Ways to get a file called "weights" and a folder called "data" out of a store."""
    source = tmp_path / "source"
    (source / "data").mkdir(parents=True)
    (source / "data" / "part.csv").write_text("from the store")
    (source / "weights").write_text("from the store")
    run_id = tracker.start_run(experiment.experiment_id).run_id
    for name in ("data", "weights"):
        tracker.log_artifact(run_id, source / name)
        registry.register_model(name, source / name, "binary", "mine")
        context.storage.write_artifact(source / name, name)

    def run(name, target, **options):
        return tracker.download_run_artifact(run_id, name, target, **options)

    def model(name, target, **options):
        return registry.download_artifact(name, 1, target, **options)

    return {"run": run, "model": model, "storage": context.storage.read_artifact}


@pytest.fixture
def desk(tmp_path):
    """A folder where somebody works, with things of the same names."""
    for name in ("data", "weights"):
        (tmp_path / "desk" / name).mkdir(parents=True)
        (tmp_path / "desk" / name / "months.csv").write_text("mine")
    return tmp_path / "desk"


@pytest.mark.parametrize("way", ["run", "model", "storage"])
@pytest.mark.parametrize("name", ["data", "weights"])
def test_a_download_keeps_a_folder_of_its_name(kept, desk, way, name):
    with pytest.raises(AlreadyExistsError, match="overwrite=True"):
        kept[way](name, desk)
    assert (desk / name / "months.csv").read_text() == "mine"
    assert sorted(path.name for path in desk.iterdir()) == ["data", "weights"]


@pytest.mark.parametrize("way", ["run", "model", "storage"])
def test_a_download_replaces_when_asked_to_and_may_be_repeated(kept, desk, way):
    for _ in range(2):
        assert kept[way]("data", desk, overwrite=True) == desk / "data"
    assert [path.name for path in (desk / "data").iterdir()] == ["part.csv"]
    assert kept[way]("data", desk) == desk / "data"  # the same content is no conflict
    kept[way]("weights", desk, overwrite=True)
    (desk / "weights").write_text("edited")
    with pytest.raises(AlreadyExistsError):
        kept[way]("weights", desk / "weights")
    assert (desk / "weights").read_text() == "edited"


def test_a_transaction_replaces_no_folder_with_a_file(storage):
    storage.write_json({"precious": True}, "results/a.json")
    changes = Transaction(storage).begin()
    changes.write_json(1, "b.json")
    changes.write_json(1, "results")
    with pytest.raises(StorageError, match="folder"):
        changes.commit()
    assert storage.list_paths() == ["results/a.json"]


def test_an_artifact_replaces_nothing_of_another_kind(storage, tmp_path):
    storage.write_json(1, "results/a.json")
    storage.write_json(1, "b.json")
    (tmp_path / "folder").mkdir()
    (tmp_path / "file").write_text("x")
    with pytest.raises(StorageError, match="is a folder"):
        storage.write_artifact(tmp_path / "file", "results")
    with pytest.raises(StorageError, match="is a file"):
        storage.write_artifact(tmp_path / "folder", "b.json")
    assert storage.list_paths() == ["b.json", "results/a.json"]


def test_a_full_disk_is_an_error_of_the_store_in_a_transaction_too(storage, monkeypatch):
    def full(*args, **options):
        raise OSError(errno.ENOSPC, "no space left")

    with Transaction(storage) as changes:
        monkeypatch.setattr(transactions, "atomic_write", full)
        with pytest.raises(StorageError, match="no space left"):
            changes.write_json(1, "a.json")
        monkeypatch.undo()
    assert storage.list_paths() == []


def test_a_transaction_tells_what_single_writes_tell(storage, operations):
    storage.write_json(0, "old.json")
    seen = []
    operations.emitter.subscribe(
        "*", lambda event: seen.append((str(event.event_type), event.data))
    )
    with Transaction(storage) as changes:
        changes.write_json(1, "new.json")
        changes.delete("old.json")
        changes.delete("absent.json")
    assert seen[:2] == [
        ("storage_written", {"path": "new.json"}),
        ("storage_deleted", {"path": "old.json"}),
    ]
    assert [name for name, _ in seen[2:]] == ["transaction_committed"]
