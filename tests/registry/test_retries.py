from __future__ import annotations

import errno

import pytest

from ops.registry import StorageError
from ops.registry.disk import artifacts
from ops.resilience import testing


@pytest.fixture
def troubled(monkeypatch):
    """Lets the next copies fail with the errors given, one each."""
    real = artifacts._copy_file
    errors = []

    def copy(origin, target, **options):
        if errors:
            target.write_bytes(b"half")
            raise OSError(errors.pop(0), "trouble")
        return real(origin, target, **options)

    monkeypatch.setattr(artifacts, "_copy_file", copy)
    with testing(attempts=3):
        yield errors


def test_a_copy_is_tried_again_when_the_trouble_may_pass(registry, artifact, troubled):
    troubled += [errno.ESTALE, errno.EBUSY]
    made = registry.register_model("m", artifact, "binary", "mine")
    registry.verify(made)
    assert troubled == []


def test_trouble_that_stays_is_an_error_and_leaves_nothing(registry, artifact, troubled):
    troubled += [errno.EBUSY] * 3
    with pytest.raises(StorageError, match="trouble"):
        registry.register_model("m", artifact, "binary", "mine")
    assert list((registry.root / "artifacts").iterdir()) == []


def test_a_full_disk_is_not_tried_again(registry, artifact, troubled):
    troubled += [errno.ENOSPC, errno.EBUSY]
    with pytest.raises(StorageError, match="trouble"):
        registry.register_model("m", artifact, "binary", "mine")
    assert troubled == [errno.EBUSY]
