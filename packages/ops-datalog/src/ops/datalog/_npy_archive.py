"""Runs of what was laid out: .npy files and .npz archives, a thousand messages at a time.

Their names hold source and time, so a run knows its times without opening anything. A message that is
in an archive and in a file of the same name is one message. Damage is noted and skipped.
"""

from __future__ import annotations

import os
import re
import struct
import zipfile
import zlib
from contextlib import contextmanager, suppress
from io import BufferedReader, FileIO
from itertools import islice
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np

from ops.datalog._chunks import Piece
from ops.datalog._liveness import open_regular
from ops.datalog.errors import LogFormatError, LogNotFoundError
from ops.datalog.npz import Member, member_size, members, payload_of, read_member
from ops.datalog.scan import Table
from ops.foundation.paths import is_there, listed, walked

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

    from numpy.lib.npyio import NpzFile

    from ops.datalog._chunks import Run
    from ops.datalog.messages import LogReport

_ENTRY = re.compile(r"(\d{3})_(\d{20})(?:_(\d+))?")
_TOGETHER = 1024
#: Folders of a layout that is being made, of what was done for it ahead, of what was given up of that, and
#: of a layout whose commit was made (see `layout` and `ahead`).
DRAFT, AHEAD, DROPPED, DONE = "layout.draft", "layout.ahead", "layout.dropped", "layout.done"
#: A file in the latter: the .npy files of the log are replaced as well.
REPLACES_NPY = "replaces-npy"


#: What NumPy and zipfile raise for an archive that is damaged.
COLUMNAR_DAMAGE = (
    LogFormatError,
    ValueError,
    OSError,
    EOFError,
    KeyError,
    IndexError,
    TypeError,
    OverflowError,
    MemoryError,
    NotImplementedError,
    zipfile.BadZipFile,
    zlib.error,
    struct.error,
)


class Entry(NamedTuple):
    """A message by its name; entries sort in the order in which they come out."""

    time: int
    source: int
    number: int
    location: Path | Member


def entry_of(name: str, location: Path | Member) -> Entry | None:
    """Return the message that a file or member name without suffix is of, None when it is no message's."""
    match = _ENTRY.fullmatch(name)
    if match is None or int(match[1]) > 255 or int(match[2]) >> 64:
        return None
    return Entry(int(match[2]), int(match[1]), int(match[3] or 0), location)


class StoredFiles(NamedTuple):
    """What there is in a folder; `superseded` was replaced by a layout whose commit was made."""

    archives: list[Path]
    npy: Iterator[Path]
    superseded: Iterator[Path]


def stored_files(folder: Path) -> StoredFiles:
    """Return the archives and .npy files of a log, as its last committed layout has them."""
    done = folder / DONE
    # First the files that may move out of there meanwhile: they are then seen twice, and never missed.
    moving = {path.name: path for path in listed(done, "*_log.npz")}
    archives = {path.name: path for path in listed(folder, "*_log.npz")} | moving
    replaced = is_there(done / REPLACES_NPY)
    return StoredFiles(
        [archives[name] for name in sorted(archives)],
        npy_files(done) if replaced else _npy_of_both(folder),
        npy_files(folder, without=DONE) if replaced else iter(()),
    )


def _npy_of_both(folder: Path) -> Iterator[Path]:
    moving = {path.name: path for path in npy_files(folder / DONE)}
    yield from moving.values()
    for path in npy_files(folder, without=DONE):
        if path.name not in moving:
            yield path


def _opened(path: Path) -> FileIO:
    """Open a file of a log, also when it has moved out of a layout since it was listed."""
    try:
        return FileIO(open_regular(path))
    except FileNotFoundError:
        with suppress(FileNotFoundError):
            if path.parent.name == DONE:
                return FileIO(open_regular(path.parent.parent / path.name))
    raise LogNotFoundError(
        f"{path.name} was replaced while it was being read.",
        suggestions=("Read again: its messages are in other files now.",),
    )


