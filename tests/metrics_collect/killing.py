"""For programs of fault tests: a process that kills itself at a chosen call."""

import os
import signal


def kill_at(owner, name, moment, countdown):
    """Let the process die before or after the *countdown*-th call of the method *name* of *owner*."""
    original = getattr(owner, name)
    calls = 0

    def killing(*args, **kwargs):
        nonlocal calls
        calls += 1
        mine = calls == countdown
        if mine and moment == "before":
            os.kill(os.getpid(), signal.SIGKILL)
        result = original(*args, **kwargs)
        if mine:
            os.kill(os.getpid(), signal.SIGKILL)
        return result

    setattr(owner, name, killing)
