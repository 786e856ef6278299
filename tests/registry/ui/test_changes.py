"""Changes by forms: done only where they are allowed, by a form of ours, and in the audit log."""

from __future__ import annotations

import re
from typing import Any

import pytest
from starlette.testclient import TestClient

from ops.registry import ModelStage
from ops.registry.errors import NotFoundError
from ops.registry.ui.app import create_app
from ops.registry.ui.changes import Changes

LOCAL = "http://127.0.0.1:5066"


class Visitor:
    """A browser with a page of ours open."""

    def __init__(self, store: Any) -> None:
        app = create_app(store.context, allow_writes=True)
        self.pages = TestClient(app, base_url=LOCAL, raise_server_exceptions=False)
        page = self.pages.get(f"/runs/{store.runs[0]}").text
        self.csrf = re.findall(r'name="csrf" value="([^"]+)"', page)[0]

    def post(self, change: str, **fields: str) -> Any:
        data = {"csrf": self.csrf, **fields}
        return self.pages.post(f"/change/{change}", data=data, headers={"origin": LOCAL})


@pytest.fixture
def visitor(store: Any) -> Visitor:
    return Visitor(store)


def test_no_change_is_made_without_leave_or_by_the_form_of_another_site(
    store: Any, visitor: Visitor
) -> None:
    reading = TestClient(create_app(store.context), base_url=LOCAL)
    names = [route.path for route in Changes(store.context).routes()]
    assert len(names) == 16
    for name in names:
        data = {"run_id": store.runs[0], "csrf": visitor.csrf}
        assert reading.post(name, data=data).status_code == 403
        assert visitor.pages.post(name, data={**data, "csrf": "guess"}).status_code == 403
        evil = {"origin": "http://evil.example"}
        assert visitor.pages.post(name, data=data, headers=evil).status_code == 403
        assert visitor.pages.get(name).status_code == 405
        assert visitor.post(name.rpartition("/")[2]).status_code == 400, "fields are missing"
    page = reading.get(f"/runs/{store.runs[0]}").text
    assert '<form method="post"' not in page


def test_a_run_gets_a_note_and_tags_and_is_deleted_and_restored(
    store: Any, visitor: Visitor
) -> None:
    tracker, run = store.context.experiment_tracker, store.runs[0]
    page = visitor.post("note", run_id=run, text="<b>first</b>\r\nsecond")
    assert '<p class="note">&lt;b&gt;first&lt;/b&gt;\nsecond</p>' in page.text
    assert tracker.get_run(run).tags["mlflow.note.content"] == "<b>first</b>\nsecond"
    visitor.post("note", run_id=run, text=" ")
    visitor.post("tag", run_id=run, key=" kept ", value="")
    visitor.post("tag", run_id=run, key="gone", value="x")
    visitor.post("untag", run_id=run, key="gone")
    assert tracker.get_run(run).tags == {"team": "ds", "kept": ""}
    deleted = visitor.post("delete-run", run_id=run)
    assert "Restore this run" in deleted.text
    assert tracker.get_run(run).deleted_at is not None
    visitor.post("restore-run", run_id=run)
    assert tracker.get_run(run).deleted_at is None
    done = [e.action for e in store.context.operations.audit.query(resource=f"run:{run}")]
    wanted = ["tag_set", "tag_deleted", "tag_set", "tag_set", "tag_deleted"]
    assert done[-7:] == [*wanted, "run_deleted", "run_restored"]


def test_a_run_is_renamed_everywhere_that_its_name_is_kept(store: Any, visitor: Visitor) -> None:
    tracker, run = store.context.experiment_tracker, store.runs[0]
    page = visitor.post("rename-run", run_id=run, name=" <i>best</i> ")
    assert "<h1>&lt;i&gt;best&lt;/i&gt; <span" in page.text
    assert tracker.get_run(run).name == "<i>best</i>"
    assert [
        r.run_id for r in tracker.search_runs(store.experiment_id, filter="name LIKE '%best%'")
    ] == [run]
    assert "mlflow.runName" not in tracker.get_run(run).tags
    tracker.set_tag(run, "mlflow.runName", "before")
    visitor.post("rename-run", run_id=run, name="after")
    assert tracker.get_run(run).tags["mlflow.runName"] == tracker.get_run(run).name == "after"
    assert visitor.post("rename-run", run_id=run, name="x" * 251).status_code == 400
    assert visitor.post("rename-run", run_id="none", name="x").status_code == 404
    done = store.context.operations.audit.query(resource=f"run:{run}")
    assert [e.details["name"] for e in done if e.action == "run_changed"] == [
        "<i>best</i>",
        "after",
    ]


