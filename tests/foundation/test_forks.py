"""What is kept over a fork: its lock is free in the child, and its state whole on both sides."""

from __future__ import annotations

import os
import signal
import threading

import pytest

from ops.foundation import forks

pytestmark = [
    pytest.mark.skipif(not hasattr(os, "fork"), reason="needs fork"),
    pytest.mark.filterwarnings("ignore:.*fork.*:DeprecationWarning"),
]


class Pair:
    """Two numbers that a thread changes one after the other, under a lock."""

    def __init__(self) -> None:
        self.mutex = threading.Lock()
        self.one = self.other = 0
        forks.keep_over_forks(self)

    def step(self) -> None:
        with self.mutex:
            self.one += 1
            self.other += 1


def ended_well(child: int) -> bool:
    return os.waitpid(child, 0)[1] == 0


def test_a_child_finds_what_threads_change_whole_and_free() -> None:
    pair, over = Pair(), threading.Event()

    def change() -> None:
        while not over.is_set():
            pair.step()

    threads = [threading.Thread(target=change) for _ in range(2)]
    for thread in threads:
        thread.start()
    try:
        for _ in range(50):
            child = os.fork()
            if not child:
                signal.alarm(10)
                pair.step()
                os._exit(0 if pair.one == pair.other else 1)
            assert ended_well(child)
    finally:
        over.set()
        for thread in threads:
            thread.join()
    assert pair.one == pair.other


def test_threads_may_fork_at_once() -> None:
    pairs = [Pair() for _ in range(3)]
    results: list[bool] = []

    def fork() -> None:
        for _ in range(20):
            child = os.fork()
            if not child:
                signal.alarm(10)
                for pair in pairs:
                    pair.step()
                os._exit(0)
            results.append(ended_well(child))

    threads = [threading.Thread(target=fork) for _ in range(3)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert results == [True] * 60


def test_a_change_is_made_in_children_alone_and_as_long_as_its_subject_lives() -> None:
    class Subject:
        told = 0

    def change(subject: Subject) -> None:
        subject.told += 1

    kept, dropped = Subject(), Subject()
    calls: list[int] = []
    forks.in_children(kept, change)
    forks.in_children(dropped, lambda _: calls.append(1))
    del dropped
    child = os.fork()
    if not child:
        os._exit(0 if (kept.told, calls) == (1, []) else 1)
    assert ended_well(child)
    assert kept.told == 0
