"""Whole stores in and out: everything arrives, once, however often the copy is killed."""

from __future__ import annotations

import json
import math
import pathlib
from importlib.metadata import version

import mlflow
import pytest
from mlflow.entities import (
    Dataset,
    DatasetInput,
    InputTag,
    LoggedModelOutput,
    TraceInfo,
    TraceLocation,
    TraceState,
)
from mlflow.entities.logged_model_status import LoggedModelStatus

from ops.registry import MLOpsConfig, MLOpsContext
from ops.registry.errors import InvalidValueError
from ops.registry.fsck import check
from ops.registry.mlflow import export_mlflow, import_mlflow
from ops.registry.mlflow.__main__ import main
from ops.registry.mlflow.copy_endpoint import End

_OF_MLFLOW = pytest.mark.filterwarnings(
    "ignore:The ``noload``", "ignore::ResourceWarning"
)  # its own store
pytestmark = pytest.mark.filterwarnings("ignore::FutureWarning")  # mlflow, about stages


def fill(address, tmp_path, name="tuning", runs=4):
    """Make an experiment with everything a store can have, and the model "credit" of it."""
    client = mlflow.MlflowClient(address, address)
    home = client.create_experiment(name, tags={"team": "ds"})
    parent = client.create_run(home, start_time=1_000_000, run_name="parent").info.run_id
    made = [parent]
    for number in range(runs):
        tags = {"mlflow.parentRunId": parent, "number": str(number)}
        run_id = client.create_run(home, 2_000_000 + number, tags, f"child {number}").info.run_id
        made.append(run_id)
        client.log_param(run_id, "depth", number)
        for step in range(25):
            client.log_metric(run_id, "loss", 1 / (step + 1), timestamp=3_000_000 + step, step=step)
        client.log_metric(run_id, "odd", math.nan, timestamp=5)
        client.log_text(run_id, f"notes of {number}", "deep/notes.txt")
        data = Dataset("iris", f"d{number}", "local", "file:///iris")
        client.log_inputs(run_id, [DatasetInput(data, [InputTag("mlflow.data.context", "train")])])
        client.set_terminated(run_id, "FAILED" if number == 1 else "FINISHED", 4_000_000 + number)
    client.set_terminated(parent, end_time=9_000_000)
    logged = client.create_logged_model(home, "forest", made[1], {"a": "1"}, {"trees": "9"})
    weights = tmp_path / "weights.txt"
    weights.write_text("1 2 3")
    client.log_model_artifact(logged.model_id, str(weights))
    client.finalize_logged_model(logged.model_id, LoggedModelStatus.READY)
    client.log_outputs(made[2], [LoggedModelOutput(logged.model_id, 3)])
    client.log_metric(made[2], "error", 0.5, timestamp=7, step=1, model_id=logged.model_id)
    client.create_registered_model(f"credit {name}", {"kind": "tree"}, "who pays")
    for number in (1, 2):
        source = f"{client.get_run(made[number]).info.artifact_uri}/deep"
        client.create_model_version(f"credit {name}", source, made[number], {"n": str(number)})
    client.transition_model_version_stage(f"credit {name}", "2", "Production")
    client.set_registered_model_alias(f"credit {name}", "champion", "1")
    return made


