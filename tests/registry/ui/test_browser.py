"""The web UI in a real browser: headless Chromium, driven by Playwright, on a real server."""

from __future__ import annotations

import os
import re
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

playwright = pytest.importorskip("playwright.sync_api")
pytestmark = [pytest.mark.service, pytest.mark.timeout(180)]

playwright.expect.set_options(timeout=20_000)  # a machine that runs other tests too may be slow
OPTIONS = ["--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run"]
OPTIONS += ["--disable-background-networking", "--disable-component-update", "--disable-sync"]


@pytest.fixture(scope="module")
def browser() -> Iterator[Any]:
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


#: Keeps what is drawn, whose labels are in no document.
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


def test_from_an_experiment_to_compared_runs_with_the_keyboard(
    store: Any, server: Any, page: Any
) -> None:
    page.goto(server())
    page.click("text=credit risk")
    page.wait_for_url("**/experiments/*")  # loaded, and with it what listens to keys
    asked: list[str] = []
    page.on("request", lambda request: asked.append(request.url))
    page.keyboard.press("/")
    playwright.expect(page.locator("#filter")).to_be_focused()
    page.keyboard.type("metrics.auc > 0.855 and name LIKE 'trial%'")
    page.keyboard.press("Enter")
    playwright.expect(page.locator("tr[data-run]")).to_have_count(6)
    assert "filter=" in page.url
    page.click("th >> text=metrics.auc")
    playwright.expect(page.locator("tr[data-run] a").first).to_have_text("trial-11")
    playwright.expect(page.locator("th[aria-sort=descending]")).to_have_text("metrics.auc")
    page.select_option("#search select[name=summary]", "max")
    page.wait_for_url(re.compile("summary=max"))
    page.check("#search input[name=differing]")
    page.wait_for_url(re.compile("differing=1"))
    playwright.expect(page.locator("th[aria-sort=descending]")).to_have_text("metrics.auc")
    page.locator("h1, .crumbs").first.click()
    assert len(asked) == 4, "an answer to more would come after that to the click, and replace it"
    for key in ("j", "x", "j", "x", "c"):
        page.keyboard.press(key)
    page.wait_for_url(re.compile("/compare"))
    playwright.expect(page.locator("h1")).to_have_text("2 runs side by side")
    playwright.expect(page.locator(".uplot")).to_have_count(2)
    playwright.expect(page.locator("#parallel polyline")).to_have_count(2)
    playwright.expect(page.locator("#scatter circle")).to_have_count(2)
    playwright.expect(page.locator("#values tr.same").first).to_be_hidden()
    page.uncheck("#only-differing")
    playwright.expect(page.locator("#values tr.same").first).to_be_visible()


_CHOOSES_AT_ONCE = """
new MutationObserver((_, self) => {
  if (!document.querySelector("th[aria-sort=descending]")) return;
  self.disconnect();
  const select = document.querySelector("#search select[name=summary]");
  select.value = "max";
  select.dispatchEvent(new Event("change", { bubbles: true }));
}).observe(document.querySelector("#runs"), { childList: true, subtree: true });
"""


def test_what_is_chosen_when_the_sorted_runs_are_seen_keeps_them_sorted(
    store: Any, server: Any, page: Any
) -> None:
    page.goto(f"{server()}experiments/{store.experiment_id}")
    page.evaluate(_CHOOSES_AT_ONCE)
    page.click("th >> text=metrics.auc")
    page.wait_for_url(re.compile("summary=max"))
    sorted_by = page.locator("th[aria-sort=descending]")
    playwright.expect(sorted_by).to_have_text("metrics.auc")


def test_going_back_shows_what_was_there_and_the_form_that_led_to_it(
    store: Any, server: Any, page: Any
) -> None:
    page.goto(f"{server()}experiments/{store.experiment_id}")
    summary = page.locator("#search select[name=summary]")
    sorted_by = page.locator("th[aria-sort=descending]")
    page.click("th >> text=metrics.auc")
    playwright.expect(sorted_by).to_have_text("metrics.auc")
    page.select_option("#search select[name=summary]", "max")
    page.wait_for_url(re.compile("summary=max"))
    page.locator("input.one").nth(0).check()
    page.locator("input.one").nth(1).check()
    page.click("#compare")
    playwright.expect(page.locator(".crumbs a").last).to_have_text("credit risk")
    page.go_back()
    playwright.expect(page.locator("#compare")).to_have_text("Compare 2")
    playwright.expect(summary).to_have_value("max")
    playwright.expect(sorted_by).to_have_text("metrics.auc")
    page.go_back()
    playwright.expect(summary).to_have_value("last")
    playwright.expect(sorted_by).to_have_text("metrics.auc")
    page.go_back()
    playwright.expect(sorted_by).to_have_count(0)
    page.check("#search input[name=differing]")
    page.wait_for_url(re.compile("differing=1"))
    assert re.search("order=(&|$)", page.url)


