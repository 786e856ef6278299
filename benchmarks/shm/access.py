"""Access to a shared array beside the bare parts that it replaces."""

from __future__ import annotations

import multiprocessing
import multiprocessing.shared_memory
import uuid

import numpy as np
from benchmarks.harness import Case, Target

from ops.shm import SharedMemoryArray


def cases():
    array = SharedMemoryArray.create_array(f"bench-{uuid.uuid4().hex}", np.zeros(1024, np.uint64))
    bare = np.zeros(1024, np.uint64)
    lock = multiprocessing.Lock()
    standard = multiprocessing.Array("Q", 1024)
    values = np.arange(64, dtype=np.uint64)
    out = np.empty(1024, np.uint64)

    def write() -> None:
        array[3] = 7

    def write_slice() -> None:
        array[100:164] = values

    def standard_write() -> None:
        standard[3] = 7

    def bare_write() -> None:
        with lock:
            bare[3] = 7

    semaphore = multiprocessing.Semaphore(1)._semlock  # type: ignore[attr-defined]
    take, post = semaphore.acquire, semaphore.release
    words, flags, free = memoryview(bytearray(64)).cast("Q"), memoryview(bytearray(8)), [0]

    def bare_steps() -> None:
        # What a write must do so that readers need no lock and a killed holder is found out: the
        # semaphore, the flag of who has it, and SEQ odd and even again; with no error handled.
        slot = free.pop()
        flags[slot] = 1
        take(False)
        words[0] = odd = words[0] + 1
        bare[3] = 7
        words[0] = odd + 1
        post()
        flags[slot] = 0
        free.append(slot)

    def bare_slice() -> None:
        with lock:
            bare[100:164] = values

    def locked_read() -> int:
        with lock:
            return bare[3]

    yield Case(
        "read one element",
        {
            "ops-shm": lambda: array[3],
            "Lock + ndarray": locked_read,
            "multiprocessing.Array": lambda: standard[3],
        },
        (Target("multiprocessing.Array", at_least=2),),
    )
    yield Case(
        "write one element",
        {
            "ops-shm": write,
            "Lock + ndarray": bare_write,
            "multiprocessing.Array": standard_write,
            "its bare steps in Python": bare_steps,
        },
        (Target("Lock + ndarray", at_least=0.8),),
    )
    yield Case(
        "write 64 elements",
        {
            "ops-shm": write_slice,
            "Lock + ndarray": bare_slice,
        },
        (Target("Lock + ndarray", at_least=0.8),),
    )
    yield Case(
        "read the whole into memory",
        {"ops-shm": lambda: array.read_into(out), "bare copyto": lambda: np.copyto(out, bare)},
    )
    array.destroy()
    array.disconnect()

    name = f"bench-{uuid.uuid4().hex}"
    large = SharedMemoryArray.create_array(name, np.zeros(131_072))
    plain = np.zeros(131_072)

    def reduce_view() -> float:
        with large.view() as view:
            return float(view.sum())

    def reduce_bare() -> float:
        return float(plain.sum())

    yield Case(
        "sum of 1 MB without a copy",
        {"ops-shm view": reduce_view, "bare ndarray": reduce_bare},
        (Target("bare ndarray", at_least=0.9),),
    )
    large.destroy()
    large.disconnect()
