r"""The journal of one experiment's traces: what is written as one frame, and what a reader keeps of it.

``experiment_tracking/traces/{experiment}/journal.log`` is a journal as all of this store (`ops.registry.disk.journal`).
A frame of spans has its head first and the spans last::

    {"t": …, "op": "spans", "id": trace, "seen": {…}, "n": [[span, parent, name, type, status, start, end, bytes, more], …],
     "spans": [{…},{…}]}

Spans are MLflow's own JSON, byte by byte, separated by a comma; *bytes* is the length of each. So a reader decodes the head
alone, knows where each span is, and reads it on request. A call is one write: all of it counts or nothing.
"""

from __future__ import annotations

import json
import mmap
import os
import threading
from time import time_ns
from typing import TYPE_CHECKING, Any, NamedTuple

from ops.foundation.forks import in_children
from ops.registry.disk.journal import JournalReader, JournalWriter, decode, encode, framed
from ops.registry.errors import StorageError
from ops.registry.traces.state import Frames

if TYPE_CHECKING:
    import pathlib
    from collections.abc import Iterator, Mapping, Sequence

    from ops.registry.traces.state import Trace

__all__ = ["JOURNAL", "Span", "TraceJournal", "content_of"]

JOURNAL = "journal.log"
_SPANS = b',"spans":['
#: So much is read at once.
_BYTES = 1 << 24
#: A checksum and a space.
_CHECKSUM = 9


class Span(NamedTuple):
    """What a frame's head has of a span: times are nanoseconds, *more* has usage, cost and model; *content* is its JSON."""

    span_id: str
    parent_id: str | None
    name: str
    type: str | None
    status: str
    start: int
    end: int | None
    more: dict[str, Any]
    content: str


