"""The suite of files with each backend of the fixtures, and what is special about local files."""

from __future__ import annotations

import pathlib

import pytest

from ops.registry import (
    InvalidValueError,
    LockProtocol,
)
from ops.registry.conformance import StorageBehaviour
from ops.registry.protocols import (
    EventEmitterProtocol,
    ExperimentTrackerProtocol,
    ModelRegistryProtocol,
    StorageBackendProtocol,
)


class TestStorage(StorageBehaviour):
    """Runs here with the backends of conftest."""


def test_names_of_the_storage_itself_are_refused(storage):
    for path in (".lock", "a/.b.tmp"):
        with pytest.raises(InvalidValueError, match="uses itself"):
            storage.write_json(1, path)


def test_the_parts_fit_the_protocols(context, storage):
    from ops.foundation import FileLock

    assert isinstance(storage, StorageBackendProtocol)
    assert isinstance(context.experiment_tracker, ExperimentTrackerProtocol)
    assert isinstance(context.model_registry, ModelRegistryProtocol)
    assert isinstance(context.operations.emitter, EventEmitterProtocol)
    assert isinstance(FileLock(context.path / "l"), LockProtocol)
    assert not isinstance(object(), StorageBackendProtocol)


def test_a_path_may_be_one_of_pathlib(storage, tmp_path):
    path = pathlib.PurePath("settings", "credit.json")
    storage.write_json({"a": 1}, path)
    assert storage.read_json(path) == storage.read_json("settings/credit.json") == {"a": 1}
    assert (storage.exists(path), storage.list_paths(pathlib.PurePath("settings"))) == (
        True,
        ["settings/credit.json"],
    )
    (tmp_path / "mine").mkdir()
    storage.write_artifact(tmp_path / "mine", pathlib.PurePath("folder"))
    assert storage.read_artifact(path, tmp_path / "out.json").read_text() == '{"a":1}'
    assert storage.delete(path)
    assert not storage.exists(path)


@pytest.mark.parametrize("path", [None, 1, b"a", "\ud800"])
def test_what_is_no_path_is_refused_by_every_method(storage, tmp_path, path):
    for call in (
        lambda: storage.write_json(1, path),
        lambda: storage.read_json(path),
        lambda: storage.read_dataframe(path),
        lambda: storage.write_artifact(tmp_path, path),
        lambda: storage.read_artifact(path, tmp_path / "out"),
        lambda: storage.exists(path),
        lambda: storage.delete(path),
        lambda: storage.list_paths(path),
    ):
        with pytest.raises(InvalidValueError):
            call()
