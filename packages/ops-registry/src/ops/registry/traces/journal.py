r"""The journal of one experiment's traces: what is written as one frame, and what a reader keeps of it.

``experiment_tracking/traces/{experiment}/journal.log`` is a journal as all of this store (`ops.registry.disk.journal`).
A frame of spans has its head first and the spans last::

    {"t": …, "op": "spans", "id": trace, "seen": {…}, "n": [[span, parent, name, type, status, start, end, bytes, more], …],
     "spans": [{…},{…}]}

Spans are MLflow's own JSON, byte by byte, separated by a comma; *bytes* is the length of each. So a reader decodes the head
alone, knows where each span is, and reads it on request. A call is one write: all of it counts or nothing.

`compact` leaves out the frames of traces that were deleted, by a new file in place of the old one. Who appends holds the file
meanwhile (a lock that the kernel keeps), and looks whether it still has its name: no frame goes into one that was replaced. Who
reads notices another file under the name, and begins again; offsets are only used on the file that they are of.

A process that begins takes what the first frames came to from a snapshot (`ops.registry.traces.snapshots`), if there is one.
"""

from __future__ import annotations

import itertools
import json
import mmap
import os
import pathlib
import threading
from time import time_ns
from typing import TYPE_CHECKING, Any, NamedTuple, TypeVar

from ops.foundation.errors import OpsError
from ops.foundation.files import atomic_write
from ops.foundation.forks import in_children
from ops.foundation.logs import get_logger
from ops.registry.disk.journal import (
    JournalReader,
    JournalWriter,
    decode,
    encode,
    framed,
    identity_of,
    lines,
)
from ops.registry.errors import StorageError
from ops.registry.traces.snapshots import DamagedSnapshotError, load, save
from ops.registry.traces.state import Frames

if TYPE_CHECKING:
    import logging
    from collections.abc import Callable, Iterator, Mapping, Sequence

    from ops.registry.traces.state import Trace

__all__ = ["JOURNAL", "Span", "TraceJournal", "content_of"]

logger: logging.Logger = get_logger("ops.registry")

T = TypeVar("T")

