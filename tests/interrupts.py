"""Interrupts at chosen points of a program: by SIGALRM wherever it comes, or at each line of a file."""

from __future__ import annotations

import itertools
import sys
from collections.abc import Callable, Collection, Iterator
from pathlib import Path
from types import FrameType
from typing import Any

# What programs begin with that tests run: a SIGALRM raises `Interrupt`.
RAISED_BY_ALARM = """
import random, signal, sys, time

class Interrupt(BaseException):
    pass

def interrupt(*_):
    raise Interrupt

signal.signal(signal.SIGALRM, interrupt)
"""


def at_each_line(
    files: Collection[str | None], action: Callable[[], object], *, inside: Collection[str] = ()
) -> Iterator[str]:
    """Run *action* again and again, with a KeyboardInterrupt at the next line event of *files*.

    Yield after each interrupted run which line it was ("locks.py:120 in release"), for the caller to
    look at what is left. End when a run has no further line. *inside* limits the lines to functions
    of these names. Lines in `__del__` are left out: what is raised there goes nowhere.
    """
    for number in itertools.count():
        where = _interrupted(files, inside, action, number)
        if where is None:
            return
        yield where


def _interrupted(
    files: Collection[str | None],
    inside: Collection[str],
    action: Callable[[], object],
    number: int,
) -> str | None:
    counter = itertools.count()
    where: list[str] = []

    def trace(frame: FrameType, event: str, _argument: Any) -> Any:
        code = frame.f_code
        if code.co_filename not in files or code.co_name == "__del__":
            return None
        if inside and code.co_name not in inside:
            return None
        if event == "line" and next(counter) == number:
            where.append(f"{Path(code.co_filename).name}:{frame.f_lineno} in {code.co_name}")
            raise KeyboardInterrupt
        return trace

    before = sys.gettrace()
    sys.settrace(trace)
    try:
        action()
    except KeyboardInterrupt:
        pass
    finally:
        sys.settrace(before)
    return where[0] if where else None
