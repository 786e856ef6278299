"""The charts of many runs in a real browser: what is drawn, what is hidden, and what the address keeps."""

from __future__ import annotations

import re
from typing import Any
from urllib.parse import parse_qs, urlsplit

import pytest
from tests.registry.ui.test_run_page import _KEPT_PLOTS
from tests.registry.ui.trace_maker import add_trace, span

playwright = pytest.importorskip("playwright.sync_api")
pytestmark = [pytest.mark.service, pytest.mark.timeout(180)]

#: The series of the chart of a metric: how many, and which of them are drawn as lines.
_LINES = """(metric) => {
  const shown = window.plots.filter((plot) => plot.root.closest(`[data-metric="${metric}"]`));
  return shown.length ? shown.at(-1).series.slice(1).filter((one) => one.width > 0).map((one) => one.label) : [];
}"""


@pytest.fixture
def workspace(store: Any, server: Any, page: Any) -> Any:
    page.add_init_script(_KEPT_PLOTS)
    address = server()

    def open_with(query: str = "") -> Any:
        page.goto(f"{address}experiments/{store.experiment_id}/charts{query}")
        return page

    return open_with


def _until(page: Any, metric: str, count: int) -> list[str]:
    while len(found := page.evaluate(_LINES, metric)) != count:
        page.wait_for_timeout(50)
    return list(found)


def _query(page: Any) -> dict[str, list[str]]:
    return parse_qs(urlsplit(page.url).query)


def test_runs_are_hidden_and_shown_again_and_the_address_keeps_it(
    store: Any, workspace: Any
) -> None:
    page = workspace("?filter=name LIKE 'trial%25'")
    assert len(_until(page, "loss", 12)) == 12
    playwright.expect(page.locator("#seen")).to_have_text("12 of 12 drawn")
    page.uncheck(f'.eye[value="{store.runs[0]}"]')
    page.uncheck(f'.eye[value="{store.runs[1]}"]')
    assert "trial-0" not in _until(page, "loss", 10)
    assert set(_query(page)["hidden"][0].split(",")) == set(store.runs[:2])
    page.reload()
    playwright.expect(page.locator(f'.eye[value="{store.runs[0]}"]')).not_to_be_checked()
    assert len(_until(page, "loss", 10)) == 10
    page.check("#all-eyes")
    _until(page, "loss", 12)
    assert "hidden" not in _query(page)
    page.uncheck("#all-eyes")
    playwright.expect(page.locator(".chart.void").first).to_be_visible()


def test_groups_have_a_colour_and_an_average_each(store: Any, workspace: Any) -> None:
    page = workspace("?filter=name LIKE 'trial%25'&smooth=0.5")
    _until(page, "loss", 12)
    page.select_option("select[name=group]", "params.depth")
    page.wait_for_url(re.compile("group=params.depth"))
    assert _query(page)["smooth"] == ["0.5"], "what the charts show stays"
    colours = page.evaluate(
        "[...document.querySelectorAll('[data-run] .swatch')].map((one) => one.style.background)"
    )
    assert len(set(colours)) == 3
    _until(page, "loss", 12)
    page.check("#average")
    assert _until(page, "loss", 3) == ["0 (4)", "1 (4)", "2 (4)"]
    assert _query(page)["average"] == ["1"]
    page.uncheck('.group-eye[value="1"]')
    assert _until(page, "loss", 2) == ["0 (4)", "2 (4)"]
    mean = page.evaluate("window.plots.at(-1).data.map((ys) => ys[0])")
    assert mean[0] == 0  # x
    low, high = mean[2], mean[3]
    assert low < mean[1] < high


def test_the_x_axis_is_the_step_the_time_or_another_metric(store: Any, workspace: Any) -> None:
    tracker = store.context.experiment_tracker
    with tracker.run_context(store.experiment_id, "joined") as run:
        for step in range(30):
            tracker.log_metrics(
                run.run_id, {"val/loss": 1.0 - step / 60, "val/seen": step * 64.0}, step
            )
    page = workspace("?filter=name='joined'")
    _until(page, "val/loss", 1)
    page.select_option("#axis", label="val/seen")
    while page.evaluate("window.plots.at(-1).data[0].at(-1)") != 29 * 64:
        page.wait_for_timeout(50)
    assert _query(page)["x"] == ["metrics.val/seen"]
    page.reload()
    playwright.expect(page.locator("#axis")).to_have_value("metrics.val/seen")


