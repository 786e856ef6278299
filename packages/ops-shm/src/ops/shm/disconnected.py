"""What stands in for an array's memory while it is not connected."""

from __future__ import annotations

from typing import NoReturn

from ops.shm.errors import NotConnectedError


class Disconnected:
    """Stands in for the header, the array and the lock, so that the hot path needs no check of its own."""

    def __init__(self, name: str) -> None:
        self._name = name

    def _refuse(self, *_: object) -> NoReturn:
        raise NotConnectedError(
            f"The shared array {self._name!r} is not connected here.",
            suggestions=("Call connect() first.",),
        )

    __getitem__ = __setitem__ = _refuse
    # What the lock is asked for first.
    try_ = acquire = _refuse
