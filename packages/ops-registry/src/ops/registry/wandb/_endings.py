"""How runs end with their process: FAILED when an exception or an exit code ends it, COMPLETED when nothing does."""

from __future__ import annotations

import atexit
import multiprocessing
import multiprocessing.util
import os
import sys
from typing import TYPE_CHECKING, NoReturn

from ops.registry.errors import described

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable
    from types import FrameType, TracebackType

    from ops.registry.wandb._run import Run

__all__ = ["watch_the_end"]


class _Ending:
    """How this process ends, as far as it is known, and in which processes it is waited for."""

    def __init__(self) -> None:
        self.code = 0
        self.error: str | None = None
        self.processes: set[int] = set()


_ending = _Ending()


def watch_the_end(runs: Callable[[], Iterable[Run]]) -> None:
    """End what *runs* returns when this process ends; called again in a process it does nothing.

    `sys.exit` is wrapped, as W&B does, since nothing else knows the code when `atexit` runs. Processes of
    `multiprocessing` end without `atexit`.
    """

    def end() -> None:
        error = sys.exc_info()[
            1
        ]  # that of a process of multiprocessing is still on its way, before 3.13
        if error is not None and not isinstance(error, SystemExit):
            _ending.code, _ending.error = 1, described(error)
        elif sys.version_info >= (3, 13) and multiprocessing.parent_process() is not None:
            _ending.code = _ending.code or _code_of_worker(sys._getframe())  # noqa: SLF001 - see there
        for run in tuple(runs()):
            run.finish(_ending.code, error=_ending.error)

    pid = os.getpid()
    if pid in _ending.processes:
        return
    is_first = not _ending.processes  # a forked child has the hooks of its parent
    _ending.processes.add(pid)
    if multiprocessing.parent_process() is not None:
        multiprocessing.util.Finalize(None, end, exitpriority=100)
    if is_first:
        atexit.register(end)
        _hook(end)


def _code_of_worker(frame: FrameType | None) -> int:
    """Return the code that a process of multiprocessing ends with, 0 when it is not known.

    From Python 3.13 on the error is forgotten when it ends: only the function that called all its code has it, as `code`.
    """
    while frame is not None:
        if frame.f_globals.get("__name__", "").startswith("multiprocessing."):
            code = frame.f_locals.get("code")
            if isinstance(code, int):
                return code
        frame = frame.f_back
    return 0


def _hook(end: Callable[[], None]) -> None:
    before_error, before_exit = sys.excepthook, sys.exit

    def failed(
        kind: type[BaseException], error: BaseException, trace: TracebackType | None
    ) -> None:
        _ending.code, _ending.error = 1, described(error)
        end()
        before_error(kind, error, trace)

    def leave(status: object = None, /) -> NoReturn:
        # As the interpreter: None is 0, a number itself, and everything else is printed and 1.
        _ending.code = 0 if status is None else status if isinstance(status, int) else 1
        before_exit(status)  # type: ignore[arg-type]

    sys.excepthook = failed
    sys.exit = leave
