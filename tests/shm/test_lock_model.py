"""Every interleaving of the lock's protocol, with a death at every step, for two and three processes.

The steps below are those of `ops.shm.lock`, one shared access each, in the same order and under the
same names. What the machine may do is in the model too: stores wait in a buffer of their process and
become visible later, in order (x86-64); an operation on a semaphore and membarrier(2) drain it, the
latter for all processes; a killed process drains it and drops its flock. Time is nobody's friend: a
waiter may run out of patience at any moment, however short the holder has been at it.

Checked in every state: nobody enters while another living process is inside, or while half a write
stands there; and from every state all who live can still get their turn. That the model is not blind
is shown by breaking the protocol, one step at a time, and seeing it find what that breaks.
"""

from __future__ import annotations

import os
from collections import defaultdict
from typing import NamedTuple

import pytest

FULL = os.environ.get("OPS_FAULTS") == "full"
FREE = -1
DONE, DEAD = "done", "dead"
INSIDE = {"write_begins", "write_ends"}


class Process(NamedTuple):
    """One process: its next step, the epoch it uses, what it remembers, and its buffered stores."""

    step: str
    epoch: int
    memory: int = FREE
    stores: tuple[tuple[str, int, int], ...] = ()
    turns: int = 1


class State(NamedTuple):
    """The words of the header, the semaphores, and the processes; FREE is an owner word of 0."""

    epoch: int
    dirty: bool  # SEQ is odd
    flock: int
    semaphores: tuple[int, ...]  # by epoch: 1 free, 0 taken, -1 not made yet
    unlinked: int  # epochs below this have a semaphore without a name
    owners: tuple[int, ...]  # by slot
    processes: tuple[Process, ...]
    deaths: int


class Violation(Exception):
    """The protocol let something happen that it must not."""


