"""Folders of trackio and event files of TensorBoard, imported."""

from __future__ import annotations

import collections
import json
import os
import pathlib
import sqlite3
import struct

import pytest

from ops.registry import InvalidValueError, MLOpsConfig, MLOpsContext, RunStatus
from ops.registry.fsck import check
from ops.registry.importing import foreign_store, import_foreign
from ops.registry.logged_values import flattened, safe_name


@pytest.fixture
def target(tmp_path, operations):
    with MLOpsContext(
        MLOpsConfig("local", str(tmp_path / "target")), operations=operations
    ) as made:
        yield made


@pytest.fixture
def tracker(target):
    return target.experiment_tracker


@pytest.fixture
def bring(target):
    def bring(path, **options):
        return import_foreign(foreign_store(path, **options), target)

    return bring


@pytest.fixture
def trackio(foreign):
    folder, expected = foreign("trackio-0.43.0")
    return folder / "trackio", expected


@pytest.fixture
def events(foreign):
    pytest.importorskip("tensorboard", reason="pip install 'ops-registry[tensorboard]'")
    folder, expected = foreign("tensorboardX-2.6.5")
    return folder / "logs", expected


def by_name(tracker):
    (experiment,) = tracker.list_experiments()
    return {run.name: run for run in tracker.list_runs(experiment.experiment_id)}


def values_of(tracker, run, tmp_path, name="logged/values.jsonl"):
    path = tracker.download_run_artifact(
        run.run_id, name, tmp_path / "values.jsonl", overwrite=True
    )
    return [json.loads(line) for line in path.read_text("utf-8").splitlines()]


def numbers_in(values):
    return {
        key: float(value)
        for key, value in flattened(values).items()
        if not isinstance(value, (list, dict))
        and (not isinstance(value, str) or value in {"nan", "inf", "-inf"})
    }


def test_trackio_runs_have_all_their_numbers(trackio, bring, tracker):
    folder, expected = trackio
    done = bring(folder)
    assert (done.refused, done.runs) == ([], 3)
    runs = by_name(tracker)
    assert runs.keys() == expected["runs"].keys()
    for name, wanted in expected["runs"].items():
        run = runs[name]
        logged = collections.Counter(
            (key, repr(value), count if step is None else step)
            for count, (values, step) in enumerate(wanted["logs"])
            for key, value in numbers_in(values).items()
        )
        found = collections.Counter(
            (key, repr(m.value), m.step)
            for key in run.metrics
            for m in tracker.get_metric_history(run.run_id, key)
        )
        assert found == logged
        assert run.parameters == wanted["config"]
        assert run.tags == ({"group": wanted["group"]} if wanted["group"] else {})
        assert run.status is RunStatus.COMPLETED
        assert run.start_time <= run.end_time


def test_trackio_media_and_what_is_no_number_are_files(trackio, bring, tracker, tmp_path, target):
    folder, _ = trackio
    bring(folder)
    run = by_name(tracker)["baseline é"]
    values = {one["key"]: one for one in values_of(tracker, run, tmp_path)}
    assert values["text"]["value"] == "a string"
    assert values["list"]["value"] == [1, 2]
    assert values["table"]["value"]["_value"] == [{"a": 1, "b": "x"}, {"a": 2, "b": "é"}]
    assert len(values["hist"]["value"]["bins"]) == len(values["hist"]["value"]["values"]) + 1
    image = tracker.download_run_artifact(
        run.run_id, values["picture"]["artifact"], tmp_path / "image.png"
    )
    assert image.read_bytes().startswith(b"\x89PNG")
    assert len(values_of(tracker, run, tmp_path, "logged/alerts.jsonl")) == 1
    assert check(target).is_sound


def test_a_trackio_run_that_goes_on_gets_what_is_new(trackio, bring, tracker):
    folder, _ = trackio
    bring(folder)
    database = sqlite3.connect(folder / "demoproject.db")
    database.execute(
        "INSERT INTO metrics (run_id, timestamp, run_name, step, metrics) SELECT run_id, '2026-11-29T21:00:00+00:00', run_name, 3, '{\"train/loss\": 1.5}' FROM metrics WHERE run_name = 'killed' LIMIT 1"
    )
    database.commit()
    database.close()
    done = bring(folder)
    assert (done.runs, done.runs_changed, done.runs_there, done.points) == (0, 1, 2, 1)
    assert by_name(tracker)["killed"].metrics == {"train/loss": 1.5}
    assert bring(folder).runs_there == 3


