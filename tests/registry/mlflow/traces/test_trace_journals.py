"""Traces outlive kills, are written by several processes at once, and go wherever their store goes."""

from __future__ import annotations

import json
import os
import pathlib
import shutil
import signal
import types

import pytest
from mlflow.entities import AssessmentSource, Feedback

from ops.registry.context import MLOpsConfig, MLOpsContext
from ops.registry.disk.journal import frame
from ops.registry.errors import AlreadyExistsError
from ops.registry.fsck import check, collect
from ops.registry.mlflow import OpsTrackingStore
from ops.registry.traces.journal import TraceJournal
from ops.registry.transfer import copy_store

JUDGE = AssessmentSource("HUMAN", "ada")


def journal_of(root, home):
    return root / "experiment_tracking/traces" / home / "journal.log"


def opened(root):
    """Another store on the same folder, as another process has it."""
    return OpsTrackingStore(f"ops-registry://{root}")


def context_of(root):
    return MLOpsContext(MLOpsConfig("local", str(root)))


def fill(at, new_id, span, info):
    """Log all kinds of frames, and return the ids of the two traces that are there then."""
    first, second, gone = new_id(), new_id(), new_id()
    for one in (first, second, gone):
        at.store.log_spans(at.home, [span(one), span(one, number=2, parent=1)])
        at.store.start_trace(info(one, at.home, tags={"a": "b"}))
    run_id = at.store.create_run(at.home, "u", 0, [], "run").info.run_id
    at.store.link_traces_to_run([first], run_id)
    at.store.set_trace_tag(first, "c", "d")
    made = at.store.create_assessment(Feedback("x", 1, trace_id=first, source=JUDGE))
    at.store.create_assessment(
        Feedback("x", 2, trace_id=first, source=JUDGE, overrides=made.assessment_id)
    )
    at.store.delete_traces(at.home, trace_ids=[gone])
    dataset = at.store.create_dataset("qa", {"t": "u"}, [at.home])
    at.store.upsert_dataset_records(dataset.dataset_id, [{"inputs": {"q": 1}, "outputs": "a"}])
    return types.SimpleNamespace(ids=[first, second], run_id=run_id, dataset=dataset.dataset_id)


def shown(store, home, made):
    """Return all that can be asked of what `fill` has logged, without where it is."""
    traces = [one.to_dict() for one in store.batch_get_traces(made.ids)]
    for one in traces:
        del one["info"]["trace_location"], one["info"]["tags"]["mlflow.artifactLocation"]
    found, _ = store.search_traces([home], f"run_id = '{made.run_id}'")
    records, _ = store._load_dataset_records(made.dataset)
    return json.dumps(
        [traces, [one.trace_id for one in found], [one.to_dict() for one in records]],
        sort_keys=True,
    )


@pytest.fixture
def filled(store, root, new_id, span, info):
    return fill(store, new_id, span, info)


def test_another_process_sees_what_one_has_logged(store, root, filled):
    there = opened(root)
    before = shown(there, store.home, filled)
    assert before == shown(store.store, store.home, filled)
    store.store.set_trace_tag(filled.ids[0], "late", "1")
    there.set_trace_tag(filled.ids[0], "later", "2")
    for one in (store.store, there):
        assert {"late": "1", "later": "2"}.items() <= one.get_trace_info(filled.ids[0]).tags.items()


def test_a_journal_that_is_cut_at_any_byte_has_all_frames_before_it(store, root, filled):
    """A kill in the middle of a write leaves half of a frame: it counts for nothing, what was before it is there."""
    path = journal_of(root, store.home)
    whole = path.read_bytes()
    ends = [0] + [at + 1 for at, byte in enumerate(whole) if byte == 10]
    states = []
    for end in ends:
        path.write_bytes(whole[:end])
        states.append(seen_in(path))
    for cut in range(0, len(whole), 37):
        path.write_bytes(whole[:cut])
        frames = sum(end <= cut for end in ends) - 1
        assert seen_in(path) == states[frames], cut
    path.write_bytes(whole)
    assert len(set(states)) == len(states), "each frame changes something"


