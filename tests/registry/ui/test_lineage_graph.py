"""The drawing of a model's lineage: each node once, none over another, edges from what was first to what came of it."""

from __future__ import annotations

import re
from typing import Any

import pytest
from starlette.testclient import TestClient

from ops.registry import ModelStage
from ops.registry.ui.app import create_app
from ops.registry.ui.lineage import origin_of
from ops.registry.ui.lineage_graph import (
    MOST_VERSIONS,
    NODE_HEIGHT,
    NODE_WIDTH,
    Graph,
    lineage_graph,
)

LOCAL = "http://127.0.0.1:5066"


@pytest.fixture
def model(store: Any) -> str:
    """Three versions: two of nested runs with one parent, one of a run that is not here."""
    tracker, registry = store.context.experiment_tracker, store.context.model_registry
    sweep = tracker.start_run(store.experiment_id, "sweep").run_id
    runs = [
        tracker.start_run(store.experiment_id, f"fit {n}", parent_run_id=sweep).run_id
        for n in (1, 2)
    ]
    file = store.context.path / "model.bin"
    for run in [*runs, "elsewhere"]:
        registry.register_model("m", file, "pickle", "sklearn", experiment_run_id=run)
    registry.promote_model("m", 1, ModelStage.PRODUCTION)
    registry.promote_model("m", 2, ModelStage.PRODUCTION)
    registry.set_alias("m", "champion", 2)
    registry.set_alias("m", "<b>", 3)
    return "m"


def graph_of(store: Any, name: str) -> Graph:
    versions = store.context.model_registry.list_model_versions(name)
    tracker = store.context.experiment_tracker
    return lineage_graph(versions, {v.version: origin_of(v, tracker) for v in versions})


def test_each_node_is_there_once_and_in_its_column(store: Any, model: str) -> None:
    graph = graph_of(store, model)
    columns: dict[float, list[str]] = {}
    for node in sorted(graph.nodes, key=lambda node: (node.x, node.y)):
        columns.setdefault(node.x, []).append(node.label)
    assert list(columns.values()) == [
        ["credit risk"],
        ["sweep"],
        ["elsewhere", "fit 2", "fit 1"],
        ["version 3", "version 2", "version 1"],
        ["@<b>", "Production", "@champion", "Archived"],
    ]
    assert len(graph.edges) == 10


def test_no_node_is_over_another_and_edges_go_to_the_right(store: Any, model: str) -> None:
    graph = graph_of(store, model)
    boxes = [(node.x, node.y) for node in graph.nodes]
    for n, (x, y) in enumerate(boxes):
        assert 0 <= x <= graph.width - NODE_WIDTH
        assert 0 <= y <= graph.height - NODE_HEIGHT
        assert all(x != a or abs(y - b) > NODE_HEIGHT for a, b in boxes[:n])
    for edge in graph.edges:
        numbers = [float(number) for number in re.findall(r"[\d.]+", edge)]
        assert numbers[0] < numbers[-2]


def test_the_page_draws_it_with_links_and_nothing_of_the_store_as_markup(
    store: Any, model: str
) -> None:
    text = TestClient(create_app(store.context), base_url=LOCAL).get(f"/models/{model}").text
    drawing = re.findall(r'<svg class="graph".*?</svg>', text, re.DOTALL)[0]
    assert f'<a href="/experiments/{store.experiment_id}">' in drawing
    assert '<a href="#v2">' in drawing
    assert "alias &lt;b&gt;" in drawing
    assert "<b>" not in drawing


def test_of_many_versions_the_newest_are_drawn(store: Any) -> None:
    file = store.context.path / "model.bin"
    for _ in range(MOST_VERSIONS + 3):
        store.context.model_registry.register_model("many", file, "pickle", "sklearn")
    graph = graph_of(store, "many")
    assert graph.left_out == 3
    assert [node.label for node in graph.nodes][:2] == ["version 15", "version 14"]
    assert not graph.edges
    long = graph.nodes[0]
    long.label = "a long name of which the end differs: 0123456789"
    assert long.text == "a long name…0123456789"
