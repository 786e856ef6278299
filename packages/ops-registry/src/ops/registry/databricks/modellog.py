"""The history of models in tables: frames in a chain, and one row per model that names its head.

A change is two statements. A blind INSERT adds the frame, which names the one before it; no reader sees it
yet. Then the model's row, whose head was that one, is given the new head: UPDATE … WHERE version = :v
for a model that is there; for a new one a MERGE that takes the name (`unique_rows`). That is the commit, and only one of several can make it, so
versions are dense and unique, and a promotion with its archiving is one step. The others have left a
frame that no chain reaches, read on, and decide again. A commit whose answer was lost is found in
the chain. The frames are those of the local journal, folded by the same `ModelState`.
"""

from __future__ import annotations

import contextlib
import json
from typing import TYPE_CHECKING, Any

from ops.foundation.ids import generate_uuid7
from ops.registry.databricks.run_reader import stored
from ops.registry.databricks.unique_rows import NAMED, taking
from ops.registry.disk.journal import decode, encode
from ops.registry.errors import CorruptStoreError, StorageError
from ops.registry.models.state import FORMAT, ModelState, plain_frames
from ops.registry.plain_values import copied

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from ops.registry.databricks.volumes import Stored, Volume
    from ops.registry.databricks.warehouse import Warehouse
    from ops.registry.models.ports import Decide

__all__ = ["ModelLog"]

_ATTEMPTS = 50


class ModelLog:
    """The event store of a schema; the caller excludes other threads."""

    def __init__(self, warehouse: Warehouse, volume: Volume) -> None:
        self.state: ModelState = ModelState(volume.uri("models"))
        self._warehouse = warehouse
        self._heads: dict[str, tuple[str, int]] = {}
        self._numbers: dict[str, int] = {}
        self._folded: set[str] = set()
        self._frames: dict[str, list[dict[str, Any]]] = {}

    def refresh(self) -> None:
        """Fold in what was committed since the last time."""
        heads = {
            row["name"]: (row["head"], row["version"])
            for row in self._warehouse.rows(
                f"SELECT name, head, version FROM @ops_models WHERE {NAMED['ops_models']} ORDER BY name"  # noqa: S608 - literals of this package
            )
        }
        behind = [name for name, head in heads.items() if self._heads.get(name) != head]
        if not behind:
            return
        events = self._events(behind)
        for name in behind:
            try:
                self._follow(name, heads[name][0], events.get(name, {}))
                self._heads[name] = heads[name]
            except BaseException:  # an interrupt too: what is half folded in is read again
                for known in (self._heads, self._numbers, self._frames, self.state.models):
                    known.pop(name, None)
                raise

    def commit(
        self, name: str, decide: Decide, then: Callable[[], object] | None = None
    ) -> Mapping[str, Any]:
        """Append the frame that *decide* makes of the model as it is; decided again when another was faster."""
        for attempt in range(_ATTEMPTS):
            self.refresh()
            frame = decide(self.state.models.get(name))
            event = generate_uuid7()
            self._write(name, event, frame)
            self.refresh()
            if event in self._folded:
                if then is not None:
                    then()
                return frame
            self._warehouse.wait(min(attempt, 4))
        raise StorageError(f"Model {name!r} was changed by others {_ATTEMPTS} times in a row.")

    def reset(self) -> None:
        """Clear what was read: it may be half done."""
        for known in (self._heads, self._numbers, self._frames, self.state.models, self._folded):
            known.clear()

    def excluding(self) -> contextlib.AbstractContextManager[None]:
        """Take no lock: a warehouse has none; what was committed before is folded in."""
        self.refresh()
        return contextlib.nullcontext()

    def is_sound(self) -> bool:
        """Return True: nothing is kept besides the tables."""
        return True

    def rebuild(self) -> None:
        """Read everything from its beginning."""
        self.reset()
        self.refresh()

    def close(self) -> None:
        """Do nothing: the connection is the tracker's."""

    def history(self, name: str) -> list[dict[str, Any]]:
        """Return the frames of a model, oldest first."""
        return [copied(frame) for frame in self._frames.get(name, [])]

    def history_like(self, name: str, first: Mapping[str, Any]) -> list[dict[str, Any]]:  # noqa: ARG002 - there are no other names
        """Return the frames of a model as other stores have them: under its name, without its addresses."""
        return plain_frames(self.history(name), name)

    def files(self, name: str, version: int) -> list[Stored]:
        """Return the files of a version's artifact."""
        for frame in self._frames.get(name, []):
            if frame["op"] == "register" and frame["version"] == version:
                return stored(frame.get("files", ()))
        return []

    def _write(self, name: str, event: str, frame: Mapping[str, Any]) -> None:
        known = self._heads.get(name)
        self._warehouse.change(
            "INSERT INTO @ops_model_events "
            "(event_id, name, parent, place, frame) VALUES (:event, :name, :parent, :number, :frame)",
            event=event,
            name=name,
            parent=known[0] if known else None,
            number=self._numbers.get(name, 0) + 1,
            frame=encode({"v": FORMAT, **frame}).decode(),
        )
        if known is None:
            self._warehouse.change(
                taking(
                    "ops_models",
                    "SELECT :name AS name, :event AS head",
                    ("name", "head"),
                    inserts="version = 1",
                ),
                name=name,
                event=event,
            )
            return
        self._warehouse.change(
            "UPDATE @ops_models "
            "SET head = :event, version = version + 1 WHERE name = :name AND version = :version",
            event=event,
            name=name,
            version=known[1],
        )

    def _events(self, names: list[str]) -> dict[str, dict[str, dict[str, Any]]]:
        """Return the frames of models beyond those that are folded in, by their ids."""
        if len(names) == 1:
            rows = self._warehouse.rows(
                "SELECT event_id, name, parent, place, frame FROM @ops_model_events WHERE name = :name AND place > :seen",
                name=names[0],
                seen=self._numbers.get(names[0], 0),
            )
        else:
            rows = self._warehouse.rows(
                "SELECT event_id, name, parent, place, frame FROM @ops_model_events "
                "WHERE name IN (SELECT explode(from_json(:names, 'array<string>')))",
                names=json.dumps(names),
            )
        found: dict[str, dict[str, dict[str, Any]]] = {}
        for row in rows:
            found.setdefault(row["name"], {})[row["event_id"]] = row
        return found

    def _follow(self, name: str, head: str, events: Mapping[str, dict[str, Any]]) -> None:
        """Fold in the chain from what is known to *head*."""
        chain: list[dict[str, Any]] = []
        known = self._heads[name][0] if name in self._heads else None
        at: str | None = head
        while at != known:
            if at is None or at not in events:
                raise CorruptStoreError(f"The history of model {name!r} has no frame {at!r}.")
            chain.append(events[at])
            at = events[at]["parent"]
        if known is None and chain[-1]["place"] != 1:
            raise CorruptStoreError(f"The history of model {name!r} has lost its beginning.")
        for event in reversed(chain):
            frame = decode(event["frame"].encode())
            self.state.apply(frame)
            self._frames.setdefault(name, []).append(frame)
            self._folded.add(event["event_id"])
            self._numbers[name] = event["place"]
