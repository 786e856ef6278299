"""Events and hooks: what is going on inside a program, told to whoever cares."""

from typing import TYPE_CHECKING

from ops.foundation.lazy import lazy_exports

if TYPE_CHECKING:
    from ops.observe.errors import (
        ObserveError,
        ObserveErrorCode,
        SignatureError,
    )
    from ops.observe.events import (
        Event,
        EventEmitter,
        EventEmitterProtocol,
        Subscription,
        get_event_emitter,
    )
    from ops.observe.hooks import HooksManager, get_hooks_manager

__all__ = [
    "Event",
    "EventEmitter",
    "EventEmitterProtocol",
    "HooksManager",
    "ObserveError",
    "ObserveErrorCode",
    "SignatureError",
    "Subscription",
    "get_event_emitter",
    "get_hooks_manager",
]

__getattr__, __dir__ = lazy_exports(
    __name__,
    {
        ".errors": (
            "ObserveError",
            "ObserveErrorCode",
            "SignatureError",
        ),
        ".events": (
            "Event",
            "EventEmitter",
            "EventEmitterProtocol",
            "Subscription",
            "get_event_emitter",
        ),
        ".hooks": ("HooksManager", "get_hooks_manager"),
    },
)
