"""A machine on which the real lock runs, step by step, in every order that a real one could take.

What runs is the code of ops.shm: `RobustLock`, `Hold` and `SharedMemoryArray.__setitem__`. Only what
they stand on is made here: the words and flags of the header, the semaphore, the locks of the kernel
and the time. Each access to one of these is a step; between two steps of a thread (a greenlet), any
other may run, its process may be killed, a handler may run on top of it, or one may raise in it.

- Stores wait in a buffer of their thread and become visible later, in order (x86-64). Operations that
  change the semaphore, and system calls, drain it; so does death.
- A scan of the flags is no single step: other threads run between one flag and the next.
- Time helps nobody: patience has always run out, and a sleep may take any time.
- Handlers run where Python runs them, behind calls and on the way into functions, which is nowhere
  between loads and stores of a memoryview; in the main thread of each process, which is the first of its plan.

All states are visited once. A state is what lies in memory and, for each thread, what it has observed
since it last slept, which is all that its next step can depend on. Checked in each: no two are inside,
nobody enters over half a write that was not noted, the semaphore is never above 1, recoveries never
outnumber deaths; and from each, all who live can still come to their end.
"""

from __future__ import annotations

import contextlib
import sys
from collections import defaultdict
from collections.abc import Callable
from importlib import import_module
from pathlib import Path
from types import ModuleType, SimpleNamespace
from typing import Any, NamedTuple

import greenlet

from ops.shm.layout import BLOCK, INTERRUPTED, RECOVERIES


class Violation(Exception):
    """The lock let something happen that it must not."""


class Interrupted(Exception):
    """What a handler raises."""


class Limits(NamedTuple):
    """How often what may happen: deaths of processes, handlers that write, handlers that raise.

    *buffers* False makes each store visible at once, for plans that have too many states otherwise.
    """

    deaths: int = 0
    signals: int = 0
    raises: int = 0
    buffers: bool = True


class Thread:
    """One thread: its process, its program, and what it has observed since it slept."""

    def __init__(
        self, number: int, process: int, work: Callable[[Thread], None], *, main: bool
    ) -> None:
        self.number, self.process, self.main = number, process, main
        self.buffer: list[tuple[Any, int, int]] = []
        self.observed: tuple[Any, ...] = ()
        self.slept: Any = None
        self.depth = 0  # handlers on top of each other
        self.greenlet = greenlet.greenlet(lambda: work(self))

    @property
    def done(self) -> bool:
        return self.greenlet.dead


