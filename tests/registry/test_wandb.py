"""Training scripts for W&B, with one import line changed."""

from __future__ import annotations

import argparse
import json
import math
import os
import pathlib
import subprocess
import sys

import numpy as np
import pytest

from ops.registry import (
    AlreadyExistsError,
    InvalidValueError,
    RunNotFoundError,
    RunStatus,
    get_mlops_context,
    init_mlops,
    reset_mlops_context,
    wandb,
)
from ops.registry.wandb import session
from ops.registry.wandb.media import Media


@pytest.fixture(autouse=True)
def tracker(tmp_path, monkeypatch, operations):
    """The tracker of the current store, which is new."""
    monkeypatch.delenv("WANDB_MODE", raising=False)
    monkeypatch.chdir(tmp_path)
    yield init_mlops(storage_path=tmp_path / "store", operations=operations).experiment_tracker
    for run in tuple(session._runs):
        run.finish()
    reset_mlops_context()


def history(tracker, run, key):
    return [(m.step, m.value) for m in tracker.get_metric_history(run.run_id, key)]


def kept(tracker, run):
    return {a.path: pathlib.Path(a.uri).read_bytes() for a in tracker.get_run(run.run_id).artifacts}


def test_a_training_script_writes_a_run(tracker):
    run = wandb.init(
        project="demo",
        name="first",
        config={"lr": 0.1, "model": {"depth": 3}},
        tags=["a", "b"],
        notes="why",
        group="sweep",
        job_type="train",
    )
    assert wandb.run is run
    for epoch in range(3):
        wandb.log({"train": {"loss": 1 / (epoch + 1)}, "epoch": epoch})
    wandb.summary["best"] = 0.25
    wandb.finish()
    assert wandb.run is None
    found = tracker.get_run(run.run_id)
    assert (found.name, found.status) == ("first", RunStatus.COMPLETED)
    assert tracker.get_experiment(found.experiment_id).name == "demo"
    assert found.parameters == {"lr": 0.1, "model": {"depth": 3}}
    assert history(tracker, run, "train.loss") == [(0, 1.0), (1, 0.5), (2, 1 / 3)]
    assert found.metrics["best"] == 0.25
    assert (run.tags, run.notes, run.group, run.job_type) == (("a", "b"), "why", "sweep", "train")
    assert (
        len(
            tracker.search_runs(
                found.experiment_id, filter="tags.`group` = 'sweep' and params.lr < 0.2"
            )
        )
        == 1
    )


def test_steps_are_counted_as_wandb_counts_them(tracker):
    run = wandb.init()
    wandb.log({"a": 1}, commit=False)
    wandb.log({"b": 2})
    wandb.log({"a": 3})
    wandb.log({"a": 4}, step=10)
    wandb.log({"b": 5})
    wandb.log({"a": 6}, step=20, commit=True)
    wandb.log({"a": 7})
    wandb.log({"b": 8}, step=3)
    assert history(tracker, run, "a") == [(0, 1.0), (1, 3.0), (10, 4.0), (20, 6.0), (21, 7.0)]
    assert history(tracker, run, "b") == [(0, 2.0), (3, 8.0), (10, 5.0)]
    assert run.step == 22


def test_numbers_of_numpy_and_nan_are_numbers(tracker):
    run = wandb.init()
    wandb.log(
        {
            "a": np.float32(0.5),
            "b": np.array(2),
            "c": True,
            "d": float("nan"),
            "e": None,
            "f": np.int64(3),
        }
    )
    found = tracker.get_run(run.run_id).metrics
    assert math.isnan(found.pop("d"))
    assert found == {"a": 0.5, "b": 2.0, "c": 1.0, "f": 3.0}


