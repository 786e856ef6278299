"""Logged models that go from one store of local files to another: their files first, then the frames about them."""

from __future__ import annotations

from typing import TYPE_CHECKING

from ops.foundation.paths import is_there
from ops.registry.disk import artifacts
from ops.registry.disk.checked_paths import inside
from ops.registry.disk.store_addresses import below
from ops.registry.local.logged_models import FOLDER, LoggedModelBook, files_of

if TYPE_CHECKING:
    import pathlib
    from collections.abc import Mapping

    from ops.registry.context import MLOpsContext

__all__ = ["copy_logged_models", "logged_models"]


def logged_models(context: MLOpsContext) -> LoggedModelBook:
    """Return the logged models in the store of *context*, which is one of local files."""
    root: pathlib.Path = context.experiment_tracker.root
    return LoggedModelBook(root / FOLDER, context.config.durability)


def copy_logged_models(
    source: MLOpsContext, target: MLOpsContext, homes: Mapping[str, str]
) -> tuple[int, int]:
    """Copy the logged models of the experiments that *homes* maps to those of the target.

    Returns how many models were new, and how many frames of kinds that this version does not know there are.
    """
    there, here = logged_models(source), logged_models(target)
    models = [model for model in there.all() if model["experiment_id"] in homes]
    frames = there.frames()
    if not frames:
        return 0, 0
    known = {model["id"] for model in here.all()}
    for model in models:
        files = files_of(model, there.folder.parents[1])
        tail = None if files is None else below(there.folder.parents[1], str(files))
        if files is None or tail is None or not is_there(files):
            continue
        path = inside(here.folder.parents[1], tail)
        if model["id"] in known and is_there(path) and _is_as_there(files, path):
            continue
        path.parent.mkdir(parents=True, exist_ok=True)
        artifacts.copy_in(files, path)
    new, _ = here.adopt(frames, homes)
    return new, there.unknown


def _is_as_there(files: pathlib.Path, path: pathlib.Path) -> bool:
    return artifacts.checksum(files) == artifacts.checksum(path)
