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


@pytest.fixture
def sweep(store: Any) -> list[str]:
    """Runs whose loss is best in the middle of the rates, which no rank correlation sees, and depends on no other."""
    tracker = store.context.experiment_tracker
    made = []
    for n in range(40):
        with tracker.run_context(store.experiment_id, f"s{n}") as run:
            rate, kind = n % 10, "ab"[n % 2]
            given = {"rate": rate, "kind": kind, "noise": (n * 7919) % 41, "same": 1}
            tracker.log_parameters(run.run_id, given if n else {"rate": rate, "same": 1})
            tracker.log_metric(run.run_id, "loss", 1e200 * abs(rate - 4.5), step=0)
            made.append(run.run_id)
    return made


def test_a_forest_finds_what_a_correlation_does_not(store: Any, sweep: list[str]) -> None:
    pytest.importorskip("sklearn")
    pages = TestClient(create_app(store.context), base_url=LOCAL)
    found = pages.get(f"/api/importance?runs={','.join(sweep)}&metric=loss").json()
    shares = found["parameters"]
    assert shares.keys() == {"params.rate", "params.kind", "params.noise"}
    assert shares["params.rate"] > 0.9
    assert sum(shares.values()) == pytest.approx(1)
    assert found["runs"] == 40
    assert found["explained"] > 0.8
    again = pages.get(f"/api/importance?runs={','.join(sweep)}&metric=loss").json()
    assert again == found, "the same runs give the same numbers"


@pytest.mark.parametrize(
    ("metric", "count", "reason"),
    [("loss", 9, "needs 10 runs"), ("none", 40, "needs 10 runs"), ("flat", 40, "nothing")],
)
def test_without_enough_to_learn_from_there_is_a_reason(
    store: Any, sweep: list[str], metric: str, count: int, reason: str
) -> None:
    for run_id in sweep:
        store.context.experiment_tracker.log_metric(run_id, "flat", 1.0)
    pages = TestClient(create_app(store.context), base_url=LOCAL)
    answer = pages.get(f"/api/importance?runs={','.join(sweep[:count])}&metric={metric}").json()
    assert answer.keys() == {"reason"}
    assert reason in answer["reason"]


def test_without_scikit_learn_correlations_stay(
    store: Any, sweep: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    pages = TestClient(create_app(store.context), base_url=LOCAL)
    monkeypatch.setattr("importlib.util.find_spec", lambda _name: None)
    answer = pages.get(f"/api/importance?runs={','.join(sweep)}&metric=loss").json()
    assert "scikit-learn" in answer["reason"]


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
        expect(rows.first).to_contain_text("params.rate")
        expect(rows.first).to_contain_text("-1.00")
        expect(page.locator("#forest")).to_contain_text("needs 10 runs")
        page.select_option("#scatter-x", label="params.optimizer")
        expect(page.locator("#scatter circle")).to_have_count(6)
        expect(page.locator("#scatter")).to_contain_text("adam")

    @pytest.mark.timeout(400)
    def test_groups_have_boxes_and_colours_and_a_forest_ranks_parameters(
        self, store: Any, sweep: list[str], server: Any, page: Any
    ) -> None:
        pytest.importorskip("sklearn")
        expect = pytest.importorskip("playwright.sync_api").expect
        page.goto(f"{server()}compare?runs={','.join(sweep)}")
        page.select_option("#box-group", label="params.kind")
        boxes = page.locator("#boxes .box")
        expect(boxes).to_have_count(2)
        expect(boxes.first.locator("title").first).to_contain_text("a: 19 runs, median 2.5e+200")
        expect(boxes.first.locator("circle")).to_have_count(19)
        page.select_option("#box-group", label="params.rate")
        expect(boxes).to_have_count(10)
        page.select_option("#scatter-group", label="params.kind")
        expect(page.locator("#scatter .legend span")).to_have_text(["a (19)", "b (20)"])
        # Importing scikit-learn takes seconds, and minutes on a machine that does much else.
        expect(page.locator("#forest")).to_contain_text("of 40 runs", timeout=240_000)
        first = page.locator("#importance tbody tr").first
        expect(first.locator("th")).to_have_text("params.rate")
        heads = page.locator("#importance thead th:visible")
        expect(heads).to_have_text(["Parameter", "Importance", "Correlation", "Strength", "Runs"])

    def test_quartiles_are_those_of_numpy(self, store: Any, server: Any, page: Any) -> None:
        numpy = pytest.importorskip("numpy")
        page.goto(server())
        values = [1.0, 2.0, 4.0, 8.0, 16.0, 32.0]
        for count in range(1, len(values) + 1):
            module = "import('/static/plots.js').then((found) => found.quartiles({}))"
            found = page.evaluate(module.format(values[:count]))
            assert found == pytest.approx(numpy.quantile(values[:count], [0.25, 0.5, 0.75]))
