"""The supervisor: starts the saver, and starts it again whenever it dies.

The saver must not depend on what lies in the user's current folder, nor run it. So Python is started with
`-P`, without PYTHONPATH, and is handed what this process imports: the portions of the package `ops` as
they are, and behind its own search path whatever else this process has on its one.

A thread that waits for the process to end, and so costs nothing. A saver that is killed is replaced at
once; one that ends by itself within a second, three times in a row, is an error and is given up.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
import threading
import time
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Callable

_NOT_PASSED_ON = {"PYTHONPATH", "PYTHONSTARTUP", "PYTHONINSPECT"}
_SHORT_SECONDS = 1.0
_SHORT_LIVES = 3


class Supervisor:
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
            *_isolated("ops.datalog.saver"), str(folder),
            "--interval", repr(interval), "--threads", str(threads), *["--lay-out"] * lay_out,
        ]  # fmt: skip
        self._report = report
        self._guard = threading.Lock()
        self._ending = False
        self._process: subprocess.Popen[bytes] | None = self._launch()
        self.restarts: int = 0
        self._thread = threading.Thread(
            target=self._keep, name="ops.datalog._supervisor", daemon=True
        )
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
        environment = {k: v for k, v in os.environ.items() if k not in _NOT_PASSED_ON}
        return subprocess.Popen(  # noqa: S603 - our own program
            self._command, stdin=subprocess.PIPE, env=environment, cwd="/"
        )

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


_START = """\
import importlib, json, sys, types
given = json.loads(sys.argv.pop(1))
ops = sys.modules["ops"] = types.ModuleType("ops")
ops.__path__ = given["ops"]
sys.path += [entry for entry in given["path"] if entry not in sys.path]
importlib.import_module(given["module"]).main()
"""


def _isolated(module: str) -> list[str]:
    """Return a command that runs `main` of *module* with this process's code, and none from elsewhere."""
    import ops

    # "" and relative names mean the current folder, whatever that is now.
    path = [entry for entry in sys.path if Path(entry).is_absolute()]
    portions = [str(Path(portion).absolute()) for portion in ops.__path__]
    given = json.dumps({"module": module, "ops": portions, "path": path})
    return [sys.executable, "-P", "-c", _START, given]
