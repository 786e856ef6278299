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

__all__ = ["ALONE", "Flight", "SingleFlight"]

K = TypeVar("K", bound="Hashable")
V = TypeVar("V")


class Flight:
    """One computation that is under way."""

    __slots__ = ("landed", "leader", "result", "waiters")

    def __init__(self, leader: int) -> None:
        self.leader: int = leader
        self.landed: threading.Event = threading.Event()
        self.result: tuple[Any, ...] = ()
        self.waiters: int = 0


#: Stands for a computation without waiters.
ALONE = Flight(0)


class SingleFlight(Generic[K]):
    """Runs at most one computation per key at a time, and shares its result."""

    def __init__(self) -> None:
        self._mutex = threading.RLock()  # a claim may be collected while it is held
        self._flights: dict[K, Flight] = {}
        self._waiting: dict[int, Flight] = {}
        in_children(self, SingleFlight.reset_after_fork)

    def reset_after_fork(self) -> None:
        """Keep only what this thread leads: in a forked child there is no other thread."""
        me = threading.get_ident()
        self._mutex = threading.RLock()  # the old one may be held by a thread that is not here
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
        flight, landed = self.board(key)
        if flight is None:
            theirs: V = landed[0]
            return theirs if own is None else own(theirs)
        if flight is ALONE:
            return (alone or compute)()
        try:
            value = compute()
        except BaseException:
            self.land(key, flight)
            raise
        self.land(key, flight, (value,))
        return value

    def board(self, key: K) -> tuple[Flight | None, tuple[Any, ...]]:
        """Begin to compute *key*, or wait for the thread that does.

        Returns a flight that the caller has to `land`; `ALONE` when it has to compute by itself and
        land nothing, because waiting would never end; or None and the result of another thread, as
        a tuple of one.
        """
        me = threading.get_ident()
        while True:
            with self._mutex:
                flight = self._flights.get(key)
                if flight is None:
                    mine = self._flights[key] = Flight(me)
                    return mine, ()
                if self._would_wait_for_itself(flight, me):
                    return ALONE, ()
                self._waiting[me] = flight
                flight.waiters += 1
            try:
                flight.landed.wait()
            finally:
                with self._mutex:
                    self._waiting.pop(me, None)
            if flight.result:
                return None, flight.result

    def land(self, key: K, flight: Flight, result: tuple[Any, ...] = ()) -> None:
        """End a flight with its *result*; without one, a waiter computes next. Later calls do nothing."""
        with self._mutex:
            if self._flights.get(key) is flight:
                del self._flights[key]
        if not flight.landed.is_set():
            flight.result = result
            flight.landed.set()

    def waiting(self, key: K) -> int:
        """Return how many threads have joined the computation of *key* that is under way."""
        with self._mutex:
            flight = self._flights.get(key)
            return flight.waiters if flight else 0

    def _would_wait_for_itself(self, flight: Flight, me: int) -> bool:
        step: Flight | None = flight
        while step is not None:
            if step.leader == me:
                return True
            step = self._waiting.get(step.leader)
        return False
