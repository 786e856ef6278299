# mypy: disable-error-code="no-untyped-call,misc"
# pyright: reportIncompatibleMethodOverride=false
# (MLflow's validators and base class are not annotated)
"""The model registry store that MLflow finds behind ``ops-registry://``."""

from __future__ import annotations

import urllib.parse
from typing import TYPE_CHECKING, Any

from mlflow.entities.model_registry.model_version_stages import (
    ALL_STAGES,
    DEFAULT_STAGES_FOR_GET_LATEST_VERSIONS,
    get_canonical_stage,
)
from mlflow.exceptions import MlflowException
from mlflow.prompt.registry_utils import (
    add_prompt_filter_string,
    handle_resource_already_exist_error,
    has_prompt_tag,
)
from mlflow.store.artifact.utils.models import _parse_model_uri
from mlflow.store.entities.paged_list import PagedList
from mlflow.store.model_registry import (
    SEARCH_MODEL_VERSION_MAX_RESULTS_DEFAULT,
    SEARCH_MODEL_VERSION_MAX_RESULTS_THRESHOLD,
    SEARCH_REGISTERED_MODEL_MAX_RESULTS_DEFAULT,
    SEARCH_REGISTERED_MODEL_MAX_RESULTS_THRESHOLD,
)
from mlflow.store.model_registry.abstract_store import AbstractStore
from mlflow.utils.search_utils import SearchUtils
from mlflow.utils.validation import (
    _validate_model_alias_name,
    _validate_model_alias_name_reserved,
    _validate_model_name,
    _validate_model_renaming,
    _validate_model_version,
    _validate_model_version_tag,
    _validate_registered_model_tag,
    _validate_tag_name,
)

from ops.registry.disk.layout import PathManager
from ops.registry.disk.store_addresses import kept
from ops.registry.errors import (
    AlreadyExistsError,
    InvalidValueError,
    ModelNotFoundError,
    ModelVersionNotFoundError,
)
from ops.registry.mlflow.bounded_search import ModelSearch, ModelVersionSearch
from ops.registry.mlflow.errors import exists, invalid, missing
from ops.registry.mlflow.experiment_calls import start_of
from ops.registry.mlflow.model_entities import location_of, model_tags, to_model, to_version
from ops.registry.mlflow.model_repository import ModelBook
from ops.registry.mlflow.unsupported import refuse_the_rest
from ops.registry.mlflow.uris import parse_address
from ops.registry.records import ModelStage

if TYPE_CHECKING:
    import pathlib

    from mlflow.entities.model_registry import (
        ModelVersion,
        ModelVersionTag,
        RegisteredModel,
        RegisteredModelTag,
    )
    from mlflow.entities.webhook import Webhook, WebhookEvent

    from ops.registry import records
    from ops.registry.models.state import Model

__all__ = ["OpsModelStore"]

_NS_PER_MS = 1_000_000


