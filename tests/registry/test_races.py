"""What was seen before another process changed it: each test lets that happen between a look and the act on it."""

from __future__ import annotations

import itertools
import os
import pathlib
import threading
import time

import pytest

from ops.foundation.locks import FileLock
from ops.registry import AlreadyExistsError, MLOpsConfig, MLOpsContext, RunNotFoundError, fsck
from ops.registry.disk import artifacts, journal, transactions
from ops.registry.disk.journal import JournalReader, JournalWriter
from ops.registry.disk.storage import LocalStorageBackend
from ops.registry.disk.transactions import Transaction
from ops.registry.errors import StorageError
from ops.registry.fsck import check, collect
from ops.registry.local import open_runs, run_files
from ops.registry.local.index.run_index import RunIndex
from ops.registry.local.logged_models import LoggedModelBook
from ops.registry.traces import journal as trace_journal
from ops.registry.traces.book import TraceBook
from ops.registry.traces.journal import TraceJournal
from ops.registry.transfer import copy_store


@pytest.fixture
def other(tmp_path, operations):
    config = MLOpsConfig(storage_path=str(tmp_path / "other"))
    with MLOpsContext(config, operations=operations) as context:
        yield context


def test_a_run_that_is_logged_to_while_it_is_copied_arrives_with_all_files_that_it_names(
    context, experiment, artifact, other, once, tmp_path
):
    tracker = context.experiment_tracker
    run = tracker.start_run(experiment.experiment_id).run_id
    tracker.log_artifact(run, artifact)
    second = tmp_path / "second.bin"
    second.write_bytes(b"second")
    once(artifacts, "stage", lambda: tracker.log_artifact(run, second))
    copy_store(context, other)
    assert check(other).is_sound
    copy_store(context, other)
    assert check(other).is_sound
    found = other.experiment_tracker.get_run(run).artifacts
    assert {one.path for one in found} == {artifact.name, "second.bin"}


@pytest.mark.parametrize("step", ["stage", "publish"])
def test_what_is_logged_to_a_copy_while_it_is_brought_up_to_date_stays(
    context, experiment, artifact, other, once, step
):
    tracker = context.experiment_tracker
    run = tracker.start_run(experiment.experiment_id).run_id
    copy_store(context, other)
    tracker.log_artifact(run, artifact)
    there = MLOpsContext(other.config).experiment_tracker

    def log_there():
        there.log_metric(run, "m", 1.0)
        there.log_parameter(run, "p", "kept")

    once(artifacts, step, log_there)
    with pytest.raises(AlreadyExistsError, match="Both stores"):
        copy_store(context, other)
    there.log_metric(run, "m", 2.0)
    found = MLOpsContext(other.config).experiment_tracker.get_run(run)
    assert (found.metrics, found.parameters) == ({"m": 2.0}, {"p": "kept"})
    assert check(other).is_sound


