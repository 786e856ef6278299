"""Events reach who asked for them, and no listener can harm the emitter."""

import asyncio
import logging
import threading

import pytest

from ops.foundation.errors import ValidationError
from ops.observe import EventEmitter, EventLog, SignatureError


def test_a_listener_gets_the_events_of_its_type_only():
    emitter, seen = EventEmitter(), []
    emitter.subscribe("a", seen.append)
    emitter.emit("a", 1, source="s", correlation_id="c")
    emitter.emit("b", 2)
    assert [(e.event_type, e.data, e.source, e.correlation_id) for e in seen] == [
        ("a", 1, "s", "c")
    ]


def test_a_star_listens_to_everything_in_the_order_of_subscription():
    emitter, seen = EventEmitter(), []
    emitter.subscribe("*", lambda e: seen.append("any"))
    emitter.subscribe("a", lambda e: seen.append("a"))
    emitter.emit("a")
    emitter.emit("b")
    assert seen == ["any", "a", "any"]


def test_a_failing_listener_is_logged_without_data_and_stops_nobody(caplog):
    emitter, seen = EventEmitter(), []

    def fail(event):
        raise RuntimeError("boom")

    emitter.subscribe("a", fail)
    emitter.subscribe("a", seen.append)
    with caplog.at_level(logging.ERROR, "ops.observe"):
        emitter.emit("a", {"password": "hunter2"})
    assert len(seen) == emitter.listener_errors == 1
    assert "fail of event 'a' failed with RuntimeError (test_events.py:" in caplog.text
    assert "boom" not in caplog.text
    assert "hunter2" not in caplog.text


def test_a_strict_emitter_raises_what_a_listener_raises():
    emitter = EventEmitter(on_error="raise")
    emitter.subscribe("a", lambda e: 1 / 0)
    with pytest.raises(ZeroDivisionError):
        emitter.emit("a")


def test_a_handle_ends_its_subscription_once():
    emitter, seen = EventEmitter(), []
    handle = emitter.subscribe("a", seen.append)
    assert handle()
    assert not handle()
    emitter.emit("a")
    assert seen == []


def test_two_threads_that_unsubscribe_one_callback_end_two_subscriptions():
    emitter = EventEmitter()

    class Listener:
        calls = 0

        def __call__(self, event):
            Listener.calls += 1

        def __eq__(self, other):
            if not ended:
                ended.append(first.unsubscribe())  # by another thread, between look and removal
            return self is other

        __hash__ = None

    ended = []
    listener = Listener()
    first = emitter.subscribe("a", listener)
    emitter.subscribe("a", listener)
    assert emitter.unsubscribe("a", listener)
    emitter.emit("a")
    assert (ended, Listener.calls) == ([True], 0)
    assert not emitter.unsubscribe("a", listener)


def test_history_remembers_unheard_events_too_and_filters_them():
    emitter = EventEmitter(max_history=3)
    for i in range(5):
        emitter.emit("even" if i % 2 == 0 else "odd", i)
    assert [e.data for e in emitter.get_history()] == [2, 3, 4]
    assert [e.data for e in emitter.get_history("even", limit=1)] == [4]
    assert emitter.get_history()[0].timestamp.tzinfo is not None


def test_async_listeners_run_with_and_without_a_loop():
    emitter, seen = EventEmitter(), []

    async def listen(event):
        await asyncio.sleep(0)
        seen.append(event.data)

    emitter.subscribe("a", listen)
    emitter.emit("a", 1)
    asyncio.run(emitter.emit_async("a", 2))
    assert seen == [1, 2]


def test_a_disabled_emitter_tells_and_remembers_nothing():
    emitter, heard = EventEmitter(), []
    emitter.on("e", heard.append)
    emitter.disable()
    emitter.emit("e")
    assert (heard, emitter.get_history(), emitter.enabled) == ([], [], False)
    emitter.enable()
    emitter.emit("e")
    assert len(heard) == len(emitter.get_history()) == 1


def test_unsubscribing_and_reset_leave_nobody():
    emitter, heard = EventEmitter(), []
    emitter.on("e", heard.append)
    assert emitter.listener_count("e") == 1
    assert emitter.off("e", heard.append)
    assert not emitter.unsubscribe("e", heard.append)
    emitter.subscribe("*", heard.append)
    emitter.emit("e")
    emitter.reset()
    emitter.emit("e")
    assert len(heard) == 1
    assert emitter.listener_count() == 0
    assert len(emitter.get_history()) == 1, "reset forgets what was before it"


def test_on_a_running_loop_async_listeners_are_tasks_and_emit_async_waits_for_them():
    emitter, heard, both = EventEmitter(), [], asyncio.Event()

    async def listen(event):
        await asyncio.sleep(0)
        heard.append(event.data)
        if len(heard) == 2:
            both.set()

    emitter.subscribe("e", listen)

    async def main():
        emitter.emit("e", 1)
        assert heard == [], "emit does not wait"
        await emitter.emit_async("e", 2)
        assert 2 in heard
        await asyncio.wait_for(both.wait(), 10)

    asyncio.run(main())
    assert sorted(heard) == [1, 2]


def test_listeners_may_come_and_go_while_events_are_emitted():
    emitter, heard, stop = EventEmitter(), [], threading.Event()
    emitter.subscribe("e", lambda event: heard.append(event.data))

    def churn():
        while not stop.is_set():
            emitter.subscribe("e", lambda event: None)()

    threads = [threading.Thread(target=churn) for _ in range(4)]
    for thread in threads:
        thread.start()
    for number in range(2000):
        emitter.emit("e", number)
    stop.set()
    for thread in threads:
        thread.join()
    assert heard == list(range(2000))
    assert emitter.listener_count("e") == 1


def test_what_cannot_be_called_is_no_listener():
    with pytest.raises(SignatureError, match="no listener"):
        EventEmitter().subscribe("a", None)
    with pytest.raises(ValidationError, match="on_error"):
        EventEmitter(on_error="ignore")


def test_a_failing_listener_of_a_type_that_is_no_text_does_not_reach_the_emitter():
    emitter = EventEmitter()

    def broken(_):
        raise OSError

    emitter.on(7, broken)
    emitter.emit(7)
    assert emitter.listener_errors == 1
    assert emitter.get_history()[0].to_dict()["event_type"] == "7"


def test_an_event_log_keeps_what_json_does_not_know_and_skips_what_is_no_event(tmp_path):
    log = EventLog(tmp_path / "log")
    emitter = EventEmitter()
    emitter.on("*", log)
    own = []
    own.append(own)
    for data in ({(1, 2): object}, {"a": {1}}, own):
        emitter.emit("kept", data)
    with (tmp_path / "log").open("ab") as file:
        file.write(b'{"x": 1}\n[1]\n' + b"[" * 100_000 + b"\n\xff\n")
    emitter.emit("after")
    assert [event.event_type for event in log] == ["kept"] * 3 + ["after"]
    assert emitter.listener_errors == 0


@pytest.mark.parametrize("limits", [{"max_bytes": 0}, {"keep": 0}, {"keep": -1}])
def test_limits_that_would_keep_nothing_are_refused(tmp_path, limits):
    with pytest.raises(ValidationError):
        EventLog(tmp_path / "log", **limits)