class Model:
    """All behaviour of *count* processes that take the lock *turns* times; *broken* steps fail."""

    def __init__(
        self, count: int, *, turns: int = 1, deaths: int = 1, epochs: int = 3, broken: str = ""
    ) -> None:
        self.deaths, self.epochs, self.broken = deaths, epochs, broken
        slots = 1 if broken == "one owner word for all epochs" else epochs + 1
        self.slots = slots
        self.start = State(
            epoch=0,
            dirty=False,
            flock=FREE,
            semaphores=(1,) + (-1,) * epochs,
            unlinked=0,
            owners=(FREE,) * slots,
            processes=(Process("try_", 0, turns=turns),) * count,
            deaths=0,
        )

    # ------------------------------------------------------------ exploration

    def explore(self) -> int:
        """Visit every state; raise Violation, else return how many there are."""
        before: dict[State, list[State]] = defaultdict(list)
        seen, waiting = {self.start}, [self.start]
        ends = []
        while waiting:
            state = waiting.pop()
            if all(p.step in {DONE, DEAD} for p in state.processes):
                ends.append(state)
            for following in self.following(state):
                before[following].append(state)
                if following not in seen:
                    seen.add(following)
                    waiting.append(following)
        self._everyone_gets_a_turn(seen, before, ends)
        return len(seen)

    def _everyone_gets_a_turn(self, seen, before, ends) -> None:
        # States at the last epoch of the model cannot recover once more, so they count as good.
        good = set(ends) | {state for state in seen if state.epoch == self.epochs}
        waiting = list(good)
        while waiting:
            for state in before[waiting.pop()]:
                if state not in good:
                    good.add(state)
                    waiting.append(state)
        if len(good) < len(seen):
            raise Violation("somebody can never get a turn", next(iter(seen - good)))

    def following(self, state: State):
        """Yield every state that one step of anybody leads to."""
        for me, process in enumerate(state.processes):
            if process.step in {DONE, DEAD}:
                continue
            if process.stores:
                yield _drained(state, me, 1)
            if state.deaths < self.deaths:
                yield self._killed(state, me)
            yield from getattr(self, process.step)(state, me, process)

    def _killed(self, state: State, me: int) -> State:
        state = _drained(state, me)
        flock = FREE if state.flock == me else state.flock
        dead = _with(state, me, Process(DEAD, 0))
        return dead._replace(flock=flock, deaths=state.deaths + 1)

    def slot(self, epoch: int) -> int:
        # OWNER + epoch % OWNER_SLOTS
        return epoch % self.slots

    # ------------------------------------------------------------ RobustLock.acquire

    def try_(self, state: State, me: int, process: Process):
        # sem_trywait, or sem_timedwait of _wait
        if state.semaphores[process.epoch] == 1:
            yield _with(_semaphore(_drained(state, me), process.epoch, 0), me, step="take")
        else:
            yield _with(state, me, step="look")

    def take(self, state: State, me: int, process: Process):
        # words[self.owner] = this_process()
        yield _store(state, me, "owners", self.slot(process.epoch), me, step="check")

    def check(self, state: State, me: int, process: Process):
        # if words[EPOCH] == self.epoch: return
        if _load(state, me, "epoch") == process.epoch or self.broken == "no look at the epoch":
            yield _with(state, me, step="write_begins")
        else:
            yield _with(state, me, step="leave_owner")

    def leave_owner(self, state: State, me: int, process: Process):
        # leave_old_epoch: release()
        yield _store(state, me, "owners", self.slot(process.epoch), FREE, step="leave_post")

    def leave_post(self, state: State, me: int, process: Process):
        yield _with(_semaphore(_drained(state, me), process.epoch, 1), me, step="use")

    def use(self, state: State, me: int, process: Process):
        # _use: which epoch is in force
        yield _with(state, me, step="open", memory=_load(state, me, "epoch"))

    def open(self, state: State, me: int, process: Process):
        # _use: open its semaphore by name, which may be gone again by now
        if process.memory < state.unlinked:
            if self.broken == "a semaphore that is gone is not looked for again":
                raise Violation("a semaphore is opened that is gone", state)
            yield _with(state, me, step="use")
        else:
            yield _with(state, me, step="try_", epoch=process.memory, memory=FREE)

    # ------------------------------------------------------------ inside, and release

    def write_begins(self, state: State, me: int, process: Process):
        # words[SEQ] += 1
        inside = [p for p in state.processes if p.step in INSIDE]
        if len(inside) > 1:
            raise Violation("two are inside", state)
        if state.dirty:
            raise Violation("entered over half a write that nobody noted", state)
        yield _with(state, me, step="write_ends")._replace(dirty=True)

    def write_ends(self, state: State, me: int, process: Process):
        if len([p for p in state.processes if p.step in INSIDE]) > 1:
            raise Violation("two are inside", state)
        yield _with(state, me, step="release_owner")._replace(dirty=False)

    def release_owner(self, state: State, me: int, process: Process):
        yield _store(state, me, "owners", self.slot(process.epoch), FREE, step="release_post")

    def release_post(self, state: State, me: int, process: Process):
        posted = _semaphore(_drained(state, me), process.epoch, 1)
        left = process.turns - 1
        yield _with(posted, me, step="try_" if left else DONE, turns=left)

    # ------------------------------------------------------------ RobustLock._wait

    def look(self, state: State, me: int, process: Process):
        # the loop of _wait: who holds it, and does it live?
        if _load(state, me, "epoch") != process.epoch:
            yield _with(state, me, step="use")
            return
        yield _with(state, me, step="try_")
        holder = state.owners[self.slot(process.epoch)]
        hopeless = holder == FREE or state.processes[holder].step == DEAD
        if self.broken == "only a dead owner is recovered from":
            hopeless = hopeless and holder != FREE
        if hopeless and process.epoch < self.epochs:
            yield _with(state, me, step="lock_file", memory=holder)

    # ------------------------------------------------------------ RobustLock._recover

    def lock_file(self, state: State, me: int, process: Process):
        # fcntl.flock(fd, LOCK_EX)
        if state.flock == FREE:
            yield _with(_drained(state, me), me, step="still_so")._replace(flock=me)

    def still_so(self, state: State, me: int, process: Process):
        # if words[EPOCH] != old or words[self.owner] != seen: return
        seen = state.owners[self.slot(process.epoch)]
        if state.epoch != process.epoch or seen != process.memory:
            yield _with(state, me, step="look", memory=FREE)._replace(flock=FREE)
        else:
            yield _with(state, me, step="clear_owner")

    def clear_owner(self, state: State, me: int, process: Process):
        # words[OWNER + new % OWNER_SLOTS] = 0
        yield _store(state, me, "owners", self.slot(process.epoch + 1), FREE, step="make")

    def make(self, state: State, me: int, process: Process):
        # self.make(instance, new, 0), a system call; one that exists is left alone
        state, new = _drained(state, me), process.epoch + 1
        value = 1 if self.broken == "the new semaphore is made free" else 0
        if state.semaphores[new] == -1:
            state = _semaphore(state, new, value)
        yield _with(state, me, step="move_epoch")

    def move_epoch(self, state: State, me: int, process: Process):
        # words[EPOCH] = new
        yield _store(state, me, "epoch", 0, process.epoch + 1, step="barrier")

    def barrier(self, state: State, me: int, process: Process):
        # full_memory_barrier()
        if self.broken != "no barrier":
            for other in range(len(state.processes)):
                state = _drained(state, other)
        yield _with(state, me, step="wait_for_late")

    def wait_for_late(self, state: State, me: int, process: Process):
        # while any(... is_alive(late) ...): sleep
        words = {slot: owner for slot, owner in enumerate(state.owners) if owner != FREE}
        if self.broken == "only the epoch before is looked at":
            words = {s: o for s, o in words.items() if s == self.slot(process.epoch)}
        late = [o for o in words.values() if state.processes[o].step != DEAD]
        if not late or self.broken == "nobody waits for the late":
            yield _with(state, me, step="mend")

    def mend(self, state: State, me: int, process: Process):
        # if words[SEQ] & 1: words[SEQ] += 1
        dirty = state.dirty and self.broken == "half a write is not noted"
        yield _with(state, me, step="post_new")._replace(dirty=dirty)

    def post_new(self, state: State, me: int, process: Process):
        new = process.epoch + 1
        posted = _semaphore(_drained(state, me), new, 1)
        yield _with(posted, me, step="unlink", epoch=new)

    def unlink(self, state: State, me: int, process: Process):
        # The old names go: who has it open keeps it, nobody else can open it any more
        following = _with(state, me, step="try_", memory=FREE)
        yield following._replace(flock=FREE, unlinked=max(state.unlinked, process.epoch))