class TraceJournal:
    """The traces of the experiment whose folder is *folder*, which appears with the first of them."""

    def __init__(self, folder: pathlib.Path, durability: str = "process") -> None:
        self.path = f"{folder}/{JOURNAL}"
        self._experiment_id = folder.name
        self._durability = durability
        self._writer: JournalWriter | None = None
        self._turn = threading.RLock()
        self._begin()
        in_children(self, TraceJournal.begin_in_child)

    def begin_in_child(self) -> None:
        """Reset after a fork: another thread may have been in the middle of reading."""
        self._turn, self._writer = threading.RLock(), None
        self._begin()

    def _begin(self) -> None:
        self._reader = JournalReader(self.path)
        self._known = Frames(self._experiment_id)

    @property
    def unknown(self) -> int:
        """How many frames are of a kind that this version does not know, or are no frames about traces."""
        return self._known.unknown

    @property
    def torn(self) -> int:
        """How many lines were damaged."""
        return self._reader.torn

    def traces(self) -> list[Trace]:
        """Return the traces as of now, oldest first; they are to be read only."""
        with self._turn:
            self._read_on()
            return self._known.all()

    def get(self, trace_id: str) -> Trace | None:
        """Return a trace as of now, to be read only; None when there is none."""
        with self._turn:
            self._read_on()
            return self._known.get(trace_id)

    def may_have(self, trace_id: str) -> bool:
        """Whether the journal may have a trace; False only if it has not, which is known without decoding it."""
        if self._reader.offset:
            return True
        wanted = b'"id":' + encode(trace_id)
        try:
            with (
                self._opened() as file,
                mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ) as data,
            ):
                return data.find(wanted) >= 0
        except (ValueError, StorageError):  # empty, or not there
            return False

    def append(self, records: Sequence[Mapping[str, Any]]) -> None:
        """Append frames with one write; each is stamped with the time."""
        bodies = [encode({"t": time_ns(), **record}) for record in records]
        self._append([(body, len(body)) for body in bodies])

    def append_spans(self, batches: Sequence[tuple[Mapping[str, Any], Sequence[bytes]]]) -> None:
        """Append frames of spans with one write: the head of each, and its spans as JSON."""
        bodies = []
        for head, spans in batches:
            start = encode({"t": time_ns(), **head})[:-1]
            body = b"%b%b%b]}" % (start, _SPANS, b",".join(spans))
            bodies.append((body, len(start)))
        self._append(bodies)

    def append_raw(self, bodies: Sequence[bytes]) -> None:
        """Append frames as another journal has them."""
        self._append([(body, _head_length(body)) for body in bodies])

    def spans(self, trace: Trace, *, contents: bool = True) -> list[Span]:
        """Return the spans of a trace, one logged again as it was logged last; without *contents* those are ""."""
        found: dict[str, Span] = {}
        with self._opened() as file:
            for offset, head_length, length in zip(*[iter(trace.extents)] * 3, strict=True):
                data = os.pread(file.fileno(), length if contents else head_length, offset)
                for span in _spans(data, head_length, contents=contents):
                    # A span that is replaced keeps its row, as in a table.
                    found[span.span_id] = span
        return list(found.values())

    def raw(self) -> Iterator[tuple[str, bytes]]:
        """Yield the id of the trace and the body of each frame that has one, oldest first; unknown kinds too."""
        reader = JournalReader(self.path)
        while True:
            for _, body in reader.poll_lines(_BYTES):
                try:
                    trace_id = _head(body)["id"]
                except (ValueError, KeyError, TypeError):
                    continue
                if isinstance(trace_id, str):
                    yield trace_id, body
            if not reader.has_more:
                return

    def close(self) -> None:
        """Close the file; the next frame opens it again."""
        with self._turn:
            if self._writer is not None:
                self._writer.close()
            self._writer = None

    def _opened(self) -> Any:
        try:
            return open(self.path, "rb", buffering=0, opener=_open)
        except OSError as error:
            raise StorageError(f"{self.path!r} cannot be read: {error}.") from error

    def _append(self, bodies: Sequence[tuple[bytes, int]]) -> None:
        data = b"".join(framed(body) for body, _ in bodies)
        if not data:
            return
        with self._turn:
            if self._writer is None:
                self._writer = JournalWriter(self.path, durability=self._durability)
            extent = self._writer.append_frames(data)
            if extent[1] - extent[0] == len(data) and self._reader.skip(*extent):
                # What this process has written is not read again.
                offset = extent[0]
                for body, head_length in bodies:
                    self._apply(body, offset + _CHECKSUM, head_length)
                    offset += _CHECKSUM + len(body) + 1

    def _read_on(self) -> None:
        try:
            while True:
                for offset, body in self._reader.poll_lines(_BYTES):
                    self._apply(body, offset, _head_length(body))
                if not self._reader.has_more:
                    break
        except BaseException:  # an interrupt too: what was read is not read again
            self._begin()
            raise
        if self._reader.is_gone and self._reader.offset:  # the experiment was erased
            self._begin()

    def _apply(self, body: bytes, offset: int, head_length: int) -> None:
        try:
            record = _head(body, head_length)
        except ValueError:
            self._known.unknown += 1
            return
        self._known.apply(record, (offset, head_length, len(body)))


def _head_length(body: bytes) -> int:
    """Return how long a frame is without its spans: the mark cannot be in a text, whose quotes are escaped."""
    at = body.find(_SPANS)
    return len(body) if at < 0 else at


def _head(body: bytes, head_length: int | None = None) -> Any:
    length = _head_length(body) if head_length is None else head_length
    return decode(body) if length == len(body) else decode(body[:length] + b"}")


def _spans(data: bytes, head_length: int, *, contents: bool) -> Iterator[Span]:
    at = head_length + len(_SPANS)
    for row in decode(data[:head_length] + b"}")["n"]:
        span_id, parent_id, name, kind, status, start, end, length, more = row
        content = data[at : at + length].decode() if contents else ""
        at += length + 1
        yield Span(span_id, parent_id, name, kind, status, start, end, more or {}, content)


def _open(path: str, flags: int) -> int:
    return os.open(path, flags | getattr(os, "O_NOFOLLOW", 0))


def content_of(span: Mapping[str, Any], encoder: type[json.JSONEncoder]) -> bytes:
    """Return the JSON of a span as it is kept; characters stay readable, so that filters find them."""
    text = json.dumps(span, cls=encoder, ensure_ascii=False)
    try:
        return text.encode()
    except UnicodeEncodeError:  # half of a surrogate pair
        return json.dumps(span, cls=encoder).encode()
