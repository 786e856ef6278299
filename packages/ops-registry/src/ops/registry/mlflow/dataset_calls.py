# mypy: disable-error-code="no-untyped-call,misc"
# (MLflow's entities and search utilities are not annotated throughout)
"""What MLflow asks a tracking store about evaluation datasets; what is kept of them is `ops.registry.traces.datasets`."""

from __future__ import annotations

import base64
import binascii
import hashlib
import json
import logging
import time
import uuid
from typing import TYPE_CHECKING, Any

from mlflow.entities import DatasetRecord, EvaluationDataset
from mlflow.entities.dataset_record_source import DatasetRecordSource
from mlflow.store.entities.paged_list import PagedList
from mlflow.utils.mlflow_tags import MLFLOW_USER
from mlflow.utils.search_utils import SearchEvaluationDatasetsUtils, SearchUtils

from ops.registry.mlflow.bounded_search import MOST_CHARACTERS
from ops.registry.mlflow.errors import invalid, missing
from ops.registry.mlflow.experiment_calls import check_max_results, start_of
from ops.registry.mlflow.trace_entities import as_texts
from ops.registry.mlflow.trace_filters import number_test, text_test
from ops.registry.mlflow.trace_metrics import TraceMetrics

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from ops.registry.traces.datasets import Dataset, DatasetBook

__all__ = ["DatasetCalls"]

logger: logging.Logger = logging.getLogger("ops.registry")

#: MLflow's names of attributes, and ours.
_ATTRIBUTES = {
    "name": "name",
    "created_time": "created",
    "last_update_time": "updated",
    "created_by": "created_by",
    "last_updated_by": "updated_by",
}
_TEXT_SIGNS = {"=", "!=", "LIKE", "ILIKE"}


