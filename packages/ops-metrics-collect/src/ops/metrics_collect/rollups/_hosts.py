"""Hosts as inventories have them, and the controller's own counters of hosts."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any, ClassVar

import pyarrow as pa
import pyarrow.compute

from ops.metrics_collect.rollups._base import Rollup
from ops.metrics_collect.rollups._columns import (
    TIMESTAMP,
    constant,
    first_of,
    number,
    sets_of,
    text,
    utc_times,
)
from ops.metrics_collect.rollups._engine import SET, Measure

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

# Its functions are made when it is imported, so that no static tool knows them.
pc: Any = pyarrow.compute

__all__ = ["DataframeHostMetric", "DataframeMainHost"]

_FACTS = {"serials": "ansible_product_serial", "machine_ids": "ansible_machine_id"}


class DataframeMainHost(Rollup):
    """Rollup of `main_host`: each host once, with all that was known of it at any time.

    A host is named by its `ansible_host_variable` when that is set; `names` are those in inventories.
    """

    schema_version: ClassVar[int] = 3

    collections: tuple[str, ...] = ("main_host",)
    columns: frozenset[str] | None = frozenset(
        {
            *("host_name", "ansible_host_variable", "organization_name", "inventory_name"),
            *("last_automation", "canonical_facts"),
        }
    )
    keys: Mapping[str, pa.DataType] = {"host_name": pa.string(), "install_uuid": pa.string()}
    measures: tuple[Measure, ...] = (
        Measure("last_automation", "max", TIMESTAMP),
        Measure("organizations", "set", SET),
        Measure("inventories", "set", SET),
        Measure("serials", "set", SET),
        Measure("machine_ids", "set", SET),
        Measure("names", "set", SET),
    )

    def prepare(self, raw: pa.Table, config: Mapping[str, Any], collection: str) -> pa.Table:  # noqa: ARG002
        """Name hosts and pick serials and machine ids from their facts."""
        facts = _facts(text(raw, "canonical_facts").to_pylist())
        return pa.table(
            {
                "host_name": first_of(text(raw, "ansible_host_variable"), text(raw, "host_name")),
                "install_uuid": constant(str(config.get("install_uuid", "")), raw.num_rows),
                "last_automation": utc_times(raw, "last_automation"),
                "organizations": sets_of(text(raw, "organization_name")),
                "inventories": sets_of(text(raw, "inventory_name")),
                **facts,
                "names": sets_of(text(raw, "host_name")),
            }
        )


class DataframeHostMetric(Rollup):
    """Rollup of `main_hostmetric`, the controller's counters, which only grow: the highest count.

    `deleted_at` is the last time at which the host was seen deleted, and `there_at` the last automation
    with which it was seen not deleted. Where the flag `deleted` is missing, a deletion after the last
    automation stands for it.
    """

    schema_version: ClassVar[int] = 3

    collections: tuple[str, ...] = ("main_hostmetric",)
    keys: Mapping[str, pa.DataType] = {"host_name": pa.string(), "install_uuid": pa.string()}
    measures: tuple[Measure, ...] = (
        Measure("first_automation", "min", TIMESTAMP),
        Measure("last_automation", "max", TIMESTAMP),
        Measure("last_deleted", "max", TIMESTAMP),
        Measure("automated_counter", "max", pa.int64()),
        Measure("deleted_counter", "max", pa.int64()),
        Measure("deleted_at", "max", TIMESTAMP),
        Measure("there_at", "max", TIMESTAMP),
    )

    def prepare(self, raw: pa.Table, config: Mapping[str, Any], collection: str) -> pa.Table:  # noqa: ARG002
        """Turn texts into times and numbers."""
        last, deleted_at = utc_times(raw, "last_automation"), utc_times(raw, "last_deleted")
        after = pc.fill_null(pc.greater(deleted_at, last), False)  # noqa: FBT003 - a value
        flag = text(raw, "deleted")
        is_set = pc.is_in(flag, pa.array(["t", "true", "True", "1"]))
        deleted = pc.if_else(pc.equal(flag, ""), after, is_set)
        nothing = pa.scalar(None, TIMESTAMP)
        return pa.table(
            {
                "deleted_at": pc.if_else(deleted, pc.coalesce(deleted_at, last), nothing),
                "there_at": pc.if_else(deleted, nothing, last),
                "host_name": text(raw, "hostname"),
                "install_uuid": constant(str(config.get("install_uuid", "")), raw.num_rows),
                **{
                    name: utc_times(raw, name)
                    for name in ("first_automation", "last_automation", "last_deleted")
                },
                "automated_counter": number(raw, "automated_counter"),
                "deleted_counter": number(raw, "deleted_counter"),
            }
        )


def _parsed(value: str) -> dict[str, Any]:
    try:
        found = json.loads(value) if value else {}
    except ValueError:
        return {}
    return found if isinstance(found, dict) else {}


def _facts(texts: Iterable[str]) -> dict[str, Any]:
    """Return the columns of `_FACTS`; of each text no more is kept, as facts are long."""
    found: dict[str, list[list[str]]] = {name: [] for name in _FACTS}
    for value in texts:
        known = _parsed(value)
        for name, key in _FACTS.items():
            found[name].append([str(known[key])] if known.get(key) else [])
    return {name: pa.array(sets, SET) for name, sets in found.items()}