def cut_short(monkeypatch):
    """Let the next write to a journal meet a full disk after half of it."""
    write, done = os.write, []

    def half(descriptor, data):
        if done:
            return write(descriptor, data)
        done.append(1)
        return write(descriptor, bytes(data)[: len(data) // 2])

    monkeypatch.setattr(journal.os, "write", half)


def test_a_frame_behind_the_torn_one_of_another_process_is_read(tmp_path, monkeypatch):
    path = tmp_path / "journal.log"
    with JournalWriter(path) as one, JournalWriter(path) as two:
        one.append({"n": 1})
        reader = JournalReader(path)
        assert reader.poll() == [{"n": 1}]
        cut_short(monkeypatch)
        with pytest.raises(StorageError):
            one.append({"refused": "00000000 {"})
        assert reader.poll() == []
        position = two.append_body(journal.encode({"n": 2}))
        two.append({"n": 3})
        assert not reader.skip(*position)
        found = reader.poll_lines()
        assert [journal.decode(body) for _, body in found] == [{"n": 2}, {"n": 3}]
        assert reader.torn == 1
        data = path.read_bytes()
        assert [data[at : at + len(body)] for at, body in found] == [body for _, body in found]
        one.append({"n": 4})
    assert JournalReader(path).poll() == [{"n": 1}, {"n": 2}, {"n": 3}, {"n": 4}]


def test_a_logged_model_that_was_made_behind_what_a_full_disk_cut_off_is_there(
    tmp_path, monkeypatch
):
    folder = tmp_path / "experiment_tracking" / "logged_models"
    one, two = LoggedModelBook(folder), LoggedModelBook(folder)
    fields = {"experiment_id": "1", "name": "m", "tags": {}, "params": {}}
    for book, model_id in ((one, "m-1"), (two, "m-2")):
        book.create(fields, model_id)
    cut_short(monkeypatch)
    with pytest.raises(StorageError):
        one.create(fields, "m-3")
    two.create(fields, "m-4")
    assert [model["id"] for model in LoggedModelBook(folder).all()] == ["m-1", "m-2", "m-4"]


@pytest.mark.parametrize("way", ["first", "again"])
def test_a_run_that_is_erased_as_another_process_opens_it_stays_erased(
    tracker, experiment, new_context, monkeypatch, way
):
    run = tracker.start_run(experiment.experiment_id).run_id
    logging = new_context().experiment_tracker
    folder = tracker.root / "runs" / experiment.experiment_id
    if way == "again":
        logging.log_metric(run, "m", 1.0)
        local = logging._runs._open._writers[run]
        local.journal.close()

    def erased_first(*args, **kwargs):
        if pathlib.Path(folder, f"{run}.main.log").exists():
            tracker.erase_run(run)
        return JournalWriter(*args, **kwargs)

    monkeypatch.setattr(open_runs, "JournalWriter", erased_first)
    with pytest.raises(RunNotFoundError):
        logging.log_metric(run, "m", 2.0)
    assert not list(folder.glob(f"{run}.*"))


def test_the_frames_of_a_trace_are_all_read_though_the_journal_is_compacted_meanwhile(
    tmp_path, monkeypatch
):
    traces = TraceJournal(tmp_path / "1")
    for number in range(40):
        traces.append([{"op": "tags", "id": f"tr-{number % 2}", "tags": {"n": str(number)}}])
    traces.append([{"op": "gone", "id": "tr-0"}])
    expected = [body for trace_id, body in traces.raw() if trace_id == "tr-1"]
    assert len(expected) == 20
    monkeypatch.setattr(trace_journal, "_BYTES", 200)
    reading = (body for trace_id, body in traces.raw() if trace_id == "tr-1")
    found = [next(reading)]
    assert TraceJournal(tmp_path / "1").compact() > 0
    assert [*found, *reading] == expected


def later():
    return time.time() + 2 * 24 * 3600


def test_a_version_that_is_registered_while_what_was_left_for_its_number_is_collected_keeps_its_files(
    context, registry, artifact, once
):
    model_id = registry.register_model("m", artifact, "binary", "mine").model_id
    left = registry.root / "artifacts" / model_id / "v2"
    left.mkdir()
    once(fsck, "_unknown", lambda: registry.register_model("m", artifact, "binary", "mine"))
    assert collect(context, now=later) == []
    registry.verify(registry.get_model_version("m", 2))
    assert check(context).is_sound


def test_a_copy_that_a_living_process_has_just_made_of_old_content_is_not_collected(
    new_context, artifact, monkeypatch
):
    context = new_context(deduplicate_artifacts=True)
    tracker, registry = context.experiment_tracker, context.model_registry
    run = tracker.start_run(tracker.create_experiment("study").experiment_id).run_id
    long_ago = time.time() - 10 * 24 * 3600
    stored = pathlib.Path(tracker.log_artifact(run, artifact).uri)
    os.utime(stored, (long_ago, long_ago))  # it is shared by what comes now
    stage = artifacts.stage

    def collected_meanwhile(*args, **kwargs):
        staged = stage(*args, **kwargs)
        assert staged[0].stat().st_mtime == pytest.approx(long_ago)
        assert collect(context) == []
        assert check(context, repair=True).removed_copies == 0
        return staged

    monkeypatch.setattr(artifacts, "stage", collected_meanwhile)
    registry.register_model("m", artifact, "binary", "mine")
    tracker.log_artifact(run, artifact, "again")
    assert check(context).is_sound


def test_what_is_restored_while_others_are_erased_stays(context, tracker, experiment, once):
    runs = [tracker.start_run(experiment.experiment_id).run_id for _ in range(3)]
    for run in runs:
        tracker.delete_run(run)
    once(tracker, "erase_run", lambda: tracker.restore_run(runs[2]))
    assert collect(context, deleted_days=0) == [f"run {run}" for run in runs[:2]]
    assert tracker.get_run(runs[2]).deleted_at is None


def test_the_runs_of_an_experiment_that_is_restored_while_they_are_erased_stay(
    context, tracker, experiment, once
):
    runs = [tracker.start_run(experiment.experiment_id).run_id for _ in range(3)]
    tracker.delete_experiment(experiment.experiment_id)
    once(tracker, "erase_run", lambda: tracker.restore_experiment(experiment.experiment_id))
    assert collect(context, deleted_days=0) == [f"run {runs[0]}"]
    assert [run.run_id for run in tracker.list_runs(experiment.experiment_id)] == runs[1:]


@pytest.mark.parametrize("when", ["before its files go", "when its files are gone"])
def test_a_run_that_is_erased_as_it_ends_is_not_listed(
    tracker, experiment, new_context, monkeypatch, when
):
    run = tracker.start_run(experiment.experiment_id).run_id
    erasing = new_context().experiment_tracker
    erasing.get_run(run)
    put, unlink = RunIndex.put, pathlib.Path.unlink

    def ends(index, row, **options):
        monkeypatch.setattr(RunIndex, "put", put)
        if when == "when its files are gone":
            erasing.erase_run(run)
        put(index, row, **options)

    def ended_first(path, missing_ok=False):
        monkeypatch.setattr(pathlib.Path, "unlink", unlink)
        tracker.end_run(run)
        unlink(path, missing_ok=missing_ok)

    if when == "before its files go":
        monkeypatch.setattr(pathlib.Path, "unlink", ended_first)
        erasing.erase_run(run)
    else:
        monkeypatch.setattr(RunIndex, "put", ends)
        with pytest.raises(RunNotFoundError):
            tracker.end_run(run)
    assert new_context().experiment_tracker.list_runs(experiment.experiment_id) == []


def test_an_index_that_has_lost_its_base_is_not_compacted_without_the_runs_in_that(
    tracker, experiment, new_context
):
    runs = [tracker.start_run(experiment.experiment_id).run_id]
    tracker.compact()
    runs.append(tracker.start_run(experiment.experiment_id).run_id)
    (tracker.root / "runs" / experiment.experiment_id / "index.parquet").unlink()
    new_context().experiment_tracker.compact()
    found = new_context().experiment_tracker.list_runs(experiment.experiment_id)
    assert [run.run_id for run in found] == runs


def test_a_table_that_is_written_while_another_process_appends_to_it_is_not_lost(tmp_path, once):
    pandas = pytest.importorskip("pandas")
    one, two = LocalStorageBackend(tmp_path), LocalStorageBackend(tmp_path)
    one.write_dataframe(pandas.DataFrame({"a": [1]}), "t")
    new = pandas.DataFrame({"a": [2]})
    once(one, "_joined", lambda: two.write_dataframe(new, "t"))
    one.write_dataframe(pandas.DataFrame({"a": [3]}), "t", mode="append")
    assert two.read_dataframe("t")["a"].tolist() == [2, 3]
    once(one, "_joined", lambda: two.delete("t"))
    one.write_dataframe(pandas.DataFrame({"a": [4]}), "t", mode="append")
    assert two.read_dataframe("t")["a"].tolist() == [4]


@pytest.mark.parametrize("kind", ["file", "folder"])
def test_what_comes_to_a_destination_while_a_copy_is_made_is_not_replaced(
    tracker, experiment, artifact, tmp_path, monkeypatch, kind
):
    run = tracker.start_run(experiment.experiment_id).run_id
    source = artifact
    if kind == "folder":
        source = tmp_path / "folder"
        source.mkdir()
        (source / "a").write_bytes(b"a")
    tracker.log_artifact(run, source)
    target = tmp_path / "out" / source.name
    lexists, done = os.path.lexists, []

    def comes(path):
        there = lexists(path)
        if pathlib.Path(path) == target and not done:
            done.append(path)
            if kind == "folder":
                target.mkdir()
                (target / "mine").write_bytes(b"mine")
            else:
                target.write_bytes(b"mine")
        return there

    monkeypatch.setattr(artifacts.os.path, "lexists", comes)
    with pytest.raises(AlreadyExistsError):
        tracker.download_run_artifact(run, source.name, target)
    monkeypatch.undo()
    mine = target / "mine" if kind == "folder" else target
    assert mine.read_bytes() == b"mine"
    assert os.listdir(target.parent) == [target.name]


def test_a_transaction_whose_folder_is_taken_for_one_that_was_left_begins_all_the_same(tmp_path):
    storage = LocalStorageBackend(tmp_path)
    transaction = Transaction(storage)
    folder = tmp_path / transactions.FOLDER / transaction.transaction_id
    is_held, goes_on = threading.Event(), threading.Event()

    def clear_away():
        with FileLock(folder / "lock"):
            is_held.set()
            goes_on.wait(0.2)
            transactions.clear(folder)

    clearing = threading.Thread(target=clear_away)
    clearing.start()
    is_held.wait()
    with transaction:
        clearing.join()
        transaction.write_json(1, "one")
    assert storage.read_json("one") == 1


def test_a_folder_that_a_transaction_begins_in_as_it_is_cleared_away_stays(tmp_path, monkeypatch):
    storage = LocalStorageBackend(tmp_path)
    transaction = Transaction(storage)
    folder = tmp_path / transactions.FOLDER / transaction.transaction_id
    with FileLock(folder / "lock"):
        pass  # all that it had when it was taken for one that was left
    rmdir = pathlib.Path.rmdir

    def begun_before(path):
        monkeypatch.setattr(pathlib.Path, "rmdir", rmdir)
        transaction.begin()
        rmdir(path)

    monkeypatch.setattr(pathlib.Path, "rmdir", begun_before)
    transactions.clear(folder)
    transaction.write_json(1, "one")
    transaction.commit()
    assert storage.read_json("one") == 1


@pytest.fixture
def traces(tmp_path):
    """Makes books of one folder of traces; another one stands for another process."""
    made = []

    def make():
        made.append(TraceBook(tmp_path / "traces"))
        return made[-1]

    make().append("1", started("tr-1"), started("tr-2"))
    yield make
    for book in made:
        book.close()


def started(trace_id):
    info = {"time": 1, "duration": 1, "state": "OK", "client": None, "request": None}
    info |= {"response": None, "tags": {}, "metadata": {}, "usage": {}, "cost": {}}
    return {"op": "start", "id": trace_id, "info": {**info, "final": True, "assessments": []}}


def tagged(trace_id, key):
    return {"op": "tags", "id": trace_id, "tags": {key: "x"}}


@pytest.mark.parametrize("times", [1, 10])
def test_what_is_logged_to_a_trace_while_it_is_moved_comes_along(traces, once, monkeypatch, times):
    moving, logging = traces(), traces()
    keys = iter(range(times))
    frames_of = TraceJournal._frames_of

    def logged_meanwhile(journal, trace_id):
        found = frames_of(journal, trace_id)
        for key in itertools.islice(keys, 1):
            if times == 1 or key < 3:  # then others wait
                logging.append("1", tagged("tr-1", str(key)))
        return found

    monkeypatch.setattr(TraceJournal, "_frames_of", logged_meanwhile)
    moving.move(moving.find("tr-1"), "2")
    found = traces().of(["1", "2"])
    assert [(one.trace_id, one.experiment_id) for one in found] == [("tr-2", "1"), ("tr-1", "2")]
    assert set(found[1].tags) == {str(n) for n in range(min(times, 3))}


def test_what_is_logged_to_a_trace_that_was_found_before_it_was_moved_goes_to_where_it_is(traces):
    moving, logging, other = traces(), traces(), traces()
    known = logging.find("tr-1")
    assert other.find("tr-1").experiment_id == known.experiment_id
    moving.move(moving.find("tr-1"), "2")
    logging.change(known, "tags", tags={"late": "x"})
    other.append("1", tagged("tr-2", "both"), tagged("tr-1", "both"))
    found = traces().of(["1", "2"])
    assert [(one.trace_id, one.experiment_id) for one in found] == [("tr-2", "1"), ("tr-1", "2")]
    assert [set(one.tags) for one in found] == [{"both"}, {"late", "both"}]
    moving.append("2", {"op": "gone", "id": "tr-1"})
    logging.change(known, "tags", tags={"later": "x"})
    assert [one.trace_id for one in traces().of(["1", "2"])] == ["tr-2"]


def test_a_file_of_another_program_that_comes_as_an_artifact_is_logged_is_not_replaced(
    tracker, experiment, artifact, once
):
    run = tracker.start_run(experiment.experiment_id).run_id
    target = tracker.artifact_folder(run) / artifact.name
    once(run_files, "is_there", lambda: target.write_bytes(b"of another program"))
    with pytest.raises(AlreadyExistsError):
        tracker.log_artifact(run, artifact)
    assert target.read_bytes() == b"of another program"
