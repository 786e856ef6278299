"""A computation that its caller does itself, between two calls of the cache.

`get_or_compute` calls a function from within the cache, which takes some frames of the stack; a
recursive function that is memoized that way reaches the recursion limit early. With a claim the
caller computes in its own frame.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from ops.cache.single_flight import ALONE

if TYPE_CHECKING:
    from collections.abc import Callable

    from ops.cache.single_flight import Flight, SingleFlight

__all__ = ["Claim"]


class Claim:
    """The right, and duty, to compute the value of one key: `finish` it or `fail`.

    Args:
        store: stores the value; its errors are the caller's.
        flights: the computations of the cache.
        key: the key that is computed.
        flight: what `flights.board` returned for it.
    """

    __slots__ = ("_flight", "_flights", "_key", "_store")

    def __init__(
        self, store: Callable[[Any], None], flights: SingleFlight[Any], key: Any, flight: Flight
    ) -> None:
        self._store, self._flights, self._key, self._flight = store, flights, key, flight

    def finish(self, value: Any) -> Any:
        """Store *value*, hand it to the threads that wait, and return it."""
        try:
            self._store(value)
        except BaseException:
            self.fail()
            raise
        if self._flight is not ALONE:
            self._flights.land(self._key, self._flight, (value,))
        return value

    def fail(self) -> None:
        """Let another thread compute."""
        if self._flight is not ALONE:
            self._flights.land(self._key, self._flight)

    def __del__(self) -> None:
        # An interrupt that came between two lines of its holder: the others must not wait for ever.
        if not self._flight.landed.is_set():
            self.fail()
