"""What importing the package costs a new process: CPU seconds over a bare interpreter."""

from __future__ import annotations

import resource
import subprocess
import sys

from benchmarks.harness import Case, Measure, Target

RUNS = 5


def cpu_seconds(program: str) -> float:
    """Return the least CPU time of a few runs; what disturbs a run only adds."""
    spent = []
    for _ in range(RUNS):
        before = resource.getrusage(resource.RUSAGE_CHILDREN)
        subprocess.run([sys.executable, "-c", program], check=True)
        after = resource.getrusage(resource.RUSAGE_CHILDREN)
        spent.append(after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime)
    return min(spent)


def over_bare(program: str) -> float:
    return cpu_seconds(program) - cpu_seconds("")


def cases():
    yield Case(
        "import ops.foundation",
        {
            "ops-foundation": lambda: over_bare("import ops.foundation"),
            "every name of it": lambda: over_bare("from ops.foundation import *"),
            "asyncio": lambda: over_bare("import asyncio"),
        },
        (Target(at_most=0.025),),
        measure=Measure.RETURNED,
        rounds=5,
    )
