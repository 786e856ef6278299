"""Hosts and what ran on them: summaries of jobs by host, inventory hosts, indirectly managed nodes."""

from __future__ import annotations

from typing import TYPE_CHECKING

from ops.metrics_collect.collectors.controller._base import JOB_COLUMNS, CopyCollector, job_tables
from ops.metrics_collect.collectors.controller._variables import (
    COLUMNS,
    connection_fields,
    hex_variables,
)

if TYPE_CHECKING:
    from collections.abc import Sequence

    from ops.metrics_collect.collectors._base import CollectorFactory

__all__ = [
    "job_host_summary",
    "job_host_summary_service",
    "main_host",
    "main_indirectmanagednodeaudit",
]

_COUNTS = (
    "changed",
    "dark",
    "failures",
    "ok",
    "processed",
    "skipped",
    "failed",
    "ignored",
    "rescued",
)
_SUMMARY = f"""
    select {hex_variables("h.variables")} as variables,
    s.id, s.created, s.modified, s.host_name, s.host_id as host_remote_id,
    {", ".join(f"s.{name}" for name in _COUNTS)}, {JOB_COLUMNS}
    from main_jobhostsummary s
    {job_tables(job="s.job_id", inventory="j.inventory_id", organization="u.organization_id")}
    left join main_host h on h.id = s.host_id"""  # noqa: S608 - constants
_SUMMARY_COLUMNS = [
    "id",
    "created",
    "modified",
    "host_name",
    "host_remote_id",
    *_COUNTS,
    "job_created",
    "job_remote_id",
    "job_template_remote_id",
    "job_template_name",
    "inventory_remote_id",
    "inventory_name",
    "organization_remote_id",
    "organization_name",
    "project_remote_id",
    "project_name",
    *COLUMNS,
]

job_host_summary: CollectorFactory = CopyCollector(
    key="job_host_summary",
    version="1.2",
    query=f"{_SUMMARY} where s.modified >= %(since)s and s.modified < %(until)s",
    columns=_SUMMARY_COLUMNS,
    decode=connection_fields,
    doc="Collect what each job did on each host, by the time the summary was modified.",
).windowed()

job_host_summary_service: CollectorFactory = CopyCollector(
    key="job_host_summary_service",
    version="1.4",
    query=f"{_SUMMARY} where u.finished >= %(since)s and u.finished < %(until)s",
    columns=_SUMMARY_COLUMNS,
    decode=connection_fields,
    doc="Collect what each job did on each host, by the time the job finished.",
).windowed()

# Facts by which the same machine is known under several names, and facts that describe it.
_CANONICAL = (
    "ansible_product_serial",
    "ansible_machine_id",
    "ansible_product_uuid",
    "ansible_fqdn",
    "ansible_board_serial",
)
_DESCRIBING = (
    "ansible_distribution",
    "ansible_distribution_version",
    "ansible_os_family",
    "ansible_architecture",
    "ansible_system_vendor",
    "ansible_virtualization_type",
    "ansible_virtualization_role",
    "ansible_processor_vcpus",
    "ansible_memtotal_mb",
)


def _facts(names: Sequence[str]) -> str:
    pairs = ", ".join(f"'{name}', h.ansible_facts -> '{name}'" for name in names)
    return f"jsonb_strip_nulls(jsonb_build_object({pairs}))"


main_host: CollectorFactory = CopyCollector(
    key="main_host",
    primary_key="host_id",
    query=f"""
    select {hex_variables("h.variables")} as variables,
    h.name, h.id, i.id, i.name, o.id, o.name, u.finished, {_facts(_CANONICAL)}, {_facts(_DESCRIBING)}
    from main_host h
    left join main_inventory i on i.id = h.inventory_id
    left join main_organization o on o.id = i.organization_id
    left join main_unifiedjob u on u.id = h.last_job_id
    where h.enabled""",  # noqa: S608 - constants
    columns=[
        "host_name",
        "host_id",
        "inventory_remote_id",
        "inventory_name",
        "organization_remote_id",
        "organization_name",
        "last_automation",
        "canonical_facts",
        "facts",
        *COLUMNS,
    ],
    decode=connection_fields,
    doc="Collect the enabled hosts of all inventories as they are now.",
).current()

main_hostmetric: CollectorFactory = CopyCollector(
    key="main_hostmetric",
    query="""
    select id, hostname, first_automation, last_automation, last_deleted, automated_counter,
    deleted_counter, deleted, used_in_inventories from main_hostmetric""",
    doc="Collect the controller's counters of hosts as they are now.",
).current()

_INDIRECT_TABLES = job_tables(
    job="a.job_id",
    inventory="coalesce(a.inventory_id, j.inventory_id)",
    organization="coalesce(a.organization_id, u.organization_id)",
)

main_indirectmanagednodeaudit: CollectorFactory = CopyCollector(
    key="main_indirectmanagednodeaudit",
    query=f"""
    select a.id, a.created, a.name as host_name, a.host_id as host_remote_id,
    a.canonical_facts, a.facts, a.events, a.count as task_runs, {JOB_COLUMNS}
    from main_indirectmanagednodeaudit a {_INDIRECT_TABLES}
    where a.created >= %(since)s and a.created < %(until)s""",  # noqa: S608 - constants
    doc="Collect the nodes that jobs managed through an API, by the time they were recorded.",
).windowed()
