"""Libraries that log to MLflow log to a store of ours: the real ones where they are small, else the calls that they make.

Each runs in a process of its own, since autologging changes the library for good.
"""

from __future__ import annotations

import ast
import importlib.util

import pytest

BEFORE = """
import sys, warnings
warnings.simplefilter("ignore")
sys.modules["pyspark"] = None  # pyspark-client ends the process where MLflow looks for a cluster
import mlflow
mlflow.set_tracking_uri(sys.argv[1])
mlflow.set_registry_uri(sys.argv[1])
"""
AFTER = """
mlflow.flush_async_logging()
client = mlflow.MlflowClient()
experiment = next(e for e in client.search_experiments() if client.search_runs([e.experiment_id]))
found = []
for run in client.search_runs([experiment.experiment_id], order_by=["attributes.start_time ASC"]):
    histories = {key: len(client.get_metric_history(run.info.run_id, key)) for key in run.data.metrics}
    files = sorted(one.path for one in client.list_artifacts(run.info.run_id))
    models = [one.name for one in client.search_logged_models([experiment.experiment_id])]
    found.append((run.info.status, run.data.params, run.data.metrics, run.data.tags, histories, files, models))
print("FOUND", (experiment.name, found))
"""

OPTUNA = """
import optuna
from optuna_integration.mlflow import MLflowCallback

optuna.logging.set_verbosity(optuna.logging.ERROR)
callback = MLflowCallback(tracking_uri=sys.argv[1], metric_name="loss")
study = optuna.create_study(study_name="tuning", sampler=optuna.samplers.RandomSampler(seed=1))

@callback.track_in_mlflow()
def objective(trial):
    x = trial.suggest_float("x", -1, 1)
    mlflow.log_metric("inner", x)
    return x * x

study.optimize(objective, n_trials=3, callbacks=[callback])
assert len(study.trials) == 3
"""

SKLEARN = """
from sklearn.linear_model import LogisticRegression

mlflow.sklearn.autolog()
LogisticRegression(C=0.5).fit([[0.0], [1.0], [2.0], [3.0]], [0, 0, 1, 1])
"""

XGBOOST = """
import xgboost

mlflow.xgboost.autolog()
data = xgboost.DMatrix([[0.0], [1.0], [2.0], [3.0]], label=[0, 0, 1, 1])
xgboost.train({"max_depth": 2, "objective": "binary:logistic"}, data, num_boost_round=3, evals=[(data, "train")], verbose_eval=False)
"""

LIGHTGBM = """
import lightgbm
import numpy

mlflow.lightgbm.autolog()
data = lightgbm.Dataset(numpy.arange(40.0).reshape(40, 1), label=[0] * 20 + [1] * 20)
lightgbm.train({"objective": "binary", "metric": "binary_logloss", "num_leaves": 3, "min_data_in_leaf": 2, "verbosity": -1}, data, 3, valid_sets=[data], valid_names=["train"])
"""

# What lightning.pytorch.loggers.MLFlowLogger calls: a client and ids, never the current run.
LIGHTNING = """
import pathlib, tempfile, time
from mlflow.entities import Metric, Param

logger = mlflow.MlflowClient(sys.argv[1])
if logger.get_experiment_by_name("lightning_logs") is None:
    home = logger.create_experiment(name="lightning_logs", artifact_location=None)
run = logger.create_run(experiment_id=home, tags={"mlflow.runName": "fit", "mlflow.user": "ada"})
run_id = run.info.run_id
for params in ({"optimizer/lr": 0.1, "layers": [1, 2]}, {"layers": [1, 2]}):  # as the trainer does, twice
    logger.log_batch(run_id=run_id, params=[Param(key=k, value=str(v)) for k, v in params.items()])
for step in range(3):
    logger.log_batch(run_id=run_id, metrics=[Metric(key="train_loss", value=1 / (step + 1), timestamp=int(time.time() * 1000), step=step)])
with tempfile.TemporaryDirectory() as folder:
    path = pathlib.Path(folder, "epoch=0.ckpt")
    path.write_bytes(b"weights")
    logger.log_artifact(run_id, str(path), "model/checkpoints/epoch=0")
    pathlib.Path(folder, "aliases.txt").write_text("['latest']")
    logger.log_artifact(run_id, f"{folder}/aliases.txt", "model/checkpoints/epoch=0")
logger.set_terminated(run_id, "FINISHED")
"""

