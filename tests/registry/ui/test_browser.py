"""The web UI in a real browser: headless Chromium, driven by Playwright, on a real server."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import pytest

playwright = pytest.importorskip("playwright.sync_api")
pytestmark = [pytest.mark.service, pytest.mark.timeout(180)]


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


def test_text_of_the_store_runs_no_script(store: Any, server: Any, page: Any) -> None:
    page.goto(server() + f"experiments/{store.experiment_id}?size=100")
    page.click("text=<script>")
    playwright.expect(page.locator("h1")).to_contain_text("<script>")
    assert page.title() != "owned"


def test_a_version_is_promoted_by_click_and_only_when_allowed(
    store: Any, server: Any, page: Any
) -> None:
    page.goto(server() + "models/credit/risk")
    playwright.expect(page.locator("#v2 .status").first).to_have_text("Production")
    playwright.expect(page.locator("button", has_text="Move")).to_have_count(0)
    page.goto(server("--allow-writes") + "models/credit/risk")
    page.click("#v3 summary")
    page.select_option("#v3 select", "Production")
    page.locator("#v3").get_by_role("button", name="Move", exact=True).click()
    playwright.expect(page.locator("#v3 h2 .status")).to_have_text("Production")
    playwright.expect(page.locator("#v2 h2 .status")).to_have_text("Archived")
    page.click("text=Roll production back")
    page.click("text=Roll back to version 2")
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
