"""Finds the public classes whose objects a fork could harm, and uses them in forked children.

A class is found by its source: locks, threads, sockets, pools. A package's test gives a recipe for each: how
to make one, and a use of it that takes its locks. A class that is found without a recipe fails that test.
"""

from __future__ import annotations

import importlib
import inspect
import os
import re
import signal
import threading
from collections.abc import Callable

STATE_OF_A_PROCESS = re.compile(
    r"\b(RLock|Lock|Condition|Event|Thread|Semaphore|Executor|socket|HTTPServer|httpx\.\w*Client)\("
)


def classes_with_state_of_a_process(package: str) -> set[str]:
    """Return the names of public classes whose source makes locks, threads, sockets or pools."""
    module = importlib.import_module(package)
    found = set()
    for name in module.__all__:
        kind = getattr(module, name)
        if not inspect.isclass(kind):
            continue
        sources = [inspect.getsource(c) for c in kind.__mro__ if c.__module__.startswith("ops.")]
        if any(STATE_OF_A_PROCESS.search(source) for source in sources):
            found.add(name)
    return found


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
