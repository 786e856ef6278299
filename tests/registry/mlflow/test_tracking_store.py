"""The real mlflow client on ``ops-registry://``: experiments, runs, histories, artifacts."""

from __future__ import annotations

import math
import os
import pathlib
import signal
from concurrent.futures import ThreadPoolExecutor

import mlflow
import pytest
from mlflow.entities import Metric, Param, RunTag, ViewType
from mlflow.exceptions import MlflowException

from ops.registry.errors import InvalidValueError
from ops.registry.mlflow.uris import parse_address
from ops.registry.records import RunStatus


def test_looking_creates_nothing(client, root):
    assert [e.name for e in client.search_experiments()] == ["Default"]
    assert client.search_runs(["0"]) == []
    assert client.search_registered_models() == []
    assert not root.exists()


def test_a_run_through_the_fluent_api_comes_back_whole(uri, client):
    with mlflow.start_run(run_name="first") as run:
        mlflow.log_params({"depth": 3, "kind": "tree"})
        mlflow.log_metrics({"auc": 0.9, "loss": 0.1})
        mlflow.set_tag("team", "ds")
    found = client.get_run(run.info.run_id)
    assert found.info.status == "FINISHED"
    assert found.info.run_name == "first"
    assert found.data.params == {"depth": "3", "kind": "tree"}
    assert found.data.metrics == {"auc": 0.9, "loss": 0.1}
    assert found.data.tags["team"] == "ds"
    assert found.info.end_time >= found.info.start_time


def test_a_block_that_raises_leaves_a_failed_run(uri, client):
    with pytest.raises(RuntimeError), mlflow.start_run() as run:
        raise RuntimeError("no")
    assert client.get_run(run.info.run_id).info.status == "FAILED"


def test_the_whole_history_of_a_metric_is_kept_in_pages(client, run_id):
    for step in range(25):
        client.log_metric(run_id, "loss", 1 / (step + 1), timestamp=1000 + step, step=step)
    found = client.get_metric_history(run_id, "loss")
    assert [(m.step, m.timestamp, m.value) for m in found] == [
        (step, 1000 + step, 1 / (step + 1)) for step in range(25)
    ]
    store = client._tracking_client.store
    page = store.get_metric_history(run_id, "loss", max_results=10)
    rest = store.get_metric_history(run_id, "loss", max_results=100, page_token=page.token)
    assert [m.step for m in [*page, *rest]] == list(range(25))


def test_a_step_of_more_than_64_bits_is_refused(client, run_id):
    with pytest.raises(MlflowException, match="64 bits") as caught:
        client.log_metric(run_id, "loss", 1.0, step=2**63)
    assert caught.value.error_code == "INVALID_PARAMETER_VALUE"


def test_of_values_at_one_step_and_time_the_greatest_is_the_last(client, run_id):
    for value in (10, 20, 5):
        client.log_metric(run_id, "loss", value, timestamp=50, step=3)
    assert client.get_run(run_id).data.metrics == {"loss": 20}


def test_a_parameter_without_a_value_is_refused(client, run_id):
    with pytest.raises(MlflowException, match="Missing value"):
        client._tracking_client.store.log_param(run_id, Param("depth", None))


def test_the_last_value_is_that_of_the_highest_step(client, run_id):
    client.log_metric(run_id, "loss", 0.5, timestamp=2000, step=7)
    client.log_metric(run_id, "loss", 0.9, timestamp=3000, step=2)
    assert client.get_run(run_id).data.metrics == {"loss": 0.5}


@pytest.mark.parametrize("value", [math.inf, -math.inf, math.nan])
def test_what_is_no_finite_number_is_kept(client, run_id, value):
    client.log_metric(run_id, "odd", value)
    found = client.get_metric_history(run_id, "odd")[0].value
    assert found == value or (math.isnan(found) and math.isnan(value))


def test_a_batch_has_metrics_params_and_tags(client, run_id):
    metrics = [Metric(f"m{i}", i, 5, 0) for i in range(100)]
    client.log_batch(run_id, metrics, [Param("p", "1")], [RunTag("t", "v")])
    found = client.get_run(run_id).data
    assert found.metrics == {f"m{i}": i for i in range(100)}
    assert found.params == {"p": "1"}
    assert found.tags["t"] == "v"


