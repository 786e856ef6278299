"""The files of a run, of any writer: what its journal names, and what lies in its folder.

Our own client records each artifact in the journal, MLflow's writes files into the folder of the run and records
nothing. Both are one tree here. On local files the folder is read, link by link refused; what is in a bucket or a
volume is known by the journal, and is fetched to a temporary folder when it is looked at.
"""

from __future__ import annotations

import contextlib
import dataclasses
import itertools
import os
import pathlib
import shutil
import tempfile
from typing import TYPE_CHECKING

from starlette.exceptions import HTTPException

from ops.foundation.files import safe_join
from ops.registry.disk.artifacts import is_copy
from ops.registry.disk.checked_paths import inside, refuse_links_below

if TYPE_CHECKING:
    from collections.abc import Iterator

    from ops.registry.records import Run
    from ops.registry.tracking.tracker import ExperimentTracker

__all__ = ["Found", "RunEntry", "RunFiles"]

# Kinds that an <img> shows, in which none of them runs a script.
PICTURES = frozenset((".png", ".jpg", ".jpeg", ".gif", ".webp", ".avif", ".svg"))
_MOST_PICTURES, _LARGEST_PICTURE = 48, 16 << 20


@dataclasses.dataclass(frozen=True, slots=True)
class RunEntry:
    """A file or folder of a run; *size* in bytes, None where it would have to be summed up."""

    path: str
    size: int | None
    is_folder: bool = False

    @property
    def name(self) -> str:
        """The last part of its path."""
        return pathlib.PurePosixPath(self.path).name

    @property
    def is_picture(self) -> bool:
        """Whether a page shows it as a picture among others."""
        known = pathlib.PurePosixPath(self.path).suffix.lower() in PICTURES
        return known and not self.is_folder and (self.size or 0) <= _LARGEST_PICTURE


@dataclasses.dataclass(slots=True)
class Found:
    """A file or folder of a run on this machine; `close` removes what had to be fetched."""

    path: pathlib.Path
    fetched: pathlib.Path | None = None

    def close(self) -> None:
        """Remove the temporary copy, if there is one."""
        if self.fetched is not None:
            shutil.rmtree(self.fetched, ignore_errors=True)


class RunFiles:
    """The tree of files of one run; *is_local* is whether they lie in a folder of this machine."""

    def __init__(self, tracker: ExperimentTracker, run: Run, *, is_local: bool) -> None:
        self._tracker = tracker
        self.run = run
        self._folder = tracker.artifact_folder(run.run_id) if is_local else None

    def listing(self, folder: str = "") -> list[RunEntry]:
        """Return what is directly in *folder*, folders first; nothing for what is no folder."""
        entries: dict[str, RunEntry] = {}
        below = f"{folder}/" if folder else ""
        for artifact in self.run.artifacts:
            if not artifact.path.startswith(below):
                continue
            name, _, deeper = artifact.path[len(below) :].partition("/")
            size = None if deeper else artifact.size
            entries[name] = RunEntry(f"{below}{name}", size, is_folder=bool(deeper))
        for name, size, is_folder in self._on_disk(folder):
            entries[name] = RunEntry(f"{below}{name}", size, is_folder=is_folder)
        return sorted(entries.values(), key=lambda entry: (not entry.is_folder, entry.path))

    def walk(self, folder: str = "") -> Iterator[RunEntry]:
        """Yield all files below *folder*, and the folders that cannot be opened, by path."""
        for entry in sorted(self.listing(folder), key=lambda each: each.path):
            inner = self.walk(entry.path) if entry.is_folder else None
            first = None if inner is None else next(inner, None)
            if inner is None or first is None:
                yield entry
            else:
                yield first
                yield from inner

    def pictures(self, entries: list[RunEntry]) -> list[RunEntry]:
        """Return those of *entries* that the page of the run shows as pictures."""
        return list(itertools.islice((e for e in entries if e.is_picture), _MOST_PICTURES))

    def find(self, requested: str) -> Found:
        """Return a file or folder of the run on this machine, fetched here if it is kept elsewhere.

        Raises HTTPException (404), PathEscapesRootError, and what fetching raises.
        """
        if self._folder is not None:
            path = inside(self._folder, requested)
            if _exists(path):
                refuse_links_below(path)
                return Found(path)
        fetched = pathlib.Path(tempfile.mkdtemp(prefix="ops-registry-ui-"))
        try:
            return Found(self._fetch(requested, fetched), fetched)
        except BaseException:
            shutil.rmtree(fetched, ignore_errors=True)
            raise

    def _on_disk(self, folder: str) -> Iterator[tuple[str, int | None, bool]]:
        if self._folder is None:
            return
        path = inside(self._folder, folder) if folder else self._folder
        if not _exists(path):
            return
        with contextlib.suppress(FileNotFoundError, NotADirectoryError), os.scandir(path) as found:
            for each in found:
                if each.is_symlink() or is_copy(each.name):
                    continue
                is_folder = each.is_dir(follow_symlinks=False)
                yield each.name, None if is_folder else each.stat().st_size, is_folder

    def _fetch(self, requested: str, folder: pathlib.Path) -> pathlib.Path:
        for artifact in self.run.artifacts:
            if requested == artifact.path or requested.startswith(f"{artifact.path}/"):
                copy = safe_join(folder / "copy", artifact.path)
                copy.parent.mkdir(parents=True, exist_ok=True)
                self._tracker.download_run_artifact(self.run.run_id, artifact.path, copy)
                found = safe_join(folder / "copy", requested)
                if found.exists():
                    return found
        raise HTTPException(404, f"The run has no file {requested!r}.")


def _exists(path: pathlib.Path) -> bool:
    try:
        return path.exists()
    except OSError:  # a name that is longer than any file's
        return False
