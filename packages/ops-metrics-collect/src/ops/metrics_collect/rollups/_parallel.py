"""Rolling up on an executor: a tarball a task, merged here in the order of the files.

A row may be in two tarballs, as after a delivery that was repeated in another package, or because it has
changed. The tasks cannot know of each other, but each hands back its rows with ids as they are; which
version counts is decided here. So the result is that of one process.

A worker may die. What has come back by then is in the rollup, tarball by tarball; adding all again adds
the others. (A cluster of Dask does that by itself: another worker gets the task.)
"""

from __future__ import annotations

from concurrent.futures import BrokenExecutor
from typing import TYPE_CHECKING, Any

from ops.foundation.helpers import LazyImport
from ops.metrics_collect.errors import StateError

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
        try:
            partial, broken = task.result()
        except BrokenExecutor as error:
            raise StateError(
                f"A worker died while it rolled up ({error}).",
                suggestions=(
                    "Look for a lack of memory.",
                    "Then add the same tarballs again, with a new executor: none is added twice.",
                ),
            ) from error
        extractor.broken |= broken
        if rollup._sources.are_new(partial.sources):  # noqa: SLF001 - a part of the class
            rollup._take_over(partial)  # noqa: SLF001 - a part of the class


def _rolled(blank: Rollup, extractor: Extractor) -> tuple[Rollup, dict[str, str]]:
    """Run in a worker: return the rollup of one tarball, and what was broken."""
    rollup = blank._emptied()  # noqa: SLF001 - a part of the class
    rollup.add(extractor)
    return rollup, extractor.broken
