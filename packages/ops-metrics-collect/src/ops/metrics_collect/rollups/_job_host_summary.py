"""Host runs and task runs by organization, job template, host and job."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
import pyarrow as pa
import pyarrow.compute

from ops.metrics_collect.rollups._base import Rollup
from ops.metrics_collect.rollups._columns import (
    TIMESTAMP,
    constant,
    first_of,
    json_lists,
    no_sets,
    number,
    sets_of,
    text,
    utc_times,
)
from ops.metrics_collect.rollups._engine import SET, Measure
from ops.metrics_collect.rollups._latest import COUNTED

if TYPE_CHECKING:
    from collections.abc import Mapping

# Its functions are made when it is imported, so that no static tool knows them.
pc: Any = pyarrow.compute

__all__ = ["NO_ORGANIZATION", "DataframeJobHostSummary"]

NO_ORGANIZATION = "No organization name"
_RAN = ("failures", "ok", "skipped", "ignored", "rescued")
_INDIRECT = "main_indirectmanagednodeaudit"


class DataframeJobHostSummary(Rollup):
    """Rollup of `job_host_summary` (or `_service`) and `main_indirectmanagednodeaudit`.

    `task_runs` is dark + failures + ok + skipped + ignored + rescued; rows in which nothing but
    dark (unreachable) was counted are dropped: nothing ran there. The host is named by its
    `ansible_host_variable` when that is set, `original_host_name` is its name in the inventory.
    Nodes that were managed through an API are "indirect"; they alone have sets: the `events` that
    report them, their other `names` (of the facts) and their `facts`, as JSON texts.
    """

    collections: tuple[str, ...] = ("job_host_summary", "job_host_summary_service", _INDIRECT)
    row_ids: Mapping[str, tuple[str, str]] = {
        # One table of the controller, whichever column chose the rows.
        "job_host_summary": ("job_host_summary", "id"),
        "job_host_summary_service": ("job_host_summary", "id"),
        _INDIRECT: (_INDIRECT, "id"),
    }
    times: Mapping[str, str] = {
        "job_host_summary": "modified",
        "job_host_summary_service": "modified",
        _INDIRECT: "created",
    }
    columns: frozenset[str] | None = frozenset(
        {
            *_RAN,
            *("id", "dark", "host_name", "ansible_host_variable", "organization_name"),
            *("job_template_name", "job_remote_id", "created", "modified", "job_created"),
            *("task_runs", "events", "canonical_facts", "facts"),
        }
    )
    keys: Mapping[str, pa.DataType] = {
        "organization_name": pa.string(),
        "job_template_name": pa.string(),
        "host_name": pa.string(),
        "original_host_name": pa.string(),
        "install_uuid": pa.string(),
        "job_remote_id": pa.string(),
        "managed_node_type": pa.string(),
    }
    measures: tuple[Measure, ...] = (
        Measure("host_runs", "sum", pa.int64()),
        Measure("task_runs", "sum", pa.int64()),
        Measure("first_automation", "min", TIMESTAMP),
        Measure("last_automation", "max", TIMESTAMP),
        Measure("job_created", "min", TIMESTAMP),
        Measure("events", "set", SET),
        Measure("names", "set", SET),
        Measure("facts", "set", SET),
    )

    def prepare(self, raw: pa.Table, config: Mapping[str, Any], collection: str) -> pa.Table:
        """Name hosts, count tasks and drop what did not run."""
        indirect = collection == _INDIRECT
        original = text(raw, "host_name")
        size = raw.num_rows
        columns = {
            "organization_name": first_of(
                text(raw, "organization_name"), pa.scalar(NO_ORGANIZATION)
            ),
            "job_template_name": text(raw, "job_template_name"),
            "host_name": first_of(text(raw, "ansible_host_variable"), original),
            "original_host_name": original,
            "install_uuid": constant(str(config.get("install_uuid", "")), size),
            "job_remote_id": text(raw, "job_remote_id"),
            "managed_node_type": constant("indirect" if indirect else "direct", size),
            "host_runs": pa.array(np.ones(size, np.int64)),
            "job_created": utc_times(raw, "job_created"),
        }
        if indirect:
            created = utc_times(raw, "created")
            columns |= {
                "task_runs": number(raw, "task_runs"),
                "first_automation": created,
                "last_automation": created,
                "events": json_lists(raw, "events"),
                "names": sets_of(text(raw, "canonical_facts")),
                "facts": sets_of(text(raw, "facts")),
            }
            return pa.table(columns)
        ran = number(raw, _RAN[0])
        for name in _RAN[1:]:
            ran = pc.add(ran, number(raw, name))
        columns |= {
            "task_runs": pc.add(ran, number(raw, "dark")),
            "first_automation": utc_times(raw, "created"),
            "last_automation": utc_times(raw, "modified"),
            **dict.fromkeys(("events", "names", "facts"), no_sets(size)),
        }
        return pa.table({**columns, COUNTED: pc.greater(ran, 0)})