def seen_in(path):
    journal = TraceJournal(path.parent)
    return repr([(one, journal.spans(one)) for one in journal.traces()]).replace(
        str(os.stat(path).st_ino), ""
    )


def test_what_follows_a_torn_tail_is_kept(store, root, filled, span, new_id):
    """Who writes after a kill ends the line that is open, so that its own frame is whole."""
    path = journal_of(root, store.home)
    with path.open("ab") as file:
        file.write(frame({"op": "gone", "id": filled.ids[0], "t": 1})[:-1])
    there, trace_id = opened(root), new_id()
    there.log_spans(store.home, [span(trace_id)])
    for one in (there, opened(root)):
        assert len(one.get_trace(trace_id, allow_partial=True).data.spans) == 1
        assert one.get_trace_info(filled.ids[0]).tags["c"] == "d", "a refused frame takes no effect"


WRITER = """
import os, signal, sys, threading
from mlflow.entities import AssessmentSource, Feedback, TraceInfo, TraceLocation, TraceState
from mlflow.entities.span import create_mlflow_span
from opentelemetry import trace as otel
from opentelemetry.sdk.trace import ReadableSpan
from opentelemetry.sdk.resources import Resource
from ops.registry.mlflow import OpsTrackingStore

root, home, name, count, life = sys.argv[1:]
if float(life):  # a kill at any instruction of the work below
    threading.Timer(float(life), os.kill, (os.getpid(), signal.SIGKILL)).start()
store = OpsTrackingStore(f"ops-registry://{root}")

def span(trace_id, number):
    context = otel.SpanContext(hash(trace_id) % 2**60 + 1, number, is_remote=False)
    attributes = {"mlflow.traceRequestId": f'"{trace_id}"', "mlflow.spanType": '"LLM"', "mlflow.spanInputs": '"' + "x" * 3000 + '"'}
    made = ReadableSpan("s", context=context, attributes=attributes, start_time=1, end_time=2, resource=Resource({}))
    return create_mlflow_span(made, trace_id, "LLM")

number = 0
while number != int(count):
    trace_id = f"tr-{name}-{number}"
    store.log_spans(home, [span(trace_id, n) for n in (1, 2, 3)])
    print("spans", trace_id, flush=True)
    place = TraceLocation.from_experiment_id(home)
    store.start_trace(TraceInfo(trace_id, place, 1, TraceState.OK, tags={"n": str(number)}))
    print("start", trace_id, flush=True)
    made = store.create_assessment(Feedback("x", number, trace_id=trace_id, source=AssessmentSource("CODE", "c")))
    print("assess", trace_id, made.assessment_id, flush=True)
    if number % 3 == 0:
        store.delete_traces(home, trace_ids=[trace_id])
        print("gone", trace_id, flush=True)
    number += 1
"""


def acknowledged(text):
    """Return what the lines of a writer say is there: the steps of each trace."""
    found = {}
    for line in text.splitlines(keepends=True):
        if line.endswith("\n"):
            step, trace_id, *more = line.split()
            found.setdefault(trace_id, {})[step] = more
    return found


def check_acknowledged(store, steps):
    for trace_id, done in steps.items():
        if "gone" in done:
            assert store.traces.find(trace_id) is None, trace_id
            continue
        trace = store.traces.find(trace_id)
        if trace is None:  # deleting it was not acknowledged any more
            assert "assess" in done, (trace_id, done)
            assert trace_id == list(steps)[-1], trace_id
            continue
        assert len(store.traces.journal(trace.experiment_id).spans(trace)) == 3
        if "start" in done:
            assert trace.tags["n"] == trace_id.rpartition("-")[2]
        if "assess" in done:
            assert done["assess"][0] in trace.assessments


