r"""Events of tasks on hosts.

The table of events is partitioned by the hour in which the job was created, and no index leads from
the jobs of a window to their events in all partitions. So the hours of those jobs are queried
first, and stand in the query as constants: the planner then opens these partitions and no others.

The data of an event is JSON text that may hold the escape \u0000, which PostgreSQL's own JSON
functions refuse, for a whole query. It is parsed here, where it is a character like any other.
"""

from __future__ import annotations

import datetime as dt
import json
from typing import TYPE_CHECKING, Any

from ops.metrics_collect.collectors.controller._base import CopyCollector
from ops.metrics_collect.csv_parts import encode_row

if TYPE_CHECKING:
    from ops.metrics_collect.collectors._base import CollectorFactory

__all__ = ["events_query", "main_jobevent", "main_jobevent_service"]

#: Results of a task on a host; starts of tasks, plays and playbooks count nothing.
_TASK_EVENTS = (
    "runner_on_ok",
    "runner_on_failed",
    "runner_on_unreachable",
    "runner_on_skipped",
    "runner_on_async_ok",
    "runner_on_async_failed",
    "runner_item_on_ok",
    "runner_item_on_failed",
    "runner_item_on_skipped",
    "runner_retry",
)
_HOUR = dt.timedelta(hours=1)
_FIELDS = ("task_action", "resolved_action", "resolved_role", "duration")
_SERVICE_FIELDS = (*_FIELDS, "start", "end", "warnings", "deprecations")
_IN_RESULT = frozenset({"warnings", "deprecations"})

# Column of the files: expression.
_COLUMNS = {
    "job_host_summary_id": "s.id",
    "job_host_summary_created": "s.created",
    "id": "e.id",
    "created": "e.created",
    "modified": "e.modified",
    "job_created": "e.job_created",
    "event": "e.event",
    "failed": "e.failed",
    "changed": "e.changed",
    "playbook": "e.playbook",
    "play": "e.play",
    "task": "e.task",
    "role": "e.role",
    "job_remote_id": "e.job_id",
    "host_remote_id": "e.host_id",
    "host_name": "e.host_name",
}
_SERVICE_COLUMNS = {
    **_COLUMNS,
    "job_finished": "u.finished",
    "uuid": "e.uuid",
    "parent_uuid": "e.parent_uuid",
}


def events_query(
    db: Any, since: dt.datetime, until: dt.datetime, *, by: str, columns: dict[str, str]
) -> str:
    """Return the query for the events of jobs in the window of the column *by*."""
    from psycopg.rows import tuple_row

    window = f"{by} >= %(since)s and {by} < %(until)s"
    jobs = "main_jobhostsummary s join main_unifiedjob u on u.id = s.job_id"
    hours = f"select distinct date_trunc('hour', u.created, 'UTC') from {jobs} where {window} order by 1"  # noqa: S608 - constants of this module
    with db.cursor(row_factory=tuple_row) as cursor:
        cursor.execute(hours, {"since": since, "until": until})
        spans = _spans([row[0] for row in cursor])
    partitions = " or ".join(
        f"(e.job_created >= '{start.isoformat()}' and e.job_created < '{end.isoformat()}')"
        for start, end in spans
    )
    events = ", ".join(f"'{name}'" for name in _TASK_EVENTS)
    return f"""
    select encode(convert_to(e.event_data, 'UTF8'), 'hex'), {", ".join(columns.values())}
    from {jobs}
    join main_jobevent e
    on e.job_id = s.job_id and e.host_name = s.host_name and e.job_created = u.created
    where {window} and ({partitions or "false"}) and e.event in ({events})"""  # noqa: S608 - constants and times of ours


def _spans(hours: list[dt.datetime]) -> list[tuple[dt.datetime, dt.datetime]]:
    """Join hours that follow each other."""
    spans: list[tuple[dt.datetime, dt.datetime]] = []
    for hour in hours:
        if spans and spans[-1][1] == hour:
            spans[-1] = (spans[-1][0], hour + _HOUR)
        else:
            spans.append((hour, hour + _HOUR))
    return spans


def _fields(raw: bytes, names: tuple[str, ...]) -> bytes:
    try:
        data = json.loads(bytes.fromhex(raw.decode("ascii")))
    except (ValueError, RecursionError):
        data = {}
    if not isinstance(data, dict):
        data = {}
    result = data.get("res")
    result = result if isinstance(result, dict) else {}
    return encode_row([result.get(n) if n in _IN_RESULT else data.get(n) for n in names])[:-1]


def _query(db: Any, since: dt.datetime, until: dt.datetime) -> str:
    return events_query(db, since, until, by="s.modified", columns=_COLUMNS)


def _service_query(db: Any, since: dt.datetime, until: dt.datetime) -> str:
    return events_query(db, since, until, by="u.finished", columns=_SERVICE_COLUMNS)


main_jobevent: CollectorFactory = CopyCollector(
    key="main_jobevent",
    query=_query,
    columns=[*_COLUMNS, *_FIELDS],
    decode=lambda raw: _fields(raw, _FIELDS),
    doc="Collect results of tasks on hosts, by the time the host's summary was modified.",
).windowed()

main_jobevent_service: CollectorFactory = CopyCollector(
    key="main_jobevent_service",
    query=_service_query,
    columns=[*_SERVICE_COLUMNS, *_SERVICE_FIELDS],
    decode=lambda raw: _fields(raw, _SERVICE_FIELDS),
    doc="Collect results of tasks on hosts, by the time the job finished.",
).windowed()