def test_experiments_are_renamed_deleted_and_restored(store: Any, visitor: Visitor) -> None:
    tracker, experiment = store.context.experiment_tracker, store.experiment_id
    page = visitor.post("rename-experiment", experiment_id=experiment, name="loans")
    assert "<h1>loans</h1>" in page.text
    visitor.post("delete-experiment", experiment_id=experiment)
    assert tracker.list_experiments() == []
    page = visitor.post("restore-experiment", experiment_id=experiment)
    assert "DELETED" not in page.text


def test_a_view_is_saved_under_a_name_and_leads_nowhere_else(store: Any, visitor: Visitor) -> None:
    experiment = store.experiment_id
    query = "?group=params.depth&x=time&filter=metrics.auc > 0.8&token=secret&next=//evil"
    save = {"experiment_id": experiment, "name": "by depth", "query": query}
    page = visitor.post("save-view", kind="charts", **save)
    assert page.url.path == f"/experiments/{experiment}/charts"
    links = re.findall(r'<span class="view"><a href="([^"]*)">by depth</a>', page.text)
    shown = "filter=metrics.auc+%3E+0.8"
    assert links == [f"/experiments/{experiment}/charts?group=params.depth&amp;x=time&amp;{shown}"]
    assert visitor.post("save-view", kind="//evil", **save).status_code == 400
    tracker = store.context.experiment_tracker
    tracker.set_experiment_tag(experiment, "ops.ui.view.evil", "javascript:alert(1)?filter=x")
    page = visitor.pages.get(f"/experiments/{experiment}").text
    assert f'<a href="/experiments/{experiment}?filter=x">evil</a>' in page
    page = visitor.post("drop-view", experiment_id=experiment, name="by depth").text
    assert "by depth" not in page


def test_a_version_changes_its_stage_with_a_reason_and_rolls_back_as_previewed(
    store: Any, visitor: Visitor
) -> None:
    registry, name = store.context.model_registry, "credit/risk"
    before = visitor.pages.get("/models/credit/risk").text
    assert "Version 1 gets Production again; version 2, which has it now, is archived." in before
    assert "auc 0.91 → 0.9" in before
    page = visitor.post("stage", name=name, version="3", stage="Production", reason="beats <2>")
    assert "Production: beats &lt;2&gt;" in page.text
    log = store.context.operations.audit
    assert "beats <2>" in str(log.query(resource="model:credit/risk/3")[-1].details)
    page = visitor.post("rollback", name=name, reason="drift")
    assert registry.get_model_by_stage(name, ModelStage.PRODUCTION).version == 2
    assert "Production by rollback: drift" in page.text
    visitor.post("alias", name=name, version="2", alias="champion")
    assert "@champion → 2" in visitor.pages.get("/models").text
    visitor.post("describe", name=name, version="2", description="the one")
    assert registry.get_model_version(name, 2).metadata.description == "the one"
    visitor.post("unalias", name=name, alias="champion")
    with pytest.raises(NotFoundError):
        registry.get_model_by_alias(name, "champion")
    for wrong in ({"version": "x"}, {"stage": "Moon"}, {"name": "none"}, {"version": "99"}):
        fields = {"name": name, "version": "3", "stage": "Staging", **wrong}
        assert visitor.post("stage", **fields).status_code in {400, 404}, wrong


def test_versions_are_compared_field_by_field(store: Any, visitor: Visitor) -> None:
    page = visitor.pages.get("/models/credit/risk?compare=1&compare=3").text
    rows = dict(
        re.findall(r'<tr class="(?:differ|same)"><th scope="row">([^<]*)</th>(.*?)</tr>', page)
    )
    assert [
        re.sub("<[^>]+>", " ", rows[key]).split() for key in ("metrics.auc", "version.type")
    ] == [
        ["0.9", "0.92"],
        ["pickle", "pickle"],
    ]
    for wrong in ("9", "x", "1&compare=x"):
        assert visitor.pages.get(f"/models/credit/risk?compare={wrong}").status_code == 400
