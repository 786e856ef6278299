"""Stand-ins for the parts of an array that it does not have, so that the hot path needs no check."""

from __future__ import annotations

from typing import NoReturn

from ops.shm.errors import NotConnectedError, ReadOnlyError


class Disconnected:
    """Stands in for the header, the data and the lock of an object that is not connected."""

    def __init__(self, name: str) -> None:
        self._name = name

    def __getattr__(self, attribute: str) -> NoReturn:
        if attribute.startswith("__"):
            raise AttributeError(attribute)
        self._refuse()

    def _refuse(self, *_: object) -> NoReturn:
        raise NotConnectedError(
            f"The shared array {self._name!r} is not connected here.",
            suggestions=("Call connect() first.",),
        )

    __getitem__ = __setitem__ = _refuse


class ReadOnly(Disconnected):
    """Stands in for the lock of an object that was attached for reading only."""

    def _refuse(self, *_: object) -> NoReturn:
        raise ReadOnlyError(
            f"The shared array {self._name!r} is attached for reading only.",
            suggestions=("Attach with readonly=False to write or to hold the lock.",),
        )