class DatasetCalls(TraceMetrics):
    """Creates, finds, changes and deletes evaluation datasets and their records."""

    datasets: DatasetBook

    def create_dataset(
        self,
        name: str,
        tags: dict[str, str] | None = None,
        experiment_ids: list[str] | None = None,
    ) -> EvaluationDataset:
        """Create a dataset with no records; names need not be unique."""
        fields = {
            "name": name,
            "created": _now(),
            "created_by": (tags or {}).get(MLFLOW_USER),
            "tags": as_texts(tags or {}),
            "experiments": list(map(str, experiment_ids or [])),
        }
        made = to_dataset(self.datasets.create(f"d-{uuid.uuid4().hex}", fields))
        made.experiment_ids = fields["experiments"]
        return made

    def get_dataset(self, dataset_id: str) -> EvaluationDataset:
        """Return a dataset without its records."""
        return to_dataset(self._dataset(dataset_id))

    def delete_dataset(self, dataset_id: str) -> None:
        """Delete a dataset and its records, if it is there."""
        if self.datasets.get(dataset_id) is None:
            logger.warning("Evaluation dataset with id '%s' not found.", dataset_id)
        else:
            self.datasets.erase(dataset_id)

    def search_datasets(
        self,
        experiment_ids: list[str] | None = None,
        filter_string: str | None = None,
        max_results: int = 1000,
        order_by: list[str] | None = None,
        page_token: str | None = None,
    ) -> PagedList[EvaluationDataset]:
        """Return a page of the datasets that MLflow's filter finds, newest first unless ordered."""
        check_max_results(max_results)
        start = start_of(page_token)
        tests = _tests(filter_string)
        homes = set(map(str, experiment_ids or []))
        found = [
            one
            for one in self.datasets.all()
            if (not homes or homes.intersection(one.experiments)) and all(t(one) for t in tests)
        ]
        found.sort(key=lambda one: one.dataset_id, reverse=True)
        for clause in reversed(order_by or ["created_time DESC"]):
            parse = SearchEvaluationDatasetsUtils.parse_order_by_for_search_evaluation_datasets
            kind, key, ascending = parse(clause)
            if kind != "attribute":
                raise invalid(f"Invalid order_by entity: {kind}")
            found.sort(key=_attribute_of(key), reverse=not ascending)
        end = start + max_results
        token = SearchUtils.create_page_token(end).decode() if len(found) > end else None
        return PagedList(list(map(to_dataset, found[start:end])), token)

    def upsert_dataset_records(
        self, dataset_id: str, records: list[dict[str, Any]]
    ) -> dict[str, int]:
        """Add records; those with inputs that are there are merged into them."""
        self._dataset(dataset_id)
        user = None
        for one in records:
            user = (one.get("tags") or {}).get(MLFLOW_USER, user)
        fields = {"time": _now(), "by": user, "user_tag": MLFLOW_USER}
        frames = list(map(_record_frame, records))
        done = self.datasets.change(dataset_id, "records", records=frames, **fields)
        inserted, updated = (0, 0) if done is None else done.last
        return {"inserted": inserted, "updated": updated}

    def delete_dataset_records(self, dataset_id: str, dataset_record_ids: list[str]) -> int:
        """Delete records and return how many there were."""
        known = self._dataset(dataset_id)
        wanted = [one for one in dataset_record_ids if one in known.records]
        if not wanted:
            logger.warning("No records found to delete for dataset %s.", dataset_id)
            return 0
        done = self.datasets.change(dataset_id, "remove", records=wanted)
        return 0 if done is None else done.last[1]

    def set_dataset_tags(self, dataset_id: str, tags: dict[str, Any]) -> None:
        """Set tags; those without a value stay as they are."""
        if self.datasets.get(dataset_id) is None:
            raise missing(f"Could not find evaluation dataset with ID {dataset_id}")
        given = {key: str(value) for key, value in tags.items() if value is not None}
        self.datasets.change(dataset_id, "tags", tags=given)

    def delete_dataset_tag(self, dataset_id: str, key: str) -> None:
        """Remove a tag, if it is there."""
        known = self.datasets.get(dataset_id)
        if known is not None and key in known.tags:
            self.datasets.change(dataset_id, "tags", tags={key: None})

    def get_dataset_experiment_ids(self, dataset_id: str) -> list[str]:
        """Return the experiments that a dataset belongs to; none when it is not there."""
        known = self.datasets.get(dataset_id)
        return [] if known is None else list(known.experiments)

    def add_dataset_to_experiments(
        self, dataset_id: str, experiment_ids: list[str]
    ) -> EvaluationDataset:
        """Let a dataset belong to more experiments, which must be there."""
        self._belonging(dataset_id)
        homes = [self._experiment_or_missing(one) for one in map(str, experiment_ids)]
        done = self.datasets.change(dataset_id, "experiments", add=homes, drop=[], time=_now())
        return to_dataset(done or self._belonging(dataset_id))

    def remove_dataset_from_experiments(
        self, dataset_id: str, experiment_ids: list[str]
    ) -> EvaluationDataset:
        """Let a dataset belong to fewer experiments."""
        known = self._belonging(dataset_id)
        gone = [str(one) for one in experiment_ids if str(one) in known.experiments]
        for one in experiment_ids:
            if str(one) not in gone:
                logger.warning(
                    "Dataset '%s' was not associated with experiment '%s'", dataset_id, one
                )
        if not gone:
            return to_dataset(known)
        done = self.datasets.change(dataset_id, "experiments", add=[], drop=gone, time=_now())
        return to_dataset(done or known)

    def _load_dataset_records(
        self, dataset_id: str, max_results: int | None = None, page_token: str | None = None
    ) -> tuple[list[DatasetRecord], str | None]:
        """Return a page of records, oldest first, and the token of the next; all of them without *max_results*."""
        known = self.datasets.get(dataset_id)
        records = [] if known is None else list(known.records.values())
        records.sort(key=lambda one: (one["created"], one["id"]))
        records = _after(records, page_token)
        page = records if max_results is None else records[:max_results]
        token = None
        if len(page) < len(records):
            last = f"{page[-1]['created']}:{page[-1]['id']}"
            token = base64.b64encode(last.encode()).decode()
        return [_to_record(dataset_id, one) for one in page], token

    def _dataset(self, dataset_id: str) -> Dataset:
        found = self.datasets.get(dataset_id)
        if found is None:
            raise missing(f"Evaluation dataset with id '{dataset_id}' not found")
        return found

    def _belonging(self, dataset_id: str) -> Dataset:
        found = self.datasets.get(dataset_id)
        if found is None:
            raise missing(f"Dataset '{dataset_id}' not found")
        return found

    def _experiment_or_missing(self, experiment_id: str) -> str:
        if not self.book.known([experiment_id]):
            raise missing(f"No Experiment with id={experiment_id}")
        return experiment_id


def to_dataset(known: Dataset) -> EvaluationDataset:
    """Return a dataset as MLflow's entity, without its records."""
    count = len(known.records)
    return EvaluationDataset(
        dataset_id=known.dataset_id,
        name=known.name,
        digest=known.digest,
        created_time=known.created,
        last_update_time=known.updated,
        tags=dict(known.tags),
        schema=None if known.schema is None else json.dumps(known.schema),
        profile=json.dumps({"num_records": count}) if count else None,
        created_by=known.created_by,
        last_updated_by=known.updated_by,
    )


