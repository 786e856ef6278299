"""Clients are not built while the process forks, which the child would not survive.

The first client imports httpx, and each reads certificates. Both happen under locks of the interpreter
and of OpenSSL, which a child would inherit as taken by a thread that it does not have.
"""

from __future__ import annotations

import contextlib
import threading
from typing import TYPE_CHECKING

from ops.foundation.forks import keep_over_forks

if TYPE_CHECKING:
    from collections.abc import Iterator

__all__ = ["building"]


class _Building:
    def __init__(self) -> None:
        self.mutex = threading.RLock()
        keep_over_forks(self)


_building = _Building()


@contextlib.contextmanager
def building() -> Iterator[None]:
    """Let forks wait until the block ends, in which a client is built."""
    with _building.mutex:
        yield
