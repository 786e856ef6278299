"""Events: one part of a program reports what it does, others subscribe, and neither knows the other.

Emitting takes no lock: subscribing builds a new routing table and replaces the old one in a single
assignment, so an emitter sees either the table before or the table after, never one half changed.
An event without a listener costs one tuple in the history; the `Event` is built when it is read.
Listeners cannot harm the emitter: what they raise is logged, without the event's data, and counted.
"""

from __future__ import annotations

import asyncio
import datetime as dt
import inspect
import threading
from collections import deque
from dataclasses import dataclass, field
from time import time_ns
from typing import TYPE_CHECKING, Any, Literal, Protocol, Self, TypeAlias, runtime_checkable

from ops.foundation.errors import ValidationError, described
from ops.foundation.forks import keep_over_forks
from ops.foundation.logs import get_logger
from ops.observe.errors import SignatureError

if TYPE_CHECKING:
    import logging
    from collections.abc import Callable, Coroutine, Mapping

__all__ = ["Event", "EventEmitter", "EventEmitterProtocol", "Subscription", "get_event_emitter"]

logger: logging.Logger = get_logger("ops.observe")

ANY = "*"


@dataclass(slots=True)
class Event:
    """What happened, when (aware UTC), to what, and on whose behalf.

    All listeners get the same object: treat it as read-only. It is not frozen because freezing
    doubles the cost of making one.

    *event_type*, *data*, *source* and *correlation_id* are what `EventEmitter.emit` was given;
    *timestamp* is when.
    """

    event_type: str
    timestamp: dt.datetime
    data: Any = None
    source: str | None = None
    correlation_id: str | None = None

    def to_dict(self) -> dict[str, Any]:
        """Return the fields with JSON-ready type and time; `data` as it is."""
        return {
            "event_type": _text(self.event_type),
            "timestamp": self.timestamp.isoformat(),
            "data": self.data,
            "source": self.source,
            "correlation_id": self.correlation_id,
        }


Listener: TypeAlias = "Callable[[Event], object]"
_Raw: TypeAlias = "tuple[str, int, Any, str | None, str | None]"


@runtime_checkable
class EventEmitterProtocol(Protocol):
    """What components that emit or subscribe may rely on."""

    def subscribe(self, event_type: str, callback: Listener) -> Callable[[], object]:
        """Call *callback* with each event of *event_type*; the result ends it when called."""
        ...

    def unsubscribe(self, event_type: str, callback: Listener) -> bool:
        """Stop calling *callback*."""
        ...

    def emit(
        self,
        event_type: str,
        data: Any = None,
        *,
        source: str | None = None,
        correlation_id: str | None = None,
    ) -> None:
        """Notify the listeners of *event_type*; *data*, *source* and *correlation_id* become those of the event."""
        ...


@dataclass(eq=False, slots=True)
class Subscription:
    """One callback on one event type; call it, or leave its `with` block, to end it.

    *callback* gets the events of *event_type* that *emitter* publishes.
    """

    emitter: EventEmitter = field(repr=False)
    event_type: str
    callback: Listener

    def unsubscribe(self) -> bool:
        """End the subscription; False when it had ended already."""
        return self.emitter._remove(self)  # noqa: SLF001 - two halves of one class

    def __call__(self) -> bool:
        """End the subscription, so that the handle itself can be passed as a clean-up."""
        return self.unsubscribe()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *exc: object) -> None:
        self.unsubscribe()


