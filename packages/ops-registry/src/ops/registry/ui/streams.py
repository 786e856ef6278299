"""Live points: what runs log now, in whatever process, as server-sent events.

`live_points` has the points of one run, for programs; `live_changes` which metrics of many runs have new ones, for
pages, which ask for the curves that are in sight.

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
    from collections.abc import AsyncIterator, Sequence

    from ops.registry.records import Metric, Run
    from ops.registry.tracking.tracker import ExperimentTracker

__all__ = ["live_changes", "live_points"]

_PAUSE_SECONDS = 0.5
_QUIET_ROUNDS = 20
_GOING_ON = ("RUNNING", "SCHEDULED")


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


async def live_changes(
    tracker: ExperimentTracker, run_ids: Sequence[str], *, pause_seconds: float = _PAUSE_SECONDS
) -> AsyncIterator[str]:
    """Yield which metrics of which runs have new points, ``{metric: [run, ...]}``, until all runs are over.

    The first event has all metrics. An event ``end`` is ``[run, status]``, ERASED where the run is not there any
    more; after the last one comes ``over``.
    """
    counts: dict[str, dict[str, int]] = {run_id: {} for run_id in run_ids}
    quiet = 0
    while counts:
        changed: dict[str, list[str]] = {}
        ended: list[tuple[str, str]] = []
        for run_id in list(counts):
            run = await run_in_threadpool(_run_or_none, tracker, run_id)
            if run is not None:
                now = {key: summary.count for key, summary in run.metric_summaries.items()}
                for key, count in now.items():
                    if count != counts[run_id].get(key):
                        changed.setdefault(key, []).append(run_id)
                counts[run_id] = now
            status = "ERASED" if run is None else str(run.status)
            if status not in _GOING_ON:
                ended.append((run_id, status))
                del counts[run_id]
        if changed:
            yield f"data: {json.dumps(changed)}\n\n"
        for end in ended:
            yield f"event: end\ndata: {json.dumps(end)}\n\n"
        quiet = 0 if changed or ended else quiet + 1
        if quiet and quiet % _QUIET_ROUNDS == 0:
            yield ": nothing new\n\n"
        if counts:
            await asyncio.sleep(pause_seconds)
    yield "event: over\ndata: null\n\n"


def _run_or_none(tracker: ExperimentTracker, run_id: str) -> Run | None:
    try:
        return tracker.get_run(run_id)
    except NotFoundError:
        return None


def _shown(point: Metric) -> list[Any]:
    value = point.value if math.isfinite(point.value) else None
    return [point.key, point.step, value, point.timestamp.timestamp()]
