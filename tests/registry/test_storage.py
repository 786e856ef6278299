"""The suite of files with each backend of the fixtures, and what is special about local files."""

from __future__ import annotations

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