# What transformers.integrations.MLflowCallback calls: the current run, parameters by the hundred.
TRANSFORMERS = """
import pathlib, tempfile

mlflow.set_experiment("transformers")
assert mlflow.active_run() is None
mlflow.start_run(run_name="trainer", nested=False)
items = [(f"argument{number}", str(number) * 20) for number in range(250)] + [("long", "x" * 6000)]
items = [(name, value[: mlflow.utils.validation.MAX_PARAM_VAL_LENGTH]) for name, value in items]
size = mlflow.utils.validation.MAX_PARAMS_TAGS_PER_BATCH
for start in range(0, len(items), size):
    mlflow.log_params(dict(items[start : start + size]), synchronous=False)
mlflow.set_tags({"team": "nlp"})
for step in range(3):
    mlflow.log_metrics(metrics={"loss": 1.0 / (step + 1), "epoch": step}, step=step, synchronous=False)
with tempfile.TemporaryDirectory() as folder:
    pathlib.Path(folder, "config.json").write_text("{}")
    mlflow.log_artifacts(folder, "checkpoint-3")
mlflow.end_run()
"""

# What mlflow.keras.MlflowCallback calls: the current run, each epoch in the background.
KERAS = """
mlflow.set_experiment("keras")
with mlflow.start_run():
    mlflow.log_params({"optimizer_name": "adam", "optimizer_learning_rate": 0.001})
    mlflow.log_text("Model: sequential", artifact_file="model_summary.txt")
    for epoch in range(3):
        mlflow.log_metrics({"loss": 1.0 / (epoch + 1)}, step=epoch, synchronous=False, model_id=None)
    mlflow.log_metrics({"validation_loss": 0.5}, synchronous=False, model_id=None)
"""


def has(*names):
    """Whether packages can be imported."""
    return all(importlib.util.find_spec(name) for name in names)


@pytest.fixture
def logged(elsewhere, uri):
    """Runs a program and returns the experiment that it logged to, and its runs."""

    def run(program):
        code, text = elsewhere.run(BEFORE + program + AFTER, uri)
        assert code == 0, text[-3000:]
        return ast.literal_eval(text.rpartition("FOUND ")[2])

    return run


def test_optunas_callback_makes_a_run_of_each_trial(logged):
    if not has("optuna", "optuna_integration"):
        pytest.skip("pip install optuna optuna-integration")
    name, runs = logged(OPTUNA)
    assert name == "tuning"
    assert [status for status, *_ in runs] == ["FINISHED"] * 3
    for _, params, metrics, tags, *_ in runs:
        assert metrics["loss"] == pytest.approx(float(params["x"]) ** 2)
        assert metrics["inner"] == pytest.approx(float(params["x"]))
        assert tags["direction"] == "MINIMIZE"


def test_scikit_learns_autologging_logs_an_estimator(logged):
    if not has("sklearn"):
        pytest.skip("pip install scikit-learn")
    _, [(status, params, metrics, tags, _, files, models)] = logged(SKLEARN)
    assert (status, params["C"], tags["estimator_name"]) == (
        "FINISHED",
        "0.5",
        "LogisticRegression",
    )
    assert metrics["training_accuracy_score"] == 1.0
    assert "estimator.html" in files
    assert models == ["model"]


def test_xgboosts_autologging_logs_each_round(logged):
    if not has("xgboost"):
        pytest.skip("pip install xgboost")
    _, [(status, params, metrics, _, histories, files, models)] = logged(XGBOOST)
    assert (status, params["max_depth"], params["num_boost_round"]) == ("FINISHED", "2", "3")
    assert histories["train-logloss"] == 3
    assert metrics["train-logloss"] < 0.7
    assert any("feature_importance" in one for one in files)
    assert models == ["model"]


def test_lightgbms_autologging_logs_each_round(logged):
    if not has("lightgbm"):
        pytest.skip("pip install lightgbm")
    _, [(status, params, _, _, histories, _, models)] = logged(LIGHTGBM)
    assert (status, params["num_leaves"]) == ("FINISHED", "3")
    assert histories["train-binary_logloss"] == 3
    assert models == ["model"]


def test_the_calls_of_lightnings_logger(logged):
    name, [(status, params, metrics, tags, histories, files, _)] = logged(LIGHTNING)
    assert (name, status) == ("lightning_logs", "FINISHED")
    assert params == {"optimizer/lr": "0.1", "layers": "[1, 2]"}
    assert (metrics["train_loss"], histories["train_loss"]) == (pytest.approx(1 / 3), 3)
    assert (tags["mlflow.runName"], files) == ("fit", ["model"])


def test_the_calls_of_transformers_callback(logged):
    name, [(status, params, metrics, tags, histories, files, _)] = logged(TRANSFORMERS)
    assert (name, status, len(params)) == ("transformers", "FINISHED", 251)
    assert (metrics["epoch"], histories["loss"], tags["team"]) == (2.0, 3, "nlp")
    assert files == ["checkpoint-3"]


def test_the_calls_of_mlflows_keras_callback(logged):
    name, [(status, params, _, _, histories, files, _)] = logged(KERAS)
    assert (name, status, params["optimizer_name"]) == ("keras", "FINISHED", "adam")
    assert histories == {"loss": 3, "validation_loss": 1}
    assert files == ["model_summary.txt"]
