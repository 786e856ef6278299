"""The pages: addresses, what each shows, and what a click may change."""

from __future__ import annotations

import contextlib
import dataclasses
import itertools
import pathlib
from typing import TYPE_CHECKING, Any
from urllib.parse import quote

from jinja2 import Environment, PackageLoader, StrictUndefined
from starlette.applications import Starlette
from starlette.exceptions import HTTPException
from starlette.middleware import Middleware
from starlette.responses import HTMLResponse, StreamingResponse
from starlette.routing import Mount, Route
from starlette.staticfiles import StaticFiles

from ops.foundation.errors import OpsError, PathEscapesRootError, ValidationError
from ops.registry.errors import NotFoundError
from ops.registry.records import ModelStage
from ops.registry.ui import api
from ops.registry.ui.changes import NOTE, REASON, Changes
from ops.registry.ui.chart_view import ChartView, group_fields, listed
from ops.registry.ui.comparisons import compare
from ops.registry.ui.downloads import download, sandboxed
from ops.registry.ui.importance import importance
from ops.registry.ui.lineage import origin_of
from ops.registry.ui.lineage_graph import lineage_graph
from ops.registry.ui.previews import preview
from ops.registry.ui.run_csv import csv_of_runs
from ops.registry.ui.run_files import RunEntry, RunFiles
from ops.registry.ui.runs_view import (
    CHART_SIZES,
    PAGE_SIZES,
    SUMMARIES,
    TableView,
    columns_of,
    page_of_runs,
    runs_of,
)
from ops.registry.ui.saved_views import views_of
from ops.registry.ui.security import Gate
from ops.registry.ui.texts import FILTERS
from ops.registry.ui.trace_pages import TracePages
from ops.registry.ui.version_diffs import chosen_versions, diff, version_metrics

if TYPE_CHECKING:
    from collections.abc import Iterable

    from starlette.requests import Request
    from starlette.responses import Response

    from ops.registry.context import MLOpsContext
    from ops.registry.records import Run

__all__ = ["create_app"]

_MOST_COMPARED = 100
_MOST_METRICS = 12
_AUDIT_ENTRIES = 500
_MOST_FILES, _MOST_ENTRIES = 200, 1000
_FIELDS = ("name", "status", "start_time", "end_time", "duration_seconds", "run_id")


def create_app(
    context: MLOpsContext,
    *,
    token: str | None = None,
    allow_writes: bool = False,
    hosts: Iterable[str] = (),
) -> Starlette:
    """Return the application over the store of *context*; see `security` for who may ask."""
    pages = _Pages(context, allow_writes=allow_writes)
    return Starlette(
        routes=[
            Route("/", pages.home),
            Route("/experiments/{experiment_id}", pages.runs),
            Route("/experiments/{experiment_id}/charts", pages.workspace),
            Route("/experiments/{experiment_id}/runs.csv", pages.csv),
            Route("/runs/{run_id}", pages.run),
            Route("/runs/{run_id}/artifacts/{path:path}", pages.artifact),
            Route("/runs/{run_id}/files/{path:path}", pages.file),
            Route("/runs/{run_id}/sandbox/{path:path}", pages.sandbox),
            Route("/compare", pages.compare),
            Route("/models", pages.models),
            Route("/models/{name:path}", pages.model, methods=["GET"]),
            *Changes(context).routes(),
            *pages.traces.routes(),
            Route("/audit", pages.audit),
            Route("/health", pages.health),
            *api.routes(context),
            Route("/api/importance", pages.importance),
            Mount("/static", StaticFiles(directory=pathlib.Path(__file__).parent / "static")),
        ],
        middleware=[Middleware(Gate, hosts=hosts, token=token, allow_writes=allow_writes)],
        exception_handlers={OpsError: pages.failed, HTTPException: pages.failed},
    )


