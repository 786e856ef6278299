"""Files of a run as answers: a file as it is, a folder as a zip, an HTML file in a sandbox.

A file may be anything, and comes from any program that logged it. So it is a download, whatever it is; only a frame of ours
gets an HTML file to show, in a sandbox: a document of no origin, whose scripts reach neither this server nor another.
"""

from __future__ import annotations

import pathlib
import shutil
import tempfile
from typing import TYPE_CHECKING

from starlette.background import BackgroundTask
from starlette.exceptions import HTTPException
from starlette.responses import FileResponse, HTMLResponse

if TYPE_CHECKING:
    from starlette.responses import Response

    from ops.registry.ui.run_files import RunFiles

__all__ = ["download", "sandboxed"]

LARGEST_HTML = 32 << 20
#: Plotly and others draw by inline scripts, and load nothing.
_SANDBOX = (
    "sandbox allow-scripts; default-src 'none'; script-src 'unsafe-inline' 'unsafe-eval' blob:; "
    "style-src 'unsafe-inline'; img-src data: blob:; font-src data:; media-src data: blob:; "
    "worker-src blob:; form-action 'none'; base-uri 'none'; frame-ancestors 'self'"
)


def download(files: RunFiles, requested: str) -> Response:
    """Return the answer with a file or folder of a run; raises as `RunFiles.find` does."""
    found = files.find(requested)
    packed = None
    try:
        path = found.path
        if path.is_dir():
            packed = pathlib.Path(tempfile.mkdtemp(prefix="ops-registry-ui-"))
            path = pathlib.Path(shutil.make_archive(str(packed / path.name), "zip", path))
    except BaseException:
        _clear(found.fetched, packed)
        raise
    return FileResponse(
        path,
        filename=path.name,
        content_disposition_type="attachment",
        background=BackgroundTask(_clear, found.fetched, packed),
    )


def sandboxed(files: RunFiles, requested: str, *, destination: str | None) -> Response:
    """Return an HTML file for a frame; *destination* is the browser's Sec-Fetch-Dest, if it sends one.

    Raises HTTPException (404) for what is no HTML file, and as `RunFiles.find` does.
    """
    if destination not in {None, "iframe"}:
        return download(files, requested)
    found = files.find(requested)
    try:
        if found.path.suffix.lower() not in {".html", ".htm"} or not found.path.is_file():
            raise HTTPException(404, f"{requested!r} is no HTML file.")
        if found.path.stat().st_size > LARGEST_HTML:
            raise HTTPException(404, f"{requested!r} is too large to show.")
        return HTMLResponse(found.path.read_bytes(), headers={"Content-Security-Policy": _SANDBOX})
    finally:
        found.close()


def _clear(*folders: pathlib.Path | None) -> None:
    for folder in folders:
        if folder is not None:
            shutil.rmtree(folder, ignore_errors=True)
