"""Run the tests of each mutant: `python -m tests.mutants [WORD…]`. Exit 1 when one survives."""

from __future__ import annotations

import os
import subprocess
import sys
import tempfile
import time
from pathlib import Path

from tests.mutants.catalog import ROOT, Mutant, mutants

_TESTS_FAILED = 1
_LONGEST_SECONDS = 600


def main(words: list[str]) -> int:
    """Run those whose names hold all *words*; report each, and return the exit code."""
    chosen = [m for m in mutants() if all(w.lower() in m.name.lower() for w in words)]
    if not chosen:
        print(f"No mutant's name holds {words}.")
        return 2
    fates = []
    for mutant in chosen:
        start = time.perf_counter()
        fate = _fate(mutant)
        print(f"{fate:9} {time.perf_counter() - start:5.1f} s  {mutant.name}", flush=True)
        fates.append(fate)
    print(f"{fates.count('killed')} of {len(fates)} killed")
    return 0 if set(fates) == {"killed"} else 1


def _fate(mutant: Mutant) -> str:
    """Return "killed", "survived", or what is wrong with the entry."""
    problem = mutant.problem()
    if problem:
        return f"broken entry ({problem})"
    with tempfile.TemporaryDirectory(prefix="ops-mutant-") as folder:
        source = mutant.write(Path(folder, "src"))
        # First on the path: `ops` is a namespace, so the copy hides its original and no other package.
        paths = [str(source), os.environ.get("PYTHONPATH", "")]
        environment = {**os.environ, "PYTHONPATH": os.pathsep.join(filter(None, paths))}
        options = ["-x", "-q", "-p", "no:randomly", "-p", "no:cacheprovider", "--no-header"]
        command = [sys.executable, "-m", "pytest", *options, *mutant.tests]
        try:
            done = subprocess.run(
                command,
                cwd=ROOT,
                env=environment,
                capture_output=True,
                text=True,
                timeout=_LONGEST_SECONDS,
                check=False,
            )
        except subprocess.TimeoutExpired:
            return "killed"  # the tests hang with it, which no run would overlook
    if done.returncode == _TESTS_FAILED:
        return "killed"
    if done.returncode:
        return f"broken entry (pytest ended with {done.returncode}: {done.stdout[-300:]})"
    return "survived"


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
