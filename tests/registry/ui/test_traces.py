"""Traces on pages: found by words and filters, shown with their spans as a tree in time, whatever they are made of."""

from __future__ import annotations

import re
from typing import Any

import pytest
from starlette.testclient import TestClient
from tests.registry.ui.trace_maker import MS, START, add_trace, span

from ops.registry.traces.journal import Span
from ops.registry.ui.app import create_app
from ops.registry.ui.span_tree import WIDTH, matching, span_rows, total_tokens

LOCAL = "http://127.0.0.1:5066"


@pytest.fixture
def pages(store: Any) -> TestClient:
    return TestClient(create_app(store.context), base_url=LOCAL, raise_server_exceptions=False)


@pytest.fixture
def traces(store: Any) -> str:
    """Five traces, a minute apart; returns the address of their list."""
    for n in range(5):
        add_trace(
            store.context,
            store.experiment_id,
            f"tr-{n}",
            [span(1, name="root"), span(2, 1, name="model", usage={"total_tokens": 7})],
            name=f"question {n}",
            state="ERROR" if n == 3 else "OK",
            time=n * 60_000,
            duration=100 * (n + 1),
            request=f"where is parcel {n}?",
            tags={"team": "ds" if n % 2 else "ops"},
            metadata={"mlflow.trace.session": f"s'{n // 2}", "mlflow.sourceRun": store.runs[0]},
            assessments=[{"name": "relevance", "value": n / 4}, {"name": "right", "value": n > 2}],
            runs=[store.runs[1]] if n == 4 else [],
        )
    return f"/experiments/{store.experiment_id}/traces"


def names(text: str) -> list[str]:
    return re.findall(r'<td class="name"><a href="[^"]*" title="[^"]*">([^<]*)<', text)


# The list


@pytest.mark.parametrize(
    ("query", "found"),
    [
        ("", [4, 3, 2, 1, 0]),
        ("?text=PARCEL 3", [3]),
        ("?text=question", [4, 3, 2, 1, 0]),
        ("?status=ERROR", [3]),
        ("?filter=duration_seconds > 0.25 and tags.team = 'ops'", [4, 2]),
        ("?filter=metrics.relevance <= 0.25", [1, 0]),
        ("?filter=metrics.right = 1", [4, 3]),
        ("?filter=params.right = 'false'", [2, 1, 0]),
        ("?filter=session = 's''1'", [3, 2]),
        ("?filter=start_time < '2026-09-21T14:14:30'", [1, 0]),
        ("?filter=tags.\"mlflow.trace.session\" = 's''2'", [4]),
        ("?order=duration_seconds ASC", [0, 1, 2, 3, 4]),
        ("?size=2&page=2", [2, 1]),
        ("?size=2&page=9", []),
    ],
)
def test_traces_are_found_newest_first(
    pages: TestClient, traces: str, query: str, found: list[int]
) -> None:
    answer = pages.get(traces + query)
    assert answer.status_code == 200
    assert names(answer.text) == [f"question {n}" for n in found]


@pytest.mark.parametrize(
    "query", ["?filter=name >>", "?order=nothing", "?status=LATE", "?page=0", "?filter=none = 1"]
)
def test_a_wrong_search_is_a_sentence(pages: TestClient, traces: str, query: str) -> None:
    answer = pages.get(traces + query)
    assert answer.status_code == 400
    assert 'class="problem"' in answer.text
    assert pages.get(f"/api{traces}{query}").status_code == 400
    assert pages.get(traces + query, headers={"hx-request": "true"}).status_code == 200