def contents(address, tmp_path, name="tuning"):
    """Return all that a store says of an experiment and its model, without the ids."""
    client = mlflow.MlflowClient(address, address)
    experiment = client.get_experiment_by_name(name)
    found = client.search_runs([experiment.experiment_id], order_by=["start_time ASC"])
    names = {run.info.run_id: run.info.run_name for run in found}
    told = {"experiment": experiment.tags["team"], "runs": {}}
    own = {"ops.origin", "ops.copied_from", "mlflow.user", "mlflow.parentRunId"}
    for run in found:
        told["runs"][run.info.run_name] = {
            "info": (run.info.status, run.info.start_time, run.info.end_time),
            "params": run.data.params,
            "tags": {k: v for k, v in run.data.tags.items() if k not in own},
            "parent": names.get(run.data.tags.get("mlflow.parentRunId")),
            "histories": {
                key: [
                    (repr(m.value), m.timestamp, m.step)
                    for m in client.get_metric_history(run.info.run_id, key)
                ]
                for key in sorted(run.data.metrics)
            },
            "datasets": [(d.dataset.name, d.dataset.digest) for d in run.inputs.dataset_inputs],
            "outputs": [
                (client.get_logged_model(o.model_id).name, o.step)
                for o in run.outputs.model_outputs
            ],
            "files": [f.path for f in client.list_artifacts(run.info.run_id, "deep")],
        }
        for file in told["runs"][run.info.run_name]["files"]:
            folder = tmp_path / f"read {run.info.run_id}"
            folder.mkdir(exist_ok=True)
            got = client.download_artifacts(run.info.run_id, file, str(folder))
            with open(got) as text:
                told["runs"][run.info.run_name][file] = text.read()
    told["logged"] = [
        (
            m.name,
            m.params,
            m.tags["a"],
            m.status,
            names[m.source_run_id],
            [(x.key, x.value, x.timestamp, x.step, names[x.run_id]) for x in m.metrics],
            [f.path for f in client.list_logged_model_artifacts(m.model_id)],
        )
        for m in client.search_logged_models([experiment.experiment_id])
    ]
    model = client.get_registered_model(f"credit {name}")
    told["model"] = (model.description, model.tags, {k: int(v) for k, v in model.aliases.items()})
    told["versions"] = [
        (int(v.version), v.current_stage, v.tags["n"], names[v.run_id], v.source.rsplit("/", 1)[1])
        for v in client.search_model_versions(
            f"name='credit {name}'", order_by=["version_number ASC"]
        )
    ]
    return told


@pytest.fixture
def other(tmp_path):
    """The address of another store of ours."""
    return f"ops-registry://{tmp_path}/other"


def test_everything_arrives_with_its_ids(other, root, uri, tmp_path, client, context):
    runs = fill(other, tmp_path)
    seen = []
    done = import_mlflow(other, root, progress=lambda *step: seen.append(step))
    assert (done.experiments, done.runs, done.logged_models, done.versions) == (1, 5, 1, 2)
    assert (done.points, done.files, done.unresolved) == (4 * 26 + 1, 5, [])
    assert seen == [(n, 7) for n in range(1, 8)]
    assert contents(uri, tmp_path) == contents(other, tmp_path)
    assert {r.info.run_id for r in client.search_runs(done_ids(client))} == set(runs)
    assert check(context).problems == []


def done_ids(client):
    return [e.experiment_id for e in client.search_experiments()]


def test_a_second_copy_changes_nothing(other, root, uri, tmp_path):
    fill(other, tmp_path)
    import_mlflow(other, root)
    before = {p: p.stat().st_size for p in root.rglob("*.log")}
    done = import_mlflow(other, root)
    assert (done.runs, done.points, done.files, done.versions, done.there) == (0, 0, 0, 0, 7)
    assert {p: p.stat().st_size for p in root.rglob("*.log")} == before


def test_what_went_on_meanwhile_is_brought_by_the_next_copy(other, root, uri, client, tmp_path):
    there = mlflow.MlflowClient(other, other)
    run_id = there.create_run("0").info.run_id
    there.log_metric(run_id, "loss", 1, timestamp=1, step=1)
    import_mlflow(other, root)
    there.log_metric(run_id, "loss", 2, timestamp=2, step=2)
    there.log_text(run_id, "late", "late.txt")
    there.set_terminated(run_id, end_time=77)
    import_mlflow(other, root)
    assert [m.value for m in client.get_metric_history(run_id, "loss")] == [1, 2]
    assert client.get_run(run_id).info.end_time == 77
    assert [f.path for f in client.list_artifacts(run_id)] == ["late.txt"]


def test_only_what_is_named_is_copied(other, root, client, tmp_path):
    fill(other, tmp_path, "one", runs=2)
    fill(other, tmp_path, "two", runs=2)
    import_mlflow(other, root, experiments=["two"], models=[])
    assert [e.name for e in client.search_experiments()] == ["two", "Default"]
    assert client.search_registered_models() == []
    with pytest.raises(InvalidValueError, match="no experiment 'three'"):
        import_mlflow(other, root, experiments=["three"])