def test_a_server_that_is_gone_is_not_met_with_silence(
    store: Any, server: Any, browser: Any
) -> None:
    page = browser.new_page()  # not the one that fails with what the browser says of this
    page.goto(f"{server()}experiments/{store.experiment_id}")
    sorting = "**/experiments/*order=*"
    for fails, said in (
        (lambda route: route.abort(), "Is it still running?"),
        (lambda route: route.fulfill(status=500), "(500)"),
    ):
        page.route(sorting, fails)
        page.click("th >> text=metrics.auc")
        playwright.expect(page.locator("#unanswered")).to_contain_text(said)
        page.unroute(sorting)
    page.click("th >> text=metrics.auc")
    playwright.expect(page.locator("th[aria-sort=descending]")).to_have_text("metrics.auc")
    playwright.expect(page.locator("#unanswered")).to_have_count(0)
    page.close()


def test_a_live_run_of_another_process_appears_within_two_seconds(
    store: Any, server: Any, page: Any
) -> None:
    page.goto(server() + f"runs/{store.live}")
    playwright.expect(page.locator(".chart")).to_have_count(1)
    program = """
import sys, time
from ops.registry import MLOpsConfig, MLOpsContext
with MLOpsContext(MLOpsConfig(storage_path=sys.argv[1])) as context:
    tracker = context.experiment_tracker
    tracker.log_metric(sys.argv[2], "gradient", 3.0, step=1)
    print("logged", flush=True)
    sys.stdin.readline()
    tracker.end_run(sys.argv[2])
"""
    arguments = [sys.executable, "-c", program, str(store.context.path), store.live]
    with subprocess.Popen(
        arguments, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    ) as writer:
        assert writer.stdout
        assert writer.stdin
        assert writer.stdout.readline() == "logged\n"
        since = time.monotonic()
        playwright.expect(page.locator(".chart h3", has_text="gradient")).to_be_visible()
        took = time.monotonic() - since
        writer.stdin.write("\n")
        writer.stdin.flush()
        playwright.expect(page.locator("#status")).to_have_text("COMPLETED", timeout=10_000)
    # Two seconds are the promise; a machine that runs other tests too may need more.
    assert took < (2 if os.environ.get("OPS_FAULTS") == "full" else 10)


def test_who_has_zoomed_into_a_live_run_stays_there(store: Any, server: Any, page: Any) -> None:
    tracker = store.context.experiment_tracker
    run = tracker.start_run(store.experiment_id, "goes on")
    for step in range(40):
        tracker.log_metric(run.run_id, "loss", 1.0 / (step + 1), step)
    page.add_init_script(_KEPT_PLOTS)
    page.goto(f"{server()}runs/{run.run_id}")
    page.wait_for_selector(".chart canvas")
    box = page.locator(".u-over").bounding_box()
    at = [box["x"] + box["width"] * share for share in (0.25, 0.5)]
    page.mouse.move(at[0], box["y"] + 50)
    page.mouse.down()
    page.mouse.move(at[1], box["y"] + 50, steps=4)
    page.mouse.up()
    scale = "[window.plots.at(-1).scales.x.min, window.plots.at(-1).scales.x.max].map(Math.round)"
    zoomed = page.evaluate(scale)
    assert 5 < zoomed[0] < zoomed[1] < 25

    def follow(step: int) -> None:
        tracker.log_metric(run.run_id, "loss", 0.0, step)
        while page.evaluate("window.plots.at(-1).data[0].at(-1)") != step:
            page.wait_for_timeout(50)

    follow(40)
    assert page.evaluate(scale) == zoomed
    page.mouse.dblclick(at[1], box["y"] + 50)
    follow(41)
    assert page.evaluate(scale) == [0, 41]
    tracker.end_run(run.run_id)


def test_of_thousands_of_metrics_those_in_sight_are_drawn_and_any_is_found(
    store: Any, server: Any, page: Any
) -> None:
    tracker = store.context.experiment_tracker
    with tracker.run_context(store.experiment_id, "wide") as run:
        tracker.log_metrics(run.run_id, {f"layer{n:04d}/norm": float(n) for n in range(3000)})
    asked: list[str] = []
    page.on("request", lambda r: asked.append(r.url) if "/api/curves/" in r.url else None)
    page.goto(f"{server()}runs/{run.run_id}")
    page.wait_for_selector(".chart canvas")
    page.wait_for_load_state("networkidle")
    assert page.locator(".chart").count() == 60
    assert 0 < len(asked) < 60
    page.keyboard.press("/")
    page.keyboard.type("LAYER2999")
    page.wait_for_selector('.chart[data-metric="layer2999/norm"] canvas')
    assert page.locator(".chart").count() == 1
    page.keyboard.press("Enter")  # is no form to be sent
    page.fill("#metric", "")
    page.click("#more")
    assert page.inner_text("#shown") == "120 of 3000 metrics"
    page.locator(".chart").nth(100).scroll_into_view_if_needed()
    page.locator(".chart").nth(100).locator("canvas").wait_for()


