"""Host runs and task runs by organization, job template, host and job."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pyarrow as pa
import pyarrow.compute

from ops.metrics_collect.rollups._base import Measure, Rollup, moment, number, text

if TYPE_CHECKING:
    from collections.abc import Mapping

# Its functions are made when it is imported, so that no static tool knows them.
pc: Any = pyarrow.compute

__all__ = ["DataframeJobHostSummary"]

_MOMENT = pa.timestamp("us", tz="UTC")
_NO_ORGANIZATION = "No organization name"


class DataframeJobHostSummary(Rollup):
    """Rollup of the collection `job_host_summary`.

    `task_runs` is dark + failures + ok + skipped + ignored + rescued; rows in which nothing but
    dark (unreachable) was counted are dropped: nothing ran there. The host is named by its
    `ansible_host_variable` when that is set, `original_host_name` is its name in the inventory.
    """

    collection = "job_host_summary"
    row_id = "id"
    keys = {  # noqa: RUF012 - replaced, never changed
        "organization_name": pa.string(),
        "job_template_name": pa.string(),
        "host_name": pa.string(),
        "original_host_name": pa.string(),
        "install_uuid": pa.string(),
        "job_remote_id": pa.string(),
        "managed_node_type": pa.string(),
    }
    measures = (
        Measure("host_runs", "sum", pa.int64()),
        Measure("task_runs", "sum", pa.int64()),
        Measure("first_automation", "min", _MOMENT),
        Measure("last_automation", "max", _MOMENT),
        Measure("job_created", "min", _MOMENT),
    )

    def prepare(self, raw: pa.Table, config: Mapping[str, Any]) -> pa.Table:
        """Name hosts and organizations, count tasks, drop what did not run."""
        ran = number(raw, "failures")
        for name in ("ok", "skipped", "ignored", "rescued"):
            ran = pc.add(ran, number(raw, name))
        tasks = pc.add(ran, number(raw, "dark"))
        original = text(raw, "host_name")
        variable = text(raw, "ansible_host_variable")
        organization = text(raw, "organization_name")
        size = raw.num_rows
        rows = pa.table(
            {
                "organization_name": _unless_empty(organization, pa.scalar(_NO_ORGANIZATION)),
                "job_template_name": text(raw, "job_template_name"),
                "host_name": _unless_empty(variable, original),
                "original_host_name": original,
                "install_uuid": pa.array([str(config.get("install_uuid", ""))] * size),
                "job_remote_id": text(raw, "job_remote_id"),
                "managed_node_type": pa.array(["direct"] * size),
                "host_runs": pa.array([1] * size, pa.int64()),
                "task_runs": tasks,
                "first_automation": moment(raw, "created"),
                "last_automation": moment(raw, "modified"),
                "job_created": moment(raw, "job_created"),
            }
        )
        return rows.filter(pc.greater(ran, 0))


def _unless_empty(values: Any, otherwise: Any) -> Any:
    return pc.if_else(pc.equal(values, ""), otherwise, values)
