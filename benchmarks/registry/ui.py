"""What a reader waits for in the web UI: pages of large stores in headless Chromium, and a point that a running program logs.

Each figure is what the browser itself measures, from the click to the last thing drawn, with the real server in a process of
its own. The store has 10 000 runs in one experiment, 50 runs of 20 metrics in another, and traces in a third.
"""

from __future__ import annotations

import contextlib
import dataclasses
import json
import pathlib
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from typing import Any

from benchmarks.harness import Case, Measure, Target
from benchmarks.registry.scale import _Ours
from ops.registry import MLOpsConfig, MLOpsContext
from ops.registry.trace_copies import traces_of

RUNS, CURVES, CHARTS, POINTS = 10_000, 50, 20, 200
TRACES, SPANS = 10_000, 10_000
_START = 1_790_000_000_000  # milliseconds
_MS = 1_000_000
#: So tall that all charts are in sight: those out of sight are drawn when they come into it.
_WINDOW = {"width": 1600, "height": 3000}
_OPTIONS = ["--no-sandbox", "--disable-gpu", "--disable-background-networking"]

_PAINTED = """() => {
  const navigation = performance.getEntriesByType("navigation")[0];
  const paint = performance.getEntriesByName("first-contentful-paint")[0];
  return paint && navigation.domContentLoadedEventEnd ? Math.max(paint.startTime, navigation.domContentLoadedEventEnd) : null;
}"""
#: Keeps what is drawn, whose numbers are in no document.
_KEPT_PLOTS = """
window.plots = [];
Object.defineProperty(window, "uPlot", {
  configurable: true,
  get() { return this.drawing; },
  set(made) { this.drawing = new Proxy(made, { construct: (kind, given) => {
    window.plots.push(new kind(...given));
    return window.plots.at(-1);
  } }); },
});
"""
_DRAWN = """([charts, curves]) => {
  const whole = window.plots.filter((plot) => plot.series.length > curves && plot.ctx.canvas.isConnected);
  return whole.length >= charts ? performance.now() : null;
}"""
_ARRIVED = """(value) => window.plots.some((plot) => plot.data.some((ys) => ys && ys.at(-1) === value)) ? Date.now() : null"""


def cases() -> Iterator[Case]:
    """Yield the cases; without Playwright and Chromium there is nothing to measure."""
    program = shutil.which("chromium") or shutil.which("chromium-browser")
    try:
        from playwright.sync_api import sync_playwright
    except ImportError:
        program = None
    if program is None:
        print("pip install playwright starlette uvicorn jinja2; apt-get install chromium")
        return
    with (
        tempfile.TemporaryDirectory() as folder,
        _filled(pathlib.Path(folder) / "store") as store,
        _server(store.path) as address,
        sync_playwright() as driver,
        contextlib.closing(
            driver.chromium.launch(executable_path=program, args=_OPTIONS)
        ) as chromium,
    ):
        reader = _Reader(chromium, address, store)
        yield _case(
            f"first page of {RUNS} runs", reader.table, 0.2, {"a page of one word": reader.word}
        )
        yield _case(f"last page of {RUNS} runs, sorted by a metric", reader.sorted_table, None)
        yield _case(f"workspace of {CURVES} runs and {CHARTS} charts", reader.workspace, 1.0)
        yield _case("a live point, from the call that logs it to the chart", reader.live, 1.0)
        yield _case(f"first page of {TRACES} traces", reader.traces, None)
        yield _case(f"a trace of {SPANS} spans", reader.trace, None)


def _case(
    name: str,
    call: Callable[[], float],
    most: float | None,
    others: dict[str, Callable[[], float]] | None = None,
) -> Case:
    targets = () if most is None else (Target(at_most=most),)
    return Case(
        name,
        {"ops.registry": call, **(others or {})},
        targets,
        measure=Measure.RETURNED,
        rounds=7,
        packages=("playwright", "starlette", "uvicorn"),
    )


@dataclasses.dataclass
class _Store:
    path: pathlib.Path
    tracker: Any
    many: str
    curves: str
    traced: str
    live: str