JOURNAL = "journal.log"
_SPANS = b',"spans":['
#: In a frame that deletes a trace, and perhaps in others.
_GONE = b'"gone"'
#: So much is read at once.
_BYTES = 1 << 24
#: After so many frames that are in no snapshot one is written, and when they are a tenth of the traces.
SNAPSHOT_FRAMES = 1_000
_SHARE = 0.1
#: A checksum and a space.
_CHECKSUM = 9
#: How often a trace is read to be moved before others have to wait for that.
_ATTEMPTS = 3


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
        self._snapshot = f"{self.path}.snapshot"
        self._has_snapshot = True  # as far as is known
        self._background: threading.Thread | None = None
        self._mutex = threading.RLock()
        self._begin()
        in_children(self, TraceJournal.begin_in_child)

    def begin_in_child(self) -> None:
        """Reset after a fork: another thread may have been in the middle of reading."""
        self._mutex = threading.RLock()
        if self._writer is not None:
            self._writer.abandon()
        self._writer = self._background = None
        self._begin()

    def _begin(self, file: tuple[int, int] | None = None) -> None:
        self._reader = JournalReader(self.path)
        self._known = Frames(self._experiment_id, file)
        self._since_snapshot = 0
        if file is None or not self._has_snapshot:
            return
        found = load(self._snapshot, self.path, self._known)
        if found is not None and self._reader.skip(0, found[0]):
            self._reader.torn = found[1]

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
        return self._looked_up(lambda known: list(known.traces.values()))

    def get(self, trace_id: str) -> Trace | None:
        """Return a trace as of now, to be read only; None when there is none."""
        return self._looked_up(lambda known: known.traces.get(trace_id))

    def _looked_up(self, look: Callable[[Frames], T]) -> T:
        """Return what *look* finds in the traces as of now."""
        with self._mutex:
            self._read_on()
            try:
                return look(self._known)
            except DamagedSnapshotError:  # the journal has everything
                self._forget_snapshot()
                self._read_on()
                return look(self._known)

    def _forget_snapshot(self) -> None:
        self._has_snapshot = False
        self._begin()

    def may_have(self, trace_id: str) -> bool:
        """Whether the journal may have a trace; False only if it has not, which is known without decoding it."""
        with self._mutex:
            if not self._reader.offset:
                self._begin(identity_of(self.path))
            if trace_id in self._known.traces:
                return True
            read = self._reader.offset
        wanted = b'"id":' + encode(trace_id)
        try:
            with (
                self._opened() as file,
                mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ) as data,
            ):
                # What was read of another file under this name does not count.
                found = os.fstat(file.fileno())
                is_same = (found.st_dev, found.st_ino) == self._known.file
                return data.find(wanted, read if is_same else 0) >= 0
        except (ValueError, FileNotFoundError):  # empty, or not there
            return False

    def append(self, records: Sequence[Mapping[str, Any]]) -> set[str]:
        """Append frames with one write; each is stamped with the time.

        Returns the traces that were here, as far as this process knew, and have been taken away since: nothing is written then.
        """
        bodies = [encode({"t": time_ns(), **record}) for record in records]
        ids = [record["id"] for record in records if record["op"] != "gone"]
        return self._append([(body, len(body)) for body in bodies], ids)

    def append_spans(
        self, batches: Sequence[tuple[Mapping[str, Any], Sequence[bytes]]]
    ) -> set[str]:
        """Append frames of spans with one write: the head of each, and its spans as JSON; returns what `append` does."""
        bodies = []
        for head, spans in batches:
            start = encode({"t": time_ns(), **head})[:-1]
            body = b"%b%b%b]}" % (start, _SPANS, b",".join(spans))
            bodies.append((body, len(start)))
        return self._append(bodies, [head["id"] for head, _ in batches])

    def append_raw(self, bodies: Sequence[bytes]) -> None:
        """Append frames as another journal has them."""
        self._append([(body, _head_length(body)) for body in bodies])

    def move(self, trace_id: str, put: Callable[[list[bytes]], object]) -> None:
        """Let *put* have the frames of a trace, and delete it here; no frame of another process is left behind."""
        given = 0
        for attempt in itertools.count():
            before = _stamp(self.path)
            frames = self._frames_of(trace_id)
            put(frames[given:])
            given = len(frames)
            with (
                JournalWriter(self.path, durability=self._durability) as writer,
                writer.held(alone=True) as is_current,
            ):
                is_as_read = _stamp(self.path) == before or (
                    attempt >= _ATTEMPTS and len(self._frames_of(trace_id)) == given
                )
                if is_current and is_as_read:
                    writer.append({"t": time_ns(), "op": "gone", "id": trace_id})
                    return

    def _frames_of(self, trace_id: str) -> list[bytes]:
        return [body for found, body in self.raw() if found == trace_id]

    def spans(self, trace: Trace, *, contents: bool = True) -> list[Span]:
        """Return the spans of a trace, one logged again as it was logged last; without *contents* those are ""."""
        while True:
            found = self._spans_in(trace, contents=contents) if trace.extents else []
            if found is not None:
                return found
            current = self.get(trace.trace_id)  # the journal was replaced
            if current is None:
                return []
            trace = current

    def _spans_in(self, trace: Trace, *, contents: bool) -> list[Span] | None:
        """Return the spans of a trace, None when its offsets are not of the file that there is now."""
        found: dict[str, Span] = {}
        try:
            file = self._opened()
        except FileNotFoundError:
            return None
        with file:
            here = os.fstat(file.fileno())
            if (here.st_dev, here.st_ino) != trace.file:
                return None
            for offset, head_length, length in zip(*[iter(trace.extents)] * 3, strict=True):
                data = os.pread(file.fileno(), length if contents else head_length, offset)
                for span in _spans(data, head_length, contents=contents):
                    # A span that is replaced keeps its row, as in a table.
                    found[span.span_id] = span
        return list(found.values())

    def raw(self) -> Iterator[tuple[str | None, bytes]]:
        """Yield the id of the trace and the body of each frame, oldest first; unknown kinds too, None if there is no id.

        All are of the file that there was at first, also when it is replaced meanwhile.
        """
        try:
            file = self._opened()
        except FileNotFoundError:
            return
        with file:
            offset, rest = 0, b""
            while piece := os.pread(file.fileno(), _BYTES, offset):
                offset += len(piece)
                whole, newline, rest = (rest + piece).rpartition(b"\n")
                for _, body in lines(0, whole + newline):
                    if body is not None:
                        yield _trace_id(body), body

    def compact(self) -> int:
        """Leave out the frames of traces that were deleted, and return how many bytes less there are."""
        if identity_of(self.path) is None:
            return 0
        with (
            JournalWriter(self.path, durability=self._durability) as old,
            old.held(alone=True) as is_current,
        ):
            # The number of the frame that deletes a trace, the last of several.
            last: dict[str | None, int] = {
                trace_id: number
                for number, (trace_id, body) in enumerate(self.raw())
                if _GONE in body and _head(body)["op"] == "gone"
            }
            if not (last and is_current):  # another process has done it
                return 0
            before = old.size
            # It has what was deleted, and no one writes another one now.
            pathlib.Path(self._snapshot).unlink(missing_ok=True)
            with atomic_write(self.path, "wb", durable="full") as file:
                for number, (trace_id, body) in enumerate(self.raw()):
                    if number > last.get(trace_id, -1):
                        file.write(framed(body))
            return before - os.stat(self.path).st_size  # noqa: PTH116 - a text

    def close(self) -> None:
        """Close the file; the next frame opens it again."""
        background = self._background
        if background is not None and background is not threading.current_thread():
            background.join()
        with self._mutex:
            if self._writer is not None:
                self._writer.close()
            self._writer = None

    def _opened(self) -> Any:
        try:
            return open(self.path, "rb", buffering=0, opener=_open)
        except FileNotFoundError:
            raise
        except OSError as error:
            raise StorageError(f"{self.path!r} cannot be read: {error}.") from error

    def _append(self, bodies: Sequence[tuple[bytes, int]], ids: Sequence[str] = ()) -> set[str]:
        data = b"".join(framed(body) for body, _ in bodies)
        if not data:
            return set()
        with self._mutex:
            start, end, lost = self._written(data, ids)
            if lost:
                return lost
            if end - start == len(data) and self._reader.skip(start, end):
                # What this process has written is not read again.
                try:
                    for body, head_length in bodies:
                        self._apply(body, start + _CHECKSUM, head_length)
                        start += _CHECKSUM + len(body) + 1
                except DamagedSnapshotError:  # it is written, and all is read again
                    self._forget_snapshot()
                self._keep_snapshot()
        return set()

    def _written(self, data: bytes, ids: Sequence[str]) -> tuple[int, int, set[str]]:
        """Append frames to the file that has the name now, and return where they are.

        Or which traces are not here any more: `move` waits for those that append, and they look again behind it.
        """
        while True:
            if self._writer is None:
                self._writer = JournalWriter(self.path, durability=self._durability)
            with self._writer.held() as is_current:
                if is_current:
                    known = {one for one in ids if one in self._known.traces}
                    read = self._known.file, self._reader.offset
                    if known and read != (self._writer.identity, self._writer.size):
                        self._read_on()
                        known.difference_update(self._known.traces)
                        if known:
                            return 0, 0, known
                    written = self._writer.append_frames(data)
                    if self._known.file != self._writer.identity:
                        self._begin(self._writer.identity)
                    return *written, set()
            self._writer.close()
            self._writer = None

    def _read_on(self) -> None:
        try:
            self._read()
        except DamagedSnapshotError:  # the journal has everything
            self._forget_snapshot()
            self._read()

    def _read(self) -> None:
        is_read, file = False, identity_of(self.path)
        try:
            while not is_read:
                if file != self._known.file:
                    self._begin(file)
                for offset, body in self._reader.poll_lines(_BYTES):
                    self._apply(body, offset, _head_length(body))
                if self._reader.is_replaced:
                    self._begin()
                    file = identity_of(self.path)
                    continue
                before, file = file, identity_of(self.path)
                is_read = file == before and not self._reader.has_more
            self._keep_snapshot()
        except BaseException:  # an interrupt too: what was read is not read again
            self._begin()
            raise

    def _keep_snapshot(self) -> None:
        """Let a snapshot be written in the background when one is due."""
        due = max(SNAPSHOT_FRAMES, int(len(self._known.traces) * _SHARE))
        if self._since_snapshot < due or (self._background and self._background.is_alive()):
            return
        self._since_snapshot = 0
        through = self._reader.offset, self._reader.torn
        # Not a daemon: an interpreter that ends waits for it.
        self._background = threading.Thread(
            target=self._save, args=(through, self._known.copy()), name="ops-registry-snapshot"
        )
        self._background.start()

    def _save(self, through: tuple[int, int], known: Frames) -> None:
        try:
            if identity_of(self.path) != known.file:  # no file is to be made again
                return
            with JournalWriter(self.path) as journal, journal.held() as is_there:
                if is_there:
                    save(self._snapshot, self.path, through, known)
                    self._has_snapshot = True
        except (OpsError, OSError, ValueError, DamagedSnapshotError):
            # It is a view, and perhaps one who may not write reads: the journal has everything.
            logger.debug("%s could not be written", self._snapshot, exc_info=True)

    def _apply(self, body: bytes, offset: int, head_length: int) -> None:
        self._since_snapshot += 1
        try:
            record = _head(body, head_length)
        except ValueError:
            self._known.unknown += 1
            return
        self._known.apply(record, (offset, head_length, len(body)))


def _stamp(path: str) -> tuple[tuple[int, int] | None, int]:
    """Return which file there is, and its size."""
    try:
        return identity_of(path), os.stat(path).st_size  # noqa: PTH116 - a text
    except FileNotFoundError:
        return None, 0


def _trace_id(body: bytes) -> str | None:
    try:
        found = _head(body)["id"]
    except (ValueError, KeyError, TypeError):
        return None
    return found if isinstance(found, str) else None


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
