"""The breaker opens, probes exactly as often as it should, and never serializes calls."""

from __future__ import annotations

import asyncio
import contextlib
import threading

import pytest
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, rule

from ops.foundation.errors import ValidationError
from ops.resilience import BreakerEvent, CircuitBreaker, CircuitOpenError, CircuitState


class Clock:
    now = 0.0

    def __call__(self) -> float:
        return self.now


@pytest.fixture
def clock() -> Clock:
    return Clock()


def fail() -> None:
    raise OSError


def trip(breaker: CircuitBreaker, times: int) -> None:
    for _ in range(times):
        with pytest.raises(OSError):
            breaker.call(fail)


def test_it_opens_refuses_probes_and_closes(clock) -> None:
    changes = []
    breaker = CircuitBreaker(
        3, 10, OSError, on_state_change=lambda *c: changes.append(c), clock=clock, name="db"
    )
    trip(breaker, 2)
    assert breaker.call(lambda: 1) == 1, "a success forgets failures"
    trip(breaker, 3)
    with pytest.raises(CircuitOpenError, match="'db' is open") as caught:
        breaker.call(lambda: 1)
    assert caught.value.retry_after == 10
    clock.now = 10.0
    assert breaker.call(lambda: 2) == 2
    assert breaker.state is CircuitState.CLOSED
    assert [new for _, new in changes] == ["open", "half_open", "closed"]
    stats = breaker.get_stats()
    assert (stats.failures, stats.refused, stats.opened) == (5, 1, 1)


def test_a_failed_probe_opens_again(clock) -> None:
    breaker = CircuitBreaker(1, 10, clock=clock)
    trip(breaker, 1)
    clock.now = 11.0
    trip(breaker, 1)
    clock.now = 20.0
    with pytest.raises(CircuitOpenError):
        breaker.call(lambda: 1)


def test_decorators_context_managers_and_coroutines(clock) -> None:
    breaker = CircuitBreaker(1, 10, clock=clock)

    @breaker
    def function(x: int) -> int:
        return x + 1

    @breaker
    async def coroutine(x: int) -> int:
        if x:
            raise OSError
        return x

    assert function(1) == 2
    assert asyncio.run(coroutine(0)) == 0
    with pytest.raises(OSError):
        asyncio.run(coroutine(1))
    with pytest.raises(CircuitOpenError), breaker:
        pass
    with pytest.raises(CircuitOpenError):
        asyncio.run(coroutine(0))
    breaker.reset()
    with breaker:
        pass
    breaker.force_open()
    with pytest.raises(CircuitOpenError):
        function(1)


def test_only_expected_errors_count(clock) -> None:
    breaker = CircuitBreaker(1, 10, OSError, clock=clock)
    with pytest.raises(KeyError):
        breaker.call(lambda: {}[1])
    assert breaker.state is CircuitState.CLOSED


def test_an_interrupted_probe_gives_its_place_back(clock) -> None:
    breaker = CircuitBreaker(1, 10, clock=clock)
    trip(breaker, 1)
    clock.now = 10.0
    with pytest.raises(KeyboardInterrupt), breaker:
        raise KeyboardInterrupt
    assert breaker.call(lambda: 3) == 3


def test_with_a_window_the_share_of_failures_decides(clock) -> None:
    breaker = CircuitBreaker(0.5, 10, window=4, clock=clock)
    for outcome in (True, False, True):
        breaker.call(lambda: 1) if outcome else trip(breaker, 1)
    assert breaker.state is CircuitState.CLOSED
    trip(breaker, 1)
    assert breaker.state is CircuitState.OPEN