def test_a_metric_goes_over_another_one(tracker):
    run = wandb.init()
    wandb.define_metric("train/step")
    wandb.define_metric("train/*", step_metric="train/step")
    wandb.define_metric("acc", summary="max")
    wandb.define_metric("loss", summary="best", goal="minimize")
    wandb.log({"train/step": 100, "train/loss": 0.5, "acc": 0.9, "loss": 0.1})
    wandb.log({"train/loss": 0.25, "train/step": 200, "acc": 0.8, "loss": 0.2})
    assert history(tracker, run, "train/loss") == [(100, 0.5), (200, 0.25)]
    assert history(tracker, run, "acc") == [(0, 0.9), (1, 0.8)]
    assert (run.summary["acc"].max, run.summary.loss["best"]) == (0.9, 0.1)
    assert run.summary["train/loss"] == 0.25
    with pytest.raises(InvalidValueError, match="median"):
        wandb.define_metric("x", summary="median")


def test_config_is_read_and_written_like_wandbs(tracker):
    run = wandb.init(config=argparse.Namespace(lr=0.1, layers=[1, 2]))
    assert (wandb.config.lr, wandb.config["layers"], "lr" in wandb.config) == (0.1, [1, 2], True)
    wandb.config.batch = 32
    wandb.config.update({"seed": 1}, more=2)
    wandb.config.setdefaults({"lr": 5, "late": True})
    wandb.config.lr = 0.1
    with pytest.raises(InvalidValueError, match=r"config\.lr is 0\.1 already"):
        wandb.config.lr = 0.2
    wandb.config.update({"lr": 0.2}, allow_val_change=True)
    wanted = {"lr": 0.2, "layers": [1, 2], "batch": 32, "seed": 1, "more": 2, "late": True}
    assert dict(wandb.config) == tracker.get_run(run.run_id).parameters == wanted
    with pytest.raises(AttributeError):
        _ = wandb.config.missing
    with pytest.raises(KeyError):
        _ = wandb.config["missing"]
    assert wandb.config.get("missing", 7) == 7


def test_tables_images_and_histograms_are_files(tracker, tmp_path):
    run = wandb.init()
    table = wandb.Table(columns=["a", "b"], data=[[1, "x"]])
    table.add_data(2, "y")
    table.add_column("c", [True, None])
    pixels = np.zeros((2, 3, 3), dtype=np.uint8)
    wandb.log(
        {
            "table": table,
            "image": wandb.Image(pixels),
            "hist": wandb.Histogram([1, 2, 2, 3], num_bins=2),
        }
    )
    wandb.log(
        {
            "image": [wandb.Image(pixels[:, :, 0] / 255.0), wandb.Image(pixels)],
            "text": "a string",
            "list": [1, 2],
        }
    )
    files = kept(tracker, run)
    assert json.loads(files["logged/table/0.json"]) == {
        "columns": ["a", "b", "c"],
        "data": [[1, "x", True], [2, "y", None]],
    }
    assert json.loads(files["logged/hist/0.json"]) == {"histogram": [1, 3], "bins": [1.0, 2.0, 3.0]}
    assert {"logged/image/0.png", "logged/image/1-0.png", "logged/image/1-1.png"} <= files.keys()
    assert json.loads(files["logged/text/1.json"]) == {"value": "a string"}
    assert table.get_column("b") == ["x", "y"]
    with pytest.raises(InvalidValueError, match="3 values, not 1"):
        table.add_data(1)


@pytest.mark.parametrize("shape", [(4, 5), (4, 5, 1), (4, 5, 3), (4, 5, 4)])
def test_arrays_become_pictures_that_others_read(tmp_path, shape):
    pil = pytest.importorskip("PIL.Image", reason="pip install pillow")
    array = np.arange(np.prod(shape), dtype=np.uint8).reshape(shape)
    path = wandb.Image(array).write(tmp_path, "one")
    with pil.open(path) as picture:
        assert np.array_equal(np.asarray(picture).reshape(shape), array)
        again = wandb.Image(picture.copy()).write(tmp_path, "two")
    assert wandb.Image(again).write(tmp_path, "three").read_bytes() == again.read_bytes()


