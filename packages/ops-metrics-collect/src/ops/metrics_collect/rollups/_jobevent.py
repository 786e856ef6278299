"""Tasks by host, module, collection and role."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
import pyarrow as pa
import pyarrow.compute

from ops.metrics_collect.rollups._base import Rollup
from ops.metrics_collect.rollups._columns import constant, first_of, number, text
from ops.metrics_collect.rollups._engine import Measure

if TYPE_CHECKING:
    from collections.abc import Mapping

# Its functions are made when it is imported, so that no static tool knows them.
pc: Any = pyarrow.compute

__all__ = ["DataframeJobevent"]

_COLLECTION = r"^(?P<collection>[^.]+\.[^.]+)\..+$"


class DataframeJobevent(Rollup):
    """Rollup of `main_jobevent` (or `_service`).

    The module is the resolved action, or else the action as the playbook has it; its collection are the
    first two of at least three names ("ansible.builtin" of "ansible.builtin.copy"), or nothing.
    `duration` is in seconds.
    """

    collections: tuple[str, ...] = ("main_jobevent", "main_jobevent_service")
    row_ids: Mapping[str, tuple[str, str]] = {
        "main_jobevent": ("main_jobevent", "id"),
        "main_jobevent_service": ("main_jobevent", "id"),
    }
    times: Mapping[str, str] = dict.fromkeys(("main_jobevent", "main_jobevent_service"), "created")
    columns: frozenset[str] | None = frozenset(
        {
            *("created",),
            *("id", "host_name", "task_action", "resolved_action", "resolved_role", "role"),
            *("duration", "job_remote_id"),
        }
    )
    keys: Mapping[str, pa.DataType] = {
        "host_name": pa.string(),
        "module_name": pa.string(),
        "collection_name": pa.string(),
        "role_name": pa.string(),
        "install_uuid": pa.string(),
        "job_remote_id": pa.string(),
    }
    measures: tuple[Measure, ...] = (
        Measure("task_runs", "sum", pa.int64()),
        Measure("duration", "sum", pa.float64()),
    )

    def prepare(self, raw: pa.Table, config: Mapping[str, Any], collection: str) -> pa.Table:  # noqa: ARG002
        """Name modules, collections and roles."""
        size = raw.num_rows
        module = first_of(text(raw, "resolved_action"), text(raw, "task_action"))
        found = pc.extract_regex(module, _COLLECTION)
        collections = pc.fill_null(pc.struct_field(found, "collection"), "")
        return pa.table(
            {
                "host_name": text(raw, "host_name"),
                "module_name": module,
                "collection_name": collections,
                "role_name": first_of(text(raw, "resolved_role"), text(raw, "role")),
                "install_uuid": constant(str(config.get("install_uuid", "")), size),
                "job_remote_id": text(raw, "job_remote_id"),
                "task_runs": pa.array(np.ones(size, np.int64)),
                "duration": number(raw, "duration", pa.float64()),
            }
        )