KILLED = """
import os, signal, sys
import ops.registry.mlflow.store_copies as copying
from mlflow import MlflowClient
from mlflow.store.artifact.local_artifact_repo import LocalArtifactRepository
from ops.registry.importing.run_writer import RunWriter
from ops.registry.mlflow.modelstore import OpsModelStore
from ops.registry.mlflow.trackingstore import OpsTrackingStore

left = 0

def mortal(holder, name):
    real = getattr(holder, name)
    def call(*args, **kwargs):
        global left
        left -= 1
        if left < 0:
            os.kill(os.getpid(), signal.SIGKILL)
        return real(*args, **kwargs)
    setattr(holder, name, call)

for name in ("create_run", "log_batch", "set_tag", "set_terminated", "log_inputs", "log_outputs",
             "finalize_logged_model", "set_logged_model_tags", "create_registered_model",
             "create_model_version", "transition_model_version_stage", "set_model_version_tag",
             "set_registered_model_alias", "create_experiment"):
    mortal(MlflowClient, name)
mortal(RunWriter, "write")
mortal(OpsModelStore, "create_model_version")
mortal(OpsTrackingStore, "create_logged_model")
mortal(LocalArtifactRepository, "log_artifact")

deaths = 0
while True:
    child = os.fork()
    if child == 0:
        left = deaths % 3 + 1
        copying.import_mlflow(sys.argv[1], sys.argv[2])
        os._exit(0)
    status = os.waitpid(child, 0)[1]
    if os.waitstatus_to_exitcode(status) == 0:
        break
    assert os.waitstatus_to_exitcode(status) == -signal.SIGKILL, status
    deaths += 1
    assert deaths < 500
print(deaths)
"""


@pytest.mark.fault
def test_a_copy_that_is_killed_again_and_again_brings_everything_once(
    other, root, uri, tmp_path, elsewhere
):
    fill(other, tmp_path)
    code, deaths = elsewhere.run(KILLED, other, str(root))
    assert code == 0
    assert int(deaths) > 6
    assert contents(uri, tmp_path) == contents(other, tmp_path)


def test_the_command_line_copies_and_says_what_went_wrong(other, root, uri, tmp_path, capsys):
    fill(other, tmp_path, runs=2)
    assert main(["import", other, "--path", str(root), "--json"]) == 0
    assert json.loads(capsys.readouterr().out)["runs"] == 3
    assert main(["import", other, "--path", str(root), "--experiment", "none"]) == 2
    assert "no experiment 'none'" in capsys.readouterr().err


def test_the_command_line_has_the_manner_of_all_of_ops(tmp_path, capsys, monkeypatch):
    monkeypatch.chdir(tmp_path)
    for words in (["--help"], ["--version"]):
        with pytest.raises(SystemExit) as ended:
            main(words)
        assert ended.value.code == 0
    shown = capsys.readouterr().out
    assert "exit codes: 0 " in shown
    assert shown.endswith(f" {version('ops-registry')}\n")
    export = ["export", "http://127.0.0.1:9", "--path", "no-such-folder"]
    for words in (["--json", *export], [*export, "--json"]):
        assert main(words) == 2
        out, err = capsys.readouterr()
        assert set(json.loads(out)["error"]) == {"code", "message"}
        assert err == "python -m ops.registry.mlflow: There is no store at no-such-folder.\n"
    assert main([]) == 2
    assert "usage: python -m ops.registry.mlflow" in capsys.readouterr().err
    assert list(tmp_path.iterdir()) == []


def test_an_end_that_fails_is_one_line_and_exit_code_1(root, capsys):
    assert main(["import", "no-such-scheme://host", "--path", str(root)]) == 1
    err = capsys.readouterr().err
    assert err.startswith("python -m ops.registry.mlflow: ")
    assert "Traceback" not in err


