"""A signal handler that logs, wherever in a call of the store it interrupts its thread: nothing waits for ever, nothing is lost."""

from __future__ import annotations

import contextlib
import faulthandler
import itertools
import signal
import sys

import pytest

from ops.foundation.errors import ConflictError
from ops.foundation.ids import generate_uuid7
from ops.registry.disk.journal import JournalReader, JournalWriter, frame
from ops.registry.fsck import check

_LONGEST_WAIT = 60


@contextlib.contextmanager
def interrupted(handler, at):
    """Call *handler* before the line of this repository that is executed as number *at*; yields the lines of handlers."""
    count, reached = 0, []

    def trace(frame, event, arg):
        nonlocal count
        if "/ops/" not in frame.f_code.co_filename:
            return None
        if event == "line":
            count += 1
            if count == at:
                reached.append(frame.f_lineno)
                handler()
        return trace

    before = sys.gettrace()
    sys.settrace(trace)
    try:
        yield reached
    finally:
        sys.settrace(before)


def everywhere(work, handler, *, stride):
    """Do *work* again and again, each time interrupted *stride* lines later, until it ends before that; return how often."""
    faulthandler.dump_traceback_later(_LONGEST_WAIT, exit=True)
    try:
        for number, at in enumerate(itertools.count(1, stride)):
            with interrupted(handler, at) as reached:
                work()
            if not reached:
                return number
        raise AssertionError
    finally:
        faulthandler.cancel_dump_traceback_later()


@pytest.fixture
def calls(tracker, experiment):
    run = tracker.start_run(experiment.experiment_id).run_id
    numbers = itertools.count()

    def point(key):
        return lambda: tracker.log_metric(run, key, 1.0, next(numbers))

    return {
        "run": run,
        "log_metric": point("work"),
        "handler": point("handler"),
        "log_batch": lambda: tracker.log_batch(run, [("work", 1.0, next(numbers))], {"p": 1}),
        "get_run": lambda: tracker.get_run(run),
        "list_runs": lambda: tracker.list_runs(experiment.experiment_id),
        "start_and_end": lambda: tracker.end_run(
            tracker.start_run(experiment.experiment_id).run_id
        ),
    }


@pytest.mark.parametrize("durability", ["process", "interval"])
@pytest.mark.parametrize("work", ["log_metric", "log_batch", "get_run", "list_runs"])
def test_a_handler_logs_amid_any_call(new_context, experiment, calls, work, durability):
    tracker = new_context(durability=durability).experiment_tracker
    run = tracker.start_run(experiment.experiment_id).run_id
    numbers = itertools.count()
    of_work = {
        "log_metric": lambda: tracker.log_metric(run, "work", 1.0, next(numbers)),
        "log_batch": lambda: tracker.log_batch(run, [("work", 1.0, next(numbers))], {"p": 1}),
        "get_run": lambda: tracker.get_run(run),
        "list_runs": lambda: tracker.list_runs(experiment.experiment_id),
    }
    times = everywhere(
        of_work[work],
        lambda: tracker.log_metric(run, "handler", 1.0, next(numbers)),
        stride=3,
    )
    assert times > 10
    assert len(tracker.get_metric_history(run, "handler")) == times
    seen = tracker.get_run(run)
    tracker.end_run(run)
    assert seen.metric_summaries["handler"].count == times
    if work.startswith("log"):
        assert seen.metric_summaries["work"].count == times + 1
    (other,) = (
        r
        for r in new_context().experiment_tracker.list_runs(experiment.experiment_id)
        if r.run_id == run
    )
    assert other.metric_summaries == seen.metric_summaries


@pytest.mark.parametrize("handler", ["start_and_end", "get_run", "list_runs"])
@pytest.mark.parametrize("work", ["log_metric", "start_and_end"])
def test_a_handler_uses_the_store_amid_any_call(context, calls, work, handler):
    assert everywhere(calls[work], calls[handler], stride=7) > 10
    assert check(context).is_sound, check(context).problems


def test_a_handler_ends_the_run_that_is_logged_to(tracker, experiment, context):
    def work():
        run = tracker.start_run(experiment.experiment_id).run_id
        ids.append(run)
        tracker.log_metric(run, "m", 1.0)

    ids: list[str] = []
    times = everywhere(work, lambda: ids and tracker.end_run(ids[-1]), stride=2)
    assert times > 10
    assert all(len(tracker.get_metric_history(run, "m")) == 1 for run in ids)
    assert check(context).is_sound, check(context).problems


def test_models_are_not_changed_amid_a_change_of_them(registry, artifact, context):
    refused, registered = [], []

    def handler():
        try:
            registered.append(registry.register_model("m", artifact, "binary", "mine").version)
        except ConflictError:
            refused.append(1)
        registry.list_models()

    times = everywhere(
        lambda: registered.append(registry.register_model("m", artifact, "binary", "mine").version),
        handler,
        stride=7,
    )
    assert refused
    assert len(refused) + len(registered) == 2 * times + 1
    assert sorted(registered) == list(range(1, len(registered) + 1))
    assert check(context).is_sound, check(context).problems


def test_a_journal_tells_where_a_frame_is_though_a_handler_has_appended(tmp_path):
    path = tmp_path / "journal"
    found = []
    with JournalWriter(path) as journal:
        handler = frame({"of": "handler"})

        def work():
            data = frame({"number": len(found)})
            found.append((data, journal.append_frames(data)))

        times = everywhere(work, lambda: journal.append_frames(handler), stride=1)
    content = path.read_bytes()
    assert all(content[start:end] == data for data, (start, end) in found)
    assert len(JournalReader(path).poll()) == len(found) + times


def test_ids_are_unique_and_grow_though_a_handler_takes_some():
    mine, all_of_them = [], []

    def take():
        # A block of random bytes is used up within.
        mine.extend(generate_uuid7() for _ in range(300))

    everywhere(take, lambda: all_of_them.append(generate_uuid7()), stride=40)
    assert len(set(mine) | set(all_of_them)) == len(mine) + len(all_of_them)
    assert mine == sorted(mine)
    assert len({one[19:] for one in mine}) == len(mine), "no random bytes twice"


@pytest.mark.skipif(not hasattr(signal, "setitimer"), reason="needs interval timers")
def test_real_signals_are_handled_by_logging(tracker, experiment):
    run = tracker.start_run(experiment.experiment_id).run_id
    times, busy = 0, False

    def handler(*_):
        nonlocal times, busy
        if not busy:  # a slow machine is not to be in its handlers for ever
            busy = True
            times += 1
            tracker.log_metric(run, "handler", 1.0, times)
            busy = False

    before = signal.signal(signal.SIGALRM, handler)
    faulthandler.dump_traceback_later(_LONGEST_WAIT, exit=True)
    signal.setitimer(signal.ITIMER_REAL, 0.001, 0.001)
    try:
        for number in range(5_000):
            tracker.log_metric(run, "work", 1.0, number)
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)
        signal.signal(signal.SIGALRM, before)
        faulthandler.cancel_dump_traceback_later()
    assert times
    assert len(tracker.get_metric_history(run, "handler")) == times
    assert tracker.get_run(run).metric_summaries["work"].count == 5_000
