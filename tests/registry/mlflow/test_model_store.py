"""The real mlflow client on ``ops-registry://``: registered models, logged models."""

from __future__ import annotations

import mlflow
import pytest
from mlflow.entities.logged_model_parameter import LoggedModelParameter
from mlflow.entities.logged_model_status import LoggedModelStatus
from mlflow.exceptions import MlflowException

from ops.registry.mlflow.trackingstore import OpsTrackingStore
from ops.registry.records import ModelStage

pytestmark = pytest.mark.filterwarnings("ignore::FutureWarning")  # mlflow, about stages


@pytest.fixture
def versions(client):
    """The model "credit" with three versions."""
    client.create_registered_model("credit", {"team": "ds"}, "Who pays")
    for number in (1, 2, 3):
        client.create_model_version("credit", f"/models/{number}", tags={"odd": str(number % 2)})


def test_a_model_and_its_versions_come_back(client, versions):
    model = client.get_registered_model("credit")
    assert (model.description, model.tags) == ("Who pays", {"team": "ds"})
    assert [v.version for v in model.latest_versions] == [3]
    version = client.get_model_version("credit", "2")
    assert (version.source, version.status, version.tags) == ("/models/2", "READY", {"odd": "0"})


def test_a_name_is_given_once(client, versions):
    with pytest.raises(MlflowException, match="already exists") as caught:
        client.create_registered_model("credit")
    assert caught.value.error_code == "RESOURCE_ALREADY_EXISTS"


def test_a_stage_archives_what_was_there(client, versions, context):
    client.transition_model_version_stage("credit", 1, "Production")
    client.transition_model_version_stage("credit", 2, "Production", archive_existing_versions=True)
    stages = {v.version: v.current_stage for v in client.search_model_versions("name='credit'")}
    assert stages == {1: "Archived", 2: "Production", 3: "None"}
    assert [v.version for v in client.get_latest_versions("credit", ["Production"])] == [2]
    ours = context.model_registry.get_model_by_stage("credit", ModelStage.PRODUCTION)
    assert ours.version == 2
    assert context.model_registry.rollback("credit").version == 1


def test_an_alias_moves_and_goes(client, versions, context):
    client.set_registered_model_alias("credit", "champion", 1)
    client.set_registered_model_alias("credit", "champion", 2)
    assert client.get_model_version_by_alias("credit", "champion").version == 2
    assert client.get_registered_model("credit").aliases == {"champion": 2}
    assert context.model_registry.get_model_by_alias("credit", "champion").version == 2
    client.delete_registered_model_alias("credit", "champion")
    with pytest.raises(MlflowException, match="not found"):
        client.get_model_version_by_alias("credit", "champion")


def test_tags_and_descriptions_change(client, versions):
    client.set_registered_model_tag("credit", "a", "1")
    client.delete_registered_model_tag("credit", "team")
    client.update_registered_model("credit", "new")
    client.set_model_version_tag("credit", "1", "b", "2")
    client.delete_model_version_tag("credit", "1", "odd")
    client.update_model_version("credit", "1", "of spring")
    model, version = client.get_registered_model("credit"), client.get_model_version("credit", "1")
    assert (model.tags, model.description) == ({"a": "1"}, "new")
    assert (version.tags, version.description) == ({"b": "2"}, "of spring")


def test_a_renamed_model_keeps_its_versions_and_aliases(client, versions, context):
    client.set_registered_model_alias("credit", "champion", 2)
    client.rename_registered_model("credit", "loans")
    assert client.get_model_version_by_alias("loans", "champion").name == "loans"
    assert context.model_registry.list_models() == ["loans"]
    with pytest.raises(MlflowException, match="not found"):
        client.get_registered_model("credit")
    client.create_registered_model("credit")
    with pytest.raises(MlflowException, match="already exists"):
        client.rename_registered_model("loans", "credit")


def test_deleted_versions_and_models_are_gone_and_numbers_are_not_given_again(client, versions):
    client.delete_model_version("credit", "3")
    assert client.create_model_version("credit", "/models/4").version == 4
    client.delete_registered_model("credit")
    with pytest.raises(
        MlflowException, match=r"Model Version \(name=credit, version=1\) not found"
    ):
        client.get_model_version("credit", "1")
    assert client.search_registered_models() == []
    client.create_registered_model("credit")
    assert client.get_registered_model("credit").latest_versions == []
    assert client.create_model_version("credit", "/models/5").version == 5


