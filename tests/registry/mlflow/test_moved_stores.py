"""A store is one thing, whoever wrote it: moved, copied, exported, checked and collected, with all that MLflow keeps in it."""

import json
import shutil

import mlflow
import pytest
from mlflow.entities import Dataset, DatasetInput, LoggedModelStatus, Metric
from mlflow.exceptions import MlflowException

from ops.registry import MLOpsConfig, MLOpsContext, StorageError
from ops.registry.disk.journal import JournalReader, JournalWriter
from ops.registry.fsck import check, collect
from ops.registry.html_report import write_page
from ops.registry.transfer import copy_store


def later_on():
    """Return a time when nothing is new any more, in seconds since the epoch."""
    return 4e9


def open_store(folder):
    return MLOpsContext(MLOpsConfig(storage_path=folder))


def client_of(folder):
    return mlflow.MlflowClient(f"ops-registry://{folder}", f"ops-registry://{folder}")


class Wrote:
    """What MLflow wrote into a store, by its ids; `missing` says what of it is not in another one."""

    def __init__(self, folder, tmp_path):
        client = client_of(folder)
        self.own = client.create_experiment("own place", f"file://{folder}/own%20place")
        self.gone = client.create_experiment("gone")
        client.delete_experiment(self.gone)
        self.runs = [client.create_run("0").info.run_id, client.create_run(self.own).info.run_id]
        dataset = DatasetInput(Dataset("data", "d1", "local", "{}"))
        self.models = []
        for number, run_id in enumerate(self.runs):
            client.log_text(run_id, "weights", "model/weights.txt")
            client.log_inputs(run_id, [dataset])
            model = client.create_logged_model(
                ("0", self.own)[number], f"m{number}", run_id, tags={"a": "b"}
            )
            self.models.append(model.model_id)
            client.log_model_artifacts(model.model_id, str(self._files(tmp_path)))
            client.finalize_logged_model(model.model_id, LoggedModelStatus.READY)
            client.log_batch(run_id, [Metric("auc", 0.5, 1, 1, model_id=model.model_id)])
            client.set_terminated(run_id)
        dropped = client.create_logged_model("0", "dropped")
        client.delete_logged_model(dropped.model_id)
        self.dropped = dropped.model_id
        client.create_registered_model("credit", {"team": "ds"}, "scores")
        for source, run_id in (
            *((f"{client.get_run(run).info.artifact_uri}/model", run) for run in self.runs),
            *((client.get_logged_model(model).artifact_location, None) for model in self.models),
            (str(self._files(tmp_path)), None),
        ):
            client.create_model_version("credit", source, run_id, await_creation_for=0)
        client.create_model_version(
            "credit", f"{folder}/experiment_tracking", None, await_creation_for=0
        )
        client.delete_model_version("credit", "6")
        client.set_registered_model_alias("credit", "champion", 2)
        client.create_registered_model("empty", {"k": "v"}, "no versions")
        client.create_registered_model("was")
        client.create_model_version("was", "/x", None, await_creation_for=0)
        client.delete_registered_model("was")
        client.create_registered_model("before")
        client.rename_registered_model("before", "after")

    @staticmethod
    def _files(tmp_path):
        files = tmp_path / "made elsewhere"
        files.mkdir(exist_ok=True)
        (files / "weights.txt").write_text("weights")
        return files

    def missing(self, folder, tmp_path):
        """Return what MLflow and the registry do not find or cannot load in the store at *folder*."""
        client, found = client_of(folder), []
        for run_id, model_id in zip(self.runs, self.models, strict=True):
            run = client.get_run(run_id)
            if [d.dataset.name for d in run.inputs.dataset_inputs] != ["data"]:
                found.append(f"the inputs of {run_id}")
            path = mlflow.artifacts.download_artifacts(
                artifact_uri=f"{run.info.artifact_uri}/model/weights.txt", dst_path=tmp_path / "run"
            )
            found += [] if path else [run_id]
            model = client.get_logged_model(model_id)
            if (model.tags, [m.value for m in model.metrics]) != ({"a": "b"}, [0.5]):
                found.append(f"tags and metrics of {model_id}")
            mlflow.artifacts.download_artifacts(
                artifact_uri=f"{model.artifact_location}/weights.txt", dst_path=tmp_path / "model"
            )
        with pytest.raises(MlflowException):
            client.get_logged_model(self.dropped)
        versions = client.search_model_versions("name = 'credit'")
        if {int(v.version) for v in versions} != {1, 2, 3, 4, 5}:
            found.append("versions")
        with open_store(folder) as context:
            for number in range(1, 5):
                uri = client.get_model_version_download_uri("credit", str(number))
                mlflow.artifacts.download_artifacts(
                    artifact_uri=f"{uri}/weights.txt", dst_path=tmp_path / "version"
                )
                native = context.model_registry.download_artifact(
                    "credit", number, tmp_path / f"v{number}", overwrite=True
                )
                if (native / "weights.txt").read_text() != "weights":
                    found.append(f"files of version {number}")
        model = client.get_registered_model("credit")
        if (model.aliases, model.tags) != ({"champion": 2}, {"team": "ds"}):
            found.append("alias and tags")
        if {m.name for m in client.search_registered_models()} != {"credit", "empty", "after"}:
            found.append("models")
        if client.get_experiment_by_name("gone").lifecycle_stage != "deleted":
            found.append("the deletion of an experiment")
        return found


