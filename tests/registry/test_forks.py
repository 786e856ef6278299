"""A child that is forked while threads of its parent use a store, as those that load data are."""

from __future__ import annotations

import contextlib
import os
import signal
import threading
import traceback

import pytest

from ops.registry.disk import journal
from ops.registry.fsck import check

pytestmark = [
    pytest.mark.skipif(not hasattr(os, "fork"), reason="needs fork"),
    pytest.mark.filterwarnings("ignore:.*fork.*:DeprecationWarning"),
]


def in_child(work):
    """Run *work* in a forked child and return whether it came to its end."""
    child = os.fork()
    if not child:
        signal.alarm(20)
        try:
            work()
        except BaseException:
            traceback.print_exc()
            os._exit(1)
        os._exit(0)
    return os.waitpid(child, 0)[1] == 0


@pytest.fixture
def held(new_context, experiment):
    """A context, all of whose locks between threads are held by one of them."""
    context = new_context(durability="interval")
    tracker, registry = context.experiment_tracker, context.model_registry
    tracker.list_runs(experiment.experiment_id)
    store = tracker._runs
    locks = [
        store._open._lock,
        store._indexes._lock,
        store.index(experiment.experiment_id).mutex,
        store.index(experiment.experiment_id)._writing,
        tracker._experiments._mutex,
        registry._mutex,
        journal._flusher._lock,
    ]
    begun, over = threading.Event(), threading.Event()

    def hold():
        with contextlib.ExitStack() as stack:
            for lock in locks:
                stack.enter_context(lock)
            begun.set()
            over.wait()

    thread = threading.Thread(target=hold)
    thread.start()
    begun.wait()
    yield context
    over.set()
    thread.join()


def test_a_child_waits_for_no_lock_of_a_thread_it_does_not_have(
    held, context, experiment, artifact
):
    tracker, registry = held.experiment_tracker, held.model_registry

    def work():
        run = tracker.start_run(tracker.create_experiment("other").experiment_id)
        tracker.log_metric(run.run_id, "m", 1.0)
        tracker.log_artifact(run.run_id, artifact)
        tracker.end_run(run.run_id)
        assert len(tracker.search_runs(run.experiment_id, filter="metrics.m = 1")) == 1
        assert registry.register_model("m", artifact, "binary", "mine").version == 1

    assert in_child(work)
    assert context.model_registry.get_model_version("m").version == 1
    assert check(context).is_sound


def test_children_log_while_threads_of_their_parent_do(context, tracker, experiment, artifact):
    registry, over = context.model_registry, threading.Event()
    run = tracker.start_run(experiment.experiment_id).run_id
    registry.register_model("m", artifact, "binary", "mine")

    def use():
        while not over.is_set():
            with tracker.run_context(experiment.experiment_id) as own:
                tracker.log_metric(own.run_id, "m", 1.0)
            registry.set_alias("m", "a", 1)
            tracker.log_metric(run, "m", 1.0)

    def work():
        tracker.log_metric(run, "child", 1.0)
        with tracker.run_context(experiment.experiment_id, "child") as own:
            tracker.log_metric(own.run_id, "m", 1.0)
        registry.set_alias("m", "b", 1)

    threads = [threading.Thread(target=use) for _ in range(2)]
    for thread in threads:
        thread.start()
    try:
        ended = [in_child(work) for _ in range(10)]
    finally:
        over.set()
        for thread in threads:
            thread.join()
    assert ended == [True] * 10
    tracker.end_run(run)
    assert tracker.get_run(run).metric_summaries["child"].count == 10
    assert check(context).is_sound
