"""An end to waiting for a server that stops responding in the middle of a COPY.

The server's own timeout ends statements that run too long, as long as there is a server. When the
network or the server's machine is gone, the client would wait for ever; so a thread watches the
progress and, when there has been none for too long, shuts the socket down, which ends the wait.
"""

from __future__ import annotations

import contextlib
import os
import socket
import threading
import time
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Iterator

__all__ = ["Progress", "watched"]

_GRACE_SECONDS = 5.0  # in which the server's own timeout arrives


class Progress:
    """When something arrived the last time."""

    __slots__ = ("at",)

    def __init__(self) -> None:
        self.at = time.monotonic()

    def note(self) -> None:
        """Record that something has arrived."""
        self.at = time.monotonic()


@contextlib.contextmanager
def watched(db: Any, timeout_seconds: float) -> Iterator[Progress]:
    """Shut the connection *db* down when nothing arrives for *timeout_seconds*, within the block."""
    progress, ended = Progress(), threading.Event()
    limit = timeout_seconds + _GRACE_SECONDS

    def watch() -> None:
        while not ended.wait(min(1.0, limit / 4)):
            if time.monotonic() - progress.at > limit:
                with contextlib.suppress(OSError), socket.socket(fileno=os.dup(db.fileno())) as own:
                    own.shutdown(socket.SHUT_RDWR)
                return

    thread = threading.Thread(target=watch, name="ops-metrics-watchdog", daemon=True)
    thread.start()
    try:
        yield progress
    finally:
        ended.set()
        thread.join()
