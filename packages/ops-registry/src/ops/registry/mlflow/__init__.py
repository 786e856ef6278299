"""MLflow on the stores of ops-registry, helpers for any MLflow server, and copies between the two.

Needs the extra: ``pip install 'ops-registry[mlflow]'``. Nothing else in `ops.registry` imports mlflow.
"""

import importlib.util
from typing import TYPE_CHECKING

from ops.foundation.errors import MissingExtraError
from ops.foundation.lazy import lazy_exports

if TYPE_CHECKING:
    from ops.registry.mlflow.copying import export_mlflow, import_mlflow
    from ops.registry.mlflow.decorator import mlflow_track
    from ops.registry.mlflow.ends import MLflowCopy
    from ops.registry.mlflow.helper import MLflowHelper
    from ops.registry.mlflow.modelstore import OpsModelStore
    from ops.registry.mlflow.pipelines import MLflowPipelineTracker, TrackedRun
    from ops.registry.mlflow.trackingstore import OpsTrackingStore

if importlib.util.find_spec("mlflow") is None:
    raise MissingExtraError("mlflow", "ops-registry[mlflow]")

__all__ = [
    "MLflowCopy",
    "MLflowHelper",
    "MLflowPipelineTracker",
    "OpsModelStore",
    "OpsTrackingStore",
    "TrackedRun",
    "export_mlflow",
    "import_mlflow",
    "mlflow_track",
]

__getattr__, __dir__ = lazy_exports(
    __name__,
    {
        ".copying": ("export_mlflow", "import_mlflow"),
        ".decorator": ("mlflow_track",),
        ".ends": ("MLflowCopy",),
        ".helper": ("MLflowHelper",),
        ".modelstore": ("OpsModelStore",),
        ".pipelines": (
            "MLflowPipelineTracker",
            "TrackedRun",
        ),
        ".trackingstore": ("OpsTrackingStore",),
    },
)