def test_a_run_and_its_traces_lead_to_each_other(
    store: Any, pages: TestClient, traces: str
) -> None:
    run = pages.get(f"/runs/{store.runs[0]}").text
    assert names(run) == [f"question {n}" for n in (4, 3, 2, 1, 0)]
    assert f'href="{traces}?run={store.runs[0]}"' in run
    assert names(pages.get(f"/runs/{store.runs[1]}").text) == ["question 4"], "linked afterwards"
    assert "Traces</h2>" not in pages.get(f"/runs/{store.runs[2]}").text
    assert names(pages.get(f"{traces}?run={store.runs[1]}").text) == ["question 4"]
    trace = pages.get("/traces/tr-4").text
    for run_id, name in ((store.runs[0], "trial-0"), (store.runs[1], "trial-1")):
        assert f'<a href="/runs/{run_id}">{name}</a>' in trace


def test_a_trace_that_is_logged_while_the_page_is_open_is_in_the_next_answer(
    store: Any, pages: TestClient, traces: str
) -> None:
    assert len(names(pages.get(traces).text)) == 5
    add_trace(store.context, store.experiment_id, "tr-new", name="late", time=600_000)
    assert names(pages.get(traces).text)[0] == "late"
    assert "No span of this trace" in pages.get("/traces/tr-new").text


def test_an_experiment_without_traces_shows_how_to_log_one(store: Any, pages: TestClient) -> None:
    text = pages.get(f"/experiments/{store.experiment_id}/traces").text
    assert "@mlflow.trace" in text
    assert not (store.context.experiment_tracker.root / "traces").exists(), (
        "looking creates nothing"
    )


@pytest.mark.parametrize("address", ["/traces/none", "/traces/..%2Fx", "/api/traces/none"])
def test_a_trace_that_is_not_there_is_a_404(pages: TestClient, traces: str, address: str) -> None:
    assert pages.get(address).status_code == 404
    assert pages.get("/traces/tr-1?span=none").status_code == 404


def test_the_api_gives_traces_and_spans(store: Any, pages: TestClient, traces: str) -> None:
    found = pages.get(f"/api{traces}?size=2").json()
    assert [one["trace_id"] for one in found["traces"]] == ["tr-4", "tr-3"]
    assert (found["total"], found["has_more"]) == (5, True)
    one = pages.get("/api/traces/tr-3").json()
    assert one["status"] == "ERROR"
    assert one["start_ms"] == START + 180_000
    assert [(s["name"], s["depth"], s["tokens"]) for s in one["spans"]] == [
        ("root", 0, None),
        ("model", 1, 7),
    ]


# Spans


def test_spans_are_a_tree_in_time() -> None:
    rows = span_rows(
        [
            _kept(3, 1, start=50, end=80),
            _kept(2, 1, start=10, end=20),
            _kept(1, None, start=0, end=100),
            _kept(4, 3, start=60, end=None),
            _kept(5, 99, start=5, end=6),
        ]
    )
    assert [(int(row.span_id), row.depth, row.children) for row in rows] == [
        (1, 0, 2),
        (2, 1, 0),
        (3, 1, 1),
        (4, 2, 0),
        (5, 0, 0),
    ]
    assert [(row.left, row.width) for row in rows[:4]] == [
        (0, WIDTH),
        (100, 100),
        (500, 300),
        (600, 400),
    ]
    assert rows[3].duration_seconds is None
    assert [row.span_id for row in matching(rows, "STEP 3")] == ["3"]


def test_spans_in_a_ring_and_ten_thousand_deep_are_each_shown_once() -> None:
    ring = span_rows([_kept(1, 2), _kept(2, 1), _kept(3, 3)])
    assert sorted(row.span_id for row in ring) == ["1", "2", "3"]
    deep = span_rows([_kept(n, n - 1 or None) for n in range(1, 10_001)])
    assert [row.depth for row in deep] == list(range(10_000))
    assert span_rows([]) == []


def test_a_span_with_a_number_of_tokens_counts_for_all_below_it() -> None:
    spans = [
        _kept(1, None),
        _kept(2, 1, tokens=10),
        _kept(3, 2, tokens=4),
        _kept(4, 1, tokens=5),
        _kept(5, 1),
    ]
    assert total_tokens(spans) == 15
    assert total_tokens(spans[:1]) is None


