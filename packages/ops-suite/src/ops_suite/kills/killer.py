"""`demo --kill`: writers of five libraries are killed at random, and what they had acknowledged is looked for."""

from __future__ import annotations

import dataclasses
import random
import shutil
import signal
import subprocess
import sys
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from typing import TYPE_CHECKING

import numpy as np

from ops.foundation import humanize_number
from ops.foundation.errors import OpsError
from ops.foundation.formatting import format_table
from ops.shm import SharedMemoryArray
from ops_suite.kills.writers import KINDS, array_name, found

if TYPE_CHECKING:
    from pathlib import Path

    from ops_suite.demo.console import Console

__all__ = ["Outcome", "run_kills"]

_LIVES = (0.05, 0.6)  # seconds that a writer lives on after its first write
_AT_ONCE = 2
_MOST_WRITERS = 4096  # elements of the shared array


@dataclasses.dataclass(slots=True)
class Outcome:
    """What came of one library: writes that were acknowledged, kills, and acknowledged writes not found."""

    kind: str
    acknowledged: int = 0
    kills: int = 0
    lost: int = 0


def run_kills(folder: Path, console: Console, *, seconds: float = 20.0) -> list[Outcome]:
    """Kill writers of each library for *seconds* in all, and print what was lost of what they wrote."""
    home = folder / "kills"
    shutil.rmtree(home, ignore_errors=True)
    home.mkdir(parents=True)
    console.chapter("ops-suite", f"writers are killed (SIGKILL) at random for {seconds:.0f} s")
    counters = np.zeros(_MOST_WRITERS, np.int64)
    array = SharedMemoryArray.create_array(array_name(home), counters, exist_ok=True)
    try:
        outcomes = [_kill(kind, home, seconds / len(KINDS), console) for kind in KINDS]
    finally:
        array.destroy()
        array.disconnect()
    rows = [
        [each.kind, KINDS[each.kind], humanize_number(each.acknowledged), each.kills, each.lost]
        for each in outcomes
    ]
    heads = ["library", "what was written", "acknowledged", "kills", "lost"]
    console.table(format_table(rows, heads))
    return outcomes


def _kill(kind: str, home: Path, seconds: float, console: Console) -> Outcome:
    """Keep writers alive, kill one after the other, and count what they had acknowledged."""
    outcome = Outcome(kind)
    acknowledged: dict[str, int] = {}
    end = time.monotonic() + seconds
    with ThreadPoolExecutor(_AT_ONCE) as slots:
        for done in [
            slots.submit(_write_and_die, kind, home, n, end, acknowledged) for n in range(_AT_ONCE)
        ]:
            done.result()
    outcome.kills = len(acknowledged)
    outcome.acknowledged = sum(acknowledged.values())
    there = found(kind, home, list(acknowledged))
    outcome.lost = sum(
        len(set(range(count)) - there.get(name, set())) for name, count in acknowledged.items()
    )
    console.fact(f"{kind}: {outcome.kills} writers killed, {outcome.lost} writes lost")
    return outcome


def _write_and_die(
    kind: str, home: Path, slot: int, end: float, acknowledged: dict[str, int]
) -> None:
    number = slot
    while number < _MOST_WRITERS and (time.monotonic() < end or number == slot):
        name = f"writer-{number}"
        command = [sys.executable, "-m", "ops_suite.kills.writers", kind, str(home), name]
        with subprocess.Popen(command, stdout=subprocess.PIPE) as writer:  # noqa: S603 - our own
            acknowledged[name] = _read_until_killed(writer)
        number += _AT_ONCE


def _read_until_killed(writer: subprocess.Popen[bytes]) -> int:
    """Kill *writer* some time after its first write; return how many it had acknowledged."""
    output = writer.stdout
    if output is None:
        raise RuntimeError("the writer has no pipe")
    first = output.readline()
    killer = threading.Timer(random.uniform(*_LIVES), writer.kill)
    killer.start()
    rest = output.read()  # to its end: what is in the pipe was acknowledged before the kill
    killer.join()
    if writer.wait() != -signal.SIGKILL:
        raise OpsError(
            f"A writer ended by itself, with code {writer.returncode}, before it was killed."
        )
    return (first + rest).count(b"\n")
