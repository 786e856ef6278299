"""The CCSP usage reports: what was automated, for whom, and what it costs."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from ops.metrics_collect.reports._collected import collection_status
from ops.metrics_collect.reports._model import Report
from ops.metrics_collect.reports._usage import Tables, Usage

if TYPE_CHECKING:
    from collections.abc import Mapping

    from ops.metrics_collect.reports._model import Sheet
    from ops.metrics_collect.rollups import Rollup

__all__ = ["ReportCCSP", "ReportCCSPv2"]

_EVENTS = (
    ("Usage by collections", "collection_name", "Collection"),
    ("Usage by roles", "role_name", "Role"),
    ("Usage by modules", "module_name", "Module"),
)


class ReportCCSP(Report):
    """*dataframes* holds "job_host_summary", and may hold "main_host" and "main_jobevent".

    *config*: `company`, `sku`, `sku_description`, `period`, `price` and `deduplicate` ("ccsp" or
    "renewal", with main_host). A sheet whose dataframe is not given is left out.
    """

    _charges_once = False

    def __init__(self, dataframes: Mapping[str, Rollup], config: Mapping[str, Any]) -> None:
        self._tables = Tables(dataframes, ["job_host_summary"], type(self).__name__)
        self._config = config
        self._usage = Usage(self._tables, config)

    def sheets(self) -> list[Sheet]:
        """Return the sheets in order."""
        usage = self._usage
        return [
            usage.charges(once=self._charges_once),
            usage.summary(),
            usage.managed("Managed nodes", "direct"),
            usage.managed("Indirectly Managed nodes", "indirect"),
            *([usage.inventory()] if "main_host" in self._tables else []),
            *(
                [usage.events(*event) for event in _EVENTS]
                if "main_jobevent" in self._tables
                else []
            ),
        ]


class ReportCCSPv2(ReportCCSP):
    """ReportCCSP with jobs, infrastructure, organizations and, with the dataframe
    "data_collection_status", what was collected and what is missing.

    *config* may say the period, `since` and `until`, as aware moments or as ISO 8601 text (without
    offset, UTC): what of it was not collected is a gap. A node is charged once, however many
    organizations automated it.
    """  # noqa: D205 - one sentence

    _charges_once = True

    def sheets(self) -> list[Sheet]:
        """Return the sheets in order."""
        usage = self._usage
        return [
            *super().sheets(),
            usage.jobs(),
            usage.infrastructure(),
            usage.organizations(),
            *(
                [collection_status(self._tables, self._config)]
                if "data_collection_status" in self._tables
                else []
            ),
            *usage.by_organization_sheets(),
        ]