@pytest.mark.fault
def test_killed_writers_lose_nothing_that_was_acknowledged(store, root, elsewhere):
    """Processes are killed wherever they are, others go on in the same journal; one compacts it meanwhile."""
    path = journal_of(root, store.home)
    for round_ in range(12):
        waits = [
            elsewhere.start(
                WRITER,
                str(root),
                store.home,
                f"{round_}-{writer}",
                "-1",
                str(0.2 + writer / 7 + round_ / 50),
            )
            for writer in range(2)
        ]
        for wait in waits:
            if path.exists():
                TraceJournal(path.parent).compact()
            code, text = wait()
            assert code == -signal.SIGKILL
            check_acknowledged(opened(root), acknowledged(text))
    with context_of(root) as context:
        report = check(context)
        assert report.problems == []
        assert report.traces > 50
        assert report.torn_lines <= 24


def test_several_processes_log_to_one_experiment_at_once(store, root, elsewhere):
    """Frames of all are there, whole, and each process sees those of the others."""
    waits = [
        elsewhere.start(WRITER, str(root), store.home, f"w{number}", "12", "0")
        for number in range(3)
    ]
    outputs = [wait() for wait in waits]
    assert [code for code, _ in outputs] == [0, 0, 0]
    for _, text in outputs:
        check_acknowledged(store.store, acknowledged(text))
    assert len(store.store.search_traces([store.home])[0]) == 3 * 8


def test_a_store_that_was_moved_has_its_traces(store, root, filled, tmp_path):
    """Nothing in the journals says where the store was; addresses of artifacts are those of now."""
    before = shown(store.store, store.home, filled)
    shutil.move(root, tmp_path / "moved")
    there = opened(tmp_path / "moved")
    assert shown(there, store.home, filled) == before
    where = there.get_trace_info(filled.ids[0]).tags["mlflow.artifactLocation"]
    assert str(tmp_path / "moved") in where


@pytest.fixture
def attached(root, filled):
    """A file that MLflow has put beside a trace."""
    path = root / "experiment_tracking/artifacts/traces" / filled.ids[0] / "artifacts/a.png"
    path.parent.mkdir(parents=True)
    path.write_bytes(b"png")
    return path.relative_to(root)


def test_a_copy_has_all_traces_and_datasets_and_a_second_one_nothing_to_do(
    store, root, filled, attached, tmp_path, new_id, info
):
    """Spans, tags, assessments, links, deletions, attachments, frames of unknown kinds; and later what came since."""
    unknown = {"op": "paint", "id": filled.ids[0], "t": 1, "color": "red"}
    with journal_of(root, store.home).open("ab") as file:
        file.write(frame(unknown))
    with context_of(root) as source, context_of(tmp_path / "copy") as target:
        copied = copy_store(source, target)
        assert (copied.traces, copied.datasets) == (2, 1)
        there = opened(tmp_path / "copy")
        assert shown(there, store.home, filled) == shown(store.store, store.home, filled)
        assert (tmp_path / "copy" / attached).read_bytes() == b"png"
        same = [journal_of(one, store.home).read_bytes() for one in (root, tmp_path / "copy")]
        assert same[0] == same[1], "the frame of an unknown kind too"
        again = copy_store(source, target)
        assert (again.traces, again.datasets) == (0, 0)
        store.store.set_trace_tag(filled.ids[0], "since", "1")
        store.store.start_trace(info(new_id(), store.home))
        store.store.upsert_dataset_records(filled.dataset, [{"inputs": {"q": 2}}])
        assert copy_store(source, target).traces == 1
        assert shown(there, store.home, filled) == shown(store.store, store.home, filled)
        assert check(target).is_sound


