"""What the demo prints while it runs: chapters, facts, and a bar on a terminal."""

from __future__ import annotations

import shutil
import sys
import textwrap
from time import monotonic

from ops.foundation.formatting import create_progress_bar, format_duration

__all__ = ["Console"]

#: Below so many columns the names of packages stand above their facts, not beside them.
_WIDE = 80


class Console:
    """Prints to stdout; the bar goes to stderr, and only where it can be seen to move."""

    def __init__(self) -> None:
        self._start = monotonic()
        self._columns = max(shutil.get_terminal_size((100, 24)).columns, 40)
        self._indent = " " * (21 if self._columns >= _WIDE else 4)

    def chapter(self, package: str, text: str) -> None:
        """Begin a step: which package does what."""
        if self._columns >= _WIDE:
            print()
            self._wrap(text, f"{package:20} ")
        else:
            print(f"\n{package}", flush=True)
            self._wrap(text, self._indent)

    def fact(self, text: str) -> None:
        """Report a result of the present step."""
        self._wrap(text, self._indent)

    def _wrap(self, text: str, first: str) -> None:
        lines = textwrap.wrap(
            text,
            self._columns,
            initial_indent=first,
            subsequent_indent=self._indent,
            break_long_words=False,
            break_on_hyphens=False,
        )
        print("\n".join(lines), flush=True)

    def line(self, text: str) -> None:
        """Show a path, an address or a command, to be pasted: a line of its own, however long."""
        print(f"  {text}", flush=True)

    def table(self, text: str) -> None:
        """Show a table below the facts."""
        print("\n" + "\n".join(f"{'':2}{line}".rstrip() for line in text.splitlines()), flush=True)

    def error(self, text: str) -> None:
        """Report in one line what went wrong."""
        print(f"ops-suite demo: {text}", file=sys.stderr, flush=True)

    def progress(self, done: int, total: int, what: str) -> None:
        """Show how far a long step is."""
        if sys.stderr.isatty():
            bar = create_progress_bar(done, total, prefix=f"{self._indent}{what} ", width=30)
            print(f"\r{bar}", end="\n" if done == total else "", file=sys.stderr, flush=True)
        elif done == total or done % 4 == 0:
            self.fact(f"{what}: {done} of {total}")

    def elapsed(self) -> str:
        """Return how long the demo has been running."""
        return format_duration(monotonic() - self._start)
