"""Experiment tracking on Databricks: the backend of a tracker in the tables of a schema and its volume."""

from __future__ import annotations

import pathlib
from typing import TYPE_CHECKING, Any

from ops.registry.databricks.experiment_table import ExperimentTable
from ops.registry.databricks.run_files import VolumeRunFiles
from ops.registry.databricks.runtables import RunTables
from ops.registry.disk.journal import DURABILITIES
from ops.registry.errors import InvalidValueError
from ops.registry.tracking.ports import TrackingBackend
from ops.registry.tracking.tracker import ExperimentTracker

if TYPE_CHECKING:
    from ops.foundation.files import StrPath
    from ops.registry.databricks.run_reader import TableRow
    from ops.registry.databricks.warehouse import Warehouse
    from ops.registry.operations import Operations

__all__ = ["DatabricksExperimentTracker"]


class DatabricksExperimentTracker(ExperimentTracker):
    """Experiments and runs in the tables of a schema, artifacts in its volume.

    Logging appends to a spool below *root* and does not wait for the network; starting and ending a
    run and all reading talk to the *warehouse*. *operations* and *durability* (of the spool) are
    those of `ExperimentTracker`; *catalog_tags* keeps tags as tags of Unity Catalog too; every
    *heartbeat_seconds* the tables learn that runs live (0: never). Raises `InvalidValueError` for
    an unknown durability.
    """

    def __init__(
        self,
        warehouse: Warehouse,
        root: StrPath,
        *,
        operations: Operations | None = None,
        durability: str = "process",
        catalog_tags: bool = True,
        heartbeat_seconds: float = 30.0,
    ) -> None:
        if durability not in DURABILITIES:
            raise InvalidValueError(
                f"durability={durability!r} is unknown; use one of {list(DURABILITIES)}."
            )
        folder = pathlib.Path(root).absolute()
        experiments = ExperimentTable(warehouse, catalog_tags=catalog_tags)
        self._tables = RunTables(
            warehouse,
            experiments,
            folder / "spool",
            durability=durability,
            heartbeat_seconds=heartbeat_seconds,
        )
        files = VolumeRunFiles(warehouse, experiments, self._tables)
        super().__init__(
            operations=operations,
            backend=TrackingBackend(folder, experiments, self._tables, files),
        )
        self.warehouse = warehouse

    def flush(self) -> None:
        """Send what was logged and is still in the spool; raises when that cannot be done now."""
        self._tables.settle()

    def table_rows(self, experiment_id: str) -> list[TableRow]:
        """Return the rows of an experiment's runs, with their files."""
        return self._tables.table_rows(experiment_id)

    def check_store(self, context: Any, report: Any, progress: Any) -> None:
        """Check the schema of *context* for `fsck`: rows, histories and files.

        What is wrong goes into *report*; *progress* is called with what is done and with all.
        """
        from ops.registry.databricks.fsck import check_schema

        check_schema(context, report, progress)
