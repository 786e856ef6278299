"""The behaviour suites on the Databricks backend, against the stand-in warehouse."""

from __future__ import annotations

import pytest

from ops.registry.conformance import RegistryBehaviour, StorageBehaviour, TrackerBehaviour

pytestmark = pytest.mark.service


class TestTracker(TrackerBehaviour):
    """Runs here in tables."""


class TestRegistry(RegistryBehaviour):
    """Runs here in tables and a volume."""


class TestStorage(StorageBehaviour):
    """Runs here in a table and a volume."""