def test_of_a_batch_that_is_refused_nothing_is_there(client, run_id):
    client.log_param(run_id, "depth", 3)
    with pytest.raises(MlflowException, match="Changing param values is not allowed"):
        client.log_batch(
            run_id, [Metric("auc", 0.5, 1, 0)], [Param("depth", "4")], [RunTag("team", "ds")]
        )
    found = client.get_run(run_id).data
    assert (found.metrics, "team" in found.tags) == ({}, False)


def test_a_batch_is_one_write(client, run_id, monkeypatch):
    written = []
    write = os.write
    monkeypatch.setattr(os, "write", lambda at, data: written.append(data) or write(at, data))
    client.log_batch(run_id, [Metric("auc", 0.5, 1, 0)], [Param("p", "1")], [RunTag("t", "v")])
    assert len(written) == 1


def test_metrics_of_a_model_are_one_write_more(client, run_id, monkeypatch):
    model = client.create_logged_model("0").model_id
    written = []
    write = os.write
    monkeypatch.setattr(os, "write", lambda at, data: written.append(data) or write(at, data))
    client.log_batch(run_id, [Metric("auc", n, 1, n, model_id=model) for n in range(100)])
    assert len(written) == 2
    assert len(client.get_logged_model(model).metrics) == 100


def test_what_mlflow_refuses_is_refused_whatever_was_logged_before(client, run_id):
    client.log_metric(run_id, "auc", 0.5)
    store = client._tracking_client.store
    for wrong in (Metric("auc", "high", 1, 0), Metric("auc", 0.5, -1, 0), Metric("a!", 0.5, 1, 0)):
        with pytest.raises(MlflowException, match="Invalid value"):
            store.log_metric(run_id, wrong)
        with pytest.raises(MlflowException, match="Invalid value"):
            client.log_batch(run_id, [wrong])
    assert len(client.get_metric_history(run_id, "auc")) == 1


def test_what_a_client_remembers_is_what_the_journals_say(client, uri, run_id):
    """Threads log through two clients; each folds in its own writes without reading them."""
    others = [client, mlflow.MlflowClient(f"{uri}?durability=process", uri)]

    def log(number):
        mine = others[number % 2]
        for step in range(30):
            mine.log_metric(run_id, f"m{step % 3}", number + step / 7, timestamp=5, step=step)
            mine.set_tag(run_id, f"t{number}", step)
            mine.log_param(run_id, f"p{number}.{step}", step)

    with ThreadPoolExecutor(4) as pool:
        list(pool.map(log, range(4)))
    fresh = mlflow.MlflowClient(f"{uri}?durability=interval", uri).get_run(run_id).data
    assert len(fresh.params) == 120
    for one in others:
        found = one.get_run(run_id).data
        assert (found.metrics, found.params) == (fresh.metrics, fresh.params)
        assert found.tags == fresh.tags
        assert len(one.get_metric_history(run_id, "m1")) == 40


def test_a_long_run_ends_with_all_its_points(client, context, run_id):
    """More than are kept in memory while it goes on."""
    for start in range(0, 3000, 1000):
        client.log_batch(run_id, [Metric("m", 0.5, 1, start + i) for i in range(1000)])
    client.set_terminated(run_id)
    assert len(context.experiment_tracker.get_metric_history(run_id, "m")) == 3000
    assert len(client.get_metric_history(run_id, "m")) == 3000


def test_a_parameter_does_not_change_its_value(client, run_id):
    client.log_param(run_id, "depth", 3)
    client.log_param(run_id, "depth", 3)
    with pytest.raises(MlflowException, match="Changing param values is not allowed"):
        client.log_param(run_id, "depth", 4)


def test_tags_are_set_and_removed(client, run_id):
    client.set_tag(run_id, "a", "1")
    client.delete_tag(run_id, "a")
    assert "a" not in client.get_run(run_id).data.tags
    with pytest.raises(MlflowException, match="No tag with name: a"):
        client.delete_tag(run_id, "a")


