"""The docstring of each public name describes parameters and errors; the names used most have an example."""

from __future__ import annotations

import importlib

import pytest
from tests.contracts import docstrings

#: What READMEs, documents and seeds import most, by package; each has an example that a doctest runs.
EXAMPLES = {
    "ops.cache": (
        "BatchProcessor CacheLimits DiskCache LRUCache MemoryCache TwoLevelCache cache memoize"
    ),
    "ops.datalog": "DataLogger LogPackage LogSchema open_log",
    "ops.foundation": (
        "FileLock OpsError OptimisticLock Timer atomic_write calculate_hash create_error_response "
        "create_progress_bar create_signature format_bytes format_duration format_table generate_id "
        "merge_dicts months_ago parallel_map run_in_thread safe_get temporary_directory verify_password"
    ),
    "ops.metrics_collect": (
        "DataframeActivity Extractor Ledger Outbox Package StorageDirectory collector lock query_collector"
    ),
    "ops.observe": (
        "AuditLogger EventEmitter EventLog HealthMonitor HooksManager MetricsCollector ResourceMonitor "
        "prometheus_text"
    ),
    "ops.registry": "MLOpsConfig MLOpsContext Transaction init_mlops",
    "ops.resilience": (
        "CircuitBreaker RateLimiter RetryConfig Semaphore exponential_backoff fallback retry with_retry"
    ),
    "ops.serialize": (
        "Signed SmartSerializer YamlConfig deserialize_data digest dump scan serialize_data"
    ),
    "ops.shm": "SharedMemoryArray",
}
PACKAGES = sorted({entry.package for entry in docstrings.documented()})


@pytest.mark.parametrize("package", PACKAGES)
def test_functions_of_three_parameters_describe_each(package: str) -> None:
    lines = [
        f"{entry.name}: {', '.join(left)}"
        for entry in docstrings.documented()
        if entry.package == package and (left := entry.undescribed())
    ]
    assert lines == []


@pytest.mark.parametrize("package", PACKAGES)
def test_functions_that_raise_say_what(package: str) -> None:
    lines = [
        f"{entry.name}: {', '.join(left)}"
        for entry in docstrings.documented()
        if entry.package == package and (left := entry.unannounced())
    ]
    assert lines == []


@pytest.mark.parametrize("package", PACKAGES)
def test_records_of_three_fields_describe_each(package: str) -> None:
    lines = [
        f"{record.__qualname__}: {', '.join(left)}"
        for record in docstrings.records()
        if record.__module__.startswith(f"{package}.")
        and (left := docstrings.undescribed_fields(record))
    ]
    assert lines == []


@pytest.mark.parametrize("package", EXAMPLES)
def test_the_names_used_most_have_an_example(package: str) -> None:
    module = importlib.import_module(package)
    names = EXAMPLES[package].split()
    assert [name for name in names if ">>> " not in (getattr(module, name).__doc__ or "")] == []


def _plain(one: int, two: int, three: int) -> int:
    """Return the sum of *one*, of *two* (a number) and of `three=`."""
    return one + two + three


def _silent(one: int, two: int, three: int, **options: int) -> None:
    """Do something with one thing, and with *two*."""
    if one:
        raise docstrings.OpsError("no")


@pytest.mark.parametrize(
    ("function", "undescribed", "unannounced"),
    [(_plain, [], []), (_silent, ["one", "three", "options"], ["OpsError"])],
)
def test_the_check_sees_what_is_left_out(function, undescribed, unannounced) -> None:
    entry = docstrings.Documented("f", function, None, function.__doc__)
    assert (entry.undescribed(), entry.unannounced()) == (undescribed, unannounced)
