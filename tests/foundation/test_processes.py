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


def test_a_process_that_cannot_be_looked_at_now_is_not_taken_for_a_dead_one() -> None:
    program = """
import os, resource, subprocess, sys
from ops.foundation import processes
child = subprocess.Popen(["sleep", "100"])
identity = child.pid << 32 | processes._start_ticks(child.pid)
soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
taken = [os.open("/dev/null", os.O_RDONLY) for _ in range(3)]
resource.setrlimit(resource.RLIMIT_NOFILE, (max(taken) + 1, hard))
print(processes.is_alive(identity), processes.is_alive(1 << 32 | 12345))
pid = os.fork()
if pid == 0:
    own = processes.this_process()
    resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))
    os._exit(0 if own >> 32 == os.getpid() and processes.is_alive(own) else 1)
print(os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]))
resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))
child.kill()
child.wait()
print(processes.is_alive(identity))
"""
    done = subprocess.run(
        [sys.executable, "-c", program], capture_output=True, text=True, check=True
    )
    assert done.stdout.split() == ["True", "True", "0", "False"], done.stderr


def test_the_barrier_returns_and_the_namespace_has_a_number() -> None:
    processes.full_memory_barrier()
    assert processes.pid_namespace() > 0
