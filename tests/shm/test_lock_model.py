"""Every interleaving of the real lock, on a modelled machine, and proof that nothing in it can go.

See `lock_machine`: the code that runs is that of ops.shm. A plan lists the programs of each thread by
process: `i` writes an item, `b` writes in a block, `r` holds the lock without writing.
"""

from __future__ import annotations

import os

import pytest
from tests.shm.lock_machine import Limits, Machine, Modules, Violation, explore

from ops.shm.layout import BLOCK

FULL = os.environ.get("OPS_FAULTS") == "full"
QUICK = {"buffers": False}

CASES = [
    ("two processes", [["i"], ["i"]], Limits()),
    ("two threads of one process", [["i", "i"]], Limits(buffers=False)),
    ("one of two processes dies", [["i"], ["i"]], Limits(deaths=1)),
    ("one of two dies within a block", [["b"], ["b"]], Limits(deaths=1, buffers=False)),
    ("one of two dies while it holds without writing", [["r"], ["i"]], Limits(deaths=1, buffers=False)),
    ("a handler writes within its own write", [["i"]], Limits(signals=1)),
    ("a handler writes within its own block", [["b"]], Limits(signals=1)),
    ("a handler writes, another thread too", [["i", "i"]], Limits(signals=1, buffers=False)),
    ("a handler raises, another process writes", [["b"], ["i"]], Limits(raises=1, buffers=False)),
    ("a handler raises, another thread writes", [["i", "b"]], Limits(raises=1, buffers=False)),
]  # fmt: skip
LONG = [
    ("threads, and a death beside them", [["i", "b"], ["i"]], Limits(deaths=1, buffers=False)),
    ("a block and a write, with buffers", [["b"], ["i"]], Limits()),
    ("two threads, with buffers", [["i", "i"]], Limits()),
    ("a handler writes, another process too", [["i"], ["i"]], Limits(signals=1, buffers=False)),
    ("a handler within a block, another process", [["b"], ["i"]], Limits(signals=1, buffers=False)),
    ("a handler in each of two processes", [["i"], ["i"]], Limits(signals=2, buffers=False)),
    ("a handler that writes, and a death", [["i"], ["i"]], Limits(signals=1, deaths=1, buffers=False)),
    ("a handler that raises, and a death", [["b"], ["b"]], Limits(raises=1, deaths=1, buffers=False)),
    ("three processes, one of which dies", [["i"], ["i"], ["i"]], Limits(deaths=1, buffers=False)),
]  # fmt: skip


@pytest.fixture(scope="module")
def installed() -> Modules:
    """The code as it is."""
    return Modules()


@pytest.mark.fault
@pytest.mark.timeout(3600)
@pytest.mark.parametrize(
    ("plan", "limits"),
    [pytest.param(plan, limits, id=name) for name, plan, limits in CASES + (LONG if FULL else [])],
)
def test_nothing_that_can_happen_breaks_exclusion_or_blocks_a_thread(
    installed, plan, limits
) -> None:
    assert explore(installed, plan, limits) > 50


DEATH = ([["i"], ["i"]], Limits(deaths=1, buffers=False))
TWICE = ([["i"], ["ii"]], Limits(buffers=False))
READ_TWICE = ([["i"], ["rr"]], Limits(buffers=False))
READER = ([["r"], ["i"]], Limits(deaths=1, buffers=False))
HANDLER = ([["i"]], Limits(signals=1, buffers=False))
HANDLER_AND_PROCESS = ([["i"], ["i"]], Limits(signals=1, buffers=False))
HANDLER_AND_THREAD = ([["i", "i"]], Limits(signals=1, buffers=False))
RAISING = ([["b"], ["i"]], Limits(raises=1, buffers=False))

