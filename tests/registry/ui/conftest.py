"""A store with something to see in it, a real server on it, and headless Chromium, driven by Playwright."""

from __future__ import annotations

import dataclasses
import math
import shutil
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from ops.registry import MLOpsConfig, MLOpsContext, ModelStage, RunStatus

OPTIONS = ["--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run"]
OPTIONS += ["--disable-background-networking", "--disable-component-update", "--disable-sync"]


@dataclasses.dataclass
class Store:
    context: MLOpsContext
    experiment_id: str
    runs: list[str]
    live: str


def fill(path: Path, trials: int = 12) -> Store:
    path.mkdir()
    context = MLOpsContext(MLOpsConfig(storage_path=str(path), audit=True))
    tracker = context.experiment_tracker
    experiment = tracker.create_experiment("credit risk", "the loan book")
    runs = []
    for n in range(trials):
        run = tracker.start_run(experiment.experiment_id, f"trial-{n}", tags={"team": "ds"})
        tracker.log_parameters(run.run_id, {"depth": n % 3, "same": 1, "booster": "gbtree"})
        for step in range(50):
            tracker.log_metric(run.run_id, "loss", math.exp(-step / 10) + n / 100, step=step)
        tracker.log_metric(run.run_id, "auc", 0.8 + n / 100, step=0)
        tracker.end_run(run.run_id)
        runs.append(run.run_id)
    tracker.log_text(runs[0], "<b>text</b>", "notes/page.html")
    nested = tracker.start_run(experiment.experiment_id, "child", parent_run_id=runs[1])
    tracker.end_run(nested.run_id)
    odd = tracker.start_run(experiment.experiment_id, '<script>document.title="owned"</script>')
    tracker.log_metric(odd.run_id, "bad", math.nan, step=1)
    tracker.log_parameter(odd.run_id, "depth", "<img src=x onerror=alert(1)>")
    tracker.end_run(odd.run_id, RunStatus.FAILED)
    live = tracker.start_run(experiment.experiment_id, "live")
    tracker.log_metric(live.run_id, "loss", 1.0, step=0)
    model = path / "model.bin"
    model.write_bytes(b"weights")
    for n in range(3):
        context.model_registry.register_model(
            "credit/risk",
            model,
            "pickle",
            "sklearn",
            metrics={"auc": 0.9 + n / 100},
            experiment_run_id=runs[n],
        )
    context.model_registry.promote_model("credit/risk", 1, ModelStage.PRODUCTION)
    context.model_registry.promote_model("credit/risk", 2, ModelStage.PRODUCTION)
    return Store(context, experiment.experiment_id, runs, live.run_id)


@pytest.fixture
def store(tmp_path: Path) -> Iterator[Store]:
    filled = fill(tmp_path / "store")
    yield filled
    filled.context.cleanup()


@pytest.fixture(scope="module")
def browser() -> Iterator[Any]:
    playwright = pytest.importorskip("playwright.sync_api")
    playwright.expect.set_options(timeout=60_000)  # a machine that runs other tests too may be slow
    program = shutil.which("chromium") or shutil.which("chromium-browser")
    if program is None:
        pytest.skip("There is no Chromium: apt-get install chromium")
    with playwright.sync_playwright() as driver:
        launched = driver.chromium.launch(executable_path=program, args=OPTIONS)
        yield launched
        launched.close()


@pytest.fixture
def server(store: Any) -> Iterator[Callable[..., str]]:
    """Start `ops-registry ui` on the store; returns the address that it prints."""
    running: list[subprocess.Popen[str]] = []

    def start(*options: str) -> str:
        path = str(store.context.path)
        command = [sys.executable, "-m", "ops.registry", "ui", "--path", path, "--port", "0"]
        process = subprocess.Popen([*command, *options], stderr=subprocess.PIPE, text=True)
        running.append(process)
        assert process.stderr
        line = process.stderr.readline()
        assert line.startswith("Open http://127.0.0.1:"), line
        return line.removeprefix("Open ").strip()

    yield start
    for process in running:
        process.send_signal(signal.SIGTERM)
        assert process.wait(20) == 0
        assert process.stderr
        process.stderr.close()


@pytest.fixture
def page(browser: Any) -> Iterator[Any]:
    """A page; a message on the console, an error or a failed request fails the test."""
    context = browser.new_context(viewport={"width": 1400, "height": 900})
    opened = context.new_page()
    wrong: list[str] = []
    opened.on("console", lambda m: wrong.append(m.text) if m.type in {"error", "warning"} else None)
    opened.on("pageerror", lambda error: wrong.append(str(error)))
    opened.on("response", lambda r: wrong.append(r.url) if r.status >= 400 else None)
    yield opened
    context.close()
    assert wrong == []
