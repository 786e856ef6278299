"""Reports: a model of sheets, columns and rows, and its renderings."""

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from ops.metrics_collect.reports._activity import ReportActivity as ReportActivity
    from ops.metrics_collect.reports._ccsp import ReportCCSP as ReportCCSP
    from ops.metrics_collect.reports._ccsp import ReportCCSPv2 as ReportCCSPv2
    from ops.metrics_collect.reports._model import Chart as Chart
    from ops.metrics_collect.reports._model import Column as Column
    from ops.metrics_collect.reports._model import Formula as Formula
    from ops.metrics_collect.reports._model import Report as Report
    from ops.metrics_collect.reports._model import Sheet as Sheet
    from ops.metrics_collect.reports._renewal import ReportRenewalGuidance as ReportRenewalGuidance
else:  # Written by `nox -s lint -- --fix` from the imports above.
    from ops.foundation.lazy import lazy_exports

    __all__, __getattr__, __dir__ = lazy_exports(
        __name__,
        {
            "._activity": "ReportActivity",
            "._ccsp": "ReportCCSP ReportCCSPv2",
            "._model": "Chart Column Formula Report Sheet",
            "._renewal": "ReportRenewalGuidance",
        },
    )