MUTANTS = {
    "a semaphore that is free is recovered": (
        "lock", " or not self.is_zero():", ":", DEATH),
    "one look at the flags before": (
        "lock", "        if another_lives(self.flags, self.member, mine) or not self.is_zero():",
        "        if not self.is_zero():", DEATH),
    "one look at the flags after": (
        "lock", "        if another_lives(self.flags, self.member, mine):\n            return False\n",
        "", TWICE),
    "writes and holds since are no matter": (
        "lock", "return (words[SEQ], words[HOLDS]) == before", "return True", TWICE),
    "a hold that writes nothing leaves no trace": (
        "hold", "            words[HOLDS] += 1", "            pass", READ_TWICE),
    "a write does not show that it is under way": (
        "array", "                flags[slot] = 1", "                pass", DEATH),
    "a block does not show that it is under way": (
        "lock", "                    self.flags[take.slot] = 1", "                    pass", READER),
    "a living one is robbed": (
        "lock", "slot not in mine and member.is_alive(slot // BLOCK) for", "False for", DEATH),
    "half a write is not noted": (
        "lock", "            words[INTERRUPTED] += 1", "            pass", DEATH),
    "what a handler interrupts is not looked for": (
        "lock", "        while frame is not None:", "        while False:", HANDLER),
    "a frame below that has the lock is asked like one that may": (
        "lock", "                    if below.holds:\n                        return take\n", "",
        HANDLER),
    "slots are kept over the pause": (
        "lock", "                    take.give_back()  # not", "                    pass  # not",
        HANDLER_AND_THREAD),
    "a write that has posted still says that it holds": (
        "array", "                            odd = 0\n", "", HANDLER_AND_THREAD),
    "a take that has posted still says that it holds": (
        "lock", "                take.posts = False\n", "",
        ([["b", "i"]], Limits(signals=1, buffers=False))),
    "a call stands between a block's end and its release": (
        "hold", "                del _outermost[key]", "                _outermost.pop(key, None)",
        RAISING),
    "an interrupted release is not done again": (
        "hold", "                take.give_back()  # a handler raised on the way into the first; once is enough\n",
        "", RAISING),
}  # fmt: skip


@pytest.mark.parametrize(
    ("module", "before", "after", "case"), MUTANTS.values(), ids=MUTANTS.keys()
)
def test_each_line_of_the_lock_is_needed(module, before, after, case) -> None:
    with pytest.raises(Violation):
        explore(Modules(module, before, after), *case)


TWO_HANDLERS = ([["b"], ["b"], ["b"]], Limits(deaths=1, signals=2, buffers=False))


class Played:
    """The beginning of a run, chosen by what it has come to: `path` leads there."""

    def __init__(self, modules: Modules, plan: list[list[str]], limits: Limits) -> None:
        self.machine, self.path = Machine(modules, plan, limits), ()
        while not self.machine.inside:
            self.take("run", 0)
        self.take("kill", 0)

    def take(self, kind: str, number: int) -> None:
        self.path = (*self.path, (kind, number))
        self.machine.take(self.path[-1])

    def interrupt(self, number: int) -> None:
        """Let a handler run in a thread that is about to look whether the holder lives."""
        thread = self.machine.threads[number]
        slots = slice(thread.process * BLOCK, (thread.process + 1) * BLOCK)
        while not (any(self.machine.flags[slots]) and thread.observed[-1:] == ("after",)):
            self.take("run", number)
        self.take("signal", number)


AFTER_A_DEATH = {
    "the flags of living ones are cleared": (
        " if not self.member.is_alive(slot // BLOCK)]", "]",
        ([["b"], ["ii"], ["i"]], Limits(deaths=1, buffers=False))),
    "a handler posts what a frame below has": (
        "take.posts = not below", "take.posts = True",
        ([["b"], ["i"], ["i"]], Limits(deaths=1, signals=1, buffers=False))),
    "an interrupted take keeps its flag": (
        """            try:
                take.give_back()
            finally:
                take.give_back()  # a handler may raise on the way into the first; once is enough
""", "",
        ([["b"], ["b"], ["i"]], Limits(deaths=1, raises=1, buffers=False))),
}  # fmt: skip


@pytest.mark.parametrize(
    ("before", "after", "case"), AFTER_A_DEATH.values(), ids=AFTER_A_DEATH.keys()
)
def test_each_line_of_the_recovery_is_needed(before, after, case) -> None:
    def after_a_death(modules: Modules) -> int:
        played = Played(modules, *case)
        played.machine.close()
        return explore(modules, *case, played.path)

    if FULL:
        assert after_a_death(Modules()) > 50
    with pytest.raises(Violation):
        after_a_death(Modules("lock", before, after))


def after_a_death_and_two_signals(modules: Modules) -> int:
    played = Played(modules, *TWO_HANDLERS)
    played.interrupt(1)
    played.interrupt(2)
    played.machine.close()
    return explore(modules, *TWO_HANDLERS, played.path)


def test_handlers_in_two_processes_do_not_wait_for_each_others_frames() -> None:
    assert after_a_death_and_two_signals(Modules()) > 50
    with pytest.raises(Violation, match="never come to its end"):
        after_a_death_and_two_signals(
            Modules("lock", "lock.flags[slot] = 0\n            f", "pass\n            f")
        )
