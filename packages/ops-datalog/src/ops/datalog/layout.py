"""Turning segments into files for the long run, so that it can be cut off at any time.

New files are made in a subfolder; renaming that folder to `layout.done` is the commit.
From then on what it replaces is superfluous and is removed, and its files move to their names one by
one; the next process (`finish_layout`) completes a move that was cut off, and readers meanwhile
look into the subfolder and not at what it replaces (`stored_files`). Where messages have to survive a crash
of the machine, the files are brought to the disk before the commit, all together.
"""

from __future__ import annotations

import ctypes
import os
import shutil
import stat
from contextlib import contextmanager, suppress
from typing import TYPE_CHECKING

from ops.datalog._chunks import writer_runs
from ops.datalog._npy_archive import AHEAD, DONE, DRAFT, REPLACES_NPY, stored_files
from ops.datalog._writer_files import naming
from ops.datalog.errors import LogFormatError
from ops.datalog.merge import merged
from ops.datalog.messages import LogReport
from ops.datalog.npz import members, npy_header, pack_entry_head
from ops.datalog.state import LAYOUTS, LogState
from ops.foundation.files import sync_directory
from ops.foundation.logs import get_logger
from ops.foundation.paths import is_there, listed

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator, Mapping
    from pathlib import Path

    from ops.datalog.messages import Block


_log = get_logger("ops.datalog")


def lay_out_npy(
    folder: Path, *, after: Mapping[str, int] | None = None, durable: bool = False
) -> int:
    """Turn the segments of *folder* into `SOURCE_TIME.npy` files; return how many there are now.

    No process may write meanwhile, and the caller holds the `files_lock`. Messages of equal source and
    time get `_1`, `_2`, … appended. The
    draft has the messages of each writer up to the sequence number in *after* already. *durable*
    brings the files to the disk before the segments are removed. Segments that are damaged stay, as
    `NAME.damaged`.
    """
    finish_layout(folder)
    if not listed(folder, "*.seg") and not listed(folder, "*.tail"):
        return 0
    with draft_of(folder, goes_on=bool(after)) as draft:
        names = Names(_taken_in(folder, draft if after else None))
        report = LogReport()
        for block in merged(list(writer_runs(folder, report, after=after))):
            for name, head, row in names.of(block):
                write_npy(f"{draft}/{name}.npy", head, row)
        keep_damaged(report.damaged_files)
        count = len(os.listdir(draft))
        if durable:
            _sync_file_system(draft)
    return count


def keep_damaged(paths: Iterable[str]) -> None:
    """Give damaged files a second name, before what could be read of them replaces them.

    Raises OSError when one cannot have it, as of another user whose files may not be read: it must stay then.
    """
    for path in paths:
        kept = f"{path}.damaged"
        with suppress(FileNotFoundError, FileExistsError):
            if not stat.S_ISREG(os.lstat(path).st_mode):
                continue
            try:
                os.link(path, kept, follow_symlinks=False)
            except PermissionError:  # no hard links here, or not for what another user owns
                with open(path, "rb") as damaged, open(kept, "xb") as file:
                    shutil.copyfileobj(damaged, file, 1 << 20)
            _log.warning("%s is damaged; it is kept as %s", path, kept)


@contextmanager
def draft_of(folder: Path, *, replaces_npy: bool = False, goes_on: bool = False) -> Iterator[Path]:
    """Give a folder for new files; what is in it at the end replaces the segments.

    *replaces_npy* replaces the .npy files as well; *goes_on* keeps what the draft has already.
    """
    draft = folder / DRAFT
    if not goes_on:
        shutil.rmtree(draft, ignore_errors=True)
        draft.mkdir()
    try:
        yield draft
    except BaseException:
        shutil.rmtree(draft, ignore_errors=True)
        raise
    if replaces_npy:
        (draft / REPLACES_NPY).touch()
    sync_directory(draft)
    draft.rename(folder / DONE)
    LogState(folder, create=True).words[LAYOUTS] += 1  # readers start over
    sync_directory(folder)
    finish_layout(folder)


def finish_layout(folder: Path) -> None:
    """Complete a layout whose commit was made: remove what it replaces, move the files."""
    done = folder / DONE
    if not is_there(done):
        return
    replaces_npy = is_there(done / REPLACES_NPY)
    for pattern in ("*.seg", "*.tail"):
        for path in listed(folder, pattern):
            with suppress(
                IsADirectoryError, PermissionError, FileNotFoundError
            ):  # no segment of ours
                path.unlink()
    if replaces_npy:
        for path in stored_files(folder).superseded:
            path.unlink(missing_ok=True)
    shutil.rmtree(folder / AHEAD, ignore_errors=True)  # it was of those segments
    for name in os.listdir(done):
        if name != REPLACES_NPY:
            os.rename(f"{done}/{name}", f"{folder}/{name}")
    (done / REPLACES_NPY).unlink(missing_ok=True)
    done.rmdir()


class Names:
    """Gives messages the names `SOURCE_TIME`, and `SOURCE_TIME_1`, … to those that are equal."""

    def __init__(self, is_taken: Callable[[str], bool]) -> None:
        self._is_taken = is_taken
        self._last, self._number = "", 0

    def of(self, block: Block) -> Iterator[tuple[str, bytes, memoryview]]:
        """Yield name, head and data of each message; blocks have to come in time order."""
        for source, time, row in zip(
            block.sources.tolist(), block.times.tolist(), block.rows, strict=True
        ):
            base = f"{source:03d}_{time:020d}"
            if base != self._last:
                self._last, self._number = base, 0
            name = base if not self._number else f"{base}_{self._number}"
            while self._is_taken(name):
                self._number += 1
                name = f"{base}_{self._number}"
            self._number += 1
            yield name, pack_entry_head(source, time), row.data


def _taken_in(folder: Path, draft: Path | None) -> Callable[[str], bool]:
    old = taken_names(folder)
    if draft is None:
        return old.__contains__
    return lambda name: name in old or os.path.exists(f"{draft}/{name}.npy")


def taken_names(folder: Path) -> set[str]:
    """Return the names that messages have in the files and archives of *folder*."""
    files = stored_files(folder)
    names = {path.stem for path in files.npy}
    report = LogReport()
    for archive in files.archives:
        try:
            names |= {member.name for member in members(archive)}
        except (OSError, LogFormatError) as error:
            report.note_unreadable(archive, error)
            _log.warning("%s cannot be read: %s", archive, error)
    return names


def write_npy(path: str, head: bytes, data: memoryview) -> None:
    """Make the .npy file of one message: one uint8 array of *head*, its source and time, and *data*."""
    fd = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_CLOEXEC, 0o644)
    try:
        header = npy_header(len(head) + len(data)) + head
        with naming(path):
            if os.writev(fd, (header, data)) != len(header) + len(data):
                os.lseek(fd, 0, os.SEEK_SET)
                with open(fd, "wb", closefd=False) as file:
                    file.write(header + data)
    finally:
        os.close(fd)


def _sync_file_system(folder: Path) -> None:
    """Bring all files of the file system of *folder* to the disk: one call in place of one a file."""
    fd = os.open(folder, os.O_RDONLY | os.O_CLOEXEC)
    try:
        if ctypes.CDLL(None, use_errno=True).syncfs(fd):
            code = ctypes.get_errno()
            raise OSError(code, os.strerror(code), str(folder))
    finally:
        os.close(fd)
