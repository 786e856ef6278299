"""Rollups: raw rows to aggregates that can be added up in any order and any grouping."""

from typing import TYPE_CHECKING

from ops.foundation.lazy import lazy_exports

if TYPE_CHECKING:
    from ops.metrics_collect.rollups._activity import DataframeActivity
    from ops.metrics_collect.rollups._base import Rollup
    from ops.metrics_collect.rollups._engine import Measure
    from ops.metrics_collect.rollups._hosts import DataframeHostMetric, DataframeMainHost
    from ops.metrics_collect.rollups._job_host_summary import DataframeJobHostSummary
    from ops.metrics_collect.rollups._jobevent import DataframeJobevent
    from ops.metrics_collect.rollups._status import DataframeDataCollectionStatus

__all__ = [
    "DataframeActivity",
    "DataframeDataCollectionStatus",
    "DataframeHostMetric",
    "DataframeJobHostSummary",
    "DataframeJobevent",
    "DataframeMainHost",
    "Measure",
    "Rollup",
]

__getattr__, __dir__ = lazy_exports(
    __name__,
    {
        "._activity": ("DataframeActivity",),
        "._base": ("Rollup",),
        "._engine": ("Measure",),
        "._hosts": ("DataframeHostMetric", "DataframeMainHost"),
        "._job_host_summary": ("DataframeJobHostSummary",),
        "._jobevent": ("DataframeJobevent",),
        "._status": ("DataframeDataCollectionStatus",),
    },
)
