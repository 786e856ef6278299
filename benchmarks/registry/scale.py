"""Searching and creating at 100, 1 000, 10 000 and 100 000 runs, beside MLflow on SQLite up to 10 000.

The runs are put into both stores in bulk, since MLflow needs about 40 ms to make one: into ours as
rows of the index, into MLflow's by its own table classes. Long runs and lists are in `_large_runs`. Each has 5 metrics, 5 parameters and a tag.
"Cold" opens the store anew in this process; "fresh process" includes the interpreter's imports.
"""

from __future__ import annotations

import itertools
import os
import pathlib
import random
import subprocess
import sys
import tempfile
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any

from benchmarks.harness import Case, Growth, Measure, Target, decades
from benchmarks.registry import _large_runs
from ops.registry import MLOpsConfig, MLOpsContext
from ops.registry.tracking.run_state import RunState

PEER = "MLflow on SQLite"
SIZES = {"runs": decades(100, 100_000)}
LARGEST, LARGEST_PEER = SIZES["runs"][-1], 10_000
LISTED = 20_000
BASE = 1_700_000_000_000  # milliseconds

FRESH = """
import sys, time
began = time.perf_counter()
from ops.registry import MLOpsConfig, MLOpsContext
tracker = MLOpsContext(MLOpsConfig(storage_path=sys.argv[1])).experiment_tracker
imported = time.perf_counter()
found = tracker.search_runs(sys.argv[2], filter="metrics.m1 > 0.9 and params.p1 = '3'", limit=100)
assert found
print(time.perf_counter() - imported)
"""
MEMORY = """
import pathlib, sys
from ops.registry import MLOpsConfig, MLOpsContext
tracker = MLOpsContext(MLOpsConfig(storage_path=sys.argv[1])).experiment_tracker
if sys.argv[3] == "search":
    tracker.search_runs(sys.argv[2], filter="metrics.m1 > 0.9 and params.p1 = '3'", limit=100)
    tracker.search_runs(sys.argv[2], order_by="metrics.m2 DESC", limit=10)
else:
    run = tracker.start_run(sys.argv[2])
    tracker.log_metric(run.run_id, "m", 1.0)
    tracker.end_run(run.run_id)
# Not ru_maxrss, which begins with the memory of the process that forked this one.
status = pathlib.Path("/proc/self/status").read_text()
print(int(status.partition("VmHWM:")[2].split()[0]) / 1024)
"""


def cases(sizes: Mapping[str, Sequence[int]] = SIZES) -> Iterator[Case]:
    """Yield the cases of each size, smallest first."""
    runs = sizes["runs"]
    with tempfile.TemporaryDirectory() as folder:
        root = pathlib.Path(folder)
        starts: dict[str, Callable[[], Any]] = {}
        for size in runs:
            ours = _Ours(root / f"ours-{size}", size)
            peer = _peer(root / f"mlflow-{size}.db", size) if size <= LARGEST_PEER else None
            yield from _searches(size, ours, peer)
            starts[f"{size} runs"] = ours.start
        # The harness says how many times better the first is: at least 1/1.5 of the others' time.
        first = f"{runs[-1]} runs"
        yield Case(
            f"create_run at {first}, beside fewer",
            {first: starts[first]} | {k: v for k, v in starts.items() if k != first},
            (Target(peer=f"{runs[0]} runs", at_least=1 / 1.5),),
            number=50,
        )
        yield from _large_runs.cases(_Ours(root / "ours-listed", LISTED).list)