def test_a_new_name_shows_in_the_run_and_its_tag(client, run_id):
    client.update_run(run_id, name="renamed")
    found = client.get_run(run_id)
    assert (found.info.run_name, found.data.tags["mlflow.runName"]) == ("renamed", "renamed")
    client.set_tag(run_id, "mlflow.runName", "again")
    assert client.get_run(run_id).info.run_name == "again"


def test_a_run_that_had_ended_goes_on(uri, client):
    with mlflow.start_run() as run:
        mlflow.log_metric("a", 1)
    with mlflow.start_run(run_id=run.info.run_id):
        assert client.get_run(run.info.run_id).info.status == "RUNNING"
        mlflow.log_metric("a", 2, step=1)
    found = client.get_run(run.info.run_id)
    assert (found.info.status, found.data.metrics) == ("FINISHED", {"a": 2})
    assert [r.info.status for r in client.search_runs(["0"])] == ["FINISHED"]


def test_a_history_is_whole_whether_kept_in_memory_or_not(uri, client, run_id, monkeypatch):
    from ops.registry.mlflow import run_repository

    for step in range(50):
        client.log_metric(run_id, "a", step, timestamp=step, step=step)
        client.log_metric(run_id, "b", -step, timestamp=step, step=step)
    other = client.create_run("0").info.run_id
    client.log_metric(other, "a", 7, timestamp=1)
    for room in (1000, 150, 100, 0):  # of which a single run may have a quarter
        monkeypatch.setattr(run_repository, "_POINTS", room)
        for _ in range(2):
            found = [client.get_metric_history(run_id, key) for key in ("a", "b")]
            assert [[m.value for m in one] for one in found] == [
                list(range(50)),
                [-step for step in range(50)],
            ]
            assert [m.value for m in client.get_metric_history(other, "a")] == [7]
    client.log_metric(run_id, "a", 0.5, timestamp=99, step=50)
    assert client.get_metric_history(run_id, "a")[-1].value == 0.5


def test_nested_runs_know_their_parent(uri, client):
    with mlflow.start_run() as parent, mlflow.start_run(nested=True) as child:
        pass
    asked = f"tags.`mlflow.parentRunId` = '{parent.info.run_id}'"
    assert [r.info.run_id for r in client.search_runs(["0"], asked)] == [child.info.run_id]
    assert client.get_parent_run(child.info.run_id).info.run_id == parent.info.run_id


def test_artifacts_are_listed_and_read(client, run_id, tmp_path):
    client.log_text(run_id, "hello", "notes/a.txt")
    client.log_dict(run_id, {"a": 1}, "b.json")
    assert [f.path for f in client.list_artifacts(run_id)] == ["b.json", "notes"]
    got = client.download_artifacts(run_id, "notes/a.txt", str(tmp_path))
    assert pathlib.Path(got).read_text() == "hello"


def test_datasets_of_a_run_are_kept_and_found(client, run_id):
    from mlflow.entities import Dataset, DatasetInput, InputTag

    data = Dataset("iris", "d1", "local", "file:///iris", schema="s", profile="p")
    given = DatasetInput(data, [InputTag("mlflow.data.context", "training")])
    client.log_inputs(run_id, [given])
    client.log_inputs(run_id, [given])
    found = client.get_run(run_id).inputs.dataset_inputs
    assert [(d.dataset.name, d.dataset.digest, d.dataset.profile) for d in found] == [
        ("iris", "d1", "p")
    ]
    for asked in ("dataset.name = 'iris'", "dataset.context = 'training'"):
        assert [r.info.run_id for r in client.search_runs(["0"], asked)] == [run_id]
    store = client._tracking_client.store
    assert [(s.name, s.context) for s in store._search_datasets(["0"])] == [("iris", "training")]


def test_deleted_runs_are_hidden_until_they_are_restored(client, run_id):
    client.delete_run(run_id)
    assert client.search_runs(["0"]) == []
    hidden = client.search_runs(["0"], run_view_type=ViewType.DELETED_ONLY)
    assert [r.info.run_id for r in hidden] == [run_id]
    with pytest.raises(MlflowException, match="must be in the 'active' state"):
        client.log_metric(run_id, "a", 1)
    client.restore_run(run_id)
    client.log_metric(run_id, "a", 1)
    assert [r.info.lifecycle_stage for r in client.search_runs(["0"])] == ["active"]


