"""Stops with one sentence when somebody else's `ops` hides ours, and rules the services."""

from __future__ import annotations

import datetime as dt
import importlib.util
import json
import os
import platform
import signal
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from hypothesis import settings
from tests.disk_events import DiskEvents

RESULTS = Path(__file__).parents[1] / "benchmarks" / "results"

# A busy machine is slow, and that is no failure of a property.
settings.register_profile("untimed", settings.default, deadline=None)
settings.load_profile("untimed")


def pytest_configure(config: pytest.Config) -> None:
    spec = importlib.util.find_spec("ops")
    if spec is not None and spec.origin is not None and "coexist" not in str(config.args):
        pytest.exit(
            f"The name `ops` belongs to {spec.origin}; uninstall it or use a fresh environment "
            "(see docs/namespace.md).",
            returncode=4,
        )
    if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:
        # `pytest &` in a script ignores Ctrl-C, and so would every program that the tests start.
        signal.signal(signal.SIGINT, signal.default_int_handler)


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


@pytest.fixture(scope="session", autouse=True)
def _key_of_tests(tmp_path_factory: pytest.TempPathFactory) -> Iterator[None]:
    """Let what tests sign be signed with a key of theirs, and not with that of their user."""
    name = "OPS_SERIALIZE_USER_KEY_FILE"
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv(name, str(tmp_path_factory.mktemp("key") / "serialize.key"))
        yield


@pytest.fixture(scope="session")
def fault_records() -> Iterator[dict[str, dict[str, Any]]]:
    """What fault tests found, by package; a full run writes it beside the benchmarks."""
    records: dict[str, dict[str, Any]] = {}
    yield records
    if os.environ.get("OPS_FAULTS") == "full":
        for package, record in records.items():
            report = {
                "when": dt.datetime.now(dt.UTC).isoformat(timespec="seconds"),
                "machine": f"{platform.machine()}, {os.cpu_count()} cores, {platform.system()}",
                "python": platform.python_version(),
                "results": dict(sorted(record.items())),
            }
            target = RESULTS / f"faults-{package}.json"
            target.write_text(json.dumps(report, indent=1) + "\n", encoding="utf-8")


@pytest.fixture
def fault_record(
    request: pytest.FixtureRequest, fault_records: dict[str, dict[str, Any]]
) -> dict[str, Any]:
    """The record of the package whose test asks."""
    package = request.path.relative_to(Path(__file__).parent).parts[0]
    return fault_records.setdefault(package, {})


@pytest.fixture
def disk_events(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> DiskEvents:
    """What is flushed, renamed, linked, removed and truncated below tmp_path, in order."""
    if not Path("/proc/self/fd").is_dir():
        pytest.skip("names of open files are found in /proc/self/fd")
    events = DiskEvents(tmp_path)
    events.record_calls_of(monkeypatch)
    return events


@pytest.fixture
def once(monkeypatch):
    """Do something once behind a call of a function, whose result is returned."""

    def after(module, name, act) -> None:
        function, done = getattr(module, name), []

        def wrapped(*args, **kwargs):
            found = function(*args, **kwargs)
            if not done:
                done.append(1)
                act()
            return found

        monkeypatch.setattr(module, name, wrapped)

    return after
