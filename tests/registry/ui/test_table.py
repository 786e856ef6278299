"""The table of runs: several sort keys, any columns, and all of it as CSV."""

from __future__ import annotations

import csv
import io
import re
from typing import Any
from urllib.parse import unquote_plus

import pytest
from hypothesis import given
from hypothesis import strategies as st
from starlette.testclient import TestClient

from ops.registry.search.filters import Kind
from ops.registry.search.parser import parse_orders
from ops.registry.ui import sort_keys
from ops.registry.ui.app import create_app

LOCAL = "http://127.0.0.1:5066"


@pytest.fixture
def pages(store: Any) -> TestClient:
    return TestClient(create_app(store.context), base_url=LOCAL, raise_server_exceptions=False)


def test_a_click_sorts_down_up_and_not_at_all() -> None:
    order = ""
    seen = []
    for _ in range(4):
        seen.append((order, sort_keys.direction(order, "metrics.auc")))
        order = sort_keys.only(order, "metrics.auc")
    down, up = 'metrics."auc" DESC', 'metrics."auc" ASC'
    assert seen == [("", "none"), (down, "descending"), (up, "ascending"), ("", "none")]
    assert sort_keys.only("name ASC", "metrics.auc") == down


def test_one_more_key_comes_last_turns_around_where_it_stands_and_goes() -> None:
    order = sort_keys.added("params.depth", "metrics.auc")
    assert order == 'params."depth" ASC, metrics."auc" DESC'
    assert [sort_keys.rank(order, c) for c in ("params.depth", "metrics.auc", "name")] == [1, 2, 0]
    order = sort_keys.added(order, "params.depth")
    assert order == 'metrics."auc" DESC'
    assert sort_keys.rank(order, "metrics.auc") == 0
    assert sort_keys.added(sort_keys.added(order, "metrics.auc"), "metrics.auc") == ""


@given(
    st.lists(st.text(st.characters(exclude_characters='"`', codec="utf-8"), min_size=1), max_size=4)
)
def test_orders_of_any_names_are_read_back_as_they_were_made(keys: list[str]) -> None:
    order = ""
    for key in dict.fromkeys(keys):
        order = sort_keys.added(order, f"params.{key}")
    read = parse_orders(order or None, {"name": Kind.TEXT})
    assert [one.field for one in read] == [f"params.{key}" for key in dict.fromkeys(keys)]


def test_a_table_sorted_by_two_columns_shows_which_is_first(store: Any, pages: TestClient) -> None:
    address = f"/experiments/{store.experiment_id}"
    query = "?filter=name LIKE 'trial%25'&order=params.depth DESC, metrics.auc ASC"
    page = pages.get(address + query).text
    names = re.findall(r'<td class="name[^>]*><a href="[^"]*">([^<]*)<', page)
    assert names[:4] == ["trial-2", "trial-5", "trial-8", "trial-11"]
    assert re.findall(r">([^<]*)</a><sup>(\d)</sup>", page) == [
        ("metrics.auc", "2"),
        ("params.depth", "1"),
    ]


def test_columns_of_any_name_are_chosen_and_all_of_them_too(store: Any, pages: TestClient) -> None:
    tracker = store.context.experiment_tracker
    other = tracker.create_experiment("odd").experiment_id
    with tracker.run_context(other) as run:
        tracker.log_parameters(
            run.run_id, {"a, b": 1, "c%2C": 2, **{f"p{n}": n for n in range(60)}}
        )
    address = f"/experiments/{other}"
    page = pages.get(address, params={"columns": "params.a%2C b,params.c%252C"}).text
    heads = re.findall(r">((?:metrics|params|tags)\.[^<]*)</a></th>", page)
    assert heads == ["params.a, b", "params.c%2C"]
    kept = re.findall(r'id="columns" value="([^"]*)"', page)[0]
    again = pages.get(address, params={"columns": kept}).text
    assert re.findall(r">((?:metrics|params|tags)\.[^<]*)</a></th>", again) == heads
    every = pages.get(address, params={"columns": "*"}).text
    assert len(re.findall(r">((?:metrics|params|tags)\.[^<]*)</a></th>", every)) == 62


