"""Live points: what a run logs now, in whatever process, as server-sent events.

Each event is a list of [metric, step, value, seconds since the epoch]; the last one is called `end`
and holds the status, ERASED where there is no such run any more. A comment every few seconds keeps the connection open and notices a browser
that went away.
"""

from __future__ import annotations

import asyncio
import json
import math
from typing import TYPE_CHECKING, Any

from starlette.concurrency import run_in_threadpool

from ops.registry.errors import NotFoundError

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

    from ops.registry.records import Metric
    from ops.registry.tracking.tracker import ExperimentTracker

__all__ = ["live_points"]

_PAUSE_SECONDS = 0.5
_QUIET_ROUNDS = 20


async def live_points(
    tracker: ExperimentTracker,
    run_id: str,
    *,
    history: bool = True,
    pause_seconds: float = _PAUSE_SECONDS,
) -> AsyncIterator[str]:
    """Yield the events of a run until it is over, or erased.

    The first ones have all points so far, some ten thousand each; without *history* the latest of each metric.
    """
    follower = await run_in_threadpool(tracker.follower, run_id)
    quiet = 0
    while True:
        try:
            points, over = await run_in_threadpool(follower.poll)
            status = str((await run_in_threadpool(tracker.get_run, run_id)).status) if over else ""
        except NotFoundError:
            points, over, status = [], True, "ERASED"
        if points:
            shown = points if history else {point.key: point for point in points}.values()
            history = history or not follower.is_behind
            yield f"data: {json.dumps(list(map(_shown, shown)), allow_nan=False)}\n\n"
            quiet = 0
        if over:
            yield f"event: end\ndata: {json.dumps(status)}\n\n"
            return
        if follower.is_behind:
            continue
        quiet += 1
        if quiet % _QUIET_ROUNDS == 0:
            yield ": nothing new\n\n"
        await asyncio.sleep(pause_seconds)


def _shown(point: Metric) -> list[Any]:
    value = point.value if math.isfinite(point.value) else None
    return [point.key, point.step, value, point.timestamp.timestamp()]
