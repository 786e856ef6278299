"""Long runs and long lists: ending and listing read as little as can be, and what they return is the same."""

from __future__ import annotations

import copy
import dataclasses
import json
import math
import pickle
import signal
import threading

import pytest

from ops.registry.disk import journal
from ops.registry.disk.journal import canonical
from ops.registry.errors import CorruptStoreError
from ops.registry.local import run_journals
from ops.registry.local.run_journals import RunReader
from ops.registry.local.stored_runs import StoredRun
from ops.registry.records import Run, RunStatus


@pytest.fixture
def read_bytes(monkeypatch):
    """Return how many bytes of journals were read so far, in a list of one number."""
    found = [0]
    read = journal._read

    def counted(path, start, end):
        found[0] += end - start
        return read(path, start, end)

    monkeypatch.setattr(journal, "_read", counted)
    return found


@pytest.fixture
def on_disk(tracker, experiment):
    """Return what gives the row of a run as its journals have it."""
    folder = tracker.root / "runs" / experiment.experiment_id
    return lambda run_id: RunReader(folder, run_id, keep_history=False).poll().row.plain()


def log_of_all_kinds(tracker, run_id, tmp_path):
    """Log values that memory and journals might keep in different forms."""
    numpy = pytest.importorskip("numpy")
    tracker.log_metric(run_id, "loss", numpy.float32(0.1), step=numpy.int64(3))
    tracker.log_metric(run_id, "loss", True)
    tracker.log_metrics(run_id, {"loss": math.nan, "ümlaut": -math.inf}, step=7)
    tracker.log_batch(run_id, [("loss", 5, 2), ("loss", -1.5, 2)], {"depth": (1, 2)}, {"a": "b"})
    tracker.log_parameters(run_id, {"x": {"y": [math.inf]}, "n": numpy.float64(2.5), "none": None})
    tracker.set_tag(run_id, "gone", "soon")
    tracker.delete_tag(run_id, "gone")
    (tmp_path / "weights.bin").write_bytes(b"1234")
    tracker.log_artifact(run_id, tmp_path / "weights.bin")


@pytest.mark.parametrize("others", [False, True])
def test_the_process_that_trained_reads_nothing_again_when_it_ends_the_run(
    tracker, experiment, read_bytes, new_context, others
):
    run = tracker.start_run(experiment.experiment_id, parameters={"a": 1}).run_id
    if others:  # which announce themselves in the journal of this process
        new_context().experiment_tracker.set_tag(run, "by", "another")
    for step in range(3000):
        tracker.log_metric(run, "loss", step / 2, step)
    read_bytes[0] = 0
    ended = tracker.end_run(run)
    assert read_bytes[0] < 2000  # of the index, not of the run
    assert ended.metrics == {"loss": 1499.5}
    assert ended.metric_summaries["loss"].count == 3000


def test_what_was_folded_while_it_was_logged_is_what_the_journals_have(
    tracker, experiment, on_disk, tmp_path, new_context
):
    run = tracker.start_run(experiment.experiment_id, tags={"t": "1"}, parameters={"p": (1,)})
    log_of_all_kinds(tracker, run.run_id, tmp_path)
    live = tracker.get_run(run.run_id)
    ended = tracker.end_run(run.run_id)
    assert canonical(tracker._runs.row(run.run_id).plain()) == canonical(on_disk(run.run_id))
    (row,) = tracker.index_rows(experiment.experiment_id)
    assert canonical(row.plain()) == canonical(on_disk(run.run_id))
    other = new_context().experiment_tracker.get_run(run.run_id)
    assert repr(ended) == repr(other)
    assert live.status is RunStatus.RUNNING
    assert repr(live.metrics) == repr(ended.metrics)