class Machine:
    """Memory, kernel and scheduler; `choices` lists what can happen next, `take` lets it happen."""

    def __init__(self, modules: Modules, plan: list[list[str]], limits: Limits) -> None:
        self.modules, self.limits = modules, limits
        self.words: dict[int, int] = defaultdict(int)
        self.flags = [0] * (BLOCK * len(plan))
        self.semaphore = 1
        self.recovering = -1
        self.dead: set[int] = set()
        self.deaths = self.signals = self.raises = 0
        self.inside: list[tuple[Thread, bool]] = []
        self.cut = False  # whether a death has cut a write short
        self.threads: list[Thread] = []
        self.current: Any = None
        self.pending: str | None = None
        self.closed = False
        self.handlers: list[Callable[[], None]] = []
        self.locks: list[Any] = []
        modules.enter(self)
        for process, programs in enumerate(plan):
            lock = self._lock(process)
            self.locks.append(lock)
            self.handlers.append(self._calls(lock)["i"])
            for program in programs:
                work, main = self._program(lock, program), program is programs[0]
                self.threads.append(Thread(len(self.threads), process, work, main=main))

    def _lock(self, process: int) -> Any:
        member = Kernel(self, process)
        lock = self.modules.lock.RobustLock(
            "modelled", 1, Words(self), Flags(self), Semaphore(self), member
        )
        del lock.free[2:]  # two slots are enough for a thread and a handler, or for two threads
        return lock

    def _calls(self, lock: Any) -> dict[str, Callable[[], None]]:
        """Return what a program can do: write an item, write in a block, hold for reading."""
        array = self.modules.array.SharedMemoryArray("modelled")
        array._lock, array._array, array._readable = lock, Data(self), Data(self)
        array._seen = lock.words

        def item() -> None:
            array[0] = 1

        def block() -> None:
            with self.modules.hold.Hold(lock, array._array, write=True) as held:
                held[0] = 1

        def read() -> None:
            with self.modules.hold.Hold(lock, array._array) as held:
                held[0]

        return {"i": item, "b": block, "r": read}

    def _program(self, lock: Any, program: str) -> Callable[[Thread], None]:
        calls = self._calls(lock)

        def work(_: Thread) -> None:
            for count, letter in enumerate(program):
                self.current.slept, self.current.observed = count, ()
                self.step("begins")
                with contextlib.suppress(Interrupted):
                    calls[letter]()

        return work

    # ------------------------------------------------------------ what the fakes call

    def step(self, label: Any) -> None:
        """Let others run before the present thread's next access."""
        if self.closed:
            return
        thread = self.current
        thread.observed += (label,)
        thread.greenlet.parent.switch()

    def after_call(self) -> None:
        """Run or raise what a handler does behind a call."""
        thread = self.current
        if self.closed or thread.depth or not thread.main:
            return
        if self.signals == self.limits.signals and self.raises == self.limits.raises:
            return
        remembered = thread.slept, thread.observed
        thread.observed += ("after",)
        thread.greenlet.parent.switch()
        kind, self.pending = self.pending, None
        if kind == "raise" and not self.closed:
            thread.observed += (kind,)
            raise Interrupted
        if kind == "signal" and not self.closed:
            thread.observed += (kind,)
            thread.depth += 1
            self.handlers[thread.process]()
            thread.depth -= 1
        # What a handler has observed is forgotten with it.
        thread.slept, thread.observed = remembered

    def observe(self, value: Any) -> Any:
        self.current.observed += (value,)
        return value

    def drain(self, thread: Thread, count: int | None = None) -> None:
        for memory, index, value in thread.buffer[:count]:
            memory[index] = value
            if (
                not self.closed
                and memory is self.words
                and index == RECOVERIES
                and value > self.deaths
            ):
                raise Violation("a recovery without a death")
        del thread.buffer[:count]

    # ------------------------------------------------------------ the scheduler

    def choices(self) -> list[tuple[str, int]]:
        """Return all that can happen now."""
        found = []
        for thread in self.threads:
            if thread.done or thread.process in self.dead:
                continue
            found.append(("run", thread.number))
            if thread.buffer:
                found.append(("drain", thread.number))
            if thread.observed[-1:] == ("after",):
                if self.signals < self.limits.signals:
                    found.append(("signal", thread.number))
                if self.raises < self.limits.raises:
                    found.append(("raise", thread.number))
        if self.deaths < self.limits.deaths:
            living = {t.process for t in self.threads if not t.done} - self.dead
            found += [("kill", process) for process in sorted(living)]
        return found

    def take(self, choice: tuple[str, int]) -> None:
        kind, number = choice
        if kind == "kill":
            self._kill(number)
            return
        thread = self.threads[number]
        if kind == "drain":
            self.drain(thread, 1)
            return
        if kind != "run":
            self.pending = kind
            if kind == "signal":
                self.signals += 1
            else:
                self.raises += 1
        self.current = thread
        thread.greenlet.switch()

    def _kill(self, process: int) -> None:
        self.dead.add(process)
        self.deaths += 1
        for thread in self.threads:
            if thread.process == process:
                self.drain(thread)
                for entry in [entry for entry in self.inside if entry[0] is thread]:
                    self.inside.remove(entry)
                    self.cut |= entry[1]
        if self.recovering == process:
            self.recovering = -1

    def state(self) -> Any:
        """Return all that the future can depend on."""
        return (
            tuple(sorted(item for item in self.words.items() if item[1])), tuple(self.flags),
            self.semaphore, self.recovering, tuple(sorted(self.dead)), self.signals, self.raises,
            tuple((tuple(x.free), x._recovering, x._mutex.state()) for x in self.locks),
            tuple((k, r.depth, r.opened) for k, r in sorted(self.modules.hold._outermost.items())),
            tuple((t.number, writes) for t, writes in self.inside), self.cut,
            tuple(
                (t.done, t.slept, t.observed,
                 t.depth, tuple(("w" if m is self.words else "f", i, v) for m, i, v in t.buffer))
                for t in self.threads
            ),
        )  # fmt: skip

    def close(self) -> None:
        """End what has not ended; the steps on the way out are no longer any."""
        self.closed = True
        for thread in self.threads:
            if not thread.done:
                self.current = thread
                thread.greenlet.throw(greenlet.GreenletExit)
            thread.buffer.clear()

    def is_over(self) -> bool:
        return all(t.done or t.process in self.dead for t in self.threads)


class Words:
    """The header's words as one process sees them."""

    def __init__(self, machine: Machine) -> None:
        self.machine = machine

    def memory(self) -> Any:
        return self.machine.words

    def __getitem__(self, index: int) -> int:
        machine = self.machine
        machine.step(("load", index))
        memory = self.memory()
        own = [v for m, i, v in machine.current.buffer if m is memory and i == index]
        return machine.observe(own[-1] if own else _in(memory, index))

    def __setitem__(self, index: int, value: int) -> None:
        # No step: others see nothing before it is drained, and a death comes before the next step.
        machine = self.machine
        machine.current.buffer.append((self.memory(), index, value))
        if not machine.limits.buffers:
            machine.drain(machine.current)


