"""The same code of MLflow's client on ``ops-registry://`` and on MLflow's own SQLite store.

The targets are on the store that flushes each call to disk (``?durability=commit``), as SQLite does.
What the disk takes for that alone is measured beside them: the lines that an operation appends to journals (a run and its row in
the index, a call of the 17 of a whole run), each flushed.
"""

from __future__ import annotations

import itertools
import pathlib
from collections.abc import Callable, Iterator
from typing import Any

from benchmarks.harness import Case, Target
from benchmarks.registry import _mlflow_stores as stores
from benchmarks.registry._mlflow_stores import PEER

DISK = "its lines and their flushes, nothing else"
OURS, THEIRS = "by the columns of the index", "by MLflow's own code, all rows"
RUNS, MANY = 300, 10_000
#: Per operation: how many times faster at least, and how many calls are timed together.
ASKED = {
    "log_metric": (20, 30),
    "log_batch of 100, per metric": (20, 5),
    "create_run": (20, 10),
    "run end to end": (20, 5),
    "get_metric_history of 1000": (None, 3),
    "search_runs with a filter": (None, 3),
    "create_model_version": (None, 10),
    "get_model_version_by_alias": (None, 20),
}
#: The lengths of the lines that an operation appends and flushes: less cannot be done where each call waits for the disk.
LINES = {
    "log_metric": (60,),
    "log_batch of 100, per metric": (5_000,),
    "create_run": (400, 500),
    "run end to end": (400, 500, *[100] * 15, 100),
}


def cases() -> Iterator[Case]:
    """Yield the cases; without mlflow there is nothing to measure."""
    if not stores.is_there():
        return
    with stores.opened(_operations) as (root, of):
        for name, (least, number) in ASKED.items():
            sizes = LINES.get(name)
            beside = {} if sizes is None else {DISK: stores.lines(root / name, sizes)}
            targets = () if least is None else (Target(peer=PEER, at_least=least),)
            yield Case(
                name,
                {who: operations[name] for who, operations in of.items()} | beside,
                targets,
                number=number,
                rounds=5,
                divide=100 if "100," in name else 1,
                packages=("mlflow-skinny", "sqlalchemy"),
            )
        yield from _searches(root / "searched")


def _searches(root: pathlib.Path) -> Iterator[Case]:
    """Yield searches of a page among many runs, by columns and as MLflow's file store does it."""
    from mlflow import MlflowClient
    from mlflow.utils.search_utils import SearchUtils

    from ops.registry import MLOpsConfig, MLOpsContext
    from ops.registry.mlflow.entities import Seen, to_run

    with MLOpsContext(MLOpsConfig("local", str(root))) as context:
        tracker = context.experiment_tracker
        experiment = tracker.create_experiment("many").experiment_id
        for number in range(MANY):
            run = tracker.start_run(experiment, parameters={"depth": number % 7})
            tracker.log_metric(run.run_id, "auc", number * 7919 % MANY / MANY)
            tracker.end_run(run.run_id)
        tracker.compact()
    client = MlflowClient(f"ops-registry://{root}", f"ops-registry://{root}")
    book = client._tracking_client.store.book

    def by_their_code(asked: str, order: list[str]) -> list[Any]:
        home = book.experiment(experiment)
        seen = [Seen(row, home, book.artifacts) for row in book.rows(experiment)]
        return [
            to_run(one) for one in SearchUtils.sort(SearchUtils.filter(seen, asked), order)[:100]
        ]

    for asked, order in (("", "metrics.auc DESC"), ("params.depth = '3'", "metrics.auc ASC")):
        yield Case(
            f"search_runs: 100 of {MANY}, {asked or 'all'} by {order}",
            {
                OURS: lambda asked=asked, order=order: client.search_runs(
                    [experiment], asked, max_results=100, order_by=[order]
                ),
                THEIRS: lambda asked=asked, order=order: by_their_code(asked, [order]),
            },
            (Target(peer=THEIRS, at_least=20),),
            rounds=5,
            packages=("mlflow-skinny", "pyarrow"),
        )


def _operations(uri: str, root: pathlib.Path) -> dict[str, Callable[[], Any]]:
    from mlflow import MlflowClient
    from mlflow.entities import Metric, Param

    client = MlflowClient(uri, uri)
    experiment = client.create_experiment("bench", artifact_location=str(root / "artifacts"))
    open_run = client.create_run(experiment).info.run_id
    long_run = client.create_run(experiment).info.run_id
    client.log_batch(long_run, [Metric("loss", 0.5, 1, step) for step in range(1000)])
    many = client.create_experiment("many", artifact_location=str(root / "artifacts"))
    for number in range(RUNS):
        run = client.create_run(many).info.run_id
        client.log_batch(run, [Metric("auc", number / RUNS, 1, 0)], [Param("depth", str(number))])
        client.set_terminated(run)
    client.create_registered_model("m")
    client.create_model_version("m", str(root), open_run)
    client.set_registered_model_alias("m", "best", "1")
    client.create_registered_model("other")
    steps = itertools.count()

    def batch() -> None:
        base = next(steps) * 10
        hundred = [Metric(f"m{k % 10}", 0.5, 1, base + k // 10) for k in range(100)]
        client.log_batch(open_run, hundred)

    def whole_run() -> None:
        run = client.create_run(experiment, tags={"a": "b"}).info.run_id
        for k in range(10):
            client.log_param(run, f"p{k}", k)
        for k in range(5):
            client.log_metric(run, f"m{k}", 0.5)
        client.set_terminated(run)

    return {
        "log_metric": lambda: client.log_metric(open_run, "loss", 0.5, step=next(steps)),
        "log_batch of 100, per metric": batch,
        "create_run": lambda: client.create_run(experiment),
        "run end to end": whole_run,
        "get_metric_history of 1000": lambda: client.get_metric_history(long_run, "loss"),
        "search_runs with a filter": lambda: client.search_runs([many], "metrics.auc > 0.95"),
        "create_model_version": lambda: client.create_model_version("other", str(root), open_run),
        "get_model_version_by_alias": lambda: client.get_model_version_by_alias("m", "best"),
    }
