# mypy: disable-error-code="no-untyped-call"
# (MLflow's validators are not annotated)
"""What ``mlflow gc`` asks a tracking store: which things were deleted, and to delete them for ever.

``mlflow gc`` removes the artifacts itself before each of these calls. Numbers and ids of what is gone
are not given again.
"""

from __future__ import annotations

from time import time_ns

from mlflow.entities import LifecycleStage, ViewType

from ops.registry.instants import to_ns
from ops.registry.mlflow.dataset_calls import DatasetCalls
from ops.registry.mlflow.errors import missing

__all__ = ["Erasing"]

_NS_PER_MS = 1_000_000


class Erasing(DatasetCalls):
    """Deletes for ever what had been deleted."""

    def _get_deleted_runs(self, older_than: int = 0) -> list[str]:
        """Return the ids of runs that were deleted *older_than* milliseconds ago, or before."""
        latest = time_ns() - older_than * _NS_PER_MS
        found = []
        for experiment in self.book.experiments():
            hidden = experiment.deleted_at
            # Deleting an experiment deletes its runs.
            since = None if hidden is None else to_ns(hidden)
            for seen in self._all_of(experiment, ViewType.DELETED_ONLY):
                times = [at for at in (seen.row.deleted, since) if at is not None]
                if min(times) <= latest:
                    found.append(seen.run_id)
        return found

    def _hard_delete_run(self, run_id: str) -> None:
        """Delete a run with all that was logged to it, for ever."""
        self._row(run_id)
        self.book.erase(run_id)

    def _get_deleted_logged_models(self, older_than: int = 0) -> list[str]:
        """Return the ids of models that were deleted *older_than* milliseconds ago, or before."""
        latest = time_ns() // _NS_PER_MS - older_than
        return [
            model["id"]
            for model in self.models.all()
            if model["deleted"] and model["updated"] <= latest
        ]

    def _hard_delete_logged_model(self, model_id: str) -> None:
        """Delete a logged model for ever."""
        self._model(model_id, allow_deleted=True)
        self.models.erase(model_id)

    def _hard_delete_experiment(self, experiment_id: str) -> None:
        """Delete an experiment that had been deleted, with its runs, logged models and traces, for ever."""
        known = self._experiment(experiment_id)
        if known.deleted_at is None:
            raise missing(
                f"No Experiment with id={experiment_id} exists in the "
                f"{LifecycleStage.DELETED!r} state."
            )
        for model in self.models.all():
            if model["experiment_id"] == known.experiment_id:
                self.models.erase(model["id"])
        for dataset in self.datasets.all():
            if known.experiment_id in dataset.experiments:
                self.remove_dataset_from_experiments(dataset.dataset_id, [known.experiment_id])
        self.traces.erase(known.experiment_id)
        self.book.erase_experiment(known.experiment_id)
