"""Logging, runs and models, beside MLflow on SQLite where mlflow is installed."""

from __future__ import annotations

import functools
import itertools
import os
import pathlib
import tempfile
from collections.abc import Callable, Iterator
from typing import Any

from benchmarks.harness import Case, Target
from ops.registry import MLOpsConfig, MLOpsContext
from ops.registry.records import ModelStage

PEER = "MLflow on SQLite"


def cases() -> Iterator[Case]:
    """Yield the cases; without mlflow ours run alone, with no target to meet."""
    with tempfile.TemporaryDirectory() as folder:
        root = pathlib.Path(folder)
        ours, durable = _ours(root / "process"), _ours(root / "commit", durability="commit")
        peer = _mlflow(root)
        for name, least, number in (
            ("log_metric", 300, 200),
            ("log_batch of 100, per metric", 100, 20),
            ("create_run", 40, 20),
            ("run end to end", 60, 20),
            ("register_model", 15, 20),
            ("get_by_alias", 40, 20),
        ):
            contenders = {"ops.registry": ours[name]}
            targets: tuple[Target, ...] = ()
            if peer:
                contenders[PEER] = peer[name]
                targets = (Target(peer=PEER, at_least=least),)
            yield Case(
                name,
                contenders,
                targets,
                number=number,
                rounds=5,
                divide=100 if "100" in name else 1,
                packages=("mlflow-skinny",),
            )
        contenders = {"ops.registry, durability=commit": durable["log_metric"]}
        targets = ()
        if peer:
            contenders[PEER] = peer["log_metric"]
            targets = (Target(peer=PEER, at_least=30),)
        # What the disk asks for, below which nothing that flushes each frame can come.
        with (root / "bare.log").open("ab", buffering=0) as bare:
            contenders["write and fdatasync alone"] = functools.partial(_write_and_flush, bare)
            yield Case("log_metric, flushed to disk", contenders, targets, number=50, rounds=5)


def _write_and_flush(file: Any) -> None:
    file.write(b"x" * 90)
    os.fdatasync(file.fileno())


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

    hundred = [(f"m{k % 10}", 0.5, k // 10) for k in range(100)]
    return {
        "log_metric": lambda: tracker.log_metric(open_run, "loss", 0.5, step=next(steps)),
        "log_batch of 100, per metric": lambda: tracker.log_batch(open_run, hundred),
        "create_run": lambda: tracker.start_run(experiment),
        "register_model": lambda: registry.register_model("other", model, "binary", "none"),
        "run end to end": whole_run,
        "get_by_alias": lambda: registry.get_model_by_alias("m", "best"),
    }


def _mlflow(root: pathlib.Path) -> dict[str, Callable[[], Any]] | None:
    os.environ.setdefault("MLFLOW_DISABLE_TELEMETRY", "true")
    try:
        from mlflow.entities import Metric
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

    client.create_registered_model("other")

    def batch() -> None:
        base = next(steps) * 10
        hundred = [Metric(f"m{k % 10}", 0.5, 1, base + k // 10) for k in range(100)]
        client.log_batch(open_run, metrics=hundred)

    return {
        "log_metric": lambda: client.log_metric(open_run, "loss", 0.5, step=next(steps)),
        "log_batch of 100, per metric": batch,
        "create_run": lambda: client.create_run(experiment),
        # Without the copy of the artifact, which ours makes and flushes.
        "register_model": lambda: client.create_model_version("other", str(root), open_run),
        "run end to end": whole_run,
        "get_by_alias": lambda: client.get_model_version_by_alias("m", "best"),
    }
