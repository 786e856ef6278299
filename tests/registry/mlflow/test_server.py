"""A real `mlflow server` on a store of ours: its REST clients, and its web pages in Chromium."""

from __future__ import annotations

import shutil

import mlflow
import pytest

pytestmark = [pytest.mark.service, pytest.mark.filterwarnings("ignore::FutureWarning")]

CHROMIUM = (
    "--no-sandbox",
    "--disable-gpu",
    "--disable-quic",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
)


@pytest.fixture
def far(our_server):
    """A client that speaks REST to the server."""
    return mlflow.MlflowClient(our_server, our_server)


@pytest.fixture
def trained(far, request):
    """An experiment with three runs of one metric, and a model with a version from the best one."""
    name = f"exp {request.node.name}"
    experiment = far.create_experiment(name)
    runs = []
    for number in range(3):
        run_id = far.create_run(experiment, run_name=f"run-{number}").info.run_id
        far.log_param(run_id, "rate", number / 10)
        for step in range(20):
            far.log_metric(run_id, "loss", (number + 1) / (step + 1), step=step)
        far.log_text(run_id, f"notes of {number}", "notes.txt")
        far.set_terminated(run_id)
        runs.append(run_id)
    far.create_registered_model(name)
    far.create_model_version(name, f"runs:/{runs[0]}/model", runs[0])
    return name, experiment, runs


def test_a_rest_client_logs_reads_and_searches(far, trained, tmp_path):
    _, experiment, runs = trained
    found = far.search_runs([experiment], "metrics.loss < 0.12", order_by=["metrics.loss ASC"])
    assert [r.info.run_name for r in found] == ["run-0", "run-1"]
    assert len(far.get_metric_history(runs[2], "loss")) == 20
    got = far.download_artifacts(runs[1], "notes.txt", str(tmp_path))
    assert (tmp_path / "notes.txt").read_text() == "notes of 1", got


def test_a_rest_client_promotes_and_names_models(far, trained):
    name, _, _ = trained
    far.set_registered_model_alias(name, "champion", "1")
    far.transition_model_version_stage(name, "1", "Staging")
    found = far.get_model_version_by_alias(name, "champion")
    assert (found.version, found.current_stage) == ("1", "Staging")


def test_a_run_of_a_client_is_running_whoever_wrote_it(far):
    run_id = far.create_run("0").info.run_id
    assert far.get_run(run_id).info.status == "RUNNING"


def test_an_experiment_without_traces_has_none(far):
    assert far.search_traces(locations=[far.create_experiment("untraced")]) == []


@pytest.fixture(scope="module")
def browser(pages, tmp_path_factory):
    """Headless Chromium."""
    playwright = pytest.importorskip("playwright.sync_api", reason="pip install playwright")
    chromium = shutil.which("chromium") or shutil.which("google-chrome")
    if chromium is None:
        pytest.skip("apt-get install chromium")
    with playwright.sync_playwright() as driver:
        context = driver.chromium.launch_persistent_context(
            str(tmp_path_factory.mktemp("profile")),
            executable_path=chromium,
            args=list(CHROMIUM),
            viewport={"width": 1400, "height": 900},
        )
        yield context
        context.close()


@pytest.fixture
def page(browser):
    """A page of the browser, with what the server refused as ``page.failures``."""
    page = browser.new_page()
    page.set_default_timeout(60_000)
    page.failures = []
    page.on("response", lambda r: r.status >= 400 and page.failures.append((r.status, r.url)))
    yield page
    page.close()


def test_mlflows_pages_show_search_and_chart_the_runs(page, our_server, trained):
    _, experiment, runs = trained
    page.goto(f"{our_server}/#/experiments/{experiment}/runs")
    for number in range(3):
        page.get_by_text(f"run-{number}", exact=True).first.wait_for()

    box = page.get_by_placeholder("metrics.rmse < 1", exact=False).first
    box.fill("metrics.loss > 0.14")
    box.press("Enter")
    page.get_by_text("1 matching run").first.wait_for()
    assert page.get_by_text("run-2", exact=True).count() == 1
    assert page.get_by_text("run-0", exact=True).count() == 0

    page.goto(f"{our_server}/#/experiments/{experiment}/runs/{runs[1]}")
    page.get_by_text("rate", exact=True).first.wait_for()
    page.get_by_text("Finished").first.wait_for()
    page.goto(f"{our_server}/#/experiments/{experiment}/runs/{runs[1]}/model-metrics")
    page.locator(".js-plotly-plot").first.wait_for()
    page.goto(f"{our_server}/#/experiments/{experiment}/runs/{runs[1]}/artifacts")
    page.get_by_text("notes.txt").first.click()
    page.get_by_text("notes of 1").first.wait_for()
    refused = [one for one in page.failures if "users/current" not in one[1]]
    assert [one for one in refused if one[0] != 501] == []


def test_mlflows_pages_show_the_models(page, our_server, trained):
    name, _, _ = trained
    page.goto(f"{our_server}/#/models/{name}")
    page.get_by_text("Version 1").first.wait_for()
    assert [one for one in page.failures if "users/current" not in one[1]] == []


def test_an_experiment_is_made_in_the_page_and_seen_by_clients(page, our_server, far):
    page.goto(f"{our_server}/#/experiments")
    page.get_by_role("button", name="Create").first.click()
    page.get_by_placeholder("experiment name", exact=False).fill("made by hand")
    page.get_by_role("dialog").get_by_role("button", name="Create").click()
    page.wait_for_url("**/experiments/*")
    page.get_by_text("made by hand").first.wait_for()
    assert far.get_experiment_by_name("made by hand").lifecycle_stage == "active"
