"""What a journal of traces came to, so that a new process need not read it from its beginning.

``journal.log.snapshot`` is a view: a framed line for each trace, which is read and decoded when that trace is requested; then a
framed line with the ids of the traces and the offset in the journal up to which it goes; then the length of that in 16 hexadecimal
digits. So opening one costs what its last line does, and what is in memory is what was requested. The reader reads the
journal on from there.

Writing one holds the journal, so that `TraceJournal.compact`, which takes deleted traces out of the files, meets no writer;
`os.replace` makes it the snapshot, so of two writers the later wins and both are right. What is damaged, of a
newer format, or not of this journal (shorter, or other bytes before that offset) is left alone, and the journal read from
its beginning.
"""

from __future__ import annotations

import array
import contextlib
import itertools
import os
import weakref
import zlib
from collections.abc import MutableMapping
from typing import TYPE_CHECKING, Any, TypeAlias

from ops.foundation.files import atomic_write
from ops.registry.disk.checked_paths import refuse_link
from ops.registry.disk.journal import checksum_before, decode, encode, framed, parse
from ops.registry.traces.state import Trace, state_of, texts

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

    from ops.registry.traces.state import Frames

__all__ = ["DamagedSnapshotError", "Traces", "load", "save"]

FORMAT = 1
_FLAGS = os.O_RDONLY | getattr(os, "O_NOFOLLOW", 0) | getattr(os, "O_CLOEXEC", 0)
_FLAGS |= getattr(os, "O_BINARY", 0)

#: How long the last line of a snapshot is.
_END = 17

#: A trace, or where its line is in the snapshot: offset and length.
_Entry: TypeAlias = "Trace | tuple[int, int]"


class DamagedSnapshotError(Exception):
    """A line of a snapshot is not what was written: the journal has to be read instead."""


class Traces(MutableMapping[str, Trace]):
    """Traces by id, oldest first; those in a snapshot are read one by one, which may raise `DamagedSnapshotError`."""

    def __init__(self, experiment_id: str, file: tuple[int, int] | None = None) -> None:
        self._experiment_id = experiment_id
        self._file = file
        self._entries: dict[str, _Entry] = {}
        self._descriptor = -1

    def restore(self, descriptor: int, entries: dict[str, _Entry]) -> None:
        """Take the traces from a snapshot, whose *descriptor* is closed with this object."""
        self._descriptor, self._entries = descriptor, entries
        weakref.finalize(self, os.close, descriptor)

    def copy(self) -> Traces:
        """Return what later changes do not reach: traces are replaced, not changed."""
        made = Traces(self._experiment_id, self._file)
        made._entries = dict(self._entries)
        if self._descriptor >= 0:
            made.restore(os.dup(self._descriptor), made._entries)
        return made

    def bodies(self) -> Iterator[bytes]:
        """Yield the body of each trace's line, in order."""
        for entry in self._entries.values():
            yield encode(_plain(entry)) if isinstance(entry, Trace) else self._body(entry)

    def _body(self, line: tuple[int, int]) -> bytes:
        start, length = line
        try:
            data = os.pread(self._descriptor, length, start)
            body = data[9:-1]
            if len(data) == length and int(data[:8], 16) == zlib.crc32(body):
                return body
        except (OSError, ValueError):
            pass
        raise DamagedSnapshotError

    def __getitem__(self, trace_id: str) -> Trace:
        entry = self._entries[trace_id]
        if isinstance(entry, Trace):
            return entry
        try:
            trace = _restored(decode(self._body(entry)), self._experiment_id, self._file)
        except (ValueError, TypeError, KeyError, AttributeError) as error:
            raise DamagedSnapshotError from error
        if trace.trace_id != trace_id:
            raise DamagedSnapshotError
        self._entries[trace_id] = trace
        return trace

    def __setitem__(self, trace_id: str, trace: Trace) -> None:
        self._entries[trace_id] = trace

    def __delitem__(self, trace_id: str) -> None:
        del self._entries[trace_id]

    def __contains__(self, trace_id: object) -> bool:
        return trace_id in self._entries

    def __iter__(self) -> Iterator[str]:
        return iter(self._entries)

    def __len__(self) -> int:
        return len(self._entries)


