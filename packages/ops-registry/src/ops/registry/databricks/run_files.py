"""The files of runs in the volume of a schema: each content at a path of its own, named by a fact of its run."""

from __future__ import annotations

import secrets
from time import time_ns
from typing import TYPE_CHECKING

from ops.foundation.files import temporary_directory
from ops.registry.databricks.run_reader import VolumeArtifact, VolumeArtifactLogged
from ops.registry.databricks.volumes import Stored, Volume, encoded
from ops.registry.disk import artifacts
from ops.registry.errors import BackendUnavailableError, no_artifact

if TYPE_CHECKING:
    import pathlib
    from collections.abc import Callable, Collection, Sequence

    from ops.registry.databricks.experiment_table import ExperimentTable
    from ops.registry.databricks.runtables import RunTables
    from ops.registry.databricks.warehouse import Warehouse
    from ops.registry.records import Artifact
    from ops.registry.run_copies import RunCopy

__all__ = ["VolumeRunFiles"]


class VolumeRunFiles:
    """The artifacts of the runs in *runs*."""

    def __init__(self, warehouse: Warehouse, experiments: ExperimentTable, runs: RunTables) -> None:
        self._warehouse = warehouse
        self._volume = Volume(warehouse)
        self._experiments = experiments
        self._runs = runs

    def keep(
        self, run_id: str, source: pathlib.Path, name: str, *, overwrite: bool
    ) -> tuple[Artifact, bool]:
        """Upload a file or folder as the artifact *name*; return it, and whether it is new."""
        copy, size, digest = artifacts.stage(source, self._warehouse.staging, flushed=False)
        try:
            others = self._runs.row(run_id).files
            artifacts.check_apart(run_id, name, others)
            known = others[name].public(self._volume.uri) if name in others else None
            same = artifacts.same(run_id, known, digest, overwrite=overwrite)
            if same is not None:
                return same, False
            kept = self._uploaded(run_id, copy, name, size, digest)
        finally:
            artifacts.remove(copy)
        self._runs.append(run_id, VolumeArtifactLogged(kept, time_ns()))
        self._runs.settle()
        return kept.public(self._volume.uri), True

    def fetch(self, run_id: str, name: str, target: pathlib.Path, *, overwrite: bool) -> None:
        """Copy the artifact *name* to *target* and verify it."""
        kept = self._runs.row(run_id).files.get(name)
        if kept is None:
            raise no_artifact(run_id, name)
        self._volume.download(kept.files, target, kept.checksum, overwrite=overwrite)

    def verify(self, run_id: str, found: Sequence[Artifact]) -> None:
        """Raise `CorruptStoreError` unless each of the artifacts is what was logged."""
        kept = self._runs.row(run_id).files
        for artifact in found:
            if artifact.path not in kept:
                raise no_artifact(run_id, artifact.path)
            with self._volume.fetched(kept[artifact.path].files):
                pass

    def remove(self, run_id: str, gone: Sequence[Artifact]) -> None:
        """Remove the files of a run that was erased; what a kill leaves of them, `left_over` finds."""
        if gone:
            self._volume.remove(
                [Stored("", path, 0, "") for path in self._volume.files(f"runs/{run_id}")]
            )

    def adopt(
        self,
        copy: RunCopy,
        experiment_id: str,  # noqa: ARG002 - files in the volume are by run
        fetch: Callable[[str, pathlib.Path], pathlib.Path],
    ) -> list[VolumeArtifactLogged]:
        """Bring each artifact of a run of another store into the volume."""
        adopted = []
        for name, size, checksum in copy.artifacts:
            with temporary_directory() as folder:
                file = fetch(name, folder / "artifact")
                kept = self._uploaded(copy.run_id, file, name, size, checksum)
            adopted.append(VolumeArtifactLogged(kept, copy.start))
        return adopted

    def folder(self, run_id: str) -> pathlib.Path:
        """Refuse: artifacts are in the volume."""
        raise BackendUnavailableError(
            f"The artifacts of run {run_id!r} are not in a local folder.",
            suggestions=("download_run_artifact copies one of them.",),
        )

    def left_over(self, before_seconds: float) -> list[str]:
        """Return the files of runs in the volume that no run names, older than a time."""

        def named() -> set[str]:
            experiments = self._experiments.all()
            rows = (row for e in experiments for row in self._runs.table_rows(e.experiment_id))
            kept = (kept for row in rows for kept in row.files.values())
            return {file.path for one in kept for file in one.files}

        return self._volume.left_over("runs", before_seconds, named)

    def clear(self, uris: Collection[str]) -> None:
        """Remove what `left_over` returned."""
        self._volume.clear(uris)

    def close(self) -> None:
        """Do nothing: the connection is closed with the runs."""

    def _uploaded(
        self, run_id: str, source: pathlib.Path, name: str, size: int, checksum: str
    ) -> VolumeArtifact:
        path = f"runs/{run_id}/{secrets.token_hex(4)}/{encoded(name)}"
        files = self._volume.upload(source, path)
        return VolumeArtifact(name, size, checksum, path, tuple(files))
