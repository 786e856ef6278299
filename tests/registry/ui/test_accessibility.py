"""Each page by axe-core, which finds what keeps readers with a keyboard or a screen reader out."""

from __future__ import annotations

import pathlib
from typing import Any

import pytest
from tests.registry.ui.trace_maker import add_trace, span

axe = pytest.importorskip("axe_playwright_python")
pytestmark = [pytest.mark.service, pytest.mark.timeout(300)]


@pytest.mark.parametrize("colours", ["light", "dark"])
def test_no_page_has_a_serious_finding(store: Any, server: Any, browser: Any, colours: str) -> None:
    tracker, run = store.context.experiment_tracker, store.runs[0]
    tracker.log_text(run, "a,b\n1,2\n", "table.csv")
    tracker.set_tag(run, "mlflow.note.content", "A note.")
    tracker.set_experiment_tag(store.experiment_id, "ops.ui.view.mine", "charts?x=time")
    store.context.model_registry.set_alias("credit/risk", "champion", 2)
    spans = [span(1, attributes={"mlflow.spanInputs": "in"}), span(2, 1, status="ERROR")]
    shown = [{"name": "right", "value": True}]
    home = store.experiment_id
    add_trace(store.context, home, "tr-1", spans, assessments=shown, runs=[run], tags={"a": "b"})
    window = browser.new_context(color_scheme=colours, bypass_csp=True)
    page, address = window.new_page(), server("--allow-writes")
    source = (pathlib.Path(axe.__file__).parent / "axe.min.js").read_text(encoding="utf-8")
    experiment = f"experiments/{store.experiment_id}"
    found = []
    for path in (
        "",
        experiment,
        f"{experiment}/charts?group=params.depth",
        f"runs/{run}",
        f"runs/{run}/files/",
        f"runs/{run}/files/table.csv",
        f"runs/{run}/files/notes/page.html",
        f"compare?runs={','.join(store.runs[:3])}",
        "models",
        "models/credit/risk?compare=1&compare=2",
        "audit",
        "health",
        f"{experiment}/traces",
        f"traces/tr-1?span={1:016x}",
        "none",
    ):
        page.goto(address + path)
        if "charts" in path:
            page.locator(".chart canvas").first.wait_for()
        page.evaluate(source)
        violations = page.evaluate("axe.run(document, {iframes: false})")["violations"]
        found += [
            f"{path}: {one['id']} ({one['impact']}): {one['nodes'][0]['html']:.200}"
            for one in violations
            if one["impact"] in {"serious", "critical"}
        ]
    window.close()
    assert found == []