def npy_files(folder: Path, without: str = "") -> Iterator[Path]:
    """Yield the .npy files of messages below *folder*, but not those of a draft or ahead of it."""
    for root, names in walked(folder, {DRAFT, AHEAD, DROPPED, without}):
        for name in names:
            path = Path(root, name)
            if name.endswith(".npy") and entry_of(name[:-4], path) is not None:
                yield path


class StoredRun:
    """A stretch of .npy files, or of members of one archive."""

    def __init__(self, entries: list[Entry], archive: Path | None, report: LogReport) -> None:
        self._entries, self._archive, self._report = entries, archive, report
        self.first: int = entries[0].time
        self.last: int = entries[-1].time
        self.messages: int = len(entries)

    def has(self, source: int) -> bool:
        """Return whether messages of *source* are in it."""
        return any(entry.source == source for entry in self._entries)

    def sources(self) -> set[int]:
        """Return the sources in it."""
        return {entry.source for entry in self._entries}

    def pieces(self) -> Iterator[Piece]:
        """Read it."""
        contents = self._files() if self._archive is None else self._members(self._archive)
        rows, data = [], bytearray()
        for entry, name, content in contents:
            try:
                begin, size = payload_of(content, entry.source, entry.time)
            except ValueError as error:
                self._report.note_damage(self._archive or Path(name), f"{Path(name).name}: {error}")
                continue
            rows.append((entry.time, entry.source, len(data), size))
            data += memoryview(content)[begin:]
        if rows:
            columns = zip(*rows, strict=True)
            kinds = (np.uint64, np.uint8, np.int64, np.int64)
            table = Table(*(np.array(c, k) for c, k in zip(columns, kinds, strict=True)))
            yield Piece(table, bytes(data))

    def _files(self) -> Iterator[tuple[Entry, str, bytes]]:
        for entry in self._entries:
            assert not isinstance(entry.location, Member)  # noqa: S101 - see npy_runs
            try:
                with _opened(entry.location) as file:
                    yield entry, str(entry.location), file.readall()
            except LogNotFoundError:
                raise
            except (OSError, LogFormatError) as error:
                self._report.note_unreadable(entry.location, error)

    def _members(self, archive: Path) -> Iterator[tuple[Entry, str, bytes]]:
        members = [entry.location for entry in self._entries if isinstance(entry.location, Member)]
        begin = min(member.offset for member in members)
        size = max(member.offset + member_size(member) for member in members) - begin
        with _opened(archive) as file:
            together = size <= 2 * sum(map(member_size, members))
            data = os.pread(file.fileno(), size, begin) if together else b""
            for entry, member in zip(self._entries, members, strict=True):
                at = member.offset - begin
                if not together:
                    at, data = 0, os.pread(file.fileno(), member_size(member), member.offset)
                try:
                    yield entry, member.name, read_member(data, at, archive)[0]
                except LogFormatError as error:
                    self._report.note_damage(archive, f"{member.name}: {error}")


class ColumnarRun:
    """A columnar archive: all messages of one source; read as a whole.

    Raises one of COLUMNAR_DAMAGE when its arrays are not those that `archive` writes.
    """

    def __init__(self, archive: Path, source: int, report: LogReport) -> None:
        if not 0 <= source <= 255:
            raise LogFormatError(f"its name stands for source {source}, which is not 0 to 255")
        self._archive, self._source, self._report = archive, source, report
        with _arrays(archive) as columns:
            times, _ = _times_and_edges(columns)
        self.first: int = int(times.min()) if len(times) else 0
        self.last: int = int(times.max()) if len(times) else 0
        self.messages: int = len(times)

    def has(self, source: int) -> bool:
        """Return whether messages of *source* are in it."""
        return source == self._source

    def sources(self) -> set[int]:
        """Return the sources in it."""
        return {self._source} if self.messages else set()

    def pieces(self) -> Iterator[Piece]:
        """Read it."""
        try:
            times, data, edges = self._columns()
        except LogNotFoundError:
            raise
        except COLUMNAR_DAMAGE as error:
            self._report.note_unreadable(self._archive, error)
            return
        sources = np.full(len(times), self._source, np.uint8)
        yield Piece(Table(times, sources, edges[:-1], np.diff(edges)), data.tobytes())

    def _columns(self) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        with _arrays(self._archive) as columns:
            times, edges = _times_and_edges(columns)
            return times, columns["data"], edges


