"""Reading a log in whatever form it lies there: segments with their tails, .npy files, .npz archives.

Every form is a list of runs (see `runs`), and everything that reads goes through their merge (see
`merge`), so memory stays bounded, times outside the requested range are not read, and files are open only
while they are read. Sealed segments are not scanned, their index is trusted as far as checksums go.
"""

from __future__ import annotations

from itertools import chain
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from ops.datalog._chunks import writer_runs
from ops.datalog._npy_archive import DONE, npy_files, stored_runs
from ops.datalog.errors import LogFormatError, LogNotFoundError
from ops.datalog.merge import merged
from ops.datalog.messages import Columns, LogReport
from ops.datalog.named_columns import schema_of
from ops.datalog.state import NAME as STATE
from ops.datalog.state import layouts
from ops.foundation.callables import refuse_coroutine_function
from ops.foundation.paths import listed

if TYPE_CHECKING:
    import os
    from collections.abc import Callable, Iterator

    from ops.datalog._chunks import Run
    from ops.datalog.exports import Progress
    from ops.datalog.messages import Block, Message
    from ops.datalog.recovery import Recovery
    from ops.datalog.schema import LogSource

__all__ = ["LogReader", "open_log"]


def open_log(folder: str | os.PathLike[str]) -> LogReader:
    """Open the log in *folder*, also one that was started and is still empty.

    Raises LogNotFoundError when the folder holds none.

    >>> import tempfile
    >>> from ops.datalog import DataLogger
    >>> with DataLogger(tempfile.mkdtemp(), layout="segments", sync="none") as logger:
    ...     logger.input_queue.log(1, 1_000, b"frame")
    >>> [(m.source_id, m.timestamp, bytes(m.data)) for m in open_log(logger.output_directory).iter()]
    [(1, 1000, b'frame')]
    """
    path = Path(folder)
    if not path.is_dir() or not (holds_log(path) or (path / STATE).is_file()):
        raise LogNotFoundError(f"{str(path)!r} holds no log: no .seg, .tail, .npy or .npz file.")
    return LogReader(path)


def holds_log(folder: Path) -> bool:
    """Return whether there is any file of a log in *folder*."""
    patterns = ("*.seg", "*.tail", "*_log.npz")
    found = chain(*(listed(folder, pattern) for pattern in patterns), npy_files(folder))
    return next(found, None) is not None


def holds_segments(folder: Path) -> bool:
    """Return whether there are files of writers in *folder*, and not only what was made of them."""
    return bool(listed(folder, "*.seg") or listed(folder, "*.tail"))


