"""Rollups: raw rows to aggregates that can be added up in any order and any grouping."""

from typing import TYPE_CHECKING

from ops.foundation.lazy import lazy_exports

if TYPE_CHECKING:
    from ops.metrics_collect.rollups._activity import DataframeActivity
    from ops.metrics_collect.rollups._base import Measure, Rollup
    from ops.metrics_collect.rollups._job_host_summary import DataframeJobHostSummary

__all__ = ["DataframeActivity", "DataframeJobHostSummary", "Measure", "Rollup"]

__getattr__, __dir__ = lazy_exports(
    __name__,
    {
        "._activity": ("DataframeActivity",),
        "._base": ("Measure", "Rollup"),
        "._job_host_summary": ("DataframeJobHostSummary",),
    },
)
