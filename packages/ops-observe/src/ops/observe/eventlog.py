"""Events kept on disk: a listener that writes each event into a rotating journal."""

from __future__ import annotations

import datetime as dt
from typing import TYPE_CHECKING, Any

from ops.observe.events import Event
from ops.observe.journal import Journal, to_json

if TYPE_CHECKING:
    import os
    from collections.abc import Iterator

__all__ = ["EventLog"]


class EventLog:
    """Events as JSON lines in *path*; several processes may write one file.

    Use it as a listener: `emitter.subscribe("*", EventLog(path))`. *max_bytes* and *keep* rotate.

    >>> import pathlib, tempfile
    >>> from ops.observe import EventEmitter
    >>> path = pathlib.Path(tempfile.mkdtemp(), "events.jsonl")
    >>> emitter = EventEmitter()
    >>> subscription = emitter.subscribe("*", EventLog(path))
    >>> emitter.emit("run.ended", {"run": "r1"})
    >>> path.read_text().count("run.ended")
    1
    """

    def __init__(
        self, path: str | os.PathLike[str], *, max_bytes: int | None = None, keep: int | None = None
    ) -> None:
        self._journal = Journal(path, max_bytes=max_bytes, keep=keep)

    def __call__(self, event: Event) -> None:
        """Write *event*; data that JSON does not know is written as its text. Raises OSError."""
        line = to_json(event.to_dict()).encode()
        self._journal.append(lambda _: line)

    def __iter__(self) -> Iterator[Event]:
        """Yield the events, oldest first; torn lines, and lines that are no events, are skipped."""
        for line in self._journal.lines():
            event = line.read(_event)
            if event is not None:
                yield event


def _event(fields: dict[str, Any]) -> Event:
    return Event(
        event_type=fields["event_type"],
        timestamp=dt.datetime.fromisoformat(fields["timestamp"]),
        data=fields["data"],
        source=fields["source"],
        correlation_id=fields["correlation_id"],
    )
