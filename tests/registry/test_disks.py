"""Disks that are full or read-only, and files that are damaged: a clear error, and others go on."""

from __future__ import annotations

import os
import pathlib
import subprocess
import sys

import pytest

from ops.registry import CorruptStoreError, MLOpsConfig, MLOpsContext, StorageError
from ops.registry.disk.derived_files import write_view
from ops.registry.disk.journal import JournalReader
from ops.registry.fsck import check

FULL = """
import os, pathlib, resource, signal, sys
import pyarrow.parquet
from ops.registry import StorageError
from ops.registry.context import MLOpsConfig, MLOpsContext
from ops.registry.fsck import check

here = pathlib.Path(sys.argv[1])
signal.signal(signal.SIGXFSZ, signal.SIG_IGN)

def room(size):
    resource.setrlimit(resource.RLIMIT_FSIZE, (size, resource.RLIM_INFINITY))

def refused(call, *args, **kwargs):
    try:
        call(*args, **kwargs)
    except StorageError as error:
        assert "written" in str(error) or "stored" in str(error) or "fitted" in str(error), error
        return True
    return False

context = MLOpsContext(MLOpsConfig(storage_path=str(here / "store")))
tracker, registry, storage = context.experiment_tracker, context.model_registry, context.storage
experiment = tracker.create_experiment("e").experiment_id
(here / "big").write_bytes(b"x" * 20_000)
storage.write_json("old", "a.json")
run = tracker.start_run(experiment).run_id
other = tracker.start_run(experiment).run_id
room(3000)
steps = 0
while not refused(tracker.log_metric, run, "m", steps, steps):
    steps += 1
tracker.log_metric(other, "m", 1.0)
assert refused(tracker.log_artifact, run, here / "big")
assert refused(registry.register_model, "m", here / "big", "binary", "mine")
assert refused(storage.write_json, "y" * 20_000, "a.json")
started = 0
while not refused(tracker.start_run, experiment):
    started += 1
    assert started < 100
room(resource.RLIM_INFINITY)
assert storage.read_json("a.json") == "old"
assert registry.list_models() == []
tracker.log_metric(run, "m", steps, steps)
found = [m.value for m in tracker.get_metric_history(run, "m")]
assert found == list(range(steps + 1)), found
assert tracker.get_run(run).artifacts == ()
tracker.end_run(run)
tracker.end_run(other)
assert registry.register_model("m", here / "big", "binary", "mine").version == 1
assert tracker.start_run(experiment)
acknowledged = started + 3
assert len(tracker.list_runs(experiment)) in (acknowledged, acknowledged + 1)
assert check(context, repair=True).is_sound
print(steps, started)
"""

READ_ONLY = """
import os, pathlib, sys
import pyarrow.compute, pyarrow.parquet
from ops.observe import checks, health
from ops.registry import StorageError, fsck, html_report
from ops.registry.local.index import arrays, run_table
from ops.registry.disk import transactions
from ops.registry.context import MLOpsConfig, MLOpsContext
from ops.resilience import retrying

here = pathlib.Path(sys.argv[1])
config = MLOpsConfig(storage_path=str(here / "store"))
with MLOpsContext(config) as context:
    tracker = context.experiment_tracker
    experiment = tracker.create_experiment("e").experiment_id
    (here / "model.bin").write_bytes(b"weights")
    for name in ("a", "b"):
        with tracker.run_context(experiment, name) as run:
            tracker.log_metric(run.run_id, "m", 1.0)
        tracker.compact()
        tracker.search_runs(experiment, filter="metrics.m > 0")
    context.model_registry.register_model("m", here / "model.bin", "binary", "mine")
    context.storage.write_json(1, "x.json")
for path in sorted((here / "store").rglob("*")):
    path.chmod(0o555 if path.is_dir() else 0o444)
(here / "store").chmod(0o555)
here.chmod(0o755)
if os.getuid() == 0:
    os.setuid(65534)
with MLOpsContext(config) as context:
    tracker, registry = context.experiment_tracker, context.model_registry
    assert [r.name for r in tracker.search_runs(experiment, filter="metrics.m > 0")] == ["a", "b"]
    assert registry.get_model_version("m").version == 1
    assert context.storage.read_json("x.json") == 1
    assert tracker.health_check() and registry.health_check()
    for call in (
        lambda: tracker.create_experiment("f"),
        lambda: tracker.start_run(experiment),
        lambda: tracker.log_metric(run.run_id, "m", 1.0),
        lambda: tracker.log_artifact(run.run_id, here / "model.bin"),
        lambda: registry.register_model("m", here / "model.bin", "binary", "mine"),
        lambda: registry.promote_model("m", 1, "Production"),
        lambda: context.storage.write_json(2, "x.json"),
        lambda: tracker.compact(),
    ):
        try:
            call()
        except StorageError as error:
            print(error)
        else:
            raise AssertionError("a read-only store was written")
"""


def call(program, *words):
    command = [sys.executable, "-c", program, *map(str, words)]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    return done.stdout


@pytest.mark.fault
@pytest.mark.skipif(sys.platform != "linux", reason="RLIMIT_FSIZE as Linux has it")
def test_a_full_disk_refuses_clearly_and_loses_nothing(tmp_path):
    steps, started = map(int, call(FULL, tmp_path).split())
    assert steps > 10
    assert started > 0