def _kept(
    number: int,
    parent: int | None,
    *,
    start: int = 0,
    end: int | None = 1,
    tokens: int | None = None,
) -> Span:
    more = {} if tokens is None else {"usage": {"total_tokens": tokens}}
    above = None if parent is None else str(parent)
    last = None if end is None else end * MS
    return Span(str(number), above, f"step {number}", "LLM", "OK", start * MS, last, more, "")


def test_what_went_in_and_out_of_a_span_is_shown_and_downloaded(
    store: Any, pages: TestClient
) -> None:
    chat = {"messages": [{"role": "user", "content": "<b>hello</b>"}]}
    failure = {"exception.stacktrace": "Traceback: boom"}
    spans = [
        span(
            1,
            name="root",
            attributes={"mlflow.spanInputs": chat, "mlflow.spanOutputs": {"a": 1}, "temperature": 0.5},
        ),
        span(2, 1, name="tool", status="ERROR", message="it broke", events=[{"name": "exception", "attributes": failure}]),
    ]  # fmt: skip
    add_trace(store.context, store.experiment_id, "tr-1", spans)
    root = pages.get(f"/traces/tr-1?span={1:016x}").text
    assert re.search(r"<b>user</b><pre[^>]*>&lt;b&gt;hello&lt;/b&gt;</pre>", root)
    assert "{\n  &#34;a&#34;: 1\n}" in root
    assert re.search(r"temperature</th><td[^>]*>0.5<", root)
    tool = pages.get(f"/traces/tr-1?span={2:016x}", headers={"hx-request": "true"}).text
    assert "<html" not in tool
    assert '<pre class="problem">it broke</pre>' in tool
    assert "Traceback: boom" in tool
    raw = pages.get(f"/traces/tr-1?span={1:016x}&raw=1")
    assert raw.headers["content-disposition"] == 'attachment; filename="span.json"'
    assert raw.json()["name"] == "root"
    assert "1 failed" in pages.get("/traces/tr-1").text
    assert ">tool<" in pages.get("/traces/tr-1?find=error").text
    assert ">root<" not in pages.get("/traces/tr-1?find=error").text


def test_hostile_and_huge_content_is_text_of_a_bounded_length(
    store: Any, pages: TestClient
) -> None:
    evil = '<script>document.title="owned"</script>'
    spans = [
        span(1, name=evil * 100, kind=evil, attributes={evil: evil, "mlflow.spanInputs": evil * 50_000}),
        *(span(n, n - 1, name=f"level {n}") for n in range(2, 10_001)),
    ]  # fmt: skip
    add_trace(
        store.context,
        store.experiment_id,
        f"tr-{evil}",
        spans,
        name=evil * 100,
        request=evil * 50_000,
        tags={evil: evil},
        assessments=[{"name": evil, "value": {evil: [evil]}, "rationale": evil * 1000}],
        metadata={"mlflow.sourceRun": evil},
    )
    address = f"/traces/tr-{evil.replace('/', '%2F')}"
    for path in (
        f"/experiments/{store.experiment_id}/traces",
        address,
        f"{address}?span={1:016x}",
        f"{address}?find=level&page=3",
    ):
        answer = pages.get(path)
        assert answer.status_code == 200, path
        assert "<script>document" not in answer.text
        assert len(answer.text) < 1_500_000
    last = pages.get(f"{address}?page=20").text
    assert "level 10000" in last
    assert "9501\N{EN DASH}10000 of 10\N{THIN SPACE}000" in last
    assert pages.get(f"{address}?page=21").status_code == 400


