"""What users wait for with long runs and many of them: ends, live runs, lists, the first run of a process.

`scale` yields these cases too. Each figure is seconds of CPU time of the process that waits, except where a fresh
process is started, which reports its own.
"""

from __future__ import annotations

import contextlib
import pathlib
import subprocess
import sys
import tempfile
import time
from typing import TYPE_CHECKING, Any

from benchmarks.harness import Case, Measure, Target
from ops.registry import MLOpsConfig, MLOpsContext

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

POINTS, EXPERIMENTS = 1_000_000, 3_000
_BATCH = 1000
FIRST = """
import sys, time
from ops.registry import MLOpsConfig, MLOpsContext
tracker = MLOpsContext(MLOpsConfig(storage_path=sys.argv[1])).experiment_tracker
began = time.process_time()
tracker.get_run(sys.argv[2])
print(time.process_time() - began)
"""


def cases(listing: Callable[[], Any]) -> Iterator[Case]:
    """Yield the cases; *listing* lists a store of 20 000 runs."""
    with tempfile.TemporaryDirectory() as folder, contextlib.ExitStack() as stack:
        root = pathlib.Path(folder)

        def tracker(name: str) -> Any:
            config = MLOpsConfig(storage_path=str(root / name))
            return stack.enter_context(MLOpsContext(config)).experiment_tracker

        long = _LongRun(tracker("long"), tracker("long"))
        yield _case(
            "get_run of a live run of 1 000 000 points after a heartbeat", long.beaten, 0.005
        )
        yield _case(
            "get_run of a live run of 1 000 000 points after one more", long.one_more, 0.005
        )
        # Once: a run ends once, and logging another million takes longer than all the rest.
        yield _case("end_run of a run of 1 000 000 points in its process", long.end, 0.05, rounds=1)
        yield _case("list_runs at 20 000 runs", listing, 0.1, measure=Measure.CPU)
        first = _FirstRun(root / "many", tracker("many"))
        yield _case(f"first get_run of a process at {EXPERIMENTS} experiments", first.read, 0.01)


def _case(
    name: str,
    call: Callable[[], Any],
    at_most: float,
    *,
    measure: Measure = Measure.RETURNED,
    rounds: int = 5,
) -> Case:
    return Case(
        f"{name}, CPU seconds",
        {"ops.registry": call},
        (Target(at_most=at_most),),
        measure=measure,
        number=1,
        rounds=rounds,
        warm=measure is Measure.CPU,
    )


class _LongRun:
    """A run with a million points, in the process that logs it and as another tracker sees it."""

    def __init__(self, writer: Any, reader: Any) -> None:
        self.writer, self.reader = writer, reader
        experiment = writer.create_experiment("long").experiment_id
        self.run_id = writer.start_run(experiment).run_id
        for start in range(0, POINTS, _BATCH):
            steps = range(start, start + _BATCH)
            writer.log_batch(self.run_id, [(f"m{step % 5}", step / 7, step) for step in steps])
        reader.get_run(self.run_id)

    def beaten(self) -> float:
        self.writer._runs._open.heartbeat.send()
        return _seconds(self.reader.get_run, self.run_id)

    def one_more(self) -> float:
        self.writer.log_metric(self.run_id, "m0", 1.0, POINTS)
        return _seconds(self.reader.get_run, self.run_id)

    def end(self) -> float:
        return _seconds(self.writer.end_run, self.run_id)


class _FirstRun:
    """A store of many experiments, and a run in the one that was made first."""

    def __init__(self, path: pathlib.Path, tracker: Any) -> None:
        self.path = path
        made = [tracker.create_experiment(f"e{k}").experiment_id for k in range(EXPERIMENTS)]
        self.run_ids = [tracker.start_run(one).run_id for one in made]

    def read(self) -> float:
        command = [sys.executable, "-c", FIRST, str(self.path), self.run_ids[0]]
        return float(subprocess.run(command, check=True, capture_output=True, text=True).stdout)


def _seconds(call: Callable[..., Any], *arguments: Any) -> float:
    began = time.process_time()
    call(*arguments)
    return time.process_time() - began
