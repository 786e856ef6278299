"""Bytes that are changed at random, and what reading them costs: shared by the fuzz tests of the loaders.

A full run (OPS_FAULTS=full) goes on for ten minutes for each package and keeps what it found in a folder
`corpus` beside the test, one file each; every later run, also a short one, starts with what lies there.
"""

from __future__ import annotations

import contextlib
import hashlib
import os
import random
import struct
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

FULL = os.environ.get("OPS_FAULTS") == "full"
SECONDS = float(os.environ.get("OPS_FUZZ_SECONDS", "600")) if FULL else 0
INTERESTING = [0, 1, 2, 0x7F, 0x80, 0xFF, 0x7FFFFFFF, 0x80000000, 0xFFFFFFFF, 1 << 62]
MIB = 1 << 20
_CLEAR = Path("/proc/self/clear_refs")


def mutated(data: bytes, rng: random.Random) -> bytes:
    """Return *data* with some bytes, words or spans changed."""
    changed = bytearray(data)
    for _ in range(rng.choice((1, 1, 1, 2, 4))):
        if not changed:
            break
        at = rng.randrange(len(changed))
        how = rng.randrange(7)
        if how == 0:
            changed[at] ^= 1 << rng.randrange(8)
        elif how == 1:
            changed[at] = rng.randrange(256)
        elif how == 2:
            changed[at : at + 4] = struct.pack("<I", rng.choice(INTERESTING) & 0xFFFFFFFF)
        elif how == 3:
            changed[at : at + 8] = struct.pack("<Q", rng.choice(INTERESTING))
        elif how == 4:
            del changed[at : at + rng.randrange(1, 16)]
        elif how == 5:
            other = rng.randrange(len(changed))
            changed[at:at] = changed[other : other + rng.randrange(1, 32)]
        else:
            word = struct.unpack_from("<I", changed.ljust(at + 4, b"\0"), at)[0]
            changed[at : at + 4] = struct.pack("<I", (word + rng.choice((-1, 1))) & 0xFFFFFFFF)
    return bytes(changed)


def rounds(least: int, share: float) -> Iterator[int]:
    """Yield numbers: *least* of them, and more until *share* of the time of a full run is over."""
    deadline, done = time.monotonic() + SECONDS * share, 0
    while done < least or time.monotonic() < deadline:
        yield done
        done += 1


def _kib(name: str) -> int:
    with open("/proc/self/status", encoding="ascii") as file:
        return next(int(line.split()[1]) for line in file if line.startswith(name))


@contextlib.contextmanager
def measured(data: bytes, corpus: Path, allowed: int, suffix: str = ".opsf") -> Iterator[None]:
    """Fail, and keep *data* in *corpus*, when the block takes more than *allowed* bytes, long, or raises.

    A few seconds of work stand for a loop that does not end, or nearly: other processes are busy too.
    """
    running = corpus / f"running{suffix}"  # stays when the process is killed by what it reads
    if FULL:
        corpus.mkdir(exist_ok=True)
        running.write_bytes(data)
    before = 0
    if _CLEAR.exists():
        _CLEAR.write_text("5", encoding="ascii")
        before = _kib("VmRSS")
    start = time.process_time()
    try:
        yield
        assert time.process_time() - start < 5, "reading takes too long"
        if before:
            grown = (_kib("VmHWM") - before) << 10
            assert grown <= allowed, f"reading takes {grown} bytes of memory"
    except BaseException:
        if FULL:
            (corpus / f"{hashlib.sha256(data).hexdigest()[:16]}{suffix}").write_bytes(data)
        raise
    finally:
        running.unlink(missing_ok=True)


full_run = pytest.mark.fault if FULL else pytest.mark.filterwarnings("ignore")
