"""Experiments: made, found, renamed, tagged, deleted and taken back.

Deleting is soft: a deleted experiment and its runs are hidden until they are restored, and its name stays taken.
"""

from __future__ import annotations

import contextlib
import dataclasses
from time import time_ns
from typing import TYPE_CHECKING, Any

from ops.registry.errors import AlreadyExistsError, ExperimentNotFoundError
from ops.registry.events import EventType
from ops.registry.instants import to_ns
from ops.registry.operations import reported
from ops.registry.search.filters import Kind
from ops.registry.search.selection import select
from ops.registry.tracking.run_access import RunAccess
from ops.registry.validators import check_key, check_text, text_tags

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from ops.registry.operations import Operations
    from ops.registry.records import Experiment
    from ops.registry.search.filters import Lookup

__all__ = ["Experiments", "own_experiment", "report_change"]

#: The fields of an experiment without a group, in filters and orders.
FIELDS = {
    "experiment_id": Kind.TEXT,
    "name": Kind.TEXT,
    "description": Kind.TEXT,
    "created_at": Kind.TIME,
    "updated_at": Kind.TIME,
    "deleted_at": Kind.TIME,
}


class Experiments(RunAccess):
    """The experiments of one tracker."""

    @reported
    def create_experiment(
        self, name: str, description: str = "", tags: Mapping[str, str] | None = None
    ) -> Experiment:
        """Create the experiment *name*, with a *description* for readers and *tags* of text.

        Raises `AlreadyExistsError` for a name that is taken, `InvalidValueError` for one that is no
        name.
        """
        made = self._experiments.create(
            name, check_text("description", description), text_tags(tags)
        )
        data = {"experiment_id": made.experiment_id, "name": name}
        resource = f"experiment:{made.experiment_id}"
        self._operations.after(EventType.EXPERIMENT_CREATED, data, resource=resource)
        return own_experiment(made)

    def get_or_create_experiment(
        self, name: str, description: str = "", tags: Mapping[str, str] | None = None
    ) -> Experiment:
        """Return the experiment *name*, created now if need be, also when others try the same.

        *description* and *tags* are those of a new one.

        Raises:
            AlreadyExistsError: the experiment of that name was deleted.
        """
        try:
            found = self._experiments.named(name)
        except ExperimentNotFoundError:
            with contextlib.suppress(AlreadyExistsError):
                return self.create_experiment(name, description, tags)
            found = self._experiments.named(name)
        if found.deleted_at is not None:
            raise AlreadyExistsError(
                f"The experiment {name!r} was deleted.",
                suggestions=(f"restore_experiment({found.experiment_id!r}) takes it back.",),
            )
        return own_experiment(found)

    def get_experiment(self, experiment_id: str) -> Experiment:
        """Return an experiment by its id, also a deleted one."""
        return own_experiment(self._experiments.get(experiment_id))

    def get_experiment_by_name(self, name: str) -> Experiment:
        """Return an experiment by its name, also a deleted one."""
        return own_experiment(self._experiments.named(name))

    def list_experiments(self, *, include_deleted: bool = False) -> list[Experiment]:
        """Return all experiments, oldest first."""
        found = map(own_experiment, self._experiments.all())
        return [one for one in found if include_deleted or one.deleted_at is None]

    def search_experiments(
        self,
        filter: str | None = None,  # noqa: A002 - as in search_runs
        order_by: str | Sequence[str] | None = None,
        limit: int | None = None,
    ) -> list[Experiment]:
        """Return the experiments for which *filter* holds, oldest first unless ordered.

        Fields are experiment_id, name, description, created_at, updated_at, deleted_at and tags.*;
        deleted ones are found only by a filter that names deleted_at. *order_by* is a field and ASC
        or DESC, or several; *limit* is the most that are returned (None: all). Raises `FilterError`
        for a wrong expression.
        """
        hidden = filter is None or "deleted_at" not in filter
        found = self.list_experiments(include_deleted=not hidden)
        return select(found, FIELDS, _lookup, filter, order_by, limit)

    @reported
    def rename_experiment(self, experiment_id: str, name: str) -> Experiment:
        """Give an experiment a name that is free."""
        return self._change(experiment_id, name=name)

    @reported
    def set_experiment_tag(self, experiment_id: str, key: str, value: object) -> Experiment:
        """Set the tag *key* of *experiment_id* to the text of *value*."""
        return self._change(experiment_id, tags={check_key(key): str(value)})

    @reported
    def delete_experiment_tag(self, experiment_id: str, key: str) -> Experiment:
        """Remove one tag of an experiment; one that is not there is no error."""
        return self._change(experiment_id, tags={check_key(key): None})

    @reported
    def delete_experiment(self, experiment_id: str) -> None:
        """Hide an experiment with its runs until `restore_experiment`; its name stays taken."""
        self._change(experiment_id, deleted=time_ns())

    @reported
    def restore_experiment(self, experiment_id: str) -> Experiment:
        """Take back that an experiment was deleted."""
        return self._change(experiment_id, deleted=None)

    def _change(self, experiment_id: str, **changes: Any) -> Experiment:
        found = self._experiments.change(experiment_id, **changes)
        report_change(self._operations, experiment_id, changes)
        return own_experiment(found)


def report_change(operations: Operations, experiment_id: str, changes: Mapping[str, Any]) -> None:
    """Report that an experiment was changed, deleted (*deleted* is a time) or restored (it is None)."""
    event = EventType.EXPERIMENT_CHANGED
    if "deleted" in changes:
        is_gone = changes["deleted"] is not None
        event = EventType.EXPERIMENT_DELETED if is_gone else EventType.EXPERIMENT_RESTORED
    changed = {key: value for key, value in changes.items() if key != "deleted"}
    data = {"experiment_id": experiment_id, **changed}
    operations.after(event, data, resource=f"experiment:{experiment_id}")


def own_experiment(experiment: Experiment) -> Experiment:
    """Return an experiment whose tags are the caller's."""
    return dataclasses.replace(experiment, tags=dict(experiment.tags))


def _lookup(experiment: Experiment) -> Lookup:
    times = {
        field: None if value is None else to_ns(value)
        for field in ("created_at", "updated_at", "deleted_at")
        for value in [getattr(experiment, field)]
    }

    def find(field: str) -> Any:
        group, dot, key = field.partition(".")
        if dot:
            return experiment.tags.get(key) if group == "tags" else None
        return times[field] if field in times else getattr(experiment, field)

    return find
