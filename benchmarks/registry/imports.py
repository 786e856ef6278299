"""Importing 2 000 runs of MLflow: a folder ``mlruns`` and its SQLite database, as ``ops-registry import`` reads them.

A run has 10 parameters, 4 tags, 5 metrics of 20 points each and an artifact. Figures are seconds of CPU time of the process that
imports, for the whole import; one that is repeated has nothing to bring. What the system alone takes for the files that
an import reads and writes is beside them: the source's opened and read, and as many written and renamed.
"""

from __future__ import annotations

import contextlib
import functools
import itertools
import os
import pathlib
import tempfile
import time
from collections.abc import Callable, Iterator
from typing import Any

from benchmarks.harness import Case, Measure, Target
from ops.registry import MLOpsConfig, MLOpsContext
from ops.registry.importing import foreign_store, import_foreign

RUNS, POINTS = 2_000, 20
PARAMETERS, METRICS = 10, 5
BASE = 1_790_000_000_000  # milliseconds
BARE = "the same files read and written by the system alone"


def cases() -> Iterator[Case]:
    """Yield the cases; those of a database need mlflow, which makes it."""
    with tempfile.TemporaryDirectory() as name:
        root = pathlib.Path(name)
        folder = root / "mlruns"
        make_folder(folder)
        yield _case("an mlruns folder", folder, {BARE: functools.partial(_bare, folder, root)})
        yield _again("an mlruns folder", folder, root)
        database = root / "database" / "mlflow.db"
        try:
            make_database(database, folder)
        except ImportError:
            print("pip install mlflow sqlalchemy alembic")
            return
        yield _case("a SQLite database", database, {})
        yield _again("a SQLite database", database, root)


def _case(what: str, source: pathlib.Path, beside: dict[str, Callable[[], float]]) -> Case:
    return Case(
        f"import of {RUNS} runs from {what}, CPU seconds",
        {"ops.registry": functools.partial(_import_anew, source)} | beside,
        (Target(at_most=10),),
        measure=Measure.RETURNED,
        number=1,
        rounds=2,
        warm=False,
    )


def _again(what: str, source: pathlib.Path, root: pathlib.Path) -> Case:
    store = root / f"again-{source.name}"
    _import(source, store)
    return Case(
        f"repeated import of {RUNS} runs from {what}, CPU seconds",
        {"ops.registry": lambda: _import(source, store)},
        measure=Measure.RETURNED,
        number=1,
        rounds=2,
        warm=False,
    )


def _import_anew(source: pathlib.Path) -> float:
    with tempfile.TemporaryDirectory() as store:
        return _import(source, pathlib.Path(store, "store"), runs=RUNS)


def _import(source: pathlib.Path, store: pathlib.Path, runs: int | None = None) -> float:
    began = time.process_time()
    with MLOpsContext(MLOpsConfig(storage_path=str(store))) as context:
        done = import_foreign(foreign_store(source), context)
    taken = time.process_time() - began
    assert not done.refused, done.refused[:3]
    assert runs is None or (done.runs, done.points, done.files) == (
        runs,
        runs * METRICS * POINTS,
        runs,
    )
    return taken


def _bare(source: pathlib.Path, root: pathlib.Path) -> float:
    """Return the CPU seconds of reading the source's files, and writing what an import leaves: a journal, a view, an artifact."""
    with tempfile.TemporaryDirectory(dir=root) as folder:
        began = time.process_time()
        for where, _, names in os.walk(source):
            for name in names:
                descriptor = os.open(f"{where}/{name}", os.O_RDONLY)
                os.fstat(descriptor)
                os.read(descriptor, 1 << 20)
                os.close(descriptor)
        for number, size in itertools.product(range(RUNS), (6_000, 6_000, 20)):
            path = f"{folder}/{number}-{size}"
            descriptor = os.open(f"{path}.tmp", os.O_WRONLY | os.O_CREAT | os.O_EXCL)
            os.write(descriptor, b"x" * size)
            os.close(descriptor)
            os.replace(f"{path}.tmp", path)
        return time.process_time() - began


