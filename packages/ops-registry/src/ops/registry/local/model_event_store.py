"""The event store of models on local files: one journal, folded into memory, read on from where it was.

Every change is one frame that is appended under the registry's lock, so a promotion and the
archiving of the version before it are visible together or not at all. A version number is given in
the frame that registers it; numbers of deleted versions are not given again. A process that begins
takes what the first frames came to from a snapshot (`ops.registry.models.snapshots`), if there is one.
"""

from __future__ import annotations

import contextlib
import pathlib
import threading
from typing import TYPE_CHECKING, Any

from ops.foundation.errors import ConflictError
from ops.foundation.locks import FileLock
from ops.foundation.logs import get_logger
from ops.registry.disk.journal import JournalReader, JournalWriter, writing
from ops.registry.json_values import canonical, decode, encode
from ops.registry.models.snapshots import load, save
from ops.registry.models.state import FORMAT, ModelState, check_frame

if TYPE_CHECKING:
    import logging
    from collections.abc import Callable, Iterable, Iterator, Mapping

    from ops.registry.models.ports import Decide
    from ops.registry.models.snapshots import Models

__all__ = ["JournalModelEvents"]

logger: logging.Logger = get_logger("ops.registry")

#: After so many frames that are in no snapshot one is written: reading them takes about 20 ms.
SNAPSHOT_FRAMES = 1_000


