"""One trial of the search, in a process of its own: train, log every epoch, track the run."""

from __future__ import annotations

import signal
import struct
from dataclasses import dataclass
from time import perf_counter, time_ns
from typing import TYPE_CHECKING, Any

import numpy as np

from ops.observe import ResourceMonitor
from ops.registry import init_mlops
from ops.serialize import dump

if TYPE_CHECKING:
    from pathlib import Path

    from ops.datalog import LogSink
    from ops.registry import ExperimentTracker
    from ops_suite.demo.data import SharedData

__all__ = ["EPOCHS", "SAMPLE", "TrialResult", "draw", "prepare_worker", "run_trial"]

EPOCHS = 30
#: What is logged for each epoch: epoch, loss, accuracy.
SAMPLE = struct.Struct("<Idd")


@dataclass(frozen=True)
class TrialResult:
    """What a trial came to; `epochs` holds (time in ns since 1970, seconds) of each."""

    number: int
    run_id: str
    parameters: dict[str, Any]
    accuracy: float
    model: Path
    epochs: tuple[tuple[int, float], ...]
    memory_peak_bytes: int


@dataclass(frozen=True)
class _Worker:
    data: SharedData
    sink: LogSink
    folder: Path
    experiment_id: str
    tracker: ExperimentTracker


_worker: _Worker


def prepare_worker(data: SharedData, sink: LogSink, folder: Path, experiment_id: str) -> None:
    """Set a worker process up: it shares the arrays, and writes log and runs by itself."""
    global _worker  # noqa: PLW0603 - what an initializer of a pool is for
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # the parent decides when to stop
    tracker = init_mlops(backend_type="local", storage_path=folder / "store").experiment_tracker
    _worker = _Worker(data, sink, folder, experiment_id, tracker)


def draw(count: int) -> list[dict[str, Any]]:
    """Return the parameters of *count* trials; the first is meant to be poor."""
    rng = np.random.default_rng(7)
    poor = {"alpha": 10.0, "eta0": 1e-6, "penalty": "l1"}
    drawn = (
        {
            "alpha": float(f"{10 ** rng.uniform(-5, -1):.2g}"),
            "eta0": float(f"{10 ** rng.uniform(-4, -1):.2g}"),
            "penalty": str(rng.choice(["l1", "l2", "elasticnet"])),
        }
        for _ in range(count - 1)
    )
    return [poor, *drawn]


def run_trial(number: int, parameters: dict[str, Any]) -> TrialResult:
    """Train with *parameters*; every epoch goes to the log and to the run as it ends."""
    from sklearn.linear_model import SGDClassifier

    model = SGDClassifier(loss="log_loss", learning_rate="constant", random_state=0, **parameters)
    tracker, rows = _worker.tracker, _worker.data.training[:]
    epochs: list[tuple[int, float]] = []
    accuracy = 0.0
    with (
        _worker.data.features.view() as features,
        _worker.data.labels.view() as labels,
        tracker.run_context(
            _worker.experiment_id, f"trial-{number:02}", parameters=parameters
        ) as run,
        ResourceMonitor() as resources,
    ):
        for epoch in range(EPOCHS):
            start = perf_counter()
            model.partial_fit(features[rows], labels[rows], classes=[0, 1])
            loss, accuracy = _judge(model, features[~rows], labels[~rows])
            epochs.append((time_ns(), perf_counter() - start))
            _worker.sink.log(number, epochs[-1][0], SAMPLE.pack(epoch, loss, accuracy))
            tracker.log_metrics(run.run_id, {"loss": loss, "accuracy": accuracy}, step=epoch)
        path = _worker.folder / "models" / f"{run.run_id}.opsf"
        dump(model, path, trust="user")  # an estimator is no data: signed with the key of this user
        tracker.log_artifact(run.run_id, path)
    return TrialResult(
        number,
        run.run_id,
        parameters,
        accuracy,
        path,
        tuple(epochs),
        resources.get_stats()["memory_peak_bytes"],
    )


def _judge(model: Any, features: np.ndarray, labels: np.ndarray) -> tuple[float, float]:
    """Return mean log loss, bounded, and accuracy."""
    likely = model.predict_proba(features)[np.arange(len(labels)), labels]
    loss = float(-np.log(np.clip(likely, 1e-9, 1)).mean())
    return loss, float((model.predict(features) == labels).mean())
