"""What the demo prints while it runs: chapters, facts, and a bar on a terminal."""

from __future__ import annotations

import sys
from time import monotonic

from ops.foundation.formatting import create_progress_bar, format_duration

__all__ = ["Console"]


class Console:
    """Prints to stdout; the bar goes to stderr, and only where it can be seen to move."""

    def __init__(self) -> None:
        self._start = monotonic()

    def chapter(self, package: str, text: str) -> None:
        """Begin a step: which package does what."""
        print(f"\n{package:20} {text}", flush=True)

    def fact(self, text: str) -> None:
        """Say what came out of a step."""
        print(f"{'':20} {text}", flush=True)

    def table(self, text: str) -> None:
        """Show a table below the facts."""
        print("\n" + "\n".join(f"{'':2}{line}".rstrip() for line in text.splitlines()), flush=True)

    def error(self, text: str) -> None:
        """Say in one line what went wrong."""
        print(f"ops-suite demo: {text}", file=sys.stderr, flush=True)

    def progress(self, done: int, total: int, what: str) -> None:
        """Show how far a long step is."""
        if sys.stderr.isatty():
            bar = create_progress_bar(done, total, prefix=f"{'':20} {what} ", width=30)
            print(f"\r{bar}", end="\n" if done == total else "", file=sys.stderr, flush=True)
        elif done == total or done % 4 == 0:
            self.fact(f"{what}: {done} of {total}")

    def elapsed(self) -> str:
        """Return how long the demo has been running."""
        return format_duration(monotonic() - self._start)