class LogReader:
    """Reads one folder; every call looks at the files anew, so a log may grow meanwhile."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder

    def sources(self) -> list[int]:
        """Return the sources that have messages, ascending."""
        return sorted(set().union(*(run.sources() for run in self.runs())))

    def counts(self, source: int | None = None) -> dict[int, int]:
        """Return the number of messages of each source, or of one."""
        counts = dict.fromkeys(self.sources() if source is None else [source], 0)
        for run in self.runs():
            found = run.sources()
            if len(found) == 1:
                (one,) = found
                if one in counts:
                    counts[one] += run.messages
            elif found & counts.keys():
                for piece in run.pieces():
                    numbers = np.bincount(piece.table.sources, minlength=256)
                    for one in counts:
                        counts[one] += int(numbers[one])
        return counts

    def iter(
        self, source: int | None = None, start: int = 0, stop: int | None = None
    ) -> Iterator[Message]:
        """Yield messages of *source* (None: all) with *start* <= time < *stop*, in time order."""
        return chain.from_iterable(block.messages() for block in self.blocks(source, start, stop))

    def __iter__(self) -> Iterator[Message]:
        return self.iter()

    def merge(self, start: int = 0, stop: int | None = None) -> Iterator[Message]:
        """Yield the messages of all sources with *start* <= time < *stop*, in time order."""
        return self.iter(None, start, stop)

    def blocks(
        self, source: int | None = None, start: int = 0, stop: int | None = None
    ) -> Iterator[Block]:
        """Yield the same messages as `iter`, some thousands at a time, as arrays.

        *source* None takes all; times are from *start* on and before *stop* (None: to the end).
        """
        return merged(self.runs(), source, start, stop)

    def columns(self, source: int, start: int = 0, stop: int | None = None) -> Columns:
        """Return all messages of *source* as columns, in time order; they have to fit in memory.

        Their times are from *start* on and before *stop* (None: to the end).
        """
        return Columns.of(list(self.blocks(source, start, stop)))

    def follow(
        self,
        source: int | None = None,
        *,
        new_only: bool = False,
        poll_seconds: float = 0.05,
        wait: Callable[[float], object] | None = None,
    ) -> Iterator[Message]:
        """Yield messages of *source* (None: of all) as producers log them, until the log is stopped.

        Begins with what is there, unless *new_only*. Messages that appear together come in time
        order. *poll_seconds* pass between two looks; *wait* is called with them instead of
        sleeping.
        """
        from ops.datalog.follow import followed

        return followed(self.folder, source, new_only=new_only, pause=poll_seconds, wait=wait)

    def verify(self, progress: Progress | None = None) -> LogReport:
        """Read everything and report what is torn, damaged or missing.

        *progress* gets (messages read, messages in all). Raises `ValidationError` for one that is a
        coroutine function.
        """
        refuse_coroutine_function(progress, "progress")
        report = LogReport()
        sources: set[int] = set()
        runs = self.runs(report, check_all=True)
        total = sum(run.messages for run in runs)
        for run in runs:
            for piece in run.pieces():
                report.messages += len(piece.table.times)
                sources.update(np.unique(piece.table.sources).tolist())
            if progress is not None:
                progress(report.messages, total)
        report.sources = sorted(sources)
        return report

    def recover(self) -> Recovery:
        """Tidy a log whose writers died; see `recovery`.

        Raises LogInUseError while any process writes it, in whatever container.
        """
        from ops.datalog.recovery import recover

        return recover(self.folder)

    def described(self) -> dict[int, LogSource]:
        """Return what the log knows of its sources: names, schemas, metadata (see `DataLogger.describe`).

        Raises LogFormatError when that is damaged; messages are read without it.
        """
        from ops.datalog.schema import read_sources

        return read_sources(self.folder)

    def table(self, source: int, start: int = 0, stop: int | None = None) -> dict[str, np.ndarray]:
        """Return the rows of *source* by its schema: `time` and a NumPy array for each column.

        Times of messages are from *start* on and before *stop* (None: to the end). Raises
        LogFormatError when it has no schema, or a payload does not fit it.
        """
        schema = schema_of(self, source)
        if schema is None:
            raise LogFormatError(
                f"Source {source} has no schema.",
                suggestions=("Describe it with DataLogger.describe, or read `columns`.",),
            )
        return schema.table(source, self.columns(source, start, stop))

    def to_pandas(self, source: int | None = None) -> Any:
        """Return a DataFrame: `time` and the columns of the schema of *source*.

        Without a schema, or for all sources, source, time and data as bytes. Units, rate and the unit of
        times are in `attrs`. Needs the extra `pandas`.
        """
        from ops.datalog import named_columns

        return named_columns.to_pandas(self, source)

    def to_mat(self, path: str | os.PathLike[str], source: int | None = None) -> Path:
        """Write a MATLAB file with a structure for each source; needs the extra `mat`."""
        from ops.datalog import named_columns

        return named_columns.to_mat(self, path, source)

    def to_mcap(self, path: str | os.PathLike[str], source: int | None = None) -> Path:
        """Write an MCAP file with a channel for each source, which Foxglove opens.

        Rows of a schema become JSON messages; other payloads go over byte for byte. Needs the extra `mcap`.
        """
        from ops.datalog import mcap_files

        return mcap_files.to_mcap(self, path, source)

    def to_arrow(self, source: int | None = None, progress: Progress | None = None) -> Any:
        """Return a pyarrow.Table with the columns source, time and data, in time order.

        Of a *source* that has a schema, `time` and its columns, with units as metadata. *progress* of all exports gets (messages done, messages in all). Needs the extra `arrow`.
        """
        from ops.datalog import exports

        return exports.to_arrow(self, source, progress)

    def to_parquet(
        self,
        path: str | os.PathLike[str],
        source: int | None = None,
        progress: Progress | None = None,
    ) -> Path:
        """Write the columns of `to_arrow` as the Parquet file *path*, in bounded memory, and return the path.

        *source* None takes all; *progress* gets (messages done, messages in all). Needs the extra
        `arrow`.
        """
        from ops.datalog import exports

        return exports.to_parquet(self, path, source, progress)

    def to_arrow_file(
        self,
        path: str | os.PathLike[str],
        source: int | None = None,
        progress: Progress | None = None,
    ) -> Path:
        """Write the columns of `to_arrow` as the Arrow IPC file *path*, in bounded memory, and return the path.

        *source* None takes all; *progress* gets (messages done, messages in all). Needs the extra
        `arrow`.
        """
        from ops.datalog import exports

        return exports.to_arrow_file(self, path, source, progress)

    def to_csv(
        self,
        path: str | os.PathLike[str],
        source: int | None = None,
        progress: Progress | None = None,
    ) -> Path:
        """Write the columns of `to_arrow` to *path* as UTF-8 text, separated by commas; data in hexadecimal digits.

        *source* None takes all; *progress* gets (messages done, messages in all).
        """
        from ops.datalog import exports

        return exports.to_csv(self, path, source, progress)

    def to_npz(
        self, path: str | os.PathLike[str], source: int, progress: Progress | None = None
    ) -> Path:
        """Write *source* to *path* as arrays `times` and `data` (and `offsets`, when sizes differ).

        *progress* gets (messages done, messages in all).
        """
        from ops.datalog import exports

        return exports.to_npz(self, path, source, progress)

    def to_npy(
        self,
        folder: str | os.PathLike[str],
        source: int | None = None,
        progress: Progress | None = None,
    ) -> Path:
        """Write one .npy per message into *folder*, which should be empty, and return it.

        *source* None takes all; *progress* gets (messages done, messages in all).
        """
        from ops.datalog import exports

        return exports.to_npy(self, folder, source, progress)

    def runs(
        self,
        report: LogReport | None = None,
        *,
        check_all: bool = False,
        without: Path | None = None,
    ) -> list[Run]:
        """Return all stretches of messages, but not those of the archive *without*.

        What cannot be read is noted in *report*. Raises LogFormatError when it is all of the log, because
        a newer version wrote it, unless *check_all* is to report just that.
        """
        report = LogReport() if report is None else report
        while True:
            before = self._layout()
            found = list(stored_runs(self.folder, report, without))
            if not (self.folder / DONE).is_dir():  # else the segments were replaced
                found += writer_runs(self.folder, report, check_all=check_all)
            if self._layout() == before:
                if report.newer_files and not found and not check_all:
                    raise LogFormatError(
                        f"A newer version of ops-datalog wrote all of it: {report.damaged[0]}"
                    )
                return found
            report.clear()  # what went from segments to files meanwhile was seen in neither, or twice

    def _layout(self) -> tuple[int, bool]:
        """Return what differs whenever the files of the log are replaced by others."""
        return layouts(self.folder), (self.folder / DONE).is_dir()
