"""The web UI without a browser: pages, the JSON API, and who may ask."""

from __future__ import annotations

import asyncio
import html
import io
import json
import math
import pathlib
import re
import tempfile
import zipfile
from typing import Any

import httpx2
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from starlette.testclient import TestClient

from ops.foundation import ValidationError
from ops.registry import ModelStage
from ops.registry.ui import app
from ops.registry.ui.app import create_app
from ops.registry.ui.curves import Axis, Curves, thinned
from ops.registry.ui.server import serve
from ops.registry.ui.streams import live_points

LOCAL = "http://127.0.0.1:5066"


def client(store: Any, **options: Any) -> TestClient:
    app = create_app(store.context, **options)
    return TestClient(app, base_url=LOCAL, raise_server_exceptions=False)


# Pages


def test_every_page_answers(store: Any) -> None:
    with client(store) as pages:
        for address in (
            "/",
            f"/experiments/{store.experiment_id}",
            f"/runs/{store.runs[0]}",
            f"/compare?runs={','.join(store.runs[:3])}",
            "/models",
            "/models/credit/risk",
            "/audit",
            "/health",
            "/static/app.css",
        ):
            answer = pages.get(address)
            assert answer.status_code == 200, address
            assert "default-src 'none'" in answer.headers["content-security-policy"]


def test_what_a_browser_loads_is_small_and_from_here() -> None:
    folder = pathlib.Path(app.__file__).parent
    static = list((folder / "static").iterdir())
    assert sum(file.stat().st_size for file in static) <= 400_000
    for file in (*static, *(folder / "templates").iterdir()):
        if "min." in file.name or file.suffix == ".txt":
            continue
        text = file.read_text(encoding="utf-8")
        hosts = set(re.findall(r"(?:https?:)?//[a-z0-9.-]+\.[a-z]{2,}", text))
        assert hosts <= {"http://www.w3.org"}, file  # the name of SVG, which is never loaded
        assert not re.search(r"<script(?![^>]*src=)|\son[a-z]+=\"|\sstyle=", text), file


def test_an_empty_store_says_how_to_begin(tmp_path: Any) -> None:
    from ops.registry import MLOpsConfig, MLOpsContext

    with MLOpsContext(MLOpsConfig(storage_path=str(tmp_path / "none"))) as context:
        pages = TestClient(create_app(context), base_url=LOCAL)
        assert "create_experiment" in pages.get("/").text
        assert "No model yet" in pages.get("/models").text
        assert "Nothing is audited" in pages.get("/audit").text
        assert not (tmp_path / "none").exists(), "looking creates nothing"


def test_the_table_searches_sorts_and_pages(store: Any) -> None:
    with client(store) as pages:
        address = f"/experiments/{store.experiment_id}"

        def names(query: str) -> list[str]:
            text = pages.get(address + query).text
            return re.findall(r'<td class="name[^>]*><a href="[^"]*">([^<]*)<', text)

        assert names("?order=metrics.auc+DESC&size=3") == ["trial-11", "trial-10", "trial-9"]
        assert names("?order=metrics.auc+DESC&size=3&page=2") == ["trial-8", "trial-7", "trial-6"]
        assert names("?filter=params.depth+%3D+2&order=name+ASC") == [
            "trial-11",
            "trial-2",
            "trial-5",
            "trial-8",
        ]
        tree = names("?tree=1&size=100")
        assert tree.index("child") == tree.index("trial-1") + 1
        assert names("?filter=metrics.auc+%3E+5") == []
        text = pages.get(address + "?differing=1&filter=name+LIKE+'trial%25'").text
        assert "params.depth" in text
        assert ">params.same<" not in text
        for order in ("metrics.auc+DESC", "metrics.%22auc%22+DESC"):
            head = pages.get(f"{address}?order={order}").text
            assert re.findall(r'aria-sort="descending"><a [^>]*>([^<]*)<', head) == ["metrics.auc"]
        best = pages.get(address + "?summary=max&filter=name+%3D+'trial-0'").text
        assert ">1<" in best  # the first loss


