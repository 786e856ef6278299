"""What scripts for W&B do beside logging numbers: each case was run with wandb 0.31 too, and does what it did there."""

from __future__ import annotations

import argparse
import dataclasses
import json
import math
import multiprocessing
import os
import pathlib
import pickle
import subprocess
import sys
import threading
import types
import wave

import numpy as np
import pytest

from ops.registry import (
    InvalidValueError,
    MLOpsException,
    RunNotFoundError,
    RunStatus,
    init_mlops,
    reset_mlops_context,
    wandb,
)
from ops.registry.wandb import session


@pytest.fixture(autouse=True)
def tracker(tmp_path, monkeypatch, operations):
    """The tracker of the current store, which is new."""
    for name in [name for name in os.environ if name.startswith("WANDB_")]:
        monkeypatch.delenv(name)
    monkeypatch.chdir(tmp_path)
    yield init_mlops(storage_path=tmp_path / "store", operations=operations).experiment_tracker
    for run in tuple(session._runs):
        run.finish()
    reset_mlops_context()


def history(tracker, run, key):
    return [(m.step, m.value) for m in tracker.get_metric_history(run.run_id, key)]


def kept(tracker, run):
    return {a.path: pathlib.Path(a.uri).read_bytes() for a in tracker.get_run(run.run_id).artifacts}


# What a run is and is called


def test_name_notes_and_tags_can_be_set_later(tracker):
    run = wandb.init(name="first", tags=["a"])
    run.name = "second"
    run.notes = "why"
    run.tags = (*run.tags, "b, c")
    run.tags += ("d",)
    assert (run.name, run.notes, run.tags) == ("second", "why", ("a", "b, c", "d"))
    assert tracker.get_run(run.run_id).name == "second"
    run.finish()
    assert (run.name, run.tags) == ("second", ("a", "b, c", "d"))


@pytest.mark.parametrize("name", ["config", "summary", "project", "nonsense"])
def test_what_would_be_lost_cannot_be_set(name):
    run = wandb.init()
    with pytest.raises(InvalidValueError, match=rf"run\.{name} cannot be set"):
        setattr(run, name, {"lr": 0.1})
    with pytest.raises(InvalidValueError, match=r"wandb\.config\.update"):
        wandb.config = {"lr": 0.1}
    wandb.some_note = 1
    assert wandb.some_note == 1
    del wandb.some_note


def test_a_run_shows_what_it_is(tracker):
    run = wandb.init(project="demo", entity="us", id="abc")
    assert (run.path, run.resumed, run.starting_step) == ("us/demo/abc", False, 0)
    assert (run.group, run.job_type, run.sweep_id) == ("", "", None)
    assert (run.offline, run.disabled) == (True, False)
    assert run.start_time == tracker.get_run(run.run_id).start_time.timestamp()


def test_tags_are_a_list(tracker):
    with pytest.raises(InvalidValueError, match=r"\['baseline'\]"):
        wandb.init(tags="baseline")
    assert wandb.run is None
    assert tracker.list_experiments() == []


def test_variables_count_where_an_argument_is_not_given(tracker, monkeypatch):
    given = {
        "WANDB_PROJECT": "demo",
        "WANDB_NAME": "by variable",
        "WANDB_RUN_ID": "abc",
        "WANDB_RUN_GROUP": "g",
        "WANDB_JOB_TYPE": "eval",
        "WANDB_NOTES": "n",
        "WANDB_ENTITY": "us",
        "WANDB_TAGS": "a, b",
        "WANDB_RESUME": "allow",
    }
    for name, value in given.items():
        monkeypatch.setenv(name, value)
    run = wandb.init(job_type="train")
    assert (run.path, run.name, run.group) == ("us/demo/abc", "by variable", "g")
    assert (run.job_type, run.notes, run.tags) == ("train", "n", ("a", "b"))
    run.finish()
    assert wandb.init().run_id == run.run_id
    wandb.finish()
    monkeypatch.setenv("WANDB_MODE", "bogus")
    with pytest.raises(InvalidValueError, match="bogus"):
        wandb.init()


