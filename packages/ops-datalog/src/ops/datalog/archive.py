"""One .npz archive per source: the form for keeping and for sending away.

"entries" holds a member per message, with the names that the .npy files have. "columnar" holds all
times and all data of the source as two arrays, which is a tenth of the size and reads at once. Archives
that exist are extended. All archives of a log are committed together (see `layout`).
"""

from __future__ import annotations

import os
import sys
from collections.abc import Callable
from concurrent.futures import ProcessPoolExecutor
from itertools import zip_longest
from multiprocessing import get_context
from pathlib import Path
from typing import IO, TYPE_CHECKING, Literal

import numpy as np

from ops.datalog._npy_archive import archive_runs, is_columnar
from ops.datalog._shutdown import close_abandoned, exclusively
from ops.datalog.errors import DataLogError, LogFormatError, LogNotFoundError
from ops.datalog.layout import Names, draft_of, finish_layout, keep_damaged, lay_out_npy
from ops.datalog.merge import merged
from ops.datalog.messages import Columns, LogReport
from ops.datalog.npz import NpzWriter, copy_members
from ops.datalog.reader import LogReader, holds_log
from ops.foundation.callables import refuse_coroutine_function
from ops.foundation.errors import ValidationError
from ops.foundation.formatting import create_progress_bar

if TYPE_CHECKING:
    from collections.abc import Iterator

    from ops.datalog.messages import Block

__all__ = ["compress_npy_logs"]

Progress = Callable[[int, int], object]
ArchiveLayout = Literal["entries", "columnar"]


def compress_npy_logs(
    log_directory: str | os.PathLike[str],
    remove_sources: bool = False,  # noqa: FBT001, FBT002 - the signature users know
    memory_mapping: bool = True,  # noqa: ARG001, FBT001, FBT002
    verbose: bool = False,  # noqa: FBT001, FBT002
    *,
    compress: bool = True,
    verify_integrity: bool = False,
    max_workers: int | None = None,
    layout: ArchiveLayout = "entries",
    progress: Progress | None = None,
) -> list[Path]:
    """Gather all messages of the log in *log_directory* into `SOURCE_log.npz`; return the archives.

    *remove_sources* removes segments and .npy files in the same step, but keeps damaged ones as
    `NAME.damaged`; without it segments become .npy files, which stay. *compress* deflates.
    *verify_integrity* reads each archive back and compares before anything is removed. *layout* "columnar" keeps two arrays instead of a member
    per message; it replaces its sources, and a source has to fit in memory. *max_workers* is how
    many processes share the sources (one by default). *progress* gets (messages done, messages in
    all), *verbose* shows that on stderr. *memory_mapping* is accepted for callers that pass it;
    memory is bounded either way.

    Raises LogNotFoundError (no messages), LogInUseError (a process writes the log), DataLogError (an
    archive does not read back equal), ProducersLateError, ValidationError.
    """
    refuse_coroutine_function(progress, "progress")
    if layout not in {"entries", "columnar"}:
        raise ValidationError(f"layout must be 'entries' or 'columnar', not {layout!r}.")
    if layout == "columnar" and not remove_sources:
        raise ValidationError(
            "A columnar archive replaces its sources: pass remove_sources=True.",
            suggestions=("LogReader.to_npz writes one elsewhere and changes nothing.",),
        )
    folder = Path(log_directory)
    if not folder.is_dir() or not holds_log(folder):
        raise LogNotFoundError(f"{str(folder)!r} holds no log.")
    shown = _on_stderr if verbose and progress is None else progress
    how = (layout, compress, verify_integrity)
    with exclusively(folder):
        close_abandoned(folder)
        finish_layout(folder)
        if not remove_sources:
            lay_out_npy(folder)
        return _archived(folder, how, max_workers or 1, shown, replaces_npy=remove_sources)