@contextlib.contextmanager
def _filled(path: pathlib.Path) -> Iterator[_Store]:
    many = _Ours(path, RUNS).experiment
    with MLOpsContext(MLOpsConfig(storage_path=str(path))) as context:
        tracker = context.experiment_tracker
        curves = tracker.create_experiment("curves").experiment_id
        for number in range(CURVES):
            with tracker.run_context(curves, f"run {number}") as run:
                for step in range(POINTS):
                    value = 1 / (step + 1) + number
                    points = [(f"m{one}", value + one, step) for one in range(CHARTS)]
                    tracker.log_batch(run.run_id, points)
        traced = tracker.create_experiment("traced").experiment_id
        _trace(context, traced)
        live = tracker.start_run(curves, "live").run_id
        tracker.log_metric(live, "m0", 0.0, 0)
        yield _Store(path, tracker, many, curves, traced, live)


def _trace(context: MLOpsContext, experiment_id: str) -> None:
    book = traces_of(context)
    info: dict[str, Any] = {
        "state": "OK",
        "client": None,
        "request": '{"question": "what?"}',
        "response": "42",
    }
    info |= {"metadata": {}, "usage": {}, "cost": {}, "assessments": [], "final": True}
    info |= {"tags": {"mlflow.traceName": "answer"}, "duration": 100}
    for first in range(0, TRACES, 1000):
        frames = [
            {"op": "start", "id": f"tr-{number:032x}", "info": info | {"time": _START + number}}
            for number in range(first, first + 1000)
        ]
        book.append(experiment_id, *frames)
    seen: dict[str, Any] = {"time": _START, "end": _START + SPANS, "status": "OK", "request": None}
    seen |= {"response": None, "usage": None, "cost": None, "tags": {}, "defaults": {}}
    content = json.dumps({"attributes": {"mlflow.spanInputs": json.dumps("x" * 400)}}).encode()
    rows = [
        [
            f"{number:016x}",
            f"{number // 3:016x}" if number else None,
            f"step {number}",
            "TOOL",
            "OK",
            (_START + number) * _MS,
            (_START + number + 50) * _MS,
            len(content),
            None,
        ]
        for number in range(SPANS)
    ]
    head = {"op": "spans", "id": "tr-large", "seen": seen, "n": rows}
    book.append_spans(experiment_id, [(head, [content] * SPANS)])
    book.close()


@contextlib.contextmanager
def _server(path: pathlib.Path) -> Iterator[str]:
    command = [sys.executable, "-m", "ops.registry", "ui", "--path", str(path), "--port", "0"]
    with subprocess.Popen(command, stderr=subprocess.PIPE, text=True) as process:
        assert process.stderr
        line = process.stderr.readline()
        yield line.removeprefix("Open ").strip()
        process.send_signal(signal.SIGTERM)


class _Reader:
    """A browser on the server; each method returns seconds."""

    def __init__(self, chromium: Any, address: str, store: _Store) -> None:
        self._chromium, self._address, self._store = chromium, address, store
        self._step = 0

    def table(self) -> float:
        return self._painted(f"experiments/{self._store.many}")

    def word(self) -> float:
        """Return what this browser takes for any page at all."""
        return self._painted("data:text/html,<p>word")

    def sorted_table(self) -> float:
        last = RUNS // 50
        return self._painted(f"experiments/{self._store.many}?order=metrics.m1+DESC&page={last}")

    def traces(self) -> float:
        return self._painted(f"experiments/{self._store.traced}/traces")

    def trace(self) -> float:
        return self._painted("traces/tr-large")

    def workspace(self) -> float:
        query = "filter=name+LIKE+'run%25'&size=50"
        with self._page(f"experiments/{self._store.curves}/charts?{query}") as page:
            drawn = page.wait_for_function(_DRAWN, arg=[CHARTS, CURVES], timeout=60_000)
            return float(drawn.json_value()) / 1000

    def live(self) -> float:
        with self._page(f"runs/{self._store.live}") as page:
            page.wait_for_function("() => window.plots.length > 0", timeout=60_000)
            page.wait_for_timeout(1000)  # the stream of new points is open
            self._step += 1
            value = self._step + 0.5
            began = time.time()
            self._store.tracker.log_metric(self._store.live, "m0", value, self._step)
            arrived = page.wait_for_function(_ARRIVED, arg=value, timeout=60_000)
            return float(arrived.json_value()) / 1000 - began

    def _painted(self, path: str) -> float:
        with self._page(path) as page:
            found = page.wait_for_function(_PAINTED, timeout=60_000)
            return float(found.json_value()) / 1000

    @contextlib.contextmanager
    def _page(self, path: str) -> Iterator[Any]:
        context = self._chromium.new_context(viewport=_WINDOW)
        try:
            page = context.new_page()
            page.add_init_script(_KEPT_PLOTS)
            page.goto(path if path.startswith("data:") else self._address + path)
            yield page
        finally:
            context.close()
