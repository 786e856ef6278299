# mypy: disable-error-code="no-untyped-call"
# (MLflow's validators and search utilities are not annotated)
"""What MLflow asks a tracking store about experiments."""

from __future__ import annotations

from time import time_ns
from typing import TYPE_CHECKING, Any

from mlflow.entities import LifecycleStage, ViewType
from mlflow.exceptions import MlflowException
from mlflow.store.entities.paged_list import PagedList
from mlflow.store.tracking import SEARCH_MAX_RESULTS_DEFAULT, SEARCH_MAX_RESULTS_THRESHOLD
from mlflow.utils.search_utils import SearchUtils
from mlflow.utils.uri import resolve_uri_if_local
from mlflow.utils.validation import (
    _validate_experiment_artifact_location_length,
    _validate_experiment_id,
    _validate_experiment_name,
    _validate_experiment_tag,
)

from ops.registry.errors import AlreadyExistsError, ExperimentNotFoundError, InvalidValueError
from ops.registry.mlflow.bounded_search import ExperimentSearch
from ops.registry.mlflow.entities import to_experiment
from ops.registry.mlflow.errors import exists, invalid, missing
from ops.registry.mlflow.run_repository import DEFAULT_ID

if TYPE_CHECKING:
    from mlflow.entities import Experiment, ExperimentTag

    from ops.registry import records
    from ops.registry.mlflow.run_repository import RunBook

__all__ = ["ExperimentCalls", "check_max_results", "start_of"]


class ExperimentCalls:
    """Creates, finds, changes and deletes experiments."""

    book: RunBook

    def create_experiment(
        self,
        name: str,
        artifact_location: str | None = None,
        tags: list[ExperimentTag] | None = None,
    ) -> str:
        """Create an experiment and return its id."""
        _validate_experiment_name(name)
        if artifact_location:
            artifact_location = str(resolve_uri_if_local(artifact_location))
            _validate_experiment_artifact_location_length(artifact_location)
        for tag in tags or []:
            _validate_experiment_tag(tag.key, tag.value)
        given = {tag.key: str(tag.value) for tag in tags or []}
        try:
            made = self.book.create_experiment(name, given, artifact_location or None)
        except AlreadyExistsError as error:
            raise self._taken(name) from error
        except InvalidValueError as error:
            raise invalid(str(error)) from error
        return made.experiment_id

    def get_experiment(self, experiment_id: str | None) -> Experiment:
        """Return one by its id."""
        return to_experiment(self._experiment(experiment_id), self.book.artifacts)

    def get_experiment_by_name(self, experiment_name: str) -> Experiment | None:
        """Return one by its name, deleted or not; None when there is none."""
        for known in self.book.experiments():
            if known.name == experiment_name:
                return to_experiment(known, self.book.artifacts)
        return None

    def search_experiments(
        self,
        view_type: int = ViewType.ACTIVE_ONLY,
        max_results: int = SEARCH_MAX_RESULTS_DEFAULT,
        filter_string: str | None = None,
        order_by: list[str] | None = None,
        page_token: str | None = None,
    ) -> PagedList[Experiment]:
        """Return the experiments that MLflow's filter finds, newest first unless ordered."""
        check_max_results(max_results)
        stages = LifecycleStage.view_type_to_stages(view_type)
        found = [to_experiment(known, self.book.artifacts) for known in self.book.experiments()]
        found = [one for one in found if one.lifecycle_stage in stages]
        found = ExperimentSearch.filter(found, filter_string)
        order = order_by or ["creation_time DESC", "experiment_id ASC"]
        found = ExperimentSearch.sort(found, order)
        start_of(page_token)
        return PagedList(*SearchUtils.paginate(found, page_token, max_results))

    def rename_experiment(self, experiment_id: str, new_name: str) -> None:
        """Give an experiment a name that is free."""
        _validate_experiment_name(new_name)
        known = self._experiment(experiment_id)
        if known.deleted_at is not None:
            raise MlflowException("Cannot rename a non-active experiment.", error_code=4)
        try:
            self.book.change_experiment(known.experiment_id, name=new_name)
        except AlreadyExistsError as error:
            raise self._taken(new_name) from error
        except InvalidValueError as error:
            raise invalid(str(error)) from error

    def delete_experiment(self, experiment_id: str) -> None:
        """Delete an experiment, and with it its runs; `restore_experiment` takes it back."""
        known = self._experiment(experiment_id)
        if known.deleted_at is not None:
            raise missing(f"No Experiment with id={experiment_id} exists")
        self.book.change_experiment(known.experiment_id, deleted=time_ns())

    def restore_experiment(self, experiment_id: str) -> None:
        """Take back that an experiment was deleted."""
        known = self._experiment(experiment_id)
        if known.deleted_at is None:
            raise missing(f"No deleted Experiment with id={experiment_id} exists")
        self.book.change_experiment(known.experiment_id, deleted=None)

    def set_experiment_tag(self, experiment_id: str, tag: ExperimentTag) -> None:
        """Set one tag."""
        _validate_experiment_tag(tag.key, tag.value)
        known = self._active(experiment_id)
        self.book.change_experiment(known.experiment_id, tags={tag.key: str(tag.value)})

    def delete_experiment_tag(self, experiment_id: str, key: str) -> None:
        """Remove one tag."""
        known = self._active(experiment_id)
        if key not in known.tags:
            raise missing(f"No tag with name: {key} in experiment with id {experiment_id}")
        self.book.change_experiment(known.experiment_id, tags={key: None})

    def _experiment(self, experiment_id: Any) -> records.Experiment:
        requested = DEFAULT_ID if experiment_id is None else str(experiment_id)
        _validate_experiment_id(requested)
        try:
            return self.book.experiment(requested)
        except ExperimentNotFoundError as error:
            raise missing(f"No Experiment with id={requested} exists") from error

    def _active(self, experiment_id: Any) -> records.Experiment:
        known = self._experiment(experiment_id)
        if known.deleted_at is not None:
            raise invalid(
                f"The experiment {known.experiment_id} must be in the 'active' state. "
                "Current state is deleted."
            )
        return known

    def _taken(self, name: str) -> MlflowException:
        known = self.get_experiment_by_name(name)
        if known is not None and known.lifecycle_stage == LifecycleStage.DELETED:
            return exists(
                f"Experiment {name!r} already exists in deleted state. You can restore the "
                "experiment, or choose another name."
            )
        return exists(f"Experiment(name={name}) already exists.")


def check_max_results(max_results: Any, *, optional: bool = False) -> None:
    """Refuse a size of page that MLflow does not allow."""
    if max_results is None and optional:
        return
    if not isinstance(max_results, int) or max_results < 1:
        raise invalid(
            f"Invalid value {max_results} for parameter 'max_results' supplied. "
            "It must be a positive integer"
        )
    if max_results > SEARCH_MAX_RESULTS_THRESHOLD:
        raise invalid(
            f"Invalid value {max_results} for parameter 'max_results' supplied. "
            f"It must be at most {SEARCH_MAX_RESULTS_THRESHOLD}"
        )


def start_of(page_token: str | None) -> int:
    """Return the offset that a token of a page stands for, or refuse one that no answer of ours had."""
    try:
        start = SearchUtils.parse_start_offset_from_page_token(page_token)
    except (AttributeError, TypeError, ValueError) as error:
        raise invalid(f"Invalid page token: {page_token!r:.120}") from error
    if not isinstance(start, int) or start < 0:
        raise invalid(f"Invalid page token: {page_token!r:.120}")
    return start