def test_calls_run_side_by_side() -> None:
    breaker = CircuitBreaker()
    together = threading.Barrier(8)
    threads = [threading.Thread(target=breaker.call, args=(together.wait, 10)) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert not together.broken
    assert breaker.get_stats().failures == 0


def test_exactly_the_wanted_number_of_probes_runs_however_many_threads_arrive(clock) -> None:
    breaker = CircuitBreaker(1, 10, success_threshold=2, clock=clock)
    trip(breaker, 1)
    clock.now = 10.0
    inside, refused, release = [], [], threading.Event()
    arrived = threading.Semaphore(0)

    def probe() -> None:
        inside.append(1)
        arrived.release()
        release.wait(10)

    def work() -> None:
        try:
            breaker.call(probe)
        except CircuitOpenError:
            refused.append(1)
            arrived.release()

    threads = [threading.Thread(target=work) for _ in range(16)]
    for thread in threads:
        thread.start()
    for _ in threads:
        arrived.acquire()
    release.set()
    for thread in threads:
        thread.join()
    assert (len(inside), len(refused)) == (2, 14)
    assert breaker.state is CircuitState.CLOSED


def test_a_call_from_before_cannot_close_an_open_circuit(clock) -> None:
    breaker = CircuitBreaker(1, 10, clock=clock)
    with breaker:  # begins while closed, ends well after the circuit has opened
        trip(breaker, 1)
    assert breaker.state is CircuitState.OPEN


@pytest.mark.parametrize("window", [None, 1])
def test_a_call_from_before_cannot_open_a_circuit_that_has_recovered(clock, window) -> None:
    breaker = CircuitBreaker(1, 10, clock=clock, window=window)

    @breaker
    def outlived(error: type[BaseException]) -> None:
        trip(breaker, 1)
        clock.now += 11
        with breaker:
            assert breaker.state is CircuitState.HALF_OPEN
        raise error

    for error in (ConnectionError, KeyboardInterrupt):
        with pytest.raises(error):
            outlived(error)
        assert breaker.state is CircuitState.CLOSED
        assert breaker.get_stats().consecutive_failures == 0


def test_a_success_from_before_does_not_forgive_what_failed_since(clock) -> None:
    breaker = CircuitBreaker(2, 10, clock=clock)
    with breaker:
        trip(breaker, 2)
        clock.now += 11
        with breaker:
            pass
        trip(breaker, 1)
    assert breaker.get_stats().consecutive_failures == 1


@pytest.mark.parametrize(
    "settings",
    [
        {"failure_threshold": 0},
        {"failure_threshold": float("nan")},
        {"success_threshold": 0},
        {"recovery_timeout": float("nan")},
        {"failure_threshold": 2, "window": 5},
        {"failure_threshold": 0.5, "window": 0},
    ],
)
def test_nonsense_is_refused(settings) -> None:
    with pytest.raises(ValidationError):
        CircuitBreaker(**settings)


class BreakerMachine(RuleBasedStateMachine):
    """The breaker against a model of five lines."""

    def __init__(self) -> None:
        super().__init__()
        self.clock = Clock()
        self.breaker = CircuitBreaker(2, 5, success_threshold=2, clock=self.clock)
        self.failures, self.successes, self.opened_at = 0, 0, None
        self.half = False

    @rule(seconds=st.sampled_from([1.0, 5.0]))
    def wait(self, seconds: float) -> None:
        self.clock.now += seconds

    @rule(works=st.booleans())
    def call(self, works: bool) -> None:
        refused = (
            self.opened_at is not None and not self.half and self.clock.now - self.opened_at < 5
        )
        try:
            self.breaker.call(lambda: None) if works else self.breaker.call(fail)
        except CircuitOpenError:
            assert refused
            return
        except OSError:
            pass
        assert not refused
        if self.opened_at is not None:
            self.half = True
            self.successes = self.successes + 1 if works else 0
            if not works:
                self.half, self.opened_at = False, self.clock.now
            elif self.successes == 2:
                self.half, self.opened_at, self.failures, self.successes = False, None, 0, 0
        else:
            self.failures = 0 if works else self.failures + 1
            if self.failures == 2:
                self.opened_at, self.successes = self.clock.now, 0

    @invariant()
    def states_agree(self) -> None:
        expected = "half_open" if self.half else "closed" if self.opened_at is None else "open"
        assert self.breaker.state == expected


TestBreakerMachine = BreakerMachine.TestCase
TestBreakerMachine.settings = settings(max_examples=50)


def test_an_observer_that_fails_neither_hides_the_error_nor_keeps_the_probes_place(
    clock, caplog
) -> None:
    def observer(old: CircuitState, new: CircuitState) -> None:
        raise RuntimeError("observer")

    breaker = CircuitBreaker(1, 10, on_state_change=observer, name="db", clock=clock)
    with caplog.at_level("ERROR", "ops.resilience"):
        with pytest.raises(OSError):
            breaker.call(fail)
        clock.now += 11
        assert breaker.call(lambda: "ok") == "ok"
    assert breaker.state is CircuitState.CLOSED
    assert "observer of circuit 'db' failed" in caplog.text


def test_tasks_of_one_thread_keep_their_blocks_apart(clock) -> None:
    async def scenario() -> list[CircuitState]:
        breaker = CircuitBreaker(1, 10, clock=clock)
        gates = asyncio.Event(), asyncio.Event()

        async def inside(gate: asyncio.Event) -> None:
            with breaker:
                await gate.wait()

        before = asyncio.create_task(inside(gates[0]))
        await asyncio.sleep(0)
        breaker.force_open()
        clock.now += 11
        probe = asyncio.create_task(inside(gates[1]))
        await asyncio.sleep(0)
        states = []
        for gate, task in zip(gates, (before, probe), strict=True):
            gate.set()
            await task
            states.append(breaker.state)
        return states

    assert asyncio.run(scenario()) == [CircuitState.HALF_OPEN, CircuitState.CLOSED]


def test_blocks_of_several_breakers_may_end_in_any_order(clock) -> None:
    one, two = CircuitBreaker(1, clock=clock), CircuitBreaker(1, clock=clock)
    one.__enter__()
    two.__enter__()
    one.__exit__(OSError, OSError(), None)
    two.__exit__(None, None, None)
    assert (one.state, two.state) == (CircuitState.OPEN, CircuitState.CLOSED)


def test_a_coroutine_function_is_judged_by_its_outcome(clock) -> None:
    async def broken() -> None:
        raise OSError

    breaker = CircuitBreaker(1, clock=clock)
    with pytest.raises(OSError):
        asyncio.run(breaker.call(broken))
    assert breaker.state is CircuitState.OPEN


def test_probes_that_hang_are_replaced_after_a_while(clock) -> None:
    breaker = CircuitBreaker(1, 10, clock=clock)
    trip(breaker, 1)
    clock.now += 11
    with breaker:  # the probe that hangs
        with pytest.raises(CircuitOpenError, match="half open"):
            breaker.call(lambda: None)
        clock.now += 10
        assert breaker.call(lambda: "ok") == "ok"
        assert breaker.state is CircuitState.CLOSED


def test_errors_that_are_left_out_are_no_failures(clock) -> None:
    breaker = CircuitBreaker(
        1, 10, clock=clock, exclude=[KeyError, lambda e: getattr(e, "errno", None) == 2]
    )
    for error in (KeyError(), OSError(2, "no such file")):
        with pytest.raises(type(error)):
            breaker.call(_raise, error)
    assert breaker.state is CircuitState.CLOSED
    with pytest.raises(OSError):
        breaker.call(_raise, OSError(5, "broken"))
    assert breaker.state is CircuitState.OPEN
    assert CircuitBreaker(exclude=KeyError).state is CircuitState.CLOSED
    with pytest.raises(ValidationError, match="exclude"):
        CircuitBreaker(exclude=[int])


def test_listeners_hear_of_states_failures_and_refusals(clock, caplog) -> None:
    events: list[BreakerEvent] = []

    def broken(_: BreakerEvent) -> None:
        raise RuntimeError("hunter2")

    breaker = CircuitBreaker(1, 10, name="db", clock=clock, listeners=[broken])
    breaker.add_listener(events.append)
    with pytest.raises(OSError):
        breaker.call(fail)
    with pytest.raises(CircuitOpenError):
        breaker.call(fail)
    assert [e.kind for e in events] == ["failure", "state", "refused"]
    assert isinstance(events[0].error, OSError)
    assert (events[1].before, events[1].after) == ("closed", "open")
    assert "observer of circuit 'db' failed with RuntimeError" in caplog.text
    assert "hunter2" not in caplog.text
    assert breaker.remove_listener(broken)
    assert not breaker.remove_listener(broken)


def test_an_async_block_is_guarded(clock) -> None:
    breaker = CircuitBreaker(1, 10, clock=clock)

    async def scenario() -> None:
        with pytest.raises(OSError):
            async with breaker:
                raise OSError
        with pytest.raises(CircuitOpenError):
            async with breaker:
                pass

    asyncio.run(scenario())


def test_the_default_threshold_follows_the_window() -> None:
    breaker = CircuitBreaker(window=4)
    for error in (None, OSError(), None, OSError()):
        with contextlib.suppress(OSError):
            breaker.call(_raise, error)
    assert breaker.state is CircuitState.OPEN


def _raise(error: Exception | None) -> None:
    if error is not None:
        raise error