def _archived(
    folder: Path,
    how: tuple[ArchiveLayout, bool, bool],
    workers: int,
    shown: Progress | None,
    *,
    replaces_npy: bool,
) -> list[Path]:
    counts = LogReader(folder).counts()
    if not counts:
        raise LogNotFoundError(f"{str(folder)!r} holds no log.")
    with draft_of(folder, replaces_npy=replaces_npy) as draft:
        tasks: list[_Task] = [(folder, draft, source, *how) for source in counts]
        done = 0
        for source, damaged in _each(tasks, workers):
            keep_damaged(damaged)
            done += counts[source]
            if shown is not None:
                shown(done, sum(counts.values()))
    return [folder / archive_name(source) for source in counts]


def archive_name(source: int) -> str:
    """Return the file name of the archive of *source*."""
    return f"{source}_log.npz"


def write_columnar(file: IO[bytes], columns: Columns, *, compress: bool = True) -> None:
    """Write times and data of one source as arrays; data of differing sizes with `offsets`."""
    if isinstance(columns.data, np.ndarray):
        arrays = {"times": columns.times, "data": columns.data}
    else:
        edges = np.zeros(len(columns.data) + 1, np.uint64)
        np.cumsum([len(row) for row in columns.data], out=edges[1:])
        joined = np.concatenate([np.empty(0, np.uint8), *columns.data])
        arrays = {"times": columns.times, "data": joined, "offsets": edges}
    if compress:
        np.savez_compressed(file, **arrays)  # type: ignore[arg-type]  # no name is allow_pickle
    else:
        np.savez(file, **arrays)  # type: ignore[arg-type]


_Task = tuple[Path, Path, int, ArchiveLayout, bool, bool]


def _each(tasks: list[_Task], workers: int) -> Iterator[tuple[int, list[str]]]:
    if workers == 1 or len(tasks) == 1:
        yield from map(_archive, tasks)
        return
    with ProcessPoolExecutor(min(workers, len(tasks)), get_context("spawn")) as pool:
        yield from pool.map(_archive, tasks)


def _archive(task: _Task) -> tuple[int, list[str]]:
    """Write the archive of one source into the draft; return the source and what files are damaged."""
    folder, draft, source, layout, compress, verify = task
    old, new = folder / archive_name(source), draft / archive_name(source)
    report = LogReport()
    if layout == "columnar":
        blocks = list(merged(LogReader(folder).runs(report), source))
        with new.open("wb") as file:
            write_columnar(file, Columns.of(blocks), compress=compress)
            file.flush()
            os.fsync(file.fileno())
    else:
        with NpzWriter(new, compress=compress) as writer:
            taken: set[str] = set()
            extends = _holds_entries(old, report)
            if extends:
                for what in copy_members(old, writer, taken):
                    report.note_damage(old, what)
            runs = LogReader(folder).runs(report, without=old if extends else None)
            names = Names(taken.__contains__)
            for block in merged(runs, source):
                for name, head, row in names.of(block):
                    writer.add(name, head + row)
    if verify:
        _compare(new, source, LogReader(folder).blocks(source))
    return source, report.damaged_files


def _holds_entries(archive: Path, report: LogReport) -> bool:
    """Return whether there is an archive to be extended; one that cannot be read is damaged."""
    try:
        return archive.exists() and not is_columnar(archive)
    except (OSError, LogFormatError) as error:
        report.note_unreadable(archive, error)
        return False


def _compare(archive: Path, source: int, expected: Iterator[Block]) -> None:
    found = merged(list(archive_runs(archive, LogReport())), source)
    pairs = zip_longest(
        (message for block in expected for message in block.messages()),
        (message for block in found for message in block.messages()),
    )
    for one, other in pairs:
        if (
            one is None
            or other is None
            or one.timestamp != other.timestamp
            or not np.array_equal(one.data, other.data)
        ):
            raise DataLogError(f"{archive.name} does not hold {one} as it is.")


def _on_stderr(done: int, total: int) -> None:
    print(  # noqa: T201 - what verbose asks for
        "\r" + create_progress_bar(done, total, prefix="archive "),
        end="\n" if done == total else "",
        file=sys.stderr,
    )