def test_pictures_that_are_none_are_refused(tmp_path):
    for wrong in (np.zeros(3), np.zeros((2, 2, 7)), tmp_path / "notes.txt"):
        with pytest.raises(InvalidValueError):
            wandb.Image(wrong).write(tmp_path, "x")
    with pytest.raises(InvalidValueError, match="boxes"):
        wandb.Image(np.zeros((2, 2)), boxes={})
    with pytest.raises(NotImplementedError):
        Media().write(tmp_path, "x")


def test_files_are_kept_and_kept_again_at_the_end(tracker, tmp_path):
    run = wandb.init()
    (tmp_path / "out").mkdir()
    for name in ("a.txt", "b.txt"):
        (tmp_path / "out" / name).write_text("early")
    assert wandb.save("out/*.txt") == ["out/a.txt", "out/b.txt"]
    assert wandb.save(tmp_path / "out" / "a.txt", base_path=tmp_path, policy="now") == ["out/a.txt"]
    (tmp_path / "out" / "b.txt").write_text("late")
    with pytest.raises(InvalidValueError, match="no file"):
        wandb.save("missing.txt")
    with pytest.raises(InvalidValueError, match="not below"):
        wandb.save("out/a.txt", base_path=tmp_path / "other")
    wandb.finish()
    assert kept(tracker, run) == {"out/a.txt": b"early", "out/b.txt": b"late"}


def test_a_run_goes_on_by_its_id(tracker):
    first = wandb.init(project="demo", id="abc", config={"lr": 1})
    wandb.log({"loss": 1.0})
    wandb.finish()
    with pytest.raises(AlreadyExistsError, match="resume='allow'"):
        wandb.init(project="demo", id="abc")
    again = wandb.init(project="demo", id="abc", resume="allow", config={"lr": 2})
    assert (again.run_id, again.id) == (first.run_id, "abc")
    assert tracker.get_run(again.run_id).status is RunStatus.RUNNING
    wandb.log({"loss": 0.5})
    wandb.finish(exit_code=1)
    found = tracker.get_run(again.run_id)
    assert (found.status, found.parameters) == (RunStatus.FAILED, {"lr": 2})
    assert history(tracker, again, "loss") == [(0, 1.0), (1, 0.5)]
    with pytest.raises(RunNotFoundError, match="'other'"):
        wandb.init(project="demo", id="other", resume="must")
    assert wandb.init(project="demo", id=first.run_id, resume="must").run_id == first.run_id


def test_what_is_logged_is_there_when_the_process_is_killed(tmp_path):
    program = """
import os, signal, ops.registry.wandb as wandb
wandb.init(project="demo", id="killed", dir="store", config={"lr": 1})
for n in range(5):
    wandb.log({"loss": n}, commit=n % 2 == 0)
os.kill(os.getpid(), signal.SIGKILL)
"""
    subprocess.run([sys.executable, "-c", program], cwd=tmp_path, check=False)
    tracker = get_mlops_context().experiment_tracker
    (experiment,) = tracker.list_experiments()
    (run,) = tracker.list_runs(experiment.experiment_id)
    assert (run.status, run.parameters) == (RunStatus.STALE, {"lr": 1})
    assert len(tracker.get_metric_history(run.run_id, "loss")) == 5


@pytest.mark.parametrize(
    ("end", "status"), [("", RunStatus.COMPLETED), ("raise ValueError('no')", RunStatus.FAILED)]
)
def test_runs_end_with_the_process(tmp_path, end, status):
    program = f"import ops.registry.wandb as wandb\nwandb.init(dir='store')\nwandb.log({{'a': 1}})\n{end}\n"
    subprocess.run(
        [sys.executable, "-c", program], cwd=tmp_path, check=False, stderr=subprocess.DEVNULL
    )
    tracker = get_mlops_context().experiment_tracker
    (experiment,) = tracker.list_experiments()
    assert [r.status for r in tracker.list_runs(experiment.experiment_id)] == [status]


