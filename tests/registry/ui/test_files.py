"""The files of runs: found whoever wrote them, shown by their kind, and never more than shown."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import pandas as pd
import pytest
from starlette.testclient import TestClient

from ops.registry.ui.app import create_app
from ops.registry.ui.previews import preview

LOCAL = "http://127.0.0.1:5066"


@pytest.fixture
def pages(store: Any) -> TestClient:
    return TestClient(create_app(store.context), base_url=LOCAL, raise_server_exceptions=False)


@pytest.fixture
def folder(store: Any) -> Path:
    """The folder of a run, where MLflow's client writes files that no journal names."""
    found = Path(store.context.experiment_tracker.artifact_folder(store.runs[0]))
    (found / "model" / "data").mkdir(parents=True)
    (found / "model" / "MLmodel").write_text("flavors: {}")
    (found / "model" / "data" / "weights.bin").write_bytes(b"\0\1")
    (found / "plots #1").mkdir()
    (found / "plots #1" / "roc.svg").write_text("<svg xmlns='http://www.w3.org/2000/svg'/>")
    return found


def test_files_that_no_journal_names_are_on_the_page_beside_the_others(
    store: Any, pages: TestClient, folder: Path
) -> None:
    page = pages.get(f"/runs/{store.runs[0]}").text
    names = re.findall(r'<td class="text"><a href="[^"]*/files/[^"]*">([^<]*)<', page)
    assert names == [
        "model/MLmodel",
        "model/data/weights.bin",
        "notes/page.html",
        "plots #1/roc.svg",
    ]
    links = re.findall(r'href="(/runs/[^"]*/(?:files|artifacts)/[^"]*)"', page)
    assert {pages.get(link).status_code for link in links} == {200}
    assert "<figcaption>plots #1/roc.svg</figcaption>" in page


def test_folders_are_opened_one_by_one(store: Any, pages: TestClient, folder: Path) -> None:
    address = f"/runs/{store.runs[0]}/files/"
    top, inner = pages.get(address).text, pages.get(address + "model").text
    assert re.findall(r"/files/[^\"]*\">([^<]*)</a></td>", top) == ["model/", "notes/", "plots #1/"]
    assert re.findall(r"/files/[^\"]*\">([^<]*)</a></td>", inner) == ["data/", "MLmodel"]
    for wrong in ("none", "model/none", "../../x", "x" * 300, "model/MLmodel/x"):
        assert pages.get(address + wrong).status_code in {400, 404}


def test_a_run_with_more_files_than_a_page_shows_leads_to_all(
    store: Any, pages: TestClient, folder: Path
) -> None:
    for number in range(250):
        (folder / f"f{number:03d}.txt").write_text("x")
    page = pages.get(f"/runs/{store.runs[0]}").text
    assert "All files</a>" in page
    assert page.count('aria-label="Download ') == 200
    every = pages.get(f"/runs/{store.runs[0]}/files/").text
    assert every.count('aria-label="Download ') == 253


def test_links_in_the_folder_of_a_run_are_neither_listed_nor_followed(
    store: Any, pages: TestClient, folder: Path, tmp_path: Path
) -> None:
    (tmp_path / "secret").mkdir()
    (tmp_path / "secret" / "key").write_text("secret")
    (folder / "out").symlink_to(tmp_path / "secret")
    (folder / "key.txt").symlink_to(tmp_path / "secret" / "key")
    assert "key.txt" not in pages.get(f"/runs/{store.runs[0]}/files/").text
    for path in (
        "files/out",
        "files/out/key",
        "artifacts/key.txt",
        "sandbox/key.txt",
        "files/key.txt",
    ):
        answer = pages.get(f"/runs/{store.runs[0]}/{path}")
        assert answer.status_code >= 400
        assert "secret<" not in answer.text


def test_a_preview_is_the_beginning_by_the_kind_of_file(tmp_path: Path) -> None:
    def shown(name: str, content: bytes) -> Any:
        (tmp_path / name).write_bytes(content)
        return preview(tmp_path / name)

    assert shown("a.txt", b"hello").text == "hello"
    long = shown("a.log", b"x" * 400_000)
    assert (len(long.text), long.note) == (256 << 10, "The first 256 KB.")
    assert shown("a.json", b'{"a":[1]}').text == '{\n  "a": [\n    1\n  ]\n}'
    assert shown("b.json", b'{"a":').note.startswith("Shown as it is")
    assert shown("c.json", rb'"\ud800"').text == '"?"'
    table = shown("a.csv", b"x,y\n" + b"1,two\n" * 500)
    assert (table.columns, len(table.rows), table.note) == (["x", "y"], 100, "The first 100 rows.")
    assert shown("a.tsv", b"x\ty\n1\t2").rows == [["1", "2"]]
    assert shown("none.csv", b"").rows == []
    assert shown("a.bin", b"\0\1").kind == "none"
    assert [shown(f"a.{s}", b"").kind for s in ("PNG", "wav", "mp4", "htm")] == [
        "picture",
        "sound",
        "film",
        "html",
    ]
    assert shown("bad.parquet", b"no table").kind == "text"
    pd.DataFrame({"k": range(300), "v": ["y" * 900] * 300}).to_parquet(tmp_path / "t.parquet")
    rows = preview(tmp_path / "t.parquet")
    assert (rows.columns, len(rows.rows), rows.rows[0][0]) == (["k", "v"], 100, 0)
    assert rows.note == "The beginning of 300 rows, 2 columns."
    assert len(rows.rows[0][1]) == 201