def test_an_experiment_is_renamed_tagged_deleted_and_restored(client):
    made = client.create_experiment("one", tags={"a": "1"})
    run_id = client.create_run(made).info.run_id
    client.rename_experiment(made, "two")
    client.set_experiment_tag(made, "b", "2")
    client.delete_experiment_tag(made, "a")
    found = client.get_experiment_by_name("two")
    assert (found.experiment_id, found.tags) == (made, {"b": "2"})
    client.delete_experiment(made)
    assert [e.name for e in client.search_experiments()] == ["Default"]
    assert client.get_run(run_id).info.lifecycle_stage == "deleted"
    with pytest.raises(MlflowException, match="deleted state"):
        client.create_experiment("two")
    client.restore_experiment(made)
    assert client.get_run(run_id).info.lifecycle_stage == "active"


def test_ids_of_experiments_are_small_numbers(client, context):
    """Some of MLflow's clients turn them into numbers; those of our own API stay texts."""
    assert [client.create_experiment(name) for name in ("one", "two")] == ["1", "2"]
    ours = context.experiment_tracker.create_experiment("three").experiment_id
    assert client.get_experiment(ours).name == "three"
    assert client.create_experiment("four") == "3"


def test_two_processes_never_give_one_number(uri, client, elsewhere):
    program = (
        "import mlflow, sys\n"
        "c = mlflow.MlflowClient(sys.argv[1], sys.argv[1])\n"
        "for i in range(20): c.create_experiment(f'{sys.argv[2]} {i}')\n"
    )
    waiting = [elsewhere.start(program, uri, name) for name in ("a", "b")]
    assert [wait() for wait in waiting] == [(0, ""), (0, "")]
    found = client.search_experiments(order_by=["experiment_id ASC"])
    assert sorted(int(e.experiment_id) for e in found) == list(range(41))


def test_a_name_of_an_experiment_may_be_as_long_as_mlflow_allows(client):
    made = client.create_experiment("x" * 500)
    client.rename_experiment(made, "y" * 500)
    assert client.get_experiment(made).name == "y" * 500
    with pytest.raises(MlflowException, match="maximum length"):
        client.create_experiment("x" * 501)


@pytest.mark.parametrize(
    ("place", "expected"),
    [
        ("s3://bucket/root?key=1#part", "s3://bucket/root/1/{run}/artifacts?key=1#part"),
        ("file:///data/root/", "file:///data/root/1/{run}/artifacts"),
        ("here", "{here}/here/1/{run}/artifacts"),
    ],
)
def test_artifacts_are_below_the_place_that_a_server_was_given(
    tmp_path, monkeypatch, place, expected
):
    from ops.registry.mlflow.trackingstore import OpsTrackingStore

    monkeypatch.chdir(tmp_path)
    store = OpsTrackingStore(f"ops-registry://{tmp_path}/store", place)
    made = store.create_run(store.create_experiment("one"), "me", 0, [], "run").info
    assert made.artifact_uri == expected.format(here=tmp_path, run=made.run_id)


def test_a_name_of_an_experiment_is_given_once(client):
    client.create_experiment("one")
    with pytest.raises(MlflowException, match="already exists") as caught:
        client.create_experiment("one")
    assert caught.value.error_code == "RESOURCE_ALREADY_EXISTS"


def test_experiments_are_found_by_mlflows_filter_in_pages(client):
    for number in range(5):
        client.create_experiment(f"exp {number}", tags={"odd": str(number % 2)})
    found = client.search_experiments(filter_string="tags.odd = '1'", order_by=["name ASC"])
    assert [e.name for e in found] == ["exp 1", "exp 3"]
    page = client.search_experiments(max_results=4, order_by=["name DESC"])
    rest = client.search_experiments(max_results=4, order_by=["name DESC"], page_token=page.token)
    assert [e.name[-1] for e in [*page, *rest]] == ["4", "3", "2", "1", "0", "t"]


