"""What a filter from outside may cost MLflow's doors: LIKE in linear time, everywhere, and bounds on length."""

import pytest
from mlflow.entities import LoggedModelStatus
from mlflow.exceptions import MlflowException

NEARLY = "%a" * 40 + "%b"
TEXT = "a" * 250


@pytest.fixture
def filled(client, run_id):
    """A store with the text in whatever a filter can look at."""
    client.log_param(run_id, "p", TEXT)
    client.set_tag(run_id, "t", TEXT)
    client.create_experiment(TEXT, tags={"t": TEXT})
    client.create_registered_model(TEXT, {"t": TEXT})
    client.create_model_version(TEXT, "/somewhere", run_id, {"t": TEXT}, await_creation_for=0)
    model = client.create_logged_model("0", TEXT, tags={"t": TEXT}, params={"p": TEXT})
    client.finalize_logged_model(model.model_id, LoggedModelStatus.READY)
    return client


def searches(client, sign, pattern):
    """Return how much each kind of search finds with *pattern*."""
    names = [f"{field} {sign} '{pattern}'" for field in ("name", "tags.t")]
    runs = [f"{field} {sign} '{pattern}'" for field in ("params.p", "tags.t")]
    return [
        *(len(client.search_runs(["0"], text)) for text in runs),
        *(len(client.search_experiments(filter_string=text)) for text in names),
        *(len(client.search_registered_models(text)) for text in names),
        *(len(client.search_model_versions(text)) for text in names),
        *(len(client.search_logged_models(["0"], text)) for text in [*runs, names[0]]),
    ]


def test_no_kind_of_search_hangs_on_a_pattern(filled):
    """Each is refused, and found, without trying everything; MLflow's own code would take years."""
    assert searches(filled, "LIKE", NEARLY) == [0] * 11
    assert searches(filled, "ILIKE", NEARLY) == [0] * 11
    assert searches(filled, "LIKE", "%a" * 40 + "%") == [1] * 11
    assert searches(filled, "ILIKE", "A%_A") == [1] * 11
    assert searches(filled, "LIKE", "A%") == [0] * 11


def test_a_pattern_counts_for_the_whole_text_with_its_lines(client, run_id):
    """As in SQL, % stands for line breaks too, and the end is the end."""
    client.log_param(run_id, "p", "a\nb\n")
    assert len(client.search_runs(["0"], "params.p LIKE 'a%'")) == 1
    assert not client.search_runs(["0"], "params.p LIKE '%b'")
    assert not client.search_runs(["0"], "params.p LIKE 'a_b'")


@pytest.mark.parametrize(
    "text", ["params.p LIKE '" + "a" * 1001 + "'", "params.p = '" + "a" * 20_000 + "'"]
)
def test_what_is_too_long_is_refused_with_the_limit(filled, text):
    """The error is one of MLflow's (HTTP 400), so no client repeats the request."""
    with pytest.raises(MlflowException, match="characters at most") as caught:
        filled.search_runs(["0"], text)
    assert caught.value.error_code == "INVALID_PARAMETER_VALUE"


def test_like_is_still_refused_for_numbers(filled):
    """The comparisons that MLflow allows are those that are allowed here."""
    for text in ("attributes.start_time LIKE '1%'", "metrics.m LIKE '1%'"):
        with pytest.raises(MlflowException) as caught:
            filled.search_runs(["0"], text)
        assert caught.value.error_code == "INVALID_PARAMETER_VALUE"
