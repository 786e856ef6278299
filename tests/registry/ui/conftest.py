"""A store with something to see in it."""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Iterator
from pathlib import Path

import pytest

from ops.registry import MLOpsConfig, MLOpsContext, ModelStage, RunStatus


@dataclasses.dataclass
class Store:
    context: MLOpsContext
    experiment_id: str
    runs: list[str]
    live: str


def fill(path: Path, trials: int = 12) -> Store:
    path.mkdir()
    context = MLOpsContext(MLOpsConfig(storage_path=str(path), audit=True))
    tracker = context.experiment_tracker
    experiment = tracker.create_experiment("credit risk", "the loan book")
    runs = []
    for n in range(trials):
        run = tracker.start_run(experiment.experiment_id, f"trial-{n}", tags={"team": "ds"})
        tracker.log_parameters(run.run_id, {"depth": n % 3, "same": 1, "booster": "gbtree"})
        for step in range(50):
            tracker.log_metric(run.run_id, "loss", math.exp(-step / 10) + n / 100, step=step)
        tracker.log_metric(run.run_id, "auc", 0.8 + n / 100, step=0)
        tracker.end_run(run.run_id)
        runs.append(run.run_id)
    tracker.log_text(runs[0], "<b>text</b>", "notes/page.html")
    nested = tracker.start_run(experiment.experiment_id, "child", parent_run_id=runs[1])
    tracker.end_run(nested.run_id)
    odd = tracker.start_run(experiment.experiment_id, '<script>document.title="owned"</script>')
    tracker.log_metric(odd.run_id, "bad", math.nan, step=1)
    tracker.log_parameter(odd.run_id, "depth", "<img src=x onerror=alert(1)>")
    tracker.end_run(odd.run_id, RunStatus.FAILED)
    live = tracker.start_run(experiment.experiment_id, "live")
    tracker.log_metric(live.run_id, "loss", 1.0, step=0)
    model = path / "model.bin"
    model.write_bytes(b"weights")
    for n in range(3):
        context.model_registry.register_model(
            "credit/risk",
            model,
            "pickle",
            "sklearn",
            metrics={"auc": 0.9 + n / 100},
            experiment_run_id=runs[n],
        )
    context.model_registry.promote_model("credit/risk", 1, ModelStage.PRODUCTION)
    context.model_registry.promote_model("credit/risk", 2, ModelStage.PRODUCTION)
    return Store(context, experiment.experiment_id, runs, live.run_id)


@pytest.fixture
def store(tmp_path: Path) -> Iterator[Store]:
    filled = fill(tmp_path / "store")
    yield filled
    filled.context.cleanup()