def test_an_html_file_is_shown_in_a_sandbox_and_nowhere_else(store: Any, pages: TestClient) -> None:
    run = store.runs[0]
    page = pages.get(f"/runs/{run}/files/notes/page.html").text
    assert f'sandbox="allow-scripts" src="/runs/{run}/sandbox/notes%2Fpage.html"' in page
    framed = pages.get(f"/runs/{run}/sandbox/notes/page.html", headers={"sec-fetch-dest": "iframe"})
    assert framed.text == "<b>text</b>"
    policy = framed.headers["content-security-policy"]
    assert policy.startswith("sandbox allow-scripts; default-src 'none'")
    assert "allow-same-origin" not in policy
    opened = pages.get(
        f"/runs/{run}/sandbox/notes/page.html", headers={"sec-fetch-dest": "document"}
    )
    assert opened.headers["content-disposition"].startswith("attachment")


def test_what_was_deleted_is_hidden_until_it_is_wanted_and_marked(
    store: Any, pages: TestClient
) -> None:
    tracker = store.context.experiment_tracker
    tracker.delete_run(store.runs[2])
    gone = tracker.create_experiment("given up").experiment_id
    tracker.delete_experiment(gone)
    table = f"/experiments/{store.experiment_id}"
    assert "trial-2<" not in pages.get(table).text
    assert re.search(
        'trial-2</a> <span class="status DELETED"', pages.get(table + "?deleted=1").text
    )
    assert "given up" not in pages.get("/").text
    assert "Show 1 deleted" in pages.get("/").text
    for address in ("/?deleted=1", f"/runs/{store.runs[2]}", f"/experiments/{gone}"):
        assert "DELETED</span>" in pages.get(address).text
        assert "DELETED</span>" not in pages.get(f"/runs/{store.runs[1]}").text


def test_many_metrics_leave_parameters_in_sight_and_those_that_differ_are_never_cut(
    store: Any, pages: TestClient
) -> None:
    tracker = store.context.experiment_tracker
    wide = tracker.create_experiment("wide").experiment_id
    for rate in (0.1, 0.2):
        with tracker.run_context(wide, tags={"zone": str(rate)}) as run:
            tracker.log_metrics(run.run_id, {f"m{n:03d}": float(n) for n in range(80)})
            tracker.log_parameters(
                run.run_id, {**{f"p{n:03d}": n for n in range(80)}, "rate": rate}
            )
    page = pages.get(f"/experiments/{wide}").text
    heads = re.findall(r">((?:metrics|params|tags)\.[^<]*)</a></th>", page)
    assert len(heads) == 40
    assert {"params.rate", "tags.zone", "metrics.m000", "params.p000"} <= set(heads)
    assert "40 of 162 columns" in page
    differing = pages.get(f"/experiments/{wide}?differing=1").text
    heads = re.findall(r">((?:metrics|params|tags)\.[^<]*)</a></th>", differing)
    assert heads == ["params.rate", "tags.zone"]
    assert "columns</span>" not in differing


def test_whatever_is_cut_is_counted(
    store: Any, pages: TestClient, folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("ops.registry.ui.app._MOST_ENTRIES", 2)
    monkeypatch.setattr("ops.registry.ui.app._AUDIT_ENTRIES", 3)
    page = pages.get(f"/runs/{store.runs[0]}/files/").text
    assert "The first 2; 1 more are in the download." in page
    assert "The newest 3 entries." in pages.get("/audit").text
    file = store.context.path / "model.bin"
    for number in (1, 2):
        metrics = {f"m{n:02d}": 1.0 for n in range(20)} | {"z": float(number)}
        store.context.model_registry.register_model(
            "wide", file, "pickle", "sklearn", metrics=metrics
        )
    model = pages.get("/models/wide").text
    assert "12 of 21 metrics" in model
    assert '<th class="n">z</th>' in model


def test_deleted_runs_are_marked_wherever_they_are_named(store: Any, pages: TestClient) -> None:
    tracker = store.context.experiment_tracker
    child = tracker.search_runs(store.experiment_id, filter="name = 'child'")[0]
    tracker.delete_run(store.runs[1])
    runs = f"{store.runs[0]},{store.runs[1]}"
    for address in (
        f"/runs/{child.run_id}",
        f"/compare?runs={runs}",
        f"/experiments/{store.experiment_id}/charts?deleted=1",
    ):
        assert 'class="status DELETED"' in pages.get(address).text, address
    assert "DELETED" not in pages.get(f"/experiments/{store.experiment_id}/charts").text