def _record_frame(given: Mapping[str, Any]) -> dict[str, Any]:
    """Return what a frame keeps of a record."""
    source = given.get("source")
    if source and isinstance(source, dict):
        source = DatasetRecordSource.from_dict(source)
    tags = given.get("tags")
    record = DatasetRecord(
        dataset_record_id=f"dr-{uuid.uuid4().hex}",
        dataset_id="",
        inputs=given.get("inputs", {}),
        outputs=given.get("outputs", {}),
        created_time=0,
        last_update_time=0,
        expectations=given.get("expectations"),
        tags=tags,
        source=source or None,
    )
    inputs = json.dumps(given.get("inputs", {}), sort_keys=True)
    return {
        "id": record.dataset_record_id,
        "hash": hashlib.sha256(inputs.encode()).hexdigest(),
        "inputs": record.inputs,
        "outputs": record.outputs,
        "has_outputs": "outputs" in given,
        "expectations": record.expectations,
        "tags": record.tags,
        "by": (tags or {}).get(MLFLOW_USER),
        "source": record.source.to_dict() if record.source else None,
        "source_id": record.source_id,
        "source_type": record.source_type,
    }


def _to_record(dataset_id: str, kept: Mapping[str, Any]) -> DatasetRecord:
    return DatasetRecord(
        dataset_record_id=kept["id"],
        dataset_id=dataset_id,
        inputs=kept["inputs"],
        outputs=kept["outputs"],
        expectations=kept["expectations"],
        tags=kept["tags"],
        source=DatasetRecordSource.from_dict(kept["source"]) if kept["source"] else None,
        source_id=kept["source_id"],
        source_type=kept["source_type"],
        created_time=kept["created"],
        last_update_time=kept["updated"],
        created_by=kept["created_by"],
        last_updated_by=kept["updated_by"],
    )


def _after(records: list[dict[str, Any]], page_token: str | None) -> list[dict[str, Any]]:
    """Return the records after the one that a token names."""
    if not page_token:
        return records
    try:
        created, _, record_id = base64.b64decode(page_token, validate=True).decode().partition(":")
        last = int(created), record_id
    except (ValueError, binascii.Error) as error:
        raise invalid(f"Invalid page token: {page_token!r:.120}") from error
    return [one for one in records if (one["created"], one["id"]) > last]


def _tests(filter_string: str | None) -> list[Callable[[Dataset], bool]]:
    """Return what the clauses of a filter ask of a dataset."""
    if not filter_string:
        return []
    if len(filter_string) > MOST_CHARACTERS:
        raise invalid(
            f"A filter has {MOST_CHARACTERS} characters at most, not {len(filter_string)}."
        )
    parsed = SearchEvaluationDatasetsUtils.parse_search_filter(filter_string)
    return [_test(one["type"], one["key"], one["comparator"], one["value"]) for one in parsed]


def _test(kind: str, key: str, sign: str, value: Any) -> Callable[[Dataset], bool]:
    if kind == "tag":
        if sign not in _TEXT_SIGNS:
            raise invalid(f"Invalid comparator for tag: {sign}")
        of_tag = text_test(sign, value)
        return lambda one: of_tag(one.tags.get(key))
    if kind != "attribute":
        raise invalid(f"Invalid token type: {kind}")
    attribute = _ATTRIBUTES[key]
    if key in SearchEvaluationDatasetsUtils.NUMERIC_ATTRIBUTES:
        if sign not in SearchEvaluationDatasetsUtils.VALID_NUMERIC_ATTRIBUTE_COMPARATORS:
            raise invalid(f"Invalid comparator for numeric attribute: {sign}")
        try:
            number = int(value)
        except (TypeError, ValueError) as error:
            raise _no_number(key, value) from error
        if isinstance(value, float):
            raise _no_number(key, str(value))
        holds = number_test(key, sign, number)
    else:
        if sign not in _TEXT_SIGNS and not (key == "name" and sign == "IN"):
            raise invalid(f"Invalid comparator for string attribute: {sign}")
        holds = text_test(sign, value)
    return lambda one: holds(getattr(one, attribute))


def _no_number(key: str, value: Any) -> Exception:
    return invalid(f"Invalid value for numeric attribute '{key}': {value!r}")


def _attribute_of(key: str) -> Callable[[Dataset], Any]:
    return lambda one: getattr(one, _ATTRIBUTES[key])


def _now() -> int:
    return int(time.time() * 1000)
