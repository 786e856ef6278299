"""Rows of runs as the records that users get, with nothing in them that the store goes on using."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from ops.registry.disk.checked_paths import is_id, is_relative
from ops.registry.errors import CorruptStoreError
from ops.registry.instants import from_ns
from ops.registry.plain_values import copied_mapping
from ops.registry.records import Artifact, MetricSummary, Run, RunStatus
from ops.registry.remote.artifacts import is_remote

if TYPE_CHECKING:
    import pathlib
    from collections.abc import Iterator, Sequence

__all__ = ["is_artifact", "to_artifact", "to_run"]


def to_run(row: Mapping[str, Any], artifacts: pathlib.Path) -> Run:
    """Return a row as the public record; *artifacts* is the folder of all runs' artifacts.

    An artifact whose name would lead out of that folder is left out.
    """
    if not is_id(row["run_id"]):
        raise CorruptStoreError(
            f"{row['run_id']!r:.80} is no id of a run: the index is damaged.",
            suggestions=("Rebuild it from the journals: ops-registry fsck --repair.",),
        )
    folder = artifacts / row["run_id"]
    return Run(
        run_id=row["run_id"],
        experiment_id=row["experiment_id"],
        name=row["name"],
        status=_STATUSES[row["status"]],
        start_time=from_ns(row["start"]),
        # A clock may have been set back while it ran: no run ends before it starts.
        end_time=None if row["end"] is None else from_ns(max(row["end"], row["start"])),
        parent_run_id=row["parent"],
        error=row["error"],
        parameters=copied_mapping(row["params"]),
        metrics={k: s[0] for k, s in row["metrics"].items()},
        metric_summaries=_Summaries({k: tuple(s) for k, s in row["metrics"].items()}),
        tags=dict(row["tags"]),
        artifacts=tuple(to_artifact(one, folder) for one in row["artifacts"] if is_artifact(one)),
        deleted_at=None if row.get("deleted") is None else from_ns(row["deleted"]),
    )


def is_artifact(recorded: Sequence[Any]) -> bool:
    """Whether a name and an address are such as this package writes: below the run, or in a bucket."""
    return is_relative(recorded[0]) and (
        len(recorded) == 3 or (len(recorded) == 4 and is_remote(str(recorded[3])))
    )


def to_artifact(recorded: Sequence[Any], folder: pathlib.Path) -> Artifact:
    """Return what a row has of an artifact as the public record; *folder* is that of the run's."""
    path, size, checksum, *address = recorded
    return Artifact(path, size, checksum, *(address or [str(folder / path)]))


_STATUSES = {str(status): status for status in RunStatus}


class _Summaries(Mapping[str, MetricSummary]):
    """The summaries of a run's metrics, each made when it is looked at: lists of runs seldom are."""

    __slots__ = ("_found",)

    def __init__(self, found: dict[str, tuple[Any, ...]]) -> None:
        self._found = found

    def __getitem__(self, key: str) -> MetricSummary:
        s = self._found[key]
        return MetricSummary(s[0], s[1], s[3], s[4], s[5], s[6], s[7])

    def __iter__(self) -> Iterator[str]:
        return iter(self._found)

    def __len__(self) -> int:
        return len(self._found)

    def __repr__(self) -> str:
        return repr(dict(self))
