"""Logging, runs and models, beside MLflow on SQLite where mlflow is installed."""

from __future__ import annotations

import fcntl
import itertools
import os
import pathlib
import tempfile
from collections.abc import Callable, Iterator
from typing import Any

from benchmarks.harness import Case, Target
from benchmarks.registry._mlflow_stores import lines
from ops.registry import MLOpsConfig, MLOpsContext
from ops.registry.records import ModelStage

PEER = "MLflow on SQLite"


def cases() -> Iterator[Case]:
    """Yield the cases; without mlflow ours run alone, with no target to meet."""
    with tempfile.TemporaryDirectory() as folder:
        root = pathlib.Path(folder)
        ours, durable = _ours(root / "process"), _ours(root / "commit", durability="commit")
        peer = _mlflow(root)
        bare = _bare(root / "bare")
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
            if name in bare:
                contenders["its system calls alone"] = bare[name]
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
        contenders["write and fdatasync alone"] = lines(root / "bare.log", (90,))
        yield Case("log_metric, flushed to disk", contenders, targets, number=50, rounds=5)


def _bare(root: pathlib.Path) -> dict[str, Callable[[], Any]]:
    """Return what the system alone takes for the calls that each operation makes: opens, locks, writes, renames, no more."""
    root.mkdir()
    journal = os.open(root / "journal.log", os.O_RDWR | os.O_APPEND | os.O_CREAT)
    lock = str(root / ".lock")
    numbers = itertools.count()

    def locked_append(size: int) -> None:
        descriptor = os.open(lock, os.O_RDWR | os.O_CREAT)
        os.fstat(descriptor)
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        os.fstat(descriptor)
        os.stat(lock)
        os.write(journal, b"x" * size)
        fcntl.flock(descriptor, fcntl.LOCK_UN)
        os.close(descriptor)

    def put(path: str, size: int) -> None:
        descriptor = os.open(f"{path}.tmp", os.O_WRONLY | os.O_CREAT | os.O_EXCL)
        os.write(descriptor, b"x" * size)
        os.close(descriptor)
        os.replace(f"{path}.tmp", path)

    def create_run() -> None:
        descriptor = os.open(f"{root}/{next(numbers)}.log", os.O_RDWR | os.O_APPEND | os.O_CREAT)
        os.write(descriptor, b"x" * 250)
        kept.append(descriptor)
        if len(kept) > 100:
            os.close(kept.pop(0))
        locked_append(500)

    def register_model() -> None:
        folder = f"{root}/v{next(numbers)}"
        os.mkdir(folder)
        put(f"{folder}/model.bin", 7)
        locked_append(400)
        put(f"{folder}.json", 600)

    kept: list[int] = []
    append = lines(root / "points.log", (3_300,), flushed=False)
    return {
        "create_run": create_run,
        "register_model": register_model,
        "log_batch of 100, per metric": append,
    }


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
