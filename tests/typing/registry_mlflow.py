"""How users call ops.registry.mlflow."""

from __future__ import annotations

import pathlib
from collections.abc import Coroutine
from concurrent.futures import ThreadPoolExecutor
from typing import Any, assert_type

import pandas as pd
from mlflow import MlflowClient
from mlflow.entities import Run
from mlflow.entities.model_registry import ModelVersion

from ops.registry.mlflow import (
    MLflowCopy,
    MLflowHelper,
    MLflowPipelineTracker,
    OpsTrackingStore,
    TrackedRun,
    export_mlflow,
    import_mlflow,
    mlflow_track,
)

ADDRESS = "ops-registry:///data/mlops"


@mlflow_track("tuning", ADDRESS, tags={"team": "ds"})
def fit(depth: int, rate: float = 0.5) -> dict[str, float]:
    return {"auc": depth * rate}


@mlflow_track("scoring", ADDRESS, run_name="nightly", log_arguments=False)
async def score(rows: list[float]) -> float:
    return sum(rows)


def tune() -> str:
    assert_type(fit(3, rate=0.1), dict[str, float])
    scored: Coroutine[Any, Any, float] = score([0.5])
    scored.close()
    helper = MLflowHelper(ADDRESS)
    best = helper.best_run("tuning", "auc", filter_string="params.depth = '3'")
    assert_type(best, Run | None)
    if best is None:
        return helper.get_or_create_experiment("tuning", {"owner": "Ann"})
    assert_type(helper.client, MlflowClient)
    made = helper.register("credit", best.info.run_id, aliases=["champion"])
    assert_type(made, ModelVersion)
    return made.version


def pipeline(frame: pd.DataFrame, parts: list[str]) -> dict[str, int]:
    tracker = MLflowPipelineTracker("nightly", "http://127.0.0.1:5000", tags={"team": "ds"})
    with tracker.pipeline("train", {"rows": len(frame)}, trigger="cron") as run:
        assert_type(run, TrackedRun)
        run.helper.log_dataframe(run.run_id, frame, "input")

        def node(part: str) -> int:
            with tracker.node(part, run, {"part": part}) as inner:
                inner.log_metrics({"rows": {"in": 10, "out": 9}}, step=1)
                inner.set_tag("part", part)
                return 9

        with ThreadPoolExecutor() as pool:
            done = dict(zip(parts, pool.map(node, parts), strict=True))
        run.log_artifact("report.html", "reports")
    by_hand = tracker.start("backfill")
    tracker.end(by_hand, error=ValueError("no data"))
    return done


def told(done: int, of: int) -> None:
    print(f"{done} of {of}")


def move(folder: pathlib.Path) -> tuple[int, list[str]]:
    done = import_mlflow("sqlite:///mlflow.db", folder, experiments=["tuning"], progress=told)
    assert_type(done, MLflowCopy)
    back = export_mlflow("http://127.0.0.1:5000", str(folder), models=["credit"])
    return done.runs + back.versions, back.unresolved


def by_the_store(folder: pathlib.Path) -> str:
    store = OpsTrackingStore(f"ops-registry://{folder}?durability=commit", "s3://bucket/artifacts")
    experiment = store.create_experiment("tuning")
    assert_type(experiment, str)
    run = store.create_run(experiment, "ann", None, None, "first")
    assert_type(run, Run)
    return str(run.info.run_id)
