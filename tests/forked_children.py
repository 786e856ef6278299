"""Uses objects in forked children; `tests/contracts/test_forked_objects.py` finds those to be tried."""

from __future__ import annotations

import os
import signal
import threading
from collections.abc import Callable


def hung_children(use: Callable[[], object], forks: int = 10, seconds: float = 20.0) -> int:
    """Return how many children did not come back from *use*, forked while two threads use it too."""
    stop = threading.Event()

    def hammer() -> None:
        while not stop.is_set():
            use()

    threads = [threading.Thread(target=hammer, daemon=True) for _ in range(2)]
    for thread in threads:
        thread.start()
    hung = 0
    try:
        for _ in range(forks):
            hung += outcome_in_child(use, seconds) is None
            if hung:
                break
    finally:
        stop.set()
        for thread in threads:
            thread.join(60)
    return hung


def outcome_in_child(use: Callable[[], object], seconds: float = 20.0) -> str | None:
    """Return the text of what *use* returns in a forked child, None if it has to be killed."""
    reader, writer = os.pipe()
    pid = os.fork()
    if pid == 0:
        os.close(reader)
        signal.signal(signal.SIGALRM, signal.SIG_DFL)
        signal.setitimer(signal.ITIMER_REAL, seconds)
        try:
            text = str(use())
        except BaseException as error:
            text = f"{type(error).__name__}: {error}"
        os.write(writer, text.encode()[:4096] or b"-")
        os._exit(0)
    os.close(writer)
    with os.fdopen(reader, "rb") as pipe:
        text = pipe.read().decode()
    _, status = os.waitpid(pid, 0)
    return None if os.WIFSIGNALED(status) else text
