"""Logging, runs and models, beside MLflow on SQLite where mlflow is installed."""

from __future__ import annotations

import itertools
import os
import pathlib
import tempfile
from collections.abc import Callable, Iterator
from typing import Any

from benchmarks.harness import Case, Target
from ops.registry.context import MLOpsConfig, MLOpsContext
from ops.registry.records import ModelStage

PEER = "MLflow on SQLite"


def cases() -> Iterator[Case]:
    """Yield the cases; without mlflow ours run alone, with no target to meet."""
    with tempfile.TemporaryDirectory() as folder:
        root = pathlib.Path(folder)
        ours, durable = _ours(root / "process"), _ours(root / "commit", durability="commit")
        peer = _mlflow(root)
        number = 20
        for name, least in (("log_metric", 300), ("run end to end", 60), ("get_by_alias", 40)):
            contenders = {"ops.registry": ours[name]}
            targets: tuple[Target, ...] = ()
            if peer:
                contenders[PEER] = peer[name]
                targets = (Target(peer=PEER, at_least=least),)
            yield Case(
                name, contenders, targets, number=number, rounds=5, packages=("mlflow-skinny",)
            )
        contenders = {"ops.registry, durability=commit": durable["log_metric"]}
        targets = ()
        if peer:
            contenders[PEER] = peer["log_metric"]
            targets = (Target(peer=PEER, at_least=30),)
        yield Case("log_metric, flushed to disk", contenders, targets, number=number, rounds=5)


def _ours(path: pathlib.Path, durability: str = "process") -> dict[str, Callable[[], Any]]:
    context = MLOpsContext(MLOpsConfig(storage_path=str(path), durability=durability))
    tracker, registry = context.experiment_tracker, context.model_registry
    experiment = tracker.create_experiment("bench").experiment_id
    open_run = tracker.start_run(experiment).run_id
    model = path / "model.bin"
    model.write_bytes(b"weights")
    registry.register_model("m", model, "binary", "none")
    registry.promote_model("m", 1, ModelStage.PRODUCTION)
    registry.set_alias("m", "best", 1)
    steps = itertools.count()

    def whole_run() -> None:
        with tracker.run_context(experiment, tags={"a": "b"}) as run:
            tracker.log_parameters(run.run_id, {f"p{k}": k for k in range(10)})
            for k in range(5):
                tracker.log_metric(run.run_id, f"m{k}", 0.5)

    return {
        "log_metric": lambda: tracker.log_metric(open_run, "loss", 0.5, step=next(steps)),
        "run end to end": whole_run,
        "get_by_alias": lambda: registry.get_model_by_alias("m", "best"),
    }


def _mlflow(root: pathlib.Path) -> dict[str, Callable[[], Any]] | None:
    os.environ.setdefault("MLFLOW_DISABLE_TELEMETRY", "true")
    try:
        from mlflow.tracking import MlflowClient
    except ImportError:
        return None
    uri = f"sqlite:///{root}/mlflow.db"
    client = MlflowClient(tracking_uri=uri, registry_uri=uri)
    experiment = client.create_experiment("bench", artifact_location=str(root / "mlartifacts"))
    open_run = client.create_run(experiment).info.run_id
    client.create_registered_model("m")
    client.create_model_version("m", source=str(root / "mlartifacts"), run_id=open_run)
    client.set_registered_model_alias("m", "best", "1")
    steps = itertools.count()

    def whole_run() -> None:
        run = client.create_run(experiment, tags={"a": "b"}).info.run_id
        for k in range(10):
            client.log_param(run, f"p{k}", k)
        for k in range(5):
            client.log_metric(run, f"m{k}", 0.5)
        client.set_terminated(run)

    return {
        "log_metric": lambda: client.log_metric(open_run, "loss", 0.5, step=next(steps)),
        "run end to end": whole_run,
        "get_by_alias": lambda: client.get_model_version_by_alias("m", "best"),
    }