@refuse_the_rest
class OpsModelStore(AbstractStore):
    """Registered models and their versions in the folder of an ``ops-registry://`` address.

    *store_uri* is that address, *tracking_uri* what MLflow passes beside it.
    """

    def __init__(self, store_uri: str, tracking_uri: str | None = None, **_: Any) -> None:
        super().__init__(store_uri, tracking_uri)
        address = parse_address(store_uri)
        root = PathManager(address.root).model_registry
        self.book: ModelBook = ModelBook(root, durability=address.durability)

    # Registered models

    def create_registered_model(
        self,
        name: str,
        tags: list[RegisteredModelTag] | None = None,
        description: str | None = None,
        deployment_job_id: str | None = None,  # noqa: ARG002 - MLflow's signature; Databricks only
    ) -> RegisteredModel:
        """Create a model, which has no versions yet."""
        _validate_model_name(name)
        for tag in tags or []:
            _validate_registered_model_tag(tag.key, tag.value)
        try:
            texts = {str(tag.key): str(tag.value) for tag in tags or []}
            return self._shown(self.book.create_model(name, description or "", texts))
        except AlreadyExistsError as error:
            known = model_tags(self.book.model(name))
            handle_resource_already_exist_error(name, has_prompt_tag(known), has_prompt_tag(tags))
            raise exists(f"Registered Model (name={name}) already exists.") from error

    def get_registered_model(self, name: str) -> RegisteredModel:
        """Return a model by its name."""
        return self._shown(self._model(name))

    def update_registered_model(
        self,
        name: str,
        description: str | None,
        deployment_job_id: str | None = None,  # noqa: ARG002 - MLflow's signature; Databricks only
    ) -> RegisteredModel:
        """Replace the description of a model."""
        self._model(name)
        return self._shown(self.book.describe_model(name, description=description or ""))

    def rename_registered_model(self, name: str, new_name: str) -> RegisteredModel:
        """Give a model a name that is free."""
        _validate_model_renaming(new_name)
        self._model(name)
        try:
            return self._shown(self.book.rename_model(name, new_name))
        except AlreadyExistsError as error:
            raise exists(f"Registered Model (name={new_name}) already exists.") from error

    def delete_registered_model(self, name: str) -> None:
        """Delete a model with all versions; their numbers are not given again."""
        self._model(name)
        self.book.drop_model(name)

    def search_registered_models(
        self,
        filter_string: str | None = None,
        max_results: int = SEARCH_REGISTERED_MODEL_MAX_RESULTS_DEFAULT,
        order_by: list[str] | None = None,
        page_token: str | None = None,
    ) -> PagedList[RegisteredModel]:
        """Return the models that MLflow's filter finds."""
        _check_page(max_results, SEARCH_REGISTERED_MODEL_MAX_RESULTS_THRESHOLD)
        requested = add_prompt_filter_string(filter_string, is_prompt=False)
        order = _model_order(order_by)
        found = [self._shown(model) for model in self.book.models()]
        found = ModelSearch.sort(ModelSearch.filter(found, requested), order)
        start_of(page_token)
        return PagedList(*ModelSearch.paginate(found, page_token, max_results))

    def get_latest_versions(self, name: str, stages: list[str] | None = None) -> list[ModelVersion]:
        """Return the newest version in each stage, or in those of *stages*."""
        wanted = {get_canonical_stage(stage) for stage in stages or ALL_STAGES}
        newest = {v.stage: v for v in self.book.versions_of(self._model(name))}
        model = self._model(name)
        return [to_version(model, v) for v in newest.values() if str(v.stage) in wanted]

    def set_registered_model_tag(self, name: str, tag: RegisteredModelTag) -> None:
        """Set one tag of a model."""
        _validate_registered_model_tag(tag.key, tag.value)
        self._model(name)
        self.book.describe_model(name, tags={tag.key: str(tag.value)})

    def delete_registered_model_tag(self, name: str, key: str) -> None:
        """Remove one tag of a model, if it is there."""
        _validate_tag_name(key)
        if key in self._model(name).tags:
            self.book.describe_model(name, tags={key: None})

    # Versions

    def create_model_version(
        self,
        name: str,
        source: str,
        run_id: str | None = None,
        tags: list[ModelVersionTag] | None = None,
        run_link: str | None = None,
        description: str | None = None,
        local_model_path: str | None = None,  # noqa: ARG002 - MLflow's signature; Databricks only
        model_id: str | None = None,
        number: int | None = None,
        copied: pathlib.Path | None = None,
    ) -> ModelVersion:
        """Add a version whose files are at *source* and stay there; with *number* a copy of one.

        *copied* is a file or folder that the registry takes in, in place of what is at *source*.
        """
        self._model(name)
        for tag in tags or []:
            _validate_model_version_tag(tag.key, tag.value)
        location = source
        if copied is None:
            location, run_id = self._resolved(source, run_id, model_id)
        source = kept(self.book.root.parent, source)
        recorded = {"source": source, "run_link": run_link, "model_id": model_id}
        metadata: dict[str, Any] = {
            "artifact_type": "mlflow",
            "framework": "mlflow",
            "description": description or "",
            "hyperparameters": {},
            "metrics": {},
            "tags": {tag.key: str(tag.value) for tag in tags or []},
            "dependencies": [],
            "signature": None,
            "experiment_run_id": run_id,
            "flavor_metadata": {"mlflow": recorded},
        }
        if copied is None:
            made = self.book.register_elsewhere(name, location, metadata, number)
        else:
            made = self.book.register_copy(name, copied, metadata, number or 1)
        return self.get_model_version(name, made)

    def get_model_version(self, name: str, version: Any) -> ModelVersion:
        """Return a version by its number."""
        known = self._version(name, version)
        return to_version(self._model(name), known)

    def update_model_version(
        self, name: str, version: Any, description: str | None = None
    ) -> ModelVersion:
        """Replace the description of a version."""
        known = self._version(name, version)
        self.book.annotate(name, known.version, description or "")
        return self.get_model_version(name, version)

    def transition_model_version_stage(
        self,
        name: str,
        version: Any,
        stage: str,
        archive_existing_versions: bool,  # noqa: FBT001 - MLflow's signature
    ) -> ModelVersion:
        """Move a version to a stage; the hooks of promotions run, and may refuse it."""
        wanted = get_canonical_stage(stage)
        if archive_existing_versions and wanted not in DEFAULT_STAGES_FOR_GET_LATEST_VERSIONS:
            raise invalid(
                f"Model version transition cannot archive existing model versions because "
                f"'{stage}' is not an Active stage. Valid stages are "
                f"{', '.join(DEFAULT_STAGES_FOR_GET_LATEST_VERSIONS)}"
            )
        known = self._version(name, version)
        self.book.promote_model(
            name,
            known.version,
            ModelStage(wanted),
            archive_existing=bool(archive_existing_versions),
        )
        return self.get_model_version(name, version)

    def delete_model_version(self, name: str, version: Any) -> None:
        """Delete a version; what MLflow registered keeps its files."""
        self.book.delete_model_version(name, self._version(name, version).version)

    def get_model_version_download_uri(self, name: str, version: Any) -> str:
        """Return where the files of a version are."""
        return location_of(self._version(name, version))

    def search_model_versions(
        self,
        filter_string: str | None = None,
        max_results: int = SEARCH_MODEL_VERSION_MAX_RESULTS_DEFAULT,
        order_by: list[str] | None = None,
        page_token: str | None = None,
    ) -> PagedList[ModelVersion]:
        """Return the versions that MLflow's filter finds, those changed last first unless ordered."""
        _check_page(max_results, SEARCH_MODEL_VERSION_MAX_RESULTS_THRESHOLD)
        requested = add_prompt_filter_string(filter_string, is_prompt=False)
        found = [
            to_version(model, version)
            for model in self.book.models()
            for version in self.book.versions_of(model)
        ]
        order = order_by or ["last_updated_timestamp DESC", "name ASC", "version_number DESC"]
        found = ModelVersionSearch.sort(ModelVersionSearch.filter(found, requested), order)
        start_of(page_token)
        return PagedList(*ModelVersionSearch.paginate(found, page_token, max_results))

    def set_model_version_tag(self, name: str, version: Any, tag: ModelVersionTag) -> None:
        """Set one tag of a version."""
        _validate_model_version_tag(tag.key, tag.value)
        known = self._version(name, version)
        self.book.set_tag(name, known.version, tag.key, tag.value)

    def delete_model_version_tag(self, name: str, version: Any, key: str) -> None:
        """Remove one tag of a version, if it is there."""
        _validate_tag_name(key)
        known = self._version(name, version)
        if key in known.metadata.tags:
            self.book.untag(name, known.version, key)

    # Aliases

    def set_registered_model_alias(self, name: str, alias: str, version: Any) -> None:
        """Let an alias point to a version."""
        _validate_model_name(name)
        _validate_model_alias_name(alias)
        _validate_model_alias_name_reserved(alias)
        number = self._version(name, version).version
        try:
            self.book.set_alias(name, alias, number)
        except InvalidValueError as error:  # MLflow's check lets a line end through
            raise invalid(str(error)) from error

    def delete_registered_model_alias(self, name: str, alias: str) -> None:
        """Remove an alias, if it is there."""
        _validate_model_alias_name(alias)
        if alias in self._model(name).aliases:
            self.book.delete_alias(name, alias)

    def get_model_version_by_alias(self, name: str, alias: str) -> ModelVersion:
        """Return the version that an alias points to."""
        _validate_model_alias_name(alias)
        model = self._model(name)
        if alias not in model.aliases:
            raise invalid(f"Registered model alias {alias} not found.")
        return self.get_model_version(name, model.aliases[alias])

    def list_webhooks_by_event(
        self,
        event: WebhookEvent,
        max_results: int | None = None,
        page_token: str | None = None,
    ) -> PagedList[Webhook]:
        """Return nothing: there are no webhooks here, and MLflow's server asks at every change."""
        del event, max_results, page_token
        return PagedList([], None)

    def _model(self, name: str) -> Model:
        _validate_model_name(name)
        try:
            return self.book.model(name)
        except ModelNotFoundError as error:
            raise missing(f"Registered Model with name={name} not found") from error

    def _version(self, name: str, version: Any) -> records.ModelVersion:
        _validate_model_name(name)
        _validate_model_version(version)
        try:
            return self.book.get_model_version(name, int(version))
        except (ModelNotFoundError, ModelVersionNotFoundError) as error:
            raise missing(f"Model Version (name={name}, version={version}) not found") from error

    def _shown(self, model: Model) -> RegisteredModel:
        return to_model(model, self.book.versions_of(model))

    def _resolved(
        self, source: str, run_id: str | None, model_id: str | None
    ) -> tuple[str, str | None]:
        """Return where the files behind *source* are, and the run they come from if that is known."""
        from mlflow.tracking.client import MlflowClient

        location = source
        if urllib.parse.urlparse(source).scheme == "models":
            try:
                requested = _parse_model_uri(source)
                if requested.model_id is not None:
                    logged = MlflowClient().get_logged_model(requested.model_id)
                    location, run_id = logged.artifact_location, run_id or logged.source_run_id
                else:
                    location = self.get_model_version_download_uri(
                        str(requested.name), requested.version
                    )
            except Exception as error:
                raise MlflowException(
                    f"Unable to fetch model from model URI source artifact location '{source}'. "
                    f"Error: {error}"
                ) from error
        if not run_id and model_id:
            run_id = MlflowClient().get_logged_model(model_id).source_run_id
        return location, run_id


def _model_order(order_by: list[str] | None) -> list[str]:
    """Return the clauses of an order, which may name name and time, each once."""
    fields = {}
    for clause in order_by or []:
        field, ascending = SearchUtils.parse_order_by_for_search_registered_models(clause)
        field = "last_updated_timestamp" if field == "timestamp" else field
        if field in fields:
            raise invalid(f"`order_by` contains duplicate fields: {order_by}")
        fields[field] = "ASC" if ascending else "DESC"
    return [f"{field} {direction}" for field, direction in fields.items()]


def _check_page(max_results: Any, most: int) -> None:
    if not isinstance(max_results, int) or max_results < 1:
        raise invalid(
            f"Invalid value for max_results. It must be a positive integer, but got {max_results}"
        )
    if max_results > most:
        raise invalid(
            "Invalid value for request parameter max_results. "
            f"It must be at most {most}, but got value {max_results}"
        )
