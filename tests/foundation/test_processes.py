"""A process is told apart from a later one with the same PID, and a dead one is dead."""

from __future__ import annotations

import os
import subprocess
import sys

import pytest

from ops.foundation import processes

pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="reads /proc, which is Linux's")


def test_this_process_is_alive_and_another_start_time_is_not() -> None:
    me = processes.this_process()
    assert me >> 32 == os.getpid()
    assert processes.is_alive(me)
    assert not processes.is_alive(me ^ 1)


def test_a_killed_process_is_dead_even_before_its_parent_has_noticed() -> None:
    program = (
        "from ops.foundation import processes as p; print(p.this_process(), flush=True); input()"
    )
    child = subprocess.Popen(
        [sys.executable, "-c", program], stdout=subprocess.PIPE, stdin=subprocess.PIPE, text=True
    )
    identity = int(child.stdout.readline())
    assert processes.is_alive(identity)
    child.kill()
    os.waitid(os.P_PID, child.pid, os.WEXITED | os.WNOWAIT)  # a zombie now
    assert not processes.is_alive(identity)
    child.communicate()


def test_a_forked_child_has_an_identity_of_its_own() -> None:
    read, write = os.pipe()
    pid = os.fork()
    if pid == 0:
        os.write(write, str(processes.this_process()).encode())
        os._exit(0)
    os.waitpid(pid, 0)
    assert int(os.read(read, 100)) >> 32 == pid
    os.close(read)
    os.close(write)


def test_the_barrier_returns_and_the_namespace_has_a_number() -> None:
    processes.full_memory_barrier()
    assert processes.pid_namespace() > 0
