"""The indexes of experiments that this process has open: few of them, those used last."""

from __future__ import annotations

import threading
from typing import TYPE_CHECKING

from ops.registry.local.index.run_index import RunIndex

if TYPE_CHECKING:
    import pathlib
    from collections.abc import Callable

__all__ = ["OpenIndexes"]

MOST_INDEXES = 64


class OpenIndexes:
    """Opens the index of an experiment, whose runs are in the folder that *folder* returns for its id."""

    def __init__(self, folder: Callable[[str], pathlib.Path], durability: str) -> None:
        self._folder = folder
        self._durability = durability
        self.begin_in_child()

    def begin_in_child(self) -> None:
        """Reset, also in a forked child, where a lock that another thread had is never released."""
        self._lock = threading.RLock()  # a signal handler may use it amid a use of its thread
        self._open: dict[str, RunIndex] = {}  # those used last come last

    def get(self, experiment_id: str) -> RunIndex:
        """Return the index of an experiment's runs."""
        with self._lock:
            index = self._open.pop(experiment_id, None)
            if index is None:
                index = RunIndex(self._folder(experiment_id), durability=self._durability)
                while len(self._open) >= MOST_INDEXES:
                    # A thread that uses it still goes on: to an index it is one more process.
                    self._open.pop(next(iter(self._open))).rest()
            self._open[experiment_id] = index
            return index

    def close(self) -> None:
        """Close the files that are open."""
        with self._lock:
            for index in self._open.values():
                index.close()
