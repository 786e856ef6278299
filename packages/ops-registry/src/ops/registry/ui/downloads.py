"""Artifacts as downloads and pictures: a file as it is, a folder as a zip, from wherever it is kept.

Files on this machine are sent from their place. What is in a bucket or a volume, and what has to be packed, goes
through a folder that is removed when the answer has been sent, or cannot be.
"""

from __future__ import annotations

import itertools
import pathlib
import shutil
import tempfile
from typing import TYPE_CHECKING

from starlette.background import BackgroundTask
from starlette.exceptions import HTTPException
from starlette.responses import FileResponse

from ops.foundation.files import safe_join
from ops.registry.disk.checked_paths import inside, refuse_links_below

if TYPE_CHECKING:
    from starlette.responses import Response

    from ops.registry.records import Artifact, Run
    from ops.registry.tracking.tracker import ExperimentTracker

__all__ = ["download", "pictures_of"]

# Kinds that an <img> shows, in which none of them runs a script.
_PICTURES = frozenset((".png", ".jpg", ".jpeg", ".gif", ".webp", ".avif", ".svg"))
_MOST_PICTURES, _LARGEST_PICTURE = 48, 16 << 20


def download(tracker: ExperimentTracker, run: Run, requested: str, *, is_local: bool) -> Response:
    """Return the answer with the artifact *asked* of *run*, or a file of one.

    Raises HTTPException (404), PathEscapesRootError, and what fetching raises.
    """
    path = inside(tracker.artifact_folder(run.run_id), requested) if is_local else None
    if path is not None:
        refuse_links_below(path)
    if path is not None and path.is_file():
        return _sent(path)
    folder = pathlib.Path(tempfile.mkdtemp(prefix="ops-registry-ui-"))
    try:
        if path is None or not path.exists():
            path = _fetched(tracker, run, requested, folder)
        if path.is_dir():
            path = pathlib.Path(shutil.make_archive(str(folder / path.name), "zip", path))
        return _sent(path, BackgroundTask(shutil.rmtree, folder, ignore_errors=True))
    except BaseException:
        shutil.rmtree(folder, ignore_errors=True)
        raise


def pictures_of(run: Run) -> list[Artifact]:
    """Return the artifacts of *run* that its page shows as pictures, by their names."""
    found = (
        artifact
        for artifact in sorted(run.artifacts, key=lambda each: each.path)
        if pathlib.PurePath(artifact.path).suffix.lower() in _PICTURES
        and artifact.size <= _LARGEST_PICTURE
    )
    return list(itertools.islice(found, _MOST_PICTURES))


def _fetched(
    tracker: ExperimentTracker, run: Run, requested: str, folder: pathlib.Path
) -> pathlib.Path:
    """Fetch the artifact that *asked* is, or is in, and return the path of *asked* in the copy."""
    for artifact in run.artifacts:
        if requested == artifact.path or requested.startswith(f"{artifact.path}/"):
            copy = safe_join(folder / "copy", artifact.path)
            copy.parent.mkdir(parents=True, exist_ok=True)
            tracker.download_run_artifact(run.run_id, artifact.path, copy)
            found = safe_join(folder / "copy", requested)
            if found.exists():
                return found
    raise HTTPException(404, f"The run has no file {requested!r}.")


def _sent(path: pathlib.Path, afterwards: BackgroundTask | None = None) -> Response:
    return FileResponse(
        path, filename=path.name, content_disposition_type="attachment", background=afterwards
    )