def test_axes_have_whole_steps_and_texts_that_differ(store: Any, server: Any, page: Any) -> None:
    tracker = store.context.experiment_tracker
    with tracker.run_context(store.experiment_id, "short") as run:
        for step in range(3):
            tracker.log_metric(run.run_id, "loss", 1000 + step / 10_000, step)
    page.add_init_script(_KEPT_PLOTS)
    page.goto(f"{server()}runs/{run.run_id}")
    page.wait_for_selector(".chart canvas")

    def texts(axis: int) -> list[str]:
        while not (found := page.evaluate(f"window.plots.at(-1)?.axes[{axis}]._values")):
            page.wait_for_timeout(50)
        return list(found)

    assert texts(0) == ["0", "1", "2"]
    assert len(texts(1)) == len(set(texts(1))) > 2
    assert all(999.9 < float(text) < 1000.1 for text in texts(1))
    page.select_option("#axis", "time")
    while texts(0) == ["0", "1", "2"]:
        page.wait_for_timeout(50)
    assert len(texts(0)) == len(set(texts(0))) > 2


def test_a_run_that_is_erased_while_its_page_is_open_says_so(
    store: Any, server: Any, page: Any
) -> None:
    curves: list[str] = []
    page.on("response", lambda r: curves.append(r.url) if "/api/curves/" in r.url else None)
    page.goto(f"{server()}runs/{store.live}")
    while len(curves) < 2:  # once more when the stream has begun
        page.wait_for_timeout(50)
    page.wait_for_selector(".chart canvas")
    store.context.experiment_tracker._store.erase(store.live)
    playwright.expect(page.locator("#status")).to_have_text("ERASED")


def test_text_of_the_store_runs_no_script(store: Any, server: Any, page: Any) -> None:
    page.goto(server() + f"experiments/{store.experiment_id}?size=100")
    page.click("text=<script>")
    playwright.expect(page.locator("h1")).to_contain_text("<script>")
    assert page.title() != "owned"


def test_pictures_of_a_run_are_seen_and_run_no_script(store: Any, server: Any, page: Any) -> None:
    tracker = store.context.experiment_tracker
    drawn = (
        '<svg xmlns="http://www.w3.org/2000/svg" width="40" height="30">'
        "<script>parent.document.title = 'owned'</script></svg>"
    )
    with tracker.run_context(store.experiment_id, "drawn") as run:
        for name in ("a b/plot.svg", "zoo.SVG", "page.html"):
            tracker.log_text(run.run_id, drawn, name)
        tracker.log_text(run.run_id, drawn + " " * (17 << 20), "large.svg")
    page.goto(f"{server()}runs/{run.run_id}")
    playwright.expect(page.locator("figcaption")).to_have_text(["a b/plot.svg", "zoo.SVG"])
    widths = "[...document.images].map((image) => image.naturalWidth)"
    while page.evaluate(widths) != [40, 40]:
        page.wait_for_timeout(50)
    assert page.title() != "owned"


def test_a_version_is_promoted_by_click_and_only_when_allowed(
    store: Any, server: Any, page: Any
) -> None:
    page.goto(server() + "models/credit/risk")
    playwright.expect(page.locator("#v2 .status").first).to_have_text("Production")
    playwright.expect(page.locator("button", has_text="Move")).to_have_count(0)
    page.goto(server("--allow-writes") + "models/credit/risk")
    page.select_option("#v3 select", "Production")
    page.click("#v3 button")
    playwright.expect(page.locator("#v3 h2 .status")).to_have_text("Production")
    playwright.expect(page.locator("#v2 h2 .status")).to_have_text("Archived")
    page.click("text=Roll production back")
    playwright.expect(page.locator("#v2 h2 .status")).to_have_text("Production")


def test_the_address_with_a_token_lets_its_browser_in(server: Any, page: Any, browser: Any) -> None:
    address = server("--token", "auto")
    assert "?token=" in address
    page.goto(address)
    assert "token" not in page.url
    playwright.expect(page.locator("h1")).to_have_text("Experiments")
    stranger = browser.new_page()
    assert stranger.goto(address.partition("?")[0]).status == 401
    stranger.close()


def test_colours_follow_the_reader_and_narrow_windows_keep_everything(
    store: Any, server: Any, browser: Any, page: Any
) -> None:
    address = server()
    paint = "getComputedStyle(document.body).backgroundColor"
    page.goto(address)
    light = page.evaluate(paint)
    page.keyboard.press("t")
    dark = page.evaluate(paint)
    assert light != dark
    page.reload()
    assert page.evaluate(paint) == dark, "the choice stays"
    narrow = browser.new_context(viewport={"width": 360, "height": 700}, color_scheme="dark")
    small = narrow.new_page()
    pages = ["", f"experiments/{store.experiment_id}", f"runs/{store.runs[0]}", "models", "health"]
    for path in pages:
        small.goto(address + path)
        small.wait_for_load_state()
        wide = small.evaluate("document.documentElement.scrollWidth")
        assert wide <= 362, f"{path or 'home'} scrolls sideways: {wide}"
    assert small.evaluate(paint) == dark
    narrow.close()


def test_screenshots_can_be_kept(store: Any, server: Any, page: Any, tmp_path: Path) -> None:
    page.goto(server() + f"runs/{store.runs[0]}")
    playwright.expect(page.locator(".uplot canvas")).to_have_count(2)
    picture = page.screenshot(path=tmp_path / "run.png")
    assert len(picture) > 20_000, "the charts are drawn"
