"""Single flight: many threads that want the same missing value, one that computes it.

The first thread to ask for a key leads; the others wait for it. A leader that fails takes its
exception home and a waiter leads next. Waiting is refused where it could never end: a thread that
leads a key and asks for it again (recursion), or that would wait for a thread that waits, through
however many others, for itself, computes the value on its own. A child that was forked has none of
the other threads, so it forgets what they lead.
"""

from __future__ import annotations

import threading
from typing import TYPE_CHECKING, Any, Generic, TypeVar

from ops.foundation.forks import in_children

if TYPE_CHECKING:
    from collections.abc import Callable, Hashable

__all__ = ["SingleFlight"]

K = TypeVar("K", bound="Hashable")
V = TypeVar("V")


class _Flight:
    __slots__ = ("landed", "leader", "ok", "value", "waiters")

    def __init__(self, leader: int) -> None:
        self.leader = leader
        self.landed = threading.Event()
        self.ok = False
        self.value: Any = None
        self.waiters = 0


class SingleFlight(Generic[K]):
    """Runs at most one computation per key at a time, and shares its result."""

    def __init__(self) -> None:
        self._mutex = threading.Lock()
        self._flights: dict[K, _Flight] = {}
        self._waiting: dict[int, _Flight] = {}
        in_children(self, SingleFlight.forget_other_threads)

    def forget_other_threads(self) -> None:
        """Keep only what this thread leads: in a forked child there is no other thread."""
        me = threading.get_ident()
        self._mutex = threading.Lock()  # the old one may be held by a thread that is not here
        self._flights = {key: f for key, f in self._flights.items() if f.leader == me}
        self._waiting = {}

    def do(
        self,
        key: K,
        compute: Callable[[], V],
        alone: Callable[[], V] | None = None,
        own: Callable[[V], V] | None = None,
    ) -> V:
        """Return the result of *compute* for *key*, from this thread or from the one that leads.

        Where waiting would never end, this thread calls *alone* (default: *compute*), which must
        not wait for what a leader may hold. *own* turns the result of another thread into this
        one's, where threads must not share an object.
        """
        me = threading.get_ident()
        mine: _Flight | None
        while True:
            with self._mutex:
                flight = self._flights.get(key)
                if flight is None:
                    mine = self._flights[key] = _Flight(me)
                    break
                if self._would_wait_for_itself(flight, me):
                    mine = None
                    break
                self._waiting[me] = flight
                flight.waiters += 1
            try:
                flight.landed.wait()
            finally:
                with self._mutex:
                    del self._waiting[me]
            if flight.ok:
                theirs: V = flight.value
                return theirs if own is None else own(theirs)
        if mine is None:
            return (alone or compute)()
        return self._lead(key, mine, compute)

    def waiting(self, key: K) -> int:
        """Return how many threads have joined the computation of *key* that is under way."""
        with self._mutex:
            flight = self._flights.get(key)
            return flight.waiters if flight else 0

    def _lead(self, key: K, flight: _Flight, compute: Callable[[], V]) -> V:
        try:
            flight.value = value = compute()
            flight.ok = True
            return value
        finally:
            with self._mutex:
                del self._flights[key]
            flight.landed.set()

    def _would_wait_for_itself(self, flight: _Flight, me: int) -> bool:
        step: _Flight | None = flight
        while step is not None:
            if step.leader == me:
                return True
            step = self._waiting.get(step.leader)
        return False