@pytest.fixture
def wrote(tmp_path):
    return Wrote(tmp_path / "a", tmp_path)


def test_a_store_that_was_moved_has_everything(wrote, tmp_path):
    """After a rename every address leads to where the store lies now, and the check finds nothing wrong."""
    assert wrote.missing(tmp_path / "a", tmp_path) == []
    (tmp_path / "a").rename(tmp_path / "b")
    assert wrote.missing(tmp_path / "b", tmp_path) == []
    with open_store(tmp_path / "b") as context:
        report = check(context)
    assert report.problems == []
    assert report.logged_models == 3
    assert report.elsewhere == [f"credit/5: {tmp_path / 'made elsewhere'}"]


def test_an_export_has_everything_without_its_source(wrote, tmp_path):
    """Nothing in a copy leads into the store that it was made of, and a second copy brings nothing."""
    with open_store(tmp_path / "a") as source, open_store(tmp_path / "b") as target:
        done = copy_store(source, target)
        assert done.logged_models == 3
        assert done.left == [f"The files of credit/5 stay at {tmp_path / 'made elsewhere'}."]
        again = copy_store(source, target)
        assert (again.runs, again.changes, again.logged_models) == (0, 0, 0)
    shutil.rmtree(tmp_path / "a")
    assert wrote.missing(tmp_path / "b", tmp_path) == []
    with open_store(tmp_path / "b") as context:
        assert check(context).problems == []
    client = client_of(tmp_path / "b")
    client.create_registered_model("was")
    version = client.create_model_version("was", "/x", None, await_creation_for=0)
    assert int(version.version) == 2, "the number of a deleted version was given again"


def test_an_export_of_models_alone_has_their_files(wrote, tmp_path):
    """Without the runs, the files of versions come into the folder of the registry."""
    with open_store(tmp_path / "a") as source, open_store(tmp_path / "b") as target:
        copy_store(source, target, experiments=[], models=["credit"])
        shutil.rmtree(tmp_path / "a")
        for number in range(1, 5):
            path = target.model_registry.download_artifact(
                "credit", number, tmp_path / f"v{number}"
            )
            assert (path / "weights.txt").read_text() == "weights"
        assert collect(target, now=later_on) == []


def test_what_was_changed_since_the_last_copy_comes_with_the_next_one(wrote, tmp_path):
    """Deletions, names and tags of experiments, and changes of logged models, arrive in a second copy."""
    with open_store(tmp_path / "a") as source, open_store(tmp_path / "b") as target:
        copy_store(source, target)
        client = client_of(tmp_path / "a")
        client.rename_experiment(wrote.own, "renamed")
        client.set_experiment_tag(wrote.own, "t", "1")
        client.delete_experiment(wrote.own)
        client.set_logged_model_tags(wrote.models[0], {"a": "new"})
        client.delete_registered_model("empty")
        copy_store(source, target)
    client = client_of(tmp_path / "b")
    experiment = client.get_experiment(wrote.own)
    assert (experiment.name, experiment.tags, experiment.lifecycle_stage) == (
        "renamed",
        {"t": "1"},
        "deleted",
    )
    assert client.get_logged_model(wrote.models[0]).tags == {"a": "new"}
    assert "empty" not in {m.name for m in client.search_registered_models()}