def test_the_table_says_how_many_runs_there_are_and_where_the_last_page_is(store: Any) -> None:
    with client(store) as pages:
        address = f"/experiments/{store.experiment_id}?size=4&order=name"
        first, last = pages.get(address).text, pages.get(address + "&page=4").text
        assert "1\N{EN DASH}4 of 15" in first
        assert 'aria-label="Last page">4 »' in first
        assert "13\N{EN DASH}15 of 15" in last
        assert 'id="next"' not in last
        assert "There is no such page." in pages.get(address + "&page=9").text
        assert "1\N{EN DASH}2 of 2" in pages.get(address + "&filter=name+LIKE+'trial-1_'").text
        assert '<td class="n">15</td>' in pages.get("/").text


def test_a_model_shows_where_each_version_comes_from(store: Any) -> None:
    tracker, registry = store.context.experiment_tracker, store.context.model_registry
    parent = tracker.start_run(store.experiment_id, "sweep")
    made = tracker.start_run(store.experiment_id, "the fit", parent_run_id=parent.run_id)
    file = store.context.path / "model.bin"
    more = {"signature": {"inputs": "float64[30]"}, "dependencies": ["scikit-learn>=1.5"]}
    registry.register_model("m", file, "pickle", "sklearn", experiment_run_id=made.run_id, **more)
    registry.register_model("m", file, "pickle", "sklearn", experiment_run_id="elsewhere")
    registry.register_model("m", file, "pickle", "sklearn")
    with client(store) as pages:
        text = pages.get("/models/m").text
    lineages = re.findall(r'<ol class="lineage".*?</ol>', text, re.DOTALL)
    said = [re.sub(r"<[^>]+>|\s+", " ", one).split() for one in lineages]
    assert [" ".join(words) for words in said] == [
        "run elsewhere (not in this store) version 2",
        "experiment credit risk run sweep RUNNING run the fit RUNNING version 1",
    ]
    assert "float64[30]" in text
    assert "scikit-learn&gt;=1.5" in text


@pytest.mark.parametrize(
    "query", ["?filter=metrics.auc+>>", "?order=nothing", "?page=0", "?size=x", "?summary=median"]
)
def test_a_wrong_request_is_said_and_not_a_failure(store: Any, query: str) -> None:
    with client(store) as pages:
        answer = pages.get(f"/experiments/{store.experiment_id}{query}")
        assert answer.status_code == 400
        assert 'class="problem"' in answer.text
        assert pages.get(f"/api/experiments/{store.experiment_id}/runs{query}").status_code == 400


@pytest.mark.parametrize(
    "address",
    ["/experiments/none", "/runs/none", "/models/none", "/api/runs/none", "/api/runs/none/stream"],
)
def test_what_is_not_there_is_a_404(store: Any, address: str) -> None:
    with client(store) as pages:
        answer = pages.get(address)
        assert answer.status_code == 404
        if address.startswith("/api"):
            assert answer.json()["code"] == "RUN_NOT_FOUND"


def test_text_of_the_store_is_never_markup(store: Any) -> None:
    with client(store) as pages:
        for address in (f"/experiments/{store.experiment_id}", "/"):
            text = pages.get(address + "?size=100").text
            assert "<script>document" not in text
            assert "<img src=x" not in text


# The API


