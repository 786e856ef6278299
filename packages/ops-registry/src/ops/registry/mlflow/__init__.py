"""MLflow on the stores of ops-registry, helpers for any MLflow server, and copies between the two.

Needs the extra: ``pip install 'ops-registry[mlflow]'``. Nothing else in `ops.registry` imports mlflow.
"""

import importlib.util
from typing import TYPE_CHECKING

from ops.foundation.errors import MissingExtraError

if importlib.util.find_spec("mlflow") is None:
    raise MissingExtraError("mlflow", "ops-registry[mlflow]")

if TYPE_CHECKING:
    from ops.registry.mlflow.copy_endpoint import MLflowCopy as MLflowCopy
    from ops.registry.mlflow.decorator import mlflow_track as mlflow_track
    from ops.registry.mlflow.helper import MLflowHelper as MLflowHelper
    from ops.registry.mlflow.modelstore import OpsModelStore as OpsModelStore
    from ops.registry.mlflow.pipelines import MLflowPipelineTracker as MLflowPipelineTracker
    from ops.registry.mlflow.pipelines import TrackedRun as TrackedRun
    from ops.registry.mlflow.store_copies import export_mlflow as export_mlflow
    from ops.registry.mlflow.store_copies import import_mlflow as import_mlflow
    from ops.registry.mlflow.trackingstore import OpsTrackingStore as OpsTrackingStore
else:  # Written by `nox -s lint -- --fix` from the imports above.
    from ops.foundation.lazy import lazy_exports

    __all__, __getattr__, __dir__ = lazy_exports(
        __name__,
        {
            ".copy_endpoint": "MLflowCopy",
            ".decorator": "mlflow_track",
            ".helper": "MLflowHelper",
            ".modelstore": "OpsModelStore",
            ".pipelines": "MLflowPipelineTracker TrackedRun",
            ".store_copies": "export_mlflow import_mlflow",
            ".trackingstore": "OpsTrackingStore",
        },
    )
