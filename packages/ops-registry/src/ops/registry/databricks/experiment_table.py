"""Experiments in tables: one row each, whose name is taken once, and what was changed since as rows that are only inserted.

The name of an experiment is taken by one MERGE, which also updates a row that all of them update: of two at
once, Delta lets one commit and the other is repeated, finds the name and changes nothing (`unique_rows`). A new name
is taken in the same way. Tags and deletions are inserted, so that two writers do not conflict; of each the latest counts.
"""

from __future__ import annotations

import dataclasses
from time import time_ns
from typing import TYPE_CHECKING, Any

from ops.foundation.ids import generate_uuid7
from ops.registry.databricks.catalog_tags import CatalogTags
from ops.registry.databricks.unique_rows import NAMED, renaming, taking
from ops.registry.errors import AlreadyExistsError, ExperimentNotFoundError, no_experiment
from ops.registry.instants import from_ns, to_ns
from ops.registry.json_values import decode, encode
from ops.registry.records import Experiment
from ops.registry.validators import check_name

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

    from ops.registry.databricks.warehouse import Warehouse

__all__ = ["ExperimentTable"]

#: Of each experiment, kind and key the latest change; values are JSON.
_LATEST = (
    "SELECT experiment_id, kind, key, max_by(value, changed_at) AS value, "
    "max(changed_at) AS changed_at FROM @ops_experiment_changes GROUP BY experiment_id, kind, key"
)


