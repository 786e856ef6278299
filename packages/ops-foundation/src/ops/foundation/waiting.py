"""How long a lock may be waited for, in the spellings of `threading` and of other lock libraries."""

from __future__ import annotations

import threading
from typing import Any

__all__ = ["checked_timeout", "checked_wait"]


def checked_wait(
    blocking: bool | float | None,  # noqa: FBT001 - as the locks of threading
    timeout: float | None,
) -> tuple[bool, float | None]:
    """Return whether an `acquire` waits, and its own limit in seconds, from its arguments.

    *blocking* is a bool, or stands for *timeout* when it is a number. Raises TypeError for two
    limits.
    """
    if isinstance(blocking, bool):
        return blocking, timeout
    if blocking is not None and timeout is not None:
        raise TypeError(f"Two timeouts are given: {blocking!r} and {timeout!r}.")
    return True, timeout if blocking is None else blocking


def checked_timeout(timeout: float | None) -> float | None:
    """Return the longest wait of *timeout* seconds, None for one without end.

    -1 has no end, as in `threading` and filelock, and neither has more than `threading` can count.
    Raises ValueError for other negative numbers, for NaN, which is neither reached nor exceeded,
    and for a bool, which is meant as `blocking`.
    """
    given: Any = timeout
    if isinstance(given, bool) or (timeout is not None and timeout != -1 and not timeout >= 0):
        raise ValueError(
            f"timeout={timeout} is no number of seconds to wait; None or -1 waits for ever, 0 not at all."
        )
    if timeout is None or timeout == -1 or timeout > threading.TIMEOUT_MAX:
        return None
    return timeout