def test_the_folder_of_wandb_is_the_store_of_a_program_without_one(tmp_path, monkeypatch):
    reset_mlops_context()
    monkeypatch.delenv("OPS_MLOPS_PATH", raising=False)
    monkeypatch.setenv("WANDB_DIR", str(tmp_path / "scratch"))
    with wandb.init(project="demo"):
        pass
    found = init_mlops(storage_path=tmp_path / "scratch").experiment_tracker
    assert [one.name for one in found.list_experiments()] == ["demo"]


def test_a_run_that_goes_on_gets_what_is_given_then(tracker):
    wandb.init(id="abc", name="first", tags=["x"], notes="n", config={"lr": 1, "a": 1})
    wandb.log({"loss": 1.0, "state": "ok"})
    wandb.summary["cm"] = [[1, 2], [3, 4]]
    wandb.finish()
    run = wandb.init(
        id="abc", resume="must", name="second", tags=["y"], group="g", config={"lr": 2}
    )
    assert (run.resumed, run.starting_step, run.step) == (True, 1, 1)
    assert (run.name, run.tags, run.notes, run.group) == ("second", ("y",), "n", "g")
    assert dict(run.config) == {"lr": 2, "a": 1}
    assert run.summary["cm"] == [[1, 2], [3, 4]]


def test_settings_that_are_refused_leave_no_run(tracker):
    for wrong in ({"config": 5}, {"reinit": "bogus"}, {"name": 3}, {"save_code": True}):
        with pytest.raises(InvalidValueError):
            wandb.init(**wrong)
    with pytest.raises(InvalidValueError, match="not both"):
        wandb.init(config={}, config_include_keys=["a"], config_exclude_keys=["b"])
    assert (wandb.run, tracker.list_experiments()) == (None, [])
    wandb.init(anonymous="allow", force=True, save_code=False, sync_tensorboard=None)


def test_init_while_a_run_goes_on_says_that_its_arguments_are_not_used():
    first = wandb.init()
    with pytest.warns(UserWarning, match="create_new"):
        assert wandb.init(project="other", config={"a": 1}) is first
    with pytest.raises(InvalidValueError, match="create_new"):
        wandb.init(id=first.run_id, resume="must")
    second = wandb.init(reinit="create_new")
    wandb.init(reinit="finish_previous")
    assert (first.is_finished, second.is_finished) == (True, True)
    wandb.teardown()
    assert wandb.run is None


# Configurations


@dataclasses.dataclass
class Options:
    depth: int = 3


def test_configurations_of_all_kinds(tmp_path):
    (tmp_path / "c.yaml").write_text("lr:\n  desc: rate\n  value: 0.5\n")
    (tmp_path / "config-defaults.yaml").write_text(
        "wandb_version: 1\nlr:\n  value: 9\nepochs:\n  value: 7\n"
    )
    run = wandb.init(config="c.yaml")
    assert dict(run.config) == {"lr": 0.5, "epochs": 7}
    run.config.update(Options())
    run.config.update(types.SimpleNamespace(a=1))
    run.config.update(argparse.Namespace(b=2))
    run.config.update({"--dash": 1, "part": Options(), "s": slice(1, 2), "device": Device()})
    run.config._private = 4
    found = dict(run.config)
    assert (found["depth"], found["a"], found["b"], found["dash"]) == (3, 1, 2, 1)
    assert found["part"] == {"depth": 3}
    assert found["s"] == {"slice_start": 1, "slice_step": None, "slice_stop": 2}
    assert (found["device"], found["_private"]) == ("cpu", 4)
    (tmp_path / "flat.yaml").write_text("lr: 1\n")
    with pytest.raises(InvalidValueError, match="'value:'"):
        run.config.update("flat.yaml")
    with pytest.raises(MLOpsException, match=r"missing\.yaml"):
        run.config.update("missing.yaml")
    with pytest.raises(InvalidValueError, match="no parameter"):
        run.config.update({"picture": wandb.Image(np.zeros((2, 2)))})
    with pytest.raises(InvalidValueError, match="cannot be removed"):
        del run.config.lr