def _searches(size: int, ours: _Ours, peer: _Peer | None) -> Iterator[Case]:
    large = size == LARGEST
    at_10k = size == LARGEST_PEER
    curve: dict[str, Any] = {"size": size, "unit": "runs", "growth": Growth.LINEAR}
    flat = curve | {"growth": Growth.FLAT}
    for name, warm, cold, faster, faster_cold in (
        ("filter", ours.filter, ours.filter_cold, 25, 2),
        ("order_by metric", ours.order, ours.order_cold, 1000, 100),
    ):
        for kind, call, least in (("warm", warm, faster), ("cold", cold, faster_cold)):
            contenders: dict[str, Callable[[], Any]] = {"ops.registry": call}
            targets: list[Target] = []
            if peer is not None:
                attribute = ("filter" if name == "filter" else "order") + (
                    "_cold" if kind == "cold" else ""
                )
                contenders[PEER] = getattr(peer, attribute)
                targets += [Target(peer=PEER, at_least=least)] if at_10k else []
            if large and name == "filter":
                targets.append(Target(at_most=0.05 if kind == "warm" else 0.5))
            yield Case(
                f"{name}, {kind}",
                contenders,
                tuple(targets),
                number=1 if kind == "cold" else 3,
                rounds=5,
                **(flat if (name, kind) == ("order_by metric", "warm") else curve),
            )
    yield Case(
        "a filter never asked before, warm",
        {"ops.registry": ours.new_filter},
        (Target(at_most=0.05),) if large else (),
        number=3,
        rounds=5,
        **curve,
    )
    yield Case("create_run", {"ops.registry": ours.start}, number=50, rounds=5, **flat)
    for name, call, unit, grows in (
        ("filter in a fresh process, seconds after the imports", ours.fresh, "seconds", curve),
        ("memory of a process that searched, MB", lambda: ours.memory("search"), "MB", curve),
        ("memory of a process that only logged, MB", lambda: ours.memory("log"), "MB", flat),
    ):
        yield Case(
            name,
            {"ops.registry": call},
            measure=Measure.RETURNED,
            rounds=3,
            **grows | {"figure_unit": unit},
        )
    yield Case(
        "index on disk, bytes per run",
        {"ops.registry": ours.bytes_per_run},
        measure=Measure.RETURNED,
        rounds=1,
        **flat | {"figure_unit": "bytes"},
    )
    if size == 1_000:
        contenders = {"ops.registry": ours.files}
        yield Case("files per run", contenders, measure=Measure.RETURNED, rounds=1)


class _Ours:
    def __init__(self, path: pathlib.Path, size: int) -> None:
        self.path, self.size = path, size
        self.tracker = MLOpsContext(MLOpsConfig(storage_path=str(path))).experiment_tracker
        self.experiment = self.tracker.create_experiment("bench").experiment_id
        index = self._index()
        for number, values in enumerate(_runs(size)):
            index.put(_row(self.experiment, number, values))
        index.close()
        index.compact()
        self.numbers = itertools.count()

    def _filter(self, tracker: Any) -> None:
        found = tracker.search_runs(
            self.experiment, filter="metrics.m1 > 0.9 and params.p1 = '3'", limit=100
        )
        assert found

    def filter(self) -> None:
        self._filter(self.tracker)

    def new_filter(self) -> None:
        bound = 0.9 + next(self.numbers) * 1e-6
        text = f"metrics.m1 > {bound} and params.p1 = '3' and tags.team like 'd%'"
        assert self.tracker.search_runs(self.experiment, filter=text, limit=100)

    def _order(self, tracker: Any) -> None:
        assert len(tracker.search_runs(self.experiment, order_by="metrics.m2 DESC", limit=10)) == 10

    def order(self) -> None:
        self._order(self.tracker)

    def filter_cold(self) -> None:
        self._filter(MLOpsContext(MLOpsConfig(storage_path=str(self.path))).experiment_tracker)

    def order_cold(self) -> None:
        self._order(MLOpsContext(MLOpsConfig(storage_path=str(self.path))).experiment_tracker)

    def list(self) -> None:
        assert len(self.tracker.list_runs(self.experiment)) == self.size

    def start(self) -> None:
        self.tracker.start_run(self.experiment)

    def fresh(self) -> float:
        return _child(FRESH, self.path, self.experiment)

    def memory(self, what: str) -> float:
        return _child(MEMORY, self.path, self.experiment, what)

    def bytes_per_run(self) -> float:
        return self._index().parquet.stat().st_size / self.size

    def _index(self) -> Any:
        runs: Any = self.tracker._runs  # of files, behind the port
        return runs.index(self.experiment)

    def files(self) -> float:
        folder = self.path / f"more-{next(self.numbers)}"
        with MLOpsContext(MLOpsConfig(storage_path=str(folder))) as context:
            tracker = context.experiment_tracker
            experiment = tracker.create_experiment("files").experiment_id
            for _ in range(100):
                with tracker.run_context(experiment) as run:
                    tracker.log_metric(run.run_id, "m", 1.0)
        return sum(len(files) for _, _, files in os.walk(folder)) / 100


