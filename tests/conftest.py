"""Stops with one sentence when somebody else's `ops` hides ours, and rules the services."""

from __future__ import annotations

import importlib.util
import os

import pytest


def pytest_configure(config: pytest.Config) -> None:
    spec = importlib.util.find_spec("ops")
    if spec is not None and spec.origin is not None and "coexist" not in str(config.args):
        pytest.exit(
            f"The name `ops` belongs to {spec.origin}; uninstall it or use a fresh environment "
            "(see docs/namespace.md).",
            returncode=4,
        )


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport(item: pytest.Item, call: pytest.CallInfo[None]):
    """With OPS_REQUIRE_SERVICES=1 (CI) a service that is missing is a failure, not a skip."""
    report = yield
    if (
        report.skipped
        and item.get_closest_marker("service")
        and os.environ.get("OPS_REQUIRE_SERVICES")
    ):
        report.outcome = "failed"
        report.longrepr = f"OPS_REQUIRE_SERVICES is set, and: {report.longrepr}"
    return report
