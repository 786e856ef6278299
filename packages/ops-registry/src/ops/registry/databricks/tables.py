"""The tables of a schema: made at the first statement, migrated by number, refused when newer.

`ops_format` has a row per migration that was done, and the greatest number counts: format 2 added
`ops_run_beats` to format 1, format 3 the lock rows (`unique_rows`), format 4 `ops_run_deletions`, and format 5
`ops_experiment_changes`. Facts and points are only ever inserted, so
writers do not conflict; what must be decided (names, the end of a run, the head of a model's
history) is one row that changes under its ``version``. Times are nanoseconds since the epoch. Clustered
by run or model, not partitioned, and no IDENTITY columns, which would make writers wait.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from ops.registry.databricks.failures import Failure, failure_in
from ops.registry.databricks.unique_rows import LOCKED, seed
from ops.registry.errors import CorruptStoreError, StorageError

if TYPE_CHECKING:
    from collections.abc import Iterable

    from ops.registry.databricks.warehouse import Warehouse

__all__ = ["FORMAT", "VOLUME", "format_of", "prepare"]

FORMAT = 5
VOLUME = "ops_artifacts"

_TABLES = {
    "ops_experiments": """
        experiment_id STRING NOT NULL, name STRING NOT NULL, description STRING,
        tags STRING, created_at BIGINT
    """,
    "ops_runs": """
        run_id STRING NOT NULL, experiment_id STRING NOT NULL, name STRING, status STRING,
        started_at BIGINT, ended_at BIGINT, parent_run_id STRING, error STRING,
        version BIGINT
    """,
    "ops_run_metrics": """
        run_id STRING NOT NULL, experiment_id STRING NOT NULL, metric STRING NOT NULL,
        value DOUBLE, step BIGINT, logged_at BIGINT, writer STRING, place BIGINT
    """,
    "ops_run_facts": """
        run_id STRING NOT NULL, experiment_id STRING NOT NULL, kind STRING NOT NULL,
        name STRING NOT NULL, body STRING, text STRING, number DOUBLE, logged_at BIGINT,
        writer STRING, place BIGINT
    """,
    "ops_models": """
        name STRING NOT NULL, head STRING NOT NULL, version BIGINT
    """,
    "ops_model_events": """
        event_id STRING NOT NULL, name STRING NOT NULL, parent STRING, place BIGINT,
        frame STRING
    """,
    "ops_files": """
        path STRING NOT NULL, place STRING, size BIGINT, checksum STRING, version BIGINT
    """,
    "ops_run_beats": """
        run_id STRING NOT NULL, experiment_id STRING NOT NULL, beat_at BIGINT, every_seconds DOUBLE
    """,
    "ops_run_deletions": """
        run_id STRING NOT NULL, experiment_id STRING NOT NULL, deleted_at BIGINT, changed_at BIGINT
    """,
    "ops_experiment_changes": """
        experiment_id STRING NOT NULL, kind STRING NOT NULL, key STRING NOT NULL, value STRING,
        changed_at BIGINT
    """,
}
_CLUSTERS = {
    "ops_experiments": "name",
    "ops_runs": "experiment_id, run_id",
    "ops_run_metrics": "experiment_id, run_id",
    "ops_run_facts": "experiment_id, run_id",
    "ops_models": "name",
    "ops_model_events": "name",
    "ops_files": "path",
    "ops_run_beats": "experiment_id, run_id",
    "ops_run_deletions": "experiment_id, run_id",
    "ops_experiment_changes": "experiment_id",
}
#: The tables that a format has and the one before it had not.
_ADDED: dict[int, tuple[str, ...]] = {
    2: ("ops_run_beats",),
    3: (),
    4: ("ops_run_deletions",),
    5: ("ops_experiment_changes",),
}
#: The tables whose lock rows came with a format.
_SEEDED: dict[int, Iterable[str]] = {3: LOCKED}
_FIRST = tuple(name for name in _TABLES if all(name not in added for added in _ADDED.values()))


def prepare(warehouse: Warehouse) -> None:
    """Make what is missing; each statement can be repeated, also by several at once.

    Nothing is created where all is there: who may only use the tables can do so.
    """
    found = format_of(warehouse)
    if found > FORMAT:
        raise CorruptStoreError(
            f"The schema {warehouse.scope} is in format {found}; this version of ops-registry "
            f"knows up to {FORMAT}.",
            suggestions=("Upgrade ops-registry.",),
        )
    if found < 1:
        warehouse.define(f"CREATE SCHEMA IF NOT EXISTS {warehouse.scope}")
        warehouse.define(
            f"CREATE TABLE IF NOT EXISTS {warehouse.table('ops_format')} (format BIGINT)"
        )
        _make_tables(warehouse, _FIRST)
        warehouse.define(f"CREATE VOLUME IF NOT EXISTS {warehouse.table(VOLUME)}")
    for step in range(max(found, 1) + 1, FORMAT + 1):
        _make_tables(warehouse, _ADDED[step])
        for table in _SEEDED.get(step, ()):
            warehouse.change(seed(table))
    if found < FORMAT:
        # Last: who finds the number finds the tables. Written twice by two at once, it is the same.
        warehouse.change("INSERT INTO @ops_format VALUES (:format)", format=FORMAT)


def _make_tables(warehouse: Warehouse, names: Iterable[str]) -> None:
    for name in names:
        warehouse.define(
            f"CREATE TABLE IF NOT EXISTS {warehouse.table(name)} ({_TABLES[name]}) "
            f"CLUSTER BY ({_CLUSTERS[name]})"
        )


def format_of(warehouse: Warehouse) -> int:
    """Return the number of the last migration, 0 when there is no schema or table yet."""
    try:
        (row,) = warehouse.rows("SELECT max(format) AS format FROM @ops_format")
    except StorageError as error:
        if failure_in(error) is Failure.ABSENT_TABLE:
            return 0
        raise
    return int(row["format"] or 0)
