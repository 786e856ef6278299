"""The first trace of a new process, in an experiment of 100 000 traces: with the snapshot of its journal, and without.

A trace has 2 spans of 300 bytes here, and the usual tags and metadata. Figures are seconds after the imports, and the most
memory that the process had, with its imports.
"""

from __future__ import annotations

import json
import pathlib
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Callable, Iterator
from typing import Any

from benchmarks.harness import Case, Measure, Target
from ops.registry.traces.journal import TraceJournal

TRACES, SPANS, TOGETHER = 100_000, 2, 500
WITH, WITHOUT = "with a snapshot", "without: the journal from its beginning"
CHILD = """
import pathlib, sys, time
from ops.registry.traces.book import TraceBook
began = time.perf_counter()
found = TraceBook(pathlib.Path(sys.argv[1])).find(sys.argv[2])
assert found.tags["team"] == "ds"
taken = time.perf_counter() - began
status = pathlib.Path("/proc/self/status").read_text()
print(taken, int(status.partition("VmHWM:")[2].split()[0]) / 1024)
import os
os._exit(0)  # without waiting for a snapshot
"""


def cases() -> Iterator[Case]:
    """Yield the cases."""
    with tempfile.TemporaryDirectory() as folder:
        root = pathlib.Path(folder)
        fill(root / WITH / "1")
        (root / WITHOUT / "1").mkdir(parents=True)
        shutil.copy(root / WITH / "1" / "journal.log", root / WITHOUT / "1")
        for number, (name, unit, least) in enumerate(
            (("seconds", "seconds", 3.0), ("memory", "MB", 1.5))
        ):
            yield Case(
                f"the first trace of a new process among {TRACES}, {name}",
                {which: _opening(root / which, number) for which in (WITH, WITHOUT)},
                (Target(peer=WITHOUT, at_least=least),),
                measure=Measure.RETURNED,
                number=1,
                rounds=3,
                figure_unit=unit,
            )


def _opening(folder: pathlib.Path, number: int) -> Callable[[], float]:
    def call() -> float:
        command = [sys.executable, "-c", CHILD, str(folder), f"tr-{TRACES // 2}"]
        done = subprocess.run(command, check=True, capture_output=True, text=True)
        return float(done.stdout.split()[number])

    return call


def fill(folder: pathlib.Path) -> None:
    """Write the journal as stores do, and its snapshot."""
    journal = TraceJournal(folder)
    for start in range(0, TRACES, TOGETHER):
        journal.append_spans([_spans(number) for number in range(start, start + TOGETHER)])
    journal.close()


def _spans(number: int) -> tuple[dict[str, Any], list[bytes]]:
    content = json.dumps({"inputs": "what is the answer? " * 12, "n": number}).encode()
    seen = {
        "time": 1_790_000_000_000 + number,
        "end": 1_790_000_000_010 + number,
        "status": "OK",
        "request": "what is the answer? " * 4,
        "response": "the answer is 42 " * 4,
        "tags": {"mlflow.traceName": "ask", "team": "ds"},
        "defaults": {f"mlflow.key{n}": "value" * 4 for n in range(10)},
        "usage": {"total_tokens": 30},
        "cost": {},
    }
    rows = [
        [f"{n:016x}", None, f"step{n}", "CHAIN", "OK", number, number + 10, len(content), None]
        for n in range(SPANS)
    ]
    head = {"op": "spans", "id": f"tr-{number}", "seen": seen, "n": rows}
    return head, [content] * SPANS
