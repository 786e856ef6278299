"""`mlflow gc` deletes for ever what had been deleted, and nothing else."""

from __future__ import annotations

import pathlib
import urllib.parse
import warnings

import mlflow
import pytest
from click.testing import CliRunner
from mlflow.exceptions import MlflowException

from ops.registry.errors import RunNotFoundError
from ops.registry.fsck import check


@pytest.fixture
def gc(uri):
    """Run `mlflow gc` with arguments and return what it said."""

    def run(*arguments):
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # of sqlalchemy, about what mlflow does with it
            from mlflow.cli import gc as command

            done = CliRunner().invoke(
                command, ["--backend-store-uri", uri, "--tracking-uri", uri, *arguments]
            )
        if done.exception is not None:
            raise done.exception
        return done.output

    return run


@pytest.fixture
def store(client):
    return client._tracking_client.store


@pytest.fixture(params=["in the journals", "in the table"])
def settle(request, context):
    """Compact the indexes, or leave them as they are."""
    return context.experiment_tracker.compact if request.param == "in the table" else lambda: None


def test_gc_erases_deleted_runs_with_their_artifacts(client, context, root, gc, settle):
    kept, gone = (client.create_run("0", run_name=n).info.run_id for n in ("kept", "gone"))
    for run_id in (kept, gone):
        client.log_metric(run_id, "auc", 0.5)
        client.log_text(run_id, "hello", "a.txt")
        client.set_terminated(run_id)
    place = pathlib.Path(urllib.parse.urlparse(client.get_run(gone).info.artifact_uri).path)
    client.delete_run(gone)
    settle()
    assert gone in gc()
    assert [r.info.run_id for r in client.search_runs(["0"], run_view_type=3)] == [kept]
    with pytest.raises(MlflowException, match="not found"):
        client.get_run(gone)
    with pytest.raises(RunNotFoundError):
        context.experiment_tracker.get_run(gone)
    assert not place.exists()
    assert not list(root.rglob(f"*{gone}*"))
    assert [r.run_id for r in context.experiment_tracker.list_runs("0")] == [kept]
    context.experiment_tracker.compact()
    assert [r.run_id for r in context.experiment_tracker.list_runs("0")] == [kept]
    assert check(context).problems == []
    context.experiment_tracker.rebuild()
    assert [r.run_id for r in context.experiment_tracker.list_runs("0")] == [kept]


def test_a_run_that_was_erased_elsewhere_is_not_shown_from_memory(client, uri, gc):
    run_id = client.create_run("0").info.run_id
    client.log_metric(run_id, "auc", 0.5)
    assert client.get_metric_history(run_id, "auc")
    other = mlflow.MlflowClient(f"{uri}?durability=process", uri)
    other.delete_run(run_id)
    other._tracking_client.store._hard_delete_run(run_id)
    for asking in (
        lambda: client.get_run(run_id),
        lambda: client.log_metric(run_id, "auc", 1),
        lambda: client.get_metric_history(run_id, "auc"),
    ):
        with pytest.raises(MlflowException, match="not found"):
            asking()


def test_gc_erases_deleted_experiments_and_their_numbers_stay_used(client, root, gc):
    made = client.create_experiment("one")
    client.create_run(made)
    model = client.create_logged_model(made)
    client.delete_experiment(made)
    gc()
    with pytest.raises(MlflowException, match="No Experiment"):
        client.get_experiment(made)
    with pytest.raises(MlflowException, match="not found"):
        client.get_logged_model(model.model_id)
    assert not (root / "experiment_tracking/runs" / made).exists()
    assert client.create_experiment("one") != made


def test_an_experiment_that_was_not_deleted_is_not_erased(client, store):
    made = client.create_experiment("one")
    with pytest.raises(MlflowException, match="deleted"):
        store._hard_delete_experiment(made)
    assert client.get_experiment(made).name == "one"


def test_gc_erases_deleted_logged_models(client, gc, store):
    kept, gone = (client.create_logged_model("0").model_id for _ in range(2))
    client.delete_logged_model(gone)
    assert gone in gc()
    assert client.get_logged_model(kept).model_id == kept
    assert store._get_deleted_logged_models() == []
    with pytest.raises(MlflowException, match="not found"):
        store.get_logged_model(gone, allow_deleted=True)


def test_gc_leaves_what_was_deleted_lately(client, gc, store):
    run_id = client.create_run("0").info.run_id
    client.delete_run(run_id)
    gc("--older-than", "1d")
    assert store._get_deleted_runs() == [run_id]
    assert store._get_deleted_runs(older_than=3_600_000) == []


def test_the_runs_of_a_deleted_experiment_count_as_deleted(client, store):
    made = client.create_experiment("one")
    run_id = client.create_run(made).info.run_id
    assert store._get_deleted_runs() == []
    client.delete_experiment(made)
    assert store._get_deleted_runs() == [run_id]


def test_what_a_disk_refuses_to_erase_can_be_erased_again(client, store, monkeypatch):
    run_id = client.create_run("0").info.run_id
    client.delete_run(run_id)
    with monkeypatch.context() as patched:
        patched.setattr(pathlib.Path, "unlink", _refuse)
        with pytest.raises(Exception, match="cannot be written"):
            store._hard_delete_run(run_id)
    assert client.get_run(run_id).info.lifecycle_stage == "deleted"
    store._hard_delete_run(run_id)
    with pytest.raises(MlflowException, match="not found"):
        client.get_run(run_id)


def _refuse(path, missing_ok=False):
    raise PermissionError(13, "Permission denied", str(path))


def test_a_run_of_the_same_id_can_come_back(client, context, store):
    run_id = client.create_run("0").info.run_id
    client.set_terminated(run_id)
    client.delete_run(run_id)
    store._hard_delete_run(run_id)
    store.create_run("0", "me", 5, [], "again", run_id=run_id)
    assert [r.info.run_name for r in client.search_runs(["0"])] == ["again"]
    context.experiment_tracker.compact()
    assert [r.info.run_name for r in client.search_runs(["0"])] == ["again"]