def test_models_are_found_by_mlflows_filter_in_pages(client):
    for number in range(5):
        client.create_registered_model(f"m{number}", {"odd": str(number % 2)})
    found = client.search_registered_models("tags.odd = '1'", order_by=["name DESC"])
    assert [m.name for m in found] == ["m3", "m1"]
    page = client.search_registered_models(max_results=3)
    rest = client.search_registered_models(max_results=3, page_token=page.token)
    assert [m.name for m in [*page, *rest]] == [f"m{n}" for n in range(5)]
    assert [m.name for m in client.search_registered_models("name ILIKE 'M4'")] == ["m4"]


@pytest.mark.parametrize("field", ["last_updated_timestamp", "timestamp"])
def test_models_are_ordered_by_their_last_change(client, field):
    for name in ("a", "b", "c"):
        client.create_registered_model(name)
    while True:  # until a millisecond has passed
        client.update_registered_model("a", "changed last")
        models = {m.name: m.last_updated_timestamp for m in client.search_registered_models()}
        if models["a"] > max(models["b"], models["c"]):
            break
    found = client.search_registered_models(order_by=[f"{field} DESC"], max_results=1)
    assert [m.name for m in found] == ["a"]


def test_a_field_orders_models_once_and_must_be_known(client):
    with pytest.raises(MlflowException, match="duplicate fields"):
        client.search_registered_models(order_by=["timestamp", "last_updated_timestamp DESC"])
    with pytest.raises(MlflowException, match="Invalid order"):
        client.search_registered_models(order_by=["creation_timestamp"])


def test_a_version_that_is_archived_was_changed_then(client, versions):
    client.transition_model_version_stage("credit", 1, "Production")
    client.transition_model_version_stage("credit", 2, "Production", archive_existing_versions=True)
    first, second = (client.get_model_version("credit", n) for n in (1, 2))
    assert first.last_updated_timestamp == second.last_updated_timestamp


def test_a_model_that_was_registered_here_is_seen_by_mlflow(client, context, tmp_path):
    (tmp_path / "model.bin").write_bytes(b"weights")
    made = context.model_registry.register_model(
        "native", tmp_path / "model.bin", "binary", "none", tags={"a": "1"}
    )
    found = client.get_model_version("native", "1")
    assert (found.tags, found.source) == ({"a": "1"}, made.artifact_uri)
    client.set_registered_model_alias("native", "champion", 1)
    assert context.model_registry.get_model_by_alias("native", "champion").checksum == made.checksum


def test_a_store_that_mlflow_wrote_is_sound(client, versions, run_id, context):
    from ops.registry.fsck import check

    client.log_metric(run_id, "a", 1)
    client.set_terminated(run_id)
    client.set_tag(run_id, "after", "the end")
    client.rename_registered_model("credit", "loans")
    assert check(context).problems == []


class Doubling(mlflow.pyfunc.PythonModel):
    """A model that needs nothing."""

    def predict(self, model_input: list[float]) -> list[float]:
        return [2 * one for one in model_input]


def test_a_model_is_logged_registered_and_loaded_again(uri, client):
    with mlflow.start_run() as run:
        info = mlflow.pyfunc.log_model(
            name="doubling",
            python_model=Doubling(),
            registered_model_name="twice",
            pip_requirements=[],
        )
        mlflow.log_metric("error", 0.5, model_id=info.model_id)
    assert mlflow.pyfunc.load_model("models:/twice/1").predict([2.0]) == [4.0]
    logged = client.get_logged_model(info.model_id)
    assert (logged.status, logged.source_run_id) == (LoggedModelStatus.READY, run.info.run_id)
    assert [(m.key, m.value) for m in logged.metrics] == [("error", 0.5)]
    found = client.get_run(run.info.run_id)
    assert [o.model_id for o in found.outputs.model_outputs] == [info.model_id]
    assert client.get_model_version("twice", "1").model_id == info.model_id


