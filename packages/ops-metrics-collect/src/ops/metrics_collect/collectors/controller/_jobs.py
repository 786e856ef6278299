"""Jobs of all kinds, and the execution environments that they run in."""

from __future__ import annotations

from typing import TYPE_CHECKING

from ops.metrics_collect.collectors.controller._base import CopyCollector

if TYPE_CHECKING:
    from ops.metrics_collect.collectors._base import CollectorFactory

__all__ = ["execution_environments", "unified_jobs"]

unified_jobs: CollectorFactory = CopyCollector(
    key="unified_jobs",
    query="""
    select u.id, u.polymorphic_ctype_id, c.model, u.organization_id, o.name as organization_name,
    x.image as execution_environment_image, j.inventory_id, i.name as inventory_name,
    u.created, u.name, u.unified_job_template_id, u.launch_type, u.schedule_id,
    u.execution_node, u.controller_node, u.cancel_flag, u.status, u.failed, u.started, u.finished,
    u.elapsed, u.job_explanation, u.instance_group_id, u.installed_collections, u.ansible_version,
    j.forks, t.name as job_template_name
    from main_unifiedjob u
    left join django_content_type c on c.id = u.polymorphic_ctype_id
    left join main_job j on j.unifiedjob_ptr_id = u.id
    left join main_inventory i on i.id = j.inventory_id
    left join main_organization o on o.id = u.organization_id
    left join main_executionenvironment x on x.id = u.execution_environment_id
    left join main_unifiedjobtemplate t on t.id = u.unified_job_template_id
    where u.finished >= %(since)s and u.finished < %(until)s and u.launch_type <> 'sync'""",
    doc="""Collect jobs by the time they finished: each once, when its values are final.

    Jobs that the controller launches to synchronize projects are left out.
    """,
).windowed()

execution_environments: CollectorFactory = CopyCollector(
    key="execution_environments",
    query="""
    select id, created, modified, description, image, managed, created_by_id, credential_id,
    modified_by_id, organization_id, name, pull
    from main_executionenvironment""",
    doc="Collect the execution environments as they are now.",
).current()
