"""MLflow's filters and orders give what MLflow's own code gives, however the rows are stored."""

from __future__ import annotations

import mlflow
import pytest
from hypothesis import given
from hypothesis import strategies as st
from mlflow.exceptions import MlflowException
from mlflow.utils.search_utils import SearchUtils

from ops.registry.mlflow.bounded_search import RunSearch
from ops.registry.mlflow.run_search import to_node
from ops.registry.records import RunStatus
from ops.registry.run_rows import RunningSummary, RunRow
from ops.registry.search.filters import holds
from ops.registry.search.query import lookup


@pytest.fixture(params=["in the journals", "in the table"])
def runs(request, client, context):
    """Twelve runs of an experiment, as segments of journals or compacted into Parquet."""
    made = client.create_experiment("many")
    for number in range(12):
        run = client.create_run(made, start_time=1000 + number, run_name=f"run {number}")
        run_id = run.info.run_id
        if number != 5:
            client.log_metric(run_id, "auc", number / 10)
        client.log_param(run_id, "depth", number % 3)
        client.set_tag(run_id, "team", "Data" if number % 2 else "web")
        client.set_terminated(run_id, "FAILED" if number == 7 else "FINISHED", 2000 + number)
    if request.param == "in the table":
        context.experiment_tracker.compact()
    return made


CASES = [
    ("metrics.auc > 0.85", [11, 10, 9]),
    ("metrics.auc = 0.3", [3]),
    ("metrics.auc != 0.3 and metrics.auc < 0.5", [4, 2, 1, 0]),
    ("params.depth = '2' and metrics.auc >= 0.5", [11, 8]),
    ("params.depth != '0' and metrics.auc < 0.3", [2, 1]),
    ("tags.team LIKE 'D%' and metrics.auc > 0.8", [11, 9]),
    ("tags.team ILIKE 'data' and params.depth = '1'", [7, 1]),
    ("attributes.status = 'FAILED'", [7]),
    ("attributes.run_name = 'run 4'", [4]),
    ("start_time >= 1010", [11, 10]),
    ("end_time < 2001", [0]),
    ("tags.nothing = 'x'", []),
]


@pytest.mark.parametrize(("asked", "expected"), CASES)
def test_a_filter_finds_what_it_says(client, runs, asked, expected):
    found = client.search_runs([runs], asked)
    assert [int(r.info.run_name[4:]) for r in found] == expected


@pytest.mark.parametrize(
    ("order", "expected"),
    [
        (["metrics.auc DESC"], [11, 10, 9, 8, 7, 6, 4, 3, 2, 1, 0, 5]),
        (["metrics.auc ASC"], [0, 1, 2, 3, 4, 6, 7, 8, 9, 10, 11, 5]),
        (["params.depth DESC", "start_time ASC"], [2, 5, 8, 11, 1, 4, 7, 10, 0, 3, 6, 9]),
        (None, list(range(11, -1, -1))),
    ],
)
def test_runs_come_in_the_order_that_is_asked_for_in_pages(client, runs, order, expected):
    found, token = [], None
    while True:
        page = client.search_runs([runs], order_by=order, max_results=5, page_token=token)
        found += [int(r.info.run_name[4:]) for r in page]
        token = page.token
        if not token:
            break
    assert found == expected


_ORDERS = [
    None,
    ["metrics.auc ASC"],
    ["metrics.auc DESC", "params.depth ASC"],
    ["params.depth ASC"],
    ["params.depth DESC", "metrics.nothing ASC"],
    ["tags.team DESC", "attributes.end_time ASC"],
    ["attributes.status ASC", "attributes.run_name DESC"],
    ["attributes.end_time DESC"],
    ["attributes.run_id DESC"],
    ["attributes.artifact_uri ASC"],
    ["attributes.Created ASC"],
    ["attributes.user_id ASC", "attributes.start_time ASC"],
    ["tags.`mlflow.parentRunId` DESC"],
]
_FILTERS = [
    "",
    "params.depth != '2'",
    "tags.team LIKE 'd%'",
    "metrics.auc >= 0",
    "attributes.status != 'FAILED'",
]


