"""The keeper: starts the saver, and starts it again whenever it dies.

A thread that waits for the process to end, and so costs nothing. A saver that is killed is replaced at
once; one that ends by itself within a second, three times in a row, is an error and is given up.
"""

from __future__ import annotations

import subprocess
import sys
import threading
import time
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

_SHORT_SECONDS = 1.0
_SHORT_LIVES = 3


class Keeper:
    """Keeps one saver alive; *report* gets the text when that is hopeless."""

    def __init__(
        self,
        folder: Path,
        interval: float,
        threads: int,
        report: Callable[[str], None],
        *,
        lay_out: bool = False,
    ) -> None:
        self._command = [
            sys.executable, "-m", "ops.datalog.saver", str(folder),
            "--interval", repr(interval), "--threads", str(threads), *["--lay-out"] * lay_out,
        ]  # fmt: skip
        self._report = report
        self._guard = threading.Lock()
        self._ending = False
        self._process: subprocess.Popen[bytes] | None = self._launch()
        self.restarts: int = 0
        self._thread = threading.Thread(target=self._keep, name="ops.datalog.keeper", daemon=True)
        self._thread.start()

    @property
    def pid(self) -> int | None:
        """The process ID of the saver that runs now, None when there is none."""
        process = self._process
        return process.pid if process is not None and process.returncode is None else None

    def end(self) -> None:
        """End the saver for good. It is killed, since it holds nothing that could be lost."""
        with self._guard:
            self._ending = True
            if self._process is not None:
                self._process.kill()
        self._thread.join()

    def _launch(self) -> subprocess.Popen[bytes]:
        return subprocess.Popen(self._command, stdin=subprocess.PIPE)  # noqa: S603 - our own program

    def _keep(self) -> None:
        short, code = 0, 0
        while (process := self._process) is not None:
            began = time.monotonic()
            code = process.wait()
            if process.stdin is not None:
                process.stdin.close()
            by_itself = code >= 0  # else it is the number of the signal
            short = short + 1 if by_itself and time.monotonic() - began < _SHORT_SECONDS else 0
            with self._guard:
                if self._ending:
                    return
                if short >= _SHORT_LIVES:
                    self._process = None
                    break
                self.restarts += 1
                try:
                    self._process = self._launch()
                except OSError as error:
                    self._process = None
                    self._report(f"The saver ended, and no other could be started: {error}")
                    return
        self._report(f"The saver ended by itself {_SHORT_LIVES} times, last with code {code}.")