@pytest.mark.fault
@pytest.mark.skipif(sys.platform != "linux", reason="permissions as Linux has them")
def test_a_read_only_store_can_be_read(tmp_path_factory):
    import tempfile

    with tempfile.TemporaryDirectory(dir="/tmp") as folder:
        pathlib.Path(folder).chmod(0o777)
        try:
            assert len(call(READ_ONLY, folder).splitlines()) == 8
        finally:
            for path in [pathlib.Path(folder), *pathlib.Path(folder).rglob("*")]:
                path.chmod(0o755)


def test_every_journal_cut_at_every_byte_still_reads(context, tracker, registry, artifact):
    experiment = tracker.create_experiment("e")
    with tracker.run_context(experiment.experiment_id) as run:
        tracker.log_metric(run.run_id, "m", 1.0)
    registry.register_model("m", artifact, "binary", "mine")
    registry.set_alias("m", "best", 1)
    context.cleanup()
    journals = sorted(context.path.rglob("*.log"))
    assert len(journals) == 4  # of experiments, of the run, of the index and of the models
    for path in journals:
        data = path.read_bytes()
        whole = JournalReader(path).poll()
        for cut in range(len(data)):
            path.write_bytes(data[:cut])
            assert JournalReader(path).poll() == whole[: data[:cut].count(b"\n")]
            other = MLOpsContext(MLOpsConfig(storage_path=str(context.path)))
            for known in other.experiment_tracker.list_experiments():
                other.experiment_tracker.list_runs(known.experiment_id)
            other.model_registry.search_models()
        path.write_bytes(data)


def test_a_damaged_byte_costs_one_frame_and_no_other(tracker, experiment):
    with tracker.run_context(experiment.experiment_id) as run:
        for step in range(3):
            tracker.log_metric(run.run_id, "m", step, step=step)
    folder = tracker.root / "runs" / experiment.experiment_id
    path = folder / f"{run.run_id}.main.log"
    data = bytearray(path.read_bytes())
    data[data.index(b'["m",1.0') + 3] ^= 1
    path.write_bytes(bytes(data))
    (folder / f"{run.run_id}.json").unlink()
    assert [m.step for m in tracker.get_metric_history(run.run_id, "m")] == [0, 2]


def test_a_damaged_view_of_a_run_is_passed_over(tracker, experiment, new_context):
    with tracker.run_context(experiment.experiment_id) as run:
        tracker.log_metric(run.run_id, "m", 1.0)
    view = tracker.root / "runs" / experiment.experiment_id / f"{run.run_id}.json"
    for content in (b"", b"{", b"[]", b'{"format": 1}', b"\xff"):
        view.write_bytes(content)
        assert new_context().experiment_tracker.get_run(run.run_id).metrics == {"m": 1.0}


def test_a_newer_format_is_refused(tracker, experiment, new_context):
    run = tracker.start_run(experiment.experiment_id)
    path = tracker.root / "runs" / experiment.experiment_id / f"{run.run_id}.main.log"
    from ops.registry.disk.journal import frame

    (start,) = JournalReader(path).poll()
    path.write_bytes(frame(start | {"v": 99}))
    with pytest.raises(CorruptStoreError, match="format 99"):
        new_context().experiment_tracker.get_run(run.run_id)


def test_a_view_replaces_the_old_one_and_leaves_nothing_else(tmp_path):
    path = tmp_path / "new" / "folder" / "v1.json"
    for body in (b"{}", b'{"a":1}'):
        write_view(str(path), body)
        assert path.read_bytes() == body
    (path.parent / "v2.json").mkdir()
    with pytest.raises(OSError):
        write_view(str(path.parent / "v2.json"), b"{}")
    assert sorted(p.name for p in path.parent.iterdir()) == ["v1.json", "v2.json"]


@pytest.fixture
def one_byte_short(monkeypatch):
    """Lets the next write of a journal lack its last byte, as on a disk that fills up just there."""
    write = os.write

    def fill():
        def short(descriptor, data):
            monkeypatch.setattr(os, "write", write)
            return write(descriptor, data[:-1])

        monkeypatch.setattr(os, "write", short)

    return fill


def test_what_was_refused_never_takes_effect_later(
    context, tracker, registry, artifact, one_byte_short
):
    one_byte_short()
    with pytest.raises(StorageError, match="fitted"):
        tracker.create_experiment("e")
    experiment = tracker.create_experiment("e")
    assert tracker.list_experiments() == [experiment]
    run = tracker.start_run(experiment.experiment_id).run_id
    one_byte_short()
    with pytest.raises(StorageError, match="fitted"):
        tracker.log_metric(run, "m", 1.0)
    tracker.log_metric(run, "m", 1.0)
    assert len(tracker.get_metric_history(run, "m")) == 1
    registry.register_model("m", artifact, "binary", "mine")
    one_byte_short()
    with pytest.raises(StorageError, match="fitted"):
        registry.set_alias("m", "best", 1)
    registry.annotate("m", 1, "afterwards")
    assert registry.get_model_version("m", 1).aliases == ()
    assert check(context).is_sound