def _times_and_edges(columns: NpzFile) -> tuple[np.ndarray, np.ndarray]:
    """Return the times, and where in the data messages begin and end; of the data only the shape is read.

    Raises ValueError when the arrays do not fit each other.
    """
    times = columns["times"]
    offsets = columns.get("offsets")
    shape, dtype = _shape_of(columns, "data")
    if times.ndim != 1 or times.dtype != np.uint64:
        raise ValueError(f"times are {times.dtype} of shape {times.shape} and not uint64 (n,)")
    if dtype != np.uint8 or len(shape) != (2 if offsets is None else 1):
        raise ValueError(f"data is {dtype} of shape {shape}")
    if offsets is None:
        if shape[0] != len(times):
            raise ValueError(f"{len(times)} times do not fit data of shape {shape}")
        return times, shape[1] * np.arange(len(times) + 1, dtype=np.int64)
    if offsets.shape != (len(times) + 1,) or offsets.dtype.kind not in "iu":
        raise ValueError(f"offsets are {offsets.dtype} of shape {offsets.shape}")
    edges = offsets.astype(np.int64)
    if edges[0] != 0 or edges[-1] != shape[0] or (np.diff(edges) < 0).any():
        raise ValueError(f"offsets do not ascend from 0 to the {shape[0]} bytes of data")
    return times, edges


def _shape_of(columns: NpzFile, name: str) -> tuple[tuple[int, ...], np.dtype[Any]]:
    if columns.zip is None:
        raise ValueError("it was closed")
    with columns.zip.open(f"{name}.npy") as file:
        version = np.lib.format.read_magic(file)
        read = np.lib.format.read_array_header_1_0
        shape, _, dtype = (read if version < (2, 0) else np.lib.format.read_array_header_2_0)(file)
    return shape, dtype


@contextmanager
def _arrays(archive: Path) -> Iterator[NpzFile]:
    # Opened here: NumPy leaves the file open when it is no archive.
    with BufferedReader(_opened(archive)) as file, np.load(file, allow_pickle=False) as columns:
        yield columns


def stored_runs(folder: Path, report: LogReport, without: Path | None = None) -> Iterator[Run]:
    """Yield the runs of all archives, but not of *without*, and of the .npy files of *folder*."""
    archived: set[str] = set()
    files = stored_files(folder)
    for archive in files.archives:
        try:
            archived |= {member.name for member in members(archive)}
        except (LogFormatError, OSError) as error:
            report.note_unreadable(archive, error)
            continue
        if archive != without:
            yield from archive_runs(archive, report)
    entries = (entry_of(path.stem, path) for path in files.npy if path.stem not in archived)
    yield from _runs(entries, None, report)


def archive_runs(archive: Path, report: LogReport) -> Iterator[Run]:
    """Yield the runs of one archive."""
    try:
        if is_columnar(archive):
            yield ColumnarRun(archive, int(archive.name.removesuffix("_log.npz")), report)
        else:
            entries = (entry_of(member.name, member) for member in members(archive))
            yield from _runs(entries, archive, report)
    except LogNotFoundError:
        raise
    except COLUMNAR_DAMAGE as error:
        report.note_unreadable(archive, error)


def is_columnar(archive: Path) -> bool:
    """Return whether an archive holds columns instead of a member per message."""
    return "times" in {member.name for member in islice(members(archive), 3)}


def _runs(
    entries: Iterable[Entry | None], archive: Path | None, report: LogReport
) -> Iterator[Run]:
    ordered = sorted((entry for entry in entries if entry is not None), key=lambda e: e[:3])
    for together in range(0, len(ordered), _TOGETHER):
        yield StoredRun(ordered[together : together + _TOGETHER], archive, report)