def test_frames_that_no_writer_of_ours_made_break_no_page(store: Any, pages: TestClient) -> None:
    from ops.registry.trace_copies import traces_of

    book = traces_of(store.context)
    seen = {
        "time": 2**60,
        "end": None,
        "status": "OK",
        "request": 7,
        "response": [1],
        "usage": None,
    }
    seen |= {"cost": None, "tags": {}, "defaults": {}}
    head = {"op": "spans", "id": "tr-odd", "seen": seen, "n": [["a", None, 5]]}
    book.append_spans(store.experiment_id, [(head, [b"{}"])])
    odd = {"id": "x", "name": 5, "value": None, "overrides": None, "source": 3, "updated": "now"}
    book.append(store.experiment_id, {"op": "assess", "id": "tr-odd", "a": odd})
    rows = [["s", None, {"a": 1}, 9, "<OK>", 1, "soon", 8, ["no"]]]
    book.append_spans(store.experiment_id, [(head | {"id": "tr-types", "n": rows}, [b'[1,"2,3]'])])
    book.close()
    assert pages.get(f"/experiments/{store.experiment_id}/traces").status_code == 200
    for trace_id in ("tr-odd", "tr-types"):
        answer = pages.get(f"/traces/{trace_id}")
        assert answer.status_code == 200
        assert "Spans of this trace cannot be read" in answer.text


class TestInABrowser:
    pytestmark = [pytest.mark.service, pytest.mark.timeout(180)]

    def test_spans_are_folded_and_chosen_with_the_keyboard(
        self, store: Any, server: Any, page: Any
    ) -> None:
        expect = pytest.importorskip("playwright.sync_api").expect
        spans = [
            span(1, name="root", attributes={"mlflow.spanInputs": "went in"}),
            span(2, 1, name="middle", start=1),
            span(3, 2, name="leaf", start=2, attributes={"mlflow.spanOutputs": "came out"}),
            span(4, 1, name="other", start=3),
        ]
        add_trace(store.context, store.experiment_id, "tr-1", spans)
        page.goto(f"{server()}traces/tr-1")
        rows = page.locator(".spans tbody tr")
        expect(rows).to_have_count(4)
        folds = page.locator(".fold")
        folds.nth(1).focus()
        page.keyboard.press("Enter")
        expect(page.locator(".spans tbody tr:visible")).to_have_count(3)
        folds.nth(0).click()
        expect(page.locator(".spans tbody tr:visible")).to_have_count(1)
        folds.nth(0).click()
        expect(page.locator(".spans tbody tr:visible")).to_have_count(3)
        folds.nth(1).click()
        page.locator("h1").click()
        for _ in range(3):
            page.keyboard.press("j")
        page.keyboard.press("Enter")
        expect(page.locator("#span")).to_contain_text("came out")
        expect(page.locator("#span-name")).to_be_focused()
        assert f"span={3:016x}" in page.url
        page.reload()
        expect(page.locator("#span")).to_contain_text("came out")
        expect(rows.nth(2)).to_have_class("here")

    def test_a_search_replaces_the_list_alone(
        self, store: Any, server: Any, page: Any, traces: str
    ) -> None:
        expect = pytest.importorskip("playwright.sync_api").expect
        page.goto(server() + traces[1:])
        expect(page.locator("table.traces tbody tr")).to_have_count(5)
        page.evaluate("window.kept = true")
        page.fill("input[name=text]", "parcel 2")
        page.keyboard.press("Enter")
        expect(page.locator("table.traces tbody tr")).to_have_count(1)
        page.fill("input[name=text]", "")
        page.select_option("select[name=status]", "ERROR")
        expect(page.locator("table.traces td.name")).to_have_text("question 3")
        assert page.evaluate("window.kept")
        page.reload()
        expect(page.locator("table.traces td.name")).to_have_text("question 3")
        page.select_option("select[name=status]", "")
        page.locator("th a", has_text="Duration").click()
        expect(page.locator("table.traces td.name").first).to_have_text("question 4")
        page.locator("th a", has_text="Duration").click()
        expect(page.locator("table.traces td.name").first).to_have_text("question 0")
