"""Folders that claim to be MLflow's: what is damaged or leads elsewhere is named, and never followed."""

from __future__ import annotations

import contextlib
import os
import sqlite3

import pytest

from ops.registry import InvalidValueError, MLOpsConfig, MLOpsContext
from ops.registry.importing.formats import foreign_store
from ops.registry.importing.mlflow_addresses import ArtifactPath, artifact_path_of
from ops.registry.importing.store_import import import_foreign

RUN = "a" * 32
META = f"""experiment_id: '1'
run_id: {RUN}
run_uuid: {RUN}
run_name: one
status: 3
start_time: 1790000000000
end_time: 1790000001000
lifecycle_stage: active
user_id: alice
"""
EXPERIMENT = """experiment_id: '1'
name: first
creation_time: 1790000000000
last_update_time: 1790000000000
lifecycle_stage: active
"""


@pytest.fixture
def target(tmp_path, operations):
    with MLOpsContext(
        MLOpsConfig("local", str(tmp_path / "target")), operations=operations
    ) as made:
        yield made


@pytest.fixture
def root(tmp_path):
    """A small file store of MLflow's with one run."""
    folder = tmp_path / "mlruns"
    for kind in ("metrics", "params", "tags", "artifacts"):
        (folder / "1" / RUN / kind).mkdir(parents=True)
    (folder / "1" / "meta.yaml").write_text(EXPERIMENT)
    (folder / "1" / RUN / "meta.yaml").write_text(META)
    (folder / "1" / RUN / "metrics" / "loss").write_text("1790000000000 0.5 0\n")
    (folder / "1" / RUN / "params" / "depth").write_text("3")
    return folder


@pytest.fixture
def run(root):
    return root / "1" / RUN


@pytest.fixture
def bring(root, target):
    def bring():
        return import_foreign(foreign_store(root), target)

    return bring


@pytest.fixture
def secret(tmp_path):
    """What a folder must not get at."""
    path = tmp_path / "secret.txt"
    path.write_text("secret")
    return path


def everything_in(folder):
    return b"".join(p.read_bytes() for p in folder.rglob("*") if p.is_file())


@pytest.mark.parametrize(
    "where", ["artifacts/linked", "params/linked", "tags/linked", "metrics/linked"]
)
def test_a_link_is_named_and_not_followed(run, bring, target, secret, where):
    (run / where).symlink_to(secret)
    done = bring()
    assert done.runs == 1
    assert [line for line in done.refused if f"{where}: a link" in line]
    assert b"secret" not in everything_in(target.path / "experiment_tracking")


@pytest.mark.parametrize("part", ["artifacts", "metrics", "params", "tags"])
def test_a_linked_folder_is_not_followed(run, bring, secret, target, part):
    folder = secret.parent / "private"
    folder.mkdir()
    (folder / "inside").write_text("secret")
    for child in (run / part).iterdir():
        child.unlink()
    (run / part).rmdir()
    (run / part).symlink_to(folder, target_is_directory=True)
    done = bring()
    assert any("a link" in line and part in line for line in done.refused)
    assert b"secret" not in everything_in(target.path / "experiment_tracking")


@pytest.mark.parametrize("name", ["1", f"1/{RUN}", f"1/{RUN}/meta.yaml", "1/meta.yaml", "models"])
def test_links_in_place_of_folders_and_meta_files_are_not_followed(root, bring, tmp_path, name):
    path = root / name
    if path.exists():
        path.rename(tmp_path / "moved")
    else:
        (tmp_path / "moved" / "model").mkdir(parents=True)
    path.symlink_to(tmp_path / "moved")
    if name == "1":
        (root / "2").mkdir()
        (root / "2" / "meta.yaml").write_text(EXPERIMENT.replace("'1'", "'2'"))
    done = bring()
    assert any(
        "link" in line or "no run" in line or "no experiment" in line for line in done.refused
    )
    assert done.runs == (1 if name == "models" else 0)


@pytest.mark.parametrize(
    "text",
    [
        "!!python/object/apply:os.system ['touch /tmp/owned']",
        "a: &a [1]\nb: *a",
        "[" * 5000,
        "experiment_id: [1, 2]",
        "just a text",
        "",
        "\x00\x01",
        "experiment_id: '../../etc'",
        "experiment_id: '2'\nname: other",
        "a: !!int '" + "9" * 5000 + "'",
    ],
)
@pytest.mark.parametrize("name", ["1/meta.yaml", f"1/{RUN}/meta.yaml"])
def test_yaml_that_mlflow_does_not_write_is_refused_by_name(root, bring, name, text):
    (root / name).write_text(text)
    done = bring()
    assert done.runs == 0
    assert len(done.refused) == 1


