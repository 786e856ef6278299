"""Reading runs from the tables: the row of `ops_runs`, with what was logged folded in.

Histories are summed up in the warehouse; parameters, tags and artifacts come as rows, and the latest of
each name counts. Rows are those of `ops.registry.run_rows`, with the files of artifacts beside them.
"""

from __future__ import annotations

import dataclasses
import json
import math
import pathlib
from typing import TYPE_CHECKING, Any

from ops.registry.databricks.heartbeats import living
from ops.registry.databricks.runsql import POINTS
from ops.registry.databricks.volumes import Stored
from ops.registry.errors import RunNotFoundError
from ops.registry.instants import from_ns
from ops.registry.json_values import decode
from ops.registry.records import Artifact, Metric, RunStatus
from ops.registry.run_rows import RunningSummary, RunRow
from ops.registry.tracking.run_records import to_run

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

    from ops.registry.databricks.warehouse import Warehouse
    from ops.registry.records import Run

__all__ = ["RunRows", "TableRow", "VolumeArtifact", "VolumeArtifactLogged", "public", "stored"]

_SEEN = "array<struct<w:string,n:bigint>>"


def stored(files: Sequence[Sequence[Any]]) -> list[Stored]:
    """Return the files of an artifact as they were recorded."""
    return [Stored(*file) for file in files]


@dataclasses.dataclass(frozen=True, slots=True)
class VolumeArtifact:
    """An artifact of a run in the volume: *files* are what it is made of, *path* is its folder or file."""

    name: str
    size: int
    checksum: str
    path: str
    files: tuple[Stored, ...]

    def plain(self) -> dict[str, Any]:
        """Return it as the tables have it."""
        return {
            "size": self.size,
            "checksum": self.checksum,
            "place": self.path,
            "files": self.files,
        }

    @classmethod
    def from_plain(cls, name: str, found: Mapping[str, Any]) -> VolumeArtifact:
        """Return what `plain` gave, raising ValueError for what it never gives."""
        try:
            files = tuple(stored(found["files"]))
            return cls(name, found["size"], found["checksum"], found["place"], files)
        except (KeyError, TypeError) as error:
            raise ValueError(f"no artifact in a volume: {found!r:.120}") from error

    def public(self, uri: Callable[[str], str]) -> Artifact:
        """Return it as the public record; *uri* gives the address of a path of the volume."""
        return Artifact(self.name, self.size, self.checksum, uri(self.path))


@dataclasses.dataclass(frozen=True, slots=True)
class VolumeArtifactLogged:
    """A frame: an artifact of a run is in the volume."""

    artifact: VolumeArtifact
    at: int

    def plain(self) -> dict[str, Any]:
        """Return it as spools have it."""
        return {"files": {self.artifact.name: self.artifact.plain()}, "t": self.at}


@dataclasses.dataclass(slots=True)
class TableRow:
    """A run as the tables have it: its row, and its artifacts by name."""

    row: RunRow
    files: dict[str, VolumeArtifact] = dataclasses.field(default_factory=dict)

    def add(self, found: Mapping[str, Any]) -> None:
        """Add a row of facts, or of summed up metrics; the latest of each name comes last."""
        kind, name = found["kind"], found["name"]
        if kind == "metric":
            self.row.metrics[name] = _summary(found)
            return
        value = decode(found["body"].encode())
        if kind == "artifact":
            self.files[name] = VolumeArtifact.from_plain(name, value)
        elif kind == "param":
            self.row.params[name] = value
        elif value is None:  # a tag that was removed
            self.row.tags.pop(name, None)
        else:
            self.row.tags[name] = value