@pytest.mark.parametrize(
    "far",
    [
        pytest.param("our_server", marks=pytest.mark.service),
        # sqlalchemy warns about what mlflow does with it
        pytest.param("sqlite", marks=pytest.mark.filterwarnings("ignore")),
    ],
)
def test_a_store_goes_to_another_of_mlflows_and_comes_back(uri, root, far, tmp_path, request):
    far = request.getfixturevalue(far)
    fill(uri, tmp_path, "there and back")
    wanted = contents(uri, tmp_path, "there and back")
    done = export_mlflow(far, root, models=["credit there and back"])
    assert (done.runs, done.versions, done.unresolved) == (5, 2, [])
    assert contents(far, tmp_path, "there and back") == wanted
    again = export_mlflow(far, root, models=["credit there and back"])
    assert (again.runs, again.points, again.files, again.versions) == (0, 0, 0, 0)
    third = tmp_path / "third"
    import_mlflow(
        far,
        third,
        experiments=["there and back"],
        models=["credit there and back"],
    )
    assert contents(f"ops-registry://{third}", tmp_path, "there and back") == wanted


def numbers(client, name="credit"):
    return {int(v.version): v.description for v in client.search_model_versions(f"name = '{name}'")}


def with_gaps(address):
    """Register versions 1 to 4 and delete the first and the third one."""
    client = mlflow.MlflowClient(address, address)
    run = client.create_run("0")
    client.log_text(run.info.run_id, "weights", "model/weights.txt")
    client.set_terminated(run.info.run_id)
    client.create_registered_model("credit")
    for number in (1, 2, 3, 4):
        source = f"{run.info.artifact_uri}/model"
        client.create_model_version(
            "credit", source, run.info.run_id, description=f"the {number}.", await_creation_for=0
        )
    client.set_registered_model_alias("credit", "champion", 2)
    client.delete_model_version("credit", "1")
    client.delete_model_version("credit", "3")
    return client


@pytest.mark.filterwarnings("ignore")
def test_versions_keep_their_numbers_and_the_gaps_between_them(other, root, client, sqlite):
    """A pinned models:/credit/2 is the same model after an export and after an import."""
    with_gaps(other)
    assert import_mlflow(other, root).renumbered == []
    wanted = {2: "the 2.", 4: "the 4."}
    assert numbers(client) == wanted
    assert client.get_registered_model("credit").aliases == {"champion": 2}
    assert export_mlflow(sqlite, root, models=["credit"]).renumbered == []
    there = mlflow.MlflowClient(sqlite, sqlite)
    assert numbers(there) == wanted
    assert there.get_registered_model("credit").aliases == {"champion": 2}
    assert export_mlflow(sqlite, root, models=["credit"]).versions == 0
    assert numbers(there) == wanted


def test_a_number_that_is_taken_is_reported_and_not_given_twice(other, root, client):
    """Versions that are there keep their numbers; a copy of another one gets the next, and the report names it."""
    client.create_registered_model("credit")
    client.create_model_version("credit", "/mine", None, description="mine", await_creation_for=0)
    client.create_model_version("credit", "/gone", None, await_creation_for=0)
    client.delete_model_version("credit", "2")
    with_gaps(other)
    assert import_mlflow(other, root).renumbered == ["credit/2 is 3"]
    assert numbers(client) == {1: "mine", 3: "the 2.", 4: "the 4."}


def test_experiments_keep_their_ids(other, root, client):
    """An id is in addresses and scripts; one that is taken here is not given twice."""
    there = mlflow.MlflowClient(other, other)
    for name in ("a", "b"):
        there.create_experiment(name)
    client.create_experiment("mine")
    import_mlflow(other, root)
    found = {e.name: e.experiment_id for e in client.search_experiments()}
    assert found == {"Default": "0", "mine": "1", "b": "2", "a": "3"}