def test_yaml_bombs_are_refused_before_they_grow(root, bring):
    lines = ["a0: &a0 {x: lol}"]
    lines += [f"a{n}: &a{n} {{<<: [{', '.join([f'*a{n - 1}'] * 9)}]}}" for n in range(1, 40)]
    (root / "1" / RUN / "meta.yaml").write_text("\n".join(lines))
    assert "aliases" in bring().refused[0]


@pytest.mark.parametrize(
    ("field", "value"),
    [
        ("start_time", "99999999999999999999"),
        ("start_time", "yesterday"),
        ("status", "17"),
        ("experiment_id", "'2'"),
        ("run_id", "b" * 32),
        ("run_name", "{a: b}"),
    ],
)
def test_a_run_with_a_field_that_cannot_be_is_refused(run, bring, field, value):
    lines = [line for line in META.splitlines() if not line.startswith(f"{field}:")]
    (run / "meta.yaml").write_text("\n".join([*lines, f"{field}: {value}"]))
    done = bring()
    assert (done.runs, len(done.refused)) == (0, 1)
    assert RUN in done.refused[0]


@pytest.mark.parametrize(
    "line",
    [
        "1790000001000 0.5",
        "x 0.5 1",
        "1790000001000 half 1",
        "1790000001000 0.5 1 2",
        "99999999999999999999 0.5 1",
        f"1790000001000 0.5 {2**70}",
        "1790000001000 0.5 1 " + "x" * 5000 + " digest",
        "\xff\xfe",
    ],
)
def test_a_damaged_line_costs_no_other(run, bring, target, line):
    whole = "1790000000000 0.5 0\n"
    with (run / "metrics" / "loss").open("wb") as file:
        file.write(f"{whole}{line}\n1790000002000 0.25 2\n".encode("latin-1"))
    done = bring()
    found = target.experiment_tracker.get_metric_history(RUN, "loss")
    assert {(m.step, m.value) for m in found} >= {(0, 0.5), (2, 0.25)}
    if line != "1790000001000 0.5":  # MLflow before 1.0 wrote no steps
        assert "metrics/loss" in done.refused[0]


def test_a_torn_last_line_is_named_and_not_taken(run, bring, target):
    (run / "metrics" / "loss").write_text("1790000000000 0.5 0\n1790000001000 0.25 1")
    done = bring()
    assert len(target.experiment_tracker.get_metric_history(RUN, "loss")) == 1
    assert done.refused == [f"1/{RUN}/metrics/loss line 2: torn"]


def test_values_that_are_too_large_or_no_text_are_named(run, bring, target):
    (run / "params" / "huge").write_bytes(b"x" * (2 << 20))
    (run / "tags" / "binary").write_bytes(b"\xff\xfe\x00")
    (run / "params" / ("k" * 252)).write_text("a key that is too long")
    done = bring()
    assert sorted(line.rsplit("/", 1)[1][:6] for line in done.refused) == [
        "binary",
        "huge: ",
        "kkkkkk",
    ]
    assert target.experiment_tracker.get_run(RUN).parameters == {"depth": "3"}


def test_names_of_bytes_and_pipes_are_refused_and_do_not_block(run, bring, target):
    with open(os.fsencode(run / "artifacts") + b"/\xff.bin", "wb") as file:
        file.write(b"x")
    os.mkfifo(run / "artifacts" / "pipe")
    os.mkfifo(run / "params" / "pipe")
    (run / "artifacts" / "whole.txt").write_text("whole")
    done = bring()
    assert len(done.refused) == 3
    assert [a.path for a in target.experiment_tracker.get_run(RUN).artifacts] == ["whole.txt"]


@pytest.mark.parametrize(
    "source",
    [
        "/etc/passwd",
        "file:///etc",
        f"/data/mlruns/1/{RUN}/artifacts/../../../..",
        f"runs:/{RUN}/../..",
        "models:/other/1",
    ],
)
def test_a_version_whose_files_are_elsewhere_does_not_point_there(root, bring, target, source):
    version = root / "models" / "credit" / "version-1"
    version.mkdir(parents=True)
    (root / "models" / "credit" / "meta.yaml").write_text(
        "name: credit\ncreation_timestamp: 1790000000000\n"
    )
    (version / "meta.yaml").write_text(
        f"name: credit\nversion: 1\ncreation_timestamp: 1790000000000\ncurrent_stage: None\nsource: '{source}'\n"
    )
    done = bring()
    assert done.versions == 1
    assert any("credit" in line for line in done.refused)
    found = target.model_registry.get_model_version("credit", 1)
    assert found.artifact_uri.startswith(str(target.path))
    assert ".." not in found.artifact_uri