def test_the_csv_has_all_runs_of_the_search_in_the_columns_of_the_table(
    store: Any, pages: TestClient, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("ops.registry.ui.run_csv._AT_ONCE", 5)
    tracker = store.context.experiment_tracker
    formula = tracker.start_run(store.experiment_id, "=1+1", tags={"note": '@cmd\nx, "y"'})
    tracker.end_run(formula.run_id)
    address = f"/experiments/{store.experiment_id}/runs.csv"
    answer = pages.get(f"{address}?size=3&order=name")
    assert answer.headers["content-disposition"] == "attachment; filename*=utf-8''credit%20risk.csv"
    rows = list(csv.DictReader(io.StringIO(answer.text)))
    assert len(rows) == 16
    assert len({row["run_id"] for row in rows}) == 16
    shown = {row["name"]: row for row in rows}
    assert shown["trial-3"]["status"] == "COMPLETED"
    assert "'=1+1" in shown
    assert [row["name"] for row in rows] == sorted(shown, key=lambda name: name.lstrip("'"))
    narrow = pages.get(
        address, params={"columns": "metrics.auc", "filter": "metrics.auc > 0.9"}
    ).text
    assert narrow.splitlines()[0] == "run_id,name,status,start_time,duration_seconds,metrics.auc"
    assert len(narrow.splitlines()) == 2
    assert pages.get(f"{address}?filter=>").status_code == 400
    assert pages.get("/experiments/none/runs.csv").status_code == 404


class TestInABrowser:
    pytestmark = [pytest.mark.service, pytest.mark.timeout(180)]

    def test_columns_are_found_and_chosen_and_names_completed(
        self, store: Any, server: Any, page: Any
    ) -> None:
        expect = pytest.importorskip("playwright.sync_api").expect
        page.goto(f"{server()}experiments/{store.experiment_id}")
        page.locator("summary", has_text="Columns").click()
        page.click('[data-columns="none"]')
        page.fill("#find-column", "DEP")
        expect(page.locator("#choose label:visible")).to_have_text(["params.depth"])
        page.click('[data-columns="all"]')
        page.click("#apply")
        expect(page.locator("th a[data-add]")).to_have_text(
            ["Run", "Status", "Started", "params.depth"]
        )
        page.locator("th >> text=params.depth").click(modifiers=["Shift"])
        page.wait_for_url(re.compile("order="))
        page.locator("th a", has_text="Run").click(modifiers=["Shift"])
        expect(page.locator("sup")).to_have_text(["2", "1"])
        assert 'order=params."depth" DESC, name DESC' in unquote_plus(page.url)
        page.locator("#filter").press_sequentially("metr")
        page.click("#names >> text=metrics.auc")
        page.keyboard.type("> 0.9")
        expect(page.locator("#filter")).to_have_value("metrics.auc > 0.9")
        page.keyboard.press("Enter")
        expect(page.locator("tr[data-run]")).to_have_count(1)

    def test_runs_chosen_on_one_page_stay_chosen_on_the_next(
        self, store: Any, server: Any, page: Any
    ) -> None:
        expect = pytest.importorskip("playwright.sync_api").expect
        page.goto(f"{server()}experiments/{store.experiment_id}?size=4&order=name")
        page.locator("input.one").nth(2).check()
        page.click("#next")
        page.wait_for_url(re.compile("page=2"))
        expect(page.locator("#chosen")).to_have_text("1")
        page.locator("input.one").nth(1).check()
        page.click("#previous")
        page.wait_for_url(lambda url: "page=2" not in url)
        expect(page.locator("input.one").nth(2)).to_be_checked()
        expect(page.locator("#compare")).to_have_text("Compare 2")
        page.click("#compare")
        expect(page.locator("h1")).to_have_text("2 runs side by side")
        page.go_back()
        page.click("#unchoose")
        expect(page.locator("#compare")).to_be_disabled()
        expect(page.locator("input.one:checked")).to_have_count(0)
