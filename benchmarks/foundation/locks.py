"""What entering and leaving a free file lock costs, beside filelock and the bare system calls."""

from __future__ import annotations

import fcntl
import os
import pathlib
import tempfile

import filelock
from benchmarks.harness import Case, Target

from ops.foundation import FileLock


def cases():
    with tempfile.TemporaryDirectory() as folder:
        base = pathlib.Path(folder)
        ours, theirs = FileLock(base / "ours"), filelock.FileLock(base / "theirs")
        bare = str(base / "bare")

        def with_ours():
            with ours:
                pass

        def with_theirs():
            with theirs:
                pass

        def system_calls():
            descriptor = os.open(bare, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o666)
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
            fcntl.flock(descriptor, fcntl.LOCK_UN)
            os.close(descriptor)

        yield Case(
            "entering and leaving a free lock",
            {"ops-foundation": with_ours, "filelock": with_theirs, "system calls": system_calls},
            # The absolute figure depends on the machine: the four system calls alone may exceed it.
            (Target("filelock", at_least=10), Target(at_most=3e-6)),
            packages=("filelock",),
        )

        def nested():
            with ours:
                pass

        ours.acquire()
        yield Case("entering again in the same thread", {"ops-foundation": nested})
        ours.release()
