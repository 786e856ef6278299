# mypy: disable-error-code="no-untyped-call,misc"
# pyright: reportIncompatibleMethodOverride=false
# (MLflow's base class is not annotated, and types may be missing where mlflow is not installed)
"""The tracking store that MLflow finds behind ``ops-registry://``.

It is made of mixins that build on each other: experiments, runs, their search, logged models, traces, evaluation datasets, erasing.
What it does not have raises MLflow's own "not implemented" error (`unsupported`), so a client or MLflow's pages can say so.
"""

from __future__ import annotations

import os
from typing import Any

from mlflow.store.tracking.abstract_store import AbstractStore
from mlflow.utils.uri import resolve_uri_if_local

from ops.registry.disk.layout import PathManager
from ops.registry.local.logged_models import FOLDER, LoggedModelBook
from ops.registry.mlflow.gc import Erasing
from ops.registry.mlflow.repeated_points import RepeatedPoints
from ops.registry.mlflow.run_repository import DEFAULT_ID, RunBook
from ops.registry.mlflow.unsupported import refuse_the_rest
from ops.registry.mlflow.uris import parse_address
from ops.registry.traces import book as traces
from ops.registry.traces import datasets
from ops.registry.traces.book import TraceBook
from ops.registry.traces.datasets import DatasetBook

__all__ = ["OpsTrackingStore"]

#: Where `mlflow server` names to its workers the store that they serve; its module of names needs Flask.
# Environment _MLFLOW_SERVER_FILE_STORE: set by `mlflow server`: the runs of the store belong to
# its clients.
_SERVER_HAS = "_MLFLOW_SERVER_FILE_STORE"


@refuse_the_rest
class OpsTrackingStore(Erasing, AbstractStore):
    """Experiments, runs and logged models in the folder of an ``ops-registry://`` address, *store_uri*.

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
        self.repeated: RepeatedPoints = RepeatedPoints(self.book.points)
        self.models: LoggedModelBook = LoggedModelBook(root / FOLDER, address.durability)
        self.traces: TraceBook = TraceBook(root / traces.FOLDER, address.durability)
        self.datasets: DatasetBook = DatasetBook(root / datasets.FOLDER, address.durability)