class _Peer:
    def __init__(self, path: pathlib.Path, size: int) -> None:
        from mlflow.store.tracking.sqlalchemy_store import SqlAlchemyStore

        self.uri, self.artifacts = f"sqlite:///{path}", str(path.parent)
        self.store = SqlAlchemyStore(self.uri, self.artifacts)
        self.experiment = self.store.create_experiment("bench")
        self._fill(size)

    def _fill(self, size: int) -> None:
        from mlflow.store.tracking.dbmodels import models

        tables: dict[Any, list[dict[str, Any]]] = {
            kind: []
            for kind in (
                models.SqlRun,
                models.SqlMetric,
                models.SqlLatestMetric,
                models.SqlParam,
                models.SqlTag,
            )
        }
        runs, points, latest, params, tags = tables.values()
        for number, (metrics, parameters) in enumerate(_runs(size)):
            run = {"run_uuid": f"{number:032x}"}
            runs.append(
                run
                | {
                    "name": f"run-{number}",
                    "source_type": "LOCAL",
                    "user_id": "me",
                    "status": "FINISHED",
                    "start_time": BASE + number,
                    "end_time": BASE + number + 5,
                    "lifecycle_stage": "active",
                    "artifact_uri": f"{self.artifacts}/{number}",
                    "experiment_id": int(self.experiment),
                }
            )
            for key, value in metrics.items():
                point = {"key": key, "value": value, "timestamp": BASE, "step": 0, "is_nan": False}
                points.append(run | point)
                latest.append(run | point)
            params += [run | {"key": k, "value": v} for k, v in parameters.items()]
            tags.append(run | {"key": "team", "value": "ds"})
        with self.store.ManagedSessionMaker() as session:
            for kind, rows in tables.items():
                session.bulk_insert_mappings(kind, rows)

    def _search(self, store: Any, text: str, order: list[str] | None, limit: int) -> None:
        from mlflow.entities import ViewType

        found = store.search_runs([self.experiment], text, ViewType.ACTIVE_ONLY, limit, order)
        assert found

    def _again(self) -> Any:
        from mlflow.store.tracking.sqlalchemy_store import SqlAlchemyStore

        return SqlAlchemyStore(self.uri, self.artifacts)

    def filter(self) -> None:
        self._search(self.store, "metrics.m1 > 0.9 and params.p1 = '3'", None, 100)

    def filter_cold(self) -> None:
        self._search(self._again(), "metrics.m1 > 0.9 and params.p1 = '3'", None, 100)

    def order(self) -> None:
        self._search(self.store, "", ["metrics.m2 DESC"], 10)

    def order_cold(self) -> None:
        self._search(self._again(), "", ["metrics.m2 DESC"], 10)


def _peer(path: pathlib.Path, size: int) -> _Peer | None:
    os.environ.setdefault("MLFLOW_DISABLE_TELEMETRY", "true")
    try:
        return _Peer(path, size)
    except ImportError:
        return None


def _runs(size: int) -> Iterator[tuple[dict[str, float], dict[str, str]]]:
    chance = random.Random(size)
    for _ in range(size):
        metrics = {f"m{k}": chance.random() for k in range(5)}
        yield metrics, {f"p{k}": str(chance.randrange(5)) for k in range(5)}


def _row(experiment: str, number: int, values: tuple[dict[str, float], dict[str, str]]) -> Any:
    metrics, parameters = values
    state = RunState(keep_history=False)
    when = (BASE + number) * 1_000_000
    start = {"e": "start", "v": 1, "run": f"{number:032x}", "exp": experiment, "parent": None}
    state.apply(start | {"name": f"run-{number}", "t": when, "tags": {"team": "ds"}, "o": None})
    state.apply({"p": parameters, "t": when})
    state.apply({"m": [[key, value, 0, when] for key, value in metrics.items()]})
    state.apply({"e": "end", "status": "COMPLETED", "t": when + 5_000_000, "error": None})
    return state.row


def _child(program: str, *words: Any) -> float:
    command = [sys.executable, "-c", program, *map(str, words)]
    return float(subprocess.run(command, check=True, capture_output=True, text=True).stdout)