@pytest.mark.filterwarnings("ignore")
def test_an_export_takes_the_files_of_native_versions_along(root, context, sqlite, tmp_path):
    """A colleague loads a version of ours from an MLflow store after our folder is gone."""
    (tmp_path / "m.bin").write_bytes(b"weights")
    tracker, registry = context.experiment_tracker, context.model_registry
    experiment = tracker.create_experiment("native").experiment_id
    with tracker.run_context(experiment) as run:
        registry.register_model(
            "m", tmp_path / "m.bin", "binary", "mine", experiment_run_id=run.run_id
        )
    registry.register_model("alone", tmp_path / "m.bin", "binary", "mine")
    done = export_mlflow(sqlite, root, experiments=["native"], models=["m", "alone"])
    assert done.unresolved == []
    context.cleanup()
    root.rename(tmp_path / "away")
    there = mlflow.MlflowClient(sqlite, sqlite)
    for name in ("m", "alone"):
        uri = there.get_model_version_download_uri(name, "1")
        path = mlflow.artifacts.download_artifacts(
            artifact_uri=uri, dst_path=tmp_path / name, tracking_uri=sqlite
        )
        found = list(pathlib.Path(path).parent.rglob("m.bin"))
        assert [p.read_bytes() for p in found] == [b"weights"]
    (tmp_path / "away").rename(root)
    again = export_mlflow(sqlite, root, experiments=["native"], models=["m", "alone"])
    assert (again.versions, again.there) == (0, 3)


@_OF_MLFLOW
def test_one_odd_name_of_an_experiment_does_not_end_an_import(tmp_path):
    source = f"sqlite:///{tmp_path}/mlflow.db"
    client = mlflow.MlflowClient(source, source)
    names = ["line\n", " ", "\u0646\u200c\u0647", "plain", "x" * 500]
    for name in names:
        run = client.create_run(client.create_experiment(name), run_name="r" * 400).info.run_id
        client.log_metric(run, "loss", 1.0)
        client.set_terminated(run)
    done = import_mlflow(source, tmp_path / "ours")
    assert (done.experiments, done.runs, len(done.renamed)) == (5, 5, 2)
    with MLOpsContext(MLOpsConfig(storage_path=tmp_path / "ours")) as context:
        found = {one.name for one in context.experiment_tracker.list_experiments()}
    assert found == {"line", "experiment 2", *names[2:]}
    again = import_mlflow(source, tmp_path / "ours")
    assert (again.experiments, again.runs, again.there) == (0, 0, 5)


@_OF_MLFLOW
@pytest.mark.parametrize("name", ["it's", 'so-called "best"', "both ' and \""])
def test_versions_of_a_model_with_quotes_in_its_name_are_copied(root, tmp_path, name):
    source = f"sqlite:///{tmp_path}/mlflow.db"
    there = mlflow.MlflowClient(source, source)
    for other in (name, "plain"):
        there.create_registered_model(other)
        there.create_model_version(other, "/somewhere", None, await_creation_for=0)
    assert import_mlflow(source, root).versions == 2
    assert [v.version for v in End(f"ops-registry://{root}").versions(name)] == [1]


@_OF_MLFLOW
def test_what_a_copy_does_not_bring_is_named(root, tmp_path):
    source = f"sqlite:///{tmp_path}/mlflow.db"
    there = mlflow.MlflowClient(source, source)
    kept, gone = there.create_experiment("kept"), there.create_experiment("gone")
    for _ in range(2):
        there.delete_run(there.create_run(kept).info.run_id)
    there.delete_experiment(gone)
    assert import_mlflow(source, root).left_out == [
        "2 deleted runs of experiment 'kept'",
        "the deleted experiment 'gone'",
    ]
    assert import_mlflow(source, root, experiments=["Default"]).left_out == []
    location = TraceLocation.from_experiment_id(kept)
    trace = TraceInfo("tr-1", location, request_time=1, state=TraceState.OK)
    there._tracking_client.store.start_trace(trace)
    (_, traces) = import_mlflow(source, root, experiments=["kept"]).left_out
    assert traces == "the traces of experiment 'kept'"


@_OF_MLFLOW
def test_the_status_of_a_run_that_has_not_begun_is_exported(root, uri, client, sqlite):
    experiment = client.create_experiment("planned")
    run_id = client.create_run(experiment).info.run_id
    client.update_run(run_id, status="SCHEDULED")
    export_mlflow(sqlite, root, experiments=["planned"], models=[])
    far = mlflow.MlflowClient(sqlite, sqlite)
    (copy,) = far.search_runs([far.get_experiment_by_name("planned").experiment_id])
    assert copy.info.status == "SCHEDULED"
