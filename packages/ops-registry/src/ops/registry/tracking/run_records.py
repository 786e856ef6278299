"""Rows of runs as the records that users get, with nothing in them that the store goes on using."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING

from ops.registry.disk.checked_paths import is_id, is_relative
from ops.registry.errors import CorruptStoreError
from ops.registry.instants import from_ns
from ops.registry.plain_values import copied_mapping
from ops.registry.records import Artifact, MetricSummary, Run
from ops.registry.remote.artifacts import is_remote

if TYPE_CHECKING:
    import pathlib
    from collections.abc import Iterator

    from ops.registry.run_rows import KeptArtifact, RunningSummary, RunRow

__all__ = ["is_artifact", "to_artifact", "to_run"]


def to_run(row: RunRow, artifacts: pathlib.Path) -> Run:
    """Return a row, which is not changed from now on, as the public record; *artifacts* has those of all runs.

    An artifact whose name would lead out of that folder is left out.
    """
    if not is_id(row.run_id):
        raise CorruptStoreError(
            f"{row.run_id!r:.80} is no id of a run: the index is damaged.",
            suggestions=("Rebuild it from the journals: ops-registry fsck --repair.",),
        )
    deleted = row.deleted
    return Run(
        run_id=row.run_id,
        experiment_id=row.experiment_id,
        name=row.name,
        status=row.status,
        start_time=from_ns(row.start),
        # A clock may have been set back while it ran: no run ends before it starts.
        end_time=None if row.end is None else from_ns(max(row.end, row.start)),
        parent_run_id=row.parent,
        error=row.error,
        parameters=copied_mapping(row.params),
        metrics={key: summary.last for key, summary in row.metrics.items()},
        metric_summaries=_Summaries(row.metrics),
        tags=dict(row.tags),
        artifacts=_artifacts(row, artifacts) if row.artifacts else (),
        deleted_at=None if deleted is None else from_ns(deleted),
    )


def _artifacts(row: RunRow, root: pathlib.Path) -> tuple[Artifact, ...]:
    folder = root / row.run_id
    return tuple(to_artifact(one, folder) for one in row.artifacts if is_artifact(one))


def is_artifact(kept: KeptArtifact) -> bool:
    """Whether a name and an address are such as this package writes: below the run, or in a bucket."""
    return is_relative(kept.path) and (kept.address is None or is_remote(str(kept.address)))


def to_artifact(kept: KeptArtifact, folder: pathlib.Path) -> Artifact:
    """Return what a row has of an artifact as the public record; *folder* is that of the run's."""
    uri = str(folder / kept.path) if kept.address is None else kept.address
    return Artifact(kept.path, kept.size, kept.checksum, uri)


class _Summaries(Mapping[str, MetricSummary]):
    """The summaries of a run's metrics, each made when it is looked at: lists of runs seldom are."""

    __slots__ = ("_found",)

    def __init__(self, found: Mapping[str, RunningSummary]) -> None:
        self._found = found

    def __getitem__(self, key: str) -> MetricSummary:
        kept = self._found[key]
        return MetricSummary(
            kept.last,
            kept.last_step,
            kept.minimum,
            kept.maximum,
            kept.count,
            kept.minimum_step,
            kept.maximum_step,
        )

    def __iter__(self) -> Iterator[str]:
        return iter(self._found)

    def __len__(self) -> int:
        return len(self._found)

    def __repr__(self) -> str:
        return repr(dict(self))