def test_a_copy_of_some_experiments_has_their_traces_alone(store, root, new_id, info, tmp_path):
    """A dataset that belongs to one of them comes along, under the experiments that are there."""
    other = store.store.create_experiment("other")
    ids = [new_id(), new_id()]
    for one, home in zip(ids, (store.home, other), strict=True):
        store.store.start_trace(info(one, home))
    both = store.store.create_dataset("both", None, [store.home, other])
    store.store.create_dataset("elsewhere", None, [store.home])
    with context_of(root) as source, context_of(tmp_path / "copy") as target:
        target.experiment_tracker.create_experiment("other")  # it has another id there
        copied = copy_store(source, target, experiments=["other"])
        assert (copied.traces, copied.datasets) == (1, 1)
        home = target.experiment_tracker.get_experiment_by_name("other").experiment_id
    there = opened(tmp_path / "copy")
    assert there.get_trace_info(ids[1]).experiment_id == home
    assert there.get_dataset_experiment_ids(both.dataset_id) == [home]
    assert there.batch_get_trace_infos([ids[0]]) == []


def test_a_trace_that_both_stores_have_changed_is_not_copied(store, root, filled, tmp_path):
    with context_of(root) as source, context_of(tmp_path / "copy") as target:
        copy_store(source, target)
        opened(tmp_path / "copy").set_trace_tag(filled.ids[0], "mine", "1")
        assert copy_store(source, target).traces == 0, "the target is ahead"
        store.store.set_trace_tag(filled.ids[0], "yours", "1")
        with pytest.raises(AlreadyExistsError, match="changed the trace"):
            copy_store(source, target)


def test_a_check_counts_traces_and_names_what_is_wrong(store, root, filled):
    with context_of(root) as context:
        report = check(context)
        assert (report.traces, report.datasets, report.problems) == (2, 1, [])
        path = journal_of(root, store.home)
        whole = path.read_bytes()
        with path.open("ab") as file:
            file.write(frame({"op": "paint", "id": "tr-1", "t": 1}))
            file.write(frame({"op": "start", "id": "tr-1", "t": 1, "info": {"time": "never"}}))
            file.write(b"00000000 {}\n")
        report = check(context)
        assert (report.unknown_frames, report.torn_lines, report.problems) == (2, 1, [])
        path.write_bytes(whole)
        shutil.copytree(path.parent, path.parents[1] / "nowhere")
        assert check(context).problems == ["Traces: there is no experiment 'nowhere'."]


def test_a_frame_that_makes_no_sense_changes_nothing_of_its_trace(store, root, filled):
    """Its first half does: a frame counts as a whole or not at all, and is counted."""
    before = store.store.get_trace_info(filled.ids[0])
    fields = {"time": 9, "duration": 9, "state": "ERROR", "client": None, "request": "other"}
    half = {**fields, "response": None, "tags": {"half": "1"}, "metadata": 5}
    with journal_of(root, store.home).open("ab") as file:
        file.write(frame({"op": "start", "id": filled.ids[0], "t": 1, "info": half}))
    assert store.store.get_trace_info(filled.ids[0]) == before
    assert store.store.traces.journal(store.home).unknown == 1


def test_spans_that_do_not_fit_their_head_are_found(store, root):
    """A frame that this package would not write, with a checksum that is right."""
    seen = {"time": 1, "end": 2, "status": None, "request": None, "response": None}
    seen |= {"usage": None, "cost": None, "tags": {}, "defaults": {}}
    spans = [["a", None, "s", "LLM", "OK", 1, 2, 5, None]]
    made = {
        "op": "spans",
        "id": "tr-1",
        "t": 1,
        "seen": seen,
        "n": spans,
        "spans": [{"a": "longer"}],
    }
    path = journal_of(root, store.home)
    path.parent.mkdir(parents=True)
    path.write_bytes(frame(made))
    with context_of(root) as context:
        (problem,) = check(context).problems
    assert problem.startswith("Trace tr-1: its spans cannot be read")


