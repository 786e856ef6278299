"""Rollups: raw rows to aggregates that can be added up in any order and any grouping."""

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from ops.metrics_collect.rollups._activity import DataframeActivity as DataframeActivity
    from ops.metrics_collect.rollups._base import Rollup as Rollup
    from ops.metrics_collect.rollups._engine import Measure as Measure
    from ops.metrics_collect.rollups._hosts import DataframeHostMetric as DataframeHostMetric
    from ops.metrics_collect.rollups._hosts import DataframeMainHost as DataframeMainHost
    from ops.metrics_collect.rollups._job_host_summary import (
        DataframeJobHostSummary as DataframeJobHostSummary,
    )
    from ops.metrics_collect.rollups._jobevent import DataframeJobevent as DataframeJobevent
    from ops.metrics_collect.rollups._status import (
        DataframeDataCollectionStatus as DataframeDataCollectionStatus,
    )
else:  # Written by `nox -s lint -- --fix` from the imports above.
    from ops.foundation.lazy import lazy_exports

    __all__, __getattr__, __dir__ = lazy_exports(
        __name__,
        {
            "._activity": "DataframeActivity",
            "._base": "Rollup",
            "._engine": "Measure",
            "._hosts": "DataframeHostMetric DataframeMainHost",
            "._job_host_summary": "DataframeJobHostSummary",
            "._jobevent": "DataframeJobevent",
            "._status": "DataframeDataCollectionStatus",
        },
    )