def _in(memory: Any, index: int) -> int:
    return memory.get(index, 0) if isinstance(memory, dict) else memory[index]


class Flags(Words):
    """The flags; a scan loads them one by one."""

    def memory(self) -> Any:
        return self.machine.flags

    def __bytes__(self) -> bytes:
        machine = self.machine
        found = bytearray(len(machine.flags))
        for slot in range(len(found)):
            if slot % BLOCK >= BLOCK - 2:  # the two that `free` gives
                found[slot] = self[slot]
        return bytes(found)


class Semaphore:
    """sem_trywait, sem_post and sem_getvalue."""

    def __init__(self, machine: Machine) -> None:
        self.machine = machine

    def acquire(self, block: bool = True, timeout: float | None = None) -> bool:
        assert not block
        assert timeout is None
        machine = self.machine
        machine.step("trywait")
        taken = machine.semaphore == 1
        if taken:  # a failing one only loads
            machine.drain(machine.current)
            machine.semaphore = 0
        # It is called by iterating, behind which no handler runs.
        return bool(machine.observe(taken))

    def release(self) -> None:
        machine = self.machine
        machine.step("post")
        if machine.closed:
            return
        machine.drain(machine.current)
        machine.semaphore += 1
        if machine.semaphore > 1:
            raise Violation("the semaphore was posted twice")
        machine.after_call()

    def _is_zero(self) -> bool:
        machine = self.machine
        machine.step("getvalue")
        zero = machine.observe(machine.semaphore == 0)
        machine.after_call()
        return zero


class Kernel:
    """What `members.Member` asks the kernel."""

    def __init__(self, machine: Machine, block: int) -> None:
        self.machine, self.block = machine, block

    def is_alive(self, block: int) -> bool:
        if block == self.block:
            return True
        machine = self.machine
        machine.step("is_alive")
        machine.drain(machine.current)
        alive = machine.observe(block not in machine.dead)
        machine.after_call()
        return alive

    def begin_recovery(self) -> bool:
        machine = self.machine
        machine.step("begin_recovery")
        machine.drain(machine.current)
        granted = machine.observe(machine.recovering in {-1, self.block})
        if granted:
            machine.recovering = self.block
        machine.after_call()
        return granted

    def end_recovery(self) -> None:
        machine = self.machine
        machine.step("end_recovery")
        machine.drain(machine.current)
        if machine.recovering == self.block:
            machine.recovering = -1
        machine.after_call()


class Registry(dict[Any, Any]):
    """The outermost blocks of a process; behind a call of a method a handler may run."""

    machine: Machine

    def get(self, *arguments: Any) -> Any:
        found = super().get(*arguments)
        self.machine.after_call()
        return found

    def pop(self, *arguments: Any) -> Any:
        found = super().pop(*arguments)
        self.machine.after_call()
        return found


class Mutex:
    """threading.RLock of one process."""

    def __init__(self, machine: Machine) -> None:
        self.machine = machine
        self.owner, self.count = -1, 0

    def state(self) -> tuple[int, int]:
        return self.owner, self.count

    def __enter__(self) -> None:
        machine = self.machine
        machine.step("mutex")
        while self.owner not in {-1, machine.current.number} and not machine.closed:
            machine.current.observed = machine.current.observed[:-1]
            machine.step("mutex")
        machine.drain(machine.current)
        self.owner, self.count = machine.current.number, self.count + 1

    def __exit__(self, *_: object) -> None:
        machine = self.machine
        self.count -= 1
        if not self.count:
            self.owner = -1
        machine.drain(machine.current)
        machine.after_call()


class Data:
    """The array's memory: writing it takes two steps, in which no other may be inside."""

    def __init__(self, machine: Machine) -> None:
        self.machine = machine

    def __setitem__(self, index: int, value: int) -> None:
        self._visit(writes=True)

    def __getitem__(self, index: int) -> int:
        self._visit(writes=False)
        return 0

    def _visit(self, *, writes: bool) -> None:
        machine = self.machine
        thread = machine.current
        if machine.closed:
            return
        self._alone(thread)
        if machine.cut and not machine.inside:
            noted = [v for m, i, v in thread.buffer if m is machine.words and i == INTERRUPTED]
            if not (noted or [machine.words.get(INTERRUPTED, 0)])[-1]:
                raise Violation("entered over half a write that nobody noted")
        machine.inside.append((thread, writes))
        try:
            machine.after_call()  # the value that is written may be an object of Python's
        except Interrupted:
            machine.inside.pop()
            raise
        machine.step("inside")
        self._alone(thread)
        machine.inside.pop()

    def _alone(self, thread: Thread) -> None:
        if any(other is not thread for other, _ in self.machine.inside):
            raise Violation("two are inside at once")