class _Pages:
    """Handlers; plain functions, which Starlette runs in threads, since the store blocks."""

    def __init__(self, context: MLOpsContext, *, allow_writes: bool) -> None:
        self._context = context
        self._tracker = context.experiment_tracker
        self._registry = context.model_registry
        self._templates = Environment(
            loader=PackageLoader("ops.registry.ui"), autoescape=True, undefined=StrictUndefined
        )
        self._templates.filters.update(FILTERS)
        store = str(context.path)
        if context.config.backend_type != "local":
            store = (
                f"{context.config.backend_type}: {context.config.catalog}.{context.config.schema}"
            )
        self.traces = TracePages(context, self.show)
        self._templates.globals.update(
            allow_writes=allow_writes, store=store, has_traces=self.traces.are_kept
        )

    def show(
        self, request: Request, page_name: str, status: int = 200, /, **values: Any
    ) -> Response:
        """Return a page made of a template."""
        template = self._templates.get_template(page_name)
        text = template.render(request=request, csrf=request.state.csrf, **values)
        return HTMLResponse(
            text.encode("utf-8", "replace"), status
        )  # names of files may be no text

    def home(self, request: Request) -> Response:
        """List the experiments."""
        every = self._tracker.list_experiments(include_deleted=True)
        deleted = request.query_params.get("deleted") == "1"
        found = [e for e in every if deleted or e.deleted_at is None]
        newest = {
            e.experiment_id: self._tracker.search_runs(
                e.experiment_id, order_by="start_time DESC", limit=1
            )
            for e in found
        }
        counts = {e.experiment_id: self._tracker.count_runs(e.experiment_id) for e in found}
        return self.show(
            request,
            "home.html",
            experiments=found,
            newest=newest,
            counts=counts,
            deleted=deleted,
            hidden=len(every) - len(found),
        )

    def runs(self, request: Request) -> Response:
        """Show the table of runs; for htmx only the table itself."""
        experiment = self._tracker.get_experiment(request.path_params["experiment_id"])
        problem, status = None, 200
        try:
            view = TableView.from_query(request.query_params)
            page = page_of_runs(self._tracker, experiment.experiment_id, view)
        except ValidationError as error:  # a search that is not right yet
            problem, status, view, page = str(error), 400, TableView(), None
            view = TableView(filter=request.query_params.get("filter", ""))
        partial = request.headers.get("hx-request") == "true"
        return self.show(
            request,
            "_runs.html" if partial else "runs.html",
            200 if partial else status,
            experiment=experiment,
            saved=views_of(experiment),
            view=view,
            page=page,
            names=[] if page is None else [*_FIELDS, *page.all_columns],
            problem=problem,
            sizes=PAGE_SIZES,
            summaries=SUMMARIES,
        )

    def csv(self, request: Request) -> Response:
        """Send the table of runs, all pages of it."""
        experiment_id = request.path_params["experiment_id"]
        experiment = self._tracker.get_experiment(experiment_id)
        lines = csv_of_runs(
            self._tracker, experiment_id, TableView.from_query(request.query_params)
        )
        first = next(lines)  # a wrong search fails here, and not amid the answer
        name = quote(f"{experiment.name}.csv", safe="", errors="replace")
        headers = {"Content-Disposition": f"attachment; filename*=utf-8''{name}"}
        text = itertools.chain([first], lines)
        return StreamingResponse(text, media_type="text/csv", headers=headers)

    def workspace(self, request: Request) -> Response:
        """Show the charts of the runs that a search finds, page by page."""
        experiment = self._tracker.get_experiment(request.path_params["experiment_id"])
        problem, view, charts = None, TableView(), ChartView()
        runs: list[Run] = []
        total = 0
        try:
            view = TableView.from_query(request.query_params)
            charts = ChartView.from_query(request.query_params)
            view = dataclasses.replace(view, size=min(view.size, CHART_SIZES[-1]))
            runs, total = runs_of(self._tracker, experiment.experiment_id, view)
        except ValidationError as error:  # a search that is not right yet
            problem = str(error)
            view = dataclasses.replace(view, filter=request.query_params.get("filter", ""))
        return self.show(
            request,
            "workspace.html",
            400 if problem else 200,
            experiment=experiment,
            saved=views_of(experiment),
            view=view,
            charts=charts,
            problem=problem,
            rows=listed(runs, charts),
            metric_names=sorted({key for run in runs for key in run.metrics}),
            fields=group_fields(runs),
            names=[*_FIELDS, *columns_of(runs)],
            total=total,
            sizes=CHART_SIZES,
        )

    def run(self, request: Request) -> Response:
        """Show one run."""
        run = self._tracker.get_run(request.path_params["run_id"])
        parent = None
        files = self._files_of(run)
        traces, trace_count = self.traces.of_run(run.experiment_id, run.run_id)
        charts = dataclasses.replace(ChartView.from_query(request.query_params), group="")
        entries = list(itertools.islice(files.walk(), _MOST_FILES + 1))
        if run.parent_run_id is not None:
            with contextlib.suppress(NotFoundError):  # it was erased
                parent = self._tracker.get_run(run.parent_run_id)
        return self.show(
            request,
            "run.html",
            run=run,
            charts=charts,
            rows=listed([run], charts),
            note=run.tags.get(NOTE, ""),
            tags={key: value for key, value in run.tags.items() if key != NOTE},
            metric_names=list(run.metrics),
            experiment=self._tracker.get_experiment(run.experiment_id),
            parent=parent,
            children=self._tracker.list_child_runs(run.run_id),
            files=entries[:_MOST_FILES],
            more_files=len(entries) > _MOST_FILES,
            pictures=files.pictures(entries),
            traces=traces,
            trace_count=trace_count,
            models=self._registry.search_models(f"run_id = '{run.run_id}'"),
        )

    def artifact(self, request: Request) -> Response:
        """Send a file of a run, or a folder of it packed, always as a download: it may be anything."""
        return download(self._files(request), request.path_params["path"])

    def sandbox(self, request: Request) -> Response:
        """Send an HTML file to the frame that shows it."""
        destination = request.headers.get("sec-fetch-dest")
        path = request.path_params["path"]
        return sandboxed(self._files(request), path, destination=destination)

    def file(self, request: Request) -> Response:
        """Show what is in a folder of a run, or the beginning of a file."""
        files, path = self._files(request), request.path_params["path"].rstrip("/")
        entries = files.listing(path)
        if entries:
            shown = None
        else:
            with contextlib.closing(files.find(path)) as found:
                shown = None if found.path.is_dir() else preview(found.path)
                size = found.path.stat().st_size
            entries = [RunEntry(path, None if shown is None else size)]
        return self.show(
            request,
            "files.html",
            run=files.run,
            experiment=self._tracker.get_experiment(files.run.experiment_id),
            path=path,
            entries=entries[:_MOST_ENTRIES],
            more=len(entries[_MOST_ENTRIES:]),
            preview=shown,
        )

    def _files(self, request: Request) -> RunFiles:
        return self._files_of(self._tracker.get_run(request.path_params["run_id"]))

    def _files_of(self, run: Run) -> RunFiles:
        is_local = self._context.config.backend_type == "local"
        return RunFiles(self._tracker, run, is_local=is_local)

    def compare(self, request: Request) -> Response:
        """Show runs side by side."""
        found = self._chosen(request)
        experiments = dict.fromkeys(run.experiment_id for run in found)
        charts = ChartView.from_query(request.query_params)
        return self.show(
            request,
            "compare.html",
            runs=found,
            experiments=[self._tracker.get_experiment(each) for each in experiments],
            comparison=compare(found),
            charts=charts,
            rows=listed(found, charts),
            metric_names=list(dict.fromkeys(key for run in found for key in run.metrics)),
        )

    def importance(self, request: Request) -> Response:
        """Give how much each parameter of runs matters for a metric, by a forest."""
        found = self._chosen(request)
        return api.json_response(importance(found, request.query_params.get("metric", "")))

    def _chosen(self, request: Request) -> list[Run]:
        run_ids = [r for r in request.query_params.get("runs", "").split(",") if r]
        if not 0 < len(run_ids) <= _MOST_COMPARED:
            raise ValidationError(f"Choose 1 to {_MOST_COMPARED} runs to compare.")
        return [self._tracker.get_run(run_id) for run_id in dict.fromkeys(run_ids)]

    def models(self, request: Request) -> Response:
        """List the models, each with its newest version and the one in production."""
        text = request.query_params.get("filter", "").strip()
        problem, names = None, self._registry.list_models()
        try:
            chosen = {v.name for v in self._registry.search_models(text or None)}
            names = [name for name in names if name in chosen]
        except ValidationError as error:
            problem, names = str(error), []
        rows = [(name, self._registry.list_model_versions(name)) for name in names]
        return self.show(request, "models.html", rows=rows, text=text, problem=problem)

    def model(self, request: Request) -> Response:
        """Show the versions of a model."""
        name = request.path_params["name"]
        versions = self._registry.list_model_versions(name)
        if not versions:
            raise HTTPException(404, f"Model {name!r} has no version.")
        metrics = version_metrics(versions)
        origins = {v.version: origin_of(v, self._tracker) for v in versions}
        numbers = [n for n in request.query_params.getlist("compare") if n]
        compared = chosen_versions(versions, numbers)
        target = None
        with contextlib.suppress(NotFoundError):  # no version has been in production before
            target = self._registry.rollback_target(name)
        return self.show(
            request,
            "model.html",
            name=name,
            compared=compared,
            differences=diff(compared),
            target=target,
            current=next((v for v in versions if v.stage == ModelStage.PRODUCTION), None),
            versions=versions[::-1],
            metrics=metrics[:_MOST_METRICS],
            more_metrics=len(metrics[_MOST_METRICS:]),
            origins=origins,
            graph=lineage_graph(versions, origins),
            stages=list(ModelStage),
            reasons={v.version: v.metadata.tags.get(REASON, "") for v in versions},
        )

    def audit(self, request: Request) -> Response:
        """Show the newest entries of the audit log."""
        log = self._context.operations.audit
        entries = [] if log is None else log.query(limit=_AUDIT_ENTRIES)[::-1]
        return self.show(
            request, "audit.html", entries=entries, audited=log is not None, most=_AUDIT_ENTRIES
        )

    def health(self, request: Request) -> Response:
        """Run the health checks and show them."""
        report = self._context.health.check_all()
        return self.show(request, "health.html", report=report.to_dict())

    async def failed(self, request: Request, error: Exception) -> Response:
        """Say what was wrong: as JSON to programs, as a page to people."""
        status = 500
        if isinstance(error, HTTPException):
            status, message = error.status_code, str(error.detail)
        else:
            message = str(error)
            status = 404 if isinstance(error, NotFoundError) else status
            status = 400 if isinstance(error, ValidationError | PathEscapesRootError) else status
        if request.url.path.startswith("/api/"):
            return api.json_response(
                {"error": message, "code": str(getattr(error, "code", status))}, status
            )
        return self.show(request, "failed.html", status, message=message, number=status)