def test_what_others_log_meanwhile_is_in_the_end_too(tracker, experiment, new_context, on_disk):
    run = tracker.start_run(experiment.experiment_id).run_id
    tracker.log_metric(run, "own", 1.0)
    other = new_context().experiment_tracker
    other.log_metric(run, "others", 2.0)  # announces itself in the main journal
    tracker.log_metric(run, "own", 3.0, step=1)
    assert tracker.get_run(run).metrics == {"own": 3.0, "others": 2.0}
    other.log_metric(run, "others", 4.0, step=1)
    ended = tracker.end_run(run)
    assert ended.metrics == {"own": 3.0, "others": 4.0}
    assert canonical(on_disk(run)) == canonical(
        tracker.index_rows(experiment.experiment_id)[0].plain()
    )


def test_threads_that_log_at_once_are_all_counted(tracker, experiment, on_disk):
    run = tracker.start_run(experiment.experiment_id).run_id

    def log(number):
        for step in range(200):
            tracker.log_metric(run, f"m{number % 2}", step, step)
            tracker.set_tag(run, "last", str(step))

    threads = [threading.Thread(target=log, args=(n,)) for n in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    ended = tracker.end_run(run)
    assert [ended.metric_summaries[k].count for k in ("m0", "m1")] == [400, 400]
    assert canonical(on_disk(run)) == canonical(
        tracker.index_rows(experiment.experiment_id)[0].plain()
    )


@pytest.mark.skipif(not hasattr(signal, "SIGUSR1"), reason="signals of Unix")
def test_a_signal_handler_may_end_the_run_that_is_logged_to(tracker, experiment, monkeypatch):
    run = tracker.start_run(experiment.experiment_id).run_id
    append = journal.JournalWriter.append_frames

    def interrupted(self, data, **options):
        place = append(self, data, **options)
        monkeypatch.undo()
        signal.raise_signal(signal.SIGUSR1)
        return place

    before = signal.signal(signal.SIGUSR1, lambda *_: tracker.end_run(run, RunStatus.CANCELLED))
    try:
        monkeypatch.setattr(journal.JournalWriter, "append_frames", interrupted)
        tracker.log_metric(run, "m", 1.0)
    finally:
        signal.signal(signal.SIGUSR1, before)
    assert tracker.get_run(run).status is RunStatus.CANCELLED
    assert tracker.get_run(run).metrics == {"m": 1.0}


def test_a_long_history_becomes_a_table_when_it_is_read_first(
    tracker, experiment, new_context, monkeypatch
):
    monkeypatch.setattr(run_journals, "IN_PARQUET", 1500)
    with tracker.run_context(experiment.experiment_id) as run:
        tracker.log_batch(run.run_id, [("loss", step, step) for step in range(1600)])
        assert len(tracker.get_metric_history(run.run_id, "loss")) == 1600
    table = tracker.root / "runs" / experiment.experiment_id / f"{run.run_id}.metrics.parquet"
    assert not table.exists()  # a run that is not over has none, and its end does not wait for it
    first = new_context().experiment_tracker.get_metric_history(run.run_id, "loss")
    assert table.exists()
    monkeypatch.setattr(run_journals, "RunReader", None)  # the journals are not read again
    assert tracker.get_metric_history(run.run_id, "loss") == first


def test_a_run_names_its_experiment_so_that_few_folders_are_looked_into(
    tracker, new_context, monkeypatch
):
    made = [tracker.create_experiment(f"e{number}").experiment_id for number in range(300)]
    runs = {tracker.start_run(one).run_id: one for one in made}
    other = new_context().experiment_tracker._runs
    looked = []
    exists = run_journals.os.path.exists
    monkeypatch.setattr("os.path.exists", lambda path: looked.append(path) or exists(path))
    for run_id, experiment_id in runs.items():
        assert other.home(run_id) == experiment_id
    assert len(looked) < 3 * len(runs)


def test_a_run_of_an_older_version_is_found_in_any_experiment(tracker, new_context):
    for number in range(5):
        tracker.start_run(tracker.create_experiment(f"e{number}").experiment_id)
    experiment_id = tracker.create_experiment("old").experiment_id
    run = tracker.start_run(experiment_id).run_id
    folder = tracker.root / "runs" / experiment_id
    old = run[:17] + ("000" if run[17:20] != "000" else "111") + run[20:]
    text = (
        (folder / f"{run}.main.log")
        .read_bytes()[9:]
        .splitlines()[0]
        .replace(run.encode(), old.encode())
    )
    (folder / f"{old}.main.log").write_bytes(journal.framed(text))
    assert new_context().experiment_tracker.get_run(old).experiment_id == experiment_id


@pytest.fixture
def listed(tracker, experiment):
    """Return a run as a list of a compacted index has it, not looked at yet, and as it is read."""
    run = tracker.start_run(experiment.experiment_id, parameters={"p": {"q": [1]}}).run_id
    tracker.log_metric(run, "m", 1.5)
    tracker.end_run(run)
    tracker.compact()
    return lambda: (tracker.list_runs(experiment.experiment_id)[0], tracker.get_run(run))


def test_a_listed_run_is_a_run_in_every_respect(listed):
    for use in (
        lambda run: run,
        copy.copy,
        copy.deepcopy,
        lambda run: pickle.loads(pickle.dumps(run)),
        dataclasses.replace,
    ):
        found, read = listed()
        assert isinstance(found, StoredRun)
        assert use(found) == read
        found, read = listed()
        assert read == use(found)
    found, read = listed()
    assert repr(found) == repr(read)
    found, read = listed()
    assert json.dumps(found.parameters) == json.dumps(read.parameters)
    assert dataclasses.asdict(listed()[0])["metrics"] == {"m": 1.5}
    assert type(pickle.loads(pickle.dumps(found))) is Run
    assert not hasattr(found, "nothing")
    with pytest.raises(dataclasses.FrozenInstanceError):
        found.name = "x"
    with pytest.raises(TypeError, match="unhashable"):
        hash(found)


def test_a_listed_run_is_the_callers_own(listed):
    found, _ = listed()
    found.parameters["p"]["q"].append(2)
    again, read = listed()
    assert again.parameters == read.parameters == {"p": {"q": [1]}}


def test_a_damaged_row_is_an_error_when_it_is_looked_at(listed):
    found, _ = listed()
    object.__setattr__(found, "_text", '{"run_id": 3}')
    with pytest.raises(CorruptStoreError, match="fsck --repair"):
        found.name  # noqa: B018 - looking at it is the test


def test_runs_on_top_of_the_table_are_in_their_order(tracker, experiment, new_context):
    runs = []
    for number, value in enumerate([3.0, 1.0, math.nan, 2.0, 5.0, 4.0, 2.0]):
        run = tracker.start_run(experiment.experiment_id, f"r{number}").run_id
        if number != 5:
            tracker.log_metric(run, "m", value)
        runs.append(run)
        if number not in {1, 4}:
            tracker.end_run(run)
        if number == 3:
            tracker.compact()
    tracker.delete_run(runs[6])
    expected = {
        None: ["r0", "r1", "r2", "r3", "r4", "r5"],
        "metrics.m": ["r1", "r3", "r0", "r4", "r2", "r5"],
        "metrics.m DESC": ["r4", "r0", "r3", "r1", "r2", "r5"],
        "status DESC, metrics.m DESC": ["r4", "r1", "r0", "r3", "r2", "r5"],
    }
    for one in (tracker, new_context().experiment_tracker):
        for order, names in expected.items():
            found = one.search_runs(experiment.experiment_id, order_by=order)
            assert [run.name for run in found] == names
            for limit, offset in ((2, 0), (2, 1), (3, 2), (9, 4)):
                part = one.search_runs(
                    experiment.experiment_id, order_by=order, limit=limit, offset=offset
                )
                assert [run.name for run in part] == names[offset : offset + limit]
        assert [r.name for r in one.list_runs(experiment.experiment_id)] == expected[None]
        running = one.list_runs(experiment.experiment_id, RunStatus.RUNNING)
        assert [r.name for r in running] == ["r1", "r4"]
        every = one.list_runs(experiment.experiment_id, include_deleted=True)
        assert [r.name for r in every][6:] == ["r6"]