def test_a_trackio_of_before_ids_knows_runs_by_their_names(trackio, bring, tracker):
    folder, _ = trackio
    database = sqlite3.connect(folder / "demoproject.db")
    database.executescript("""
        CREATE TABLE old (id INTEGER PRIMARY KEY, timestamp TEXT, run_name TEXT, step INTEGER, metrics TEXT);
        INSERT INTO old SELECT id, timestamp, run_name, step, CAST(metrics AS TEXT) FROM metrics;
        DROP TABLE metrics; ALTER TABLE old RENAME TO metrics;
        CREATE TABLE older (id INTEGER PRIMARY KEY, run_name TEXT, config TEXT, created_at TEXT);
        INSERT INTO older SELECT id, run_name, CAST(config AS TEXT), created_at FROM configs;
        DROP TABLE configs; ALTER TABLE older RENAME TO configs;
        DROP TABLE alerts; DROP TABLE system_metrics;
    """)
    database.close()
    assert bring(folder).runs == 3
    assert by_name(tracker)["slash/run"].parameters == {"lr": 0.01}
    assert bring(folder).runs_there == 3


@pytest.mark.parametrize("path", ["../../secret.txt", "/etc/passwd", "demoproject/linked/1/x.png"])
def test_media_of_trackio_that_lead_elsewhere_are_refused(trackio, bring, tracker, tmp_path, path):
    folder, _ = trackio
    (tmp_path / "secret.txt").write_text("secret")
    (tmp_path / "private" / "1").mkdir(parents=True)
    (tmp_path / "private" / "1" / "x.png").write_text("secret")
    (folder / "media" / "demoproject" / "linked").symlink_to(tmp_path / "private")
    database = sqlite3.connect(folder / "demoproject.db")
    value = json.dumps({"picture": {"_type": "trackio.image", "file_path": path}})
    database.execute(
        "UPDATE metrics SET metrics = ? WHERE CAST(metrics AS TEXT) LIKE '%trackio.image%'",
        (value,),
    )
    database.execute("UPDATE metrics SET metrics = '[' WHERE run_name = 'killed' AND step = 1")
    database.commit()
    database.close()
    done = bring(folder)
    assert len(done.refused) == 2
    assert not any(a.path.endswith("png") for a in by_name(tracker)["baseline é"].artifacts)
    assert len(tracker.get_metric_history(by_name(tracker)["killed"].run_id, "train/loss")) == 2


def test_event_files_become_runs_with_all_their_points(events, bring, tracker, target):
    folder, expected = events
    done = bring(folder)
    assert (done.refused, done.runs, done.points) == ([], 4, 163)
    runs = by_name(tracker)
    for name, wanted in expected["runs"].items():
        for key, points in wanted["scalars"].items():
            found = tracker.get_metric_history(runs[name].run_id, key)
            assert [(m.step, m.timestamp.timestamp(), repr(m.value)) for m in found] == [
                (step, when, repr(float(value))) for step, when, value in points
            ]
    session = expected["runs"]["run_b"]["hparams"]
    run = runs[session["folder"]]
    assert (run.parameters, run.metrics) == (session["params"], session["metrics"])
    assert run.status is RunStatus.COMPLETED
    assert bring(folder).runs_there == 4
    assert check(target).is_sound


def test_texts_histograms_and_images_of_event_files_are_files(events, bring, tracker, tmp_path):
    folder, _ = events
    bring(folder)
    run = by_name(tracker)["run_a"]
    values = {one["key"]: one for one in values_of(tracker, run, tmp_path)}
    assert values["note é/text_summary"]["value"] == ["hello *world*"]
    assert values["weights"]["shape"][1] == 3
    image = tracker.download_run_artifact(
        run.run_id, values["img"]["artifact"], tmp_path / "image.png"
    )
    assert image.read_bytes().startswith(b"\x89PNG")


def test_the_experiment_of_event_files_can_be_named(events, bring, tracker):
    folder, _ = events
    bring(folder, name="tuning")
    assert [e.name for e in tracker.list_experiments()] == ["tuning"]


def test_event_files_that_are_cut_or_damaged_give_what_is_before(events, bring, tracker):
    folder, _ = events
    first = next((folder / "run_a").glob("events*"))
    first.write_bytes(first.read_bytes()[:-10])
    second = next((folder / "run_b").glob("events*"))
    data = bytearray(second.read_bytes())
    data[400] ^= 0xFF
    second.write_bytes(data)
    (folder / "hostile").mkdir()
    (folder / "hostile" / "events.out.tfevents.1.x").write_bytes(
        struct.pack("<Q", 2**62) + b"\0" * 20
    )
    (folder / "run_c").symlink_to(folder / "run_a")
    done = bring(folder)
    assert done.left_out[0].endswith("its last event is not whole")
    assert any("damaged after" in line for line in done.refused)
    assert any("run_c: a link" in line for line in done.refused)
    assert len(tracker.get_metric_history(by_name(tracker)["run_a"].run_id, "train/loss")) == 50


def test_nothing_that_is_known_is_said_so(tmp_path):
    (tmp_path / "empty").mkdir()
    for path in (tmp_path / "empty", tmp_path / "missing"):
        with pytest.raises(InvalidValueError, match="nothing that can be imported"):
            foreign_store(path)


def test_names_become_names_of_artifacts():
    assert safe_name("a/b:c") == "a/b_c"
    assert safe_name("../..") == "value"
    assert not os.path.isabs(safe_name("/etc/passwd"))
    assert pathlib.PurePosixPath(safe_name("x" * 300)).name == "x" * 100
