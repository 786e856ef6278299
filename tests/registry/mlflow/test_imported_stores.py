"""What MLflow itself shows of a store that was imported from its own files or its own database."""

from __future__ import annotations

import pathlib

import mlflow.artifacts
import mlflow.genai
import pytest
from mlflow.entities import ViewType

from ops.registry.importing.formats import foreign_store
from ops.registry.importing.store_import import import_foreign


@pytest.fixture(params=["mlflow-2.9.2-mlruns", "mlflow-3.12.0-mlruns", "mlflow-3.17.0-sqlite"])
def imported(request, foreign, context):
    """A store of MLflow's, imported; returns what was handed to MLflow when it was written."""
    folder, expected = foreign(request.param)
    database = folder / "mlflow.db"
    import_foreign(foreign_store(database if database.exists() else folder / "mlruns"), context)
    return expected


def listed_artifacts(client, run_id, folder=None):
    """Return the sizes of all artifacts of a run by their paths."""
    found = {}
    for one in client.list_artifacts(run_id, folder):
        inner = (
            listed_artifacts(client, run_id, one.path) if one.is_dir else {one.path: one.file_size}
        )
        found |= inner
    return found


def test_mlflow_shows_runs_as_they_were(imported, client):
    for wanted in imported["runs"].values():
        run = client.get_run(wanted["run_id"])
        assert run.info.run_name == wanted["run_name"]
        assert run.info.experiment_id == wanted["experiment_id"]
        assert run.info.status == wanted["status"]
        assert run.info.lifecycle_stage == wanted["lifecycle_in_store"]
        assert run.info.start_time == wanted["start_time"]
        assert run.info.user_id == "alice"
        assert run.data.params == {k: str(v) for k, v in wanted["params"].items()}
        assert run.data.metrics.keys() == wanted["metrics"].keys()
        listed = listed_artifacts(client, run.info.run_id)
        sizes = {path: one["bytes"] for path, one in wanted["artifacts"].items()}
        assert sizes.items() <= listed.items()


def test_mlflow_finds_experiments_and_runs(imported, client):
    experiments = client.search_experiments(view_type=ViewType.ALL)
    assert {e.name: (e.experiment_id, e.lifecycle_stage) for e in experiments} == {
        name: (e["experiment_id"], e["lifecycle"]) for name, e in imported["experiments"].items()
    }
    ids = [e.experiment_id for e in experiments]
    found = client.search_runs(ids, run_view_type=ViewType.ALL)
    assert len(found) == imported["counts"]["runs"]
    assert [r.info.run_name for r in client.search_runs(ids, "params.lr = '0.1'")] == ["sweep-0"]


def test_mlflow_shows_datasets_that_were_inputs(imported, client):
    for name, wanted in imported["datasets"].items():
        (one,) = client.get_run(wanted["run_id"]).inputs.dataset_inputs
        assert one.dataset.name == name
        tags = {tag.key: tag.value for tag in one.tags}
        assert tags == wanted["input_tags"] | {"mlflow.data.context": wanted["context"]}


def test_mlflow_shows_logged_models(imported, client, context):
    for model_id, wanted in imported["logged_models"].items():
        if wanted.get("lifecycle") == "deleted":
            found = client.search_logged_models([wanted["experiment_id"]])
            assert model_id not in {model.model_id for model in found}
            continue
        model = client.get_logged_model(model_id)
        assert (model.name, model.source_run_id) == (wanted["name"], wanted["source_run_id"])
        assert str(model.status.value) == wanted["status"]
        assert model.params == wanted["params"]
        assert wanted["tags"].items() <= model.tags.items()
        measured = {(m.key, m.value, m.timestamp, m.step) for m in model.metrics or []}
        assert measured == {
            (k, *point) for k, points in wanted["metrics"].items() for point in points
        }
        if wanted["source_run_id"]:
            outputs = client.get_run(wanted["source_run_id"]).outputs.model_outputs
            assert [one.model_id for one in outputs] == [model_id]


def test_mlflow_shows_models_with_the_numbers_of_their_versions(imported, client, context):
    assert {m.name for m in client.search_registered_models()} == set(imported["registered_models"])
    for name, wanted in imported["registered_models"].items():
        model = client.get_registered_model(name)
        assert (model.description or None) == wanted["description"]
        assert model.tags == wanted["tags"]
        assert {alias: str(n) for alias, n in model.aliases.items()} == wanted["aliases"]
        found = {str(v.version): v for v in client.search_model_versions(f"name = '{name}'")}
        kept = {n for n, version in wanted["versions"].items() if not version["deleted"]}
        assert found.keys() == kept
        for number in kept:
            assert found[number].current_stage == wanted["versions"][number]["stage"]
            uri = client.get_model_version_download_uri(name, number)
            assert str(context.path) in uri


def test_mlflow_finds_the_files_of_an_imported_version(imported, uri, tmp_path):
    address = "models:/price model é@champion"
    path = mlflow.artifacts.download_artifacts(address, dst_path=str(tmp_path))
    assert "MLmodel" in {one.name for one in pathlib.Path(path).iterdir()}


def test_mlflow_shows_prompts(imported, client, uri):
    for name, versions in imported["prompts"].items():
        for number, text in versions.items():
            assert mlflow.genai.load_prompt(name, version=int(number)).template == text


def test_an_imported_store_that_was_moved_has_its_files(imported, context, tmp_path):
    context.cleanup()
    moved = context.path.rename(tmp_path / "moved")
    client = mlflow.MlflowClient(f"ops-registry://{moved}", f"ops-registry://{moved}")
    for name, wanted in imported["registered_models"].items():
        for number, version in wanted["versions"].items():
            if not version["deleted"]:
                address = client.get_model_version_download_uri(name, number)
                assert (pathlib.Path(address.removeprefix("file://")) / "MLmodel").is_file()
    for model_id, wanted in imported["logged_models"].items():
        if wanted["source_run_id"]:
            address = client.get_logged_model(model_id).artifact_location
            assert (pathlib.Path(address.removeprefix("file://")) / "MLmodel").is_file()
