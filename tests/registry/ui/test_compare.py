"""Runs side by side: what differs comes first, and axes are of numbers and of texts."""

from __future__ import annotations

import math
import re
from typing import Any

import pytest
from starlette.testclient import TestClient

from ops.registry.ui.app import create_app
from ops.registry.ui.comparisons import compare

LOCAL = "http://127.0.0.1:5066"


@pytest.fixture
def runs(store: Any) -> list[str]:
    """Runs whose loss falls with the rate, and depends on the optimizer; the seed has nothing to do with it."""
    tracker = store.context.experiment_tracker
    made = []
    for n, (rate, optimizer, seed) in enumerate(
        [
            (0.1, "adam", 3),
            (0.2, "adam", 1),
            (0.4, "adam", 2),
            (0.8, "sgd", 2),
            (1.6, "sgd", 3),
            (3.2, "sgd", 1),
        ]
    ):
        with tracker.run_context(store.experiment_id, f"c{n}") as run:
            tracker.log_parameters(
                run.run_id,
                {"rate": rate, "optimizer": optimizer, "seed": seed, "same": 1, "flag": n > 2},
            )
            tracker.log_metric(run.run_id, "loss", 10.0 - n, step=0)
            tracker.set_tag(run.run_id, "id", f"unique-{n}")
            made.append(run.run_id)
    return made


def test_axes_are_numbers_or_a_few_texts(store: Any, runs: list[str]) -> None:
    tracker = store.context.experiment_tracker
    tracker.set_tag(runs[0], "long", "x" * 500)
    with tracker.run_context(store.experiment_id, "odd") as odd:
        tracker.log_metric(odd.run_id, "loss", math.nan, step=0)
    found = compare([tracker.get_run(run_id) for run_id in [*runs, odd.run_id]])
    axes = {axis["name"]: axis for axis in found.numbers["axes"]}
    assert axes["params.optimizer"]["texts"] == ["adam", "sgd"]
    assert axes["params.optimizer"]["values"] == [0, 0, 0, 1, 1, 1, None]
    assert axes["params.flag"]["texts"] == ["False", "True"]
    assert axes["params.rate"]["values"][-2:] == [3.2, None]
    assert axes["tags.long"]["texts"] == ["x" * 60]
    assert "params.none" not in axes
    assert [differ for _, _, differ in found.rows] == sorted(
        (differ for _, _, differ in found.rows), reverse=True
    )


def test_the_table_of_differences_comes_before_the_charts(store: Any, runs: list[str]) -> None:
    pages = TestClient(create_app(store.context), base_url=LOCAL)
    page = pages.get(f"/compare?runs={','.join(runs)}").text
    assert page.index('id="values"') < page.index('id="charts"') < page.index('id="parallel"')
    rows = re.findall(r'<tr class="(differ|same)"><t[dh][^>]*>([^<]*)<', page)
    assert ("same", "params.same") in rows
    assert [kind for kind, _ in rows] == sorted(kind for kind, _ in rows)
    many = ",".join(f"{n:032x}" for n in range(101))
    assert pages.get(f"/compare?runs={many}").status_code == 400


class TestInABrowser:
    pytestmark = [pytest.mark.service, pytest.mark.timeout(180)]

    def test_axes_are_moved_picked_and_brushed(
        self, store: Any, runs: list[str], server: Any, page: Any
    ) -> None:
        expect = pytest.importorskip("playwright.sync_api").expect
        page.goto(f"{server()}compare?runs={','.join(runs)}")
        names = page.locator("#parallel [data-axis]")
        first = "params.rate", "params.optimizer", "params.seed"
        expect(names).to_have_count(6)
        order = (
            "[...document.querySelectorAll('#parallel [data-axis]')].map((one) => one.dataset.axis)"
        )
        assert tuple(page.evaluate(order)[:3]) == first
        names.first.focus()
        page.keyboard.press("ArrowRight")
        page.keyboard.press("ArrowRight")
        assert tuple(page.evaluate(order)[:3]) == (first[1], first[2], first[0])
        page.locator("summary", has_text="Axes").click()
        page.locator("#axes label", has_text="params.seed").locator("input").uncheck()
        assert first[2] not in page.evaluate(order)
        page.keyboard.press("Escape")
        page.locator("summary", has_text="Axes").click()
        grip = page.locator("#parallel .grip").first
        grip.scroll_into_view_if_needed()
        box = grip.bounding_box()
        page.mouse.move(box["x"] + 10, box["y"] + 1)
        page.mouse.down()
        page.mouse.move(box["x"] + 10, box["y"] + box["height"] / 3, steps=3)
        page.mouse.up()
        expect(page.locator("#parallel polyline.off")).to_have_count(3)  # those of the other text
        rows = page.locator("#importance tbody tr")
        expect(rows.first).to_contain_text("params.rate-1.00")
        page.select_option("#scatter-x", label="params.optimizer")
        expect(page.locator("#scatter circle")).to_have_count(6)
        expect(page.locator("#scatter")).to_contain_text("adam")
