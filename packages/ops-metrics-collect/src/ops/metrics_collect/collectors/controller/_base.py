"""How the collectors of the controller are made: a query each, copied to parts in a snapshot."""

from __future__ import annotations

import dataclasses
from typing import TYPE_CHECKING, Any, TypeAlias

from ops.metrics_collect.collectors._base import CollectorFactory
from ops.metrics_collect.collectors._copy import PART_BYTES, TIMEOUT_SECONDS, copy_to_parts
from ops.metrics_collect.snapshots import snapshot

if TYPE_CHECKING:
    import datetime as dt
    import os
    from collections.abc import Callable, Sequence

    from ops.metrics_collect.collectors._copy import Format

__all__ = ["JOB_COLUMNS", "CopyCollector", "job_tables"]

Query: TypeAlias = "str | Callable[[Any, dt.datetime, dt.datetime], str]"

#: What a job belongs to; needs `job_tables`. A project is a template, too.
JOB_COLUMNS = """u.created as job_created, u.id as job_remote_id,
    u.unified_job_template_id as job_template_remote_id, coalesce(t.name, u.name) as job_template_name,
    i.id as inventory_remote_id, i.name as inventory_name,
    o.id as organization_remote_id, o.name as organization_name,
    p.id as project_remote_id, p.name as project_name"""


def job_tables(*, job: str, inventory: str, organization: str) -> str:
    """Return the joins from a job's id to what it belongs to."""
    return f"""
    join main_unifiedjob u on u.id = {job}
    left join main_job j on j.unifiedjob_ptr_id = u.id
    left join main_unifiedjobtemplate t on t.id = u.unified_job_template_id
    left join main_unifiedjobtemplate p on p.id = j.project_id
    left join main_inventory i on i.id = {inventory}
    left join main_organization o on o.id = {organization}"""


@dataclasses.dataclass(frozen=True, slots=True, kw_only=True)
class CopyCollector:
    """A query with what is needed to make a collector of it.

    With *decode*, the first column of the query is hex-coded text from which it makes the last
    columns of the files; *columns* names all of the files' columns then.
    """

    key: str
    query: Query
    doc: str
    version: str = "1.0"
    primary_key: str = "id"
    columns: Sequence[str] | None = None
    decode: Callable[[bytes], bytes] | None = None

    def windowed(self) -> CollectorFactory:
        """Return the factory of a collector with an interval: `since` and `until` of the query."""

        def gather(
            *,
            db: Any,
            since: dt.datetime,
            until: dt.datetime,
            output_dir: str | os.PathLike[str] | None = None,
            output_format: Format = "csv",
            max_part_bytes: int = PART_BYTES,
            timeout_seconds: float = TIMEOUT_SECONDS,
        ) -> list[str]:
            interval = {"since": since, "until": until}
            with snapshot(db, statement_timeout_seconds=timeout_seconds):
                query = self.query if isinstance(self.query, str) else self.query(db, since, until)
                return self._copy(
                    db, query, interval, output_dir, output_format, max_part_bytes, timeout_seconds
                )

        return self._factory(gather)

    def current(self) -> CollectorFactory:
        """Return the factory of a collector of what there is now."""
        query = str(self.query)

        def gather(
            *,
            db: Any,
            output_dir: str | os.PathLike[str] | None = None,
            output_format: Format = "csv",
            max_part_bytes: int = PART_BYTES,
            timeout_seconds: float = TIMEOUT_SECONDS,
        ) -> list[str]:
            return self._copy(
                db, query, {}, output_dir, output_format, max_part_bytes, timeout_seconds
            )

        return self._factory(gather)

    def _copy(
        self,
        db: Any,
        query: str,
        parameters: dict[str, Any],
        folder: str | os.PathLike[str] | None,
        output_format: Format,
        max_bytes: int,
        timeout_seconds: float,
    ) -> list[str]:
        return copy_to_parts(
            db,
            self.key,
            query,
            parameters,
            folder=folder,
            max_bytes=max_bytes,
            output_format=output_format,
            timeout_seconds=timeout_seconds,
            columns=self.columns,
            decode=self.decode,
        )

    def _factory(self, gather: Callable[..., list[str]]) -> CollectorFactory:
        gather.__name__ = gather.__qualname__ = self.key
        gather.__doc__ = self.doc
        return CollectorFactory(
            gather, key=self.key, version=self.version, primary_key=self.primary_key
        )
