"""The utilities, locks, errors and instants examples of the product's documents."""

import json
import threading

import pytest

from ops.foundation import (
    ErrorCode,
    FileLock,
    HashAlgorithm,
    LockProtocol,
    OpsError,
    OptimisticLock,
    ReadWriteLock,
    ResourceError,
    ThreadPoolManager,
    ValidationResult,
    atomic_write,
    calculate_hash,
    create_error_response,
    create_progress_bar,
    create_signature,
    ensure_directory,
    format_bytes,
    format_duration,
    generate_id,
    lazy_property,
    merge_dicts,
    parallel_map,
    singleton,
    timer,
    validate_step_function,
    wrap_exception,
)
from ops.foundation.instants import (
    days_ago,
    hours_ago,
    iso,
    last_day,
    last_hour,
    last_month,
    last_week,
    minutes_ago,
    months_ago,
    now,
    this_day,
    this_hour,
    this_minute,
    this_month,
    this_week,
    weeks_ago,
)


def step(function):
    """Stand in for the platform's decorator."""
    function.is_step = True
    return function


def process(data):
    return data


def test_validation(capsys):
    @step
    def my_step(data):
        return process(data)

    result = validate_step_function(my_step)
    assert isinstance(result, ValidationResult)
    if not result.valid:
        for issue in result.get_errors():
            print(f"❌ {issue.message}")
    assert capsys.readouterr().out == ""


def test_formatting(capsys):
    print(format_bytes(1234567890))  # "1.15 GB"
    print(format_duration(123.45))  # "2m 3s"
    assert capsys.readouterr().out == "1.15 GB\n2m 3s\n"

    # Progress bar
    progress = create_progress_bar(current=30, total=100, prefix="Processing: ", show_time=True)
    assert progress.startswith("Processing: |")
    assert "30.0%" in progress


def test_hashing():
    message, secret_key = "message", "secret"
    # Hash data
    hash_value = calculate_hash("hello world", HashAlgorithm.SHA256)
    assert hash_value == "b94d27b9934d3e08a52e52d7da7dabfac484efe37a5380ee9088f7ace2efcde9"

    # Generate unique IDs
    job_id = generate_id(prefix="job_", length=12)
    assert len(job_id) == 16

    # Create HMAC signature
    signature = create_signature(message, secret_key)
    assert len(signature) == 64


def test_filesystem(tmp_path):
    config = {"a": 1}
    processed = []

    def process_data():
        processed.append(1)

    # Atomic write
    with atomic_write(str(tmp_path / "config.json")) as f:
        json.dump(config, f)

    # File locking
    with FileLock(str(tmp_path / "process.lock")):
        # Exclusive access
        process_data()

    assert json.loads((tmp_path / "config.json").read_text()) == config
    assert processed == [1]
    assert ensure_directory(tmp_path / "a" / "b").is_dir()


def test_concurrency():
    def process_item(item):
        return item * 2

    item = 21
    # Thread pool
    with ThreadPoolManager(max_workers=4) as pool:
        future = pool.submit(process_item, item)
        result = future.result()
    assert result == 42


def test_parallel_processing(capsys):
    def process_item(item):
        return item + 1

    items = list(range(20))
    # Parallel processing
    results = parallel_map(
        process_item,
        items,
        max_workers=8,
        progress_callback=lambda c, t: print(f"Progress: {c}/{t}"),
    )
    assert results == list(range(1, 21))
    assert capsys.readouterr().out.endswith("Progress: 20/20\n")


def test_helpers():
    connections = []

    def connect():
        connections.append(object())
        return connections[-1]

    # Timer decorator
    @timer(name="data processing")
    def process_data(data):
        return [d + 1 for d in data]

    # Singleton
    @singleton
    class DatabaseConnection:
        def __init__(self):
            self.conn = connect()

    # Lazy property
    class DataProcessor:
        @lazy_property
        def processed_data(self):
            return connect()

    assert process_data([1]) == [2]
    assert DatabaseConnection() is DatabaseConnection()
    assert len(connections) == 1
    processor = DataProcessor()
    assert processor.processed_data is processor.processed_data
    assert len(connections) == 2
    assert merge_dicts({"a": {"b": 1}}, {"a": {"c": 2}}) == {"a": {"b": 1, "c": 2}}


def test_insufficient_resources_are_an_error_of_the_suite():
    resources = {"memory": {"available_gb": 1}}

    def check():
        if resources["memory"]["available_gb"] < 4:
            raise ResourceError("Insufficient memory")

    with pytest.raises(ResourceError, match="Insufficient memory"):
        check()


def test_enhanced_exceptions():
    def external_operation():
        raise ConnectionError("refused")

    # Create error response for APIs
    response = create_error_response(
        error_code=ErrorCode.VALIDATION_ERROR,
        message="Invalid model name",
        details={"field": "name", "reason": "Must be alphanumeric"},
    )
    assert response["error"]["details"]["field"] == "name"
    json.dumps(response)

    # Wrap external exceptions
    def save():
        try:
            external_operation()
        except Exception as e:
            raise wrap_exception(e, ErrorCode.RESOURCE_ERROR, "Failed to save model")  # noqa: B904 - as written there

    with pytest.raises(OpsError, match="Failed to save model") as caught:
        save()
    assert caught.value.error_code is ErrorCode.RESOURCE_ERROR
    assert isinstance(caught.value.__cause__, ConnectionError)


def test_locks_of_the_concurrency_module(tmp_path):
    class MyLock:
        def acquire(self):
            return True

        def release(self):
            pass

        def __enter__(self):
            return self

        def __exit__(self, *exc):
            pass

    assert isinstance(MyLock(), LockProtocol)
    assert isinstance(FileLock(tmp_path / "l"), LockProtocol)
    versions = OptimisticLock(value="a")
    assert versions.compare_and_set(versions.version, "b") == 1
    shared = ReadWriteLock()
    both_inside = threading.Barrier(2, timeout=30)

    def read():
        with shared.read():
            both_inside.wait()

    readers = [threading.Thread(target=read) for _ in range(2)]
    for reader in readers:
        reader.start()
    for reader in readers:
        reader.join()
    assert not both_inside.broken


def test_instants():
    # Get data for the last 30 days
    since = days_ago(30)
    until = now()
    assert 30 <= (until - since).total_seconds() / 86400 < 31
    assert iso(since).endswith("T00:00:00+00:00")


def test_every_instant_that_the_documents_name():
    moment = now()
    at = [f(moment) for f in (this_minute, this_hour, this_day, this_week, this_month)]
    assert at[0] >= at[1] >= at[2] >= max(at[3], at[4])
    assert last_hour(relative_to=this_hour(moment)) == hours_ago(1, relative_to=at[1])
    assert last_day(at[2]) == days_ago(1, at[2])
    assert last_week(at[3]) == weeks_ago(1, at[3])
    assert last_month(at[4]) == months_ago(1, at[4])
    assert minutes_ago(1, relative_to=this_minute(moment)) < at[0]