def test_the_api_gives_runs_curves_and_models(store: Any) -> None:
    with client(store) as pages:
        (experiment,) = pages.get("/api/experiments").json()
        assert experiment["name"] == "credit risk"
        found = pages.get(
            f"/api/experiments/{store.experiment_id}/runs?filter=status+%3D+'RUNNING'"
        ).json()
        assert [run["name"] for run in found["runs"]] == ["live"]
        assert found["has_more"] is False
        assert found["total"] == 1
        run = pages.get(f"/api/runs/{store.runs[3]}").json()
        assert run["parameters"] == {"depth": 0, "same": 1, "booster": "gbtree"}
        auc = run["metric_summaries"]["auc"]
        assert (auc["count"], auc["last"]) == (1, pytest.approx(0.83))
        curves = pages.get(f"/api/curves/loss?runs={store.runs[0]},{store.runs[1]}").json()
        assert curves[store.runs[0]]["x"] == list(range(50))
        assert curves[store.runs[1]]["y"][0] == 1.01
        by_time = pages.get(f"/api/curves/loss?runs={store.runs[0]}&x=time&points=10").json()
        assert by_time[store.runs[0]]["points"] == 50
        assert len(by_time[store.runs[0]]["x"]) <= 12
        assert len(pages.get("/api/models").json()) == 3
        assert [v["stage"] for v in pages.get("/api/models/credit/risk").json()] == [
            "Archived",
            "Production",
            "None",
        ]
        assert pages.get("/api/health").json()["status"]


def test_nan_is_null_in_json(store: Any) -> None:
    with client(store) as pages:
        found = pages.get(f"/api/experiments/{store.experiment_id}/runs?size=100").text
        assert "NaN" not in found
        json.loads(found)


def test_the_stream_has_all_points_and_ends_with_the_run(store: Any) -> None:
    with client(store) as pages:
        text = pages.get(f"/api/runs/{store.runs[0]}/stream").text
    events = [line for line in text.splitlines() if line]
    points = json.loads(events[0].removeprefix("data: "))
    assert len(points) == 51
    assert [point[0] for point in points].count("loss") == 50
    assert events[-2:] == ["event: end", 'data: "COMPLETED"']


@given(
    st.lists(st.floats(-1e6, 1e6) | st.just(math.nan), max_size=3000),
    st.integers(2, 100),
)
def test_thinning_keeps_ends_and_peaks(values: list[float], most: int) -> None:
    points = [(float(n), value) for n, value in enumerate(values)]
    kept = thinned(points, most)
    assert len(kept) <= most + 2
    assert [x for x, _ in kept] == sorted({x for x, _ in kept})
    real = [v for v in values if not math.isnan(v)]
    if real:
        shown = [v for _, v in kept if not math.isnan(v)]
        assert (min(shown), max(shown)) == (min(real), max(real))
        assert (kept[0][0], kept[-1][0]) == (0.0, len(values) - 1)


# Who may ask


def test_another_host_name_is_refused(store: Any) -> None:
    with client(store) as pages:
        assert pages.get("/", headers={"host": "evil.example"}).status_code == 421
        assert pages.get("/", headers={"host": "localhost:5066"}).status_code == 200
        assert pages.get("/", headers={"host": "[::1]:5066"}).status_code == 200


def test_with_a_token_nobody_else_gets_in(store: Any) -> None:
    with client(store, token="secret-token") as pages:
        assert pages.get("/").status_code == 401
        assert pages.get("/?token=wrong").status_code == 401
        assert pages.get("/api/experiments").status_code == 401
        bearer = {"authorization": "Bearer secret-token"}
        assert pages.get("/api/experiments", headers=bearer).status_code == 200
        answer = pages.get("/models?filter=&token=secret-token", follow_redirects=False)
        assert answer.status_code == 303
        assert "token" not in answer.headers["location"]
        assert pages.get("/").status_code == 200  # by the cookie
        assert "secret-token" not in pages.get("/").text


def test_a_change_needs_a_form_of_ours_and_is_not_too_large(store: Any) -> None:
    change = {"name": "credit/risk", "version": "3", "stage": "Production"}
    with client(store, allow_writes=True) as pages:
        assert pages.post("/change/stage", data=change).status_code == 403
        found = re.search(r'name="csrf" value="([^"]+)"', pages.get("/models/credit/risk").text)
        assert found
        stolen = {**change, "csrf": "x" + found[1][1:]}
        assert pages.post("/change/stage", data=stolen).status_code == 403
        assert pages.post("/change/stage", content=b"x" * 70_000).status_code == 413
        registry = store.context.model_registry
        assert registry.get_model_by_stage("credit/risk", ModelStage.PRODUCTION).version == 2
        assert pages.post("/change/stage", data={**change, "csrf": found[1]}).status_code == 200
        assert registry.get_model_by_stage("credit/risk", ModelStage.PRODUCTION).version == 3


