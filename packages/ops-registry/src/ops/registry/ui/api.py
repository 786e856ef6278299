"""The JSON API, as docs/registry-ui.md describes it. Everything here only reads."""

from __future__ import annotations

import dataclasses
import datetime as dt
import json
import math
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from starlette.concurrency import run_in_threadpool
from starlette.responses import Response, StreamingResponse
from starlette.routing import Route

from ops.foundation.errors import ValidationError
from ops.registry.ui.curves import MOST_POINTS, Axis, Curves
from ops.registry.ui.runs_view import TableView, whole
from ops.registry.ui.streams import live_changes, live_points

if TYPE_CHECKING:
    from collections.abc import Callable

    from starlette.requests import Request

    from ops.registry.context import MLOpsContext

__all__ = ["json_response", "routes"]

_MOST_RUNS, _MOST_METRICS = 100, 60


def json_response(content: Any, status: int = 200) -> Response:
    """Return *content* as JSON; NaN and infinities, which JSON has not, become null."""
    body = json.dumps(_plain(content), allow_nan=False, separators=(",", ":"))
    return Response(body, status, media_type="application/json")


def _plain(value: Any) -> Any:
    if isinstance(value, float):
        return value if math.isfinite(value) else None
    if isinstance(value, dt.datetime):
        return value.isoformat()
    if dataclasses.is_dataclass(value) and not isinstance(value, type):
        return {f.name: _plain(getattr(value, f.name)) for f in dataclasses.fields(value)}
    if isinstance(value, Mapping):
        return {str(key): _plain(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [_plain(item) for item in value]
    return value if isinstance(value, str | int | bool | None) else str(value)


def routes(context: MLOpsContext) -> list[Route]:
    """Return the routes of the API over one store."""
    tracker, registry = context.experiment_tracker, context.model_registry
    drawn = Curves(tracker)

    def experiments(_: Request) -> Any:
        return tracker.list_experiments()

    def runs(request: Request) -> Any:
        view = TableView.from_query(request.query_params)
        experiment_id, text = request.path_params["experiment_id"], view.filter or None
        offset = (view.page - 1) * view.size
        found = tracker.search_runs(
            experiment_id,
            filter=text,
            order_by=view.order or None,
            limit=view.size,
            offset=offset,
        )
        total = tracker.count_runs(experiment_id, filter=text)
        return {"runs": found, "total": total, "has_more": total > offset + len(found)}

    def run(request: Request) -> Any:
        return tracker.get_run(request.path_params["run_id"])

    def curve(request: Request) -> Response:
        """One metric; a run that is not there is a 404."""
        key, run_ids = request.path_params["key"], _runs(request)
        for run_id in run_ids:
            tracker.get_run(run_id)
        return _as_json(drawn.get(run_ids, [key], *_axis(request))[key])

    def curves(request: Request) -> Response:
        """Several metrics, which may have any name; runs that are not there are left out."""
        keys = list(dict.fromkeys(request.query_params.getlist("key")))
        if not 0 < len(keys) <= _MOST_METRICS:
            raise ValidationError(f"key names a metric, and stands 1 to {_MOST_METRICS} times.")
        body = drawn.encoded(_runs(request), keys, *_axis(request))
        return Response(body, media_type="application/json")

    def models(request: Request) -> Any:
        query = request.query_params
        return registry.search_models(query.get("filter") or None, query.get("order") or None, 1000)

    def versions(request: Request) -> Any:
        return registry.list_model_versions(request.path_params["name"])

    def health(_: Request) -> Any:
        return context.health.check_all().to_dict()

    async def stream(request: Request) -> Response:
        run_id = request.path_params["run_id"]
        await run_in_threadpool(tracker.get_run, run_id)  # a run that is not there is a 404
        history = request.query_params.get("history") != "0"
        events = live_points(tracker, run_id, history=history)
        return StreamingResponse(events, media_type="text/event-stream")

    async def changes(request: Request) -> Response:
        events = live_changes(tracker, _runs(request))
        return StreamingResponse(events, media_type="text/event-stream")

    return [
        Route("/api/experiments", _answering(experiments)),
        Route("/api/experiments/{experiment_id}/runs", _answering(runs)),
        Route("/api/runs/{run_id}", _answering(run)),
        Route("/api/runs/{run_id}/stream", stream),
        Route("/api/stream", changes),
        Route("/api/curves", curves),
        Route("/api/curves/{key:path}", curve),
        Route("/api/models", _answering(models)),
        Route("/api/models/{name:path}", _answering(versions)),
        Route("/api/health", _answering(health)),
    ]


def _runs(request: Request) -> list[str]:
    run_ids = [r for r in request.query_params.get("runs", "").split(",") if r]
    if not 0 < len(run_ids) <= _MOST_RUNS:
        raise ValidationError(f"runs names 1 to {_MOST_RUNS} runs, separated by commas.")
    return list(dict.fromkeys(run_ids))


def _axis(request: Request) -> tuple[Axis, int]:
    most = whole(request.query_params, "points", MOST_POINTS, 2, 100_000)
    return Axis.parse(request.query_params.get("x", "step")), most


def _as_json(curves: Any) -> Response:
    """Return numbers that are finite or None as they are: looking at each once more takes longer than the rest."""
    body = json.dumps(curves, allow_nan=False, separators=(",", ":"))
    return Response(body, media_type="application/json")


def _answering(make: Callable[[Request], Any]) -> Callable[[Request], Response]:
    return lambda request: json_response(make(request))
