"""Programs in processes of their own, which do at one time what is measured and print one number each."""

from __future__ import annotations

import contextlib
import subprocess
import sys


def together(program: str, processes: int, *arguments: object) -> list[float]:
    """Run *program* in so many processes at once, and return the number that each prints at its end.

    It gets its number and *arguments* as `sys.argv[1:]`, prints a line when it is ready, and begins when
    it can read a line from its standard input: so all have imported what they need before any begins.
    """
    with contextlib.ExitStack() as stack:
        running = [
            stack.enter_context(
                subprocess.Popen(
                    [sys.executable, "-c", program, str(number), *map(str, arguments)],
                    stdin=subprocess.PIPE,
                    stdout=subprocess.PIPE,
                    text=True,
                )
            )
            for number in range(processes)
        ]
        for process in running:
            process.stdout.readline()
        for process in running:
            process.stdin.write("go\n")
            process.stdin.flush()
        return [float(process.communicate()[0]) for process in running]