@pytest.mark.parametrize(
    "path",
    ["../../../../etc/passwd", "..%2f..%2findex.parquet", "%2e%2e/%2e%2e/x", "/etc/passwd", "no"],
)
def test_no_path_leaves_the_artifacts_of_the_run(store: Any, path: str) -> None:
    with client(store) as pages:
        answer = pages.get(f"/runs/{store.runs[0]}/artifacts/{path}")
        assert answer.status_code in {400, 404}
        assert "root:" not in answer.text


def test_a_folder_is_a_download_too_packed_and_leaves_nothing(
    store: Any, tmp_path: Any, monkeypatch: Any
) -> None:
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    weights = store.context.path / "weights"
    (weights / "deep").mkdir(parents=True)
    (weights / "deep" / "layer.bin").write_bytes(b"layer")
    store.context.experiment_tracker.log_artifact(store.runs[0], weights)
    left = set(tmp_path.iterdir())
    with client(store) as pages:
        answer = pages.get(f"/runs/{store.runs[0]}/artifacts/weights")
        assert answer.headers["content-disposition"] == 'attachment; filename="weights.zip"'
        assert zipfile.ZipFile(io.BytesIO(answer.content)).read("deep/layer.bin") == b"layer"
        one = pages.get(f"/runs/{store.runs[0]}/artifacts/weights/deep/layer.bin")
        assert one.content == b"layer"
        assert pages.get(f"/runs/{store.runs[0]}/artifacts/weights/none").status_code == 404
    assert set(tmp_path.iterdir()) == left


def test_an_artifact_is_a_download_whatever_it_is(store: Any) -> None:
    with client(store) as pages:
        answer = pages.get(f"/runs/{store.runs[0]}/artifacts/notes/page.html")
        assert answer.text == "<b>text</b>"
        assert answer.headers["content-disposition"].startswith("attachment")
        assert answer.headers["x-content-type-options"] == "nosniff"


@settings(max_examples=150, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    path=st.sampled_from(
        ["/", "/experiments/{e}", "/compare", "/models", "/api/experiments/{e}/runs"]
    )
    | st.builds(lambda text: "/" + text, st.text(max_size=30)),
    query=st.dictionaries(
        st.sampled_from(["filter", "order", "page", "size", "runs", "columns", "token", "x"]),
        st.text(max_size=40),
        max_size=4,
    ),
    method=st.sampled_from(["GET", "POST", "HEAD", "PUT"]),
)
def test_no_request_whatever_makes_the_server_fail(
    store: Any, path: str, query: dict[str, str], method: str
) -> None:
    pages = client(store, allow_writes=True)
    address = path.format(e=store.experiment_id) if "{e}" in path else path
    try:
        answer = pages.request(method, address, params=query)
    except (ValueError, TypeError, httpx2.InvalidURL):  # the client could not even say it
        return
    assert answer.status_code < 500, (address, query, answer.text)


def test_beyond_loopback_a_token_is_required(store: Any) -> None:
    with pytest.raises(ValidationError, match="token"):
        serve(store.context, host="0.0.0.0", port=0)


# Odd data


def test_a_run_whose_parent_was_erased_is_shown(store: Any) -> None:
    tracker = store.context.experiment_tracker
    parent = tracker.start_run(store.experiment_id, "above")
    child = tracker.start_run(store.experiment_id, "below", parent_run_id=parent.run_id)
    tracker._runs.erase(parent.run_id)  # as `mlflow gc` does
    with client(store) as pages:
        answer = pages.get(f"/runs/{child.run_id}")
        assert answer.status_code == 200
        assert "a run that is gone" in answer.text
        assert pages.get(f"/runs/{parent.run_id}").status_code == 404


