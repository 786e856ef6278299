"""Warehouses that start, and sessions that are lost: what was logged and decided is there once."""

from __future__ import annotations

import pytest

from ops.registry import EventType, StorageError
from ops.registry.databricks.patience import Patience

pytestmark = pytest.mark.service

#: More seconds than the connector waits for: it hands the answer on at once.
BUSY = [503, {"Retry-After": "600"}]


class Clock:
    """A clock that only sleeping moves."""

    def __init__(self):
        self.now = 0.0

    def __call__(self):
        return self.now

    def sleep(self, seconds):
        self.now += seconds


@pytest.fixture
def clock():
    return Clock()


@pytest.fixture
def run_id(tracker, experiment, clock):
    """A run of a tracker whose waits take no time."""
    warehouse = tracker.warehouse
    warehouse.patience = Patience(900, clock=clock, sleep=clock.sleep)
    return tracker.start_run(experiment.experiment_id).run_id


def test_a_warehouse_that_answers_503_for_minutes_is_waited_for(
    tracker, run_id, warehouse, clock, caplog
):
    warehouse.control(fail=[BUSY] * 60)
    assert tracker.get_run(run_id).run_id == run_id
    assert clock.now > 300
    assert warehouse.seen()["fail"] == 0
    assert "is not ready yet; waited" in caplog.text


def test_waiting_is_an_event(tracker, run_id, warehouse, operations):
    warehouse.control(fail=[BUSY] * 3)
    tracker.create_experiment("another")
    events = operations.emitter.get_history(EventType.OPERATION_RETRIED)
    assert len(events) == 3
    assert "is not ready yet; waited 0 s of at most 900 s" in events[0].data["error"]


def test_one_that_never_starts_is_an_error_that_says_what_to_do(tracker, run_id, warehouse, clock):
    warehouse.control(fail=[BUSY] * 500)
    with pytest.raises(StorageError, match="warehouse_start_seconds"):
        tracker.get_run(run_id)
    assert 890 < clock.now <= 900


def test_sessions_that_are_rejected_while_it_starts_are_opened_anew(tracker, run_id, warehouse):
    warehouse.control(starting=5)
    assert tracker.get_run(run_id).run_id == run_id
    assert warehouse.seen()["starting"] == 0


def test_a_lost_session_is_opened_anew_and_nothing_is_done_twice(
    tracker, run_id, registry, warehouse, artifact
):
    tracker.log_metric(run_id, "loss", 1.0)
    warehouse.control(forget_sessions=True)
    tracker.flush()
    warehouse.control(forget_sessions=True)
    assert tracker.get_run(run_id).metric_summaries["loss"].count == 1
    warehouse.control(forget_sessions=True)
    assert registry.register_model("m", artifact, "binary", "mine").version == 1
    warehouse.control(forget_sessions=True)
    assert tracker.end_run(run_id).metrics == {"loss": 1.0}


# What clouds and tools call things


@pytest.mark.parametrize("cloud", ["aws", "azure", "gcp"])
def test_a_missing_file_is_one_in_the_words_of_each_cloud(
    storage, warehouse, cloud, tmp_path, artifact
):
    warehouse.control(cloud=cloud)
    storage.write_artifact(artifact, "a.bin")
    (row,) = storage.warehouse.rows("SELECT place FROM @ops_files WHERE place IS NOT NULL")
    warehouse.root.joinpath(*storage._volume.uri(row["place"]).split("/")[1:]).unlink()
    with pytest.raises(LookupError, match="not there any more"):
        storage.read_artifact("a.bin", tmp_path / "out")
    assert storage.delete("a.bin")  # its file is gone already
    assert storage.list_paths() == []


@pytest.mark.parametrize("prefix", ["", "dbfs:"])
def test_a_listing_gives_paths_below_the_volume(registry, warehouse, artifact, prefix):
    version = registry.register_model("m", artifact, "binary", "mine")
    warehouse.control(list_prefix=prefix)
    volume = registry._artifacts.volume
    assert [volume.uri(path) for path in volume.files("artifacts")] == [version.artifact_uri]


def test_names_of_catalogs_and_schemas_are_listed_in_small_letters(storage):
    volume = storage._volume
    volume.root = "/Volumes/Main/MLOps/ops_artifacts"
    for path in (
        "/Volumes/main/mlops/ops_artifacts/a/B.bin",
        "dbfs:/Volumes/Main/MLOps/ops_artifacts/a/B.bin",
    ):
        assert volume.path_of(path) == "a/B.bin"
    with pytest.raises(StorageError, match="is not below"):
        volume.path_of("/Volumes/main/mlops/ops_artifacts2/a")


# Values


@pytest.mark.parametrize("value", [0.9, 0.1, 1e300, 5e-324])
def test_a_float_arrives_with_64_bits(storage, value):
    (row,) = storage.warehouse.rows("SELECT :value AS value", value=value)
    assert row["value"] == value


def test_more_values_than_a_statement_may_have_arrive_all(storage, warehouse):
    values = {f"p{n}": value for n, value in enumerate([*range(300), 0.1, None, True, "it's"])}
    columns = ", ".join(f":{name} AS {name}" for name in values)
    (row,) = storage.warehouse.rows(f"SELECT {columns}", **values)
    assert row == values
    assert warehouse.seen()["parameters"] <= 255


def test_a_search_over_hundreds_of_experiments_finds_its_runs(tracker, run_id, warehouse):
    experiments = [tracker.get_run(run_id).experiment_id]
    rows = ", ".join(f"('e{n}', 'n{n}', '', '{{}}', 1)" for n in range(300))
    tracker.warehouse.change(f"INSERT INTO @ops_experiments VALUES {rows}")
    experiments += [f"e{n}" for n in range(300)]
    assert [run.run_id for run in tracker.search_runs(experiments)] == [run_id]
    assert tracker.count_runs(experiments, filter="metrics.a > 1 or status = 'RUNNING'") == 1
    assert warehouse.seen()["parameters"] <= 255