def test_a_block_that_raises_leaves_a_failed_run(tracker):
    with pytest.raises(ZeroDivisionError), wandb.init() as run:
        run.log({"a": 1 / 0})
    assert tracker.get_run(run.run_id).status is RunStatus.FAILED
    with pytest.raises(InvalidValueError, match="is finished"):
        run.log({"a": 1})


def test_a_run_that_goes_on_is_returned_unless_asked_otherwise(tracker):
    first = wandb.init()
    assert wandb.init() is first
    second = wandb.init(reinit="create_new")
    assert (second is not first, first.is_finished) == (True, False)
    third = wandb.init(reinit=True)
    assert (second.is_finished, wandb.run) == (True, third)


def test_a_disabled_run_leaves_nothing(tracker, monkeypatch, tmp_path):
    monkeypatch.setenv("WANDB_MODE", "disabled")
    with wandb.init(project="demo") as run:
        run.log({"a": 1})
        assert run.summary["a"] == 1.0
    assert tracker.list_experiments() == []
    assert not (tmp_path / "store").exists()


@pytest.mark.parametrize(
    "name", ["watch", "Api", "sweep", "Artifact", "alert", "plot", "log_artifact"]
)
def test_what_is_not_here_says_what_to_use_instead(name):
    with pytest.raises(wandb.NotOfferedError, match=f"{name} is not in ops.registry.wandb: "):
        getattr(wandb, name)
    assert not hasattr(wandb, name)
    with pytest.raises(wandb.NotOfferedError, match="no 'nonsense'"):
        _ = wandb.nonsense  # type: ignore[attr-defined]


def test_requests_that_are_wrong_say_so():
    for call in (lambda: wandb.log({"a": 1}), lambda: wandb.config.lr, lambda: wandb.save("x")):
        with pytest.raises(wandb.NotInitializedError, match=r"wandb\.init\(\)"):
            call()
    with pytest.raises(InvalidValueError, match="'settings'"):
        wandb.init(settings={"silent": True})
    with pytest.raises(InvalidValueError, match="'auto'"):
        wandb.init(resume="auto")
    with pytest.raises(InvalidValueError, match="needs the id"):
        wandb.init(resume="must")
    run = wandb.init()
    with pytest.raises(InvalidValueError, match="a mapping"):
        wandb.log(0.5)
    with pytest.raises(InvalidValueError, match="whole number"):
        wandb.log({"a": 1}, step="ten")
    with pytest.raises(InvalidValueError, match="cannot be kept"):
        wandb.log({"a": object()})
    with pytest.raises(wandb.NotOfferedError, match="ops-registry ui"):
        _ = run.url
    assert wandb.login() is True


def test_processes_of_a_group_write_runs_of_their_own(tmp_path):
    program = "import sys, ops.registry.wandb as wandb\nwandb.init(project='ddp', group='g', name=sys.argv[1], dir='store').log({'rank': int(sys.argv[1])})"
    children = [
        subprocess.Popen([sys.executable, "-c", program, str(rank)], cwd=tmp_path)
        for rank in range(2)
    ]
    assert [child.wait() for child in children] == [0, 0]
    tracker = get_mlops_context().experiment_tracker
    experiment = tracker.get_experiment_by_name("ddp")
    found = tracker.search_runs(experiment.experiment_id, filter="tags.`group` = 'g'")
    assert sorted(run.metrics["rank"] for run in found) == [0.0, 1.0]


@pytest.mark.skipif(not hasattr(os, "fork"), reason="needs fork")
def test_a_forked_child_does_not_end_the_run_of_its_parent(tmp_path):
    program = """
import os, sys, ops.registry.wandb as wandb
run = wandb.init(dir="store")
child = os.fork()
if child == 0:
    run.log({"child": 1})
    sys.exit(0)
os.waitpid(child, 0)
print(run.record().status)
"""
    done = subprocess.run(
        [sys.executable, "-c", program], cwd=tmp_path, check=True, capture_output=True, text=True
    )
    assert done.stdout.strip() == "RUNNING"
