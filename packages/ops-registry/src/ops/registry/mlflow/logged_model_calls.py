# mypy: disable-error-code="no-untyped-call"
# (MLflow's validators and search utilities are not annotated)
"""What MLflow 3 asks a tracking store about logged models."""

from __future__ import annotations

import uuid
from itertools import starmap
from typing import TYPE_CHECKING, Any

from mlflow.entities import LoggedModelStatus
from mlflow.store.entities.paged_list import PagedList
from mlflow.store.tracking import SEARCH_LOGGED_MODEL_MAX_RESULTS_DEFAULT
from mlflow.utils.name_utils import _generate_random_name
from mlflow.utils.search_utils import SearchLoggedModelsPaginationToken
from mlflow.utils.uri import append_to_uri_path
from mlflow.utils.validation import (
    _validate_logged_model_name,
    _validate_param,
    _validate_tag,
    _validate_tag_name,
)

from ops.registry.mlflow.bounded_search import LoggedModelSearch
from ops.registry.mlflow.errors import invalid, missing
from ops.registry.mlflow.logged_models import to_logged_model
from ops.registry.mlflow.run_search import RunSearching

if TYPE_CHECKING:
    from mlflow.entities import LoggedModel, LoggedModelParameter, LoggedModelTag

__all__ = ["LoggedModelCalls"]


class LoggedModelCalls(RunSearching):
    """Creates, finds, changes and deletes logged models."""

    def create_logged_model(
        self,
        experiment_id: str,
        name: str | None = None,
        source_run_id: str | None = None,
        tags: list[LoggedModelTag] | None = None,
        params: list[LoggedModelParameter] | None = None,
        model_type: str | None = None,
        model_id: str | None = None,
    ) -> LoggedModel:
        """Create a model, PENDING until it is finalized; with *model_id* a copy of one."""
        _validate_logged_model_name(name)
        experiment = self._active(experiment_id)
        self.book.materialize(experiment.experiment_id)
        model_id = model_id or f"m-{uuid.uuid4().hex}"
        fields = {
            "experiment_id": experiment.experiment_id,
            "name": name or _generate_random_name(),
            "source_run_id": source_run_id,
            "tags": _tags(tags),
            "params": _params(params),
            "model_type": model_type,
            "status": int(LoggedModelStatus.PENDING.to_int()),
        }
        if experiment.artifact_uri is not None:
            address = append_to_uri_path(experiment.artifact_uri, "models", model_id, "artifacts")
            fields["artifact_location"] = str(address)
        return self.get_logged_model(self.models.create(fields, model_id))

    def log_logged_model_params(self, model_id: str, params: list[LoggedModelParameter]) -> None:
        """Add parameters to a model."""
        recorded = _params(params)
        self._model(model_id)
        self.models.change(model_id, more_params=recorded)

    def finalize_logged_model(self, model_id: str, status: LoggedModelStatus) -> LoggedModel:
        """Give a model its final status."""
        self._model(model_id)
        self.models.change(model_id, status=int(status.to_int()))
        return self.get_logged_model(model_id)

    def set_logged_model_tags(self, model_id: str, tags: list[LoggedModelTag]) -> None:
        """Set tags."""
        self._model(model_id)
        self.models.change(model_id, tags=_tags(tags))

    def delete_logged_model_tag(self, model_id: str, key: str) -> None:
        """Remove one tag."""
        _validate_tag_name(key)
        if key not in self._model(model_id)["tags"]:
            raise missing(f"No tag with key {key!r} found for model with ID {model_id!r}.")
        self.models.change(model_id, tags={key: None})

    def get_logged_model(self, model_id: str, allow_deleted: bool = False) -> LoggedModel:  # noqa: FBT001, FBT002 - MLflow's signature
        """Return one by its id."""
        return to_logged_model(self._model(model_id, allow_deleted=allow_deleted))

    def delete_logged_model(self, model_id: str) -> None:
        """Delete a model; its files stay."""
        self._model(model_id)
        self.models.change(model_id, deleted=True)

    def search_logged_models(
        self,
        experiment_ids: list[str],
        filter_string: str | None = None,
        datasets: list[dict[str, Any]] | None = None,
        max_results: int | None = None,
        order_by: list[dict[str, Any]] | None = None,
        page_token: str | None = None,
    ) -> PagedList[LoggedModel]:
        """Return the models that MLflow's filter finds."""
        if datasets and not all(one.get("dataset_name") for one in datasets):
            raise invalid("`dataset_name` in the `datasets` clause must be specified.")
        start = 0
        if page_token:
            token = SearchLoggedModelsPaginationToken.decode(page_token)
            token.validate(experiment_ids, filter_string, order_by)
            start = token.offset
        alive = {e.experiment_id for e in self.book.known(experiment_ids) if not e.deleted_at}
        found = [
            to_logged_model(model, [])
            for model in self.models.all()
            if model["experiment_id"] in alive and not model["deleted"]
        ]
        found = LoggedModelSearch.filter_logged_models(found, filter_string, datasets)
        found = LoggedModelSearch.sort(found, order_by)
        end = start + (max_results or SEARCH_LOGGED_MODEL_MAX_RESULTS_DEFAULT)
        page = [self.get_logged_model(one.model_id) for one in found[start:end]]
        if len(found) <= end:
            return PagedList(page, None)
        more = SearchLoggedModelsPaginationToken(experiment_ids, filter_string, order_by, end)
        return PagedList(page, more.encode())

    def _model(self, model_id: str, *, allow_deleted: bool = False) -> dict[str, Any]:
        found = self.models.get(model_id)
        if found is None or (found["deleted"] and not allow_deleted):
            raise missing(f"Logged model with ID '{model_id}' not found.")
        return found


def _tags(tags: list[Any] | None) -> dict[str, str]:
    texts = {tag.key: "" if tag.value is None else str(tag.value) for tag in tags or []}
    return {
        str(checked.key): str(checked.value) for checked in starmap(_validate_tag, texts.items())
    }


def _params(params: list[LoggedModelParameter] | None) -> dict[str, str]:
    texts = {param.key: str(param.value) for param in params or []}
    return {str(one.key): str(one.value) for one in starmap(_validate_param, texts.items())}