@pytest.fixture(scope="module")
def mixed(tmp_path_factory):
    """A store with runs of every kind, in the table, on top of it, and going on; and all its runs."""
    from ops.registry.context import MLOpsConfig, MLOpsContext

    root = tmp_path_factory.mktemp("mixed")
    client = mlflow.MlflowClient(f"ops-registry://{root}", f"ops-registry://{root}")
    values = [0.5, float("nan"), None, 0.25, float("inf"), 0.5, -1.0, float("-inf")]
    runs = []
    for number in range(40):
        # Several start, and end, in the same millisecond.
        tags = {"team": "dDw"[number % 3]} if number % 4 else {}
        if number % 5 == 2:
            tags["mlflow.parentRunId"] = runs[number % 2]
        run = client.create_run("0", 1000 + number // 3, tags, run_name=f"run {number % 7}")
        runs.append(run.info.run_id)
        if (value := values[number % len(values)]) is not None:
            client.log_metric(runs[-1], "auc", value)
        if number % 6:
            client.log_param(runs[-1], "depth", number % 11)
        if number < 35:
            client.set_terminated(runs[-1], ["FINISHED", "FAILED", "KILLED"][number % 3], 2000)
        if number == 24:
            with MLOpsContext(MLOpsConfig("local", str(root))) as context:
                context.experiment_tracker.compact()
            client.set_tag(runs[3], "team", "late")
            client.delete_run(runs[5])
    return client, list(client.search_runs(["0"], run_view_type=3))


@pytest.mark.parametrize("asked", _FILTERS)
@pytest.mark.parametrize("order", _ORDERS, ids=str)
def test_the_order_is_that_of_mlflows_own_code_in_every_page(mixed, order, asked):
    client, everything = mixed
    there = [run for run in everything if run.info.lifecycle_stage == "active"]
    expected = SearchUtils.sort(SearchUtils.filter(there, asked), order)
    found, token = [], None
    while True:
        page = client.search_runs(["0"], asked, 1, 7, order, token)
        assert len(page) == 7 or not page.token
        found += page
        token = page.token
        if not token:
            break
    assert [r.info.run_id for r in found] == [r.info.run_id for r in expected]


def test_deleted_runs_are_ordered_too(mixed):
    client, everything = mixed
    found = client.search_runs(["0"], "", 2, order_by=["metrics.auc DESC"])
    gone = [r.info.run_id for r in everything if r.info.lifecycle_stage == "deleted"]
    assert [r.info.run_id for r in found] == gone


def test_a_field_orders_once(client, runs):
    with pytest.raises(mlflow.exceptions.MlflowException, match="duplicate fields"):
        client.search_runs([runs], order_by=["start_time ASC", "attributes.created DESC"])


def test_a_page_reads_no_more_rows_than_it_shows(client, context, monkeypatch):
    from ops.registry.local.index.run_table import RunTable

    tracker = context.experiment_tracker
    experiment = tracker.create_experiment("many").experiment_id
    for number in range(50):
        run = tracker.start_run(experiment)
        tracker.log_metric(run.run_id, "auc", number / 50)
        tracker.end_run(run.run_id)
    tracker.compact()
    read = []
    rows = RunTable.rows
    monkeypatch.setattr(RunTable, "rows", lambda self, at: read.extend(at) or rows(self, at))
    first = client.search_runs([experiment], "metrics.auc < 0.9", 1, 5, ["metrics.auc DESC"])
    assert [r.data.metrics["auc"] for r in first] == [0.88, 0.86, 0.84, 0.82, 0.80]
    assert len(read) == 6
    read.clear()
    client.search_runs(
        [experiment], "metrics.auc < 0.9", 1, 5, ["metrics.auc DESC"], page_token=first.token
    )
    assert len(read) == 6


def test_several_experiments_are_searched_at_once(client, runs):
    other = client.create_experiment("other")
    made = client.create_run(other, start_time=5).info.run_id
    found = client.search_runs([runs, other, "no such"])
    assert len(found) == 13
    assert found[-1].info.run_id == made


def test_a_filter_that_is_no_filter_is_refused(client, runs):
    with pytest.raises(mlflow.exceptions.MlflowException, match="Invalid"):
        client.search_runs([runs], "this is no filter")


_KEYS = st.sampled_from(["auc", "depth", "team"])
_TEXTS = st.sampled_from(["a", "A", "ab", "b", "1", "10", ""])


@given(
    metrics=st.dictionaries(_KEYS, st.sampled_from([0.0, 1.0, 2.0])),
    params=st.dictionaries(_KEYS, _TEXTS),
    tags=st.dictionaries(_KEYS, _TEXTS),
    kind=st.sampled_from(["metrics", "params", "tags"]),
    key=_KEYS,
    sign=st.sampled_from(["=", "!=", "<", "<=", ">", ">=", "LIKE", "ILIKE"]),
    value=st.sampled_from(["a", "a%", "_", "%B", "1"]),
)
def test_the_columns_never_leave_out_what_mlflow_would_find(
    metrics, params, tags, kind, key, sign, value
):
    from ops.registry.mlflow.entities import Seen

    if (kind == "metrics" and "LIKE" in sign) or (kind != "metrics" and sign[0] in "<>"):
        return
    asked = f"{kind}.{key} {sign} " + ("1" if kind == "metrics" else f"'{value}'")
    row = RunRow("r", "e", "n", RunStatus.RUNNING, 0, params=params, tags=tags)
    row.metrics = {k: RunningSummary.of(v, 0, 0) for k, v in metrics.items()}
    theirs = SearchUtils.filter([Seen(row, None, None)], asked)
    node = to_node(RunSearch.parse_search_filter(asked))
    assert holds(node, lookup(row)) or not theirs


@pytest.mark.parametrize("token", ["x", "MTIz", "eyJvZmZzZXQiOiAtMX0="])
def test_a_token_of_no_page_is_refused_by_every_search(client, token):
    client.create_experiment("one")
    client.create_registered_model("m")
    for search in (
        lambda: client.search_runs(["0"], page_token=token),
        lambda: client.search_experiments(page_token=token),
        lambda: client.search_registered_models(page_token=token),
        lambda: client.search_model_versions(page_token=token),
    ):
        with pytest.raises(MlflowException) as caught:
            search()
        assert caught.value.error_code == "INVALID_PARAMETER_VALUE"