def test_the_stream_of_a_run_that_is_erased_ends(store: Any) -> None:
    tracker = store.context.experiment_tracker

    async def events() -> list[str]:
        found = []
        async for event in live_points(tracker, store.live, pause_seconds=0):
            found.append(event)
            if len(found) == 1:
                tracker._runs.erase(store.live)
        return found

    first, last = asyncio.run(events())
    assert '["loss",0,1.0,' in first.replace(" ", "")
    assert last == 'event: end\ndata: "ERASED"\n\n'


def test_a_stream_without_history_begins_with_the_latest_points(store: Any) -> None:
    with client(store) as pages:
        address = f"/api/runs/{store.runs[0]}/stream"
        (whole, latest) = (
            json.loads(pages.get(address, params=query).text.split("\n")[0].removeprefix("data: "))
            for query in ({}, {"history": "0"})
        )
    assert len(whole) == 51
    assert sorted((key, step) for key, step, _, _ in latest) == [("auc", 0), ("loss", 49)]


@pytest.mark.parametrize("number", ["0", "-1", "1e3", "000000001" + "9" * 5000, "9" * 5000])
def test_numbers_in_addresses_are_refused_with_a_sentence(store: Any, number: str) -> None:
    with client(store) as pages:
        for address in (
            f"/api/experiments/{store.experiment_id}/runs?page={number}",
            f"/api/experiments/{store.experiment_id}/runs?size={number}",
            f"/api/curves/loss?runs={store.runs[0]}&points={number}",
        ):
            answer = pages.get(address)
            assert (answer.status_code, "whole number" in answer.json()["error"]) == (400, True)


def test_every_column_can_be_sorted_by_its_head(store: Any) -> None:
    tracker = store.context.experiment_tracker
    other = tracker.create_experiment("odd keys").experiment_id
    with tracker.run_context(other) as run:
        tracker.log_metrics(run.run_id, {'with "quotes"': 1.0, "with `ticks`": 2.0, "a.b, c": 3.0})
    with client(store) as pages:
        page = pages.get(f"/experiments/{other}").text
        heads = {html.unescape(found) for found in re.findall(r'href="(\?[^"]*order=[^"]*)"', page)}
        assert len(heads) == 6
        assert {pages.get(f"/experiments/{other}{head}").status_code for head in heads} == {200}


