"""The seed's helpers, on a store of ours in the process and on real servers."""

from __future__ import annotations

import asyncio
import threading

import mlflow
import pandas as pd
import pytest

from ops.registry.mlflow import MLflowHelper, MLflowPipelineTracker, mlflow_track

WHERE = [
    "uri",
    pytest.param("our_server", marks=pytest.mark.service),
    # sqlalchemy warns about what mlflow does with it
    pytest.param("sqlite", marks=pytest.mark.filterwarnings("ignore")),
]


@pytest.fixture(params=WHERE)
def address(request):
    """An address that mlflow understands."""
    return request.getfixturevalue(request.param)


@pytest.fixture
def experiment(request):
    """A name that no other test has."""
    return f"helpers {request.node.name}"


@pytest.fixture
def runs(address, experiment):
    """Returns the runs of the experiment, oldest first."""
    client = mlflow.MlflowClient(address, address)

    def find():
        known = client.get_experiment_by_name(experiment)
        return client.search_runs([known.experiment_id], order_by=["start_time ASC"])

    return find


def test_a_pipeline_has_its_nodes_below_it(address, experiment, runs):
    seconds = iter([10.0, 11.0, 12.5, 20.0])
    tracker = MLflowPipelineTracker(
        experiment, address, tags={"team": "ds"}, clock=lambda: next(seconds)
    )
    with (
        tracker.pipeline("train", {"model": {"depth": 3}}) as pipeline,
        tracker.node("fit", pipeline, {"seed": 1}, kind="sklearn") as node,
    ):
        node.log_metrics({"auc": 0.9})
    found = {run.info.run_name: run for run in runs()}
    above, below = found["train"], found["fit"]
    assert above.data.params == {"model.depth": "3"}
    assert above.data.metrics == {"duration_seconds": 10.0}
    assert below.data.tags["mlflow.parentRunId"] == above.info.run_id
    assert (below.data.tags["team"], below.data.tags["kind"]) == ("ds", "sklearn")
    assert below.data.metrics == {"auc": 0.9, "duration_seconds": 1.5}
    assert {run.info.status for run in found.values()} == {"FINISHED"}


def test_a_node_that_raises_fails_with_its_error(address, experiment, runs):
    tracker = MLflowPipelineTracker(experiment, address)

    def train():
        with tracker.pipeline("train") as pipeline:
            with tracker.node("good", pipeline):
                pass
            with tracker.node("bad", pipeline):
                raise ValueError("no rows")

    with pytest.raises(ValueError, match="no rows"):
        train()
    found = {run.info.run_name: run for run in runs()}
    statuses = {name: run.info.status for name, run in found.items()}
    assert statuses == {"train": "FAILED", "good": "FINISHED", "bad": "FAILED"}
    assert found["bad"].data.tags["ops.error"] == "ValueError: no rows"


def test_nodes_run_in_threads(address, experiment, runs):
    tracker = MLflowPipelineTracker(experiment, address)

    def work(name, pipeline):
        with tracker.node(name, pipeline) as node:
            node.log_metrics({"done": 1})

    with tracker.pipeline("train") as pipeline:
        threads = [threading.Thread(target=work, args=(f"n{i}", pipeline)) for i in range(4)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
    below = [run for run in runs() if "mlflow.parentRunId" in run.data.tags]
    assert sorted(run.info.run_name for run in below) == ["n0", "n1", "n2", "n3"]
    assert [run.data.metrics["done"] for run in below] == [1] * 4


def test_each_call_of_a_tracked_function_is_a_run(address, experiment, runs):
    @mlflow_track(experiment, address, tags={"team": "ds"})
    def fit(depth, rate=0.5, *, data=None):
        return {"auc": depth * rate, "name": "tree"}

    assert fit(2, data=object()) == {"auc": 1.0, "name": "tree"}
    assert fit.__name__ == "fit"
    (run,) = runs()
    assert run.data.params == {"depth": "2", "rate": "0.5", "data": "<object>"}
    assert run.data.metrics["auc"] == 1.0
    assert run.data.metrics["duration_seconds"] >= 0
    assert (run.info.run_name, run.data.tags["team"]) == ("fit", "ds")


def test_a_tracked_function_that_raises_is_a_failed_run(address, experiment, runs):
    @mlflow_track(experiment, address, run_name="doomed")
    def fit():
        raise RuntimeError("out of memory")

    with pytest.raises(RuntimeError, match="out of memory"):
        fit()
    (run,) = runs()
    assert (run.info.run_name, run.info.status) == ("doomed", "FAILED")


def test_a_coroutine_is_tracked_until_it_ends(address, experiment, runs):
    @mlflow_track(experiment, address)
    async def fit(depth):
        await asyncio.sleep(0)
        return depth / 2

    assert asyncio.run(fit(3)) == 1.5
    (run,) = runs()
    assert (run.data.metrics["result"], run.info.status) == (1.5, "FINISHED")


def test_more_than_a_request_can_take_is_divided(address, experiment, runs):
    helper = MLflowHelper(address)
    run_id = helper.client.create_run(helper.get_or_create_experiment(experiment)).info.run_id
    helper.log_params(run_id, {"group": {f"p{i}": i for i in range(250)}, "long": "x" * 10_000})
    helper.log_history(run_id, "loss", [1 / (i + 1) for i in range(2500)])
    helper.log_metrics(run_id, {"a": {"b": 1}, "text": "no number", "flag": True}, step=3)
    found = helper.client.get_run(run_id).data
    assert len(found.params) == 251
    assert found.params["group.p249"] == "249"
    assert len(found.params["long"]) == 6000
    assert len(helper.client.get_metric_history(run_id, "loss")) == 2500
    assert (found.metrics["a.b"], found.metrics["flag"]) == (1, 1)
    assert "text" not in found.metrics


def test_a_table_is_described(address, experiment, tmp_path):
    helper = MLflowHelper(address)
    run_id = helper.client.create_run(helper.get_or_create_experiment(experiment)).info.run_id
    helper.log_dataframe(run_id, pd.DataFrame({"a": [1.0, None], "b": ["x", "y"]}), "train")
    assert helper.client.get_run(run_id).data.metrics == {"train.rows": 2, "train.columns": 2}
    helper.client.download_artifacts(run_id, "train", str(tmp_path))
    assert (tmp_path / "train/head.csv").read_text().splitlines() == ["a,b", "1.0,x", ",y"]


def test_the_best_run_is_registered_under_an_alias(address, experiment, tmp_path):
    helper = MLflowHelper(address)
    assert helper.best_run(experiment, "auc") is None
    home = helper.get_or_create_experiment(experiment)
    for auc in (0.7, 0.9, 0.8):
        run_id = helper.client.create_run(home).info.run_id
        helper.log_metrics(run_id, {"auc": auc})
        helper.client.log_text(run_id, f"model of {auc}", "model/weights.txt")
        helper.client.set_terminated(run_id)
    best = helper.best_run(experiment, "auc")
    assert best.data.metrics["auc"] == 0.9
    assert helper.best_run(experiment, "auc", maximize=False).data.metrics["auc"] == 0.7
    for _ in range(2):
        made = helper.register(experiment, best.info.run_id, aliases=["champion"])
    found = helper.client.get_model_version_by_alias(experiment, "champion")
    assert int(found.version) == int(made.version) == 2
    assert found.run_id == best.info.run_id
