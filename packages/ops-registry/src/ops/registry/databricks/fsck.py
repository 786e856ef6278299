"""Checking a schema: rows that contradict each other, histories with holes, files that are not what was stored.

What others have left unfinished is no damage: frames that no head reaches, points of a run whose row never
came. They are counted, and everything else is a sentence in the report.
"""

from __future__ import annotations

import collections
import functools
from typing import TYPE_CHECKING, Any

from ops.foundation.errors import OpsError
from ops.registry.databricks.unique_rows import LOCKED, NAMED, seed
from ops.registry.databricks.volumes import Stored, Volume

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Mapping

    from ops.registry.check_report import Report
    from ops.registry.databricks.warehouse import Warehouse

__all__ = ["check_schema"]

_TWICE = (
    ("Experiment", "SELECT name FROM @ops_experiments"),
    ("Run", "SELECT DISTINCT * FROM @ops_runs"),
    ("Model", "SELECT name FROM @ops_models"),
    ("File", "SELECT path FROM @ops_files"),
)


def check_schema(
    context: Any, report: Report, progress: Callable[[int, int], object] | None = None
) -> None:
    """Read everything once, every file included, and say in *report* what is wrong."""
    tracker, registry = context.experiment_tracker, context.model_registry
    warehouse: Warehouse = tracker.warehouse
    tracker.flush()
    for (kind, rows), (table, (column, _, _)) in zip(_TWICE, LOCKED.items(), strict=True):
        twice = warehouse.rows(
            f"SELECT {column} AS name FROM ({rows} WHERE {NAMED[table]}) "  # noqa: S608 - literals of this package
            f"GROUP BY {column} HAVING count(*) > 1"
        )
        report.problems += [f"{kind} {row['name']!r} is there more than once." for row in twice]
        if not warehouse.rows(f"SELECT {column} FROM @{table} WHERE {column} = ''"):  # noqa: S608 - literals of this package
            report.problems.append(
                f"{table} has no lock row, so two may take one name. Insert it: "
                + seed(table).replace(f"@{table}", warehouse.table(table))
            )
    report.unstarted += _runs_without_a_row(warehouse)
    experiments = tracker.list_experiments(include_deleted=True)
    for done, experiment in enumerate(experiments, 1):
        _check_runs(context, experiment.experiment_id, report)
        if progress is not None:
            progress(done, len(experiments))
    _check_histories(warehouse, report)
    try:
        versions = registry.search_models()
    except OpsError:
        versions = []  # a history with a hole was reported already
    for version in versions:
        report.versions += 1
        what = f"{version.name}/{version.version}"
        _try(report, what, functools.partial(registry.verify, version))
    volume = Volume(warehouse)
    for row in warehouse.rows(
        "SELECT path, place, size, checksum FROM @ops_files WHERE place IS NOT NULL ORDER BY path"
    ):
        file = Stored("", row["place"], row["size"], row["checksum"])
        _try(report, f"File {row['path']!r}", functools.partial(_fetch, volume, [file]))


def _check_runs(context: Any, experiment_id: str, report: Report) -> None:
    tracker: Any = context.experiment_tracker
    volume = Volume(tracker.warehouse)
    try:
        rows = tracker.table_rows(experiment_id)
    except (OpsError, ValueError) as error:  # a body that is no JSON
        report.problems.append(f"The runs of experiment {experiment_id} cannot be read: {error}")
        return
    for found in rows:
        report.runs += 1
        for kept in found.files.values():
            what = f"Run {found.row.run_id}, artifact {kept.name!r}"
            _try(report, what, functools.partial(_fetch, volume, kept.files))


def _runs_without_a_row(warehouse: Warehouse) -> int:
    (row,) = warehouse.rows(
        "SELECT count(DISTINCT l.run_id) AS runs FROM (SELECT run_id FROM @ops_run_metrics "
        "UNION ALL SELECT run_id FROM @ops_run_facts) l "
        "LEFT JOIN @ops_runs r ON r.run_id = l.run_id WHERE r.run_id IS NULL"
    )
    return int(row["runs"])


def _check_histories(warehouse: Warehouse, report: Report) -> None:
    heads = warehouse.rows(
        f"SELECT name, head, version FROM @ops_models WHERE {NAMED['ops_models']} ORDER BY name"  # noqa: S608 - literals of this package
    )
    events: dict[str, dict[str, dict[str, Any]]] = collections.defaultdict(dict)
    for row in warehouse.rows("SELECT event_id, name, parent, place FROM @ops_model_events"):
        events[row["name"]][row["event_id"]] = row
    for head in heads:
        fault = _broken(head, events[head["name"]])
        if fault:
            report.problems.append(f"The history of model {head['name']!r} {fault}")


def _broken(head: Mapping[str, Any], events: Mapping[str, Mapping[str, Any]]) -> str | None:
    """Return what is wrong with the chain from *head* to the first frame."""
    at, number = head["head"], head["version"]
    while at is not None:
        if at not in events:
            return f"has no frame {at!r}, which would be number {number}."
        found = events[at]["place"]
        if found != number:
            return f"has frame {at!r} as number {found}, and it would be {number}."
        at, number = events[at]["parent"], number - 1
    return None if number == 0 else f"begins with number {number + 1}."


def _fetch(volume: Volume, files: Iterable[Stored]) -> None:
    with volume.fetched(list(files)):
        pass


def _try(report: Report, what: str, check: Callable[[], None]) -> None:
    try:
        check()
    except OpsError as error:
        report.problems.append(f"{what}: {error}")
