"""Reports: a model of sheets, columns and rows, and its renderings."""

from typing import TYPE_CHECKING

from ops.foundation.lazy import lazy_exports

if TYPE_CHECKING:
    from ops.metrics_collect.reports._activity import ReportActivity
    from ops.metrics_collect.reports._ccsp import ReportCCSP
    from ops.metrics_collect.reports._model import Chart, Column, Formula, Report, Sheet

__all__ = ["Chart", "Column", "Formula", "Report", "ReportActivity", "ReportCCSP", "Sheet"]

__getattr__, __dir__ = lazy_exports(
    __name__,
    {
        "._activity": ("ReportActivity",),
        "._ccsp": ("ReportCCSP",),
        "._model": ("Chart", "Column", "Formula", "Report", "Sheet"),
    },
)