def load(path: str, journal: str, known: Frames) -> tuple[int, int] | None:
    """Put what the snapshot at *path* has into *known*, whose file must be *journal* as it is.

    Returns up to which offset of the journal it goes, and how many lines were torn there; None if it is of no use.
    """
    try:
        descriptor = os.open(path, _FLAGS)
    except OSError:
        return None
    with contextlib.ExitStack() as stack:
        stack.callback(os.close, descriptor)
        try:
            header = _header(descriptor)
            if header["format"] != FORMAT:
                return None
            if header["before"] != checksum_before(journal, header["through"], known.file):
                return None
            starts = itertools.accumulate(header["lengths"], initial=0)
            entries: dict[str, _Entry] = dict(
                zip(header["ids"], zip(starts, header["lengths"], strict=False), strict=True)
            )
            early = [_restored(one, known.experiment_id, None) for one in header["early"]]
            through, torn, unknown = (int(header[key]) for key in ("through", "torn", "unknown"))
        except (OSError, ValueError, KeyError, TypeError, AttributeError):
            return None
        stack.pop_all()
    traces = Traces(known.experiment_id, known.file)
    traces.restore(descriptor, entries)
    known.traces = traces
    known.early = {trace.trace_id: trace for trace in early}
    known.unknown = unknown
    return through, torn


def save(path: str, journal: str, through: tuple[int, int], known: Frames) -> None:
    """Write what is *known* of a journal as its snapshot; *through* is as `load` returns it.

    Raises:
        DamagedSnapshotError: what *known* comes from cannot be read any more.
        OSError, ValueError: it cannot be written, or the journal is another file by now.
    """
    offset, torn = through
    before = checksum_before(journal, offset, known.file)
    refuse_link(path)
    with atomic_write(path, "wb", durable="none") as file:
        # One by one: there may be more than should be in memory twice.
        lengths = [file.write(framed(body)) for body in _bodies(known.traces)]
        header = {
            "format": FORMAT,
            "through": offset,
            "torn": torn,
            "unknown": known.unknown,
            "before": before,
            "ids": list(known.traces),
            "lengths": lengths,
            "early": [_plain(trace) for trace in known.early.values()],
        }
        length = file.write(framed(encode(header)))
        file.write(b"%016x\n" % length)


def _bodies(traces: Mapping[str, Trace]) -> Iterator[bytes]:
    if isinstance(traces, Traces):
        return traces.bodies()
    return (encode(_plain(trace)) for trace in traces.values())


def _header(descriptor: int) -> Any:
    size = os.fstat(descriptor).st_size
    length = int(os.pread(descriptor, _END, max(0, size - _END)), 16)
    start = size - _END - length
    if start < 0:
        raise ValueError(length)
    (header,), torn, _ = parse(os.pread(descriptor, length, start))
    if torn:
        raise ValueError(torn)
    return header


def _plain(trace: Trace) -> dict[str, Any]:
    """Return a trace as it is in a snapshot: without what it shares with the others, or has not."""
    plain = {name: getattr(trace, name) for name in _FIELDS}
    plain["extents"] = trace.extents.tolist()
    plain["sums"] = dict(trace.sums)  # it may be added to meanwhile
    return {name: value for name, value in plain.items() if value not in ({}, [], None)}


_FIELDS = [name for name in Trace.__slots__ if name not in {"experiment_id", "file"}]


def _restored(plain: Any, experiment_id: str, file: tuple[int, int] | None) -> Trace:
    """Return what `_plain` was made of; raises ValueError, TypeError or KeyError for what it never gives."""
    given = dict(plain)
    extents = array.array("Q", given.pop("extents", ()))
    sums = {
        kind: (int(frames), dict(sum_)) for kind, (frames, sum_) in given.pop("sums", {}).items()
    }
    trace = Trace(experiment_id=experiment_id, file=file, extents=extents, sums=sums, **given)
    if len(extents) % 3:
        raise ValueError(f"{len(extents)} numbers are no ranges of frames")
    trace.time, trace.state = int(trace.time), state_of(trace.state)
    trace.tags, trace.metadata = texts(trace.tags), texts(trace.metadata)
    return trace