def test_collecting_takes_deleted_traces_out_of_the_journal_and_keeps_all_else(
    store, root, filled, attached, new_id, span, info
):
    """Also what another process reads at that time, writes afterwards, and frames of unknown kinds."""
    there = opened(root)
    before, secret, last = shown(there, store.home, filled), new_id(), new_id()
    hidden = {"mlflow.spanInputs": "a secret"}
    there.log_spans(store.home, [span(secret, attributes=hidden)])
    there.log_spans(store.home, [span(last), span(last, number=2)])
    held = there.traces.find(last)
    path = journal_of(root, store.home)
    with path.open("ab") as file:
        file.write(frame({"op": "paint", "id": "tr-unknown", "t": 1}))
    store.store.delete_traces(store.home, trace_ids=[secret])
    assert b"a secret" in path.read_bytes()
    with context_of(root) as context:
        collect(context, dry_run=True)
        assert b"a secret" in path.read_bytes()
        collect(context)
    assert b"a secret" not in path.read_bytes()
    assert b"paint" in path.read_bytes()
    assert len(there.traces.journal(store.home).spans(held)) == 2, (
        "offsets of the old file are not used on the new one"
    )
    assert shown(there, store.home, filled) == before
    there.set_trace_tag(filled.ids[0], "after", "1")
    assert opened(root).get_trace_info(filled.ids[0]).tags["after"] == "1"
    assert (root / attached).exists()


def test_files_beside_a_trace_that_is_gone_are_collected(store, root, filled, attached):
    store.store.delete_traces(store.home, trace_ids=filled.ids[:1])
    with context_of(root) as context:
        later = os.stat(root / attached).st_mtime + 10**6
        found = collect(context, now=lambda: later)
    assert [pathlib.Path(one).name for one in found if "traces" in str(one)] == [filled.ids[0]]
    assert not (root / attached).exists()


def test_an_erased_experiment_has_no_traces(store, root, filled):
    store.store.delete_experiment(store.home)
    with context_of(root) as context:
        assert (
            collect(context, dry_run=True, deleted_days=0)[-1]
            == f"traces of experiment {store.home}"
        )
    store.store._hard_delete_experiment(store.home)
    assert not journal_of(root, store.home).parent.exists()
    assert store.store.batch_get_trace_infos(filled.ids) == []
    assert opened(root).search_traces()[0] == []


def test_a_forked_child_logs_traces_of_its_own(store, root, span, new_id):
    ids = [new_id(), new_id()]
    store.store.log_spans(store.home, [span(ids[0])])
    child = os.fork()
    if child == 0:
        try:
            store.store.log_spans(store.home, [span(ids[1])])
        finally:
            os._exit(0)
    os.waitpid(child, 0)
    assert len(store.store.batch_get_traces(ids)) == 2


def test_each_call_is_on_the_disk_before_it_returns_if_the_address_wants_that(
    root, span, info, disk_events, new_id
):
    """``?durability=commit``: one write and one flush for a call, however many spans it has."""
    there = OpsTrackingStore(f"ops-registry://{root}?durability=commit")
    home, trace_id = there.create_experiment("x"), new_id()
    there.log_spans(home, [span(trace_id)])
    disk_events.clear()
    there.log_spans(home, [span(trace_id, number=n) for n in range(2, 22)])
    (flushed,) = disk_events.of("sync")
    assert flushed.path == f"store/experiment_tracking/traces/{home}/journal.log"
    assert flushed.size == journal_of(root, home).stat().st_size
    disk_events.clear()
    there.start_trace(info(trace_id, home))
    assert len(disk_events.of("sync")) == 1


def test_many_experiments_do_not_keep_many_files_open(store, root, new_id, info):
    homes = [store.store.create_experiment(f"many{number}") for number in range(80)]
    for home in homes:
        store.store.start_trace(info(new_id(), home))
    held = [os.path.realpath(f"/proc/self/fd/{number}") for number in os.listdir("/proc/self/fd")]
    assert sum(path.startswith(f"{root}/experiment_tracking/traces/") for path in held) == 64
    assert len(store.store.search_traces()[0]) == 80