class Device:
    """An object of another library, whose text says what it is."""

    def __str__(self):
        return "cpu"


def test_keys_of_a_configuration_are_chosen():
    config = {"a": 1, "b": 2}
    assert dict(wandb.init(config=config, config_exclude_keys=["b"]).config) == {"a": 1}
    wandb.finish()
    assert dict(wandb.init(config=config, config_include_keys=["b"]).config) == {"b": 2}


def test_the_same_value_again_is_no_change():
    run = wandb.init(config={"nan": math.nan, "betas": (0.9, 0.99)})
    run.config.update({"nan": math.nan, "betas": (0.9, 0.99)})
    assert run.config["betas"] == [0.9, 0.99]


def test_the_current_run_can_be_asked_for_before_it_is_there():
    assert hasattr(wandb, "config")
    exec("from ops.registry.wandb import *", {})
    for use in (
        lambda: wandb.config["lr"],
        lambda: setattr(wandb.config, "lr", 1),
        lambda: wandb.config.update({}),
        lambda: "lr" in wandb.config,
        lambda: dict(wandb.summary),
        lambda: wandb.summary.__setitem__("a", 1),
        lambda: len(wandb.summary),
    ):
        with pytest.raises(wandb.Error, match=r"wandb\.init\(\)"):
            use()
    assert issubclass(wandb.UsageError, wandb.Error)
    assert issubclass(wandb.CommError, wandb.Error)
    wandb.setup()
    wandb.join()


# Logging


def test_names_and_steps_that_are_none_are_refused(tracker):
    run = wandb.init()
    for wrong in ({1: 2}, [("a", 1)], None):
        with pytest.raises(InvalidValueError):
            run.log(wrong)
    for step in (2**63, 2.0, True):
        with pytest.raises(InvalidValueError):
            run.log({"a": 1}, step=step)
    assert run.step == 0
    run.log({"a": {1: 2}}, step=np.int64(3))
    assert history(tracker, run, "a.1") == [(3, 2.0)]


class Eager:
    """A tensor of TensorFlow: it has ``numpy`` alone."""

    def __init__(self, value):
        self._value = np.asarray(value)

    def numpy(self):
        return self._value


def test_what_is_no_number_stays_what_it_is(tracker):
    run = wandb.init()
    values = {
        "fold": np.str_("3"),
        "names": np.array(["1.5"]),
        "big": 10**400,
        "when": np.datetime64("2020-01-01", "ns"),
        "several": Eager([1, 2]),
    }
    run.log(values | {"one": Eager(0.5), "long": np.longdouble(2), "nested": {}})
    found = tracker.get_run(run.run_id).metrics
    assert found == {"one": 0.5, "long": 2.0}
    assert (run.summary["fold"], run.summary["several"], run.summary["nested"]) == ("3", [1, 2], {})
    assert json.loads(kept(tracker, run)["logged/big/0.json"]) == {"value": 10**400}