def make_folder(root: pathlib.Path) -> None:
    """Write the runs as MLflow's file store does."""
    home = root / "1"
    home.mkdir(parents=True)
    (home / "meta.yaml").write_text(
        f"artifact_location: {home}\ncreation_time: {BASE}\nexperiment_id: '1'\n"
        f"last_update_time: {BASE}\nlifecycle_stage: active\nname: tuning\n"
    )
    for run in _runs():
        folder = home / run["id"]
        for kind in ("metrics", "params", "tags", "artifacts"):
            (folder / kind).mkdir(parents=True)
        (folder / "meta.yaml").write_text(
            f"artifact_uri: {folder}/artifacts\nend_time: {run['end']}\nentry_point_name: ''\n"
            f"experiment_id: '1'\nlifecycle_stage: active\nrun_id: {run['id']}\nrun_name: {run['name']}\n"
            f"source_name: ''\nsource_type: 4\nsource_version: ''\nstart_time: {run['start']}\n"
            f"status: 3\ntags: []\nuser_id: me\n"
        )
        for kind in ("params", "tags"):
            for key, value in run[kind].items():
                (folder / kind / key).write_text(value)
        for key, points in run["metrics"].items():
            lines = (f"{when} {value} {step}\n" for value, step, when in points)
            (folder / "metrics" / key).write_text("".join(lines))
        (folder / "artifacts" / "model.txt").write_text(f"weights of {run['name']}")


def make_database(path: pathlib.Path, files: pathlib.Path) -> None:
    """Put the same runs into a database of MLflow's, by its own table classes; artifacts are those in *files*."""
    from mlflow.store.tracking.dbmodels import models
    from mlflow.store.tracking.sqlalchemy_store import SqlAlchemyStore

    os.environ.setdefault("MLFLOW_DISABLE_TELEMETRY", "true")
    path.parent.mkdir()
    beside = path.parent / "mlruns"
    files.rename(beside)
    files.symlink_to(beside)
    store = SqlAlchemyStore(f"sqlite:///{path}", str(beside))
    experiment = store.create_experiment("tuning", artifact_location=str(beside / "1"))
    tables: dict[Any, list[dict[str, Any]]] = {
        kind: [] for kind in (models.SqlRun, models.SqlMetric, models.SqlParam, models.SqlTag)
    }
    runs, points, params, tags = tables.values()
    for run in _runs():
        key = {"run_uuid": run["id"]}
        runs.append(
            key
            | {
                "name": run["name"],
                "source_type": "LOCAL",
                "user_id": "me",
                "status": "FINISHED",
                "start_time": run["start"],
                "end_time": run["end"],
                "lifecycle_stage": "active",
                "artifact_uri": f"{beside}/1/{run['id']}/artifacts",
                "experiment_id": int(experiment),
            }
        )
        for name, history in run["metrics"].items():
            for value, step, when in history:
                point = {"key": name, "value": value, "timestamp": when, "step": step}
                points.append(key | point | {"is_nan": False})
        params += [key | {"key": k, "value": v} for k, v in run["params"].items()]
        tags += [key | {"key": k, "value": v} for k, v in run["tags"].items()]
    with store.ManagedSessionMaker() as session:
        for kind, rows in tables.items():
            session.bulk_insert_mappings(kind, rows)
    with contextlib.suppress(AttributeError):
        store.engine.dispose()


def _runs() -> Iterator[dict[str, Any]]:
    for number in range(RUNS):
        name, start = f"run-{number}", BASE + number * 60_000
        yield {
            "id": f"f{number:031x}",
            "name": name,
            "start": start,
            "end": start + 30_000,
            "params": {f"p{k}": str(number % (k + 7)) for k in range(PARAMETERS)},
            "tags": {
                "mlflow.runName": name,
                "mlflow.user": "me",
                "mlflow.source.name": "train.py",
                "mlflow.source.type": "LOCAL",
            },
            "metrics": {
                f"m{k}": [
                    (number / RUNS + step / 7, step, start + step * 100) for step in range(POINTS)
                ]
                for k in range(METRICS)
            },
        }