class ExperimentTable:
    """The experiments of a schema."""

    def __init__(
        self,
        warehouse: Warehouse,
        *,
        catalog_tags: bool = True,
    ) -> None:
        self._tags = CatalogTags(warehouse, "TABLE", "ops_runs", enabled=catalog_tags)
        self._warehouse = warehouse
        self._seen: set[str] = set()
        self._latest = 0

    def create(self, name: str, description: str, tags: Mapping[str, str]) -> Experiment:
        """Add an experiment; a name that is taken is an `AlreadyExistsError`."""
        check_name("experiment", name)
        made = generate_uuid7().replace("-", "")
        found = self._taken(Experiment(made, name, from_ns(time_ns()), description, dict(tags)))
        if found.experiment_id != made:
            raise _taken_name(name)
        return found

    def adopt(self, experiment: Experiment) -> Experiment:
        """Return the experiment that is *experiment* here, or has its name; a new one is as it is elsewhere.

        It is the same when it has the same id and was created at the same time, whatever it is called by now.
        """
        same = self._by_id(experiment.experiment_id)
        if same is None:
            found = self._taken(experiment)
            if found.experiment_id != experiment.experiment_id:
                return found
            same = found
        if same.created_at == from_ns(to_ns(experiment.created_at)):
            self._follow(same, experiment)
        return self.get(same.experiment_id)

    def _follow(self, known: Experiment, there: Experiment) -> None:
        """Insert what was changed elsewhere since the experiment was changed here."""
        when = there.updated_at or there.deleted_at
        if when is None or when <= (known.updated_at or known.created_at):
            return
        if there.name != known.name:
            self._rename(known.experiment_id, there.name)
        changes = {
            "tags": dict.fromkeys(known.tags) | dict(there.tags),
            "deleted": None if there.deleted_at is None else to_ns(there.deleted_at),
        }
        self._insert(known.experiment_id, _rows(changes), to_ns(when))

    def _taken(self, experiment: Experiment) -> Experiment:
        """Take a name for an experiment, and return whose it is."""
        self._warehouse.change(
            taking(
                "ops_experiments",
                "SELECT :name AS name, :id AS experiment_id, :description AS description, "
                ":tags AS tags, CAST(:at AS BIGINT) AS created_at",
                ("name", "experiment_id", "description", "tags", "created_at"),
            ),
            id=experiment.experiment_id,
            name=experiment.name,
            description=experiment.description,
            tags=encode({str(k): str(v) for k, v in experiment.tags.items()}).decode(),
            at=to_ns(experiment.created_at),
        )
        found = self.named(experiment.name)
        if experiment.tags and found.experiment_id == experiment.experiment_id:
            self._mirror_tags()
        return found

    def change(self, experiment_id: str, **changes: Any) -> Experiment:
        """Change *name* (which must be free), *tags* (None removes one) or *deleted* (nanoseconds or None)."""
        known = self.get(experiment_id)
        rows = _rows(changes)
        name = changes.get("name", known.name)
        if name != known.name:
            check_name("experiment", name)
            if not self._rename(experiment_id, name):
                raise _taken_name(name)
            rows.append(("name", "", name))
        self._insert(experiment_id, rows, self._now())
        if changes.get("tags"):
            self._mirror_tags()
        return self.get(experiment_id)

    def _rename(self, experiment_id: str, name: str) -> bool:
        """Give an experiment a name if that is free; return whether it is free or its own by now."""
        self._warehouse.change(
            renaming("ops_experiments", "experiment_id"), id=experiment_id, name=name
        )
        return self.named(name).experiment_id == experiment_id

    def _insert(self, experiment_id: str, rows: Iterable[tuple[str, str, Any]], at: int) -> None:
        for kind, key, value in rows:
            self._warehouse.change(
                "INSERT INTO @ops_experiment_changes (experiment_id, kind, key, value, changed_at) "
                "VALUES (:id, :kind, :key, :value, :at)",
                id=experiment_id,
                kind=kind,
                key=key,
                value=encode(value).decode(),
                at=at,
            )

    def _now(self) -> int:
        """Return the time in nanoseconds, later than that of any change before it in this process."""
        self._latest = max(time_ns(), self._latest + 1)
        return self._latest

    def _mirror_tags(self) -> None:
        self._tags.mirror(one.tags for one in self.all())

    def all(self) -> list[Experiment]:
        """Return all experiments, deleted ones too, in the order they were created."""
        return self._select("")

    def get(self, experiment_id: str) -> Experiment:
        """Return one by its id, as it is now."""
        found = self._by_id(experiment_id)
        if found is None:
            raise no_experiment(experiment_id)
        return found

    def check(self, experiment_id: str) -> None:
        """Raise `ExperimentNotFoundError` for an experiment that never was; each is looked for once."""
        if experiment_id not in self._seen:
            self.get(experiment_id)
            self._seen.add(experiment_id)

    def named(self, name: str) -> Experiment:
        """Return one by its name."""
        rows = self._select("WHERE e.name = :name", name=name)
        if not rows:
            raise ExperimentNotFoundError(f"There is no experiment {name!r}.")
        return rows[0]

    def _by_id(self, experiment_id: str) -> Experiment | None:
        if not isinstance(experiment_id, str):
            raise no_experiment(experiment_id)
        rows = self._select("WHERE e.experiment_id = :id", id=experiment_id)
        return rows[0] if rows else None

    def _select(self, where: str, **parameters: Any) -> list[Experiment]:
        rows = self._warehouse.rows(
            "SELECT e.experiment_id, e.name, e.description, e.tags, e.created_at, c.kind, c.key, "  # noqa: S608 - literals of this package, values are parameters
            "c.value, c.changed_at "
            f"FROM (SELECT * FROM @ops_experiments WHERE {NAMED['ops_experiments']}) e "
            f"LEFT JOIN ({_LATEST}) c ON c.experiment_id = e.experiment_id {where} "
            "ORDER BY e.created_at, e.experiment_id",
            **parameters,
        )
        found: dict[str, Experiment] = {}
        for row in rows:
            one = found.get(row["experiment_id"]) or Experiment(
                row["experiment_id"],
                row["name"],
                from_ns(row["created_at"]),
                row["description"],
                decode(row["tags"].encode()),
            )
            found[one.experiment_id] = one if row["kind"] is None else _changed(one, row)
        return list(found.values())


def _rows(changes: Mapping[str, Any]) -> list[tuple[str, str, Any]]:
    """Return kind, key and value of each change of *tags* and of *deleted*."""
    rows = [("tag", key, value) for key, value in changes.get("tags", {}).items()]
    if "deleted" in changes:
        rows.append(("deleted", "", changes["deleted"]))
    return rows


def _changed(known: Experiment, row: Mapping[str, Any]) -> Experiment:
    """Return an experiment after one change; the name is in its own row."""
    value = decode(row["value"].encode())
    tags, deleted = dict(known.tags), known.deleted_at
    if row["kind"] == "tag":
        tags.pop(row["key"], None)
        tags |= {} if value is None else {row["key"]: value}
    elif row["kind"] == "deleted":
        deleted = None if value is None else from_ns(value)
    at = from_ns(row["changed_at"])
    updated = at if known.updated_at is None else max(at, known.updated_at)
    return dataclasses.replace(known, tags=tags, deleted_at=deleted, updated_at=updated)


def _taken_name(name: str) -> AlreadyExistsError:
    return AlreadyExistsError(
        f"There is an experiment {name!r} already.",
        suggestions=("Use get_or_create_experiment to go on with it.",),
    )