def test_threads_have_a_step_each(tracker):
    run = wandb.init()

    def work(number):
        for value in range(30):
            run.log({"all": value, f"x{number}": value})

    threads = [threading.Thread(target=work, args=(number,)) for number in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert [step for step, _ in history(tracker, run, "all")] == list(range(120))


def test_definitions_of_metrics_are_read_as_wandb_reads_them(tracker):
    run = wandb.init()
    step = wandb.define_metric("global")
    wandb.define_metric("t/*", step, summary="MIN,max,mean")
    wandb.define_metric("t[0]/*", summary="first,last")
    wandb.define_metric("gone", summary="none")
    wandb.define_metric("copied", summary="copy")
    for value in (3, 1, 2):
        run.log({"t/x": value, "t[0]/x": value, "gone": value, "copied": value, "global": 7})
    assert dict(run.summary["t/x"]) == {"min": 1, "max": 3, "mean": 2}
    assert dict(run.summary["t[0]/x"]) == {"first": 3, "last": 2}
    assert ("gone" in run.summary, run.summary["copied"]) == (False, 2)
    assert history(tracker, run, "t/x") == [(7, 3.0), (7, 1.0), (7, 2.0)]
    wandb.define_metric("t/x", summary="max")
    wandb.define_metric("t/x", overwrite=True)
    assert run.summary["t/x"].mean == 2, "the pattern counts again"
    for wrong in ("", "a*b", 3):
        with pytest.raises(InvalidValueError, match="named by a text"):
            wandb.define_metric(wrong)
    with pytest.raises(InvalidValueError, match="step_metric"):
        wandb.define_metric("a", step_metric=3)
    with pytest.raises(InvalidValueError, match="goal"):
        wandb.define_metric("a", summary="best", goal="up")


@pytest.mark.parametrize("value", [1e300, 0.5, math.nan, math.inf])
def test_what_is_no_step_leaves_a_point_at_its_own(tracker, value):
    run = wandb.init()
    wandb.define_metric("t", step_metric="global")
    run.log({"global": value, "t": 1}, step=4)
    assert history(tracker, run, "t") == [(4, 1.0)]


# Summaries


def test_a_summary_holds_what_was_set_last(tracker):
    run = wandb.init()
    wandb.define_metric("loss", step_metric="global")
    run.log({"loss": 1, "global": 10_000, "state": "busy"})
    run.summary["loss"] = 0.5
    run.summary.update({"table": {"x": {"y": 1}}, "list": [1, 2], "odd": "[no json", "u": "text"})
    run.summary["u"] = 1
    run.summary["_own"] = 3
    run.summary["table"]["x"]["z"] = 2
    assert (run.summary.loss, run.summary["state"], run.summary.list) == (0.5, "busy", [1, 2])
    assert (run.summary["u"], run.summary["_own"], run.summary["odd"]) == (1, 3, "[no json")
    assert dict(run.summary["table"]["x"]) == {"y": 1, "z": 2}
    assert ("table" in run.summary, "missing" in run.summary) == (True, False)
    assert "summary.u" not in tracker.get_run(run.run_id).tags
    with pytest.raises(KeyError):
        run.summary["missing"]
    run.summary["picture"] = wandb.Image(np.zeros((2, 2)))
    assert run.summary["picture"] in kept(tracker, run)
    with pytest.raises(InvalidValueError, match="cannot be kept"):
        run.summary["object"] = object()


# Media


def test_frames_keep_the_types_of_their_columns(tracker):
    pd = pytest.importorskip("pandas")
    frame = pd.DataFrame(
        {
            "i": [1, 2],
            "f": [0.5, 1.5],
            "t": pd.to_datetime(["2020-01-01", None]),
            "n": pd.array([1, None], dtype="Int64"),
        }
    )
    run = wandb.init()
    run.log({"frame": frame, "table": wandb.Table(data=frame[["i"]])})
    found = json.loads(kept(tracker, run)["logged/frame/0.json"])
    assert found == {
        "columns": ["i", "f", "t", "n"],
        "data": [[1, 0.5, "2020-01-01T00:00:00", 1], [2, 1.5, None, None]],
    }
    assert isinstance(found["data"][0][0], int)
    assert json.loads(kept(tracker, run)["logged/table/0.json"])["data"] == [[1], [2]]


def test_tables_are_read_and_extended(tracker):
    table = wandb.Table(["a"], allow_mixed_types=True, rows=[[1]])
    table.add_row("x")
    table.add_computed_columns(lambda number, row: {"n": number, "twice": row["a"] * 2})
    assert list(table.iterrows()) == [(0, [1, 0, 2]), (1, ["x", 1, "xx"])]
    assert table.get_column("n", convert_to="numpy").tolist() == [0, 1]
    assert table.get_dataframe().shape == (2, 3)
    with pytest.raises(InvalidValueError, match="convert_to"):
        table.get_column("n", convert_to="torch")
    with pytest.raises(InvalidValueError, match="log_mode"):
        wandb.Table(log_mode="MUTABLE")


def test_pictures_in_a_table_are_files_beside_it(tracker):
    run = wandb.init()
    pixels = np.zeros((2, 2, 3), np.uint8)
    table = wandb.Table(["id", "picture"])
    table.add_data(1, wandb.Image(pixels, caption="a cat"))
    table.add_data(2, wandb.Histogram([1, 2]))
    run.log({"predictions": table})
    files = kept(tracker, run)
    (first, second) = json.loads(files["logged/predictions/0.json"])["data"]
    assert first == [1, {"file": "0-0-1.png", "caption": "a cat"}]
    assert second == [2, {"file": "0-1-1.json"}]
    assert files.keys() > {"logged/predictions/0-0-1.png", "logged/predictions/0-1-1.json"}


def test_captions_are_kept(tracker):
    run = wandb.init()
    pixels = np.zeros((2, 2, 3), np.uint8)
    run.log({"x": [wandb.Image(pixels, mode="RGB", caption="a"), wandb.Image(pixels, caption="b")]})
    files = kept(tracker, run)
    assert (files["logged/x/0-0.caption.txt"], files["logged/x/0-1.caption.txt"]) == (b"a", b"b")
    for wrong in ({"mode": "CMYK"}, {"masks": {}}, {"file_type": "jpg"}):
        with pytest.raises(InvalidValueError):
            wandb.Image(pixels, **wrong)
    with pytest.raises(InvalidValueError, match="4 channels"):
        run.log({"x": wandb.Image(pixels, mode="RGBA")})
    with pytest.raises(InvalidValueError, match="no file"):
        wandb.Image("missing.png")
    with pytest.raises(InvalidValueError, match="numbers"):
        run.log({"x": wandb.Image(np.array([["a"]]))})
    with pytest.raises(InvalidValueError, match="numbers"):
        wandb.Histogram(["a"])


class Figure:
    """What matplotlib's figures have, as far as it matters."""

    def savefig(self, target, **options):
        pathlib.Path(target).write_bytes(options["format"].encode())


class Axes:
    figure = Figure()


class Plot:
    """What plotly's figures have, as far as it matters."""

    def to_plotly_json(self):
        raise AssertionError

    def to_html(self):
        return "<p>plot</p>"


def test_figures_are_kept_as_they_are_logged(tracker):
    run = wandb.init()
    run.log({"figure": Figure(), "axes": Axes(), "both": [Figure(), Figure()], "plot": Plot()})
    files = kept(tracker, run)
    assert files["logged/figure/0.png"] == files["logged/axes/0.png"] == b"png"
    assert {"logged/both/0-0.png", "logged/both/0-1.png"} <= files.keys()
    assert files["logged/plot/0.html"] == b"<p>plot</p>"


def test_images_of_pillow_are_kept_as_they_are_logged(tracker):
    pil = pytest.importorskip("PIL.Image", reason="pip install pillow")
    run = wandb.init()
    run.log({"picture": pil.new("RGB", (2, 2))})
    assert kept(tracker, run)["logged/picture/0.png"].startswith(b"\x89PNG")
    with pytest.raises(InvalidValueError, match="convert"):
        run.log({"picture": wandb.Image(pil.new("CMYK", (2, 2)))})


def test_pages_sounds_and_videos(tracker, tmp_path):
    (tmp_path / "page.html").write_text("<p>file</p>")
    (tmp_path / "film.mp4").write_bytes(b"film")
    run = wandb.init()
    run.log(
        {
            "text": wandb.Html("<p>text</p>"),
            "file": wandb.Html("page.html"),
            "name": wandb.Html("page.html", data_is_not_path=True),
            "sound": wandb.Audio(np.array([0.0, 1.0, -1.0]), sample_rate=8000, caption="beep"),
            "film": wandb.Video("film.mp4", caption="a film", format="mp4"),
        }
    )
    with (tmp_path / "page.html").open() as file:
        run.log({"open": wandb.Html(file)})
    files = kept(tracker, run)
    assert files["logged/text/0.html"] == b"<p>text</p>"
    assert files["logged/file/0.html"] == files["logged/open/1.html"] == b"<p>file</p>"
    assert files["logged/name/0.html"] == b"page.html"
    assert files["logged/film/0.mp4"] == b"film"
    assert files["logged/sound/0.caption.txt"] == b"beep"
    (tmp_path / "beep.wav").write_bytes(files["logged/sound/0.wav"])
    with wave.open("beep.wav") as sound:
        assert (sound.getnframes(), sound.getframerate()) == (3, 8000)
    assert (
        wandb.Audio("beep.wav").write(tmp_path, "copy").read_bytes() == files["logged/sound/0.wav"]
    )
    for wrong in (
        lambda: wandb.Html(5),
        lambda: wandb.Audio([0.0]),
        lambda: wandb.Audio(np.zeros((1, 1, 1)), 8000).write(tmp_path, "x"),
        lambda: wandb.Video(np.zeros((1, 1, 1, 1))),
        lambda: wandb.Video("film.mp4", fps=4),
    ):
        with pytest.raises(InvalidValueError):
            wrong()


# Files


def test_files_of_two_folders_are_two_files(tracker, tmp_path):
    for name in ("a", "b"):
        (tmp_path / name).mkdir()
        (tmp_path / name / "model.pt").write_text(name)
    run = wandb.init()
    assert wandb.save(tmp_path / "a" / "model.pt") == ["a/model.pt"]
    assert wandb.save(os.fsencode(tmp_path / "b" / "model.pt")) == ["b/model.pt"]
    assert kept(tracker, run) == {"a/model.pt": b"a", "b/model.pt": b"b"}


def test_folders_and_odd_names_are_saved(tracker, tmp_path):
    (tmp_path / "out" / "deep").mkdir(parents=True)
    (tmp_path / "out" / "x.txt").write_text("x")
    (tmp_path / "out" / "deep" / "y[1].txt").write_text("y")
    run = wandb.init()
    assert wandb.save("out/*") == ["out/deep/y[1].txt", "out/x.txt"]
    assert wandb.save("out") == ["out/deep/y[1].txt", "out/x.txt"]
    assert wandb.save("out/deep/y[1].txt", glob=False) == ["out/deep/y[1].txt"]
    assert wandb.save("nothing*") == []
    os.chdir(tmp_path / "out")
    with pytest.raises(InvalidValueError, match="base_path"):
        wandb.save("../store")
    run.finish()
    assert kept(tracker, run) == {"out/deep/y[1].txt": b"y", "out/x.txt": b"x"}


def test_what_is_put_into_the_folder_of_a_run_is_kept(tracker):
    run = wandb.init()
    pathlib.Path(run.dir, "model.pt").write_text("m")
    pathlib.Path(run.dir, "deep").mkdir()
    pathlib.Path(run.dir, "deep", "x.txt").write_text("x")
    assert wandb.save(os.path.join(run.dir, "model.pt")) == ["model.pt"]
    folder = run.dir
    run.finish()
    assert kept(tracker, run) == {"model.pt": b"m", "deep/x.txt": b"x"}
    assert not os.path.exists(folder)


def test_a_run_ends_whatever_its_files_run_into(tracker, tmp_path, monkeypatch):
    (tmp_path / "a.txt").write_text("a")
    (tmp_path / "gone.txt").write_text("gone")
    run = wandb.init()
    wandb.save("a.txt")
    wandb.save("gone.txt")
    (tmp_path / "gone.txt").unlink()
    (tmp_path / "a.txt").write_text("later")

    def refuse(*_, **__):
        raise OSError("no space left")

    monkeypatch.setattr(run._tracker, "log_artifact", refuse)
    with pytest.raises(OSError, match="no space"):
        run.finish()
    assert (wandb.run, tracker.get_run(run.run_id).status) == (None, RunStatus.COMPLETED)


# Ends


def test_a_run_can_be_read_after_it_has_finished(tmp_path):
    for how in ({"dir": str(tmp_path / "own")}, {"mode": "disabled"}):
        with wandb.init(name="x", config={"lr": 1}, **how) as run:
            run.log({"a": 1})
        assert (run.name, run.summary["a"], run.config["lr"]) == ("x", 1.0, 1)


def test_the_error_that_ended_a_run_is_shown(tracker):
    with pytest.raises(ValueError, match="no data"), wandb.init() as run:
        raise ValueError("no data")
    assert tracker.get_run(run.run_id).error == "ValueError: no data"


@pytest.mark.parametrize(
    ("end", "status", "error"),
    [
        ("sys.exit()", RunStatus.COMPLETED, None),
        ("sys.exit(0)", RunStatus.COMPLETED, None),
        ("sys.exit(3)", RunStatus.FAILED, "exit code 3"),
        ("sys.exit('no')", RunStatus.FAILED, "exit code 1"),
        ("raise ValueError('no')", RunStatus.FAILED, "ValueError: no"),
    ],
)
def test_the_exit_code_of_a_program_is_that_of_its_run(tracker, tmp_path, end, status, error):
    program = f"import sys, ops.registry.wandb as wandb\nwandb.init(dir='store')\n{end}\n"
    subprocess.run(
        [sys.executable, "-c", program], cwd=tmp_path, check=False, stderr=subprocess.DEVNULL
    )
    (experiment,) = tracker.list_experiments()
    assert [(r.status, r.error) for r in tracker.list_runs(experiment.experiment_id)] == [
        (status, error)
    ]


def work(store, name, *, fails):
    """What a worker does: a run of its own, that nothing finishes."""
    run = wandb.init(project="workers", name=name, dir=store, reinit=None)
    run.log({"a": 1})
    if fails:
        raise ValueError(name)


@pytest.mark.parametrize("method", ["fork", "spawn"])
def test_workers_have_runs_of_their_own(tracker, tmp_path, method):
    if method not in multiprocessing.get_all_start_methods():
        pytest.skip(f"no {method}")
    mine = wandb.init(project="workers", name="main")
    context = multiprocessing.get_context(method)
    for name, fails in (("good", False), ("bad", True)):
        worker = context.Process(
            target=work, args=(str(tmp_path / "store"), name), kwargs={"fails": fails}
        )
        worker.start()
        worker.join()
    found = tracker.list_runs(tracker.get_run(mine.run_id).experiment_id)
    assert {run.name: run.status for run in found} == {
        "main": RunStatus.RUNNING,
        "good": RunStatus.COMPLETED,
        "bad": RunStatus.FAILED,
    }


def test_a_run_that_another_process_starts_meanwhile_is_the_one(tracker, monkeypatch):
    """The processes of one training begin with the same id, from ``WANDB_RUN_ID``."""
    look = session.find_run
    begun = []

    def look_too_early(context, home, own_id):
        found = look(context, home, own_id)
        if not begun:
            begun.append(tracker.start_run(home, tags={"wandb_id": own_id}).run_id)
        return found

    monkeypatch.setattr(session, "find_run", look_too_early)
    run = wandb.init(project="demo", id="abc", resume="allow", config={"lr": 1})
    assert (run.run_id, run.resumed, run.config["lr"]) == (begun[0], True, 1)
    home = tracker.get_run(run.run_id).experiment_id
    assert [one.run_id for one in tracker.list_runs(home)] == begun


def test_a_run_can_be_sent_to_another_process(tracker):
    run = wandb.init(project="demo")
    assert run.dir
    copy = pickle.loads(pickle.dumps(run))
    copy.log({"there": 1})
    run.log({"here": 2})
    assert tracker.get_run(run.run_id).metrics == {"there": 1.0, "here": 2.0}


def test_a_run_that_must_be_there_is_named_with_its_project(tracker):
    with pytest.raises(RunNotFoundError, match="'demo' has no run 'x'"):
        wandb.init(project="demo", id="x", resume="must")