class JournalModelEvents:
    """The models in one journal; the caller excludes other threads."""

    def __init__(
        self, journal: pathlib.Path, artifacts: pathlib.Path, *, durability: str = "process"
    ) -> None:
        self._journal = journal
        self._reader = JournalReader(journal)
        self._durability = durability
        self._lock = FileLock(journal.parent / ".lock", timeout=60)
        self._artifacts = str(artifacts)
        self._snapshot = f"{journal}.snapshot"
        self._has_begun = False
        self._since_snapshot = 0
        self._background: threading.Thread | None = None
        # Amid which of its steps a signal handler of its thread may call it.
        self._is_folding = self._is_changing = False
        self.state: ModelState = self._nothing()

    @property
    def torn(self) -> int:
        """How many lines were damaged."""
        return self._reader.torn

    def refresh(self) -> None:
        """Fold in what was appended since the last time."""
        if self._is_folding:
            return  # called by a signal handler: what it has interrupted goes on
        with self._in_whole():
            if not self._has_begun:
                self._begin()
            records = self._reader.poll()
            if self._reader.is_replaced:
                self._begin()
                records = self._reader.poll()
            self._fold(records)
        if self._since_snapshot >= SNAPSHOT_FRAMES:
            self._save_in_background()

    def commit(
        self, name: str, decide: Decide, then: Callable[[], object] | None = None
    ) -> Mapping[str, Any]:
        """Append the frame that *decide* makes of the model as it is; others wait meanwhile."""
        with self.excluding():
            frame = {"v": FORMAT, **decide(self.state.models.get(name))}
            body = encode(frame)
            with JournalWriter(self._journal, durability=self._durability) as journal:
                position = journal.append_body(body)
            self._advance(position, body)
            if then is not None:
                then()
            return frame

    def history(self, name: str) -> list[dict[str, Any]]:
        """Return the frames of a model by its name now, oldest first."""
        return self._histories().get(name, [])

    def history_like(self, name: str, first: Mapping[str, Any]) -> list[dict[str, Any]]:
        """Return the history that begins with the frame *first*: it may have another name here by now."""
        here = self._histories()
        for found in here.values():
            if canonical({**found[0], "uri": None}) == canonical({**first, "uri": None}):
                return found
        return here.get(name, [])

    def is_sound(self) -> bool:
        """Whether the journal, read from its beginning, gives the same."""
        self.refresh()
        if not self._has_begun:  # it does not come from the journal
            return True
        return dict(self._read_anew().state.models.lines()) == dict(self.state.models.lines())

    def rebuild(self) -> None:
        """Read the journal from its beginning, and write the snapshot again if there was one."""
        anew = self._read_anew()
        self._reader, self.state = anew._reader, anew.state  # noqa: SLF001 - the same class
        if pathlib.Path(self._snapshot).exists():
            self._save_in_background()

    def close(self) -> None:
        """Wait for a snapshot that is being written."""
        if self._background is not None:
            self._background.join()

    def reset(self) -> None:
        """Clear what was read, and a snapshot that is being written: both may be half done."""
        self._has_begun = self._is_folding = self._is_changing = False
        self._background = None

    @contextlib.contextmanager
    def excluding(self) -> Iterator[None]:
        """Hold the lock between processes, with what others appended before it was taken read."""
        if self._is_changing:
            raise ConflictError(
                "A signal handler cannot change models amid a change of them that it has interrupted.",
                suggestions=("Set a flag in the handler, and change them when it has returned.",),
            )
        self._is_changing = True
        try:
            with writing(self._lock.path):
                self._lock.acquire()
            try:
                self.refresh()
                yield
            finally:
                self._lock.release()
        finally:
            self._is_changing = False

    def _advance(self, position: tuple[int, int], body: bytes) -> None:
        """Fold in the frame that was just appended at *position*, without reading it, if it is the next one."""
        with self._in_whole():
            if self._reader.skip(*position):
                self._fold([decode(body)])
                if self._since_snapshot < SNAPSHOT_FRAMES:
                    return  # under the lock no other process has appended
        self.refresh()

    @contextlib.contextmanager
    def _in_whole(self) -> Iterator[None]:
        """Start over after an error or an interrupt amid folding: what was read is not read again."""
        is_nested, self._is_folding = self._is_folding, True
        try:
            yield
        except BaseException:
            self._has_begun = False
            raise
        finally:
            self._is_folding = is_nested

    def _begin(self) -> None:
        self._reader = JournalReader(self._reader.path)
        self.state = self._nothing()
        self._since_snapshot = 0
        found = load(self._snapshot, self._reader.path)
        if found is not None and self._reader.skip(0, found.offset):
            self._reader.torn = found.torn
            self.state.models.restore(found.lines)
        self._has_begun = True

    def _nothing(self) -> ModelState:
        return ModelState(self._artifacts, pathlib.Path(self._artifacts).parents[1])

    def _read_anew(self) -> JournalModelEvents:
        anew = JournalModelEvents(self._journal, pathlib.Path(self._artifacts))
        anew._has_begun = True
        anew._fold(anew._reader.poll())
        return anew

    def _histories(self) -> dict[str, list[dict[str, Any]]]:
        """Return the frames of each model by its name now; a model keeps them when it is renamed."""
        found: dict[str, list[dict[str, Any]]] = {}
        for record in JournalReader(self._journal).poll():
            check_frame(record)
            found.setdefault(record["name"], []).append(record)
            if record["op"] == "rename":
                found[record["to"]] = found.pop(record["name"])
        return found

    def _save_in_background(self) -> None:
        if self._background is not None and self._background.is_alive():
            return
        self._since_snapshot = 0
        known = self._reader.offset, self._reader.torn, self.state.models.copy()
        # Not a daemon: an interpreter that ends waits for it, some tenths of a second at most.
        self._background = threading.Thread(
            target=self._save, args=known, name="ops-registry-snapshot"
        )
        self._background.start()

    def _save(self, offset: int, torn: int, models: Models) -> None:
        try:
            save(self._snapshot, self._reader.path, offset, torn, models)
        except (OSError, ValueError):
            # It is a view, and perhaps one who may not write reads: the journal has everything.
            logger.debug("%s could not be written", self._snapshot, exc_info=True)

    def _fold(self, records: Iterable[Mapping[str, Any]]) -> None:
        for record in records:
            self._since_snapshot += 1
            self.state.apply(record)