class EventEmitter:
    """Publishes events to listeners and remembers the last *max_history* of them.

    Listeners run in the thread that emits, in the order they subscribed. A coroutine function is
    scheduled on the running loop, or run to its end when there is none; `emit_async` awaits it.
    Errors of listeners are logged and counted; with *on_error* "raise" the first reaches the
    emitter: for tests. Raises `ValidationError` for another *on_error*.

    >>> emitter = EventEmitter()
    >>> subscription = emitter.subscribe("run.ended", lambda event: print(event.data))
    >>> emitter.emit("run.ended", {"run": "r1"})
    {'run': 'r1'}
    """

    def __init__(
        self, *, max_history: int = 1000, on_error: Literal["log", "raise"] = "log"
    ) -> None:
        if on_error not in {"log", "raise"}:
            raise ValidationError(f"on_error={on_error!r} is unknown; use 'log' or 'raise'.")
        self.on_error = on_error
        self._history: deque[Event | _Raw] = deque(maxlen=max_history)
        # Re-entrant: a signal handler may subscribe while it interrupts a subscription.
        self._lock = threading.RLock()
        keep_over_forks(self)
        self._subscriptions: tuple[Subscription, ...] = ()
        self._routes: Mapping[str, tuple[Listener, ...]] = {ANY: ()}
        self._enabled = True
        self._listener_errors = 0
        self._tasks: set[asyncio.Task[None]] = set()

    def subscribe(self, event_type: str, callback: Listener) -> Subscription:
        """Call *callback* with each event of *event_type* (``"*"``: of every type).

        Raises `SignatureError` when *callback* cannot be called.
        """
        if not callable(callback):
            raise SignatureError(f"{callback!r} cannot be called, so it is no listener.")
        subscription = Subscription(self, event_type, callback)
        with self._lock:
            self._route((*self._subscriptions, subscription))
        return subscription

    def unsubscribe(self, event_type: str, callback: Listener) -> bool:
        """End the oldest subscription of *callback* to *event_type*; False when there is none."""
        while True:
            fitting = (
                known
                for known in self._subscriptions
                if known.event_type == event_type and known.callback == callback
            )
            oldest = next(fitting, None)
            if oldest is None or self._remove(oldest):  # else another thread has ended that one
                return oldest is not None

    on = subscribe
    off = unsubscribe

    def emit(
        self,
        event_type: str,
        data: Any = None,
        *,
        source: str | None = None,
        correlation_id: str | None = None,
    ) -> None:
        """Notify the listeners of *event_type*, and of ``"*"``.

        *data* is passed on as it is. *source* names who emits; *correlation_id* is what the events
        of one task have in common. Nothing is raised unless the emitter was made with
        `on_error="raise"`.
        """
        if not self._enabled:
            return
        routes = self._routes
        listeners = routes.get(event_type) or routes[ANY]
        if not listeners:
            self._history.append((event_type, time_ns(), data, source, correlation_id))
            return
        event = Event(event_type, dt.datetime.now(dt.UTC), data, source, correlation_id)
        self._history.append(event)
        for listener in listeners:
            try:
                outcome = listener(event)
                if outcome is not None and inspect.iscoroutine(outcome):
                    self._run(event, listener, outcome)
            except Exception as error:  # noqa: BLE001 - no listener may harm the emitter
                self._failed(event, listener, error)

    async def emit_async(
        self,
        event_type: str,
        data: Any = None,
        *,
        source: str | None = None,
        correlation_id: str | None = None,
    ) -> None:
        """Emit like `emit`, and return when the asynchronous listeners are done too.

        *event_type*, *data*, *source* and *correlation_id* are those of `emit`.
        """
        if not self._enabled:
            return
        event = Event(event_type, dt.datetime.now(dt.UTC), data, source, correlation_id)
        self._history.append(event)
        routes = self._routes
        pending: list[Coroutine[Any, Any, None]] = []
        for listener in routes.get(event_type) or routes[ANY]:
            try:
                outcome = listener(event)
            except Exception as error:  # noqa: BLE001 - no listener may harm the emitter
                self._failed(event, listener, error)
            else:
                if inspect.iscoroutine(outcome):
                    pending.append(self._awaited(event, listener, outcome))
        await asyncio.gather(*pending)

    def get_history(self, event_type: str | None = None, limit: int | None = None) -> list[Event]:
        """Return the remembered events, oldest first: of one type, and only the newest *limit*."""
        # deque.copy runs without letting another thread in, unlike a loop over the deque.
        events = [_event(entry) for entry in self._history.copy()]
        if event_type is not None and event_type != ANY:
            events = [e for e in events if e.event_type == event_type]
        return events if limit is None else events[max(0, len(events) - limit) :]

    def clear_history(self) -> None:
        """Forget the remembered events."""
        self._history.clear()

    def enable(self) -> None:
        """Emit again after `disable`."""
        self._enabled = True

    def disable(self) -> None:
        """Make `emit` do nothing until `enable`: no listener, no history."""
        self._enabled = False

    @property
    def enabled(self) -> bool:
        """Whether `emit` does anything."""
        return self._enabled

    @property
    def listener_errors(self) -> int:
        """How many times a listener raised."""
        return self._listener_errors

    def listener_count(self, event_type: str | None = None) -> int:
        """Return how many listeners an event of *event_type* would reach; without it, all."""
        if event_type is None:
            return len(self._subscriptions)
        return len(self._routes.get(event_type) or self._routes[ANY])

    def reset(self) -> None:
        """Drop listeners, history and counts, and enable: a fresh start between tests."""
        with self._lock:
            self._route(())
            self._listener_errors = 0
        self._history.clear()
        self._enabled = True

    @property
    def mutex(self) -> threading.RLock:
        """The lock of the subscriptions; see `ops.foundation.forks`."""
        return self._lock

    def _remove(self, subscription: Subscription) -> bool:
        with self._lock:
            rest = tuple(s for s in self._subscriptions if s is not subscription)
            found = len(rest) < len(self._subscriptions)
            self._route(rest)
        return found

    def _route(self, subscriptions: tuple[Subscription, ...]) -> None:
        types = {s.event_type for s in subscriptions} | {ANY}
        self._subscriptions = subscriptions
        self._routes = {
            wanted: tuple(s.callback for s in subscriptions if s.event_type in {wanted, ANY})
            for wanted in types
        }

    def _run(self, event: Event, listener: Listener, work: Coroutine[Any, Any, object]) -> None:
        try:
            loop = asyncio.get_running_loop()
        except RuntimeError:
            asyncio.run(self._awaited(event, listener, work))
            return
        task = loop.create_task(self._awaited(event, listener, work))
        self._tasks.add(task)  # the loop holds only a weak reference
        task.add_done_callback(self._tasks.discard)

    async def _awaited(
        self, event: Event, listener: Listener, work: Coroutine[Any, Any, object]
    ) -> None:
        try:
            await work
        except Exception as error:  # noqa: BLE001 - no listener may harm the emitter
            self._failed(event, listener, error)

    def _failed(self, event: Event, listener: Listener, error: Exception) -> None:
        with self._lock:
            self._listener_errors += 1
        if self.on_error == "raise":
            raise error
        # The error by its type only: its text may hold a secret.
        logger.error(
            "listener %s of event %r failed with %s",
            getattr(listener, "__qualname__", type(listener).__name__),
            _text(event.event_type),
            described(error),
        )


def _text(event_type: object) -> str:
    # Of a str enum the value, not "Color.RED"; what is no str must not make its failure unheard.
    return str.__str__(event_type) if isinstance(event_type, str) else str(event_type)


def _event(entry: Event | _Raw) -> Event:
    if isinstance(entry, Event):
        return entry
    event_type, nanoseconds, data, source, correlation_id = entry
    seconds, rest = divmod(nanoseconds, 1_000_000_000)
    when = dt.datetime.fromtimestamp(seconds, dt.UTC).replace(microsecond=rest // 1000)
    return Event(event_type, when, data, source, correlation_id)


_emitter = EventEmitter()


def get_event_emitter() -> EventEmitter:
    """Return the emitter that the whole process shares."""
    return _emitter
