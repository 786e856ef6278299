# mypy: disable-error-code="no-untyped-call,misc"
# pyright: reportIncompatibleMethodOverride=false
# (MLflow's base class is not annotated, and types may be missing where mlflow is not installed)
"""The tracking store that MLflow finds behind ``ops-registry://``.

It is made of rooms that build on each other: experiments, runs, their search, logged models, erasing.
What it does not have raises MLflow's own "not implemented" error, so a client or MLflow's pages can say so.
"""

from __future__ import annotations

import os
from typing import Any

from mlflow.store.tracking.abstract_store import AbstractStore
from mlflow.utils.uri import resolve_uri_if_local

from ops.registry.disk.layout import PathManager
from ops.registry.mlflow.addresses import parse_address
from ops.registry.mlflow.erasing import Erasing
from ops.registry.mlflow.failures import unsupported
from ops.registry.mlflow.loggedmodels import LoggedModelBook
from ops.registry.mlflow.runbook import DEFAULT_ID, RunBook

__all__ = ["OpsTrackingStore"]

#: Where `mlflow server` tells its workers which store they serve; its module of names needs Flask.
_SERVER_HAS = "_MLFLOW_SERVER_FILE_STORE"


class OpsTrackingStore(Erasing, AbstractStore):
    """Experiments, runs and logged models in the folder of an ``ops-registry://`` address.

    *artifact_uri* is where new experiments keep artifacts; without it they stay in the store.
    """

    DEFAULT_EXPERIMENT_ID = DEFAULT_ID

    def __init__(self, store_uri: str, artifact_uri: str | None = None, **_: Any) -> None:
        AbstractStore.__init__(self)
        address = parse_address(store_uri)
        root = PathManager(address.root).experiment_tracking
        # In a server the runs belong to its clients, whose lives this process cannot see.
        owned = _SERVER_HAS not in os.environ
        where = resolve_uri_if_local(artifact_uri) if artifact_uri else None
        self.book: RunBook = RunBook(root, address.durability, owned=owned, artifact_root=where)
        self.models: LoggedModelBook = LoggedModelBook(root / "logged_models", address.durability)

    def link_traces_to_run(self, trace_ids: list[str], run_id: str) -> None:
        """Raise MLflow's error: there are no traces here."""
        del trace_ids, run_id
        raise unsupported("traces")


def _refuse(what: str, name: str) -> Any:
    def refused(self: Any, *args: Any, **kwargs: Any) -> Any:  # noqa: ARG001 - it refuses whatever comes
        raise unsupported(what)

    refused.__name__ = name
    refused.__doc__ = f"Raise MLflow's error: there are no {what} here."
    return refused


#: What MLflow's base class answers with a bare NotImplementedError, which its server cannot report.
UNSUPPORTED: dict[str, tuple[str, ...]] = {
    "traces": (
        "start_trace",
        "delete_traces",
        "get_trace_info",
        "get_trace",
        "batch_get_traces",
        "batch_get_trace_infos",
        "get_online_trace_details",
        "search_traces",
        "find_completed_sessions",
        "query_trace_metrics",
        "set_trace_tag",
        "delete_trace_tag",
        "log_spans",
        "unlink_traces_from_run",
        "link_prompts_to_trace",
        "calculate_trace_filter_correlation",
    ),
    "assessments": (
        "get_assessment",
        "create_assessment",
        "update_assessment",
        "delete_assessment",
    ),
    "scorers": (
        "register_scorer",
        "list_scorers",
        "get_scorer",
        "list_scorer_versions",
        "delete_scorer",
        "upsert_online_scoring_config",
        "get_online_scoring_configs",
        "get_active_online_scorers",
    ),
    "evaluation datasets": (
        "create_dataset",
        "get_dataset",
        "delete_dataset",
        "search_datasets",
        "upsert_dataset_records",
        "delete_dataset_records",
        "set_dataset_tags",
        "delete_dataset_tag",
        "get_dataset_experiment_ids",
        "add_dataset_to_experiments",
        "remove_dataset_from_experiments",
    ),
}
for _what, _names in UNSUPPORTED.items():
    for _name in _names:
        setattr(OpsTrackingStore, _name, _refuse(_what, _name))
