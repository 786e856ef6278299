"""Rolling up on an executor: a tarball a task, merged here in the order of the files.

A row may be in two tarballs, as after a delivery that was repeated in another package. The tasks cannot
know of each other, but each hands back the ids that it counted; when some of them are known here
already, that one tarball is rolled up again without these. So the result is that of one process.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from ops.foundation.helpers import LazyImport
from ops.metrics_collect.rollups._sources import Sources

if TYPE_CHECKING:
    from collections.abc import Mapping
    from concurrent.futures import Executor

    from ops.metrics_collect.extractor import Extractor
    from ops.metrics_collect.rollups._base import Rollup
    from ops.metrics_collect.rollups._seen import SeenIds

__all__ = ["add_in_parallel"]

distributed: Any = LazyImport("distributed", "ops-metrics-collect[dask]")


def add_in_parallel(rollup: Rollup, extractor: Extractor, executor: Executor | str) -> None:
    """Add the tarballs of *extractor* to *rollup* with the work done by *executor*."""
    if isinstance(executor, str):
        with distributed.Client(executor) as client:
            add_in_parallel(rollup, extractor, client.get_executor())
        return
    blank = _blank(rollup)
    tasks = [(part, executor.submit(_rolled, blank, part, {})) for part in extractor.split()]
    for part, task in tasks:
        partial, broken = task.result()
        extractor.broken |= broken
        if not rollup._sources.are_new(partial.sources):  # noqa: SLF001 - a part of the class
            continue
        known = {
            space: ids.intersection(rollup._seen[space])  # noqa: SLF001 - a part of the class
            for space, ids in partial._seen.items()  # noqa: SLF001 - a part of the class
            if space in rollup._seen  # noqa: SLF001 - a part of the class
        }
        if any(known.values()):
            partial, _ = executor.submit(_rolled, blank, part, known).result()
        rollup._take_over(partial)  # noqa: SLF001 - a part of the class


def _blank(rollup: Rollup) -> Rollup:
    # Not copy.copy: what is on its way to another process is grouped first, all of it.
    blank: Rollup = object.__new__(type(rollup))
    vars(blank).update(vars(rollup))
    blank._table = rollup._schema.empty_table()  # noqa: SLF001 - a part of the class
    blank._pending, blank._pending_bytes = [], 0  # noqa: SLF001 - a part of the class
    blank._spill, blank._sources, blank._seen = None, Sources(), {}  # noqa: SLF001 - a part of the class
    return blank


def _rolled(
    blank: Rollup, extractor: Extractor, known: Mapping[str, SeenIds]
) -> tuple[Rollup, dict[str, str]]:
    """Run in a worker: return the rollup of one tarball, and what was broken."""
    rollup = _blank(blank)
    rollup._seen = dict(known)  # noqa: SLF001 - a part of the class
    rollup.add(extractor)
    return rollup, extractor.broken