def test_the_curve_of_a_long_history_is_made_again_only_when_something_was_logged(
    store: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("ops.registry.ui.curves._LONG", 50)
    tracker, run = store.context.experiment_tracker, store.runs[0]
    read: list[str] = []
    original = tracker.get_metric_history

    def reading(run_id: str, key: str) -> Any:
        read.append(key)
        return original(run_id, key)

    monkeypatch.setattr(tracker, "get_metric_history", reading)
    drawn = Curves(tracker)
    one, two = (drawn.get([run], ["loss"], Axis(), 10) for _ in range(2))
    assert (one, len(read)) == (two, 1)
    tracker.log_metric(run, "loss", 7.0, step=50)
    assert drawn.get([run], ["loss"], Axis(), 10)["loss"][run]["y"][-1] == 7.0
    over = drawn.get([run], ["loss"], Axis.parse("metrics.auc"), 10)["loss"][run]
    assert (over["x"], over["y"]) == ([0.8], [1.0])
    assert read == ["loss", "loss", "auc", "loss"]


def test_a_run_is_read_once_for_all_its_metrics_and_then_only_what_was_added(
    store: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    tracker, run = store.context.experiment_tracker, store.live
    for step in range(20, 0, -1):  # late ones, and of another process's clock
        tracker.log_metric(run, "loss", float(step), step=step)
        tracker.log_metric(run, "rate", step / 10, step=step)
    monkeypatch.setattr(tracker, "get_metric_history", None)
    drawn = Curves(tracker)
    found = drawn.get([run, "gone"], ["loss", "rate", "none"], Axis())
    assert found["loss"][run]["x"] == list(range(21))
    assert found["rate"][run]["y"][:2] == [0.1, 0.2]
    assert found["none"] == {run: {"x": [], "y": [], "points": 0}}
    tracker.log_metric(run, "loss", -1.0, step=21)
    assert drawn.get([run], ["loss"], Axis())["loss"][run]["y"][-1] == -1.0
    over = drawn.get([run], ["loss"], Axis.parse("metrics.rate"))["loss"][run]
    assert (over["x"][0], over["y"][0], over["points"]) == (0.1, 1.0, 20)
    times = drawn.get([run], ["loss"], Axis("time"))["loss"][run]
    assert times["x"] == sorted(times["x"])
    assert times["x"][0] == 0


def test_only_so_many_points_are_kept_between_requests(
    store: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("ops.registry.ui.curves._KEPT_POINTS", 120)
    drawn = Curves(store.context.experiment_tracker)
    first = drawn.get(store.runs, ["loss"], Axis())
    assert list(drawn._runs) == store.runs[-2:]
    assert drawn.get(store.runs, ["loss"], Axis()) == first


def test_curves_of_many_metrics_of_any_name_are_one_request(store: Any) -> None:
    odd = "../a//b?c#d & é"
    store.context.experiment_tracker.log_metric(store.live, odd, 2.0, step=1)
    with client(store) as pages:
        runs = f"{store.live},{store.runs[0]},none"
        found = pages.get("/api/curves", params={"runs": runs, "key": [odd, "loss"]}).json()
        assert found[odd][store.live] == {"x": [1.0], "y": [2.0], "points": 1}
        assert found["loss"].keys() == {store.live, store.runs[0]}
        for wrong in ({"key": []}, {"x": "moon"}, {"x": "metrics."}, {"runs": ""}, {"points": "1"}):
            answer = pages.get("/api/curves", params={"runs": runs, "key": ["loss"], **wrong})
            assert answer.status_code == 400, wrong
        assert pages.get("/api/curves/loss?runs=none").status_code == 404


def test_the_stream_of_changes_names_metrics_and_ends_with_the_last_run(store: Any) -> None:
    with client(store) as pages:
        text = pages.get(f"/api/stream?runs={store.runs[0]},none").text
    events = [line for line in text.splitlines() if line]
    assert json.loads(events[0].removeprefix("data: ")) == {
        "loss": [store.runs[0]],
        "auc": [store.runs[0]],
    }
    assert events[1:] == [
        "event: end",
        f'data: ["{store.runs[0]}", "COMPLETED"]',
        "event: end",
        'data: ["none", "ERASED"]',
        "event: over",
        "data: null",
    ]


def test_a_workspace_lists_its_runs_by_group_and_refuses_what_it_cannot_draw(store: Any) -> None:
    address = f"/experiments/{store.experiment_id}/charts"
    with client(store) as pages:
        page = pages.get(f"{address}?group=params.depth&hidden={store.runs[3]}&x=metrics.auc").text
        groups = re.findall(r'<li class="group" data-group="([^"]*)"', page)
        assert groups == ["0", "1", "2", "(none)", "&lt;img src=x onerror=alert(1)&gt;"]
        box = f'class="eye" value="{store.runs[3]}"'
        assert f"{box} checked" not in page
        assert box in page
        assert '<option value="metrics.auc" selected>' in page
        assert "1\N{EN DASH}4 of 15" in pages.get(f"{address}?size=4").text
        for wrong in (
            "x=moon",
            "smooth=2",
            "smooth=nan",
            "group=metrics.auc",
            "filter=>",
            "page=0",
        ):
            answer = pages.get(f"{address}?{wrong}")
            assert (answer.status_code, 'class="problem"' in answer.text) == (400, True), wrong
        assert "No run fits this search." in pages.get(f"{address}?filter=name='x'").text