class RunRows:
    """Answers what runs come to."""

    def __init__(self, warehouse: Warehouse) -> None:
        self._warehouse = warehouse

    def home(self, run_id: str) -> str:
        """Return the experiment of a run."""
        return str(self._head(run_id)["experiment_id"])

    def row(self, run_id: str) -> TableRow:
        """Return one run."""
        head = self._head(run_id)
        (row,) = self._filled([head], "run_id = :one", one=run_id)
        return row

    def of_experiment(self, experiment_id: str) -> list[TableRow]:
        """Return the runs of an experiment, oldest first."""
        heads = self._heads("experiment_id = :one", one=experiment_id)
        return self._filled(heads, "experiment_id = :one", one=experiment_id)

    def some(self, run_ids: Sequence[str]) -> list[TableRow]:
        """Return runs in the requested order; those that are gone are left out."""
        if not run_ids:
            return []
        among = "run_id IN (SELECT explode(from_json(:ids, 'array<string>')))"
        ids = json.dumps(list(run_ids))
        rows = self._filled(self._heads(among, ids=ids), among, ids=ids)
        found = {one.row.run_id: one for one in rows}
        return [found[one] for one in run_ids if one in found]

    def history(self, run_id: str, key: str) -> list[Metric]:
        """Return the points of a metric by step, then time."""
        found = self._warehouse.rows(
            f"{POINTS} @ops_run_metrics "
            "WHERE run_id = :run AND metric = :key ORDER BY step, logged_at, place",
            run=run_id,
            key=key,
        )
        return [Metric(key, p["value"], p["step"], from_ns(p["logged_at"])) for p in found]

    def status(self, run_id: str) -> RunStatus:
        """Return where a run is in its life."""
        return RunStatus(self._head(run_id)["status"])

    def points(self, run_id: str, seen: Mapping[str, int]) -> list[tuple[tuple[str, int], Metric]]:
        """Return points of a run by time, each with what identifies it."""
        return [
            (
                (p["writer"], p["place"]),
                Metric(p["metric"], p["value"], p["step"], from_ns(p["logged_at"])),
            )
            for p in self.point_rows(run_id, seen)
        ]

    def point_rows(
        self, run_id: str, seen: Mapping[str, int] | None = None
    ) -> list[dict[str, Any]]:
        """Return the rows of points by time; *seen* has per writer the index up to which they are left out."""
        return self._warehouse.rows(
            f"SELECT p.* FROM ({POINTS} @ops_run_metrics WHERE run_id = :run) p "  # noqa: S608 - literals of this package, values are parameters
            "LEFT JOIN (SELECT e.w AS w, e.n AS n FROM "
            f"(SELECT explode(from_json(:seen, '{_SEEN}')) AS e)) s ON s.w = p.writer "
            "WHERE s.w IS NULL OR p.place > s.n ORDER BY p.logged_at, p.place",
            run=run_id,
            seen=json.dumps([{"w": w, "n": n} for w, n in (seen or {"": 0}).items()]),
        )

    def end(self, run_id: str, *, status: str, at: int | None, error: str | None) -> bool:
        """Change status and end of a run if it is unchanged since it was read; return whether it was."""
        version = self._head(run_id)["version"]
        count = self._warehouse.change(
            "UPDATE @ops_runs SET status = :status, ended_at = :at, error = :error, "
            "version = version + 1 WHERE run_id = :run AND version = :version",
            run=run_id,
            version=version,
            status=status,
            at=at,
            error=error,
        )
        # None changed, or not known: another change was first, or the answer to this one was lost.
        return count > 0 or self._head(run_id)["ended_at"] == at

    def _head(self, run_id: str) -> dict[str, Any]:
        found = self._heads("run_id = :one", one=run_id)
        if not found:
            raise RunNotFoundError(f"There is no run {run_id!r}.")
        return found[0]

    def _heads(self, where: str, **parameters: Any) -> list[dict[str, Any]]:
        return self._warehouse.rows(f"{living(where)} ORDER BY started_at, run_id", **parameters)

    def _filled(
        self, heads: Sequence[Mapping[str, Any]], where: str, **parameters: Any
    ) -> list[TableRow]:
        rows = {head["run_id"]: _of_head(head) for head in heads}
        if not rows:
            return []
        for found in self._warehouse.rows(_everything(where), **parameters):
            table_row = rows.get(found["run_id"])
            if table_row is not None:
                table_row.add(found)
        return list(rows.values())


def _everything(where: str) -> str:
    """Return the query of all facts of runs by time, and of what their metrics come to by name."""
    last = "struct(step, logged_at, place)"
    least = "struct(isnan(value), value, step)"
    greatest = "struct(NOT isnan(value), value, -step)"
    return (
        "SELECT run_id, 'metric' AS kind, metric AS name, CAST(NULL AS STRING) AS body, "  # noqa: S608 - literals of this package, values are parameters
        f"max_by(value, {last}) AS last, max_by(step, {last}) AS step, "
        f"max_by(logged_at, {last}) AS at, min_by(value, {least}) AS least, "
        f"min_by(step, {least}) AS least_step, max_by(value, {greatest}) AS greatest, "
        f"max_by(step, {greatest}) AS greatest_step, count(*) AS points, "
        "CAST(0 AS BIGINT) AS logged_at, CAST(0 AS BIGINT) AS place FROM "
        f"({POINTS} @ops_run_metrics WHERE {where}) GROUP BY run_id, metric UNION ALL "
        "SELECT run_id, kind, name, body, CAST(NULL AS DOUBLE), CAST(NULL AS BIGINT), "
        "CAST(NULL AS BIGINT), CAST(NULL AS DOUBLE), CAST(NULL AS BIGINT), CAST(NULL AS DOUBLE), "
        "CAST(NULL AS BIGINT), CAST(NULL AS BIGINT), logged_at, place "
        f"FROM @ops_run_facts WHERE {where} ORDER BY logged_at, place, name"
    )


def public(found: TableRow, uri: Callable[[str], str]) -> Run:
    """Return a run as the public record; *uri* gives the address of a path of the volume."""
    run = to_run(found.row, pathlib.Path())
    return dataclasses.replace(
        run, artifacts=tuple(one.public(uri) for one in found.files.values())
    )


def _of_head(head: Mapping[str, Any]) -> TableRow:
    return TableRow(
        RunRow(
            head["run_id"],
            head["experiment_id"],
            head["name"],
            RunStatus(head["status"]),
            head["started_at"],
            head["ended_at"],
            head["parent_run_id"],
            head["error"],
            more={} if head["deleted_at"] is None else {"deleted": head["deleted_at"]},
        )
    )


def _summary(found: Mapping[str, Any]) -> RunningSummary:
    values = [math.nan if found[k] is None else found[k] for k in ("last", "least", "greatest")]
    last, least, greatest = values
    steps = found["least_step"], found["greatest_step"]
    return RunningSummary(
        last, found["step"], found["at"], least, greatest, found["points"], *steps
    )