def test_sections_follow_the_names_of_metrics_and_the_cursor_is_in_step(
    store: Any, workspace: Any
) -> None:
    tracker = store.context.experiment_tracker
    with tracker.run_context(store.experiment_id, "sections") as run:
        for step in range(40):
            values = dict.fromkeys(
                ("system/cpu", "system/gpu", "val/a", "val/b", "lone/c", "d"), 1.0
            )
            tracker.log_metrics(run.run_id, values, step)
    page = workspace("?filter=name='sections'")
    heads = page.locator("#charts summary")
    playwright.expect(heads).to_have_text(["Metrics 2", "val 2", "system 2"])
    page.locator('[data-metric="val/a"] canvas').wait_for()
    page.locator('[data-metric="val/b"] canvas').wait_for()
    page.locator('[data-metric="val/a"] .u-over').hover()
    tip = page.locator('[data-metric="val/a"] .tip')
    playwright.expect(tip).to_contain_text("sections")
    assert re.match(r"Step (19|20|21)", tip.inner_text())
    left = '(metric) => window.plots.find((p) => p.root.closest(`[data-metric="${metric}"]`)).cursor.left'
    assert page.evaluate(left, "val/b") == pytest.approx(page.evaluate(left, "val/a"), abs=1)
    heads.nth(1).click()
    playwright.expect(page.locator('[data-metric="val/a"]')).to_be_hidden()
    page.fill("#metric", "val/")
    playwright.expect(page.locator(".chart")).to_have_count(2)


def test_runs_that_go_on_move_in_the_charts_of_the_workspace(store: Any, workspace: Any) -> None:
    tracker = store.context.experiment_tracker
    page = workspace("?filter=name IN ('live', 'trial-1')")
    _until(page, "loss", 2)
    for step in (60, 70):
        tracker.log_metric(store.live, "loss", 0.5, step)
        while page.evaluate("window.plots.at(-1).data[0].at(-1)") != step:
            page.wait_for_timeout(50)
    tracker.log_metric(store.live, "fresh", 0.5, 1)
    page.locator('[data-metric="fresh"] canvas').wait_for()
    playwright.expect(page.locator("#run-list .status")).to_have_text("RUNNING")
    tracker.end_run(store.live)
    playwright.expect(page.locator("#run-list .status")).to_have_text("COMPLETED")


@pytest.mark.parametrize("width", [390, 1400])
def test_long_names_break_no_layout(store: Any, server: Any, browser: Any, width: int) -> None:
    tracker = store.context.experiment_tracker
    long = "x" * 240
    other = tracker.create_experiment(long).experiment_id
    with tracker.run_context(other, long) as run:
        tracker.log_metrics(run.run_id, {long: 1.0, f"{long[:200]}/a": 2.0, f"{long[:200]}/b": 2.0})
        tracker.log_parameters(run.run_id, {long: long})
        tracker.set_tag(run.run_id, long, long)
        tracker.log_text(run.run_id, long, f"{long[:200]}.txt")
    model = store.context.path / "m.bin"
    model.write_bytes(b"x")
    name, kind = "m" * 120, "sklearn"
    store.context.model_registry.register_model(name, model, "pickle", kind, tags={long: long})
    spans = [span(1, name=long, attributes={long: long, "mlflow.spanInputs": {long: long}})]
    shown = [{"name": long, "value": long, "rationale": long}]
    texts: Any = {"tags": {long: long}, "request": long, "response": long, "runs": [run.run_id]}
    add_trace(store.context, other, long, spans, name=long, assessments=shown, **texts)
    window = browser.new_context(viewport={"width": width, "height": 800})
    page, address = window.new_page(), server()
    for path in (
        "",
        f"experiments/{other}",
        f"experiments/{other}/charts?group=params.{long}",
        f"runs/{run.run_id}",
        f"runs/{run.run_id}/files/{long[:200]}.txt",
        f"compare?runs={run.run_id},{store.runs[0]}",
        "models",
        f"models/{name}",
        f"experiments/{other}/traces",
        f"traces/{long}?span={1:016x}",
    ):
        page.goto(address + path)
        page.wait_for_load_state()
        wide = page.evaluate("document.documentElement.scrollWidth")
        assert wide <= width, f"{path[:60] or 'home'} scrolls sideways: {wide}"
    window.close()