def test_what_is_not_there_is_missing(client):
    for asking in (
        lambda: client.get_run("0" * 32),
        lambda: client.get_experiment("77"),
        lambda: client.get_logged_model("m-1"),
        lambda: client.get_registered_model("nobody"),
    ):
        with pytest.raises(MlflowException) as caught:
            asking()
        assert caught.value.error_code == "RESOURCE_DOES_NOT_EXIST"


def test_what_is_not_kept_raises_mlflows_own_error(client):
    store = client._tracking_client.store
    for call in (store.create_issue, store.archive_traces, store.register_scorer):
        with pytest.raises(MlflowException, match="do not support") as caught:
            call()
        assert caught.value.error_code == "NOT_IMPLEMENTED"


def test_both_apis_see_the_same_runs(client, context):
    experiment = context.experiment_tracker.create_experiment("shared", "of both")
    tracker = context.experiment_tracker
    with tracker.run_context(experiment.experiment_id, "native", parameters={"deep": True}) as run:
        tracker.log_metric(run.run_id, "auc", 0.75)
        with tracker.run_context(experiment.experiment_id, "child", run.run_id) as child:
            pass
    theirs = client.search_runs([experiment.experiment_id], "metrics.auc > 0.7")
    assert [(r.info.run_name, r.data.params) for r in theirs] == [("native", {"deep": "true"})]
    assert client.get_parent_run(child.run_id).info.run_id == run.run_id

    made = client.create_run(experiment.experiment_id, run_name="foreign").info.run_id
    client.log_metric(made, "auc", 0.8)
    client.set_terminated(made)
    ours = tracker.get_run(made)
    assert (ours.name, ours.status, ours.metrics) == ("foreign", RunStatus.COMPLETED, {"auc": 0.8})


def test_another_process_logs_to_the_same_run(client, uri, run_id, elsewhere):
    program = (
        "import mlflow, sys\n"
        "c = mlflow.MlflowClient(sys.argv[1], sys.argv[1])\n"
        "for i in range(10): c.log_metric(sys.argv[2], 'far', i, step=i)\n"
        "c.set_tag(sys.argv[2], 'from', 'afar')\n"
    )
    client.log_metric(run_id, "near", 1)
    assert elsewhere.run(program, uri, run_id) == (0, "")
    client.log_metric(run_id, "near", 2, step=1)
    found = client.get_run(run_id).data
    assert found.metrics == {"near": 2, "far": 9}
    assert found.tags["from"] == "afar"


@pytest.mark.fault
def test_what_was_logged_survives_a_kill_and_the_run_shows_as_killed(client, uri, elsewhere):
    program = (
        "import mlflow, os, signal, sys\n"
        "c = mlflow.MlflowClient(sys.argv[1], sys.argv[1])\n"
        "r = c.create_run('0').info.run_id\n"
        "for i in range(500): c.log_metric(r, 'loss', i, step=i)\n"
        "print(r, flush=True)\n"
        "os.kill(os.getpid(), signal.SIGKILL)\n"
    )
    code, output = elsewhere.run(program, uri)
    assert code == -signal.SIGKILL
    run_id = output.strip()
    assert client.get_run(run_id).info.status == "KILLED"
    assert [m.step for m in client.get_metric_history(run_id, "loss")] == list(range(500))


@pytest.mark.parametrize(
    ("uri", "path", "durability"),
    [
        ("ops-registry:///data/mlops", "/data/mlops", "process"),
        ("ops-registry:///data/a%20b?durability=commit", "/data/a b", "commit"),
    ],
)
def test_an_address_says_folder_and_durability(uri, path, durability):
    assert (str(parse_address(uri).root), parse_address(uri).durability) == (path, durability)


def test_a_relative_address_is_below_the_working_directory(monkeypatch, tmp_path):
    monkeypatch.chdir(tmp_path)
    assert parse_address("ops-registry://some/store").root == tmp_path / "some/store"


@pytest.mark.parametrize("wrong", ["ops-registry://", "file:///x", "ops-registry:///x?sync=yes"])
def test_an_address_that_is_not_understood_is_refused(wrong):
    with pytest.raises(InvalidValueError, match=r"ops-registry|durability"):
        parse_address(wrong)