def _with(state: State, me: int, process: Process | None = None, **changes) -> State:
    process = process or state.processes[me]._replace(**changes)
    return state._replace(processes=_set(state.processes, me, process))


def _set(values: tuple, place: int, value) -> tuple:
    return (*values[:place], value, *values[place + 1 :])


def _semaphore(state: State, epoch: int, value: int) -> State:
    return state._replace(semaphores=_set(state.semaphores, epoch, value))


def _store(state: State, me: int, word: str, slot: int, value: int, step: str) -> State:
    """Buffer a store: others see it later."""
    process = state.processes[me]
    return _with(state, me, stores=(*process.stores, (word, slot, value)), step=step)


def _load(state: State, me: int, word: str) -> int:
    """Load the epoch: what this process stored last, else what is in memory."""
    own = [value for name, _, value in state.processes[me].stores if name == word]
    return own[-1] if own else getattr(state, word)


def _drained(state: State, me: int, count: int | None = None) -> State:
    """Make the first *count* buffered stores of a process visible, all by default."""
    stores = state.processes[me].stores
    for word, slot, value in stores[:count]:
        if word == "epoch":
            state = state._replace(epoch=value)
        else:
            state = state._replace(owners=_set(state.owners, slot, value))
    return _with(state, me, stores=stores[len(stores[:count]) :]) if stores else state


CASES = [
    pytest.param(2, {"deaths": 1, "epochs": 3}, id="one of two dies"),
    pytest.param(2, {"deaths": 0, "epochs": 2, "turns": 2}, id="two take turns"),
    pytest.param(3, {"deaths": 1, "epochs": 2}, id="one of three dies"),
]
if FULL:
    CASES.append(pytest.param(3, {"deaths": 2, "epochs": 3}, id="two of three die"))


@pytest.mark.fault
@pytest.mark.timeout(1800)
@pytest.mark.parametrize(("count", "limits"), CASES)
def test_no_interleaving_and_no_death_breaks_exclusion_or_blocks_anybody(count, limits) -> None:
    assert Model(count, **limits).explore() > 1000


@pytest.mark.parametrize(
    ("broken", "found"),
    [
        ("no barrier", "two are inside"),
        ("no look at the epoch", "two are inside"),
        ("one owner word for all epochs", "two are inside"),
        ("the new semaphore is made free", "two are inside"),
        ("nobody waits for the late", "two are inside"),
        ("only the epoch before is looked at", "two are inside"),
        ("half a write is not noted", "half a write"),
        ("only a dead owner is recovered from", "never get a turn"),
        ("a semaphore that is gone is not looked for again", "is gone"),
    ],
)
def test_each_step_of_the_protocol_is_needed(broken, found) -> None:
    with pytest.raises(Violation, match=found):
        Model(3, deaths=1, epochs=2, broken=broken).explore()
