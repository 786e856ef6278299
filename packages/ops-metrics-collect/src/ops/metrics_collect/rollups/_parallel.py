"""Rolling up on an executor: a tarball a task, merged here in the order of the files.

A row may be in two tarballs, as after a delivery that was repeated in another package, or because it has
changed. The tasks cannot know of each other, but each hands back its rows with ids as they are; which
version counts is decided here. So the result is that of one process.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from ops.foundation.helpers import LazyImport

if TYPE_CHECKING:
    from concurrent.futures import Executor

    from ops.metrics_collect.extractor import Extractor
    from ops.metrics_collect.rollups._base import Rollup

__all__ = ["add_in_parallel"]

distributed: Any = LazyImport("distributed", "ops-metrics-collect[dask]")


def add_in_parallel(rollup: Rollup, extractor: Extractor, executor: Executor | str) -> None:
    """Add the tarballs of *extractor* to *rollup* with the work done by *executor*."""
    if isinstance(executor, str):
        with distributed.Client(executor) as client:
            add_in_parallel(rollup, extractor, client.get_executor())
        return
    blank = rollup._emptied()  # noqa: SLF001 - a part of the class
    tasks = [executor.submit(_rolled, blank, part) for part in extractor.split()]
    for task in tasks:
        partial, broken = task.result()
        extractor.broken |= broken
        if rollup._sources.are_new(partial.sources):  # noqa: SLF001 - a part of the class
            rollup._take_over(partial)  # noqa: SLF001 - a part of the class


def _rolled(blank: Rollup, extractor: Extractor) -> tuple[Rollup, dict[str, str]]:
    """Run in a worker: return the rollup of one tarball, and what was broken."""
    rollup = blank._emptied()  # noqa: SLF001 - a part of the class
    rollup.add(extractor)
    return rollup, extractor.broken
