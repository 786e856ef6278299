"""Collectors of an automation controller's PostgreSQL database (extra `postgres`).

They take any psycopg 3 connection, read one snapshot (all of a package the same one), create nothing
in the database, and write CSV or Parquet parts of at most `max_part_bytes`. `output_dir` is where.
"""

from ops.metrics_collect.collectors.controller._config import config
from ops.metrics_collect.collectors.controller._events import main_jobevent, main_jobevent_service
from ops.metrics_collect.collectors.controller._hosts import (
    job_host_summary,
    job_host_summary_service,
    main_host,
    main_hostmetric,
    main_indirectmanagednodeaudit,
)
from ops.metrics_collect.collectors.controller._jobs import execution_environments, unified_jobs

__all__ = [
    "config",
    "execution_environments",
    "job_host_summary",
    "job_host_summary_service",
    "main_host",
    "main_hostmetric",
    "main_indirectmanagednodeaudit",
    "main_jobevent",
    "main_jobevent_service",
    "unified_jobs",
]
