"""What was begun to be uploaded, so that what a kill left behind can be found and removed.

The address is noted, flushed to the system, before the first byte is sent; an artifact is there for
readers once the journal of its run or model names that address. What is noted, old, and named by no
journal is therefore a left-over of this store, also in a shared bucket; no process needs to list it.
A note is kept as long as there may be something at its address.
"""

from __future__ import annotations

import time
from typing import TYPE_CHECKING, Any

from ops.foundation.files import atomic_write
from ops.foundation.locks import FileLock
from ops.foundation.paths import is_there
from ops.registry.disk.checked_paths import refuse_link
from ops.registry.disk.journal import JournalReader, JournalWriter, frame, writing

if TYPE_CHECKING:
    import pathlib
    from collections.abc import Callable, Collection

__all__ = ["Uploads"]


class Uploads:
    """The notes of one part of a store, in the file *path*, which appears with the first of them."""

    def __init__(self, path: pathlib.Path) -> None:
        self._path = path
        self._lock = FileLock(f"{path}.lock", timeout=60)

    def is_begun(self) -> bool:
        """Whether anything was ever noted."""
        return is_there(self._path)

    def note(self, uri: str, now: Callable[[], float] = time.time) -> None:
        """Remember that there is, or will be, something at *uri* that may have to be removed."""
        with writing(self._path), self._lock, JournalWriter(self._path) as journal:
            journal.append({"uri": uri, "at": now()})

    def before(self, seconds: float) -> list[str]:
        """Return what was noted before a time, in seconds since the epoch."""
        return sorted({note["uri"] for note in self._notes() if note["at"] < seconds})

    def forget(self, uris: Collection[str]) -> None:
        """Drop the notes of *uris*, where nothing is any more."""
        with writing(self._path), self._lock:
            kept = [note for note in self._notes() if note["uri"] not in uris]
            refuse_link(self._path)
            with atomic_write(self._path, "wb") as file:
                file.write(b"".join(map(frame, kept)))

    def _notes(self) -> list[dict[str, Any]]:
        return JournalReader(self._path).poll()
