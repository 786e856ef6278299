"""Which program a folder or file is of, by what is in it, and the reader for it."""

from __future__ import annotations

import importlib.util
import os
import pathlib
from typing import TYPE_CHECKING

from ops.foundation.errors import MissingExtraError
from ops.registry.errors import InvalidValueError
from ops.registry.importing.event_files import is_event_file
from ops.registry.importing.findings import Findings
from ops.registry.importing.mlflow_files import META, MLflowFiles
from ops.registry.importing.sqlite_files import tables_of

if TYPE_CHECKING:
    from collections.abc import Sequence

    from ops.foundation.files import StrPath
    from ops.registry.importing.records import ForeignStore

__all__ = ["KINDS", "foreign_store", "is_own_store"]

KINDS = ("mlflow", "mlflow-sqlite", "trackio", "tensorboard")
#: Where MLflow puts artifacts beside a database, by itself and as a server.
_BESIDE = ("mlruns", "mlartifacts")


def is_own_store(path: StrPath) -> bool:
    """Whether a folder is a store of this package: an export, or one that is in use."""
    folder = pathlib.Path(path)
    return any((folder / part).is_dir() for part in ("experiment_tracking", "model_registry"))


def foreign_store(
    path: StrPath,
    *,
    kind: str | None = None,
    artifacts: Sequence[StrPath] = (),
    name: str | None = None,
) -> ForeignStore:
    """Return a reader for what another program wrote at *path*.

    *kind* is one of `KINDS`, found by what is there without it; *artifacts* are folders in which MLflow's artifacts
    are where they are not beside its runs; *name* is what the experiment of TensorBoard's event files is called, which is
    the name of the folder without it.

    Raises:
        InvalidValueError: there is nothing at *path* that any reader knows.
        MissingExtraError: the reader needs a package that is not installed.
    """
    there = pathlib.Path(_path_of(os.fspath(path)))
    known = kind or _kind_of(there)
    findings = Findings()
    folders = [pathlib.Path(one) for one in artifacts]
    if known == "mlflow":
        return _mlflow_files(there, findings, folders)
    if known == "mlflow-sqlite":
        return _mlflow_database(there, findings, folders)
    if known == "trackio":
        from ops.registry.importing.trackio_files import TrackioFiles

        return TrackioFiles(_trackio_databases(there) or [there], findings)
    if known == "tensorboard":
        return _event_files(there, findings, name)
    raise InvalidValueError(
        f"{str(there)!r} is nothing that can be imported: no store, no mlruns folder, no mlflow.db, no database of trackio and no event files.",
        suggestions=("Name the folder or file itself, such as ./mlruns or ./mlflow.db.",),
    )


def _mlflow_files(
    folder: pathlib.Path, findings: Findings, artifacts: Sequence[pathlib.Path]
) -> MLflowFiles:
    try:
        import yaml  # noqa: F401 - missing, nothing is to be written
    except ImportError as error:
        raise MissingExtraError("yaml", "ops-registry[yaml]") from error
    return MLflowFiles(folder, findings, artifacts)


def _mlflow_database(
    path: pathlib.Path, findings: Findings, artifacts: Sequence[pathlib.Path]
) -> ForeignStore:
    from ops.registry.importing.mlflow_database import MLflowDatabase

    database = _database_of(path) or path
    beside = [database.parent / name for name in _BESIDE]
    folders = [*artifacts] or [one for one in beside if one.is_dir() and not one.is_symlink()]
    if not folders:
        findings.leave_out(f"artifacts: there is no folder of them beside {database.name}")
    return MLflowDatabase(database, findings, folders)


def _event_files(folder: pathlib.Path, findings: Findings, name: str | None) -> ForeignStore:
    if importlib.util.find_spec("tensorboard") is None:
        raise MissingExtraError("tensorboard", "ops-registry[tensorboard]")
    from ops.registry.importing.event_files import EventFiles

    return EventFiles(folder, findings, name)


def _trackio_databases(path: pathlib.Path) -> list[pathlib.Path]:
    """Return the databases of trackio's projects that *path* is, or has in it."""
    candidates = [path] if path.is_file() else sorted(path.glob("*.db"))
    return [one for one in candidates if {"metrics", "configs"} <= tables_of(one)]


def _database_of(path: pathlib.Path) -> pathlib.Path | None:
    """Return the database of MLflow that *path* is, or has in it."""
    for one in [path] if path.is_file() else sorted(path.glob("*.db")):
        if {"experiments", "runs", "metrics", "params"} <= tables_of(one):
            return one
    return None


def _path_of(text: str) -> str:
    """Return the path behind an address as MLflow writes it: ``file:///data/mlruns``, ``sqlite:///mlflow.db``."""
    for scheme in ("file://", "sqlite:///"):
        if text.startswith(scheme):
            return text.removeprefix(scheme)
    return text.removeprefix("file:")


def _kind_of(path: pathlib.Path) -> str | None:
    if _database_of(path) is not None:
        return "mlflow-sqlite"
    if path.is_dir() and _has_experiments(path):
        return "mlflow"
    if _trackio_databases(path):
        return "trackio"
    if path.is_dir() and _has_event_files(path):
        return "tensorboard"
    return None


def _has_event_files(folder: pathlib.Path) -> bool:
    """Whether there are event files in a folder, or in folders of it; no link is followed."""
    return any(
        is_event_file(name) for _, _, names in os.walk(folder, followlinks=False) for name in names
    )


def _has_experiments(folder: pathlib.Path) -> bool:
    """Whether a folder has experiments of MLflow's file store, active or deleted ones, or its models."""
    return any(
        next(folder.glob(pattern), None) is not None
        for pattern in (f"*/{META}", f".trash/*/{META}", f"models/*/{META}")
    )