class Clock:
    """Time in which patience has always run out."""

    def __init__(self, modules: Modules) -> None:
        self.modules, self.now = modules, 0.0

    def monotonic(self) -> float:
        self.now += 1
        return self.now

    def sleep(self, _: float) -> None:
        machine = self.modules.machine
        thread = machine.current
        frame = sys._getframe()
        # What a thread remembers over its sleep; the times are always later than any patience.
        remembered = []
        while frame is not None:
            if frame.f_code.co_name in {"acquire", "__setitem__", "_block", "work"}:
                local = frame.f_locals
                remembered.append((
                    frame.f_code.co_name, frame.f_lasti, local.get("progress"),
                    getattr(local.get("below"), "slots", None),
                    local.get("count"), local.get("slot"), getattr(local.get("take"), "slot", None),
                ))  # fmt: skip
            frame = frame.f_back
        thread.slept, thread.observed = (thread.depth, tuple(remembered)), ()
        machine.step("sleep")
        machine.drain(thread)
        machine.after_call()


class Modules:
    """The modules that run: copies of the installed ones, one of them with a line changed."""

    def __init__(self, changed: str = "", before: str = "", after: str = "") -> None:
        names = ("lock", "hold", "array")
        kept = {f"ops.shm.{name}": import_module(f"ops.shm.{name}") for name in names}
        try:
            for name in names:
                full = f"ops.shm.{name}"
                file = Path(kept[full].__file__)
                source = file.read_text(encoding="utf-8")
                if name == changed:
                    assert source.count(before) == 1, f"{before!r} is not in {name} once"
                    source = source.replace(before, after)
                module = ModuleType(full)
                sys.modules[full] = module
                exec(compile(source, str(file), "exec"), module.__dict__)
                setattr(self, name, module)
        finally:
            sys.modules.update(kept)
        self.machine: Any = None
        self.lock.time = Clock(self)
        self.lock.threading = SimpleNamespace(RLock=lambda: Mutex(self.machine))
        self.lock._LONGEST_PAUSE = self.lock._SHORTEST_PAUSE  # how long is no matter here
        self.hold._get_ident = lambda: self.machine.current.number
        take, lock = self.lock.Take, self.lock.RobustLock
        for owner, name in ((take, "give_back"), (lock, "_recover")):
            setattr(owner, name, self._entered(getattr(owner, name)))

    def _entered(self, function: Callable[..., Any]) -> Callable[..., Any]:
        """Let handlers run, and raise, on the way into a function."""

        def wrapper(*arguments: Any) -> Any:
            self.machine.after_call()
            return function(*arguments)

        return wrapper

    def enter(self, machine: Machine) -> None:
        """Let *machine* be what the modules run on."""
        self.machine = machine
        self.hold._outermost = Registry()
        self.hold._outermost.machine = machine


def explore(
    modules: Modules, plan: list[list[str]], limits: Limits, start: tuple[Any, ...] = ()
) -> int:
    """Visit every state of *plan*, programs by thread by process; return how many there are.

    *start* are choices after which to begin. Raises Violation, with the choices that lead to it as a note.
    """
    known: dict[Any, int] = {}
    before: dict[int, list[int]] = defaultdict(list)
    ends, waiting = set(), [(start, -1)]
    example: dict[int, tuple] = {}
    while waiting:
        path, previous = waiting.pop()
        machine = Machine(modules, plan, limits)
        try:
            for choice in path:
                machine.take(choice)
            while True:
                state = machine.state()
                here = known.setdefault(state, len(known))
                before[here].append(previous)
                if here != len(known) - 1 or here in example:
                    break
                example[here] = path
                if machine.is_over():
                    ends.add(here)
                    break
                first, *others = machine.choices()
                waiting += [((*path, other), here) for other in others]
                path, previous = (*path, first), here
                machine.take(first)
        except Violation as violation:
            violation.add_note(" ".join(f"{kind}{number}" for kind, number in path))
            raise
        finally:
            machine.close()
    good, waiting_back = set(ends), list(ends)
    while waiting_back:
        for state_before in before[waiting_back.pop()]:
            if state_before >= 0 and state_before not in good:
                good.add(state_before)
                waiting_back.append(state_before)
    stuck = set(example) - good
    if stuck:
        violation = Violation("a thread can never come to its end")
        violation.add_note(
            " ".join(f"{k}{n}" for k, n in example[min(stuck, key=lambda s: len(example[s]))])
        )
        raise violation
    return len(known)
