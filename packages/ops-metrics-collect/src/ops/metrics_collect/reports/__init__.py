"""Reports: a model of sheets, columns and rows, and its renderings."""

from typing import TYPE_CHECKING

from ops.foundation.lazy import lazy_exports

if TYPE_CHECKING:
    from ops.metrics_collect.reports._activity import ReportActivity
    from ops.metrics_collect.reports._ccsp import ReportCCSP, ReportCCSPv2
    from ops.metrics_collect.reports._model import Chart, Column, Formula, Report, Sheet
    from ops.metrics_collect.reports._renewal import ReportRenewalGuidance

__all__ = [
    "Chart",
    "Column",
    "Formula",
    "Report",
    "ReportActivity",
    "ReportCCSP",
    "ReportCCSPv2",
    "ReportRenewalGuidance",
    "Sheet",
]

__getattr__, __dir__ = lazy_exports(
    __name__,
    {
        "._activity": ("ReportActivity",),
        "._ccsp": ("ReportCCSP", "ReportCCSPv2"),
        "._renewal": ("ReportRenewalGuidance",),
        "._model": ("Chart", "Column", "Formula", "Report", "Sheet"),
    },
)