def test_a_journal_with_absolute_addresses_of_an_older_version_leads_into_the_moved_store(
    wrote, tmp_path
):
    """Addresses that were written before stores could be moved are found by what they end with."""
    for journal in (
        "model_registry/models/journal.log",
        "experiment_tracking/logged_models/journal.log",
    ):
        path = tmp_path / "a" / journal
        text = json.dumps(JournalReader(path).poll())
        text = text.replace("file://{store}", f"file://{tmp_path}/a").replace(
            "{store}", f"{tmp_path}/a"
        )
        path.unlink()
        for record in json.loads(text):
            if record["op"] == "create" and "id" in record:
                place = f"file://{tmp_path}/a/experiment_tracking/logged_models/{record['id']}"
                record["fields"].setdefault("artifact_location", place)
            with JournalWriter(path) as writer:
                writer.append(record)
    (tmp_path / "a").rename(tmp_path / "b")
    client = client_of(tmp_path / "b")
    for number in (1, 3):
        assert client.get_model_version_download_uri("credit", str(number)).startswith(
            f"file://{tmp_path}/b/"
        )
    place = client.get_logged_model(wrote.models[0]).artifact_location
    assert place == f"file://{tmp_path}/b/experiment_tracking/logged_models/{wrote.models[0]}"


def test_frames_of_an_unknown_kind_are_kept_copied_and_reported(wrote, tmp_path):
    """A later version may write other kinds of frames: no operation fails at one, and none drops it."""
    path = tmp_path / "a/experiment_tracking/logged_models/journal.log"
    with JournalWriter(path) as writer:
        writer.append({"op": "sing", "id": wrote.models[0], "t": 1})
    journals = list((tmp_path / "a").glob(f"experiment_tracking/runs/*/{wrote.runs[0]}.main.log"))
    with JournalWriter(journals[0]) as writer:
        writer.append({"e": "sing", "t": 1})
    assert wrote.missing(tmp_path / "a", tmp_path) == []
    with open_store(tmp_path / "a") as source, open_store(tmp_path / "b") as target:
        done = copy_store(source, target)
        assert any("1 frames" in text for text in done.left)
        for context in (source, target):
            report = check(context)
            assert (report.problems, report.unknown_frames) == ([], 2)


def test_collecting_knows_what_mlflow_needs(wrote, tmp_path):
    """A deleted run stays while a version needs its files, and goes for ever after that; logged models too."""
    client = client_of(tmp_path / "a")
    client.delete_run(wrote.runs[0])
    with open_store(tmp_path / "a") as context:
        gone = collect(context, now=later_on, deleted_days=0)
        assert gone == [f"logged model {wrote.dropped}"]
        context.model_registry.download_artifact("credit", 1, tmp_path / "one")
        client.delete_model_version("credit", "1")
        assert f"run {wrote.runs[0]}" in collect(context, now=later_on, deleted_days=0)
        client.delete_logged_model(wrote.models[0])
        client.delete_model_version("credit", "3")
        gone = collect(context, now=later_on, deleted_days=0)
        assert [str(one).rpartition("/")[2] for one in gone] == [
            f"logged model {wrote.models[0]}",
            wrote.models[0],
        ]


def test_an_address_in_a_journal_is_no_reason_to_read_outside_of_the_store(wrote, tmp_path):
    """Whoever hands a store on decides what is in it, and not which files of the reader come out of it."""
    with open_store(tmp_path / "a") as source, open_store(tmp_path / "b") as target:
        with pytest.raises(StorageError, match="not in this store") as caught:
            source.model_registry.download_artifact("credit", 5, tmp_path / "out")
        assert "download_artifacts" in str(caught.value.suggestions)
        copy_store(source, target)
    assert not list((tmp_path / "b").rglob("made elsewhere"))


def test_the_page_shows_models_without_versions_and_logged_models(wrote, tmp_path):
    """The report of a store leaves nothing out that MLflow wrote."""
    with open_store(tmp_path / "a") as context:
        text = write_page(context, tmp_path / "page.html").read_text()
    assert "<td>empty</td>" in text
    assert wrote.models[0] in text
    assert wrote.dropped not in text
