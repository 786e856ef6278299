"""The CCSP usage reports: what was automated, for whom, and what it costs."""

from __future__ import annotations

import functools
from typing import TYPE_CHECKING, Any

from ops.metrics_collect.reports._collected import collection_status
from ops.metrics_collect.reports._model import Report
from ops.metrics_collect.reports._settings import USAGE, Settings
from ops.metrics_collect.reports._usage import Tables, Usage

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from ops.metrics_collect.reports._model import Sheet
    from ops.metrics_collect.rollups import Rollup

__all__ = ["ReportCCSP", "ReportCCSPv2"]

_EVENTS = (
    ("Usage by collections", "collection_name", "Collection"),
    ("Usage by roles", "role_name", "Role"),
    ("Usage by modules", "module_name", "Module"),
)


_SHEETS = (
    "usage_reporting",
    "summary",
    "managed_nodes",
    "indirectly_managed_nodes",
    "inventory_scope",
    *(title.lower().replace(" ", "_") for title, _, _ in _EVENTS),
)
_MORE = (
    "jobs",
    "infrastructure_summary",
    "usage_by_organizations",
    "data_collection_status",
    "managed_nodes_by_organization",
)


class ReportCCSP(Report):
    """*dataframes* holds "job_host_summary", and may hold "main_host" and "main_jobevent".

    A sheet whose dataframe is not given is left out.

    *config*, of which an unknown key is a `ParameterError`:

    - `company`, `sku`, `sku_description`, `period`, and where given `email`, `login`, `purchase_order`,
      `business_leader`, `procurement_leader`, `end_user`, `end_user_city`, `end_user_state` and
      `end_user_country`: lines of the first sheet;
    - `price`: of a node; `deduplicate`: "ccsp" or "renewal", with main_host;
    - `organizations`: a list of names, the only ones that are reported and charged;
    - `sheets`: a list of titles, the only ones that are made;
    - `since` and `until`: the period, as aware datetimes or as ISO 8601 text (without offset, UTC).
    """

    _charges_once = False
    _sheets: tuple[str, ...] = _SHEETS

    def __init__(self, dataframes: Mapping[str, Rollup], config: Mapping[str, Any]) -> None:
        self._settings = Settings.of(config, USAGE, self._sheets)
        organizations = self._settings.organizations
        needed = ["job_host_summary"]
        self._tables = Tables(dataframes, needed, type(self).__name__, organizations)
        self._usage = Usage(self._tables, self._settings)

    def sheets(self) -> list[Sheet]:
        """Return the sheets in order."""
        wanted = self._settings.sheets
        return [
            sheet
            for key, make in self._makers().items()
            if wanted is None or key in wanted
            for sheet in make()
        ]

    def _makers(self) -> dict[str, Callable[[], list[Sheet]]]:
        """Return what makes the sheets, by their keys and in order; those without data are left out."""
        usage = self._usage
        makers: dict[str, Callable[[], list[Sheet]]] = {
            "usage_reporting": lambda: [usage.charges(once=self._charges_once)],
            "summary": lambda: [usage.summary()],
            "managed_nodes": lambda: [usage.managed("Managed nodes", "direct")],
            "indirectly_managed_nodes": lambda: [
                usage.managed("Indirectly Managed nodes", "indirect")
            ],
        }
        if "main_host" in self._tables:
            makers["inventory_scope"] = lambda: [usage.inventory()]
        if "main_jobevent" in self._tables:
            for key, event in zip(_SHEETS[-len(_EVENTS) :], _EVENTS, strict=True):
                makers[key] = functools.partial(lambda e: [usage.events(*e)], event)
        return makers


class ReportCCSPv2(ReportCCSP):
    """ReportCCSP with jobs, infrastructure, organizations and, with the dataframe
    "data_collection_status", what was collected and what is missing.

    What of the period, `since` to `until`, was not collected is a gap. A node is charged once, however
    many organizations automated it.
    """  # noqa: D205 - one sentence

    _charges_once = True
    _sheets = (*_SHEETS, *_MORE)

    def _makers(self) -> dict[str, Callable[[], list[Sheet]]]:
        usage, bounds = self._usage, (self._settings.since, self._settings.until)
        makers = super()._makers() | {
            "jobs": lambda: [usage.jobs()],
            "infrastructure_summary": lambda: [usage.infrastructure()],
            "usage_by_organizations": lambda: [usage.organizations()],
        }
        if "data_collection_status" in self._tables:
            makers["data_collection_status"] = lambda: [collection_status(self._tables, bounds)]
        return {**makers, "managed_nodes_by_organization": usage.by_organization_sheets}