def test_logged_models_are_found_changed_and_deleted(client):
    made = [client.create_logged_model("0", f"m{n}", params={"n": str(n)}) for n in range(3)]
    client.set_logged_model_tags(made[1].model_id, {"a": "1", "b": "2"})
    client.delete_logged_model_tag(made[1].model_id, "b")
    client.finalize_logged_model(made[1].model_id, LoggedModelStatus.READY)
    found = client.search_logged_models(["0"], "params.n = '1'")
    assert [(m.name, m.tags, m.status) for m in found] == [
        ("m1", {"a": "1"}, LoggedModelStatus.READY)
    ]
    client.delete_logged_model(made[0].model_id)
    assert {m.name for m in client.search_logged_models(["0"])} == {"m1", "m2"}


def test_pages_of_logged_models_belong_to_one_search(client):
    made = [client.create_logged_model("0", f"m{n}").name for n in range(5)]
    store = client._tracking_client.store
    page = store.search_logged_models(["0"], max_results=3)
    rest = store.search_logged_models(["0"], max_results=3, page_token=page.token)
    assert sorted(m.name for m in [*page, *rest]) == made
    assert rest.token is None
    for other in (
        {"experiment_ids": ["1"]},
        {"experiment_ids": ["0"], "filter_string": "name = 'm1'"},
        {"experiment_ids": ["0"], "order_by": [{"field_name": "name"}]},
    ):
        with pytest.raises(MlflowException, match="page token do"):
            store.search_logged_models(**other, page_token=page.token)


def test_logged_models_are_ordered_by_what_a_dataset_gave(client, run_id):
    first, second = (client.create_logged_model("0", name).model_id for name in ("first", "second"))
    values = [(first, "a", 0.1), (first, "b", 0.9), (second, "a", 0.2), (second, "b", 0.8)]
    for at, (model, digest, value) in enumerate(values):
        client.log_metric(
            run_id,
            "auc",
            value,
            timestamp=at,
            model_id=model,
            dataset_name="iris",
            dataset_digest=digest,
        )
    for digest, expected in (("a", ["first", "second"]), ("b", ["second", "first"])):
        clause = {"field_name": "metrics.auc", "dataset_digest": digest}
        found = client.search_logged_models(["0"], order_by=[clause])
        assert [m.name for m in found] == expected


def test_tags_and_parameters_of_logged_models_become_texts(client):
    made = client.create_logged_model("0", tags={"n": 1}, params={"depth": 3})
    assert (made.tags, made.params, made.metrics) == ({"n": "1"}, {"depth": "3"}, None)
    client.set_logged_model_tags(made.model_id, {"n": 2})
    assert client.get_logged_model(made.model_id).tags == {"n": "2"}


def test_a_logged_model_needs_an_active_experiment(client):
    made = client.create_experiment("one")
    client.delete_experiment(made)
    with pytest.raises(MlflowException, match="must be in the 'active' state"):
        client.create_logged_model(made)


def test_prompts_live_in_the_registry(uri):
    mlflow.genai.register_prompt("greet", "Hello {{name}}")
    assert mlflow.genai.load_prompt("prompts:/greet/1").format(name="Ann") == "Hello Ann"


def test_there_are_no_webhooks(client):
    store = client._get_registry_client().store
    assert store.list_webhooks_by_event(None) == []
    with pytest.raises(MlflowException, match="do not support webhooks"):
        store.list_webhooks()


def test_parameters_that_two_add_to_a_logged_model_at_once_are_all_there(uri, client, monkeypatch):
    model_id = client.create_logged_model("0", "m", params={"a": "1"}).model_id
    ours, theirs = OpsTrackingStore(uri), OpsTrackingStore(uri)
    look = ours._model

    def look_before_another(*args, **options):
        found = look(*args, **options)
        monkeypatch.setattr(ours, "_model", look)
        theirs.log_logged_model_params(model_id, [LoggedModelParameter("b", "2")])
        return found

    monkeypatch.setattr(ours, "_model", look_before_another)
    ours.log_logged_model_params(model_id, [LoggedModelParameter("c", "3")])
    assert client.get_logged_model(model_id).params == {"a": "1", "b": "2", "c": "3"}


def test_an_alias_that_ends_a_line_is_refused_as_mlflow_refuses(client, versions):
    with pytest.raises(MlflowException, match="no name for an alias") as caught:
        client.set_registered_model_alias("credit", "best\n", "1")
    assert caught.value.error_code == "INVALID_PARAMETER_VALUE"