def test_addresses_are_understood_by_their_ids():
    runs, logged = {RUN}, {"m-1"}
    for uri in (
        f"file:///data/mlruns/1/{RUN}/artifacts/model",
        f"/data/mlruns/1/{RUN}/artifacts/model",
        f"mlflow-artifacts:/1/{RUN}/artifacts/model",
        f"runs:/{RUN}/model",
        f"C:\\mlruns\\1\\{RUN}\\artifacts\\model",
    ):
        assert artifact_path_of(uri, runs, logged) == ArtifactPath("run", RUN, "model")
    assert artifact_path_of("models:/m-1", runs, logged) == ArtifactPath("logged", "m-1")
    assert artifact_path_of(f"s3://bucket/1/{RUN}/artifacts/model", runs, logged) is None
    assert artifact_path_of(f"runs:/{'b' * 32}/model", runs, logged) is None


def test_a_database_whose_tables_are_views_or_torn_is_not_run(target, tmp_path):
    path = tmp_path / "mlflow.db"
    made = sqlite3.connect(path)
    for table in ("experiments", "runs", "params"):
        made.execute(f"CREATE TABLE {table} (experiment_id)")
    made.execute(
        "CREATE VIEW metrics AS WITH RECURSIVE n(i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n) SELECT i FROM n"
    )
    made.commit()
    made.close()
    with pytest.raises(InvalidValueError, match="nothing that can be imported"):
        foreign_store(path)
    path.write_bytes(b"SQLite format 3\0" + b"\xff" * 4096)
    with pytest.raises(InvalidValueError):
        foreign_store(path)


def test_a_linked_database_in_a_folder_is_not_opened(tmp_path, foreign):
    folder, _ = foreign("mlflow-3.17.0-sqlite")
    (tmp_path / "theirs").mkdir()
    (tmp_path / "theirs" / "mlflow.db").symlink_to(folder / "mlflow.db")
    with pytest.raises(InvalidValueError):
        foreign_store(tmp_path / "theirs")


def test_a_database_with_damaged_rows_gives_the_others(foreign, target):
    folder, _ = foreign("mlflow-3.17.0-sqlite")
    database = sqlite3.connect(folder / "mlflow.db")
    (run_id,) = database.execute(
        "SELECT run_uuid FROM runs WHERE name = 'series' AND experiment_id = 1"
    ).fetchone()
    database.execute("PRAGMA ignore_check_constraints = ON")
    database.execute("UPDATE runs SET status = 'ODD' WHERE run_uuid = ?", (run_id,))
    database.execute("UPDATE metrics SET value = 'text' WHERE key = 'int'")
    database.execute(
        "UPDATE runs SET run_uuid = '../../x' WHERE name = 'sweep-0' AND experiment_id = 1"
    )
    for table, column in (("logged_models", "model_id"), ("registered_models", "name")):
        columns = [row[1] for row in database.execute(f"PRAGMA table_info({table})")]
        first = database.execute(f"SELECT * FROM {table} LIMIT 1").fetchone()
        odd = [b"\xff/.." if name == column else v for name, v in zip(columns, first, strict=True)]
        marks = ", ".join("?" * len(odd))
        database.execute(f"INSERT INTO {table} VALUES ({marks})", odd)
    database.commit()
    database.close()
    done = import_foreign(foreign_store(folder), target)
    assert done.runs == 23
    assert any("ODD" in line for line in done.refused)
    assert any("'../../x'" in line for line in done.refused)
    assert sum("'int'" in line for line in done.refused) == 2
    assert (done.logged_models, done.versions) == (5, 5)
    assert any(line.startswith("logged model") for line in done.refused)


def test_a_store_of_ours_with_hostile_links_takes_nothing(root, target, tmp_path):
    """The target is checked like every store: a link in the way of a run's journal is not written through."""
    import_foreign(foreign_store(root), target)
    victim = tmp_path / "victim"
    victim.write_text("mine")
    journal = next((target.path / "experiment_tracking" / "runs").rglob(f"{RUN}.main.log"))
    journal.unlink()
    journal.symlink_to(victim)
    (root / "1" / RUN / "params" / "more").write_text("4")
    with contextlib.suppress(OSError):
        assert import_foreign(foreign_store(root), target).runs_changed == 0
    assert victim.read_text() == "mine"
